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
from latentops.architectures.convolutions import Convolution, TransposedConvolution
from latentops.architectures.stack import Batch


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


class Encoder(nn.Module):
    """Halving convolutions with leaky rectifiers, then one affine layer to `outputs` numbers."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        channels: Sequence[int],
        outputs: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.image = image_shape(shape, ragged)
        widths = [self.image[0] + ragged, *channels]
        *before, (height, width) = sizes(*self.image[1:], len(channels))
        self.layers = nn.ModuleList(
            Convolution(inputs, after, size, generators)
            for (inputs, after), size in zip(pairwise(widths), before, strict=True)
        )
        self.head = Linear(channels[-1] * height * width, outputs, generators)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch; a sequence's mask of valid steps is one more channel."""
        steps = batch.steps
        if steps is None:
            hidden = batch.values.reshape(*batch.values.shape[:2], *self.image)
        else:
            channels = torch.cat([batch.values * batch.mask, batch.mask], dim=-1)
            hidden = channels.transpose(2, 3).unsqueeze(3)
        first, *others = self.layers
        hidden = first(hidden)
        for layer in others:
            hidden = layer(functional.leaky_relu(hidden))
        flat = hidden.flatten(2).to(self.head.weight.dtype)  # rectified as the head's gradient is laid out
        outputs: Tensor = self.head(functional.leaky_relu(flat))
        return outputs


class Decoder(nn.Module):
    """One affine layer, then doubling transposed convolutions back to the input's shape."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        channels: Sequence[int],
        latent_dim: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.ragged = ragged
        image = image_shape(shape, ragged)
        *after, smallest = sizes(*image[1:], len(channels))
        self.start = (channels[-1], *smallest)
        self.head = Linear(latent_dim, math.prod(self.start), generators)
        widths = [*reversed(channels), image[0]]
        self.layers = nn.ModuleList(
            TransposedConvolution(inputs, outputs, size, generators)
            for (inputs, outputs), size in zip(pairwise(widths), reversed(after), strict=True)
        )

    def forward(
        self, codes: Float[Tensor, "members batch latent"], steps: int | None = None
    ) -> Float[Tensor, "members batch ..."]:
        """Decode a batch of codes; of sequences the first `steps`, if given."""
        first, *others = self.layers
        hidden = first(functional.leaky_relu(self.head(codes)).view(*codes.shape[:2], *self.start))
        for layer in others:
            hidden = layer(functional.leaky_relu(hidden))
        hidden = hidden.to(codes.dtype)
        if self.ragged:
            return hidden.squeeze(3).transpose(2, 3)[:, :, :steps]
        return hidden.reshape(*hidden.shape[:2], *self.shape)
