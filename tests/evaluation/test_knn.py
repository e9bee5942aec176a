"""The kNN probe against scikit-learn's, and on codes whose worth is known."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from latentops.evaluation.knn import knn_classes, knn_means


@pytest.mark.parametrize("neighbours", [1, 2, 5, 20])
def test_classes_are_scikit_learns(neighbours: int) -> None:
    """Also where two classes have as many votes, as is common with few neighbours of ten classes."""
    rows, labels = load_digits(return_X_y=True)
    rows = rows + 1e-3 * np.random.default_rng(0).normal(size=rows.shape)  # no two as far from a third
    known, asked = rows[:900], rows[900:]
    peer = KNeighborsClassifier(neighbours, algorithm="brute").fit(known, labels[:900])
    assert knn_classes(known, labels[:900], asked, neighbours).tolist() == peer.predict(asked).tolist()


def test_of_classes_with_as_many_votes_the_first_wins() -> None:
    reference, labels = np.array([[0.0], [1.0], [3.0]]), np.array([2, 1, 0])
    asked = np.array([[0.2], [0.8]])
    assert knn_classes(reference, labels, asked, 1).tolist() == [2, 1]
    assert knn_classes(reference, labels, asked, 2).tolist() == [1, 1]


def test_with_fewer_rows_than_neighbours_all_of_them_vote() -> None:
    labels = np.array([1, 0, 1])
    assert knn_classes(np.zeros((3, 2)), labels, np.ones((4, 2)), 20).tolist() == [1] * 4
    assert knn_classes(np.zeros((3, 2)), labels, np.ones((0, 2)), 20).tolist() == []


def test_a_perfect_code_is_read_right_and_a_constant_one_at_chance() -> None:
    labels = np.arange(400) % 4
    assert (knn_classes(np.eye(4)[labels], labels, np.eye(4)[labels], 5) == labels).all()
    assert (knn_classes(np.zeros((400, 3)), labels, np.zeros((400, 3)), 5) == labels).mean() == 0.25


def test_a_duplicated_code_is_worth_what_it_was() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    codes = random.normal(size=(4, 3))[labels] + random.normal(size=(400, 3))
    once, twice = (knn_classes(c[:200], labels[:200], c[200:], 5) for c in (codes, np.tile(codes, 2)))
    assert 0.4 < (once == labels[200:]).mean() < 0.95
    assert (once == twice).all()


def test_distances_far_from_the_origin_are_told_apart() -> None:
    """In float32 alone, 1e6 + 0.01 is 1e6."""
    reference = 1e6 + np.array([[0.0], [0.01], [0.02], [0.03]])
    labels = np.arange(4)
    assert knn_classes(reference, labels, reference + 0.002, 1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_means_are_scikit_learns(neighbours: int) -> None:
    rows = load_digits().data + 1e-3 * np.random.default_rng(0).normal(size=(1797, 64))
    targets = rows[:, 20:40].sum(axis=1)
    known, asked = rows[:900], rows[900:1100]
    peer = KNeighborsRegressor(neighbours, algorithm="brute").fit(known, targets[:900])
    assert knn_means(known, targets[:900], asked, neighbours) == pytest.approx(peer.predict(asked))
    everyone = knn_means(known, targets[:900], asked[:3], 10_000)
    assert everyone == pytest.approx(np.full(3, targets[:900].mean()))
