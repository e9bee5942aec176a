"""Multilayer perceptron: any data, flattened; ragged sequences bring their validity mask along."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.stack import Batch, Linear


class Encoder(nn.Module):
    """Flattened values (and the mask of valid steps) through ELU layers to `outputs` numbers."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        hidden: Sequence[int],
        outputs: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.values = math.prod(shape)
        sizes = [self.values + (shape[0] if ragged else 0), *hidden, outputs]
        self.layers = nn.ModuleList(Linear(before, after, generators) for before, after in pairwise(sizes))

    def flatten(self, batch: Batch) -> Float[Tensor, "members batch inputs"]:
        """What the first layer sees."""
        values = batch.values.flatten(2)
        steps = batch.steps
        return values if steps is None else torch.cat([values, steps.to(values.dtype)], dim=-1)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch."""
        hidden = self.flatten(batch)
        *inner, last = self.layers
        for layer in inner:
            hidden = functional.elu(layer(hidden))
        outputs: Tensor = last(hidden)
        return outputs

    def jacobian(self, batch: Batch) -> Float[Tensor, "members batch outputs inputs"]:
        """Exact derivative of the outputs by the values, by the chain rule from the last layer to the first.

        With ELU, whose derivative is `min(exp(a), 1)` at pre-activation a.
        """
        hidden = self.flatten(batch)
        slopes = []
        *inner, last = self.layers
        for layer in inner:
            before = layer(hidden)
            hidden = functional.elu(before)
            slopes.append(torch.exp(before.clamp(max=0)))
        members, samples = hidden.shape[:2]
        last_weight: Tensor = last.weight  # type: ignore[assignment]
        chain = last_weight.transpose(1, 2).unsqueeze(1).expand(-1, samples, -1, -1)
        for layer, slope in zip(reversed(inner), reversed(slopes), strict=True):
            weight: Tensor = layer.weight  # type: ignore[assignment]
            scaled = (chain * slope.unsqueeze(2)).flatten(1, 2)
            chain = torch.bmm(scaled, weight.transpose(1, 2)).view(members, samples, -1, weight.shape[1])
        return chain[..., : self.values]


class Decoder(nn.Module):
    """The encoder's mirror: codes through ELU layers to values of the input's shape."""

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], latent_dim: int, generators: Sequence[Generator]
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        sizes = [latent_dim, *reversed(hidden), math.prod(shape)]
        self.layers = nn.ModuleList(Linear(before, after, generators) for before, after in pairwise(sizes))

    def forward(self, codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, "members batch ..."]:
        """Decode a batch of codes."""
        hidden = codes
        *inner, last = self.layers
        for layer in inner:
            hidden = functional.elu(layer(hidden))
        outputs: Tensor = last(hidden)
        return outputs.view(*codes.shape[:2], *self.shape)
