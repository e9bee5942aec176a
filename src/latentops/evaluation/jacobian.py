"""How a code answers to small changes of what its encoder reads, whichever variant made it."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from latentops.architectures.stack import Batch
from latentops.data.prepared import Samples
from latentops.evaluation.rows import evenly
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Autoencoder, Profile
from latentops.variants.parts.jacobian import jacobian, singular_values

DIFFERENTIATED = 256
"""Rows that a spectrum is the mean over, at most."""

ENTRIES = 2**21
"""Of the Jacobians of all these rows together, at most: of a wide code it is of fewer rows."""


class Reader(nn.Module):
    """A model's code of `batch` as a function of what its encoder reads of it."""

    def __init__(self, model: Autoencoder, batch: Batch) -> None:
        super().__init__()
        self.model, self.batch = model, batch

    def forward(self, seen: Batch) -> Float[Tensor, "members batch latent"]:
        """The code where the encoder reads `seen`, of tokens their vectors, in place of the batch."""
        handle = self.model.encoder.register_forward_pre_hook(lambda _, given: (seen, *given[1:]))
        try:
            return self.model.encode(self.batch)
        finally:
            handle.remove()


def spectrum(trained: Trained, samples: Samples, codes: NDArray[np.floating]) -> Profile:
    """Singular values of the encoder's Jacobian by rank, the mean over up to `DIFFERENTIATED` rows.

    They are free of the code's scale: times the data's deviation, over the root of the variance of all units
    of the codes `[members, n, units]` together. So a move of the input by a typical value's deviation, in the
    direction that it answers to most, moves the code by the first value's share of its own spread. NaN where
    the code doesn't vary.
    """
    entries = trained.latent_dim * _read(trained, samples)
    rows = evenly(len(samples), min(DIFFERENTIATED, max(1, ENTRIES // entries)))
    batch = Resident.put(samples.select(rows), torch.device("cpu")).shared(len(trained.members))
    with torch.no_grad():
        seen = trained.model.embed(batch)
    whole = jacobian(Reader(trained.model, batch), seen, None).detach()
    spread = torch.from_numpy(np.var(codes, axis=1, dtype=np.float64).sum(axis=1)).sqrt().unsqueeze(-1)
    values = singular_values(whole).double().mean(1) * trained.model.shape.spread
    values = values / spread.masked_fill(spread <= 1e-12, torch.nan)
    ranks = [str(rank + 1) for rank in range(values.shape[-1])]
    return Profile(ranks, values, "rank", "singular value, over the code's spread")


def _read(trained: Trained, samples: Samples) -> int:
    """How many numbers the encoder reads of a row."""
    one = Resident.put(samples.select(slice(1)), torch.device("cpu")).shared(len(trained.members))
    with torch.no_grad():
        return trained.model.embed(one).values[0, 0].numel()
