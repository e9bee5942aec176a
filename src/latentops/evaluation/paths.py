"""Walks through a latent space and what they decode to: interpolations between samples, and traversals."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from latentops.data.prepared import Samples
from latentops.evaluation.rows import evenly
from latentops.training.trained import Trained

Floats = NDArray[np.float32]

WALKS, POINTS = 64, 17
"""Interpolations that smoothness is measured on, and points along each."""


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


def stretch(walk: Walk) -> NDArray[np.float64]:
    """Length of the ways that a walk's values take, over the straight lines between their ends: `[members]`.

    1 is straight, as through a linear decoder; the more, the more is on the way that is at neither end. All
    walks of a member count by their lengths. NaN where no walk goes anywhere.
    """
    values = walk.values.reshape(*walk.values.shape[:3], -1).astype(np.float64)
    ways = np.linalg.norm(np.diff(values, axis=2), axis=-1).sum(axis=(1, 2))
    lines = np.linalg.norm(values[:, :, -1] - values[:, :, 0], axis=-1).sum(axis=1)
    return np.where(lines > 1e-12, ways / np.maximum(lines, 1e-12), np.nan)


def smoothness(stack: Trained, samples: Samples) -> dict[str, list[float]]:
    """How smooth the straight lines between codes decode, one number a member; of real values alone.

    `path_stretch` and the mean `path_unevenness` of up to `WALKS` walks of `POINTS` points, from rows of the
    first half to rows of the second; of sequences up to where the shorter one ends. Both are NaN where no
    walk goes anywhere. A code of each step has no line to another of more steps, and neither number.
    """
    rows = evenly(len(samples), 2 * WALKS)
    half = len(rows) // 2
    start, end = samples.select(rows[:half]), samples.select(rows[half : 2 * half])
    one_code = stack.map(start.select(slice(1)), stack.model.latent).ndim == 3
    if stack.description.vocabulary is not None or not one_code:
        return {}
    walk = interpolations(stack, start, end, POINTS)
    if start.lengths is not None and end.lengths is not None:
        beyond = np.arange(walk.values.shape[3]) >= np.minimum(start.lengths, end.lengths)[:, None]
        walk = Walk(walk.codes, np.where(beyond[:, None, :, None], np.float32(0), walk.values))
    longer = stretch(walk)
    uneven = np.where(np.isnan(longer), np.nan, unevenness(walk).mean(axis=1))
    return {"path_stretch": longer.tolist(), "path_unevenness": uneven.tolist()}


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
