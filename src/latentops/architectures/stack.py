"""Layers for a stack: every parameter has a leading member axis, and no reduction crosses it.

Shapes: `members` models are applied at once, each to its own `batch` of inputs.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional


def generator(*identity: object) -> Generator:
    """A random generator that depends on `identity` alone, e.g. `(seed, view, "initialisation")`."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


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


class Convolution(nn.Module):
    """A strided convolution a member, grouped: `[members, batch, channels, height, width]`.

    A spatial size n becomes ceil(n / stride); height 1 is left alone, so that a row is convolved in 1-D.
    """

    def __init__(self, inputs: int, outputs: int, flat: bool, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = _geometry(flat)
        bound = 1 / math.sqrt(inputs * self.kernel[0] * self.kernel[1])
        self.weight = uniform((outputs, inputs, *self.kernel), math.sqrt(3) * bound, generators)
        self.bias = uniform((outputs,), bound, generators)

    def forward(self, inputs: Float[Tensor, "members batch c h w"]) -> Float[Tensor, "members batch d i j"]:
        """One grouped convolution over the member axis."""
        return grouped(
            lambda joined, weight, groups: functional.conv2d(
                joined, weight, None, self.stride, self.padding, groups=groups
            ),
            inputs,
            self.weight,
            self.bias,
        )


class TransposedConvolution(nn.Module):
    """The mirror of `Convolution`: it restores the spatial size `to` exactly."""

    def __init__(self, inputs: int, outputs: int, flat: bool, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = _geometry(flat)
        bound = 1 / math.sqrt(inputs * self.kernel[0] * self.kernel[1])
        self.weight = uniform((inputs, outputs, *self.kernel), math.sqrt(3) * bound, generators)
        self.bias = uniform((outputs,), bound, generators)

    def forward(
        self, inputs: Float[Tensor, "members batch c i j"], to: tuple[int, int]
    ) -> Float[Tensor, "members batch d h w"]:
        """One grouped transposed convolution over the member axis."""
        extra = [
            size
            - ((inputs.shape[3 + axis] - 1) * self.stride[axis] - 2 * self.padding[axis] + self.kernel[axis])
            for axis, size in enumerate(to)
        ]
        return grouped(
            lambda joined, weight, groups: functional.conv_transpose2d(
                joined, weight, None, self.stride, self.padding, extra, groups
            ),
            inputs,
            self.weight,
            self.bias,
        )


def grouped(
    convolve: Callable[[Tensor, Tensor, int], Tensor],
    inputs: Float[Tensor, "members batch c h w"],
    weight: Float[Tensor, "members o i kh kw"],
    bias: Float[Tensor, "members outputs"],
) -> Float[Tensor, "members batch d i j"]:
    """Call `convolve(inputs, weight, groups)` with one group a member, and add the bias.

    A lone group is convolved by another kernel, which rounds differently; so a lone member gets a companion
    of zeros, and its result doesn't depend on how many members there are.
    """
    members = inputs.shape[0]
    if members == 1:
        inputs, weight = (torch.cat([each, torch.zeros_like(each)]) for each in (inputs, weight))
    joined = inputs.transpose(0, 1).flatten(1, 2)
    mapped = convolve(joined, weight.flatten(0, 1), len(inputs))
    apart = mapped.view(mapped.shape[0], len(inputs), -1, *mapped.shape[2:]).transpose(0, 1)[:members]
    return apart + bias[:, None, :, None, None]


def _geometry(flat: bool) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding of a halving layer; `flat` inputs have height 1."""
    return ((1, 3), (1, 2), (0, 1)) if flat else ((3, 3), (2, 2), (1, 1))
