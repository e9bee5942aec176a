"""Few-label probes: scikit-learn's discriminants, draws that all share, and codes whose worth is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from latentops.evaluation.few_labels import draw, few_label_classes

STRENGTHS = [0.001, 0.01, 0.1, 1.0, 10.0]


def digits(columns: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Standardised, with what is constant left out, or so many random mixtures of it."""
    rows, labels = load_digits(return_X_y=True)
    rows = rows[:, rows.std(axis=0) > 0]
    rows = rows @ np.random.default_rng(0).normal(size=(rows.shape[1], columns))
    return (rows - rows.mean(axis=0)) / rows.std(axis=0), labels


def theirs(
    rows: NDArray[np.float64], labels: NDArray[np.int64], strength: float
) -> LinearDiscriminantAnalysis:
    """scikit-learn shrinks towards the mean variance, by a share: the same up to the scale of all scores."""
    means = np.stack([rows[labels == each].mean(axis=0) for each in np.unique(labels)])
    variance = ((rows - means[labels]) ** 2).mean()
    shrinkage = strength / (strength + variance)
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(rows, labels)


@pytest.mark.parametrize(("columns", "count"), [(16, 5), (16, 50), (16, 7), (80, 5)])
def test_strength_and_classes_are_scikit_learns(columns: int, count: int) -> None:
    """Also for more features than rows."""
    codes, labels = digits(columns)
    train, test = codes[:1000], codes[1000:]
    drawn = draw(labels[:1000], 10, count, 3, seed=0)
    assert drawn is not None
    ours = few_label_classes(train, drawn, test, STRENGTHS)
    for rows, found in zip(drawn, ours, strict=True):
        truth = np.arange(10)
        hits = dict.fromkeys(sorted(STRENGTHS, reverse=True), 0)
        for strength in hits:
            for fold in range(5):
                out = np.arange(count) % 5 == fold
                fitted = theirs(train[rows[:, ~out].ravel()], np.repeat(truth, (~out).sum()), strength)
                predicted = fitted.predict(train[rows[:, out].ravel()])
                hits[strength] += int((predicted == np.repeat(truth, out.sum())).sum())
        chosen = max(hits, key=lambda strength: hits[strength])
        peer = theirs(train[rows.ravel()], np.repeat(truth, count), chosen)
        assert (peer.predict(test) == found).mean() > 0.999


def test_draws_are_of_the_classes_and_depend_on_labels_and_seed_alone() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 200)
    first = draw(labels, 3, 5, 4, seed=0)
    assert first is not None
    assert first.shape == (4, 3, 5)
    assert (labels[first] == np.arange(3)[:, None]).all()
    assert all(len(set(rows.ravel().tolist())) == 15 for rows in first)
    assert np.array_equal(first, draw(labels, 3, 5, 4, seed=0))
    assert not np.array_equal(first, draw(labels, 3, 5, 4, seed=1))


def test_where_a_class_has_fewer_rows_there_is_no_draw() -> None:
    labels = np.array([0] * 10 + [1] * 4)
    assert draw(labels, 2, 5, 3, seed=0) is None
    assert draw(labels, 2, 4, 3, seed=0) is not None
    assert draw(labels, 3, 4, 3, seed=0) is None


def few(codes: NDArray[np.float64], labels: NDArray[np.int64], count: int = 5) -> float:
    half = len(codes) // 2
    drawn = draw(labels[:half], int(labels.max()) + 1, count, 10, seed=0)
    assert drawn is not None
    return float((few_label_classes(codes[:half], drawn, codes[half:], STRENGTHS) == labels[half:]).mean())


def test_a_perfect_code_is_read_right_and_a_constant_one_at_chance() -> None:
    labels = np.arange(400) % 4
    assert few(np.eye(4)[labels], labels) == 1.0
    assert few(np.zeros((400, 3)), labels) == 0.25


def test_a_duplicated_code_is_worth_what_it_was_and_more_labels_are_worth_more() -> None:
    codes, labels = digits(8)
    once, twice = few(codes, labels), few(np.tile(codes, 2), labels)
    assert twice == pytest.approx(once, abs=0.02)
    assert few(codes, labels, count=40) > once + 0.03


def test_ordered_classes_along_a_line_hide_none_of_them() -> None:
    """Least squares on indicators would never choose the one in the middle."""
    labels = np.arange(600) % 3
    codes = 4.0 * labels[:, None] + np.random.default_rng(0).normal(size=(600, 1))
    assert few(codes, labels) > 0.9
