"""Transformer over padded, masked steps: pre-norm blocks of self-attention and a perceptron a step.

Data is read as `steps` has it. The decoder is not autoregressive: every step is driven by the code and by its
own position, and all are written at once.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Linear, Perceptron
from latentops.architectures.attention import SelfAttention, norm, sinusoids
from latentops.architectures.pooling import Pooling
from latentops.architectures.stack import Batch
from latentops.architectures.steps import Steps
from latentops.config import Transformer

Tokens = Float[Tensor, "members batch steps width"]
Valid = Bool[Tensor, "members batch steps"] | None

WAVES = 16
"""Waves of the series that drives a decoder's positions, at most."""


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + perceptron(norm(x))`` (Xiong et al. 2020, "On layer
    normalization in the Transformer architecture", fig. 1b).

    The norm has no scale and shift of its own: the layer after it has (Groeneveld et al. 2024, "OLMo", §2.1).
    """

    def __init__(self, settings: Transformer, generators: Sequence[Generator], causal: bool = False) -> None:
        super().__init__()
        width, rotary = settings.width, settings.positions == "rotary"
        self.attention = SelfAttention(width, settings.heads, generators, rotary, causal, settings.queries)
        self.perceptron = Perceptron([width, settings.expansion * width, width], generators)

    def forward(self, tokens: Tokens, valid: Valid = None) -> Tokens:
        """Each step with what it has gathered."""
        tokens = tokens + self.attention(norm(tokens), valid)
        return tokens + self.perceptron(norm(tokens).flatten(1, 2)).view(tokens.shape)


class Encoder(nn.Module):
    """Embedded steps through blocks, pooled into one vector; an affine layer from it to `outputs` numbers."""

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Transformer,
        outputs: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.steps = Steps(shape, ragged, settings.patch)
        self.sinusoidal = settings.positions == "sinusoidal"
        self.embed = Linear(self.steps.width, settings.width, generators)
        self.blocks = nn.ModuleList(Block(settings, generators) for _ in range(settings.layers))
        self.pooling = Pooling(settings.pooling, settings.width, generators)
        self.head = Linear(settings.width, outputs, generators)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch; steps beyond a sequence's length are never attended to."""
        values, valid = self.steps.read(batch), batch.steps
        members, samples, steps, _ = values.shape
        tokens = self.embed(values.flatten(1, 2)).view(members, samples, steps, -1)
        if self.sinusoidal:
            tokens = tokens + sinusoids(steps, tokens.shape[-1], tokens)
        for block in self.blocks:
            tokens = block(tokens, valid)
        outputs: Tensor = self.head(self.pooling(norm(tokens), valid))
        return outputs


class Decoder(nn.Module):
    """Every position driven by the code, through blocks; one affine layer to each step's values.

    What drives a position is a cosine series over positions whose coefficients the code gives, beside the
    position itself. (The code alone, the same everywhere, with positions added leaves it to the blocks to
    multiply the two, which they learn badly.) Positions are added even where the encoder's are rotary:
    attention over steps that are all alike gives the same whatever their distance.

    A sequence's steps attend to no later ones, so that those beyond its length, which a decoder doesn't know
    of, change nothing.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Transformer,
        latent_dim: int,
        generators: Sequence[Generator],
    ) -> None:
        super().__init__()
        self.steps = Steps(shape, ragged, settings.patch)
        self.waves = min(self.steps.steps, WAVES)
        self.start = Linear(latent_dim, self.waves * settings.width, generators)
        self.blocks = nn.ModuleList(
            Block(settings, generators, causal=ragged) for _ in range(settings.layers)
        )
        self.head = Linear(settings.width, self.steps.width, generators)

    def forward(
        self, codes: Float[Tensor, "members batch latent"], steps: int | None = None
    ) -> Float[Tensor, "members batch ..."]:
        """Decode codes to `steps` or all; what lies beyond a sequence's length is the caller's to mask."""
        steps = steps or self.steps.steps
        members, samples = codes.shape[:2]
        coefficients = self.start(codes).view(members * samples, self.waves, -1)
        waves = cosines(steps, self.waves, self.steps.steps, codes).expand(len(coefficients), -1, -1)
        tokens = torch.bmm(waves, coefficients).view(members, samples, steps, -1)
        tokens = tokens + sinusoids(steps, tokens.shape[-1], tokens)
        for block in self.blocks:
            tokens = block(tokens)
        values = self.head(norm(tokens).flatten(1, 2))
        return self.steps.write(values.view(members, samples, steps, -1))


def cosines(steps: int, waves: int, period: int, like: Tensor) -> Float[Tensor, "steps waves"]:
    """``cos(π j (t + ½) / period)`` of step t and wave j (Ahmed et al. 1974, "Discrete cosine transform")."""
    position = torch.arange(steps, device=like.device, dtype=like.dtype) + 0.5
    wave = torch.arange(waves, device=like.device, dtype=like.dtype) * (math.pi / period)
    return torch.cos(position.unsqueeze(-1) * wave)
