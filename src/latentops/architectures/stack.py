"""What a stack is made of: every parameter has a leading member axis, and no reduction crosses it.

Shapes: `members` models are applied at once, each to its own `batch` of inputs.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn


def generator(*identity: object, device: torch.device | str = "cpu") -> Generator:
    """A random generator on `device` that depends on `identity` alone, e.g. `(seed, view, "noise")`."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@dataclass(frozen=True)
class Batch:
    """Inputs of a stack.

    `values` is `[members, batch, *shape]` with `shape` one of `[channels, height, width]`, `[columns]` or
    `[steps, channels]`; `lengths` is `[members, batch]`, the valid steps of each sequence, else None.
    """

    values: Float[Tensor, "members batch ..."]
    lengths: Int[Tensor, "members batch"] | None = None

    @property
    def steps(self) -> Bool[Tensor, "members batch steps"] | None:
        """Which steps are valid; None where the data isn't a sequence."""
        if self.lengths is None:
            return None
        position = torch.arange(self.values.shape[2], device=self.values.device)
        return position < self.lengths.unsqueeze(-1)

    @property
    def mask(self) -> Float[Tensor, "members batch ..."]:
        """1 where a value is valid and 0 in padding; broadcasts against `values`."""
        steps = self.steps
        if steps is None:
            return self.values.new_ones((1,) * self.values.ndim)
        return steps.unsqueeze(-1).to(self.values.dtype)

    @property
    def padded(self) -> int | None:
        """Steps that sequences are padded to; None where the data isn't a sequence."""
        return None if self.lengths is None else self.values.shape[2]

    @property
    def valid(self) -> Float[Tensor, " members"] | float:
        """How many valid values a sample has, on average."""
        if self.lengths is None:
            return math.prod(self.values.shape[2:])
        return self.lengths.to(self.values.dtype).mean(-1) * math.prod(self.values.shape[3:])

    def with_values(self, values: Tensor) -> "Batch":
        """The same lengths around other values."""
        return Batch(values, self.lengths)


def uniform(shape: Sequence[int], bound: float, generators: Sequence[Generator]) -> nn.Parameter:
    """A parameter `[members, *shape]`, each member's slice uniform in ±`bound` from its own generator."""
    members = [torch.empty(*shape).uniform_(-bound, bound, generator=g) for g in generators]
    return nn.Parameter(torch.stack(members))
