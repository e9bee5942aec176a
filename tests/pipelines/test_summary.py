"""A run's summary: its numbers are those of the costs files, and its text and its JSON say the same."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentops import costs
from latentops.atomic import write_json
from pipelines import summary
from pipelines.decisions import Decision
from pipelines.graph import Unit
from pipelines.summary import Recorder, StageRun, Summary

MIB = 2**20
CELL = Unit(
    "train@digits-sparse",
    ("train@digits-sparse", "evaluate@digits-sparse"),
    frozenset(),
    "variants.sparse.l1 modified",
)
COMPARE = Unit("compare@digits", ("compare@digits",), frozenset({CELL.name}), "after evaluate@digits-sparse")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, where stages ran once before."""
    monkeypatch.chdir(tmp_path)
    for stage in (*CELL.stages, *COMPARE.stages):
        path = tmp_path / costs.FOLDER / f"{stage.replace('@', '-')}.json"
        write_json(path, {"wall_seconds": 900.0, "cpu_seconds": 900.0, "peak_bytes": 900 * MIB})
    return tmp_path


def spend(stage: str, wall: float, cpu: float, mib: int) -> None:
    costs.write(stage, wall, cpu, mib * MIB)


def board(variant: str, value: float, other: float = 0.5) -> None:
    """The digits' comparison: `variant` is chosen, and there is one more variant."""
    rows = [
        {
            "dataset": "digits",
            "kind": "image",
            "name": name,
            "role": "variant",
            "latent_dim": 8,
            "members": 5,
            "metrics": {"probe_accuracy": {"mean": mean}},
        }
        for name, mean in ((variant, value), ("other", other))
    ]
    told = {"dataset": "digits", "kind": "image", "primary": "probe_accuracy", "rows": rows, "passed": True}
    write_json(Path("results/compare/digits.json"), told | {"chosen": {"variant": variant, "seed": 0}})


def champion(version: int, variant: str, content: str) -> None:
    line = {
        "event": "promote",
        "dataset": "digits",
        "version": version,
        "variant": variant,
        "seed": 0,
        "content_hash": content,
        "when": "2026-01-01T00:00:00+00:00",
    }
    Path("ledger").mkdir(exist_ok=True)
    with Path("ledger/promotions.jsonl").open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


def recorded(**runs: str) -> None:
    write_json(Path("results/record/digits.json"), {"runs": runs})


def one_run(name: str = "reproduce digits", **ids: str) -> Summary:
    """A cell that runs, and a comparison that fails."""
    run = Recorder(name, ["digits"], **ids)
    run.plan([CELL, COMPARE], cached=8)
    run.start(CELL)
    spend("train@digits-sparse", 41.25, 39.5, 612)
    spend("evaluate@digits-sparse", 2.5, 2.25, 300)
    run.finish(CELL, CELL.stages)
    run.start(COMPARE)
    run.fail(COMPARE, "compare@digits: digits: too few rows")
    return run.end()


