"""Convolutions of a stack, grouped over the member axis or looped over it.

Which is faster depends on the layer, as measured by `benchmarks/rules.py` into `rules.json`. The rule doesn't
look at the number of members: a member's bytes must not depend on its neighbours.
"""

import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.stack import uniform

LAST = torch.channels_last
"""The layout in which a looped convolution is fastest; a grouped one takes no notice of it."""

RULES = Path(__file__).with_name("rules.json")


class Convolution(nn.Module):
    """A strided convolution a member: `[members, batch, channels, height, width]`.

    `size` is that of the input; n becomes ceil(n / stride), whatever the `dilation`. Height 1 is left alone,
    so that a row is convolved in 1-D. With `products` set, they are taken in that number format, and what
    comes out has it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        generators: Sequence[Generator],
        stride: int = 2,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation, self.padding = _geometry(size, stride, dilation)
        bound = 1 / math.sqrt(inputs * self.kernel[0] * self.kernel[1])
        self.weight = uniform((outputs, inputs, *self.kernel), math.sqrt(3) * bound, generators)
        self.bias = uniform((outputs,), bound, generators)
        self.looped = loops(math.prod(size), inputs, outputs)
        self.products: torch.dtype | None = None

    def forward(self, inputs: Float[Tensor, "members batch c h w"]) -> Float[Tensor, "members batch d i j"]:
        """Every member's own convolution of its own rows."""

        def convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
            return functional.conv2d(rows, weight, bias, self.stride, self.padding, self.dilation, groups)

        return _stacked(convolve, inputs, self.weight, self.bias, self.products, self.looped)


class TransposedConvolution(nn.Module):
    """The mirror of `Convolution`: it restores the spatial `size` exactly."""

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], generators: Sequence[Generator]
    ) -> None:
        super().__init__()
        self.size = size
        self.kernel, self.stride, _, self.padding = _geometry(size, stride=2, dilation=1)
        bound = 1 / math.sqrt(inputs * self.kernel[0] * self.kernel[1])
        self.weight = uniform((inputs, outputs, *self.kernel), math.sqrt(3) * bound, generators)
        self.bias = uniform((outputs,), bound, generators)
        self.looped = loops(math.prod(size), outputs, inputs)
        self.products: torch.dtype | None = None

    def forward(self, inputs: Float[Tensor, "members batch c i j"]) -> Float[Tensor, "members batch d h w"]:
        """Every member's own transposed convolution of its own rows."""
        extra = [
            size
            - ((inputs.shape[3 + axis] - 1) * self.stride[axis] + 1)  # the padding takes what the kernel adds
            for axis, size in enumerate(self.size)
        ]

        def convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
            return functional.conv_transpose2d(rows, weight, bias, self.stride, self.padding, extra, groups)

        return _stacked(convolve, inputs, self.weight, self.bias, self.products, self.looped)


class ResizeConvolution(nn.Module):
    """Values repeated to twice the size, then a plain convolution; it restores the spatial `size` exactly.

    Its kernel falls on all positions alike, where a transposed one of odd size overlaps itself unevenly
    (Odena et al. 2016, "Deconvolution and checkerboard artifacts").
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        generators: Sequence[Generator],
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.size = size
        self.convolution = Convolution(inputs, outputs, size, generators, stride=1, dilation=dilation)

    def forward(self, inputs: Float[Tensor, "members batch c i j"]) -> Float[Tensor, "members batch d h w"]:
        """Every member's own convolution of its own rows, resized."""
        height, width = self.size
        factor = (1 if height == 1 else 2, 1 if width == 1 else 2)
        repeated = functional.interpolate(inputs.flatten(0, 1), scale_factor=factor, mode="nearest")
        cut = repeated[:, :, :height, :width]
        resized: Tensor = self.convolution(cut.reshape(*inputs.shape[:3], height, width))
        return resized


