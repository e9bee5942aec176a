"""What is done to a batch before it is encoded, so that the code can't be a copy of it.

Each corruption is a function of a batch, a level and noise; `shape` says what a value's deviation and bounds
are. One normal draw a value decides, whatever the corruption, so that two of them can be compared on the same
draws. Padding stays zero, and no row is looked at but its own.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Noise

CorruptionName = Literal["gaussian", "masking", "salt_and_pepper"]
CORRUPTION_NAMES: tuple[CorruptionName, ...] = get_args(CorruptionName)

Level = Tensor | float
"""Of `gaussian` the noise's deviation over the data's, else the share of values that are replaced."""

EXTREME = 2.0
"""Deviations from the mean that stand for the extremes of data without bounds."""


def gaussian(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Add normal noise of `level` times the data's deviation to every value (Vincent et al. 2010, §3.5)."""
    draws = noise.normal(tuple(batch.values.shape))
    return batch.with_values((batch.values + level * shape.spread * draws) * batch.mask)


def masking(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Set a share of the values to 0 (Vincent et al. 2008, §2.2).

    In a standardised table 0 is the column's mean: a value that is missing, and was replaced by it.
    """
    del shape
    kept = noise.normal(tuple(batch.values.shape)) >= _quantile(level)
    return batch.with_values(batch.values * kept)


def salt_and_pepper(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Set a share of the values to their least or greatest, at equal odds (Vincent et al. 2010, §3.5).

    Data without bounds has its extremes `EXTREME` deviations from 0.
    """
    draws, values = noise.normal(tuple(batch.values.shape)), batch.values
    low, high = shape.bounds or (-EXTREME * shape.spread, EXTREME * shape.spread)
    edge = _quantile(0.5 * level)
    peppered = torch.where(draws < edge, low, values)
    return batch.with_values(torch.where(draws >= -edge, high, peppered) * batch.mask)


CORRUPTIONS: dict[CorruptionName, Callable[[Batch, Level, Noise, Shape], Batch]] = {
    "gaussian": gaussian,
    "masking": masking,
    "salt_and_pepper": salt_and_pepper,
}


def mixed(batch: Batch, level: Level, share: Level, noise: Noise, shape: Shape) -> Batch:
    """One of the three for each sample, at equal odds: `gaussian` at `level`, the others at `share`."""
    kind = noise.normal(tuple(batch.values.shape[:2])).view(*batch.values.shape[:2], *(1,) * len(shape.sizes))
    draws = _Again(noise.normal(tuple(batch.values.shape)))
    noisy, masked, peppered = (
        made(batch, strength, draws, shape).values
        for made, strength in ((gaussian, level), (masking, share), (salt_and_pepper, share))
    )
    third = _quantile(1 / 3)
    rest = torch.where(kind >= -third, peppered, masked)
    return batch.with_values(torch.where(kind < third, noisy, rest))


class _Again(Noise):
    """The same draws for whoever asks."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__([])
        self.draws = draws

    def normal(self, shape: object) -> Tensor:
        del shape
        return self.draws


def _quantile(share: Level) -> Tensor:
    """The number below which this share of standard normal draws lies."""
    return torch.special.ndtri(torch.as_tensor(share))
