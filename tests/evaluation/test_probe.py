from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from latentops.evaluation.probe import Probed, linear_probe, logistic_regression


def clusters(rows: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(size=(classes, 6)) * 2
    return centres[labels] + spread * random.normal(size=(rows, 6)), labels


def probe(codes: list[np.ndarray], labels: np.ndarray) -> float:
    stacked = torch.from_numpy(np.stack(codes))
    targets = torch.from_numpy(labels)
    parts = [slice(0, 120), slice(120, 180), slice(180, 300)]
    given = [item for part in parts for item in (stacked[:, part], targets[part])]
    return float(linear_probe(*given, strengths=[0.001, 0.1]).correct.double().mean())


def test_a_perfect_code_is_probed_right() -> None:
    labels = np.arange(300) % 4
    assert probe([np.eye(4)[labels]], labels) == 1.0


def test_a_constant_code_is_at_chance() -> None:
    labels = np.arange(300) % 4
    assert probe([np.zeros((300, 3))], labels) == pytest.approx(0.25)


def test_a_duplicated_code_is_worth_what_it_was() -> None:
    codes, labels = clusters(300, 4, spread=2.0)
    once, twice = probe([codes], labels), probe([np.concatenate([codes, codes], axis=1)], labels)
    assert twice == pytest.approx(once, abs=0.02)


def standardised(rows: np.ndarray) -> np.ndarray:
    deviation = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def digits() -> tuple[np.ndarray, np.ndarray]:
    rows, labels = load_digits(return_X_y=True)
    return standardised(rows), labels


def mixed(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters whose features go together, as an encoder's do."""
    codes, labels = clusters(rows, classes, spread=2.5)
    return standardised(codes @ np.random.default_rng(1).normal(size=(6, 6))), labels


def objective(weights: np.ndarray, rows: np.ndarray, labels: np.ndarray, strength: float) -> float:
    """Of weights [classes, features + 1], whose last column is the bias."""
    logits = rows @ weights[:, :-1].T + weights[:, -1]
    loss = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return float(loss.mean() + 0.5 * strength * (weights[:, :-1] ** 2).sum())


def wide() -> tuple[np.ndarray, np.ndarray]:
    """More features than rows, many of them mixtures of others."""
    codes, labels = clusters(150, 5, spread=2.5)
    random = np.random.default_rng(1)
    mixtures = codes @ random.normal(size=(6, 100)) + 0.01 * random.normal(size=(150, 100))
    return standardised(np.concatenate([mixtures, random.normal(size=(150, 200))], axis=1)), labels


DATA: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "few rows": lambda: mixed(400, 5),
    "two classes": lambda: mixed(400, 2),
    "a Hessian of a part of the rows": lambda: mixed(6000, 5),
    "digits": digits,
    "more features than rows": wide,
}


@pytest.mark.parametrize("name", DATA)
def test_the_objective_is_no_worse_than_scikit_learns_at_any_strength(name: str) -> None:
    rows, labels = DATA[name]()
    classes = int(labels.max()) + 1
    inputs = torch.from_numpy(np.concatenate([rows, np.ones((len(rows), 1))], axis=1).T).float()
    fits = dict(logistic_regression(inputs, torch.from_numpy(labels), classes, [1e-3, 1e-2, 0.1, 1.0, 10.0]))
    assert list(fits) == [10.0, 1.0, 0.1, 1e-2, 1e-3]
    for strength, weights in fits.items():
        # scikit-learn's binary model is the softmax model with opposite halves of one weight vector.
        share = 0.5 if classes == 2 else 1.0
        peer = LogisticRegression(C=1 / (len(rows) * strength * share), max_iter=1000).fit(rows, labels)
        theirs = np.concatenate([peer.coef_, peer.intercept_[:, None]], axis=1)
        if classes == 2:
            theirs = np.concatenate([-theirs / 2, theirs / 2])
        goal = objective(theirs, rows, labels, strength)
        assert objective(weights.double().numpy(), rows, labels, strength) <= goal + 1e-9 * max(1.0, goal)


def test_a_problem_is_fitted_alike_alone_and_beside_others() -> None:
    codes, labels = clusters(300, 4, spread=2.0)
    other = np.random.default_rng(5).normal(size=codes.shape)
    parts = [slice(0, 120), slice(120, 180), slice(180, 300)]
    targets = torch.from_numpy(labels)

    def probed(*problems: np.ndarray) -> Probed:
        stacked = torch.from_numpy(np.stack(problems))
        given = [item for part in parts for item in (stacked[:, part], targets[part])]
        return linear_probe(*given, strengths=[0.001, 0.1, 10.0])

    alone, together = probed(codes), probed(other, codes)
    assert (alone.strength[0], alone.stop_accuracy[0]) == (together.strength[1], together.stop_accuracy[1])
    assert torch.equal(alone.correct[0], together.correct[1])


def test_of_two_strengths_that_do_equally_well_the_stronger_is_chosen() -> None:
    labels = np.arange(300) % 4
    rows, targets = torch.from_numpy(np.eye(4)[labels])[None], torch.from_numpy(labels)
    assert linear_probe(rows, targets, rows, targets, rows, targets, [1e-3, 1e-2]).strength == [1e-2]
