"""Are two sets of rows of one distribution? Tests whose p-values are true at any size.

Codes and scores are asked about by permutation: where there is no difference, which set a row is of is
chance, so that the statistic of the true sets is one among those of the sets shared out anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from latentops.evaluation.classifier import Classifiers

PERMUTATIONS = 9_999
"""How often rows are shared out anew, so that no p-value is below one in ten thousand."""

LOOKED_AT = 1_000
"""Rows of each set that are looked at, at most, drawn at random."""

FEWEST = 10
"""Rows of each set without which nothing is tested."""

RARE = 5
"""Rows of both sets together that a category counts by itself from (Cochran 1954)."""


@dataclass(frozen=True)
class Found:
    """What a test found: its statistic, and how likely one at least as large is where nothing differs."""

    statistic: float
    p_value: float


def classifier_test(
    known: NDArray[np.floating], new: NDArray[np.floating], permutations: int = PERMUTATIONS
) -> Found:
    """Can a classifier tell the rows of `known` `[n, d]` from those of `new` `[m, d]`?

    (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests".) It learns from half of each set; the
    statistic is the AUROC on the other halves, 0.5 where it can't tell, whose rows are shared out anew.
    """
    first, second = (torch.from_numpy(rows).float() for rows in _looked_at(known, new))
    pooled = torch.cat([first, second])
    scale, centre = torch.std_mean(pooled, dim=0)
    first, second = ((rows - centre) / scale.clamp_min(1e-12) for rows in (first, second))
    halves = [(rows[: len(rows) // 2], rows[len(rows) // 2 :]) for rows in (first, second)]
    # As many of each set, or the classifier would learn which is the larger.
    counts = [len(learned) for learned, _ in halves]
    learned = torch.cat([rows[torch.arange(max(counts)) % len(rows)] for rows, _ in halves])
    labels = torch.arange(2).repeat_interleave(max(counts))
    classifier = Classifiers.fit(learned[None], labels[None], 2)
    asked = torch.cat([rows for _, rows in halves])
    logits = classifier.logits(asked[None])[0]
    ranks = _ranks((logits[:, 1] - logits[:, 0]).double())
    is_new = torch.arange(len(asked)) >= len(halves[0][1])
    positives = int(is_new.sum())
    shared = _shared_out(is_new, permutations)
    sums = torch.cat([ranks[is_new].sum()[None], shared @ ranks])
    aurocs = (sums - positives * (positives + 1) / 2) / (positives * (len(asked) - positives))
    return _found(aurocs)


def kernel_test(
    known: NDArray[np.floating], new: NDArray[np.floating], permutations: int = PERMUTATIONS
) -> Found:
    """How far apart are the mean embeddings of `known` `[n, d]` and `new` `[m, d]`?

    The unbiased squared maximum mean discrepancy under a Gaussian kernel as wide as the median distance of
    all rows (Gretton et al. 2012, "A kernel two-sample test", eq. 3 and §8).
    """
    first, second = (torch.from_numpy(rows).double() for rows in _looked_at(known, new))
    pooled = torch.cat([first, second])
    scale, centre = torch.std_mean(pooled, dim=0)
    scaled = (pooled - centre) / scale.clamp_min(1e-12)
    squares = torch.cdist(scaled, scaled).square()
    upper = torch.triu_indices(len(pooled), len(pooled), offset=1)
    kernel = torch.exp(-squares / (2 * squares[upper[0], upper[1]].median()).clamp_min(1e-12))
    kernel.fill_diagonal_(0)
    is_new = torch.arange(len(pooled)) >= len(first)
    shared = torch.cat([is_new.double()[None], _shared_out(is_new, permutations)])
    n, m = len(first), len(second)
    # In float32 the many products take a quarter of the time, and round by less than 1e-6 of their size.
    reached = (shared.float() @ kernel.float()).double()
    of_new = (reached * shared).sum(1)
    between = reached.sum(1) - of_new
    of_known = kernel.sum() - of_new - 2 * between
    return _found(of_known / (n * (n - 1)) + of_new / (m * (m - 1)) - 2 * between / (n * m))


def column_test(known: Sequence[object], new: Sequence[object], *, numeric: bool) -> Found:
    """Does one column differ? Its missing values count as a value of their own.

    Numbers by the greatest difference of the distribution functions (Kolmogorov–Smirnov), where a missing one
    lies below all others; categories by Pearson's χ², of which the statistic is Cramér's V, 0 to 1.
    """
    from scipy.stats import chi2_contingency, ks_2samp

    if numeric:
        numbers = (np.asarray(values, dtype=np.float64) for values in (known, new))
        found = ks_2samp(*(np.where(np.isnan(values), -np.inf, values) for values in numbers))
        return Found(float(found.statistic), float(found.pvalue))
    names, places = np.unique([str(each) for each in (*known, *new)], return_inverse=True)
    counts = [np.bincount(part, minlength=len(names)) for part in np.split(places, [len(known)])]
    table = np.stack(counts)
    rare = table.sum(axis=0) < RARE
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    if table.shape[1] < 2:
        return Found(0.0, 1.0)
    result = chi2_contingency(table, correction=False)
    return Found(float(np.sqrt(result.statistic / table.sum())), float(result.pvalue))


def _looked_at(*sets: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Of each set the rows that are looked at, in random order."""
    random = np.random.default_rng(0)
    return [rows[random.permutation(len(rows))[:LOOKED_AT]] for rows in sets]


def _shared_out(is_new: Tensor, permutations: int) -> Float[Tensor, "permutations rows"]:
    """As many rows as are new, drawn at random, so many times: 1 for those."""
    random = torch.Generator().manual_seed(0)
    keys = torch.rand(permutations, len(is_new), generator=random)
    drawn = keys.topk(int(is_new.sum()), dim=1).indices
    return torch.zeros(permutations, len(is_new), dtype=torch.float64).scatter_(1, drawn, 1.0)


def _ranks(values: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """From 1; equal values share the mean of theirs."""
    _, places, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts - 1) / 2)[places]


def _found(statistics: Float[Tensor, " permutations"]) -> Found:
    """The first is of the true sets (Phipson & Smyth 2010: the true one is one of those it is among)."""
    reached = int((statistics >= statistics[0] - 1e-12).sum())
    return Found(float(statistics[0]), reached / len(statistics))
