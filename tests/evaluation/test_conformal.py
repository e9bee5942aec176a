"""Thresholds and what they promise."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, false_discovery_control

from latentops.config import load_params
from latentops.errors import LatentOpsError
from latentops.evaluation.conformal import discoveries, needed, p_values, threshold

CELLS = [(n, alpha) for n in (19, 99, 120, 500, 999) for alpha in (0.01, 0.05, 0.1) if n >= needed(alpha)]
RUNS = 20
ASKED = 2000
JOINT = 0.001
"""Chance that any cell of any run strays from its interval, if all is as it is promised."""


def test_too_few_normals_for_a_promise_is_an_error_that_says_how_many() -> None:
    with pytest.raises(LatentOpsError, match=r"at least 19.*there are 18"):
        threshold(np.arange(18.0), 0.05)
    threshold(np.arange(19.0), 0.05)


@settings(deadline=None)
@given(n=st.integers(19, 200), alpha=st.sampled_from([0.05, 0.1, 0.2]), seed=st.integers(0, 1000))
def test_the_threshold_is_where_p_values_reach_alpha(n: int, alpha: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    calibration, scores = random.normal(size=n), random.normal(size=300)
    flagged = scores > threshold(calibration, alpha)
    assert np.array_equal(flagged, p_values(calibration, scores) <= alpha + 1e-12)


@pytest.mark.parametrize(("n", "alpha"), CELLS)
def test_false_alarms_lie_in_the_beta_binomial_interval(n: int, alpha: float) -> None:
    """Given n calibration normals, k = ⌊α (n + 1)⌋: of m others BetaBinomial(m, k, n + 1 − k) are flagged.

    (Vovk 2012, "Conditional validity of inductive conformal predictors"; exact for scores without ties.)
    Whatever the scores' distribution is.
    """
    k = int(alpha * (n + 1) + 1e-9)
    known = betabinom(ASKED, k, n + 1 - k)
    tail = JOINT / (len(CELLS) * RUNS) / 2
    low, high = known.ppf(tail), known.ppf(1 - tail)
    counts = []
    for run in range(RUNS):
        random = np.random.default_rng([n, int(1000 * alpha), run])
        draw = (random.normal, random.standard_cauchy, random.exponential)[run % 3]
        counts.append(int((draw(size=ASKED) > threshold(draw(size=n), alpha)).sum()))
    assert all(low <= count <= high for count in counts)
    assert known.mean() <= alpha * ASKED + 1e-9
    assert len(set(counts)) > 1


@settings(deadline=None)
@given(
    p=st.lists(st.integers(1, 40).map(lambda k: k / 40), min_size=0, max_size=60),
    rate=st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5]),
)
def test_a_batch_is_flagged_as_benjamini_and_hochberg_have_it(p: list[float], rate: float) -> None:
    flagged = discoveries(np.array(p), rate)
    expected = false_discovery_control(p) <= rate + 1e-12 if p else np.zeros(0, dtype=bool)
    assert np.array_equal(flagged, expected)


def test_of_what_a_batch_flags_at_most_the_rate_is_false() -> None:
    """Over many batches, with conformal p-values of one calibration; and nearly all anomalies are found."""
    false, found = [], []
    for seed in range(300):
        random = np.random.default_rng(seed)
        scores = np.concatenate([random.normal(size=80), random.normal(size=20) + 6])
        flagged = discoveries(p_values(random.normal(size=499), scores), 0.1)
        false.append(flagged[:80].sum() / max(1, flagged.sum()))
        found.append(flagged[80:].mean())
    error = np.std(false) / len(false) ** 0.5
    assert np.mean(false) <= 0.1 * 0.8 + 3 * error
    assert np.mean(found) > 0.95


def test_one_row_is_flagged_by_the_batch_as_it_is_alone() -> None:
    assert discoveries(np.array([0.05]), 0.05).tolist() == [True]
    assert discoveries(np.array([0.0501]), 0.05).tolist() == [False]
    assert not discoveries(np.full(50, 0.05), 0.04).any()
    assert discoveries(np.full(50, 0.05), 0.05).all()


def flagged_by_chance(n: list[int], m: list[int], alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean rates, rising, that views with `n` calibration and `m` test normals can have, and the chances."""
    rates, chances = np.zeros(1), np.ones(1)
    for known, asked in zip(n, m, strict=True):
        k = int(alpha * (known + 1) + 1e-9)
        counts = np.arange(asked + 1)
        rates = np.add.outer(rates, counts / asked / len(n)).ravel()
        chances = np.multiply.outer(chances, betabinom(asked, k, known + 1 - k).pmf(counts)).ravel()
    order = np.argsort(rates)
    return rates[order], chances[order]


def test_what_was_flagged_on_the_embedded_data_is_what_was_promised(root: Path) -> None:
    """Every seed of every row of the results, at a joint level over all of them."""
    params = load_params(root / "params.yaml")
    found: list[tuple[str, list[float]]] = []
    for dataset in params.run.datasets:
        paths = [root / "results/floors" / dataset / "metrics.json"]
        paths += sorted((root / "results/evaluate" / dataset).glob("*/metrics.json"))
        rows = [row for path in paths for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
        metrics = [row["metrics"]["false_alarm_rate"] for row in rows if "false_alarm_rate" in row["metrics"]]
        found += [(dataset, metric["values"]) for metric in metrics]
    cells = sum(len(values) for _, values in found)
    assert cells > 100
    for dataset in params.run.datasets:
        rows = json.loads((root / f"results/prepare/{dataset}.json").read_text(encoding="utf-8"))["rows"]
        n, m = (
            [rows[split][view] for view in params.dataset(dataset).normal]
            for split in ("calibration", "test")
        )
        rates, chances = flagged_by_chance(n, m, params.evaluation.anomaly.alpha)
        tail = JOINT / cells / 2
        low = rates[np.searchsorted(np.cumsum(chances), tail)]
        high = rates[len(rates) - 1 - np.searchsorted(np.cumsum(chances[::-1]), tail)]
        realised = [value for name, values in found if name == dataset for value in values]
        assert all(low - 1e-6 <= value <= high + 1e-6 for value in realised)
        assert high < 1
