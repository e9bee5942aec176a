from collections.abc import Callable

import numpy as np
import pytest

from latentops.evaluation import two_sample
from latentops.evaluation.two_sample import Found, classifier_test, column_test, kernel_test

Rows = np.ndarray
TESTS = (classifier_test, kernel_test)


def normal(seed: int, rows: int = 60, wide: int = 4) -> Rows:
    return np.random.default_rng(seed).normal(size=(rows, wide))


@pytest.mark.parametrize("test", TESTS)
def test_a_shift_is_found_and_no_shift_is_not(test: Callable[..., Found]) -> None:
    known = normal(0, 300)
    assert test(known, normal(1, 80), 999).p_value > 0.05
    assert test(known, normal(1, 80) + 0.8, 999).p_value == 1 / 1000


@pytest.mark.parametrize("test", TESTS)
def test_the_p_values_of_equal_sets_are_uniform(test: Callable[..., Found]) -> None:
    """Of 120 of them no more are below 0.2 than a binomial has in 999 of 1,000 cases."""
    found = np.array([test(normal(seed, 30), normal(1000 + seed, 20), 99).p_value for seed in range(120)])
    assert 11 <= (found <= 0.2).sum() <= 38
    assert 45 <= (found <= 0.5).sum() <= 76


def test_a_kernel_sees_a_spread_that_has_not_moved() -> None:
    assert kernel_test(normal(0, 300), 2 * normal(1, 100), 999).p_value == 1 / 1000


@pytest.mark.parametrize("test", TESTS)
def test_units_of_a_code_are_no_matter(test: Callable[..., Found]) -> None:
    known, new = normal(0), normal(1) + 0.3
    factors = np.array([1e3, 1, 1e-3, 7])
    plain, scaled = test(known, new, 99), test(known * factors + 5, new * factors + 5, 99)
    assert scaled.statistic == pytest.approx(plain.statistic, abs=0.02)


def test_the_kernels_distance_is_gretton_and_others_equation_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "_looked_at", lambda *sets: list(sets))
    known, new = normal(0, 9, 2), normal(1, 7, 2) + 1
    pooled = np.concatenate([known, new])
    pooled = (pooled - pooled.mean(0)) / pooled.std(0, ddof=1)
    squares = ((pooled[:, None] - pooled) ** 2).sum(2)
    kernel = np.exp(-squares / (2 * np.sort(squares[np.triu_indices(16, 1)])[59]))  # of 120 the lower median
    within = [kernel[part, part] for part in (slice(9), slice(9, None))]
    terms = [(each.sum() - np.trace(each)) / (len(each) * (len(each) - 1)) for each in within]
    expected = sum(terms) - 2 * kernel[:9, 9:].mean()
    assert kernel_test(known, new, 9).statistic == pytest.approx(expected, abs=1e-5)


def test_rows_that_are_all_the_same_do_not_differ() -> None:
    same = np.ones((30, 3))
    for test in TESTS:
        assert test(same, same[:20], 99).p_value == 1


def test_a_column_of_numbers_or_of_categories_that_moved_is_found() -> None:
    numbers = np.random.default_rng(0).normal(size=400)
    assert column_test(numbers[:300], numbers[300:], numeric=True).p_value > 0.05
    assert column_test(numbers[:300], numbers[300:] + 1, numeric=True).p_value < 1e-6
    names = np.array(["red", "green", "blue"])[np.random.default_rng(1).integers(0, 3, size=400)]
    assert column_test(names[:300], names[300:], numeric=False).p_value > 0.05
    assert column_test(names[:300], ["red"] * 100, numeric=False).p_value < 1e-6


def test_missing_values_are_values() -> None:
    numbers = np.random.default_rng(0).normal(size=200)
    holes = np.where(np.arange(200) % 2, numbers, np.nan)
    found = column_test(numbers, holes, numeric=True)
    assert found.statistic == pytest.approx(0.5)
    assert found.p_value < 1e-6
    assert column_test(["a"] * 100, ["a", None] * 50, numeric=False).p_value < 1e-6


def test_categories_too_rare_for_the_test_are_taken_together() -> None:
    known = ["a"] * 50 + [f"rare {k}" for k in range(4)]
    assert column_test(known, ["a"] * 50 + [f"other {k}" for k in range(4)], numeric=False).p_value == 1
    assert column_test(["a"] * 50, ["a"] * 9, numeric=False) == Found(0.0, 1.0)


def test_the_largest_sets_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = two_sample._looked_at
    monkeypatch.setattr(
        two_sample,
        "_looked_at",
        lambda *sets: seen.append([len(each) for each in original(*sets)]) or original(*sets),
    )
    kernel_test(normal(0, 1500), normal(1, 20), 9)
    assert seen == [[1000, 20]]
