"""Variational autoencoder: a generative model whose encoder approximates the posterior of the code.

What is asked of the code: to be as informative as it is worth in nats, and N(0, I) over all data, so that
codes drawn from the prior decode to new samples. Minimises the negative evidence lower bound with the
reparameterised gradient (Kingma & Welling 2014, eq. 10; the KL term in closed form, appendix B).

A unit is worth its nats only once the decoder uses it, and the decoder uses it only once it tells something:
where the KL term outweighs that start, the posterior becomes the prior and stays it. Remedies are a smaller
`beta`, its `warmup`, `free_bits`, or a `capacity` that the KL is held to.

Diagnosis: active units (Burda et al. 2016, §4.2), nats in all and by unit, the information that a code has
about its sample, how tight the bound is, and how much the reparameterised gradient varies less than the score
function's.
"""

import math
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, Profile, VariantSettings
from latentops.variants.parts import evidence

ACTIVE = 0.01
"""A unit is active where its posterior mean varies more than this over the data (Burda et al. 2016)."""


class VariationalSettings(VariantSettings):
    """How much the KL term counts, and what keeps the code from collapsing.

    `beta`: weight of the KL term (Higgins et al. 2017), 1 is the bound itself;
    `warmup`: whether it rises from 0 once (linear; Bowman et al. 2016) or again and again (cyclic; Fu et al.
    2019); `ramp`: share of the steps, or of a cycle, in which it or the capacity rises; `cycles`: of a cyclic
    warm-up; `free_bits`: nats of each unit that cost nothing (Kingma et al. 2016); `capacity`: nats that the
    KL is held to (Burgess et al. 2018), none if null.
    """

    beta: Annotated[float, Field(ge=0)]
    warmup: Literal["none", "linear", "cyclic"] = "none"
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.5
    cycles: Annotated[int, Field(gt=0)] = 4
    free_bits: Annotated[float, Field(ge=0)] = 0.0
    capacity: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _remedies_do_not_contradict(self) -> Self:
        if self.capacity is not None and self.free_bits:
            raise ValueError("capacity and free_bits both say what the KL may cost; set free_bits: 0")
        if self.capacity is not None and self.warmup != "none":
            raise ValueError("capacity rises by itself, over the share `ramp`; set warmup: none")
        if self.beta == 0 and (self.capacity is not None or self.free_bits or self.warmup != "none"):
            raise ValueError("beta: 0 leaves the KL out; warmup, free_bits and capacity need a beta above 0")
        return self


def kl_to_standard_normal(
    mean: Float[Tensor, "members batch latent"], log_variance: Float[Tensor, "members batch latent"]
) -> Float[Tensor, "members batch latent"]:
    """``KL(N(mean, exp(log_variance)) ‖ N(0, 1))`` of each unit, in nats."""
    return 0.5 * (mean**2 + torch.exp(log_variance) - 1 - log_variance)


def risen(progress: float, ramp: float, cycles: int = 1) -> float:
    """From 0 to 1 over the share `ramp` of each of the `cycles`, then 1 (Fu et al. 2019, eq. 6 and 7)."""
    cycle = max(0, math.ceil(progress * cycles) - 1)  # at its very end a cycle isn't the next one yet
    return min(1.0, (progress * cycles - cycle) / ramp)


class Variant(Autoencoder):
    """Gaussian encoder, reparameterised; the code that is judged is the posterior's mean."""

    Settings = VariationalSettings
    settings: VariationalSettings
    heads = 2
    has_prior = True

    def posterior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code, each `[members, batch, latent]`."""
        mean, log_variance = self.encoder(self.embed(batch)).chunk(2, dim=-1)
        return mean, log_variance.clamp(-12, 6)

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """The posterior's mean."""
        return self.posterior(batch)[0]

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`reconstruction` of a reparameterised draw, and the KL as `cost` counts it."""
        mean, log_variance = self.posterior(batch)
        codes = mean + torch.exp(0.5 * log_variance) * noise.normal(tuple(mean.shape))
        kl = kl_to_standard_normal(mean, log_variance)
        return {**self.likelihood_terms(batch, codes), self.cost: self._cost(kl)}

    @property
    def cost(self) -> str:
        """Name of the term that the KL is counted by: `kl`, `kl_above_free_bits` or `capacity_gap`."""
        if self.settings.capacity is not None:
            return "capacity_gap"
        return "kl_above_free_bits" if self.settings.free_bits else "kl"

    def _cost(self, kl: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
        """``KL``, or ``|KL - C|`` (Burgess et al. 2018, eq. 8), or ``Σ_j max(λ, KL_j) - λ``.

        (Kingma et al. 2016, eq. 15, where a unit's KL is its mean over the batch; λ itself is no cost.)
        """
        if self.settings.capacity is not None:
            return (kl.sum(-1).mean(-1) - self.scheduled("capacity")).abs()
        if self.settings.free_bits:
            return (kl.mean(1) - self.settings.free_bits).clamp_min(0).sum(-1)
        return kl.sum(-1).mean(-1)

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The reconstruction counts once, the KL as often as `beta` and its warm-up say."""
        beta, ramp = self.settings.beta, self.settings.ramp
        if self.settings.warmup != "none":
            beta *= risen(progress, ramp, self.settings.cycles if self.settings.warmup == "cyclic" else 1)
        return {**super().coefficients(progress), self.cost: beta}

    def schedules(self, progress: float = 1.0) -> dict[str, float]:
        """The capacity in nats, where there is one."""
        capacity = self.settings.capacity
        return {} if capacity is None else {"capacity": capacity * risen(progress, self.settings.ramp)}

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`active_units`; `kl`, in all and of the least and most costly unit; in nats of the first samples:

        `mutual_information` of code and sample, the `elbo`, and the tighter `importance_weighted` bound; and
        `gradient_variance_ratio`: the score function's gradient's variance over the reparameterised one's.
        """
        mean, log_variance = self.posterior(batch)
        kl = kl_to_standard_normal(mean, log_variance)
        by_unit = kl.mean(1)
        some = evidence.first(batch, evidence.SAMPLES)
        noise = Noise([torch.Generator(mean.device).manual_seed(0) for _ in range(len(mean))])
        crossed = evidence.CROSSED
        weights = evidence.log_weights(self, some, *self.posterior(some), noise)
        fewer = evidence.first(batch, evidence.DIFFERENTIATED)
        found = {
            "active_units": (mean.var(dim=1) > ACTIVE).to(mean.dtype).sum(-1),
            "kl": kl.sum(-1).mean(-1),
            "kl_unit_least": by_unit.amin(-1),
            "kl_unit_most": by_unit.amax(-1),
            "mutual_information": evidence.mutual_information(
                mean[:, :crossed], log_variance[:, :crossed], noise
            ),
            "elbo": evidence.importance_weighted(weights, draws=1),
            "importance_weighted": evidence.importance_weighted(weights),
        }
        ratio = evidence.gradient_variance_ratio(self, fewer, *self.posterior(fewer), noise)
        return found | {"gradient_variance_ratio": ratio}

    def profiles(self, batch: Batch) -> dict[str, Profile]:
        """`kl_by_unit`: nats of each unit, the most costly first."""
        by_unit = kl_to_standard_normal(*self.posterior(batch)).mean(1).sort(-1, descending=True).values
        units = [str(rank + 1) for rank in range(self.latent_dim)]
        return {"kl_by_unit": Profile(units, by_unit, "unit, by its KL", "nats")}
