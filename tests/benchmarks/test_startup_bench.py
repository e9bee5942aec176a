"""The benchmark of starting: what counts as start and as work, and what is held; nothing here is timed."""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from benchmarks import starting, startup
from benchmarks.startup import Cost
from latentops.errors import LatentOpsError
from latentops.stages.__main__ import stage_names


def cost(start: float, work: float = 0.0, libraries: tuple[str, ...] = (), peak: int = 10**8) -> Cost:
    return Cost(start, work, peak, libraries)


@pytest.mark.parametrize(
    ("name", "works", "worst", "met"),
    [
        ("train", (2.0, 4.0), 0.5, True),
        ("train", (1.0, 4.0), 1.0, True),
        ("evaluate", (0.5, 4.0), 2.0, False),
        ("compare", (0.5,), 2.0, None),
    ],
)
def test_a_stage_is_judged_by_its_shortest_work(
    name: str, works: Sequence[float], worst: float, met: bool | None
) -> None:
    runs = [((f"set {at}",), cost(1.0, work)) for at, work in enumerate(works)]
    row = startup.row(name, [cost(0.9), cost(1.1), cost(1.0)], runs)
    assert (row.start_over_work, row.met, row.seconds.median) == (worst, met, 1.0)
    assert ("MISSED" in startup.line(row)) == (met is False)


def test_what_is_no_stage_is_held_to_nothing() -> None:
    row = startup.row("import latentops", [cost(0.1), cost(0.2, peak=7)], [])
    assert (row.runs, row.start_over_work, row.target, row.met) == ((), None, None, None)
    assert row.peak_bytes == 10**8


def test_a_run_names_only_what_it_loads_beyond_its_module() -> None:
    runs = [(("digits",), cost(1, 1, ("numpy", "sklearn")))]
    row = startup.row("ingest", [cost(0.2, libraries=("numpy",))], runs)
    assert row.libraries == ("numpy",)
    assert row.runs[0].libraries == ("sklearn",)


def test_the_first_round_does_not_count_and_all_are_started_in_turns() -> None:
    asked: list[tuple[str, ...]] = []

    def of(words: Sequence[str], folder: Path) -> Cost:
        asked.append(tuple(words))
        return cost(float(len(asked)))

    costs = startup.imports(2, of)
    words = list(startup.things().values())
    assert asked == 3 * words
    for at, each in enumerate(costs.values(), 1):
        assert [one.start for one in each] == [len(words) + at, 2 * len(words) + at]


def test_every_stage_is_started_and_run_on_every_dataset_in_the_order_of_the_dag() -> None:
    assert set(startup.ORDER) == set(stage_names()) <= startup.things().keys()
    planned = list(startup.stages(["digits", "wine"]))
    assert planned[0] == ("ingest", "digits")
    assert ("train", "wine", startup.VARIANT) in planned
    assert planned[-1] == ("report",)
    assert len(planned) == 2 * (len(startup.ORDER) - 1) + 1


def test_a_project_to_run_in_has_one_variant_and_is_otherwise_ours(root: Path, tmp_path: Path) -> None:
    startup.project(tmp_path)
    ours = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    theirs = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    assert theirs["run"].pop("variants") == [startup.VARIANT]
    assert startup.VARIANT in ours["run"].pop("variants")
    assert theirs == ours


def test_what_is_started_answers_in_figures(root: Path) -> None:
    told = startup.started(["import", "latentops.config"], root)
    assert told.start > 0
    assert told.work == 0
    assert told.peak_bytes > 10**6
    assert "pydantic" in told.libraries
    assert "torch" not in told.libraries


def test_what_a_command_prints_is_no_answer(root: Path) -> None:
    assert startup.started(["command", "--help"], root).start > 0


@pytest.mark.parametrize(
    ("words", "why"), [(["import", "latentops.wings"], "No module named"), (["stage", "wings"], "wings")]
)
def test_what_cannot_start_says_why_in_one_line(words: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(LatentOpsError, match=rf"{words[1]}: ended with status 1: .*{why}") as raised:
        startup.started(words, tmp_path)
    assert "\n" not in str(raised.value)


def test_an_import_within_an_import_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    (tmp_path / "inner_module.py").write_text("")
    (tmp_path / "outer_module.py").write_text("import inner_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(starting.time, "process_time", lambda: next(ticks))
    monkeypatch.setattr("builtins.__import__", __import__)
    monkeypatch.setattr(importlib, "import_module", importlib.import_module)
    imports = starting.Imports()
    imports.watch()
    importlib.import_module("outer_module")
    assert imports.seconds == 1
    assert next(ticks) == 2
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module")
    assert (imports.seconds, imports.inside) == (2, False)
    assert "inner_module" in sys.modules


def test_a_list_of_stages_that_is_not_the_projects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "stage_names", lambda: [*startup.ORDER, "polish"])
    with pytest.raises(LatentOpsError, match="polish"):
        startup.main(rounds=1)


def test_the_rows_are_written_and_slow_starters_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "startup.json"

    def of(words: Sequence[str], folder: Path) -> Cost:
        return cost(1.0, 0.5 if "evaluate" in words else 2.0, ("numpy",))

    monkeypatch.setattr(startup, "RESULT", result)
    monkeypatch.setattr(startup, "started", of)
    monkeypatch.setattr(startup, "imports", lambda *a, **k: {name: [cost(1.0)] for name in startup.things()})
    monkeypatch.setattr(startup, "git", lambda *arguments: "abc123")
    startup.main(rounds=1)
    assert "slower to start than to work on some data set: evaluate\n" in capsys.readouterr().out
    written = {row["name"]: row for row in json.loads(result.read_text())["rows"]}
    assert (written["evaluate"]["met"], written["train"]["met"]) == (False, True)
    assert len(written["evaluate"]["runs"]) == len(written["train"]["runs"]) > 1
    assert written["Python alone"]["runs"] == []
