"""Are these codes from this prior? Two tests of two samples."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CONFIDENT = 1.959964
"""Standard deviations to either side that hold 95 % of a normal distribution."""


def mmd(
    codes: Float[Tensor, "members n latent"], draws: Float[Tensor, "members n latent"]
) -> Float[Tensor, " members"]:
    """Squared maximum mean discrepancy, unbiased: 0 on average where both are from one distribution.

    (Gretton et al. 2012, eq. 3.) Under the kernel ``exp(-d² / 2m²)`` with m the median distance of the
    two samples taken together (§8).
    """
    both = torch.cat([codes, draws], dim=1)
    squares = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()
    count = codes.shape[1]
    among = torch.triu_indices(2 * count, 2 * count, 1, device=codes.device)
    median = squares[:, among[0], among[1]].median(dim=-1).values.view(-1, 1, 1)
    kernel = torch.exp(-squares / (2 * median.clamp_min(1e-12)))
    within = [kernel[:, part, part] for part in (slice(count), slice(count, None))]
    own = sum((each.sum((1, 2)) - count) / (count * (count - 1)) for each in within)
    return own - 2 * kernel[:, :count, count:].mean((1, 2))


@dataclass(frozen=True)
class Told:
    """How often a classifier told codes from prior draws `[members]`, with its 95 % interval."""

    accuracy: Float[Tensor, " members"]
    low: Float[Tensor, " members"]
    high: Float[Tensor, " members"]


def two_sample(codes: Float[Tensor, "members n latent"], draws: Float[Tensor, "members n latent"]) -> Told:
    """Accuracy of nearest neighbours on the half of each that they weren't given; 0.5 can't tell them apart.

    (Lopez-Paz & Oquab 2017, §3; as many neighbours as the root of what is known.) The interval is
    Wilson's (1927) for a share of independent trials.
    """
    half = min(codes.shape[1], draws.shape[1]) // 2
    known = torch.cat([codes[:, :half], draws[:, :half]], dim=1)
    asked = torch.cat([codes[:, half : 2 * half], draws[:, half : 2 * half]], dim=1)
    neighbours = (math.isqrt(2 * half) - 1) // 2 * 2 + 1  # odd: no ties
    nearest = torch.cdist(asked, known).topk(neighbours, dim=-1, largest=False).indices
    says_prior: Bool[Tensor, "members asked"] = (nearest >= half).sum(-1) > neighbours // 2
    is_prior = torch.arange(2 * half, device=codes.device) >= half
    accuracy = (says_prior == is_prior).to(codes.dtype).mean(-1)
    return Told(accuracy, *wilson(accuracy, 2 * half))


def wilson(share: Float[Tensor, "*of"], trials: int) -> tuple[Float[Tensor, "*of"], Float[Tensor, "*of"]]:
    """Interval of a share of `trials` (Wilson 1927; Brown et al. 2001, eq. 4)."""
    weight = CONFIDENT**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = CONFIDENT / (1 + weight) * torch.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return centre - half, centre + half
