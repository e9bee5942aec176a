"""Convolutions that halve the input and mirror themselves back.

Images are convolved in 2-D; a table's columns and a sequence's steps in 1-D, as an image of height 1.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.affine import Linear
from latentops.architectures.attention import SelfAttention, norm
from latentops.architectures.convolutions import (
    Convolution,
    Normalisation,
    ResizeConvolution,
    TransposedConvolution,
    pool,
)
from latentops.architectures.stack import Batch
from latentops.config import Convolutional
from latentops.errors import ConfigError

Maps = Float[Tensor, "members batch channels height width"]

HEADS = 4
"""Of attention at the smallest map, where they can share its channels evenly."""


def image_shape(shape: Sequence[int], ragged: bool) -> tuple[int, int, int]:
    """`[channels, height, width]` under which data of `shape` is convolved."""
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    if ragged:
        return (shape[1], 1, shape[0])
    return (1, 1, shape[0])


def sizes(height: int, width: int, layers: int) -> list[tuple[int, int]]:
    """Spatial size before each layer and after the last."""
    result = [(height, width)]
    for _ in range(layers):
        last = result[-1]
        result.append((math.ceil(last[0] / 2), math.ceil(last[1] / 2)))
    return result


def normalisation(channels: int, settings: Convolutional, members: int) -> nn.Module:
    """As `settings` has it; a group is of two channels or more, since one alone would lose its bias."""
    if settings.normalisation == "none":
        return nn.Identity()
    groups = 1
    if settings.normalisation == "group":
        groups = max(each for each in (1, 2, 4, 8) if channels % (2 * each) == 0 or each == 1)
    return Normalisation(channels, groups, members)


class Residual(nn.Module):
    """Maps plus what two convolutions make of them (He et al. 2016, "Identity mappings", fig. 1b)."""

    def __init__(
        self, channels: int, size: tuple[int, int], settings: Convolutional, generators: Sequence[Generator]
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(normalisation(channels, settings, len(generators)) for _ in range(2))
        self.layers = nn.ModuleList(
            Convolution(channels, channels, size, generators, 1, settings.dilation) for _ in range(2)
        )

    def forward(self, maps: Maps) -> Maps:
        """Maps of the same size."""
        hidden = maps
        for each, layer in zip(self.norms, self.layers, strict=True):
            hidden = layer(functional.leaky_relu(each(hidden)))
        return maps + hidden


class Global(nn.Module):
    """Maps plus what their positions gather from one another (Wang et al. 2018, "Non-local networks")."""

    def __init__(self, channels: int, size: tuple[int, int], generators: Sequence[Generator]) -> None:
        super().__init__()
        if math.prod(size) == 1:
            raise ConfigError(
                "architectures.convolutional.attention: the smallest map has one position, which has no "
                "other to attend to; use fewer channels' layers, or attention: false"
            )
        self.attention = SelfAttention(channels, math.gcd(channels, HEADS), generators)

    def forward(self, maps: Maps) -> Maps:
        """Maps of the same size."""
        tokens = maps.to(self.attention.outlet.weight.dtype).flatten(3).transpose(2, 3)
        gathered = tokens + self.attention(norm(tokens))
        return gathered.transpose(2, 3).reshape(maps.shape)


def residuals(
    channels: int, size: tuple[int, int], settings: Convolutional, generators: Sequence[Generator]
) -> nn.Sequential:
    """As many blocks as `settings` has."""
    return nn.Sequential(*(Residual(channels, size, settings, generators) for _ in range(settings.residual)))


def doubling(
    inputs: int,
    outputs: int,
    size: tuple[int, int],
    settings: Convolutional,
    generators: Sequence[Generator],
) -> nn.Module:
    """A layer up to `size`, as `settings` has it."""
    if settings.up == "transposed":
        return TransposedConvolution(inputs, outputs, size, generators)
    return ResizeConvolution(inputs, outputs, size, generators, settings.dilation)


class Encoder(nn.Module):
    """Halving convolutions with leaky rectifiers, then one affine layer to `outputs` numbers."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Convolutional,
        outputs: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.image = image_shape(shape, ragged)
        self.pooled = settings.down == "pooled"
        widths = [self.image[0] + ragged, *settings.channels]
        every = sizes(*self.image[1:], len(settings.channels))
        *before, smallest = every
        stride, dilation = (1, settings.dilation) if self.pooled else (2, 1)
        self.layers = nn.ModuleList(
            Convolution(inputs, after, size, generators, stride, dilation)
            for (inputs, after), size in zip(pairwise(widths), before, strict=True)
        )
        self.norms = nn.ModuleList(
            normalisation(channels, settings, len(generators)) for channels in settings.channels
        )
        self.residuals = nn.ModuleList(
            residuals(channels, size, settings, generators)
            for channels, size in zip(settings.channels, every[1:], strict=True)
        )
        last = settings.channels[-1]
        self.gather = Global(last, smallest, generators) if settings.attention else nn.Identity()
        self.head = Linear(last * math.prod(smallest), outputs, generators)

    def maps(self, batch: Batch) -> list[Maps]:
        """What each layer gives; a sequence's mask of valid steps is one more channel of the input."""
        steps = batch.steps
        if steps is None:
            hidden = batch.values.reshape(*batch.values.shape[:2], *self.image)
        else:
            channels = torch.cat([batch.values * batch.mask, batch.mask], dim=-1)
            hidden = channels.transpose(2, 3).unsqueeze(3)
        result: list[Maps] = []
        for layer, each, blocks in zip(self.layers, self.norms, self.residuals, strict=True):
            hidden = layer(functional.leaky_relu(hidden) if result else hidden)
            hidden = blocks(each(pool(hidden) if self.pooled else hidden))
            result.append(hidden)
        return result

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch."""
        smallest = self.gather(self.maps(batch)[-1])
        flat = smallest.flatten(2).to(self.head.weight.dtype)  # rectified as the head's gradient is laid out
        outputs: Tensor = self.head(functional.leaky_relu(flat))
        return outputs


class Decoder(nn.Module):
    """One affine layer, then doubling convolutions back to the input's shape."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Convolutional,
        latent_dim: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.ragged = ragged
        image = image_shape(shape, ragged)
        *after, smallest = sizes(*image[1:], len(settings.channels))
        deepest = settings.channels[-1]
        self.start = (deepest, *smallest)
        self.head = Linear(latent_dim, math.prod(self.start), generators)
        self.gather = Global(deepest, smallest, generators) if settings.attention else nn.Identity()
        widths = [*reversed(settings.channels), image[0]]
        self.residuals = nn.ModuleList(
            residuals(channels, size, settings, generators)
            for channels, size in zip(widths, reversed([*after[1:], smallest]), strict=False)
        )
        self.layers = nn.ModuleList(
            doubling(inputs, outputs, size, settings, generators)
            for (inputs, outputs), size in zip(pairwise(widths), reversed(after), strict=True)
        )
        self.norms = nn.ModuleList(
            [*(normalisation(each, settings, len(generators)) for each in widths[1:-1]), nn.Identity()]
        )

    def forward(
        self,
        codes: Float[Tensor, "members batch latent"],
        steps: int | None = None,
        told: Batch | None = None,
    ) -> Float[Tensor, "members batch ..."]:
        """Decode a batch of codes; of sequences the first `steps`, if given. Each goes by the code alone."""
        del told
        hidden = self.gather(self.head(codes).view(*codes.shape[:2], *self.start))
        for blocks, layer, each in zip(self.residuals, self.layers, self.norms, strict=True):
            hidden = each(layer(functional.leaky_relu(blocks(hidden))))
        hidden = hidden.to(codes.dtype)
        if self.ragged:
            return hidden.squeeze(3).transpose(2, 3)[:, :, :steps]
        return hidden.reshape(*hidden.shape[:2], *self.shape)
