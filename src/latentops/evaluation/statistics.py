"""Metrics with intervals: seeds and test items are resampled together, the same for all that is compared."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 2**24
"""Item weights that are in memory at once, 64 MB of them."""


def auroc(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often an anomaly scores above a normal, ties counting half.

    From the anomalies' ranks (Mann & Whitney 1947). 0.5 for a constant score; NaN where one of the two kinds
    is missing.
    """
    anomalies = int(anomalous.sum())
    pairs = anomalies * (len(scores) - anomalies)
    if not pairs:
        return float("nan")
    return float((_ranks(scores)[anomalous].sum() - anomalies * (anomalies + 1) / 2) / pairs)


DETECTION = 0.95
"""Share of the anomalies that are to be found where the false alarms which that takes are asked for."""


def average_precision(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Precision at each threshold, weighted by the detections that it adds; ties share one threshold.

    As scikit-learn has it, without interpolation. The share of anomalies for a constant score; NaN where one
    of the two kinds is missing.
    """
    return float(_weighted_precision(scores, anomalous, np.ones((len(scores), 1), dtype=np.float32))[0])


def false_alarm_at_95(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Share of the normals above the highest threshold that finds at least 95 % of the anomalies.

    1 for a constant score; NaN where one of the two kinds is missing.
    """
    return float(_weighted_false_alarm(scores, anomalous, np.ones((len(scores), 1), dtype=np.float32))[0])


@dataclass(frozen=True)
class Resampling:
    """Bootstrap weights: `items` `[test, resamples]` drawn in each class, `seeds` `[resamples, seeds]`."""

    items: NDArray[np.float32]
    seeds: Array

    @classmethod
    def draw(
        cls,
        labels: NDArray[np.integer] | NDArray[np.bool_],
        seeds: int,
        resamples: int,
        seed: int,
        block: int = BLOCK,
        units: NDArray[np.integer] | None = None,
    ) -> Iterator["Resampling"]:
        """One draw for all that is compared on these test items `labels` `[test]`.

        Items of one of the `units` `[test]`, which are numbered from 0 and each of one label, are drawn
        together. It comes in parts of at most `block` item weights, because 2,000 resamples of 100,000 items
        are nearly a gigabyte.
        """
        random = np.random.default_rng(seed)
        drawn = labels if units is None else labels[np.unique(units, return_index=True)[1]]
        classes = [np.flatnonzero(drawn == label) for label in np.unique(drawn)]
        most = max(1, block // max(1, len(labels)))
        for count in (min(most, resamples - start) for start in range(0, resamples, most)):
            items = np.empty((len(drawn), count), dtype=np.float32)
            for rows in classes:
                items[rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=count).T
            items = items if units is None else items[units]
            yield cls(items, random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds)

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
        weights = self.items[counted]
        values = per_item[:, counted].astype(np.float32) @ weights / weights.sum(axis=0)
        return self.over_seeds(values.T.astype(np.float64))

    def auroc(self, scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> Array:
        """Replicates `[resamples]` of the AUROC of `scores` `[seeds, test]`."""
        return self._of(_weighted_auroc, scores, anomalous)

    def average_precision(self, scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> Array:
        """Likewise of the average precision."""
        return self._of(_weighted_precision, scores, anomalous)

    def false_alarm_at_95(self, scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> Array:
        """Likewise of the false-alarm rate at 95 % detection."""
        return self._of(_weighted_false_alarm, scores, anomalous)

    def _of(
        self,
        metric: Callable[[NDArray[np.floating], NDArray[np.bool_], NDArray[np.float32]], Array],
        scores: NDArray[np.floating],
        anomalous: NDArray[np.bool_],
    ) -> Array:
        values = [metric(each, anomalous, self.items) for each in scores]
        return self.over_seeds(np.stack(values, axis=1))


def _weighted_auroc(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], weights: NDArray[np.float32]
) -> Array:
    """AUROC of `scores` `[test]` for each column of whole-number `weights` `[test, resamples]`.

    Weights of the kind that there is more of are summed up in the order of the scores; each item of the other
    kind looks up what lies below it, and half of what ties with it.
    """
    kinds = np.flatnonzero(~anomalous), np.flatnonzero(anomalous)
    many, few = sorted(kinds, key=len, reverse=True)
    order = many[np.argsort(scores[many], kind="stable")]
    # Whole numbers below 2^24 are exact in float32. Row by row: NumPy's own cumsum goes down each column.
    below = np.zeros((len(order) + 1, weights.shape[1]), dtype=np.float32)
    for at, item in enumerate(order):
        np.add(below[at], weights[item], out=below[at + 1])
    first, last = (np.searchsorted(scores[order], scores[few], side) for side in ("left", "right"))
    wins = np.zeros(weights.shape[1])
    for item, low, high in zip(few, first, last, strict=True):
        wins += (below[low] + below[high]) * weights[item]
    share = wins / 2 / (below[-1].astype(np.float64) * weights[few].sum(axis=0, dtype=np.float64))
    return share if few is kinds[1] else 1 - share


def _weighted_precision(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], weights: NDArray[np.float32]
) -> Array:
    """Average precision of `scores` `[test]` for each column of `weights` `[test, resamples]`."""
    total, before, seen = np.zeros((3, weights.shape[1]))
    for found, alarms in _thresholds(scores, anomalous, weights):
        np.add(found, alarms, out=seen)
        np.divide(found, np.maximum(seen, 1, out=seen), out=seen)
        total += np.multiply(seen, found - before, out=seen)
        before[:] = found
    return np.divide(total, before, out=np.full_like(total, np.nan), where=before > 0)


def _weighted_false_alarm(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], weights: NDArray[np.float32]
) -> Array:
    """False-alarm rate at a detection of `DETECTION`, likewise."""
    needed = DETECTION * weights[anomalous].sum(axis=0, dtype=np.float64) - 1e-9
    normals = weights[~anomalous].sum(axis=0, dtype=np.float64)
    rate = np.full(weights.shape[1], np.nan)
    for found, alarms in _thresholds(scores, anomalous, weights):
        reached = found >= needed
        if reached.any():
            reached &= np.isnan(rate)
            rate[reached] = alarms[reached] / normals[reached]
    return rate


def _thresholds(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], weights: NDArray[np.float32]
) -> Iterator[tuple[Array, Array]]:
    """Weights `[resamples]` of the anomalies and of the normals at or above each threshold, from the highest.

    Both are counted on in place. Thresholds are the distinct scores of anomalies, since at others no more are
    found; there are none where one of the two kinds is missing.
    """
    if anomalous.all() or not anomalous.any():
        return
    found, alarms = np.zeros((2, weights.shape[1]))
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    more = False
    for item, odd, ends in zip(order.tolist(), anomalous[order].tolist(), last.tolist(), strict=True):
        side = found if odd else alarms
        side += weights[item]
        more = more or odd
        if ends and more:
            yield found, alarms
            more = False


def interval(replicates: Array, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def student_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Interval of the mean of at least two `values` by Student's t, which a claim about seeds alone takes."""
    from scipy.special import stdtrit

    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * error
    return mean - half, mean + half


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


def _ranks(values: NDArray[np.floating] | Sequence[float]) -> Array:
    """From 1 for the smallest; what ties shares the mean of its ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which])
