"""Variants ranked over several datasets: Friedman's test, and how far apart two mean ranks have to be.

After Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentops.evaluation.statistics import Array

DECIMALS = 12
"""What metrics are rounded to before they are ranked, so that sums in another order still tie."""


@dataclass(frozen=True)
class Friedman:
    """Friedman's statistic, corrected for ties, and its p-value by Iman & Davenport's F (1980)."""

    statistic: float
    p_value: float


def ranks(values: Array) -> Array:
    """Ranks of `values` `[datasets, variants]`, likewise: 1 for the highest, ties share their mean."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.round(values, DECIMALS), axis=1), dtype=np.float64)


def friedman(ranked: Array) -> Friedman:
    """Whether variants differ at all, from their `ranked` places `[datasets, variants]`.

    The chi-squared approximation is too careful for few datasets, so the F distribution is asked. Raises
    `ValueError` for fewer than three variants or two datasets.
    """
    from scipy.stats import f, friedmanchisquare

    datasets, variants = ranked.shape
    if variants < 3 or datasets < 2:
        raise ValueError("Friedman's test takes at least three variants on two datasets")
    if not np.ptp(ranked, axis=1).any():  # all tie on every dataset
        return Friedman(0.0, 1.0)
    statistic = float(friedmanchisquare(*ranked.T).statistic)
    left = datasets * (variants - 1) - statistic
    ratio = (datasets - 1) * statistic / left if left > 1e-9 else math.inf
    return Friedman(statistic, float(f.sf(ratio, variants - 1, (variants - 1) * (datasets - 1))))


def critical_difference(variants: int, datasets: int, confidence: float) -> float:
    """How far two of `variants` mean ranks over `datasets` have to be apart (Nemenyi 1963)."""
    from scipy.stats import studentized_range

    range_ = float(studentized_range.ppf(confidence, variants, math.inf))
    return range_ / math.sqrt(2) * math.sqrt(variants * (variants + 1) / (6 * datasets))


def groups(mean_ranks: Sequence[float], apart: float) -> list[list[int]]:
    """Places in `mean_ranks`, best first, of those that lie less than `apart` from one another.

    Only the largest groups; one may be in several, since being alike doesn't carry over.
    """
    order = sorted(range(len(mean_ranks)), key=lambda index: mean_ranks[index])
    found: list[list[int]] = []
    for start, first in enumerate(order):
        group = [other for other in order[start:] if mean_ranks[other] - mean_ranks[first] < apart]
        if not found or group[-1] not in found[-1]:
            found.append(group)
    return found
