"""Sparse autoencoder: of all latent units, only few may be active for any one sample.

What is asked of the code: units that are off unless what they stand for is there (Olshausen & Field 1996).
Three ways to ask for it, by `penalty`:

- `l1`: the absolute values of rectified units. L1 alone is met by shrinking the code and letting the decoder
  blow it up again, so each unit is divided by its own scale first: only being sparse lowers it.
- `kl`: the divergence of each sigmoid unit's mean from a target (Ng 2011, "Sparse autoencoder", §3).
- `top_k`: the largest few are kept, the others are off (Makhzani & Frey 2014, "k-Sparse Autoencoders").

The weight of a penalty is delicate, so a controller may hold the share of active units at a target. Units
that have died are revived (`revival.py`).

Diagnosis: active units a sample, dead units, Hoyer index (Hoyer 2004): too much sparsity kills units.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Generator, Tensor

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings
from latentops.variants.parts.revival import raise_bias, readers, resample, silence
from latentops.variants.parts.sparsity import HEAD_START, hoyer, keep_largest, kl_to_activity, normalised_l1

GAIN = 0.05
"""Share by which the controller changes the penalty's weight at a step, for activity that is off by 100 %."""

TOLERANCE = 0.1
"""Share by which activity may exceed its target on the stop rows before it counts against a member."""

EXCESS = 100.0
"""Nats for each 100 % beyond that: more than reconstruction gains by it."""

REVIVING = 0.75
"""Share of the steps in which units are revived; what is left is for them to learn."""


class SparseSettings(VariantSettings):
    """What makes the code sparse.

    `penalty`: what keeps units off; `activation`: of the units, `auto` is what the penalty needs;
    `l1`: nats for each unit of normalised L1, with the controller where it starts; `kl`: nats for each nat of
    divergence, likewise; `activity`: share of units wanted active, of sigmoid ones the mean;
    `controller`: whether the weight is changed while training so that `activity` is kept;
    `revive`: what brings dead units back; `dead_after`: steps without being active after which one is dead.
    """

    penalty: Literal["l1", "kl", "top_k"] = "l1"
    activation: Literal["auto", "relu", "sigmoid"] = "auto"
    l1: Annotated[float, Field(ge=0)] = 0.1
    kl: Annotated[float, Field(ge=0)] = 1.0
    activity: Annotated[float, Field(gt=0, lt=1)] = 0.5
    controller: bool = False
    revive: Literal["none", "bias", "resample"] = "none"
    dead_after: Annotated[int, Field(gt=0)] = 25

    @model_validator(mode="after")
    def _possible(self) -> Self:
        fitting = "sigmoid" if self.penalty == "kl" else "relu"
        if self.activation not in ("auto", fitting):
            why = (
                "a mean activity is one of units in (0, 1)" if fitting == "sigmoid" else "units must turn off"
            )
            raise ValueError(f"penalty: {self.penalty} needs activation: {fitting} (or auto): {why}")
        if self.controller and self.penalty == "top_k":
            raise ValueError("penalty: top_k has no weight to control: set controller: false")
        if self.controller and self.weight == 0:
            raise ValueError(
                f"controller: true starts from the weight {self.penalty}: 0 and can't leave it; "
                f"set {self.penalty} above 0, or controller: false"
            )
        return self

    @property
    def weight(self) -> float:
        """Of the penalty that is chosen."""
        return self.kl if self.penalty == "kl" else self.l1


