"""Undercomplete autoencoder: the code is smaller than the input, so copying is impossible.

What is asked of the code: to carry, in few numbers, what reconstructs the input best. With linear layers
and squared error the code spans the principal subspace (Baldi & Hornik 1989; Goodfellow et al. 2016, §14.1).

Diagnosis: reconstruction and probe against the latent size; too narrow a code underfits.
"""

from latentops.variants.autoencoder import Autoencoder


class Variant(Autoencoder):
    """Minimises the reconstruction alone; the bottleneck does the rest."""
