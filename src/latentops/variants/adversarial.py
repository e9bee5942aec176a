"""Adversarial autoencoder: a discriminator holds the code to a prior.

What is asked of the code: to be indistinguishable from draws of a `prior` over all data while it still
reconstructs (Makhzani et al. 2016). The discriminator learns to tell prior draws from codes; the encoder
learns to deceive it, with the non-saturating loss (Goodfellow et al. 2014, §3).

Both learn in one backward pass: the discriminator sees the code detached, the encoder a discriminator whose
parameters are detached.

The game can diverge: a discriminator that is sure of itself has steep slopes and teaches nothing. Remedies
are spectral normalisation, a gradient penalty, label smoothing, instance noise, a learning rate of its own,
and the balance of the two players' weights. What diverges all the same is stopped.

Diagnosis: the discriminator's accuracy over time, 0.5 where it can't tell the code from the prior; and how
well they match by two tests that don't depend on it.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings
from latentops.variants.parts.discriminator import Discriminator
from latentops.variants.parts.prior_match import mmd, two_sample
from latentops.variants.parts.priors import PriorName, build_prior

MEMORY = 0.98
"""Share of the strain that is kept from step to step: it is an average over about 50."""

ROWS = 500
"""Samples that the prior's match is measured on, at most."""


class AdversarialSettings(VariantSettings):
    """How hard the game is played, against which prior, and what steadies it.

    `weight`: nats for each nat of deception; `hidden`: width of the discriminator's two layers;
    `prior`: what codes are held to; `components`: of a mixture, or categories;
    `spectral_norm`: whether the discriminator's slopes are held to 1 (Miyato et al. 2018);
    `gradient_penalty`: γ of R1 (Mescheder et al. 2018, eq. 9);
    `label_smoothing`: share by which the prior's label is below 1 (Salimans et al. 2016, §3.4);
    `instance_noise`: deviation, at first, of noise on all that the discriminator sees, falling to zero
    (Sønderby et al. 2017, appendix C);
    `discriminator_rate`: its learning rate over that of the rest;
    `strain_limit`: nats of deception or discrimination, averaged over about 50 steps, that stop a member.
    """

    weight: Annotated[float, Field(ge=0)]
    hidden: Annotated[int, Field(gt=0)]
    prior: PriorName = "gaussian"
    components: Annotated[int, Field(gt=1)] = 4
    spectral_norm: bool = False
    gradient_penalty: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    instance_noise: Annotated[float, Field(ge=0)] = 0.0
    discriminator_rate: Annotated[float, Field(gt=0)] = 1.0
    strain_limit: Annotated[float, Field(gt=0)] | None = None


