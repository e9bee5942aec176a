"""Do codes match the prior they are held to? Only then are draws from it like what the decoder knows."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.data.prepared import Samples
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.prior_match import mmd, two_sample

ROWS = 500
"""Codes that are held against as many draws, at most."""


@runtime_checkable
class Posterior(Protocol):
    """A model whose code of a row is a normal distribution, of which `encode` is the mean."""

    def posterior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `[members, batch, latent]`."""


def prior_match(trained: Trained, samples: Samples) -> dict[str, list[float]]:
    """How well the codes of `samples` match draws from the prior, one number a member; {} without a prior.

    `prior_mmd`, and `two_sample_accuracy` of a classifier with its interval, `two_sample_low` and
    `two_sample_high` (`parts.prior_match`). Where a code is a distribution it is drawn from it: the prior is
    that of all of these together, and their means alone vary less than it.
    """
    model = trained.model
    if not model.has_prior:
        return {}
    batch = Resident.put(samples, torch.device("cpu")).shared(len(trained.members), slice(ROWS))
    noise = Noise([torch.Generator().manual_seed(0) for _ in trained.members])
    with torch.no_grad():
        codes = drawn_codes(trained, batch, noise)
        draws = model.draw(codes.shape[1], noise)
        told = two_sample(codes, draws)
        found = {
            "prior_mmd": mmd(codes, draws),
            "two_sample_accuracy": told.accuracy,
            "two_sample_low": told.low,
            "two_sample_high": told.high,
        }
    return {name: numbers.tolist() for name, numbers in found.items()}


def drawn_codes(trained: Trained, batch: Batch, noise: Noise) -> Float[Tensor, "members batch latent"]:
    """A code of each row of `batch`: a draw from its posterior where it has one, else the code itself."""
    model = trained.model
    if not isinstance(model, Posterior):
        return model.encode(batch)
    mean, log_variance = model.posterior(batch)
    return mean + torch.exp(0.5 * log_variance) * noise.normal(tuple(mean.shape))