def cells(text: str) -> dict[str, list[str]]:
    """The rows of all tables of `text` by their first cells."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    return {row[0] if len(row) == 5 and row[2] not in ("best", "champion") else row[2]: row for row in rows}


def test_the_numbers_are_those_of_the_costs_files() -> None:
    ended = one_run()
    for each in ended.stages[:2]:
        cost = costs.last(each.stage)
        assert cost is not None
        assert (each.wall_seconds, each.cpu_seconds, each.peak_bytes) == (
            cost.wall_seconds,
            cost.cpu_seconds,
            cost.peak_bytes,
        )
    assert ended.cpu_seconds == 39.5 + 2.25
    assert ended.peak_bytes == 612 * MIB


def test_what_a_stage_cost_before_is_no_cost_of_this_run() -> None:
    ended = one_run()
    assert ended.stages[2] == StageRun("compare@digits", "failed", COMPARE.why)


def test_text_and_json_say_the_same() -> None:
    board("sparse", 0.9)
    champion(2, "sparse", "c0ffee")
    recorded(sparse="c0ffee")
    ended = one_run()
    told = json.loads(summary.write(ended).read_text())
    rows = cells(str(ended))
    for each in told["stages"]:
        name = each["stage"] if each["outcome"] == "ran" else f"{each['stage']} ({each['outcome']})"
        assert rows[name][1] == each["why"]
        if each["outcome"] == "ran":
            assert float(rows[name][2].removesuffix(" s")) == pytest.approx(each["wall_seconds"], abs=0.051)
            assert float(rows[name][3].removesuffix(" s")) == pytest.approx(each["cpu_seconds"], abs=0.051)
            assert rows[name][4] == f"{each['peak_bytes'] // MIB} MiB"
    first, complaint = str(ended).split("\n\n")[:2]
    assert re.match(r"\*\*reproduce digits\*\* failed in \d+\.\d s: 2 ran, 8 cached, 1 failed; ", first)
    assert first.endswith(f"{told['cpu_seconds']:.1f} s of CPU, at most {told['peak_bytes'] // MIB} MiB")
    assert (told["cached"], told["outcome"]) == (8, "failed")
    assert told["failures"] == [complaint.removeprefix("- ")]
    before = told["datasets"]["digits"]["before"]
    assert before["best"] == {"name": "sparse", "value": 0.9}
    assert before["champion"] == {"name": "version 2, sparse", "value": 0.9}
    assert rows["best"][1:] == ["probe accuracy", "best", "sparse: 0.900", "the same"]
    assert rows["champion"][3] == "version 2, sparse: 0.900"


def changed(run: Recorder) -> dict[str, Any]:
    found: dict[str, Any] = run.end().to_json()["datasets"]["digits"]
    return found


def test_a_board_that_moved_is_told_before_and_after() -> None:
    board("sparse", 0.9)
    champion(2, "sparse", "c0ffee")
    recorded(sparse="c0ffee")
    run = Recorder("retrain", ["digits"])
    board("other", 0.95, other=0.7)
    recorded(sparse="facade", other="decade")
    champion(3, "other", "decade")
    found = changed(run)
    assert found["before"]["best"] == {"name": "sparse", "value": 0.9}
    assert found["after"]["best"] == {"name": "other", "value": 0.95}
    assert found["after"]["champion"] == {"name": "version 3, other", "value": 0.95}


def test_a_champion_that_stays_keeps_the_value_it_was_known_by() -> None:
    board("sparse", 0.9)
    champion(2, "sparse", "c0ffee")
    recorded(sparse="c0ffee")
    run = Recorder("retrain", ["digits"])
    board("sparse", 0.95)
    recorded(sparse="facade")
    found = changed(run)
    assert found["after"]["best"]["value"] == 0.95
    assert found["after"]["champion"] == {"name": "version 2, sparse", "value": 0.9}
    assert changed(Recorder("retrain", ["digits"]))["before"]["champion"]["value"] is None


def test_nothing_compared_and_nothing_run_is_told_too() -> None:
    run = Recorder("reproduce", ["digits"])
    run.plan([], cached=11)
    text = str(run.end())
    assert "0 ran, 11 cached" in text
    assert "|" not in text


def test_a_unit_that_fails_at_its_second_stage_has_run_its_first() -> None:
    run = Recorder("reproduce", [])
    run.plan([CELL, COMPARE], cached=0)
    run.start(CELL)
    spend("train@digits-sparse", 4.0, 3.0, 300)
    run.fail(CELL, "train@digits-sparse: broken")
    assert [(each.outcome, each.cpu_seconds) for each in run.end().stages] == [
        ("ran", 3.0),
        ("failed", None),
        ("not started", None),
    ]


def test_a_run_that_was_cut_off_says_what_it_was_at() -> None:
    run = Recorder("reproduce", [])
    run.plan([CELL, COMPARE], cached=0)
    run.start(CELL)
    ended = run.end(KeyboardInterrupt())
    assert ended.outcome == "interrupted"
    assert [each.outcome for each in ended.stages] == ["interrupted", "interrupted", "not started"]
    assert "0 ran, 0 cached, 2 interrupted, 1 not started" in str(ended)


def test_a_retraining_has_what_its_parts_did() -> None:
    run = Recorder("retrain", ["digits"], "the-retraining")
    summary.write(one_run(run="a-part", parent="the-retraining"))
    run.decided(Decision("digits", "held", "gates"))
    ended = run.end()
    assert [each.stage for each in ended.stages] == [*CELL.stages, *COMPARE.stages]
    assert (ended.cpu_seconds, ended.count("cached")) == (41.75, 8)
    assert ended.decisions == ("digits: held: gates",)
    assert "- digits: held: gates" in str(ended)
    summary.write(ended)
    assert Recorder("retrain", ["digits"], "another").end().stages == ()


def test_of_many_stages_the_dearest_have_a_line_and_the_others_share_one() -> None:
    run = Recorder("reproduce", [])
    work = [Unit(f"ingest@{k:02}", (f"ingest@{k:02}",), frozenset(), "never ran before") for k in range(14)]
    run.plan(work, cached=0)
    for k, unit in enumerate(work):
        spend(unit.name, 1.0 + k, 0.5, 100 + k)
        run.finish(unit, unit.stages)
    ended = run.end()
    rows = cells(str(ended))
    assert [name for name in rows if name.startswith("ingest@")] == [
        f"ingest@{k:02}" for k in range(13, 3, -1)
    ]
    assert rows["4 more"] == ["4 more", "", "10.0 s", "2.0 s", "103 MiB"]
    assert len(ended.to_json()["stages"]) == 14


def test_of_many_runs_the_last_are_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "KEPT", 3)
    ended = Recorder("reproduce", []).end()
    for day in range(1, 6):
        summary.write(replace(ended, began=f"2026-06-0{day}T03:00:00.000+00:00"))
    kept = sorted(path.name[:8] for path in (project / "var/runs").iterdir())
    assert kept == ["20260603", "20260604", "20260605"]
