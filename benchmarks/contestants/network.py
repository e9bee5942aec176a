"""The network that peers train, layer for layer and weight for weight as ours starts, in ordinary torch."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contestants.data import Rows
from benchmarks.contestants.protocol import Job


class Autoencoder(nn.Module):
    """Encoder and decoder of a job; `loss` is what it minimises on a batch `[batch, *shape]`."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.variational = job.variant == "variational"
        self.encoder = encoder(job)
        self.decoder = decoder(job)

    def loss(self, values: Tensor) -> Tensor:
        """Squared error; a variational one's adds the KL term, at a variance of 1."""
        if not self.variational:
            return functional.mse_loss(self.decoder(self.encoder(values)), values)
        mean, log_variance = self.encoder(values).chunk(2, -1)
        codes = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        error = 0.5 * functional.mse_loss(self.decoder(codes), values, reduction="sum")
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return (error + kl) / len(values)

    def reconstruct(self, values: Tensor) -> Tensor:
        """Values as their codes decode, a variational one's at its mean."""
        codes = self.encoder(values)
        result: Tensor = self.decoder(codes.chunk(2, -1)[0] if self.variational else codes)
        return result


def encoder(job: Job) -> nn.Sequential:
    """ELU layers, or halving convolutions with leaky rectifiers, and an affine layer to the code."""
    outputs = job.latent * (2 if job.variant == "variational" else 1)
    if job.kind == "mlp":
        return initialised(nn.Sequential(*_perceptron([math.prod(job.shape), *job.hidden, outputs])))
    layers: list[nn.Module] = []
    for before, after in pairwise([job.shape[0], *job.hidden]):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU()]
    height, width = _sizes(job)[-1]
    return initialised(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(job.hidden[-1] * height * width, outputs))
    )


def decoder(job: Job) -> nn.Sequential:
    """The encoder's mirror."""
    if job.kind == "mlp":
        return initialised(
            nn.Sequential(*_perceptron([job.latent, *reversed(job.hidden), math.prod(job.shape)]))
        )
    sizes = _sizes(job)
    start = (job.hidden[-1], *sizes[-1])
    layers: list[nn.Module] = [nn.Linear(job.latent, math.prod(start)), nn.Unflatten(1, start)]
    channels = pairwise([*reversed(job.hidden), job.shape[0]])
    for (before, after), (small, large) in zip(channels, pairwise(reversed(sizes)), strict=True):
        extra = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
        layers += [nn.LeakyReLU(), nn.ConvTranspose2d(before, after, 3, 2, 1, extra)]
    return initialised(nn.Sequential(*layers))


def initialised(network: nn.Sequential) -> nn.Sequential:
    """`network` with the initial weights' law of ours: uniform, of variance 1 / inputs."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            inputs = layer.in_features if isinstance(layer, nn.Linear) else 9 * layer.in_channels
            nn.init.uniform_(layer.weight, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -math.sqrt(1 / inputs), math.sqrt(1 / inputs))
    return network


def loss_on(rows: Rows, network: Autoencoder) -> float:
    """Mean squared error of the reconstruction of `rows`."""
    with torch.no_grad():
        return rows.mean_squared_error(network.cpu().reconstruct(torch.from_numpy(rows.values)).numpy())


def _perceptron(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ELU()]
    return layers[:-1]


def _sizes(job: Job) -> list[tuple[int, int]]:
    """Height and width before each convolution and after the last."""
    sizes = [(job.shape[1], job.shape[2])]
    for _ in job.hidden:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes
