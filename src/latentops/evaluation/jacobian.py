"""How a code answers to small changes of what its encoder reads, whichever variant made it."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from latentops.architectures.affine import followed
from latentops.architectures.stack import Batch
from latentops.data.prepared import Samples
from latentops.evaluation.rows import evenly
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Autoencoder, Profile
from latentops.variants.parts.jacobian import singular_values

DIFFERENTIATED = 64
"""Rows that a spectrum is the mean over, at most."""

TOGETHER = 128
"""Rows that are differentiated at a time."""

ENTRIES = 2**21
"""Of the Jacobians of all these rows together, at most: of a wide code it is of fewer rows."""


def encoder_jacobian(model: Autoencoder, batch: Batch) -> Float[Tensor, "members batch latent values"]:
    """Derivative of each code by the flattened numbers that the encoder reads, of tokens their vectors.

    Of the code that is judged, whatever the variant makes of its encoder's outputs. Each row goes through
    once for each unit, `TOGETHER` at a time, and is pulled back from that unit alone: no row of a code
    depends on another, so that products are of many rows, and unlike in `parts.jacobian` nothing is kept.
    """
    rows = batch.values.shape[1]
    parts = []
    for part in torch.split(torch.arange(rows * model.latent_dim), TOGETHER):
        at, unit = part // model.latent_dim, part % model.latent_dim
        some = Batch(batch.values[:, at], None if batch.lengths is None else batch.lengths[:, at])
        with torch.no_grad():
            seen = model.embed(some)
        values = followed(seen.values)
        with torch.enable_grad():
            codes = _encode(model, some, seen.with_values(values))
            chosen = codes[:, torch.arange(len(unit)), unit].sum()
        # A code that jumps, as one of a codebook, has no graph: small changes don't move it.
        found = torch.autograd.grad(chosen, values)[0] if codes.requires_grad else torch.zeros_like(values)
        parts.append((found * seen.mask).flatten(2))
    return torch.unflatten(torch.cat(parts, dim=1), 1, (rows, model.latent_dim))


def _encode(model: Autoencoder, batch: Batch, seen: Batch) -> Float[Tensor, "members batch latent"]:
    """The code of `batch` where its encoder is given what is `seen` of it."""
    handle = model.encoder.register_forward_pre_hook(lambda _, given: (seen, *given[1:]))
    try:
        return model.encode(batch)
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
    whole = encoder_jacobian(trained.model, batch)
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
