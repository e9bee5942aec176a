"""The frame of the studies: what is found, judged, written and kept."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.remedies import __main__ as bench
from benchmarks.remedies.study import Finding
from latentops.errors import DataError, UnknownNameError

numbers = st.floats(-100, 100)
SPREAD = [3.0, 3.4, 2.9, 3.1, 3.3]


def finding(
    without: Sequence[float] = SPREAD, remedied: Sequence[float] = (1.0, 1.2, 0.8, 1.1, 1.3), **changes: str
) -> Finding:
    named = {"warning": "collapse", "number": "dead units", "remedy": "warm-up"} | changes
    return Finding(without=without, remedied=remedied, **named)  # type: ignore[arg-type]


def study(path: Path, commit: str = "abc", **topics: Sequence[Finding]) -> list[bench.RemedyRow]:
    known = {name: lambda found=found: iter(found) for name, found in topics.items()}
    return bench.study(known, list(known), path, {"cores": 2}, commit)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_the_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    without, remedied = zip(*pairs, strict=True)
    low, mean, high = bench.paired_difference(without, remedied)
    assert mean == pytest.approx(np.mean(remedied) - np.mean(without), abs=1e-9)
    if np.ptp(np.subtract(remedied, without)) > 1e-6:
        expected = stats.ttest_rel(remedied, without).confidence_interval(0.95)
        assert (low, high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-9)


def test_a_difference_that_is_the_same_in_every_seed_has_no_width() -> None:
    assert bench.paired_difference([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == (-3, -3, -3)


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-2.0, -1.0, "lower", "helps"),
        (-2.0, -1.0, "higher", "hurts"),
        (1.0, 2.0, "higher", "helps"),
        (1.0, 2.0, "lower", "hurts"),
        (-1.0, 2.0, "higher", "no effect shown"),
        (0.0, 0.0, "lower", "no effect shown"),
    ],
)
def test_an_interval_that_holds_zero_shows_nothing(
    low: float, high: float, better: bench.Better, verdict: str
) -> None:
    assert bench.verdict(low, high, better) == verdict


def test_pairing_tells_what_the_spread_over_the_seeds_would_hide() -> None:
    far = [1.0, 10.0, 100.0, 1000.0]
    assert bench.judge(finding(far, [each - 0.5 for each in far]), "x", "abc").verdict == "helps"
    assert bench.judge(finding(far, far[::-1]), "x", "abc").verdict == "no effect shown"


@pytest.mark.parametrize(
    ("without", "remedied"),
    [([1.0, 2.0], [1.0]), ([1.0], [1.0]), ([], []), ([1.0, 2.0], [1.0, float("nan")])],
)
def test_what_cannot_be_paired_is_refused_by_name(without: list[float], remedied: list[float]) -> None:
    with pytest.raises(DataError, match=r"sparse: collapse: dead units, warm-up: needs a finite number"):
        bench.judge(finding(without, remedied), "sparse", "abc")


def test_the_file_has_every_row_with_both_sides(tmp_path: Path) -> None:
    study(tmp_path / "found.json", sparse=[finding()], variational=[finding(remedy="free bits")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["machine"], found["commit"]) == ({"cores": 2}, "abc")
    first, second = found["rows"]
    assert first["name"] == "collapse: dead units, warm-up"
    assert first["without"]["values"] == SPREAD
    assert first["remedied"]["mean"] == pytest.approx(1.08)
    assert first["low"] < first["difference"] < first["high"] < 0
    assert (first["verdict"], first["better"]) == ("helps", "lower")
    assert (second["topic"], second["remedy"]) == ("variational", "free bits")


def test_a_topic_measured_again_replaces_its_own_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    study(path, "old", sparse=[finding()], variational=[finding(remedy="free bits"), finding(remedy="beta")])
    again = {"sparse": lambda: iter([finding(remedy="revival")])}
    bench.study(again, ["sparse", "variational"], path, {"cores": 2}, "new")
    rows = json.loads(path.read_text())["rows"]
    assert [(row["remedy"], row["commit"]) for row in rows] == [
        ("revival", "new"),
        ("free bits", "old"),
        ("beta", "old"),
    ]


def test_rows_of_a_topic_that_is_gone_go_too(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    study(path, sparse=[finding()], gone=[finding(remedy="free bits")])
    study(path, sparse=[finding()])
    assert [row["topic"] for row in json.loads(path.read_text())["rows"]] == ["sparse"]


def test_what_was_found_before_a_topic_failed_stays(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    with pytest.raises(DataError, match=r"variational: found more than once: collapse"):
        study(path, sparse=[finding()], variational=[finding()])
    assert [row["topic"] for row in json.loads(path.read_text())["rows"]] == ["sparse"]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text("[]")
    with pytest.raises(DataError, match=r"found\.json: not a result of this benchmark"):
        study(path, sparse=[finding()])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A package of one topic, one module without findings and one that runs."""
    folder = tmp_path / "toy_remedies"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "study.py").write_text("")
    (folder / "__main__.py").write_text("raise SystemExit('was imported')")
    (folder / "leaks.py").write_text("def findings():\n    yield 'one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("toy_remedies")
    for name in [name for name in sys.modules if name.startswith("toy_remedies")]:
        del sys.modules[name]


def test_modules_with_findings_are_topics(package: object) -> None:
    known = bench.topics(package)
    assert list(known) == ["leaks"]
    assert list(known["leaks"]()) == ["one"]
    assert bench.chosen(known, []) == bench.chosen(known, ["leaks"]) == known
    with pytest.raises(UnknownNameError, match=r"'leak' .*did you mean 'leaks'"):
        bench.chosen(known, ["leak"])


def test_every_study_of_the_project_is_found() -> None:
    modules = {path.stem for path in Path(bench.__file__).parent.glob("*.py")}
    assert set(bench.topics()) <= modules - {"__init__", "__main__", "study"}
