"""How likely the data is under a reconstruction, in nats."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentops.architectures.stack import Batch


class GaussianLikelihood(nn.Module):
    """A normal density around the reconstruction, with one learned variance a member.

    It starts at the data's own (`spread` squared), where a reconstruction explains nothing yet.

    The negative log-likelihood of a sample is the sum over its valid values of
    ``(log(2πσ²) + (x - x̂)² / σ²) / 2``, so that a penalty of one nat weighs what the books say (Rybkin et al.
    2021, "Simple and effective VAE training with calibrated decoders").
    """

    def __init__(self, members: int, spread: float) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.full((members,), 2 * math.log(spread)))

    def negative_log_likelihood(self, batch: Batch, reconstruction: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        mask = batch.mask.expand_as(batch.values)
        squares = ((batch.values - reconstruction) ** 2 * mask).flatten(2).sum(-1).mean(-1)
        values = mask.flatten(2).sum(-1).mean(-1)
        return 0.5 * (
            values * (math.log(2 * math.pi) + self.log_variance) + squares * torch.exp(-self.log_variance)
        )


def squared_residuals(batch: Batch, reconstruction: Tensor) -> Float[Tensor, "members batch values"]:
    """Squared difference of each value, NaN where it is padding."""
    residuals = (batch.values - reconstruction) ** 2
    return residuals.masked_fill(batch.mask == 0, math.nan).flatten(2)


def mean_squared_error(batch: Batch, reconstruction: Tensor) -> Float[Tensor, "members batch"]:
    """Mean over each sample's valid values of the squared difference."""
    mask = batch.mask.expand_as(batch.values)
    squares = ((batch.values - reconstruction) ** 2 * mask).flatten(2).sum(-1)
    return squares / mask.flatten(2).sum(-1)