class Normalisation(nn.Module):
    """Each sample's channels, in `groups`, at mean 0 and variance 1, then scaled and shifted by channel.

    (Wu & He 2018, "Group normalization", eqs. 1 and 7; one group is layer normalisation.) No sample sees
    another, so that a code doesn't depend on its batch.
    """

    def __init__(self, channels: int, groups: int, members: int) -> None:
        super().__init__()
        self.groups = groups
        self.scale = nn.Parameter(torch.ones(members, channels))
        self.shift = nn.Parameter(torch.zeros(members, channels))

    def forward(self, maps: Float[Tensor, "members batch c h w"]) -> Float[Tensor, "members batch c h w"]:
        """Normalise maps, in the parameters' number format."""
        grouped = maps.to(self.scale.dtype).reshape(*maps.shape[:2], self.groups, -1)
        even = functional.layer_norm(grouped, grouped.shape[-1:]).view(maps.shape)
        scale, shift = (each[:, None, :, None, None] for each in (self.scale, self.shift))
        return even * scale + shift


def pool(maps: Float[Tensor, "members batch c h w"]) -> Float[Tensor, "members batch c i j"]:
    """The largest of each square of four, n becoming ceil(n / 2); of each pair where the height is 1."""
    window = (1 if maps.shape[3] == 1 else 2, 2)
    pooled = functional.max_pool2d(maps.flatten(0, 1), window, ceil_mode=True)
    return pooled.view(*maps.shape[:2], *pooled.shape[1:])


Convolve = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]


def _stacked(
    convolve: Convolve,
    inputs: Float[Tensor, "members batch c h w"],
    weight: Float[Tensor, "members o i kh kw"],
    bias: Float[Tensor, "members outputs"],
    products: torch.dtype | None,
    looped: bool,
) -> Float[Tensor, "members batch d i j"]:
    """`convolve(rows, weight, bias, groups)` of every member.

    A lone group is convolved by another kernel, which rounds differently; so a lone member gets a companion
    of zeros, and its result doesn't depend on how many members there are.
    """
    if products is not None:
        inputs, weight, bias = inputs.to(products), weight.to(products), bias.to(products)
    members = inputs.shape[0]
    if looped:

        def alone(rows: Tensor, own: Tensor, shift: Tensor) -> Tensor:
            if rows.shape[1] == 1:  # is in both layouts, and gives what comes out the wrong one
                rows = rows.clone(memory_format=LAST)
            return convolve(rows.contiguous(memory_format=LAST), own.contiguous(memory_format=LAST), shift, 1)

        if members == 1:  # a stack of one would be copied
            return alone(inputs.squeeze(0), weight.squeeze(0), bias.squeeze(0)).unsqueeze(0)
        return torch.stack([alone(*each) for each in zip(inputs, weight, bias, strict=True)])
    if members == 1:
        inputs, weight = (torch.cat([each, torch.zeros_like(each)]) for each in (inputs, weight))
    joined = inputs.transpose(0, 1).flatten(1, 2)
    mapped = convolve(joined, weight.flatten(0, 1), None, len(inputs))
    apart = mapped.view(mapped.shape[0], len(inputs), -1, *mapped.shape[2:]).transpose(0, 1)[:members]
    return apart + bias[:, None, :, None, None]


Pair = tuple[int, int]


def _geometry(size: Pair, stride: int, dilation: int) -> tuple[Pair, Pair, Pair, Pair]:
    """Kernel, stride, dilation and padding of a layer; flat inputs have height 1."""
    if size[0] == 1:
        return (1, 3), (1, stride), (1, dilation), (0, dilation)
    return (3, 3), (stride, stride), (dilation, dilation), (dilation, dilation)


def loops(pixels: int, inputs: int, outputs: int) -> bool:
    """Whether a layer on maps of so many `pixels` is faster looped, by the nearest one that was measured."""
    layer = (math.log(pixels), math.log(inputs), math.log(outputs))
    nearest = min(_rules(), key=lambda rule: math.dist(rule[0], layer))
    return nearest[1] > 1


@cache
def _rules() -> list[tuple[tuple[float, ...], float]]:
    """Of each measured layer the logarithms of pixels, inputs and outputs, and grouped over looped time."""
    rows = json.loads(RULES.read_text(encoding="utf-8"))["rows"]
    return [
        (tuple(math.log(row[key]) for key in ("pixels", "inputs", "outputs")), row["grouped_over_looped"])
        for row in rows
    ]
