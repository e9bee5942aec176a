"""Any data as steps: a sequence's own, an image's rows or patches, a table's columns a few at a time."""

import math
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from latentops.architectures.stack import Batch

COLUMNS_A_STEP = 5
"""Columns of a table that are read in one step; the last step is filled up with zeros."""


def parts(steps: int, at_once: int | None) -> Iterator[slice]:
    """`steps` from first to last, no more than `at_once` in a part; all of them where that is None."""
    size = at_once or steps
    return (slice(start, min(start + size, steps)) for start in range(0, steps, size))


class Steps:
    """How data of `shape` is read as `steps` of `width` values, and written back.

    With a `patch` an image's steps are squares of that side, from left to right, then down; else its rows.
    """

    def __init__(self, shape: Sequence[int], ragged: bool, patch: int | None = None) -> None:
        self.shape, self.ragged, self.patch = tuple(shape), ragged, None
        if ragged:
            self.steps, self.width = self.shape
        elif len(self.shape) == 1:
            self.steps, self.width = math.ceil(self.shape[0] / COLUMNS_A_STEP), COLUMNS_A_STEP
        else:
            channels, height, width = self.shape
            self.patch = (1, width) if patch is None else (patch, patch)
            self.grid = math.ceil(height / self.patch[0]), math.ceil(width / self.patch[1])
            self.steps, self.width = math.prod(self.grid), channels * math.prod(self.patch)

    def read(self, batch: Batch) -> Float[Tensor, "members batch steps width"]:
        """The values as steps."""
        values = batch.values
        if self.ragged:
            return values
        if self.patch is None:
            filled = functional.pad(values, (0, self.steps * self.width - values.shape[-1]))
            return filled.view(*values.shape[:2], self.steps, self.width)
        (down, across), (high, wide) = self.grid, self.patch
        members, samples, channels, height, width = values.shape
        filled = functional.pad(values, (0, across * wide - width, 0, down * high - height))
        apart = filled.view(members, samples, channels, down, high, across, wide)
        return apart.permute(0, 1, 3, 5, 2, 4, 6).reshape(members, samples, self.steps, self.width)

    def real(self, step: int, like: Tensor) -> Float[Tensor, " width"] | float:
        """1 for the values of a step that are the data's, 0 for what it is filled up with."""
        if self.ragged:
            return 1.0
        return self.read(Batch(like.new_ones(1, 1, *self.shape)))[0, 0, step]

    def write(self, values: Float[Tensor, "members batch steps width"]) -> Float[Tensor, "members batch ..."]:
        """Steps as values of the data's shape."""
        if self.ragged:
            return values
        members, samples = values.shape[:2]
        if self.patch is None:
            return values.flatten(2)[..., : self.shape[0]]
        (down, across), (high, wide) = self.grid, self.patch
        channels, height, width = self.shape
        apart = values.reshape(members, samples, down, across, channels, high, wide)
        whole = apart.permute(0, 1, 4, 2, 5, 3, 6).reshape(
            members, samples, channels, down * high, across * wide
        )
        return whole[..., :height, :width]
