"""Ridge regression against scikit-learn's, and on codes whose worth is known."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Peer
from sklearn.metrics import r2_score

from latentops.evaluation.ridge import Ridge, fit_ridge, ridge_regression, unexplained

STRENGTHS = [0.001, 0.01, 0.1, 1.0, 10.0]


def made(rows: int, features: int, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Codes of unlike scales, and prices that they tell but for some noise."""
    random = np.random.default_rng(seed)
    codes = random.normal(size=(rows, features)) * np.geomspace(0.1, 50, features) + 3
    told = codes @ (1 / np.geomspace(0.1, 50, features))
    return codes, 10_000 + 800 * told + 800 * noise * random.normal(size=rows)


def fitted(codes: np.ndarray, targets: np.ndarray, strengths: list[float] = STRENGTHS) -> Ridge:
    """On the first half, the strength chosen on the second."""
    half = len(codes) // 2
    parts = [torch.from_numpy(each) for each in (codes[:half], codes[half:])]
    return fit_ridge(parts[0], targets[:half], parts[1], targets[half:], strengths)


@pytest.mark.parametrize(("rows", "features"), [(400, 6), (5000, 3), (40, 90)])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_predictions_are_scikit_learns(rows: int, features: int, strength: float) -> None:
    """Also with more columns than rows, where the other Gram matrix is decomposed."""
    codes, targets = made(2 * rows, features)
    ours = fitted(codes, targets, [strength]).predict(torch.from_numpy(codes[rows:]))
    mean, scale = codes[:rows].mean(axis=0), codes[:rows].std(axis=0, ddof=1)
    peer = Peer(alpha=rows * strength).fit((codes[:rows] - mean) / scale, targets[:rows])
    theirs = peer.predict((codes[rows:] - mean) / scale)
    assert ours == pytest.approx(theirs, abs=1e-5 * targets.std())


def test_one_decomposition_does_for_every_strength() -> None:
    codes, targets = (torch.from_numpy(each - each.mean(axis=0)) for each in made(60, 4))
    together = ridge_regression(codes, targets, STRENGTHS)
    assert [strength for strength, _ in together] == sorted(STRENGTHS, reverse=True)
    for strength, weights in together:
        ((_, alone),) = ridge_regression(codes, targets, [strength])
        assert torch.allclose(weights, alone)
    lengths = [float(weights.norm()) for _, weights in together]
    assert lengths == sorted(lengths)


def test_the_strength_is_the_best_on_stop_and_of_equals_the_strongest() -> None:
    codes, targets = made(60, 40, noise=2.0)
    half = len(codes) // 2
    stop = torch.from_numpy(codes[half:])
    errors = {
        strength: float(np.square(fitted(codes, targets, [strength]).predict(stop) - targets[half:]).mean())
        for strength in STRENGTHS
    }
    assert fitted(codes, targets).strength == min(errors, key=lambda each: errors[each])
    assert len({round(each) for each in errors.values()}) > 1
    assert fitted(np.zeros((60, 3)), targets).strength == max(STRENGTHS)


def test_a_perfect_code_tells_the_target_and_a_constant_one_its_mean() -> None:
    _, targets = made(400, 3)
    asked = torch.from_numpy(targets[200:, None])
    assert unexplained(fitted(targets[:, None], targets).predict(asked), targets[200:]).mean() < 0.001
    constant = fitted(np.full((400, 2), 7.0), targets).predict(torch.full((200, 2), 7.0))
    assert constant == pytest.approx(np.full(200, targets[:200].mean()))


def test_a_duplicated_code_is_worth_what_it_was() -> None:
    codes, targets = made(400, 3)
    twice = np.concatenate([codes, codes], axis=1)
    one, other = (
        unexplained(fitted(each, targets, [1e-4]).predict(torch.from_numpy(each[200:])), targets[200:]).mean()
        for each in (codes, twice)
    )
    assert other == pytest.approx(one, abs=1e-3)


def test_units_of_code_and_target_do_not_matter() -> None:
    codes, targets = made(200, 5)
    plain = fitted(codes, targets).predict(torch.from_numpy(codes))
    other = fitted(codes * 1000 - 5, targets * 0.01 + 3).predict(torch.from_numpy(codes * 1000 - 5))
    assert other == pytest.approx(plain * 0.01 + 3, rel=1e-4)


def test_what_is_unexplained_is_short_of_one_by_r_squared() -> None:
    _, targets = made(100, 3)
    predicted = targets + np.random.default_rng(1).normal(size=(2, 100)) * 500
    theirs = [r2_score(targets, each) for each in predicted]
    assert 1 - unexplained(predicted, targets).mean(axis=1) == pytest.approx(theirs)
    assert unexplained(np.full(100, targets.mean()), targets).mean() == pytest.approx(1)
