"""Contractive autoencoder: small changes of the input should hardly change the code.

What is asked of the code: to be insensitive in every direction but those that reconstruction needs, by a
penalty on the squared Frobenius norm of the encoder's Jacobian (Rifai et al. 2011, eq. 5), found exactly or
estimated (Hutchinson 1990).

Where the decoder has weights of its own, that is met for the most part by shrinking the code, which it blows
up again; Rifai et al. tie them to the encoder's. `scale: free` takes the norm over the code's own variation
instead: it can only be lowered by contracting some directions more than those that the data varies in.

Tokens have no small changes: there the Jacobian is by the numbers that they are read as.

Diagnosis: that norm on held-out data, how many directions it leaves, how much less the code moves near the
data than far from it, and the variation left in the code: too much contraction collapses it.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.config import Count, Fraction
from latentops.variants.autoencoder import Autoencoder, Noise, Profile, VariantSettings
from latentops.variants.parts.jacobian import (
    TYPICAL_BATCH,
    Slopes,
    Way,
    cheapest_way,
    closed_norm,
    contraction_ratio,
    estimate_deviation,
    estimated_norm,
    exact_way,
    jacobian,
    singular_values,
)

DIAGNOSED = 256
"""Rows that a diagnosis looks at, at most: whole Jacobians take room."""

NEAR, FAR = 0.1, 1.0
"""Distances from the data over that of a typical sample from the mean."""

DISTANCES = (0.03, NEAR, 0.3, FAR, 3.0)
"""Such distances, from next to the data to beyond all of it."""


class ContractiveSettings(VariantSettings):
    """`weight`: nats for each unit of the squared norm;

    `warmup`: share of the steps in which the weight rises to that, linearly;
    `norm`: exact (in closed form of all rows where there is one), estimate (of all rows), or auto: exact
    unless that costs several times as much, by a rule on sizes (`parts.jacobian.cheapest_way`);
    `samples`: rows of a batch that an exact norm without a closed form is taken on;
    `draws`: of signs, that an estimate is the mean of: its variance falls with them, and each takes a pass;
    `code`: the encoder's output (linear), or its sigmoid as in Rifai et al. 2011;
    `scale`: as_is, or free, which penalises ``mean ‖J‖² σ² / Σ_j var(z_j)`` with σ² the variance of the data:
    it stays the same when the code is scaled.
    """

    weight: Annotated[float, Field(ge=0)]
    warmup: Fraction = 0.0
    norm: Literal["auto", "exact", "estimate"] = "auto"
    samples: Annotated[int, Field(gt=0, multiple_of=16)]
    draws: Count = 1
    code: Literal["linear", "sigmoid"] = "linear"
    scale: Literal["as_is", "free"] = "as_is"


class Variant(Autoencoder):
    """Reconstruction plus the squared norm of the encoder's Jacobian."""

    Settings = ContractiveSettings
    settings: ContractiveSettings

    @property
    def linear(self) -> bool:
        """Whether the code is the encoder's output itself."""
        return self.settings.code == "linear"

    @property
    def way(self) -> Way:
        """How the norm is found in training."""
        if self.settings.norm == "estimate":
            return "estimate"
        sizes = self.encoder, self.shape.ragged, self.linear
        if self.settings.norm == "exact":
            return exact_way(*sizes)
        return cheapest_way(*sizes, self.latent_dim, self.settings.samples, self.settings.draws)

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """The encoder's output, or its sigmoid."""
        return self.code(self.embed(batch))

    def code(self, seen: Batch) -> Float[Tensor, "members batch latent"]:
        """The code of what the encoder reads."""
        codes: Tensor = self.encoder(seen)
        return codes if self.linear else torch.sigmoid(codes)

    def slopes(self, codes: Float[Tensor, "members batch latent"]) -> Slopes:
        """Derivative of the code by the encoder's output."""
        return None if self.linear else codes * (1 - codes)

    def jacobian(self, batch: Batch) -> Float[Tensor, "members batch latent values"]:
        """``∂z/∂x`` of each sample by its valid values, of tokens by their vectors."""
        seen = self.embed(batch)
        return jacobian(self.encoder, seen, self.slopes(self.code(seen)))

    def squared_jacobian_norm(self, batch: Batch) -> Float[Tensor, "members batch"]:
        """``‖∂z/∂x‖²_F`` of each sample, over its valid values, exact and differentiable."""
        seen = self.embed(batch)
        return self._exact_norm(seen, self.slopes(self.code(seen)))

    def _exact_norm(self, seen: Batch, slopes: Slopes) -> Float[Tensor, "members batch"]:
        if exact_way(self.encoder, self.shape.ragged, self.linear) == "closed":
            return closed_norm(self.encoder, seen, slopes)
        return jacobian(self.encoder, seen, slopes).square().sum((2, 3))

    def codes_and_estimate(self, batch: Batch, noise: Noise) -> tuple[Tensor, Float[Tensor, "members batch"]]:
        """Codes, and an estimate of each sample's squared norm."""
        seen = self.embed(batch)
        sizes = self.latent_dim, self.linear, self.settings.draws
        return estimated_norm(self.encoder, self.code, seen, noise, *sizes)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`contraction` is the mean squared Jacobian norm over the batch or the first `samples` of it."""
        way = self.way
        if way == "estimate":
            codes, norms = self.codes_and_estimate(batch, noise)
            return self._terms(batch, codes, norms)
        seen = self.embed(batch)
        codes = self.code(seen)
        slopes = self.slopes(codes)  # of whole batches: a sigmoid's bytes depend on how many there are
        part = slice(None if way == "closed" else self.settings.samples)
        norms = self._exact_norm(_rows(seen, part), None if slopes is None else slopes[:, part])
        return self._terms(batch, codes, norms)

    def _terms(self, batch: Batch, codes: Tensor, norms: Tensor) -> dict[str, Float[Tensor, " members"]]:
        contraction = norms.mean(-1)
        if self.settings.scale == "free":
            contraction = self.scale_free(contraction, codes)
        return {**self.likelihood_terms(batch, codes), "contraction": contraction}

    def scale_free(
        self, norm: Float[Tensor, " members"], codes: Float[Tensor, "members batch latent"]
    ) -> Float[Tensor, " members"]:
        """A mean squared norm over the code's variance for each unit of the data's."""
        variance = (codes - codes.mean(1, keepdim=True)).square().mean(1).sum(-1)
        return norm * self.shape.spread**2 / variance.clamp_min(1e-12)

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The reconstruction counts once, the squared norm as often as `weight` says once it is warm."""
        warmup = self.settings.warmup
        risen = 1.0 if progress >= warmup else progress / warmup
        return {**super().coefficients(progress), "contraction": self.settings.weight * risen}

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """Of the Jacobian J and the code, on up to `DIAGNOSED` rows.

        `jacobian_norm`: root of the mean of ‖J‖²; `contraction`: that mean, free of scale; `jacobian_rank`:
        directions that J keeps, as the exponential of its singular values' entropy (Roy & Vetterli 2007);
        `jacobian_top`: share of ‖J‖² in the first of them; `estimate_error`: root mean square, over all
        signs, of what an estimate of a batch of `TYPICAL_BATCH` is off, over the norm; `estimated`: 1 where
        training goes by such estimates; `contraction_near` and `contraction_far`: how far the code moves for
        a move of the input, a short and a long one; `code_variance`: mean over units.
        """
        some = self._seen(batch)
        seen = self.embed(some)
        whole = self.jacobian(some).detach()
        values = singular_values(whole)
        squares = values.square()
        norms = squares.sum(-1)
        shares = values / values.sum(-1, keepdim=True).clamp_min(1e-12)
        members = len(batch.values)
        noise = Noise([torch.Generator(batch.values.device).manual_seed(0) for _ in range(members)])
        mean, codes = norms.mean(-1), self.encode(batch)
        typical = self._typical(seen)
        return {
            "jacobian_norm": mean.sqrt(),
            "contraction": self.scale_free(mean, codes),
            "jacobian_rank": (torch.special.entr(shares).sum(-1).exp() * (norms > 0)).mean(-1),
            "jacobian_top": (squares[..., 0] / norms.clamp_min(1e-12)).mean(-1),
            "estimate_error": estimate_deviation(whole, TYPICAL_BATCH, self.settings.draws),
            "estimated": torch.full_like(mean, float(self.way == "estimate")),
            "contraction_near": contraction_ratio(self.code, seen, NEAR * typical, noise).mean(-1),
            "contraction_far": contraction_ratio(self.code, seen, FAR * typical, noise).mean(-1),
            "code_variance": codes.var(dim=1).mean(-1),
        }

    def profiles(self, batch: Batch) -> dict[str, Profile]:
        """`contraction_ratio` by the distance that the input is moved, and `singular_values` of the Jacobian.

        Both are means over up to `DIAGNOSED` rows; the values are ranked row by row.
        """
        some = self._seen(batch)
        seen = self.embed(some)
        noise = Noise([torch.Generator(batch.values.device).manual_seed(0) for _ in range(len(batch.values))])
        typical = self._typical(seen)
        ratios = [contraction_ratio(self.code, seen, each * typical, noise).mean(-1) for each in DISTANCES]
        values = singular_values(self.jacobian(some).detach()).mean(1)
        return {
            "contraction_ratio": Profile(
                DISTANCES,
                torch.stack(ratios, dim=-1),
                "distance (1: a sample's from the mean)",
                "move of the code over that of the input",
            ),
            "singular_values": Profile(
                [str(rank + 1) for rank in range(values.shape[-1])], values, "rank", "singular value"
            ),
        }

    def _seen(self, batch: Batch) -> Batch:
        rows = batch.values.shape[1]
        return _rows(batch, slice(None, None, -(-rows // DIAGNOSED)))

    def _typical(self, batch: Batch) -> Float[Tensor, "members batch"]:
        """Distance of a sample of so many valid values from the mean."""
        return self.shape.spread * batch.mask.expand_as(batch.values).flatten(2).sum(-1).sqrt()


def _rows(batch: Batch, part: slice) -> Batch:
    return Batch(batch.values[:, part], None if batch.lengths is None else batch.lengths[:, part])
