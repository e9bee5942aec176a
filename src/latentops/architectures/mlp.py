"""Multilayer perceptron: any data, flattened; a ragged sequence is stretched to its padded length first."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Mirrored, Perceptron
from latentops.architectures.stack import Batch
from latentops.config import ActivationName


def interpolation(
    lengths: Int[Tensor, "members batch"], to: int
) -> tuple[
    Int[Tensor, "members batch to"], Int[Tensor, "members batch to"], Float[Tensor, "members batch to"]
]:
    """For `to` points from first step to last: the steps around each point, and the later one's share."""
    last = (lengths - 1).unsqueeze(-1)
    position = torch.linspace(0, 1, to, device=lengths.device) * last
    before = position.floor().long()
    return before, torch.minimum(before + 1, last), position - before


def resample(
    values: Float[Tensor, "members batch steps channels"], lengths: Int[Tensor, "members batch"], to: int
) -> Float[Tensor, "members batch to channels"]:
    """Linear interpolation of each sequence's valid steps at `to` points from its first to its last."""
    before, after, share = interpolation(lengths, to)
    channels = (-1, -1, -1, values.shape[-1])
    left = torch.gather(values, 2, before.unsqueeze(-1).expand(channels))
    right = torch.gather(values, 2, after.unsqueeze(-1).expand(channels))
    return torch.lerp(left, right, share.unsqueeze(-1).to(values.dtype))


class Encoder(nn.Module):
    """Flattened values through hidden layers to `outputs` numbers.

    A sequence of any length is resampled to `shape[0]` steps; its own length is one more input.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        hidden: Sequence[int],
        outputs: int,
        generators: Sequence[Generator],
        activation: ActivationName = "elu",
    ) -> None:
        super().__init__()
        self.steps = shape[0]
        self.values = math.prod(shape)
        sizes = [self.values + ragged, *hidden, outputs]
        self.layers = Perceptron(sizes, generators, activation)

    def flatten(self, batch: Batch) -> Float[Tensor, "members batch inputs"]:
        """What the first layer sees."""
        if batch.lengths is None:
            return batch.values.flatten(2)
        stretched = resample(batch.values, batch.lengths, self.steps)
        share = (batch.lengths / self.steps).unsqueeze(-1).to(stretched.dtype)
        return torch.cat([stretched.flatten(2), share], dim=-1)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch."""
        outputs: Tensor = self.layers(self.flatten(batch))
        return outputs

    def jacobian(self, batch: Batch) -> Float[Tensor, "members batch outputs values"]:
        """Exact derivative of the outputs by the flattened values, from the last layer to the first."""
        hidden = self.flatten(batch)
        slopes = []
        *inner, last = self.layers
        for layer in inner:
            before = layer(hidden)
            hidden = self.layers.activation.plain(before)
            slopes.append(self.layers.activation.slope(before))
        members, samples = hidden.shape[:2]
        last_weight: Tensor = last.weight  # type: ignore[assignment]
        chain = last_weight.transpose(1, 2).unsqueeze(1).expand(-1, samples, -1, -1)
        for layer, slope in zip(reversed(inner), reversed(slopes), strict=True):
            weight: Tensor = layer.weight  # type: ignore[assignment]
            scaled = (chain * slope.unsqueeze(2)).flatten(1, 2)
            chain = torch.bmm(scaled, weight.transpose(1, 2)).view(members, samples, -1, weight.shape[1])
        chain = chain[..., : self.values]
        return chain if batch.lengths is None else self._unstretched(chain, batch.lengths)

    def pull(
        self, batch: Batch, directions: Float[Tensor, "members batch outputs"]
    ) -> tuple[Float[Tensor, "members batch outputs"], Float[Tensor, "members batch values"]]:
        """The outputs, and a direction for each row pulled back to the flattened values: ``Jᵀ v``."""
        outputs, pulled = self.layers.pull(self.flatten(batch), directions)
        pulled = pulled[..., : self.values]
        if batch.lengths is None:
            return outputs, pulled
        return outputs, self._unstretched(pulled.unsqueeze(2), batch.lengths).squeeze(2)

    def _unstretched(self, chain: Tensor, lengths: Tensor) -> Tensor:
        """The derivative by a sequence's own steps, from that by the points that were interpolated."""
        before, after, share = interpolation(lengths, self.steps)
        points = chain.view(*chain.shape[:3], self.steps, -1)
        result = torch.zeros_like(points)
        for step, weight in ((before, 1 - share), (after, share)):
            index = step[:, :, None, :, None].expand_as(points)
            result = result.scatter_add(3, index, points * weight[:, :, None, :, None])
        return result.flatten(3)


class Decoder(nn.Module):
    """The encoder's mirror: codes through hidden layers to values of the input's shape.

    It has weights of its own, or where it is `tied` those of the `encoder`, transposed. An encoder's further
    inputs and outputs (a sequence's length, what isn't a code's mean) have no mirror then.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        latent_dim: int,
        generators: Sequence[Generator],
        activation: ActivationName = "elu",
        tied: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        values = math.prod(shape)
        self.layers = (
            Perceptron([latent_dim, *reversed(hidden), values], generators, activation)
            if tied is None
            else Mirrored(tied.layers, values, latent_dim, generators)
        )

    def forward(
        self,
        codes: Float[Tensor, "members batch latent"],
        steps: int | None = None,
        told: Batch | None = None,
    ) -> Float[Tensor, "members batch ..."]:
        """Decode a batch of codes; of sequences the first `steps`, if given. Each goes by the code alone."""
        del told
        outputs: Tensor = self.layers(codes).view(*codes.shape[:2], *self.shape)
        return outputs if steps is None else outputs[:, :, :steps]
