"""Convolutions of a stack: grouped over the member axis or looped over it, on a GPU one batched product.

Whether groups or the loop is faster on the CPU depends on the layer, as measured by `benchmarks/rules.py`
into `rules.json`. The rule doesn't look at the number of members: a member's bytes must not depend on its
neighbours.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.stack import uniform

LAST = torch.channels_last
"""The layout in which a looped convolution is fastest; a grouped one takes no notice of it."""

TILE, PARTS = 64, 128
"""Of a GPU's product: numbers a side that are made together, and into how many parts a single tile's goes."""

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

        if inputs.is_cuda:
            return self._batched(inputs)

        def convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
            return functional.conv2d(rows, weight, bias, self.stride, self.padding, self.dilation, groups)

        return _stacked(convolve, inputs, self.weight, self.bias, self.products, self.looped)

    def _batched(self, inputs: Tensor) -> Tensor:
        members, batch, _, height, width = inputs.shape
        inputs, weight, bias = _formatted(self.products, inputs, self.weight, self.bias)
        windows = Windows(self.kernel, self.stride, self.dilation, self.padding, (height, width))
        patches = windows.gather(inputs)
        kernels = weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
        mapped: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            patches.flatten(1, 3).flatten(2), kernels, bias.unsqueeze(1)
        )
        return mapped.view(members, batch, *windows.places, -1).permute(0, 1, 4, 2, 3)


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

        if inputs.is_cuda:
            return self._batched(inputs)

        def convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
            return functional.conv_transpose2d(rows, weight, bias, self.stride, self.padding, extra, groups)

        return _stacked(convolve, inputs, self.weight, self.bias, self.products, self.looped)

    def _batched(self, inputs: Tensor) -> Tensor:
        members, batch = inputs.shape[:2]
        inputs, weight, bias = _formatted(self.products, inputs, self.weight, self.bias)
        windows = Windows(self.kernel, self.stride, (1, 1), self.padding, self.size)
        kernels = weight.permute(0, 1, 3, 4, 2).flatten(2)
        rows = inputs.permute(0, 1, 3, 4, 2).reshape(members, -1, inputs.shape[2])
        columns: Tensor = _Product.apply(rows, kernels, None)  # type: ignore[no-untyped-call]
        patches = columns.view(members, batch, *windows.places, *self.kernel, -1)
        return windows.add(patches) + bias[:, None, :, None, None]


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


Pair = tuple[int, int]
Patches = Float[Tensor, "members batch i j kh kw channels"]


class Windows:
    """What a kernel sees of maps `[members, batch, channels, *size]` at each of its `places`.

    A convolution is a product of these patches with the kernels, a transposed one adds up products where
    patches overlap (Chellapilla et al. 2006, "High performance convolutional neural networks for document
    processing", §3); so one batched product serves all members.
    """

    def __init__(self, kernel: Pair, stride: Pair, dilation: Pair, padding: Pair, size: Pair) -> None:
        self.kernel, self.stride, self.dilation, self.padding, self.size = (
            kernel,
            stride,
            dilation,
            padding,
            size,
        )
        reach = [step * (taps - 1) for step, taps in zip(dilation, kernel, strict=True)]
        room = [have + 2 * more for have, more in zip(size, padding, strict=True)]
        self.places = tuple((a - b - 1) // s + 1 for a, b, s in zip(room, reach, stride, strict=True))

    def gather(self, maps: Float[Tensor, "members batch channels h w"]) -> Patches:
        """Every patch, zero where it reaches over the edge."""
        patches: Tensor = _Gather.apply(maps, self)  # type: ignore[no-untyped-call]
        return patches

    def add(self, patches: Patches) -> Float[Tensor, "members batch channels h w"]:
        """The maps whose every position is the sum of what patches have there: the transpose of `gather`."""
        maps: Tensor = _Add.apply(patches, self)  # type: ignore[no-untyped-call]
        return maps

    def taps(self, rows: Float[Tensor, "members batch h w channels"]) -> Iterator[tuple[Pair, Tensor]]:
        """Of padded rows, where each tap of the kernel falls `[members, batch, *places, channels]`."""
        for down, across in product(*map(range, self.kernel)):
            high, wide = (
                slice(at * step, at * step + stride * (count - 1) + 1, stride)
                for at, step, stride, count in zip(
                    (down, across), self.dilation, self.stride, self.places, strict=True
                )
            )
            yield (down, across), rows[:, :, high, wide]


class _Gather(torch.autograd.Function):
    """`forward(maps, windows)`."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, windows: Windows) -> Tensor:
        ctx.windows = windows
        (high, wide), rows = windows.padding, maps.permute(0, 1, 3, 4, 2)
        rows = functional.pad(rows, (0, 0, wide, wide, high, high)).contiguous()
        member, sample, row, column, channel = rows.stride()
        taps = (row * windows.dilation[0], column * windows.dilation[1])
        places = (row * windows.stride[0], column * windows.stride[1])
        seen = rows.as_strided(
            (*rows.shape[:2], *windows.places, *windows.kernel, rows.shape[-1]),
            (member, sample, *places, *taps, channel),
        )
        return seen.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.windows.add(gradients[0]), None


class _Add(torch.autograd.Function):
    """`forward(patches, windows)`."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, windows: Windows) -> Tensor:
        ctx.windows = windows
        (high, wide), (height, width) = windows.padding, windows.size
        rows = patches.new_zeros(*patches.shape[:2], height + 2 * high, width + 2 * wide, patches.shape[-1])
        for (down, across), place in windows.taps(rows):
            place.add_(patches[:, :, :, :, down, across])
        return rows[:, :, high : high + height, wide : wide + width].permute(0, 1, 4, 2, 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.windows.gather(gradients[0]), None


class _Product(torch.autograd.Function):
    """`forward(rows, kernels, bias)`: ``rows kernels + bias``, `[members, rows, outputs]`.

    The kernels' gradient is a sum over all positions of all samples, and as small as the kernels are: a GPU
    would leave most of itself idle over it. So the sum is taken in parts, more of them the smaller it is.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, kernels)
        return torch.bmm(rows, kernels) if bias is None else torch.baddbmm(bias, rows, kernels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (rows, kernels) = gradients, ctx.saved_tensors
        wants_rows, wants_kernels, wants_bias = ctx.needs_input_grad
        of_rows = torch.bmm(gradient, kernels.transpose(1, 2)) if wants_rows else None
        of_kernels = None
        if wants_kernels:
            members, count, inputs = rows.shape
            tiles = -(-inputs // TILE) * -(-gradient.shape[2] // TILE)
            parts = math.gcd(count, 2 ** int(math.log2(max(1, PARTS // tiles))))
            left = rows.reshape(members * parts, -1, inputs).transpose(1, 2)
            products = torch.bmm(left, gradient.reshape(members * parts, count // parts, -1))
            of_kernels = products.view(members, parts, inputs, -1).sum(1)
        return of_rows, of_kernels, gradient.sum(1, keepdim=True) if wants_bias else None


def _formatted(products: torch.dtype | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tensors if products is None else tuple(each.to(products) for each in tensors)


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
