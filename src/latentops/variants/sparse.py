"""Sparse autoencoder: of all latent units, only few may be active for any one sample.

What is asked of the code: units that are zero unless what they stand for is there (Olshausen & Field 1996;
Ng 2011, "Sparse autoencoder"). The units are rectified and their absolute values are penalised (L1).

L1 alone is met by shrinking the code and letting the decoder blow it up again, so the penalty is taken on the
code divided by its own scale: it can only be lowered by being sparse.

Diagnosis: active units a sample, dead units, Hoyer index (Hoyer 2004): too much sparsity kills units.
"""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings

HEAD_START = 2.0
"""A rectified unit that starts off gets no gradient and stays off."""


class SparseSettings(VariantSettings):
    """`l1`: nats for each unit of the normalised absolute code."""

    l1: Annotated[float, Field(ge=0)]


def normalised_l1(codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
    """Mean over samples of ``Σ_j |z_j| / rms(z)``; unchanged when all codes are scaled."""
    scale = codes.pow(2).mean(dim=(1, 2), keepdim=True).clamp_min(1e-12).sqrt()
    return (codes / scale).abs().sum(-1).mean(-1)


def hoyer(codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
    """Mean Hoyer index: 1 for one active unit, 0 for all equal (Hoyer 2004, eq. in §3.1)."""
    root = math.sqrt(codes.shape[-1])
    ratio = codes.abs().sum(-1) / codes.norm(dim=-1).clamp_min(1e-12)
    return ((root - ratio) / (root - 1)).mean(-1)


class Variant(Autoencoder):
    """Rectified code, reconstruction plus normalised L1."""

    Settings = SparseSettings
    settings: SparseSettings

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """Rectified, so that a unit can be exactly off; shifted, so that none is when training starts."""
        return torch.relu(super().encode(batch) + HEAD_START)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`l1` is the scale-free absolute sum of the code."""
        del noise
        codes = self.encode(batch)
        return {
            "reconstruction": self.nats(batch, codes),
            "l1": normalised_l1(codes),
        }

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The absolute code counts as `l1` says from half-way on; units that are pressed at once die."""
        return {"reconstruction": 1.0, "l1": self.settings.l1 * min(1.0, 2 * progress)}

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`active_units` a sample, `dead_units` over the batch, `hoyer` index."""
        codes = self.encode(batch)
        active = (codes > 0).to(codes.dtype)
        return {
            "active_units": active.sum(-1).mean(-1),
            "dead_units": (active.sum(1) == 0).to(codes.dtype).sum(-1),
            "hoyer": hoyer(codes),
        }
