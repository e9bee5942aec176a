"""The discriminator of an adversarial autoencoder, and what keeps its game from diverging."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.affine import Linear

SLOPE = 0.2
"""Of the leaky rectifier, where it is negative."""

SETTLING = 20
"""Power iterations before training starts; from then on one a step follows the weights."""


class Layer(Linear):
    """An affine layer ``r (x W + b)``, whose weights ``rW`` are learned `rate` times as fast.

    Adam's steps are of the same size for every parameter, whatever the gradient's scale, so a rate of its own
    is a factor on the parameter. If `spectral`, the weights are divided by their largest singular value
    (Miyato et al. 2018, eq. 8), by one power iteration a step (algorithm 1).
    """

    direction: Tensor

    def __init__(
        self, inputs: int, outputs: int, rate: float, spectral: bool, generators: Sequence[Generator]
    ) -> None:
        super().__init__(inputs, outputs, generators)
        self.rate = rate
        self.spectral = spectral
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.div_(rate)
            if spectral:
                start = torch.stack([torch.randn(1, outputs, generator=each) for each in generators])
                self.register_buffer("direction", functional.normalize(start, dim=-1))
                for _ in range(SETTLING):
                    self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """Turn `direction` towards the right singular vector of the largest value."""
        there = (self.weight * self.direction).sum(-1, keepdim=True)
        self.direction.copy_(functional.normalize((self.weight * there).sum(1, keepdim=True), dim=-1))

    def largest(self) -> Float[Tensor, "members 1 1"]:
        """The largest singular value of ``W``: the length that it gives to `direction`."""
        there = (self.weight * self.direction).sum(-1, keepdim=True)
        return there.square().sum(1, keepdim=True).sqrt()

    def forward(
        self, inputs: Float[Tensor, "members batch inputs"]
    ) -> Float[Tensor, "members batch outputs"]:
        """Apply the layer."""
        outputs = super().forward(inputs)
        if self.spectral:
            return (outputs - self.bias) / self.largest() + self.rate * self.bias
        return outputs if self.rate == 1 else self.rate * outputs

    def transposed(
        self, gradient: Float[Tensor, "members batch outputs"]
    ) -> Float[Tensor, "members batch inputs"]:
        """The gradient by the inputs, from that by the outputs."""
        scale = 1 / self.largest() if self.spectral else self.rate
        return scale * torch.bmm(gradient, self.weight.mT)


class Discriminator(nn.Module):
    """Codes to one logit a sample: above 0 says "from the prior"."""

    def __init__(
        self, latent_dim: int, hidden: int, generators: Sequence[Generator], rate: float, spectral: bool
    ) -> None:
        super().__init__()
        widths = ((latent_dim, hidden), (hidden, hidden), (hidden, 1))
        self.layers = nn.ModuleList(Layer(*each, rate, spectral, generators) for each in widths)
        self.spectral = spectral

    def forward(self, codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, "members batch"]:
        """Logits."""
        first, second, last = self.layers
        logits: Tensor = last(
            functional.leaky_relu(second(functional.leaky_relu(first(codes), SLOPE)), SLOPE)
        )
        return logits.squeeze(-1)

    def iterate(self) -> None:
        """Follow the largest singular values by one power iteration, where weights are divided by them."""
        if self.spectral:
            for layer in self.layers:
                layer.iterate()  # type: ignore[operator]

    def squared_slope(self, codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, "members batch"]:
        """``‖∇D‖²`` at each code, differentiable by the weights: R1's penalty (Mescheder et al. 2018, eq. 9).

        The rectifiers' slopes are constant between their kinks, so the chain is taken as it stands.
        """
        first, second, last = self.layers
        inner = first(codes)
        outer = second(functional.leaky_relu(inner, SLOPE))
        gradient = last.transposed(torch.ones_like(outer[..., :1]))  # type: ignore[operator]
        gradient = second.transposed(gradient * _slope(outer))  # type: ignore[operator]
        gradient = first.transposed(gradient * _slope(inner))  # type: ignore[operator]
        return gradient.square().sum(-1)


def _slope(before: Tensor) -> Tensor:
    return torch.where(before > 0, 1.0, SLOPE)
