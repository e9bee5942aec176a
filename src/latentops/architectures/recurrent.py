"""Recurrent cells over padded, masked steps.

Data is read as `steps` has it. Padding is stepped over: the state stays as it is, so that a padded sequence
has the code of the unpadded one.

Long sequences are gone through a `chunk` of steps at a time, of which no more than the state at its border is
kept for the way back; gradients are still those of the whole.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Linear
from latentops.architectures.cells import CELLS, State, Valid
from latentops.architectures.feedback import Expected, Feedback
from latentops.architectures.pooling import Pooling
from latentops.architectures.recomputed import Part, recomputed
from latentops.architectures.stack import Batch
from latentops.architectures.steps import Steps, parts
from latentops.config import Recurrent


class Encoder(nn.Module):
    """Layers of cells over the steps; an affine one from the top's states, pooled, to `outputs` numbers."""

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
        self.chunk = settings.chunk
        self.cell = CELLS[settings.cell](self.steps.width, settings.hidden, generators, settings.layers)
        self.pooling = Pooling(settings.pooling, settings.hidden, generators)
        self.head = Linear(settings.hidden, outputs, generators)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch; steps beyond a sequence's length change nothing."""
        if self.pooling.name == "last":  # where the state has stayed since the last valid step
            *_, (_, pooled) = self._states(batch)
        else:
            states = _joined([each for each, _ in self._states(batch)])
            pooled = self.pooling(states.transpose(1, 2), batch.steps)
        outputs: Tensor = self.head(pooled)
        return outputs

    def each(self, batch: Batch) -> Float[Tensor, "members batch steps outputs"]:
        """The outputs for each step, of all steps up to it; their mean is what pooling by mean gives."""
        states = _joined([each for each, _ in self._states(batch)])
        outputs: Tensor = self.head(states.flatten(1, 2))
        return outputs.view(*states.shape[:3], -1).transpose(1, 2)

    def _states(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Part by part, the states after each step `[members, steps, batch, hidden]` and after the last."""
        values, valid = self.steps.read(batch).transpose(1, 2), batch.steps
        members, steps, samples, _ = values.shape
        state = self.cell.begin(values.new_zeros(members, samples, self.cell.hidden))
        for part in parts(steps, self.chunk):
            given = values[:, part], None if valid is None else valid[:, :, part], *state
            states, *rest = _taken(self.chunk, self._read, self.cell, *given)
            state = tuple(rest)
            yield states, state[0]

    def _read(self, values: Tensor, valid: Valid, *state: Tensor) -> State:
        """The states after some steps, and the whole of the last."""
        members, steps, samples, _ = values.shape
        drive = self.cell.inlet(values.flatten(1, 2)).view(members, steps, samples, -1)
        states, state = self.cell.go_on(drive, state, steps, valid)
        return states, *state


class Decoder(nn.Module):
    """Cells that start from the code, the lowest driven by it; one affine layer to each step's values.

    Where it is autoregressive it is driven by the step before as well. Where each step has a code of its own
    they start from the first.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Recurrent,
        latent_dim: int,
        generators: Sequence[Generator],
        expected: Expected,
    ) -> None:
        super().__init__()
        self.steps = Steps(shape, ragged)
        self.chunk = settings.chunk
        self.cell = CELLS[settings.cell](latent_dim, settings.hidden, generators, settings.layers)
        self.start = Linear(latent_dim, settings.hidden, generators)
        self.head = Linear(settings.hidden, self.steps.width, generators)
        self.feedback = None
        if settings.decoder == "autoregressive":
            self.feedback = Feedback(self.steps, self.cell.gates * settings.hidden, expected, generators)

    def forward(
        self,
        codes: Float[Tensor, "members batch *steps latent"],
        steps: int | None = None,
        told: Batch | None = None,
    ) -> Float[Tensor, "members batch ..."]:
        """Decode codes to `steps` or all; what lies beyond a sequence's length is the caller's to mask.

        An autoregressive decoder goes by the true steps where it is `told` them, else by its own.
        """
        steps = steps or self.steps.steps
        if codes.ndim == 3:
            first, drive = codes, self.cell.inlet(codes).unsqueeze(1)
        else:
            own = codes.transpose(1, 2)[:, :steps]
            first, drive = own[:, 0], self.cell.inlet(own.flatten(1, 2)).view(*own.shape[:3], -1)
        state = self.cell.begin(torch.tanh(self.start(first)))
        if self.feedback is None:
            values = self._write_parts(steps, drive, None, state)
        elif told is not None:
            values = self._write_parts(steps, drive, self.feedback.true(told).transpose(1, 2), state)
        else:
            values = self._write_freely(steps, drive, state, self.feedback)
        return self.steps.write(values.transpose(1, 2))

    def _write_parts(self, steps: int, drive: Tensor, before: Tensor | None, state: State) -> Tensor:
        """The values of all steps `[members, steps, batch, width]`, where what stands `before` is known."""
        written = []
        for part in parts(steps, self.chunk):
            driven = drive if drive.shape[1] == 1 else drive[:, part]
            given = part.stop - part.start, driven, None if before is None else before[:, part], *state
            values, *rest = _taken(self.chunk, self._write, self, *given)
            state = tuple(rest)
            written.append(values)
        return _joined(written)

    def _write(self, steps: int, drive: Tensor, before: Tensor | None, *state: Tensor) -> State:
        """The values of some steps, and the whole of the last state."""
        if self.feedback is not None:
            drive = drive + self.feedback(before)
        states, state = self.cell.go_on(drive, state, steps)
        values = self.head(states.flatten(1, 2)).view(*states.shape[:3], -1)
        return values, *state

    def _write_freely(self, steps: int, drive: Tensor, state: State, feedback: Feedback) -> Tensor:
        """The same, where each step goes by what was written before it."""
        written, before = [], feedback.first(drive.shape[2])
        for step in range(steps):
            driven = drive[:, 0 if drive.shape[1] == 1 else step]
            state = self.cell.go_one(driven + feedback(before), state)
            written.append(self.head(state[0]))
            before = feedback.own(written[-1], step)
        return torch.stack(written, dim=1)


def _taken(chunk: int | None, part: Part, of: nn.Module, *given: Any) -> tuple[Tensor, ...]:
    """What a part of the way makes of what is `given`; of all of it at once nothing is taken again."""
    return part(*given) if chunk is None else recomputed(part, of.parameters(), *given)


def _joined(written: Sequence[Tensor]) -> Tensor:
    return written[0] if len(written) == 1 else torch.cat(list(written), dim=1)
