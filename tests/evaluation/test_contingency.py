"""Accuracies by class: scikit-learn's numbers, of items that count once or as often as they were drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score

from latentops.evaluation.contingency import CLASSIFIED, Contingency, balanced_accuracy, macro_f1
from latentops.evaluation.statistics import Resampling

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def theirs(truth: NDArray[np.int64], found: NDArray[np.int64]) -> dict[str, float]:
    recalls = [(found[truth == each] == each).mean() for each in np.unique(truth)]
    assert len(recalls) == 1 or np.mean(recalls) == pytest.approx(balanced_accuracy_score(truth, found))
    return {
        "probe_balanced_accuracy": float(np.mean(recalls)),
        "probe_macro_f1": float(f1_score(truth, found, average="macro", zero_division=0)),
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@settings(deadline=None)
@given(pairs=PAIRS)
def test_accuracies_by_class_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, found = np.array(pairs).T
    ours = {name: float(of(Contingency.of(truth, found))[0]) for name, of in CLASSIFIED.items()}
    assert ours == pytest.approx(theirs(truth, found))


@settings(deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 2**30))
def test_an_item_counts_as_often_as_it_was_drawn(pairs: list[tuple[int, int]], seed: int) -> None:
    truth, found = np.array(pairs).T
    weights = np.random.default_rng(seed).integers(0, 3, size=(len(truth), 4)).astype(np.float32)
    weights[0] += 1
    table = Contingency.of(truth, found, weights)
    for draw, repeats in enumerate(weights.T.astype(int)):
        drawn = Contingency.of(np.repeat(truth, repeats), np.repeat(found, repeats))
        for of in CLASSIFIED.values():
            assert of(table)[draw] == pytest.approx(of(drawn)[0])


def test_a_guess_of_the_most_frequent_class_is_worth_little() -> None:
    truth = np.array([0] * 90 + [1] * 10)
    table = Contingency.of(truth, np.zeros_like(truth))
    assert balanced_accuracy(table) == pytest.approx([0.5])
    assert macro_f1(table)[0] < 0.5


def test_no_class_weighs_more_for_being_frequent() -> None:
    truth, found = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 2])
    often = np.where(truth == 0, 5, 1)
    once, more = (
        Contingency.of(np.repeat(truth, each), np.repeat(found, each)) for each in (np.ones(5, int), often)
    )
    assert balanced_accuracy(once) == pytest.approx(balanced_accuracy(more))


def test_replicates_centre_on_the_estimate() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(300) % 3
    found = np.where(random.random((4, 300)) < 0.7, truth, random.integers(0, 3, size=(4, 300)))
    (resampling,) = Resampling.draw(truth, 2000, seed=0)
    for name, replicates in resampling.counted(CLASSIFIED, truth, found).items():
        expected = np.mean([theirs(truth, each)[name] for each in found])
        assert replicates.mean() == pytest.approx(expected, abs=0.005)
        assert 0.005 < replicates.std() < 0.05
