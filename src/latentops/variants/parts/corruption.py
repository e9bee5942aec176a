"""What is done to a batch before it is encoded, so that the code can't be a copy of it.

Each corruption is a function of a batch, a level and noise; `shape` says what a value's deviation and bounds
are, or how many tokens there are. One normal draw a value decides, whatever the corruption, so that two of
them can be compared on the same draws. Padding stays zero, and no row is looked at but its own.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from latentops.architectures import Shape
from latentops.architectures.columns import Columns
from latentops.architectures.stack import Batch
from latentops.data.tokenizer import UNKNOWN
from latentops.errors import ConfigError
from latentops.variants.autoencoder import Noise

CorruptionName = Literal["gaussian", "masking", "salt_and_pepper", "replace", "drop"]
CORRUPTION_NAMES: tuple[CorruptionName, ...] = get_args(CorruptionName)

Level = Tensor | float
"""Of `gaussian` the noise's deviation over the data's, else the share of values that are replaced."""

EXTREME = 2.0
"""Deviations from the mean that stand for the extremes of data without bounds."""


def gaussian(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Add normal noise of `level` times the data's deviation to every value (Vincent et al. 2010, §3.5).

    The deviation of a category's indicators is taken to be ``√(k - 1) / k``, that of k equally frequent ones.
    """
    draws = noise.normal(tuple(batch.values.shape))
    if shape.table is not None:
        parts, flags = shape.table.split(draws)
        scaled = shape.table.join([part * _deviation(part.shape[-1], shape) for part in parts], flags)
        return batch.with_values(batch.values + level * scaled * shape.table.present(batch.values))
    return batch.with_values((batch.values + level * shape.spread * draws) * batch.mask)


def masking(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Set a share of the values to 0 (Vincent et al. 2008, §2.2).

    In a standardised table 0 is the column's mean: a value that is missing, and was replaced by it. In one
    that tells what is missing a number goes with its flag, and a category with all its indicators; in an
    image a pixel goes with all its channels, or each would be told by the others.
    """
    kept = _alike(noise.normal(tuple(batch.values.shape)), shape) >= _quantile(level)
    return batch.with_values(batch.values * kept)


def salt_and_pepper(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Set a share of the values to their least or greatest, at equal odds (Vincent et al. 2010, §3.5).

    Data without bounds has its extremes `EXTREME` deviations from 0. A category has none: any of them, at
    equal odds, takes its place.
    """
    draws, values = noise.normal(tuple(batch.values.shape)), batch.values
    if shape.table is not None:
        return _peppered_table(batch, level, draws, shape, shape.table)
    low, high = shape.bounds or (-EXTREME * shape.spread, EXTREME * shape.spread)
    edge = _quantile(0.5 * level)
    peppered = torch.where(draws < edge, low, values)
    return batch.with_values(torch.where(draws >= -edge, high, peppered) * batch.mask)


def _peppered_table(batch: Batch, level: Level, draws: Tensor, shape: Shape, table: Columns) -> Batch:
    (drawn, _), (given, flags) = table.split(draws), table.split(batch.values)
    parts = []
    for draw, values in zip(drawn, given, strict=True):
        if values.shape[-1] == 1:
            alone = Shape((1,), ragged=False, spread=shape.spread, bounds=shape.bounds)
            parts.append(salt_and_pepper(Batch(values), level, _Again(draw), alone).values)
        else:
            uniform = torch.special.ndtr(draw[..., :1])
            place = (uniform / level * values.shape[-1]).floor()
            other = (place == torch.arange(values.shape[-1], device=values.device)).to(values.dtype)
            parts.append(torch.where((uniform < level) & (values.sum(-1, keepdim=True) > 0), other, values))
    return batch.with_values(table.join(parts, flags))


def replace(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Put any token of the vocabulary, at equal odds, in place of a share of the tokens.

    (Austin et al. 2021, "Structured denoising diffusion models in discrete state-spaces", §3.1, "uniform".)
    A token that takes its own place is counted among them; padding and the unknown are never put in.
    """
    first, tokens = UNKNOWN + 1, (shape.vocabulary or 0) - UNKNOWN - 1
    uniform = torch.special.ndtr(noise.normal(tuple(batch.values.shape)))
    place = (uniform / level * tokens).floor().clamp(0, tokens - 1)
    return batch.with_values(torch.where(uniform < level, first + place, batch.values) * batch.mask)


def drop(batch: Batch, level: Level, noise: Noise, shape: Shape) -> Batch:
    """Put the unknown token in place of a share of the tokens (Bowman et al. 2016, §3.1, "word dropout").

    The others stay where they are, so that a step is still held to the token that it had.
    """
    del shape
    dropped = noise.normal(tuple(batch.values.shape)) < _quantile(level)
    return batch.with_values(torch.where(dropped, float(UNKNOWN), batch.values) * batch.mask)


Corruption = Callable[[Batch, Level, Noise, Shape], Batch]
OF_VALUES: dict[CorruptionName, Corruption] = {
    "gaussian": gaussian,
    "masking": masking,
    "salt_and_pepper": salt_and_pepper,
}
OF_TOKENS: dict[CorruptionName, Corruption] = {"replace": replace, "drop": drop}
CORRUPTIONS = OF_VALUES | OF_TOKENS


def fitting(shape: Shape) -> dict[CorruptionName, Corruption]:
    """The corruptions that there are for such data, the usual one first."""
    return OF_VALUES if shape.vocabulary is None else OF_TOKENS


def check_corruption(name: CorruptionName, shape: Shape) -> None:
    """Raise `ConfigError` where data of `shape` can't be corrupted so."""
    if name not in fitting(shape):
        data, others = ("real values", "tokens") if shape.vocabulary is None else ("tokens", "real values")
        known = " or ".join(fitting(shape))
        raise ConfigError(f"corruption: {name} is for {others}, but the data holds {data}; use {known}")


def mixed(batch: Batch, levels: Mapping[CorruptionName, Level], noise: Noise, shape: Shape) -> Batch:
    """One of those that fit the data for each sample, at equal odds, each at its level of `levels`."""
    kind = noise.normal(tuple(batch.values.shape[:2])).view(*batch.values.shape[:2], *(1,) * len(shape.sizes))
    draws = _Again(noise.normal(tuple(batch.values.shape)))
    every = fitting(shape)
    *others, chosen = [made(batch, levels[name], draws, shape).values for name, made in every.items()]
    for at in reversed(range(len(others))):
        chosen = torch.where(kind < _quantile((at + 1) / len(every)), others[at], chosen)
    return batch.with_values(chosen)


class _Again(Noise):
    """The same draws for whoever asks."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__([])
        self.draws = draws

    def normal(self, shape: object) -> Tensor:
        del shape
        return self.draws


def _alike(draws: Tensor, shape: Shape) -> Tensor:
    """One draw for all entries of a column, or all channels of a pixel: the first."""
    if shape.table is not None:
        return shape.table.shared(draws)
    return draws[..., :1, :, :].expand_as(draws) if len(shape.sizes) == 3 else draws


def _deviation(width: int, shape: Shape) -> float:
    return shape.spread if width == 1 else (width - 1) ** 0.5 / width


def _quantile(share: Level) -> Tensor:
    """The number below which this share of standard normal draws lies."""
    return torch.special.ndtri(torch.as_tensor(share))
