"""Metrics with intervals: seeds and test items are resampled together, the same for all that is compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def auroc(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often an anomaly scores above a normal, ties counting half.

    0.5 for a constant score; NaN where one of the two kinds is missing.
    """
    wins = _wins(scores, anomalous)
    return float(wins.mean()) if wins.size else float("nan")


def _wins(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`[anomalies, normals]`: 1 where the anomaly scores higher, 0.5 where they tie."""
    high, low = scores[anomalous][:, None], scores[~anomalous][None, :]
    return np.asarray((high > low) + 0.5 * (high == low), dtype=np.float32)


@dataclass(frozen=True)
class Resampling:
    """Bootstrap weights: `items` `[resamples, test]` drawn in each class, `seeds` `[resamples, seeds]`."""

    items: NDArray[np.float32]
    seeds: Array

    @classmethod
    def draw(cls, labels: NDArray[np.int64], seeds: int, resamples: int, seed: int) -> "Resampling":
        """One draw for all that is compared on these test items `labels` `[test]`."""
        random = np.random.default_rng(seed)
        items = np.zeros((resamples, len(labels)), dtype=np.float32)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            items[:, rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
        weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
        return cls(items, weights)

    def over_seeds(self, values: Array) -> Array:
        """Values `[resamples, seeds]` averaged over each resample's seeds: `[resamples]`.

        A deterministic row has one value and no seeds to resample.
        """
        if values.shape[1] == 1:
            return values[:, 0]
        return np.asarray((values * self.seeds).sum(axis=1))

    def mean(self, per_item: NDArray[np.floating]) -> Array:
        """Replicates `[resamples]` of the mean of `per_item` `[seeds, test]`; NaN items are left out."""
        counted = np.isfinite(per_item[0])
        weights = self.items[:, counted]
        values = weights @ per_item[:, counted].T.astype(np.float32) / weights.sum(axis=1, keepdims=True)
        return self.over_seeds(values.astype(np.float64))

    def auroc(self, scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> Array:
        """Replicates `[resamples]` of the AUROC of `scores` `[seeds, test]`."""
        high, low = self.items[:, anomalous], self.items[:, ~anomalous]
        pairs = high.sum(axis=1) * low.sum(axis=1)
        values = [((high @ _wins(each, anomalous)) * low).sum(axis=1) / pairs for each in scores]
        return self.over_seeds(np.stack(values, axis=1).astype(np.float64))


def interval(replicates: Array, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def p_value(replicates: Array) -> float:
    """Two-sided bootstrap p-value of a difference: how seldom its replicates reach the other side of zero."""
    other_side = min(int((replicates <= 0).sum()), int((replicates >= 0).sum()))
    return min(1.0, 2 * (1 + other_side) / (len(replicates) + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): family-wise p-values in the order given."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = highest
    return corrected


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Rank correlation; None for fewer than three points or where one side is constant."""
    if len(x) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    below = (array[:, None] > array[None, :]).sum(axis=1)
    equal = (array[:, None] == array[None, :]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)
