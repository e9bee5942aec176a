"""The judge: what a latent code is good for, and how sure of that one can be."""
