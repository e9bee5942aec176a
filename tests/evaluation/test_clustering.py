"""Clusters against scikit-learn's scores, and on codes whose worth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from latentops.evaluation.clustering import CLUSTERED, ari, clusters, nmi
from latentops.evaluation.contingency import Contingency
from latentops.evaluation.statistics import Resampling


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=40))
def test_both_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, found = np.array(pairs).T
    table = Contingency.of(truth, found)
    assert nmi(table)[0] == pytest.approx(normalized_mutual_info_score(truth, found), abs=1e-9)
    assert ari(table)[0] == pytest.approx(adjusted_rand_score(truth, found), abs=1e-9)


def scores(codes: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    table = Contingency.of(labels, clusters(codes, int(labels.max()) + 1, starts=4))
    return float(nmi(table)[0]), float(ari(table)[0])


LABELS = np.arange(300) % 4


def test_a_perfect_code_has_the_classes_for_clusters() -> None:
    assert scores(np.eye(4)[LABELS], LABELS) == pytest.approx((1.0, 1.0))


def test_a_constant_code_says_nothing() -> None:
    assert scores(np.zeros((300, 3)), LABELS) == pytest.approx((0.0, 0.0))


def test_a_code_that_ignores_the_classes_is_at_chance() -> None:
    codes = np.random.default_rng(0).normal(size=(300, 3))
    assert scores(codes, LABELS)[1] == pytest.approx(0.0, abs=0.03)


def test_a_duplicated_code_is_worth_what_it_was() -> None:
    random = np.random.default_rng(0)
    codes = 2 * random.normal(size=(4, 3))[LABELS] + random.normal(size=(300, 3))
    once, twice = scores(codes, LABELS), scores(np.tile(codes, 2), LABELS)
    assert 0.1 < once[1] < 0.95
    assert twice == pytest.approx(once, abs=0.03)


def test_the_names_of_clusters_play_no_part() -> None:
    found = np.random.default_rng(0).integers(0, 4, 300)
    renamed = np.array([3, 0, 2, 1])[found]
    for of in CLUSTERED.values():
        assert of(Contingency.of(LABELS, found)) == pytest.approx(of(Contingency.of(LABELS, renamed)))


def test_resamples_agree_no_better_than_the_items_they_are_drawn_from() -> None:
    """With few items an item drawn twice, which agrees with itself, would count for much."""
    random = np.random.default_rng(0)
    truth = np.arange(60) % 6
    found = np.where(random.random((1, 60)) < 0.5, truth, random.integers(0, 6, size=(1, 60)))
    (resampling,) = Resampling.draw(truth, 4000, seed=0)
    expected = adjusted_rand_score(truth, found[0])
    assert resampling.counted({"ari": ari}, truth, found)["ari"].mean() == pytest.approx(expected, abs=0.01)
