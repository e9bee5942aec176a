"""Real DVC in a temporary copy: an edit reruns what it touches, and the flow runs what `dvc repro` runs."""

import json
from pathlib import Path

import pytest
from projects import DATASET, VARIANTS, Project, copy_project, ran, shrink

from pipelines.reproduce import make_plan, reproduce

pytestmark = pytest.mark.slow


def cell(*verbs: str, variant: str) -> list[str]:
    return [f"{verb}@{DATASET}-{variant}" for verb in verbs]


FOLLOWS = [f"compare@{DATASET}", f"record@{DATASET}", "report"]


def planned(project: Project, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.chdir(project.path)
    return {stage for unit in make_plan([]).work for stage in unit.stages}


def test_every_stage_of_a_fresh_copy_is_planned(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_project(root, tmp_path)
    shrink(project)
    stages = project.run("dvc", "stage", "list", "--name-only").split()
    assert len(stages) == 3 + 2 * len(VARIANTS) + 3 + 1
    assert planned(project, monkeypatch) == set(stages)


def test_a_second_repro_runs_nothing(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(tiny.run("dvc", "repro")) == []
    assert planned(tiny, monkeypatch) == set()


def test_a_knob_reruns_its_variant_and_what_follows(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.edit("variants.sparse.l1", 0.25)
    expected = [*cell("train", "evaluate", variant="sparse"), *FOLLOWS]
    assert planned(tiny, monkeypatch) == set(expected)
    assert ran(tiny.run("dvc", "repro")) == expected


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_runs_the_stages_that_dvc_would(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tiny.path / "src"))
    monkeypatch.chdir(tiny.path)
    tiny.edit("variants.denoising.level", 0.2)
    before = json.loads(tiny.run("dvc", "status", "--json"))
    trained = [stage for stage in before if stage.startswith(("train@", "evaluate@"))]
    assert trained == cell("train", variant="denoising")
    costs = tiny.path / "var/costs"
    for path in costs.glob("*.json"):
        path.unlink()
    assert reproduce(promoting=False, return_state=True).is_completed()
    expected = [*cell("train", "evaluate", variant="denoising"), *FOLLOWS]
    assert {path.stem for path in costs.glob("*.json")} == {stage.replace("@", "-") for stage in expected}
    assert ran(tiny.run("dvc", "repro")) == []


def test_an_evaluation_setting_retrains_nothing(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    was = (tiny.path / "params.yaml").read_text()
    tiny.edit("evaluation.anomaly.neighbours", 7)
    stale = planned(tiny, monkeypatch)
    (tiny.path / "params.yaml").write_text(was)
    assert {f"floors@{DATASET}", *FOLLOWS} <= stale
    assert {stage for variant in VARIANTS for stage in cell("evaluate", variant=variant)} <= stale
    assert not any(stage.startswith(("train@", "prepare@", "validate@", "ingest@")) for stage in stale)


def test_a_corruption_to_meet_concerns_no_floor(tiny: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    was = (tiny.path / "params.yaml").read_text()
    tiny.edit("evaluation.denoising.masking", [0.5])
    stale = planned(tiny, monkeypatch)
    (tiny.path / "params.yaml").write_text(was)
    assert stale == {*(f"evaluate@{DATASET}-{variant}" for variant in VARIANTS), *FOLLOWS}


@pytest.mark.parametrize(
    ("shared", "verb"),
    [
        ("architectures/mlp.py", "train"),
        ("training/loop.py", "train"),
        ("evaluation/probe.py", "evaluate"),
        ("data/splits.py", "prepare"),
    ],
)
def test_shared_code_makes_the_right_stages_stale(
    tiny: Project, monkeypatch: pytest.MonkeyPatch, shared: str, verb: str
) -> None:
    path = tiny.path / "src/latentops" / shared
    was = path.read_text()
    path.write_text(was + "\n# edited\n")
    status = json.loads(tiny.run("dvc", "status", "--json"))
    path.write_text(was)
    touched = {stage for stage in status if stage.startswith(f"{verb}@")}
    cells = {f"{verb}@{DATASET}-{variant}" for variant in VARIANTS}
    assert touched == (cells if verb in {"train", "evaluate"} else {f"{verb}@{DATASET}"})


def test_a_clone_and_a_pull_leave_nothing_stale(tiny: Project, tmp_path: Path) -> None:
    tiny.run("dvc", "remote", "add", "--force", "--default", "here", str(tmp_path / "remote"))
    tiny.run("dvc", "push", "--quiet")
    tiny.git("add", "--all")
    tiny.git("commit", "--quiet", "--allow-empty", "--message", "all of it")
    clone = Project(tmp_path / "clone")
    tiny.git("clone", "--quiet", str(tiny.path), str(clone.path))
    clone.run("dvc", "pull", "--quiet")
    assert json.loads(clone.run("dvc", "status", "--json")) == {}
