"""The growth benchmark's own judgement: which points count, and what is linear; nothing here is timed."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import growing, growth
from benchmarks.growth import Sweep
from latentops.errors import LatentOpsError

SWEEP = Sweep("samples", "training", "samples", (1, 10, 100, 1000))


@given(st.floats(-2, 3), st.floats(1e-3, 1e6))
def test_a_power_law_has_its_own_exponent(power: float, factor: float) -> None:
    points = [(size, factor * size**power) for size in (10, 32, 100, 316, 1000)]
    assert growth.exponent(points) == pytest.approx(power, abs=1e-6)


@given(st.floats(0.5, 2.5))
def test_what_is_below_the_middle_of_the_range_does_not_count(power: float) -> None:
    points = [(1, 1e9), (9, 1e-9), (10, 10**power), (30, 30**power), (100, 100**power)]
    assert growth.exponent(points) == pytest.approx(power)


def test_a_fixed_cost_only_ever_lowers_the_exponent() -> None:
    points = [(size, 50.0 + size) for size in (1, 10, 100, 1000)]
    assert growth.exponent(points) < 1
    assert growth.exponent(points) < growth.exponent([(size, value - 49) for size, value in points])


@pytest.mark.parametrize(
    ("power", "met"), [(0.0, True), (1.0, True), (1.09, True), (1.11, False), (2, False)]
)
def test_nothing_may_grow_faster_than_in_proportion(power: float, met: bool) -> None:
    row = growth.judge(SWEEP, "time", {size: [float(size) ** power] for size in SWEEP.sizes})
    assert row.exponent == pytest.approx(power, abs=1e-3)
    assert (row.met, row.target) == (met, 1.0)
    assert ("MISSED" in growth.line(row)) is not met


def test_a_point_is_the_median_of_its_rounds() -> None:
    row = growth.judge(SWEEP, "time", {size: [size, 5.0 * size, 0.1] for size in SWEEP.sizes})
    assert row.points == tuple((size, float(size)) for size in SWEEP.sizes)


def test_memory_that_cannot_be_told_from_none_has_a_logarithm_all_the_same() -> None:
    bytes_ = {1: [0.0], 10: [-4096.0], 100: [10**6], 1000: [10**7]}
    row = growth.judge(SWEEP, "memory", bytes_)
    assert [value for _, value in row.points] == [growth.LEAST_BYTES, growth.LEAST_BYTES, 10**6, 10**7]
    assert row.exponent == pytest.approx(1)


def test_every_point_is_taken_once_a_round_against_the_smallest() -> None:
    asked: list[tuple[str, int, int]] = []

    def of(task: str, smallest: int, size: int) -> Mapping[str, float]:
        asked.append((task, smallest, size))
        return {"seconds": size**0.5, "bytes": 1e5 * size**2}

    done: list[int] = []
    rows = growth.measure([SWEEP], 2, of, done.append)
    assert asked == 2 * [("samples", 1, size) for size in SWEEP.sizes]
    assert done == list(range(1, 9))
    assert [(row.figure, row.exponent, row.met) for row in rows] == [
        ("time", 0.5, True),
        ("memory", 2.0, False),
    ]


def test_every_sweep_is_a_task_and_has_points_to_fit() -> None:
    assert {sweep.task for sweep in growth.SWEEPS} == growing.TASKS.keys()
    for sweep in growth.SWEEPS:
        assert list(sweep.sizes) == sorted(set(sweep.sizes))
        assert sum(size**2 >= 0.999 * sweep.sizes[0] * sweep.sizes[-1] for size in sweep.sizes) >= 3


@pytest.mark.parametrize("name", list(growing.TASKS))
def test_a_task_does_what_its_size_asks_for(name: str) -> None:
    few = {"members": 1, "length": 2, "chunks": 4, "features": 3, "depth": 1, "checkpoints": 1}
    smallest = few.get(name, 64)
    told = growing.measure(growing.TASKS[name], smallest, smallest + 1)
    assert told["seconds"] > 0
    assert told["bytes"] >= 0


def test_a_point_that_fails_says_why_in_one_line() -> None:
    with pytest.raises(LatentOpsError, match=r"wings at 10 ended with status 1: KeyError: 'wings'"):
        growth.measured("wings", 1, 10)


def test_the_rows_are_written_with_the_machine_and_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "growth.json"
    row = growth.judge(SWEEP, "time", {size: [float(size)] for size in SWEEP.sizes})
    monkeypatch.setattr(growth, "RESULT", result)
    monkeypatch.setattr(growth, "measure", lambda *arguments, **keywords: [row])
    monkeypatch.setattr(growth, "git", lambda *arguments: "abc123")
    growth.main(rounds=1)
    written = json.loads(result.read_text())
    assert written["commit"] == "abc123"
    assert written["machine"].keys() >= {"cpu", "cores", "load_before", "torch"}
    assert written["rows"][0]["points"] == [[size, float(size)] for size in SWEEP.sizes]
    assert "1,000" in capsys.readouterr().out


def test_only_a_sweeps_time_may_grow_faster_than_in_proportion() -> None:
    sweep = growth.Sweep("attention", "a", "length", (1, 10, 100), 2.0)
    squares = {size: [1e6 * size**2] for size in sweep.sizes}
    assert growth.judge(sweep, "time", squares).met
    assert not growth.judge(sweep, "memory", squares).met
