"""Walks through a latent space and what they decode to: interpolations between samples, and traversals."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from latentops.data.prepared import Samples
from latentops.training.trained import Trained

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Walk:
    """Codes along the way, and the values of the data's shape that they decode to.

    `codes` are `[members, walks, points, latent]`, `values` `[members, walks, points, *shape]`; sequences
    are as long as the decoder writes them.
    """

    codes: Floats
    values: Floats


def interpolations(stack: Trained, start: Samples, end: Samples, points: int) -> Walk:
    """Straight lines from the codes of `start` to those of `end`, row by row, ends included."""
    first, last = (torch.from_numpy(np.array(stack.encode(each))).unsqueeze(2) for each in (start, end))
    share = torch.linspace(0, 1, points).view(1, 1, -1, 1)
    return _decoded(stack, torch.lerp(first, last, share))


def traversals(stack: Trained, samples: Samples, points: int, reach: float = 2.0) -> Walk:
    """One walk a unit: that unit alone goes `reach` deviations of the codes to either side of their mean."""
    codes = torch.from_numpy(np.array(stack.encode(samples)))
    mean, deviation = codes.mean(1), codes.std(1)
    steps = torch.linspace(-reach, reach, points).view(1, 1, -1, 1)
    unit = torch.diag_embed(deviation).unsqueeze(2)
    return _decoded(stack, mean[:, None, None] + steps * unit)


def unevenness(walk: Walk) -> NDArray[np.float64]:
    """Longest step of a walk's values over their mean step `[members, walks]`: 1 is smooth, more is a jump.

    Of real values: ids of tokens are as near as they happen to be numbered.
    A walk of `points` can reach `points - 1`, where all change is in one step; it is 1 where none changes.
    """
    values = walk.values.reshape(*walk.values.shape[:3], -1).astype(np.float64)
    steps = np.linalg.norm(np.diff(values, axis=2), axis=-1)
    mean = steps.mean(axis=2)
    return np.where(mean > 1e-12, steps.max(axis=2) / np.maximum(mean, 1e-12), 1.0)


def distance_to_data(walk: Walk, data: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each walk's middle point, the distance to the nearest of `data` `[n, *shape]`: `[members, walks]`.

    Far from all data is no sample of its kind.
    """
    middle = walk.values[:, :, walk.values.shape[2] // 2]
    flat = torch.from_numpy(middle.reshape(*middle.shape[:2], -1).astype(np.float64))
    known = torch.from_numpy(np.asarray(data, dtype=np.float64).reshape(1, len(data), -1))
    nearest: NDArray[np.float64] = torch.cdist(flat, known.expand(len(flat), -1, -1)).amin(-1).numpy()
    return nearest


def _decoded(stack: Trained, codes: Float[Tensor, "members walks points latent"]) -> Walk:
    with torch.no_grad():
        values = stack.model.likelihood.mean(stack.model.decode(codes.flatten(1, 2)))
    return Walk(codes.numpy(), values.view(*codes.shape[:3], *values.shape[2:]).numpy())
