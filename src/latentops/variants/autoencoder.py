"""The contract of every variant: what it encodes, decodes, and which named terms it minimises."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latentops.architectures import Shape, build
from latentops.architectures.embedding import Embedding
from latentops.architectures.recurrent import Encoder as Recurrent
from latentops.architectures.stack import Batch
from latentops.architectures.transformer import Encoder as Transformer
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings, Settings
from latentops.errors import LatentOpsError, LikelihoodError
from latentops.variants.likelihood import Likelihood, build_likelihood
from latentops.variants.parts.lengths import Lengths


class VariantSettings(Settings):
    """Keys that every section under `variants:` has; `auto` is the architecture that the dataset names."""

    architecture: Literal["auto", "mlp", "convolutional", "recurrent", "transformer"] = "auto"


@dataclass(frozen=True)
class Profile:
    """A health number along something: how it is at each of the places `x`, one value a member.

    `x` are numbers that rise, or names; the titles are those of the axes. A value that is undefined is NaN.
    """

    x: Sequence[float] | Sequence[str]
    values: Float[Tensor, "members places"]
    x_title: str
    y_title: str


class Noise:
    """Random numbers for a stack; each member draws from a generator of its own, on the device it is on."""

    def __init__(self, generators: Sequence[Generator]) -> None:
        self.generators = generators

    def normal(self, shape: Sequence[int]) -> Float[Tensor, "members ..."]:
        """Standard normal numbers `[members, *shape[1:]]`; `shape[0]` is the number of members."""
        draws = torch.empty(*shape, device=self.generators[0].device)
        for slot, generator in zip(draws, self.generators, strict=True):
            slot.normal_(generator=generator)
        return draws


class Autoencoder(nn.Module):
    """A stack of plain autoencoders; a variant overrides what is its own.

    `loss_terms` returns named, unweighted terms `[members]`; the loop minimises their sum weighted by
    `coefficients`. `reconstruction` is the negative log-likelihood in nats.

    A step is recorded once and replayed: what changes as training goes on is a coefficient, one of
    `schedules`, or a buffer `[members, …]` that `loss_terms` writes in place while `training` is set.
    """

    Settings: ClassVar[type[VariantSettings]] = VariantSettings
    heads: ClassVar[int] = 1
    """Numbers that the encoder gives for each latent dimension."""

    has_prior: ClassVar[bool] = False
    """Whether codes drawn from a prior, N(0, I) unless `sample` says otherwise, can be decoded to samples."""

    def __init__(
        self,
        settings: VariantSettings,
        architecture: ArchitectureName,
        architectures: Architectures,
        shape: Shape,
        latent_dim: int,
        generators: Sequence[Generator],
        likelihood: LikelihoodSettings | LikelihoodName = "gaussian",
    ) -> None:
        super().__init__()
        self.settings = settings
        self.shape = shape
        self.latent_dim = latent_dim
        width = architectures.embedding
        self.embedding = None if shape.vocabulary is None else Embedding(shape.vocabulary, width, generators)
        self.likelihood: Likelihood = build_likelihood(likelihood, len(generators), shape)
        self.encoder, self.decoder = build(
            *(architecture, architectures, shape.read_as(width), self.heads * latent_dim, latent_dim),
            generators,
            self.expected,
        )
        self.lengths = self._lengths(LikelihoodSettings.model_validate(likelihood), generators)
        self.now: Mapping[str, Tensor] = {}
        """What `schedules` says of the step that is being taken; empty between steps."""

    def _lengths(self, likelihood: LikelihoodSettings, generators: Sequence[Generator]) -> Lengths | None:
        if likelihood.length and not self.shape.ragged:
            raise LikelihoodError(
                "likelihood: length is modelled of sequences alone, but this data has none; drop length"
            )
        return Lengths(self.latent_dim, self.shape.sizes[0], generators) if likelihood.length else None

    @property
    def takes_fewer_steps(self) -> bool:
        """Whether sequences that are padded less cost less."""
        return isinstance(self.encoder, Recurrent | Transformer)

    @classmethod
    def width(cls, settings: VariantSettings, shape: Shape, latent_dim: int) -> int:
        """Size of this variant's code where the dataset asks for `latent_dim`."""
        del settings, shape
        return latent_dim

    def embed(self, batch: Batch) -> Batch:
        """What the encoder reads: of tokens their vectors, real values as they are, 0 for missing ones."""
        if self.shape.optional and self.shape.table is not None:
            return batch.with_values(self.shape.table.seen(batch.values))
        return batch if self.embedding is None else self.embedding.read(batch)

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """The code that is judged and used: deterministic, without noise."""
        codes: Tensor = self.encoder(self.embed(batch))
        return codes

    def latent(self, batch: Batch) -> Float[Tensor, "members batch *steps latent"]:
        """What a reconstruction is decoded from: the code, or more than is judged of it."""
        return self.encode(batch)

    def expected(self, outputs: Float[Tensor, "members batch width"]) -> Tensor:
        """Of some values what is expected, as an encoder reads them, from what a decoder gives for them."""
        if self.embedding is None:
            return self.likelihood.mean(outputs)
        step = self.likelihood.mean(self.embedding.write(outputs.unsqueeze(2)))
        return self.embed(Batch(step)).values.squeeze(2)

    def decode(
        self, codes: Float[Tensor, "members batch latent"], steps: int | None = None
    ) -> Float[Tensor, "members batch ..."]:
        """What the likelihood takes for values of the input's shape: their means, or logits.

        Of a token those of the whole vocabulary. Of sequences no more than `steps`, where that is given. An
        autoregressive decoder goes by what it expects itself of each step, the likeliest course alone.
        """
        values: Tensor = self.decoder(codes, steps)
        return values if self.embedding is None else self.embedding.write(values)

    def decode_told(
        self, codes: Float[Tensor, "members batch latent"], told: Batch
    ) -> Float[Tensor, "members batch ..."]:
        """What the likelihood takes for the values of `told`, each given the code and the true steps before.

        So an autoregressive decoder factorises a likelihood (teacher forcing); to any other it is `decode`.
        """
        values: Tensor = self.decoder(codes, told.padded, self.embed(told))
        return values if self.embedding is None else self.embedding.write(values)

    def nats(self, batch: Batch, codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
        """Negative log-likelihood of a sample of `batch` given its code, on average."""
        return self.likelihood.negative_log_likelihood(batch, self.decode_told(codes, batch))

    def reconstruct(self, batch: Batch) -> Float[Tensor, "members batch ..."]:
        """Expected values given the code, of tokens the most probable, zero in padding."""
        return self.likelihood.mean(self.decode(self.latent(batch), batch.padded)) * batch.mask

    def likelihood_terms(
        self, batch: Batch, codes: Float[Tensor, "members batch latent"]
    ) -> dict[str, Float[Tensor, " members"]]:
        """Nats of the samples given their codes: `reconstruction` of the values, and `length` if modelled."""
        terms = {"reconstruction": self.nats(batch, codes)}
        if self.lengths is not None and batch.lengths is not None:
            terms["length"] = self.lengths.nats(codes, batch.lengths).mean(-1)
        return terms

    def residuals(self, batch: Batch) -> Float[Tensor, "members batch values"]:
        """By how much the reconstruction misses each value, squared, of tokens in nats; NaN where none is."""
        outputs = self.decode(self.latent(batch), batch.padded)
        missed = self.likelihood.residuals(batch, outputs)
        return missed.masked_fill(self.likelihood.weights(batch) == 0, math.nan).flatten(2)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """Named terms, averaged over the batch, unweighted."""
        del noise
        return self.likelihood_terms(batch, self.latent(batch))

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """Weight of each term that `loss_terms` names, when `progress` of the steps is done.

        Those of the likelihood count once.
        """
        del progress
        return {"reconstruction": 1.0} | ({} if self.lengths is None else {"length": 1.0})

    def schedules(self, progress: float = 1.0) -> dict[str, float]:
        """Numbers that `loss_terms` reads by `scheduled`, when `progress` of the steps is done."""
        del progress
        return {}

    def scheduled(self, name: str) -> Float[Tensor, ""]:
        """A number of `schedules` at the step that is being taken; at any other time that of the last."""
        known = self.now.get(name)
        return torch.tensor(self.schedules()[name]) if known is None else known

    def mend(self, batch: Batch, noise: Noise) -> None:
        """Called with a training batch before each look, to change in place what training can't.

        A member's numbers may depend on its own rows and noise alone.
        """

    def monitored(self) -> tuple[str, ...]:
        """Terms whose weighted sum on the stop rows chooses a member's weights."""
        return tuple(self.coefficients())

    def stopped_by(self, term: str) -> str:
        """What is said of a `term` that stopped a member."""
        del term
        return "ceased to be a number"

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """Health numbers of the code that are particular to this variant."""
        del batch
        return {}

    def profiles(self, batch: Batch) -> dict[str, Profile]:
        """Health numbers along a distance, a depth, the steps or the units, particular to this variant."""
        del batch
        return {}

    @property
    def corruption(self) -> str | None:
        """Name and level of what is done to inputs in training; None where nothing is."""
        return None

    def draw(self, count: int, noise: Noise) -> Float[Tensor, "members count latent"]:
        """`count` codes from the prior."""
        return noise.normal((len(noise.generators), count, self.latent_dim))

    def sample(self, count: int, noise: Noise) -> Batch:
        """Decode `count` draws from the prior; where lengths are modelled they are drawn too.

        Raises `LatentOpsError` where the variant has none.
        """
        if not self.has_prior:
            raise LatentOpsError(
                "this variant has no prior to sample from; variational and adversarial have one"
            )
        codes = self.draw(count, noise)
        values = self.likelihood.mean(self.decode(codes))
        if self.lengths is None:
            return Batch(values)
        drawn = Batch(values, self.lengths.drawn(codes, noise.normal(tuple(codes.shape[:2]))))
        return drawn.with_values(values * drawn.mask)
