"""Missing values of a table, as a model reconstructs them from those that are there."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise
from latentops.variants.parts.corruption import masking


def imputation_error(
    model: Autoencoder, batch: Batch, share: float, noise: Noise
) -> Float[Tensor, " members"]:
    """Squared error of missing values as they are reconstructed, over that of the columns' means.

    Of categories it is that of their probabilities, over that of their frequencies. What was missing before
    isn't counted. The means are those of the batch. The encoder is shown 0 in their place, as `masking` does:
    in a standardised table that is about the mean, in one that is scaled to a range its least value. NaN
    where the columns don't vary.
    """
    gone = masking(batch.with_values(torch.ones_like(batch.values)), share, noise, model.shape).values == 0
    shown = batch.with_values(batch.values.masked_fill(gone, 0.0))
    likelihood = model.likelihood
    lost = likelihood.weights(batch) * gone
    total = (likelihood.errors(batch.values, likelihood.centre(batch)) * lost).flatten(1).sum(-1)
    residual = (likelihood.errors(batch.values, model.reconstruct(shown)) * lost).flatten(1).sum(-1)
    return residual / total.masked_fill(total < 1e-12, torch.nan)