class Variant(Autoencoder):
    """Units that can be off, reconstruction plus what keeps most of them so."""

    Settings = SparseSettings
    settings: SparseSettings

    def __init__(
        self,
        settings: SparseSettings,
        architecture: ArchitectureName,
        architectures: Architectures,
        shape: Shape,
        latent_dim: int,
        generators: Sequence[Generator],
        likelihood: LikelihoodSettings | LikelihoodName = "gaussian",
    ) -> None:
        super().__init__(settings, architecture, architectures, shape, latent_dim, generators, likelihood)
        self.start = 0.0 if settings.penalty == "kl" else HEAD_START
        self.kept = max(1, round(settings.activity * latent_dim))
        if settings.controller:
            self.register_buffer("pressure", torch.ones(len(generators)))
        if settings.revive != "none":
            self.register_buffer("quiet", torch.zeros(len(generators), latent_dim))
            self.readers = readers(self.decoder, len(generators), latent_dim)

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """Units that can be off; rectified ones are shifted, so that none is when training starts."""
        before = super().encode(batch) + self.start
        if self.settings.penalty == "kl":
            return torch.sigmoid(before)
        codes = torch.relu(before)
        return keep_largest(codes, self.kept) if self.settings.penalty == "top_k" else codes

    def active(self, codes: Float[Tensor, "members batch latent"]) -> Bool[Tensor, "members batch latent"]:
        """Which units are on: rectified ones above zero, sigmoid ones above a half."""
        return codes > (0.5 if self.settings.penalty == "kl" else 0.0)

    def activity(self, codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
        """What the controller holds: the share of active units, of sigmoid ones the mean."""
        shares = codes if self.settings.penalty == "kl" else self.active(codes).to(codes.dtype)
        return shares.detach().mean((1, 2))

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """The penalty by its name, times what the controller makes of its weight.

        With it comes `excess`, the share by which activity exceeds its target and tolerance: it has no
        gradient, but counts when a member's weights are chosen.
        """
        del noise
        codes = self.encode(batch)
        terms = self.likelihood_terms(batch, codes)
        if self.settings.penalty == "l1":
            terms["l1"] = normalised_l1(codes)
        elif self.settings.penalty == "kl":
            terms["kl"] = kl_to_activity(codes, self.settings.activity)
        if self.training and self.settings.revive != "none":
            off = 1 - self.active(codes).amax(1).to(codes.dtype)
            self.get_buffer("quiet").add_(1).mul_(off * self.scheduled("reviving"))
        if self.settings.controller:
            pressure, over = self.get_buffer("pressure"), self.activity(codes) / self.settings.activity - 1
            terms[self.settings.penalty] = terms[self.settings.penalty] * pressure.clone()
            terms["excess"] = torch.relu(over - TOLERANCE)
            if self.training:
                pressure.mul_(torch.exp(GAIN * over.clamp(-1, 1))).clamp_(1e-6, 1e6)
        return terms

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The penalty counts as its weight says from half-way on; units that are pressed at once die.

        What the controller makes of it (multiplicative, as Rezende & Viola 2018, "Taming VAEs", algorithm 1,
        hold a constraint) comes on top.
        """
        weights = super().coefficients(progress)
        if self.settings.penalty != "top_k":
            weights[self.settings.penalty] = self.settings.weight * min(1.0, 2 * progress)
        return weights | ({"excess": EXCESS} if self.settings.controller else {})

    def monitored(self) -> tuple[str, ...]:
        """What the controller's weight makes of the penalty isn't comparable between looks."""
        return (*super().coefficients(), "excess") if self.settings.controller else super().monitored()

    def schedules(self, progress: float = 1.0) -> dict[str, float]:
        """`reviving` is 1 as long as units may be revived, else 0."""
        return {} if self.settings.revive == "none" else {"reviving": float(progress < REVIVING)}

    def mend(self, batch: Batch, noise: Noise) -> None:
        """Revive the units that haven't been active for `dead_after` steps."""
        if self.settings.revive == "none":
            return
        quiet = self.get_buffer("quiet")
        dead = quiet >= self.settings.dead_after
        silence(self.readers, dead)
        if self.settings.revive == "bias":
            raise_bias(self.encoder, self.embed(batch), dead, self.start)
        else:
            errors = self.likelihood.mean_error(batch, self.reconstruct(batch))
            resample(self.encoder, self.embed(batch), dead, errors, noise, self.start)
        quiet.mul_(~dead)

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`active_units` a sample, `dead_units` over the batch, `hoyer` index; `pressure` on the weight."""
        codes = self.encode(batch)
        active = self.active(codes).to(codes.dtype)
        numbers = {
            "active_units": active.sum(-1).mean(-1),
            "dead_units": (active.sum(1) == 0).to(codes.dtype).sum(-1),
            "hoyer": hoyer(codes),
        }
        if self.settings.controller:
            numbers["penalty_weight"] = self.settings.weight * self.get_buffer("pressure")
        return numbers
