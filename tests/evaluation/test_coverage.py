"""Intervals hold what they are of as often as they say, where five seeds and the test items both vary."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from latentops.evaluation.statistics import Array, Replicates, Resampling

SEEDS, TRIALS = 5, 1000
DIGITS = (45,) * 10
"""Test items of each class, as in the embedded sets."""
CANCER = (125, 95)
UNEVEN = (405, 45)
MANY = (100,) * 10
"""So many that the seeds make up most of the variance."""
DIFFICULT = 0.92
"""Deviation that an item's difficulty has for all seeds alike, where it has 1 together with chance."""


class World:
    """Items and seeds drawn from populations in which every metric is known.

    A seed is better or worse than another by a normal shift of deviation `spread`, an item easier or harder;
    the rest is chance, of each seed on each item. What has one seed is deterministic. What is right lies
    below a bound, what is an anomaly scores higher.
    """

    def __init__(self, sizes: tuple[int, ...], spread: float) -> None:
        self.labels = np.repeat(np.arange(len(sizes)), sizes)
        self.spread = spread
        (self.resampling,) = Resampling.draw(self.labels, 1000, 0)

    def items(self, random: np.random.Generator) -> Array:
        return DIFFICULT * random.normal(size=len(self.labels))

    def accuracy(
        self, expected: float, items: Array, random: np.random.Generator, seeds: int = SEEDS
    ) -> Replicates:
        shift, seen = self._seen(items, random, seeds)
        right = (seen + shift < norm.ppf(expected) * np.hypot(1, self._spread(seeds))).astype(np.float32)
        return self._of(right.mean(axis=1, dtype=np.float64), self.resampling.mean(right))

    def auroc(
        self, expected: float, items: Array, random: np.random.Generator, seeds: int = SEEDS
    ) -> Replicates:
        anomalous = self.labels == self.labels.max()
        shift, seen = self._seen(items, random, seeds)
        apart = norm.ppf(expected) * np.sqrt(2 + self._spread(seeds) ** 2)
        scores = seen + anomalous * (shift + apart)
        whole = replace(self.resampling, items=np.ones((len(items), 1), dtype=np.float32))
        return self._of(whole.auroc(scores, anomalous)[0], self.resampling.auroc(scores, anomalous))

    def _spread(self, seeds: int) -> float:
        return self.spread if seeds > 1 else 0.0

    def _seen(self, items: Array, random: np.random.Generator, seeds: int) -> tuple[Array, Array]:
        chance = np.sqrt(1 - DIFFICULT**2) * random.normal(size=(seeds, len(items)))
        return self._spread(seeds) * random.normal(size=(seeds, 1)), items + chance

    def _of(self, values: Array, resampled: Array) -> Replicates:
        return Replicates(values, resampled, self.resampling.drawn, self.resampling.freedom)


def covered(world: World, metric: str, expected: float, against: float | None, seeds: int) -> float:
    """How often the 95 % interval of a metric, or of its difference from another's, held the truth."""
    held = 0
    for trial in range(TRIALS):
        random = np.random.default_rng(trial)
        items = world.items(random)
        found = getattr(world, metric)(expected, items, random)
        if against is not None:
            found = found - getattr(world, metric)(against, items, random, seeds)
        low, high = found.estimate().interval(0.95, share=against is None)
        held += low <= expected - (against or 0.0) <= high
    return held / TRIALS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "sizes", "expected", "against", "seeds", "spread"),
    [
        ("accuracy", DIGITS, 0.93, None, SEEDS, 0.05),
        ("accuracy", DIGITS, 0.93, None, SEEDS, 0.1),
        ("accuracy", CANCER, 0.94, None, SEEDS, 0.05),
        ("accuracy", CANCER, 0.94, None, SEEDS, 0.1),
        ("accuracy", DIGITS, 0.93, 0.91, SEEDS, 0.05),
        ("accuracy", DIGITS, 0.93, 0.91, SEEDS, 0.1),
        ("accuracy", DIGITS, 0.93, 0.90, 1, 0.05),
        ("accuracy", DIGITS, 0.93, 0.90, 1, 0.1),
        ("accuracy", MANY, 0.87, None, SEEDS, 0.15),
        ("auroc", CANCER, 0.95, None, SEEDS, 0.1),
        ("auroc", CANCER, 0.95, None, SEEDS, 0.2),
        ("auroc", UNEVEN, 0.95, None, SEEDS, 0.2),
        ("auroc", CANCER, 0.95, 0.93, SEEDS, 0.1),
        ("auroc", CANCER, 0.95, 0.93, SEEDS, 0.2),
        ("auroc", CANCER, 0.95, 0.94, 1, 0.1),
    ],
)
def test_an_interval_covers_what_it_is_of(
    metric: str, sizes: tuple[int, ...], expected: float, against: float | None, seeds: int, spread: float
) -> None:
    """93 to 97 % of 1,000 worlds, with what seeds of the embedded sets differ by.

    Accuracy, AUROC and their paired differences, also from what is deterministic.
    """
    assert 0.93 <= covered(World(sizes, spread), metric, expected, against, seeds) <= 0.97


@pytest.mark.parametrize("skewed", [False, True])
def test_an_interval_of_r_squared_holds_it_where_few_rows_tell_the_variance_too(skewed: bool) -> None:
    """Targets vary from draw to draw as errors do; where errors alone are drawn anew it is 83 % (normal)."""
    random, trials, rows = np.random.default_rng(0), 300, 60
    (resampling,) = Resampling.draw(np.zeros(rows, np.int64), 300, 0)
    plain = random.normal(size=1_000_000)
    targets = np.exp(0.8 * plain) if skewed else plain
    errors = random.normal(size=len(plain)) * (0.35 * targets if skewed else 0.5)
    truth = 1 - (errors**2).mean() / targets.var()
    held = 0
    for _ in range(trials):
        at = random.integers(len(plain), size=rows)
        unexplained = (errors[at] ** 2 / targets[at].var())[None]
        resampled = resampling.r2(unexplained, targets[at])
        found = Replicates(
            1 - unexplained.mean(axis=1), resampled, resampling.drawn, resampling.freedom
        ).estimate()
        low, high = found.interval(0.95, share=False)
        held += low <= truth <= high
    assert held / trials >= 0.9
