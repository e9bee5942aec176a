"""Recurrent cells over padded, masked steps.

A sequence is read step by step; an image row by row; a table a few columns at a time. Padding is stepped
over: the state stays as it is, so that a padded sequence has the code of the unpadded one.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.affine import Linear
from latentops.architectures.cells import CELLS
from latentops.architectures.stack import Batch
from latentops.config import CellName

COLUMNS_A_STEP = 5
"""Columns of a table that are read in one step; the last step is filled up with zeros."""


def step_shape(shape: Sequence[int], ragged: bool) -> tuple[int, int]:
    """`[steps, values a step]` under which data of `shape` is read."""
    if ragged:
        return (shape[0], shape[1])
    if len(shape) == 3:
        return (shape[1], shape[0] * shape[2])
    return (math.ceil(shape[0] / COLUMNS_A_STEP), COLUMNS_A_STEP)


class Encoder(nn.Module):
    """A cell over the steps; one affine layer from its last valid state to `outputs` numbers."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        cell: CellName,
        hidden: int,
        outputs: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.steps, self.width = step_shape(shape, ragged)
        self.cell = CELLS[cell](self.width, hidden, generators)
        self.head = Linear(hidden, outputs, generators)

    def unroll(self, batch: Batch) -> Float[Tensor, "members batch steps width"]:
        """The values as steps."""
        values = batch.values
        if batch.lengths is not None:
            return values
        if values.ndim == 5:
            return values.transpose(2, 3).flatten(3)
        filled = functional.pad(values, (0, self.steps * self.width - values.shape[-1]))
        return filled.view(*values.shape[:2], self.steps, self.width)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch; steps beyond a sequence's length change nothing."""
        values = self.unroll(batch).transpose(1, 2)
        members, steps, samples, _ = values.shape
        drive = self.cell.inlet(values.flatten(1, 2)).view(members, steps, samples, -1)
        states = self.cell(drive, values.new_zeros(members, samples, self.cell.hidden), steps, batch.steps)
        outputs: Tensor = self.head(states[:, -1])
        return outputs


class Decoder(nn.Module):
    """A cell that starts from the code and is driven by it; one affine layer to each step's values."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        cell: CellName,
        hidden: int,
        latent_dim: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.ragged = ragged
        self.steps, self.width = step_shape(shape, ragged)
        self.cell = CELLS[cell](latent_dim, hidden, generators)
        self.start = Linear(latent_dim, hidden, generators)
        self.head = Linear(hidden, self.width, generators)

    def forward(
        self, codes: Float[Tensor, "members batch latent"], steps: int | None = None
    ) -> Float[Tensor, "members batch ..."]:
        """Decode codes to `steps` or all; what lies beyond a sequence's length is the caller's to mask."""
        steps = steps or self.steps
        drive = self.cell.inlet(codes).unsqueeze(1)
        states = self.cell(drive, torch.tanh(self.start(codes)), steps)
        members, samples = codes.shape[:2]
        values = self.head(states.flatten(1, 2)).view(members, steps, samples, self.width).transpose(1, 2)
        if self.ragged:
            return values
        if len(self.shape) == 3:
            channels, height, width = self.shape
            rows = values.view(members, samples, height, channels, width)
            return rows.transpose(2, 3).reshape(members, samples, channels, height, width)
        return values.flatten(2)[..., : self.shape[0]]
