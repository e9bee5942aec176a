"""Metrics with intervals over seeds and test items; items are resampled the same for all that is compared."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentops.evaluation.contingency import Contingency

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
class Estimate:
    """A mean over seeds, or a difference of two, with its standard `error` and the `freedom` of that."""

    mean: float
    error: float
    freedom: float

    def interval(self, confidence: float, *, share: bool = False) -> tuple[float, float]:
        """Student's interval; of a `share` on the scale of its log-odds, so that it ends within 0 and 1."""
        from scipy.special import expit, logit, stdtrit

        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
        if not (share and half and 0 < self.mean < 1):
            return self.mean - half, self.mean + half
        middle, half = float(logit(self.mean)), half / (self.mean * (1 - self.mean))
        return float(expit(middle - half)), float(expit(middle + half))

    def p_value(self) -> float:
        """Two-sided, of the mean being zero, by the same Student's t as the interval."""
        from scipy.special import stdtr

        if not self.error:
            return float(self.mean == 0)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))


@dataclass(frozen=True)
class Replicates:
    """A metric's `values` `[seeds]` on the test items, and what it is on resamples of these.

    `resampled` is `[resamples, seeds]`. A deterministic row has one value and no seeds to vary. `drawn` is
    how many items were drawn, `freedom` one less for each class.
    """

    values: Array
    resampled: Array
    drawn: int
    freedom: int

    def __sub__(self, other: "Replicates") -> "Replicates":
        """The difference of two metrics, paired by items and by seeds."""
        return Replicates(
            self.values - other.values, self.resampled - other.resampled, self.drawn, self.freedom
        )

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1 on every resample, so that it has log-odds."""
        return bool((self.resampled >= 0).all() and (self.resampled <= 1).all())

    def estimate(self) -> Estimate:
        """The mean over seeds as an estimate of what other seeds on other items would give.

        Seeds and items are crossed random effects (Searle, Casella & McCulloch 1992, ch. 4). The variance of
        the mean is what items alone make of it, which the resamples tell, and the variance between seeds over
        their number. What seeds differ by because items are few is part of both, and taken off the second.
        Degrees of freedom are Satterthwaite's (1946), no fewer than the seeds' alone.
        """
        seeds, mean = len(self.values), float(self.values.mean())
        # A class's n items resampled have (n − 1) / n of the variance that is meant.
        shared = np.atleast_2d(np.cov(self.resampled, rowvar=False)) * (self.drawn / self.freedom)
        by_items = max(float(shared.mean()), 0.0)
        if seeds == 1:
            return Estimate(mean, math.sqrt(by_items), self.freedom)
        between = float(self.values.var(ddof=1))
        of_items = (float(np.trace(shared)) / seeds - by_items) * seeds / (seeds - 1)
        variance = by_items + max(between - of_items, 0.0) / seeds
        doubt = (between / seeds) ** 2 / (seeds - 1) + by_items**2 / self.freedom
        freedom = max(seeds - 1, variance**2 / doubt) if doubt else self.freedom
        return Estimate(mean, math.sqrt(variance), freedom)


@dataclass(frozen=True)
class Resampling:
    """How often each of the test's `items` `[test, resamples]` is drawn, in each class as many as it has.

    `drawn` is how many were drawn each time, `freedom` one less for each class. What else is drawn comes from
    the random `stream`, the same for all that is compared.
    """

    items: NDArray[np.float32]
    drawn: int
    freedom: int
    stream: tuple[int, ...]

    @classmethod
    def draw(
        cls,
        labels: NDArray[np.integer] | NDArray[np.bool_],
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
        freedom = max(1, len(drawn) - len(classes))
        most = max(1, block // max(1, len(labels)))
        for start in range(0, resamples, most):
            count = min(most, resamples - start)
            items = np.empty((len(drawn), count), dtype=np.float32)
            for rows in classes:
                items[rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=count).T
            yield cls(items if units is None else items[units], len(drawn), freedom, (1, seed, start))

    def mean(self, per_item: NDArray[np.floating]) -> Array:
        """The mean of `per_item` `[seeds, test]` on each resample, `[resamples, seeds]`; NaN is left out."""
        counted = np.isfinite(per_item[0])
        weights = self.items[counted]
        values = per_item[:, counted].astype(np.float32) @ weights / weights.sum(axis=0)
        return values.T.astype(np.float64)

    def r2(self, unexplained: NDArray[np.floating], targets: NDArray[np.float64]) -> Array:
        """R² on each resample, `[resamples, seeds]`, of squared errors over the variance of all `targets`.

        `unexplained` is `[seeds, test]`. The variance is taken anew of each resample: a target far off weighs
        in both. Where a resample has next to none, it is taken for a thousandth of what all have.
        """
        centred = (targets - targets.mean()) / targets.std()
        total = self.items.sum(axis=0, dtype=np.float64)
        mean, square = (each.astype(np.float32) @ self.items / total for each in (centred, centred**2))
        variance = np.maximum(square - mean**2, 1e-3)
        return np.asarray(1 - self.mean(unexplained) / variance[:, None])

    def mean_of_draws(self, per_item: NDArray[np.number]) -> Array:
        """The mean of `per_item` `[seeds, draws, test]` on each resample, `[resamples, seeds]`.

        Draws of labels are resampled with the items, independently of them: they cross (Owen 2007, "The
        pigeonhole bootstrap"), and both are the same for all seeds and all that is compared.
        """
        seeds, draws, _ = per_item.shape
        resamples = self.items.shape[1]
        weights = np.random.default_rng(self.stream).multinomial(
            draws, np.full(draws, 1 / draws), size=resamples
        )
        flat = per_item.reshape(seeds * draws, -1).astype(np.float32) @ self.items / self.items.sum(axis=0)
        values = (flat.reshape(seeds, draws, resamples) * weights.T).sum(axis=1) / draws
        return values.T.astype(np.float64)

    def counted(
        self,
        metrics: Mapping[str, Callable[[Contingency], Array]],
        truth: NDArray[np.integer],
        found: NDArray[np.integer],
    ) -> dict[str, Array]:
        """Each of `metrics` of classes `[test]` and places `[seeds, test]`, likewise."""
        tables = [Contingency.of(truth, each, self.items) for each in found]
        return {name: np.stack([of(table) for table in tables], axis=1) for name, of in metrics.items()}

    def auroc(self, scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> Array:
        """The AUROC of `scores` `[seeds, test]` on each resample, `[resamples, seeds]`."""
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
        return np.stack(values, axis=1)


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


def student_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Interval of the mean of at least two `values` by Student's t, which a claim about seeds alone takes."""
    from scipy.special import stdtrit

    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * error
    return mean - half, mean + half


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


def rank_correlation_interval(
    x: Sequence[Replicates], y: Sequence[Replicates], confidence: float, seed: int
) -> tuple[float, float] | None:
    """What the rank correlation of two metrics over some rows is between, when seeds and items are redrawn.

    The percentiles of resamples: a rank correlation has no error to be estimated, since it moves in steps.
    None where it is undefined on some resample.
    """
    from scipy.stats import rankdata

    if len(x) < 3:
        return None
    random = np.random.default_rng(seed)
    resamples, seeds = max((each.resampled.shape for each in (*x, *y)), key=lambda shape: shape[1])
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds

    def standardised(rows: Sequence[Replicates]) -> Array:
        means = [
            (each.resampled * weights).sum(axis=1)
            if each.resampled.shape[1] == seeds
            else each.resampled[:, 0]
            for each in rows
        ]
        ranks = rankdata(np.stack(means, axis=1), axis=1) - (len(rows) + 1) / 2
        return np.asarray(ranks / np.sqrt((ranks**2).sum(axis=1, keepdims=True)))

    with np.errstate(invalid="ignore"):
        found = (standardised(x) * standardised(y)).sum(axis=1)
    if not np.isfinite(found).all():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(found.round(12), [tail, 1 - tail])
    return float(low), float(high)


def _ranks(values: NDArray[np.floating] | Sequence[float]) -> Array:
    """From 1 for the smallest; what ties shares the mean of its ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which])
