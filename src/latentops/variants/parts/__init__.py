"""What variants are made of: corruptions, priors, discriminators, and measures of their codes."""
