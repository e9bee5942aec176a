"""What retraining decides, with toy stages, and one real case from a file to the gates."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from projects import DATASET, Project, ran

from latentops.errors import LatentOpsError
from latentops.registry.champion import Decision as Outcome
from pipelines import retrain as retraining
from pipelines.decisions import LEDGER, Decision, append, decisions, unfinished
from pipelines.incoming import Incoming, Rows, named, new_files
from pipelines.retrain import retrain


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with the real params.yaml."""
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    (tmp_path / "data/incoming/breast_cancer").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def incoming(project: Path, name: str, text: str) -> Path:
    path = project / "data/incoming/breast_cancer" / name
    path.write_text(text)
    return path


def names(kind: str = "tabular") -> list[str]:
    return [file.path.name for file in new_files("breast_cancer", kind, decisions("breast_cancer"))]


def test_half_written_and_foreign_files_are_left_alone(project: Path) -> None:
    for name in ("a.csv", "b.parquet", "c.csv.part", ".d.csv", "e.txt"):
        incoming(project, name, name)
    assert names() == ["a.csv", "b.parquet"]
    assert names("image") == ["b.parquet"]


def test_a_file_is_new_until_a_decision_settles_it(project: Path) -> None:
    path = incoming(project, "a.csv", "rows")
    (file,) = new_files("breast_cancer", "tabular", [])
    told = {"files": (named(file),)}
    append(Decision("breast_cancer", "waiting", "too few", **told))
    assert names() == ["a.csv"]
    append(Decision("digits", "promoted", "another dataset's", **told))
    assert names() == ["a.csv"]
    append(Decision("breast_cancer", "held", "gates", **told))
    assert names() == []
    path.rename(path.with_name("renamed.csv"))
    assert names() == []
    incoming(project, "a.csv", "other rows")
    assert names() == ["a.csv"]


def test_the_same_bytes_twice_are_one_file(project: Path) -> None:
    incoming(project, "a.csv", "rows")
    incoming(project, "b.csv", "rows")
    assert names() == ["a.csv"]


def test_only_a_failed_run_is_unfinished() -> None:
    past = [{"decision": "failed"}, {"decision": "rejected"}]
    assert unfinished(past)
    assert not unfinished([*past, {"decision": "held"}])
    assert not unfinished([])


def test_a_broken_ledger_is_named_by_line(project: Path) -> None:
    append(Decision("digits", "no new rows", "no new file"))
    with LEDGER.open("a") as ledger:
        ledger.write("{half\n")
    with pytest.raises(LatentOpsError, match=r"decisions\.jsonl: line 2 is not JSON"):
        decisions("digits")


