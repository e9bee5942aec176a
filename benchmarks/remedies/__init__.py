"""What the field warns of, each as a number without its remedy and with it: one module for each topic."""