class Variant(Autoencoder):
    """Reconstruction plus deception for encoder and decoder, discrimination for the discriminator."""

    Settings = AdversarialSettings
    settings: AdversarialSettings
    has_prior = True
    strain: Tensor

    def __init__(
        self,
        settings: AdversarialSettings,
        architecture: ArchitectureName,
        architectures: Architectures,
        shape: Shape,
        latent_dim: int,
        generators: Sequence[Generator],
        likelihood: LikelihoodSettings | LikelihoodName = "gaussian",
    ) -> None:
        self.prior = build_prior(settings.prior, latent_dim, settings.components)
        super().__init__(settings, architecture, architectures, shape, latent_dim, generators, likelihood)
        self.discriminator = Discriminator(
            latent_dim, settings.hidden, generators, settings.discriminator_rate, settings.spectral_norm
        )
        if settings.strain_limit is not None:
            self.register_buffer("strain", torch.zeros(len(generators)))

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """The encoder's outputs; where the prior is categorical, probabilities and style."""
        return self.prior.code(super().encode(batch))

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`deception` moves the encoder alone, `discrimination` the discriminator alone; in nats a sample.

        `slope` is half the squared gradient of the discriminator on prior draws, for R1.
        """
        codes = self.encode(batch)
        prior = self.prior.draw(noise, codes.shape[1])
        seen, drawn = self._blurred(codes, noise), self._blurred(prior, noise)
        if self.training:
            self.discriminator.iterate()
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        deceived = torch.func.functional_call(self.discriminator, frozen, (seen,))
        on_prior, on_codes = self.discriminator(drawn), self.discriminator(seen.detach())
        terms = {
            **self.likelihood_terms(batch, codes),
            "deception": functional.softplus(-deceived).mean(-1),
            "discrimination": (self._against_prior(on_prior) + functional.softplus(on_codes)).mean(-1),
            "discriminator_accuracy": _accuracy(on_prior, on_codes),
        }
        if self.settings.gradient_penalty:
            terms["slope"] = 0.5 * self.discriminator.squared_slope(drawn).mean(-1)
        return self._guarded(terms)

    def _blurred(self, codes: Tensor, noise: Noise) -> Tensor:
        """With instance noise, where there is any."""
        if not self.settings.instance_noise:
            return codes
        return codes + self.scheduled("instance_noise") * noise.normal(tuple(codes.shape))

    def _against_prior(self, logits: Tensor) -> Tensor:
        """Cross-entropy of what the discriminator says of prior draws, whose label may be below 1."""
        smoothed = self.settings.label_smoothing
        certain = functional.softplus(-logits)
        return certain if not smoothed else (1 - smoothed) * certain + smoothed * functional.softplus(logits)

    def _guarded(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms; of a member whose game has diverged the lost player's ceases to be a number.

        That is how the loop is told: it stops the member, names the term, and keeps its last good weights.
        """
        limit = self.settings.strain_limit
        if limit is None or not self.training:
            return terms
        losses = torch.maximum(terms["deception"], terms["discrimination"]).detach()
        self.strain.mul_(MEMORY).add_(losses * (1 - MEMORY))
        for name in ("deception", "discrimination"):
            lost = (self.strain > limit) & (terms[name].detach() == losses)
            terms[name] = terms[name].masked_fill(lost, torch.nan)
        return terms

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The encoder's deception is weighted; the discriminator plays for itself and is watched."""
        weights = {
            **super().coefficients(progress),
            "deception": self.settings.weight,
            "discrimination": 1.0,
            "discriminator_accuracy": 0.0,
        }
        penalty = self.settings.gradient_penalty
        return weights | ({"slope": penalty} if penalty else {})

    def schedules(self, progress: float = 1.0) -> dict[str, float]:
        """The instance noise, where there is any: it falls to zero in a straight line."""
        level = self.settings.instance_noise
        return {"instance_noise": level * (1 - progress)} if level else {}

    def monitored(self) -> tuple[str, ...]:
        """The likelihood alone: the two players' losses have no minimum to stop at."""
        return tuple(super().coefficients())

    def stopped_by(self, term: str) -> str:
        """A player's loss may have been finite and over its limit, averaged over the last steps."""
        limit = self.settings.strain_limit
        guarded = limit is not None and term in ("deception", "discrimination")
        return super().stopped_by(term) + (f" or was over strain_limit ({limit:g})" if guarded else "")

    def draw(self, count: int, noise: Noise) -> Float[Tensor, "members count latent"]:
        """`count` codes from the prior."""
        return self.prior.draw(noise, count)

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`discriminator_accuracy` on codes and as many prior draws; of some of them, how well they match:

        `prior_mmd`, and `two_sample_accuracy` of a classifier made for it, with its interval.
        """
        codes = self.encode(batch)
        members = codes.shape[0]
        noise = Noise([torch.Generator(codes.device).manual_seed(0) for _ in range(members)])
        draws = self.prior.draw(noise, codes.shape[1])
        told = two_sample(codes[:, :ROWS], draws[:, :ROWS])
        return {
            "discriminator_accuracy": _accuracy(self.discriminator(draws), self.discriminator(codes)),
            "prior_mmd": mmd(codes[:, :ROWS], draws[:, :ROWS]),
            "two_sample_accuracy": told.accuracy,
            "two_sample_low": told.low,
            "two_sample_high": told.high,
        }


def _accuracy(on_prior: Tensor, on_codes: Tensor) -> Float[Tensor, " members"]:
    """How often the logits say what is so."""
    return torch.cat([on_prior > 0, on_codes <= 0], dim=1).to(on_prior.dtype).mean(-1)