@pytest.fixture
def toy(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Retraining whose files are `CLEAN BAD` and whose DAG and gates always hold; what it was called with."""
    calls: list[tuple[str, ...]] = []

    def examine(file: Incoming, dataset: str, settings: object, earlier: object) -> Rows:
        clean, _, bad = file.path.read_text().partition(" ")
        if clean == "broken":
            raise LatentOpsError(f"{file.path.name}: no column 'mean radius'")
        rows = pa.table({"x": np.zeros(int(clean))})
        return Rows(file, rows, rows, int(bad or 0), {"x: missing": int(bad or 0)})

    def conclude(
        dataset: str, accepted: tuple[str, ...], why: str, told: dict[str, Any], *_: object
    ) -> Decision:
        calls.append(accepted)
        return Decision(dataset, "held", "a gate", accepted=accepted, **told)

    monkeypatch.setattr(retraining, "examine", examine)
    monkeypatch.setattr(retraining, "accept", lambda rows, dataset: f"{rows.file.path.stem}.parquet")
    monkeypatch.setattr(retraining, "conclude", conclude)
    return calls


def decided() -> list[tuple[str, list[str]]]:
    return [
        (entry["decision"], [file["name"] for file in entry["files"]]) for entry in decisions("breast_cancer")
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_every_outcome_is_recorded(project: Path, toy: list[tuple[str, ...]]) -> None:
    def run() -> None:
        assert retrain("breast_cancer", return_state=True).is_completed()

    run()
    incoming(project, "few.csv", "4 1")
    run()
    incoming(project, "broken.csv", "broken")
    incoming(project, "more.csv", "9 2")
    run()
    run()
    assert decided() == [
        ("no new rows", []),
        ("waiting", ["few.csv"]),
        ("rejected", ["broken.csv"]),
        ("held", ["few.csv", "more.csv"]),
        ("no new rows", []),
    ]
    assert toy == [("few.parquet", "more.parquet")]
    held = decisions("breast_cancer")[3]
    assert held["rows"] == {"new": 16, "clean": 13, "known": 0, "bad": 3}
    assert held["bad_reasons"] == {"x: missing": 3}
    rejected = decisions("breast_cancer")[2]
    assert rejected["reason"] == "broken.csv: no column 'mean radius'"
    assert sorted(path.name for path in (project / "data/incoming/breast_cancer").iterdir()) == [
        "broken.csv",
        "few.csv",
        "more.csv",
    ]


WAITS = {"gate": "approval", "value": None, "limit": None, "passed": False, "text": "waits"}
PASSED = {"gate": "alive", "value": 1.0, "limit": 0.5, "passed": True, "text": "alive"}


@pytest.fixture
def unapproved(toy: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Retraining whose new model waits for a person alone; what was done with the answer."""
    done = []

    def conclude(
        dataset: str, accepted: tuple[str, ...], why: str, told: dict[str, Any], *_: object
    ) -> Decision:
        return Decision(dataset, "held", "approval: waits", accepted=accepted, gates=(PASSED, WAITS), **told)

    def decided_as(event: str) -> Callable[..., Outcome]:
        def act(dataset: str, reason: str = "", **_: object) -> Outcome:
            done.append((event, reason))
            return Outcome(dataset, event == "promote", 2, 1, "sparse", 0, "", (), f"{dataset}: {event}d")

        return act

    monkeypatch.setattr(retraining, "conclude", conclude)
    monkeypatch.setattr(retraining, "ASK_EVERY", 0.2)
    monkeypatch.setattr("latentops.promotion.promote", decided_as("promote"))
    monkeypatch.setattr("latentops.registry.champion.reject", decided_as("reject"))
    return done


def answer(**said: object) -> Thread:
    """Resume the first run that pauses."""

    def resume() -> None:
        with get_client(sync_client=True) as client:
            paused = FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            )
            for _ in range(600):
                for run in client.read_flow_runs(flow_run_filter=paused):
                    client.resume_flow_run(run.id, run_input=said)
                    return
                time.sleep(0.1)

    thread = Thread(target=resume)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("said", "done", "verdict"),
    [
        ({"approve": True, "reason": "looks fine"}, ("promote", "approved: looks fine"), "promoted"),
        ({"approve": False, "reason": "too odd"}, ("reject", "turned down: too odd"), "held"),
    ],
)
def test_a_person_has_the_last_word(
    project: Path,
    unapproved: list[tuple[str, str]],
    said: dict[str, object],
    done: tuple[str, str],
    verdict: str,
) -> None:
    incoming(project, "a.csv", "40")
    thread = answer(**said)
    assert retrain("breast_cancer", return_state=True).is_completed()
    thread.join()
    assert unapproved == [done]
    assert [entry["decision"] for entry in decisions("breast_cancer")] == ["held", verdict]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_without_an_answer_the_champion_stays(
    project: Path, unapproved: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("approval_hours: 12", "approval_hours: 0.0005"))
    incoming(project, "a.csv", "40")
    assert retrain("breast_cancer", return_state=True).is_completed()
    assert unapproved == []
    assert [entry["decision"] for entry in decisions("breast_cancer")] == ["held"]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_failed_run_is_taken_up_again(toy: list[tuple[str, ...]]) -> None:
    append(Decision("breast_cancer", "failed", "a stage broke"))
    retrain("breast_cancer", return_state=True)
    assert toy == [()]
    assert decided() == [("failed", []), ("held", [])]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_real_file_goes_all_the_way(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentops.config import load_params
    from latentops.data import sources

    monkeypatch.chdir(tiny.path)
    monkeypatch.setenv("PYTHONPATH", str(tiny.path / "src"))
    frame = sources.read_source(load_params().dataset(DATASET).source).whole().to_pandas()
    frame = frame.drop(columns=[".source", ".position"]).head(20)
    frame.loc[:, frame.columns != "diagnosis"] *= 1.01
    frame.loc[0, "mean radius"] = 999
    folder = tiny.path / "data/incoming" / DATASET
    folder.mkdir(parents=True)
    frame.to_csv(folder / "june.csv", index=False)
    frame.drop(columns="mean radius").to_csv(folder / "narrow.csv", index=False)

    assert retrain(DATASET, return_state=True).is_completed()

    rejected, outcome = decisions(DATASET)
    assert rejected["decision"] == "rejected"
    assert "narrow.csv: no column 'mean radius'" in rejected["reason"]
    assert outcome["decision"] in {"promoted", "held"}
    assert outcome["rows"] == {"new": 20, "clean": 19, "known": 0, "bad": 1}
    assert outcome["bad_reasons"] == {"mean radius: outside [1, 60]": 1}
    assert [gate["gate"] for gate in outcome["gates"]]
    (accepted,) = outcome["accepted"]
    assert (tiny.path / "data/accepted" / DATASET / f"{accepted}.dvc").is_file()
    assert (tiny.path / "var/retrain" / DATASET / "june.rejected.parquet").is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["june.csv", "narrow.csv"]
    validated = json.loads((tiny.path / f"results/validate/{DATASET}.json").read_text())
    assert validated["rows"] == 569 + 19
    assert ran(tiny.run("dvc", "repro")) == []
