"""What makes a code sparse, and what shows that it is."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latentops.variants.autoencoder import Autoencoder

HEAD_START = 2.0
"""A rectified unit that starts off gets no gradient and stays off."""


def normalised_l1(codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
    """Mean over samples of ``Σ_j |z_j| / rms(z_j)``, each unit over its own scale in the batch.

    Unchanged when units are scaled, each by its own factor: with one scale for all of them it could be
    lowered by making one unit large, and the code would lose its rank.
    """
    scale = codes.pow(2).mean(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
    return (codes / scale).abs().sum(-1).mean(-1)


def kl_to_activity(codes: Float[Tensor, "members batch latent"], target: float) -> Float[Tensor, " members"]:
    """``Σ_j ρ log(ρ/ρ̂_j) + (1-ρ) log((1-ρ)/(1-ρ̂_j))``, ρ̂_j unit j's mean over the batch (Ng 2011, §3)."""
    mean = codes.mean(1).clamp(1e-6, 1 - 1e-6)
    on = target * (math.log(target) - mean.log())
    off = (1 - target) * (math.log(1 - target) - (1 - mean).log())
    return (on + off).sum(-1)


def keep_largest(
    codes: Float[Tensor, "members batch latent"], count: int
) -> Float[Tensor, "members batch latent"]:
    """The `count` largest of each sample's units, the others zero."""
    smallest = codes.detach().topk(count, dim=-1).values[..., -1:]
    return codes * (codes >= smallest).to(codes.dtype)


def hoyer(codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, " members"]:
    """Mean Hoyer index: 1 for one active unit, 0 for all equal (Hoyer 2004, eq. in §3.1).

    A sample without an active unit counts as 1.
    """
    root = math.sqrt(codes.shape[-1])
    ratio = codes.abs().sum(-1) / codes.norm(dim=-1).clamp_min(1e-12)
    return ((root - ratio.clamp_min(1.0)) / max(root - 1, 1e-12)).mean(-1)


def dictionary(
    model: Autoencoder, sizes: Float[Tensor, "members latent"]
) -> Float[Tensor, "members latent ..."]:
    """What each unit alone adds to the reconstruction: decode(unit) - decode(0), of the input's shape.

    Of tokens it is what each adds to their logits. `sizes` are how far each unit is turned on, such as its
    mean where it is active; any variant has one.
    """
    alone, nothing = model.decode(torch.diag_embed(sizes)), model.decode(torch.zeros_like(sizes).unsqueeze(1))
    if model.embedding is not None:
        return alone - nothing
    return model.likelihood.mean(alone) - model.likelihood.mean(nothing)


def active_means(
    codes: Float[Tensor, "members batch latent"], active: Bool[Tensor, "members batch latent"]
) -> Float[Tensor, "members latent"]:
    """Mean of each unit over the samples in which it is active; 0 of a dead one."""
    on = active.to(codes.dtype)
    return (codes * on).sum(1) / on.sum(1).clamp_min(1)
