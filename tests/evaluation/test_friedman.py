import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latentops.evaluation.friedman import critical_difference, friedman, groups, ranks

DEMSAR = np.array(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)
"""The ranks of table 6 in Demšar (2006): four ways of pruning trees on 14 data sets."""


def test_demsars_example() -> None:
    mean = DEMSAR.mean(axis=0)
    assert mean.round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    assert critical_difference(4, 14, 0.95) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, 0.90) == pytest.approx(1.12, abs=0.005)
    # He doesn't correct for ties: four pairs and one set of four on 14 data sets.
    corrected = 1 - (3 * (2**3 - 2) + 4**3 - 4) / (14 * (4**3 - 4))
    found = friedman(DEMSAR)
    assert found.statistic * corrected == pytest.approx(9.28, abs=0.005)
    assert found.p_value < stats.f.sf(3.69, 3, 39) < 0.05
    # At 5 % no two are told apart, at 10 % the first is worse than the second and the fourth.
    assert len(groups(mean.tolist(), critical_difference(4, 14, 0.95))) == 1
    assert groups(mean.tolist(), critical_difference(4, 14, 0.90)) == [[3, 1, 2], [2, 0]]


@pytest.mark.parametrize(("variants", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (9, 3.102), (10, 3.164)])
def test_critical_values_are_the_published_ones(variants: int, q: float) -> None:
    """Table 5 (a) of Demšar (2006)."""
    scale = np.sqrt(variants * (variants + 1) / (6 * 12))
    assert critical_difference(variants, 12, 0.95) / scale == pytest.approx(q, abs=0.001)


def test_more_datasets_show_smaller_differences() -> None:
    found = [critical_difference(9, datasets, 0.95) for datasets in (3, 10, 30)]
    assert found == sorted(found, reverse=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_the_order_of_datasets_says_nothing_and_that_of_variants_moves_ranks_along(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 5, size=(12, 5)) / 7
    one, other = ranks(values), ranks(values[random.permutation(12)])
    assert other.mean(axis=0) == pytest.approx(one.mean(axis=0))
    assert friedman(other).p_value == pytest.approx(friedman(one).p_value)
    order = random.permutation(5)
    assert ranks(values[:, order]) == pytest.approx(one[:, order])
    assert one.sum(axis=1) == pytest.approx(np.full(12, 15.0))


def test_metrics_that_differ_by_rounding_tie() -> None:
    assert ranks(np.array([[0.1 + 0.2, 0.3, 0.1]])).tolist() == [[1.5, 1.5, 3.0]]


def test_what_is_the_same_everywhere_differs_in_nothing() -> None:
    same = ranks(np.repeat(np.random.default_rng(0).random((12, 1)), 4, axis=1))
    assert friedman(same).p_value == 1
    assert groups(same.mean(axis=0).tolist(), critical_difference(4, 12, 0.95)) == [[0, 1, 2, 3]]


def test_what_always_wins_is_found_over_twelve_datasets() -> None:
    random = np.random.default_rng(0)
    values = random.random((12, 6))
    values[:, 4] += 1
    ranked = ranks(values)
    assert friedman(ranked).p_value < 0.01
    found = groups(ranked.mean(axis=0).tolist(), critical_difference(6, 12, 0.95))
    assert found[0][0] == 4
    assert len(found[0]) < 6


def test_the_same_order_everywhere_is_as_sure_as_it_gets() -> None:
    assert friedman(np.tile(np.arange(1.0, 6), (12, 1))).p_value == 0


def test_chance_is_called_a_difference_as_often_as_is_said() -> None:
    random = np.random.default_rng(0)
    found = [friedman(ranks(random.random((12, 9)))).p_value < 0.05 for _ in range(400)]
    assert 0.03 <= np.mean(found) <= 0.075


def test_too_little_to_compare_is_an_error() -> None:
    for shape in ((12, 2), (1, 5)):
        with pytest.raises(ValueError, match="at least three variants on two datasets"):
            friedman(ranks(np.random.default_rng(0).random(shape)))
