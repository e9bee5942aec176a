"""The rows that benchmarks write: what counts as met, and how a machine is described."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures
from latentops import atomic


@pytest.mark.parametrize(
    ("values", "target", "value", "met"),
    [
        ([300.0], 360, 300.0, True),
        ([360.0], 360, 360.0, True),
        ([361.0], 360, 361.0, False),
        ([1.0, 9.0, 2.0], 3, 2.0, True),
        ([1.0], None, 1.0, None),
        ([True, True], True, True, True),
        ([True, False], True, False, False),
    ],
)
def test_a_row_says_whether_its_target_is_met(
    values: list[float | bool], target: float | bool | None, value: float | bool, met: bool | None
) -> None:
    made = figures.row("x", values, "s", target)
    assert (made.value, made.met) == (value, met)
    assert made.values == tuple(values)
    assert ("MISSED" in figures.table([made])[0]) == (met is False)


def test_where_higher_is_better_a_target_is_a_least_value() -> None:
    assert [figures.row("x", [value], "×", 1.6, "higher").met for value in (1.5, 1.6, 1.7)] == [
        False,
        True,
        True,
    ]
    assert "≥ 1.6" in figures.table([figures.row("x", [2.0], "×", 1.6, "higher")])[0]


@given(st.lists(st.integers(-1000, 1000), min_size=1))
def test_a_spread_holds_every_value_and_its_median(values: list[int]) -> None:
    spread = figures.Spread.of(values)
    assert spread.low <= spread.median <= spread.high
    assert {spread.low, spread.high} <= set(values)


def test_the_machine_is_described_in_plain_values() -> None:
    described = json.loads(atomic.canonical(figures.machine("torch", "dvc", "prefect")))
    assert described.keys() >= {"cpu", "cores", "memory_gb", "python", "torch", "dvc", "prefect"}
    assert described["cores"] >= 1
    assert described["memory_gb"] > 0
