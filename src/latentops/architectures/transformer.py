"""Transformer over padded, masked steps: pre-norm blocks of self-attention and a perceptron a step.

Data is read as `steps` has it. A decoder's steps are driven by the code and by their own positions, and all
are written at once; an autoregressive one's by the step before as well. With a `checkpoint` a block keeps
nothing for the way back but what it was given.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Linear, Perceptron
from latentops.architectures.attention import Past, SelfAttention, norm, sinusoids
from latentops.architectures.feedback import Expected, Feedback
from latentops.architectures.pooling import Pooling
from latentops.architectures.recomputed import recomputed
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
        return self._each(tokens + self.attention(norm(tokens), valid))

    def go_on(self, token: Tokens, past: Past = None) -> tuple[Tokens, Past]:
        """The same of one step after the `past` ones, to which it is added."""
        gathered, past = self.attention.go_on(norm(token), past)
        return self._each(token + gathered), past

    def _each(self, tokens: Tokens) -> Tokens:
        outputs: Tensor = tokens + self.perceptron(norm(tokens).flatten(1, 2)).view(tokens.shape)
        return outputs


class Blocks(nn.ModuleList):
    """Blocks one after the other."""

    def __init__(self, settings: Transformer, generators: Sequence[Generator], causal: bool = False) -> None:
        super().__init__(Block(settings, generators, causal) for _ in range(settings.layers))
        self.checkpoint = settings.checkpoint

    def forward(self, tokens: Tokens, valid: Valid = None) -> Tokens:
        """What all of them make of the steps."""
        for block in self:
            if self.checkpoint:
                (tokens,) = recomputed(
                    lambda *given, of=block: (of(*given),), block.parameters(), tokens, valid
                )
            else:
                tokens = block(tokens, valid)
        return tokens

    def go_on(self, token: Tokens, pasts: list[Past]) -> Tokens:
        """The same of one step after those in `pasts`, an entry a block, to which it is added."""
        for at, block in enumerate(self):
            token, pasts[at] = block.go_on(token, pasts[at])  # type: ignore[operator]
        return token


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
        self.blocks = Blocks(settings, generators)
        self.pooling = Pooling(settings.pooling, settings.width, generators)
        self.head = Linear(settings.width, outputs, generators)

    def forward(self, batch: Batch) -> Float[Tensor, "members batch outputs"]:
        """Encode a batch; steps beyond a sequence's length are never attended to."""
        outputs: Tensor = self.head(self.pooling(self._tokens(batch), batch.steps))
        return outputs

    def each(self, batch: Batch) -> Float[Tensor, "members batch steps outputs"]:
        """The outputs for each step; their mean is what pooling by mean gives."""
        tokens = self._tokens(batch)
        outputs: Tensor = self.head(tokens.flatten(1, 2))
        return outputs.view(*tokens.shape[:3], -1)

    def _tokens(self, batch: Batch) -> Tokens:
        values, valid = self.steps.read(batch), batch.steps
        members, samples, steps, _ = values.shape
        tokens = self.embed(values.flatten(1, 2)).view(members, samples, steps, -1)
        if self.sinusoidal:
            tokens = tokens + sinusoids(steps, tokens.shape[-1], tokens)
        return norm(self.blocks(tokens, valid))


class Decoder(nn.Module):
    """Every position driven by the code, through blocks; one affine layer to each step's values.

    What drives a position is a cosine series over positions whose coefficients the code gives, beside the
    position itself. (The code alone, the same everywhere, with positions added leaves it to the blocks to
    multiply the two, which they learn badly.) Positions are added even where the encoder's are rotary:
    attention over steps that are all alike gives the same whatever their distance.

    A sequence's steps attend to no later ones, so that those beyond its length, which a decoder doesn't know
    of, change nothing. No more do those of any data where the decoder is autoregressive. Where each step has
    a code of its own, that gives the series which is taken at its position.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ragged: bool,
        settings: Transformer,
        latent_dim: int,
        generators: Sequence[Generator],
        expected: Expected,
    ) -> None:
        super().__init__()
        self.steps = Steps(shape, ragged, settings.patch)
        self.waves = min(self.steps.steps, WAVES)
        self.start = Linear(latent_dim, self.waves * settings.width, generators)
        autoregressive = settings.decoder == "autoregressive"
        self.blocks = Blocks(settings, generators, causal=ragged or autoregressive)
        self.head = Linear(settings.width, self.steps.width, generators)
        self.feedback = Feedback(self.steps, settings.width, expected, generators) if autoregressive else None

    def forward(
        self,
        codes: Float[Tensor, "members batch *steps latent"],
        steps: int | None = None,
        told: Batch | None = None,
    ) -> Float[Tensor, "members batch ..."]:
        """Decode codes to `steps` or all; what lies beyond a sequence's length is the caller's to mask.

        An autoregressive decoder goes by the true steps where it is `told` them, else by its own.
        """
        steps = steps or self.steps.steps
        tokens = self._series(codes, steps)
        tokens = tokens + sinusoids(steps, tokens.shape[-1], tokens)
        if self.feedback is not None and told is None:
            return self.steps.write(self._write_freely(tokens, self.feedback))
        if self.feedback is not None and told is not None:
            tokens = tokens + self.feedback(self.feedback.true(told))
        return self.steps.write(self._values(self.blocks(tokens)))

    def _series(self, codes: Tensor, steps: int) -> Tokens:
        """The series that the code gives, at all positions, or each step's own code at its position."""
        waves = cosines(steps, self.waves, self.steps.steps, codes)
        if codes.ndim == 4:
            own = codes[:, :, :steps]
            coefficients = self.start(own.flatten(1, 2)).view(*own.shape[:3], self.waves, -1)
            return (waves.unsqueeze(-1) * coefficients).sum(3)
        members, samples = codes.shape[:2]
        coefficients = self.start(codes).view(members * samples, self.waves, -1)
        every = torch.bmm(waves.expand(len(coefficients), -1, -1), coefficients)
        return every.view(members, samples, steps, -1)

    def _write_freely(self, tokens: Tokens, feedback: Feedback) -> Float[Tensor, "members batch steps width"]:
        """The values, where each step goes by what was written before it."""
        written: list[Tensor] = []
        pasts: list[Past] = [None] * len(self.blocks)
        before = feedback.first(tokens.shape[1])
        for step in range(tokens.shape[2]):
            token = tokens[:, :, step : step + 1] + feedback(before).unsqueeze(2)
            written.append(self._values(self.blocks.go_on(token, pasts)))
            before = feedback.own(written[-1].squeeze(2), step)
        return torch.cat(written, dim=2)

    def _values(self, tokens: Tokens) -> Float[Tensor, "members batch steps width"]:
        values: Tensor = self.head(norm(tokens).flatten(1, 2))
        return values.view(*tokens.shape[:3], -1)


def cosines(steps: int, waves: int, period: int, like: Tensor) -> Float[Tensor, "steps waves"]:
    """``cos(π j (t + ½) / period)`` of step t and wave j (Ahmed et al. 1974, "Discrete cosine transform")."""
    position = torch.arange(steps, device=like.device, dtype=like.dtype) + 0.5
    wave = torch.arange(waves, device=like.device, dtype=like.dtype) * (math.pi / period)
    return torch.cos(position.unsqueeze(-1) * wave)
