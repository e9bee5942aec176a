"""Recording: one run a content hash, whatever happened to the store."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mlflow import MlflowClient

from latentops.atomic import write_json
from latentops.config import load_params
from latentops.errors import RegistryError, StoreError
from latentops.evaluation.comparison import along
from latentops.registry import lineage, results, store, tracking
from latentops.reporting.profiles import drawings
from latentops.stages import record as record_stage

from .conftest import VARIANTS, evaluated, write_comparison
from .servers import Tracking


def runs(dataset: str = "pictures") -> dict[str, list]:
    client = store.connect()
    found = client.search_runs([store.experiment(client, dataset)])
    return {
        role: [run for run in found if run.data.tags[tracking.ROLE] == role] for role in ("variant", "member")
    }


def record() -> dict[str, str]:
    return tracking.record("pictures", load_params(), drawings)


def test_one_parent_a_variant_and_one_child_a_seed(project: Path) -> None:
    hashes = record()
    found = runs()
    assert {run.data.tags[results.CONTENT] for run in found["variant"]} == set(hashes.values())
    assert len(found["variant"]) == len(VARIANTS)
    parents = {run.info.run_id for run in found["variant"]}
    assert len(found["member"]) == 2 * len(VARIANTS)
    assert {run.data.tags["mlflow.parentRunId"] for run in found["member"]} == parents
    assert all(run.info.status == "FINISHED" for role in found.values() for run in role)


def test_a_run_says_what_it_is_and_where_it_came_from(project: Path) -> None:
    record()
    run = next(run for run in runs()["variant"] if run.info.run_name == "variational")
    assert run.data.params["variant.beta"] == "1.0"
    assert run.data.params["training.seeds"] == "[0, 1]"
    assert run.data.metrics["probe_accuracy"] == pytest.approx(0.91)
    assert run.data.metrics["probe_accuracy_low"] < run.data.metrics["probe_accuracy_high"]
    assert run.data.tags["dvc.stage"] == "train@pictures-variational"
    assert run.data.tags["dvc.md5 src/latentops/training"]
    assert run.data.tags["library.torch"].startswith("2.")
    [used] = run.inputs.dataset_inputs
    assert used.dataset.digest == lineage.digest(Path("data/prepared/pictures"))
    client = store.connect()
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"settings.json", "config.json", "compare.json", "members.json", "train", "evaluate"} <= names


def test_every_member_is_in_the_table_whatever_its_view(project: Path) -> None:
    record()
    run = runs()["variant"][0]
    folder = Path(store.connect().download_artifacts(run.info.run_id, tracking.MEMBERS))
    table = json.loads(folder.read_text())
    views = [row[table["columns"].index("view")] for row in table["data"]]
    assert sorted(views) == ["a", "a", "all", "all", "b", "b"]


@pytest.mark.postgresql
def test_curves_are_metrics_by_step(project: Path) -> None:
    record()
    client = store.connect()
    child = runs()["member"][0]
    history = client.get_metric_history(child.info.run_id, "curve/objective")
    assert [point.step for point in history] == [20, 40, 60]


def test_profiles_are_metrics_by_place_and_figures(project: Path) -> None:
    record()
    run = next(run for run in runs()["variant"] if run.info.run_name == "variational")
    client = store.connect()
    places = client.get_metric_history(run.info.run_id, "profile/kl_by_unit")
    expected = along(evaluated("pictures", "variational")["profiles"], 0.95)["kl_by_unit"]["mean"]
    assert [(each.step, each.value) for each in places] == list(enumerate(expected))
    names = {item.path for item in client.list_artifacts(run.info.run_id, "figures")}
    assert {"figures/kl_by_unit.svg", "figures/withstood_error.svg"} <= names
    drawing = Path(client.download_artifacts(run.info.run_id, "figures/kl_by_unit.svg")).read_text()
    assert (
        ElementTree.fromstring(drawing).get("aria-label")
        == "KL by unit of variational: nats by unit, by its KL"
    )


def test_diagnoses_are_the_boards(project: Path) -> None:
    path = Path("results/compare/pictures.json")
    compared = json.loads(path.read_text())
    cost = {"mean": 1.5, "low": None, "high": None, "values": [1.25, 1.75]}
    lost = {"mean": None, "low": None, "high": None, "values": [None, 2.0]}
    for row in compared["rows"]:
        row["diagnosis"] |= {"reconstruction_cost": cost, "lost": lost}
    write_json(path, compared)
    record()
    for run in runs()["variant"]:
        assert run.data.metrics["diagnosis/reconstruction_cost"] == 1.5
        assert "diagnosis/lost" not in run.data.metrics
        assert run.data.metrics["diagnosis/effective_rank"] > 0
    for run in runs()["member"]:
        seed = int(run.data.tags["latentops.seed"])
        assert run.data.metrics["diagnosis/reconstruction_cost"] == cost["values"][seed]
        assert ("diagnosis/lost" in run.data.metrics) == (seed == 1)


def test_what_all_variants_say_together_is_the_experiments_and_the_latest(project: Path) -> None:
    def said() -> str | None:
        return store.connect().get_experiment_by_name("pictures").tags.get(tracking.CORRELATION)

    record()
    assert said() is None
    for value in (-0.25, 0.5):
        write_comparison("pictures", error_rank_correlation=value)
        record()
        assert said() == str(value)
    assert len(runs()["variant"]) == len(VARIANTS)


def test_studies_go_with_the_runs_and_change_no_hash(project: Path) -> None:
    study = Path("benchmarks/remedies.json")
    study.parent.mkdir()
    study.write_text('{"rows": []}')
    hashes = record()
    client = store.connect()
    for run in runs()["variant"]:
        names = {item.path for item in client.list_artifacts(run.info.run_id, "benchmarks")}
        assert names == {"benchmarks/remedies.json"}
    study.unlink()
    assert record() == hashes
    assert len(runs()["variant"]) == len(VARIANTS)


@pytest.mark.postgresql
def test_recording_twice_adds_nothing(project: Path) -> None:
    first = record()
    before = {run.info.run_id for role in runs().values() for run in role}
    assert record() == first
    assert {run.info.run_id for role in runs().values() for run in role} == before


@pytest.mark.postgresql
def test_a_lost_store_is_rebuilt_with_the_same_hashes(project: Path, lose_store: Callable[[], None]) -> None:
    first = record()
    lose_store()
    assert record() == first
    assert len(runs()["variant"]) == len(VARIANTS)


def test_other_results_are_another_run(project: Path) -> None:
    first = record()
    write_comparison("pictures", values=[0.7, 0.8])
    second = record()
    assert set(first.values()).isdisjoint(second.values())
    assert len(runs()["variant"]) == 2 * len(VARIANTS)


def test_a_recording_that_was_cut_short_is_begun_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", _raise)
        with pytest.raises(KeyboardInterrupt):
            record()
    assert [run.info.status for run in runs()["variant"]] == ["RUNNING"]
    record()
    found = runs()
    assert [run.info.status for run in found["variant"]] == ["FINISHED"] * len(VARIANTS)
    assert len(found["member"]) == 2 * len(VARIANTS)


def _raise(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_stage_writes_content_hashes_only(project: Path) -> None:
    record_stage.run("pictures")
    written = json.loads(Path("results/record/pictures.json").read_text())
    assert written == {"runs": record()}


@pytest.mark.postgresql
def test_artifacts_go_to_an_absolute_place_or_through_the_server(
    project: Path, own_server: Tracking | None
) -> None:
    record()
    found = store.connect().get_experiment_by_name("pictures")
    folder = project / "var" / "mlflow" / "artifacts" / "pictures"
    assert found.artifact_location == (
        f"mlflow-artifacts:/{found.experiment_id}" if own_server else str(folder)
    )


def test_an_experiments_copy_records_into_the_projects_store(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert store.home() == project / "var" / "mlflow"


@pytest.mark.slow
def test_a_fresh_store_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """MLflow's own initialisation of a SQLite file doesn't survive this; ours is serial."""
    code = "from latentops.registry import store; store.experiment(store.connect(), 'pictures')"
    command = [sys.executable, "-c", code.replace("pictures", "one of several")]
    many = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(each.communicate()[1], each.returncode) for each in many] == [("", 0)] * 3


@pytest.mark.slow
def test_a_store_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for it, there is nothing that the next try could not go on with."""
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "from latentops.registry import store; store.connect()"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StoreError: MLflow at sqlite:///" in done.stderr
    assert [path.name for path in Path("var/mlflow").iterdir()] == [".store.lock"]
    assert store.connect().search_registered_models() == []


def test_a_missing_result_is_named(project: Path) -> None:
    Path("results/evaluate/pictures/variational/metrics.json").unlink()
    with pytest.raises(
        RegistryError, match=r"results/evaluate/pictures/variational/metrics\.json: not found"
    ):
        record()


def test_a_server_that_is_down_is_one_clear_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        StoreError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 .*make services"
    ) as raised:
        store.connect()
    assert "\n" not in str(raised.value)
