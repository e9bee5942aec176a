"""Recurrent cells over padded, masked steps.

Data is read as `steps` has it. Padding is stepped over: the state stays as it is, so that a padded sequence
has the code of the unpadded one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Linear
from latentops.architectures.cells import CELLS
from latentops.architectures.pooling import Pooling
from latentops.architectures.stack import Batch
from latentops.architectures.steps import Steps
from latentops.config import Recurrent


class Encoder(nn.Module):
    """A cell over the steps; one affine layer from its states, pooled, to `outputs` numbers."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Recurrent,
        outputs: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.steps = Steps(shape, ragged)
        self.cell = CELLS[settings.cell](self.steps.width, settings.hidden, generators)
        self.pooling = Pooling(settings.pooling, settings.hidden, generators)
        self.head = Linear(settings.hidden, outputs, generators)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch; steps beyond a sequence's length change nothing."""
        values = self.steps.read(batch).transpose(1, 2)
        members, steps, samples, _ = values.shape
        drive = self.cell.inlet(values.flatten(1, 2)).view(members, steps, samples, -1)
        states = self.cell(drive, values.new_zeros(members, samples, self.cell.hidden), steps, batch.steps)
        if self.pooling.name == "last":  # where the state has stayed since the last valid step
            pooled = states[:, -1]
        else:
            pooled = self.pooling(states.transpose(1, 2), batch.steps)
        outputs: Tensor = self.head(pooled)
        return outputs


class Decoder(nn.Module):
    """A cell that starts from the code and is driven by it; one affine layer to each step's values."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Recurrent,
        latent_dim: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.steps = Steps(shape, ragged)
        self.cell = CELLS[settings.cell](latent_dim, settings.hidden, generators)
        self.start = Linear(latent_dim, settings.hidden, generators)
        self.head = Linear(settings.hidden, self.steps.width, generators)

    def forward(
        self, codes: Float[Tensor, "members batch latent"], steps: int | None = None
    ) -> Float[Tensor, "members batch ..."]:
        """Decode codes to `steps` or all; what lies beyond a sequence's length is the caller's to mask."""
        steps = steps or self.steps.steps
        drive = self.cell.inlet(codes).unsqueeze(1)
        states = self.cell(drive, torch.tanh(self.start(codes)), steps)
        members, samples = codes.shape[:2]
        values = self.head(states.flatten(1, 2)).view(members, steps, samples, -1)
        return self.steps.write(values.transpose(1, 2))
