import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from latentops.evaluation.probe import linear_probe, logistic_regression


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


def test_problems_in_a_batch_do_not_touch_each_other() -> None:
    codes, labels = clusters(300, 4, spread=2.0)
    other = np.random.default_rng(5).normal(size=codes.shape)
    together = probe([codes, other], labels)
    assert together == pytest.approx((probe([codes], labels) + probe([other], labels)) / 2)


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_objective_is_no_worse_than_scikit_learns(strength: float, classes: int) -> None:
    codes, labels = clusters(400, classes, spread=2.5)
    inputs = torch.from_numpy(np.concatenate([codes, np.ones((400, 1))], axis=1))[None]
    start = torch.zeros(1, 7, classes, dtype=torch.float64)
    ours = logistic_regression(inputs, torch.from_numpy(labels), strength, start)[0].numpy()

    def objective(weights: np.ndarray) -> float:
        logits = inputs[0].numpy() @ weights
        loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(400), labels]
        return float(loss.mean() + 0.5 * strength * (weights[:-1] ** 2).sum())

    # scikit-learn's binary model is the softmax model with opposite halves of one weight vector.
    peer = LogisticRegression(C=1 / (400 * strength * (0.5 if classes == 2 else 1)), tol=1e-9, max_iter=5000)
    peer.fit(codes, labels)
    theirs = np.concatenate([peer.coef_, peer.intercept_[:, None]], axis=1).T
    if classes == 2:
        theirs = np.concatenate([-theirs / 2, theirs / 2], axis=1)
    assert objective(ours) <= objective(theirs) + 1e-7
