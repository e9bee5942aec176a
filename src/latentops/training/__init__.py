"""The loop, and the stack of members trained at once."""
