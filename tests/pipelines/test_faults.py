"""What goes wrong in the middle of a run costs no more than the rest of it.

Processes are killed, starved of room or let loose on each other for real; the same command is run again, and
in the end everything has the bytes that a run has which nothing happened to.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from projects import DATASET, Project, ran
from test_remotes import free_port, outs

from latentops.config import load_params
from latentops.data import sources
from pipelines import services
from pipelines.decisions import decisions

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAINS = f"train@{DATASET}-sparse"
PATIENCE = 600.0
"""Seconds, beside other tests."""
MOMENTS = 10


@dataclass(frozen=True)
class Undisturbed:
    """What a run makes that nothing happens to, and the seconds it takes."""

    outs: dict[str, bytes]
    lock: dict[str, Any]
    runs: Counter[tuple[str, str]]
    seconds: float


class Flow(subprocess.Popen[str]):
    """A flow in a project, from a command line; what it says is beside the project."""

    def __init__(self, project: Project, name: str = "reproduce", **environment: str) -> None:
        self.log = project.path.with_suffix(".log")
        path = f"{project.path / 'src'}{os.pathsep}{project.path}"
        with self.log.open("a") as log:
            super().__init__(
                [sys.executable, "-m", f"pipelines.{name}"],
                cwd=project.path,
                env=os.environ | {"PYTHONPATH": path} | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def ends_well(self) -> None:
        assert self.wait(PATIENCE) == 0, self.log.read_text()


def copied(project: Project, to: Path) -> Project:
    """A copy of its own, but for what it had to tell MLflow."""
    shutil.copytree(project.path, to, symlinks=True, ignore=shutil.ignore_patterns("var"))
    return Project(to)


def lock(project: Project) -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((project.path / "dvc.lock").read_text())["stages"]
    return stages


def like(project: Project, expected: Undisturbed) -> None:
    """The project is as after a run that nothing happened to, without a trace of one that was cut short."""
    assert lock(project) == expected.lock
    assert outs(project) == expected.outs
    assert project.run("dvc", "status", "--json").strip() == "{}"
    assert [path for path in project.path.rglob("*.part") if ".dvc" not in path.parts] == []


@pytest.fixture(scope="module")
def server(prefect_server: None) -> dict[str, str]:
    """Where the session's Prefect server is, for processes of their own."""
    from prefect.settings import get_current_settings

    return {"PREFECT_API_URL": str(get_current_settings().api.url)}


@pytest.fixture(scope="module")
def stale(tiny: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which a knob was turned: to train, evaluate, compare, record and report."""
    project = copied(tiny, tmp_path_factory.mktemp("stale") / "project")
    project.edit("variants.sparse.l1", 0.3)
    return project


@pytest.fixture(scope="module")
def undisturbed(
    stale: Project, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    project = copied(stale, tmp_path_factory.mktemp("undisturbed") / "project")
    began = time.monotonic()
    with Flow(project, **server) as flow:
        flow.ends_well()
    seconds = time.monotonic() - began
    found = runs(f"sqlite:///{project.path}/var/mlflow/mlflow.db")
    return Undisturbed(outs(project), lock(project), found, seconds)


def runs(store: str) -> Counter[tuple[str, str]]:
    """How many runs MLflow has of each name, and how they ended."""
    client = MlflowClient(tracking_uri=store)
    experiments = [each.experiment_id for each in client.search_experiments()]
    return Counter((run.info.run_name, run.info.status) for run in client.search_runs(experiments))


def until(found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `found` finds, as soon as it does."""
    deadline = time.monotonic() + seconds
    while not (there := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return there


def process_of(project: Project, stage: str) -> psutil.Process | None:
    """The process that runs a stage of the project."""
    verb, _, item = stage.partition("@")
    wanted = ["latentops.stages", verb, *item.split("-")]
    for each in psutil.process_iter(["cmdline", "cwd"]):
        if (each.info["cmdline"] or [])[2:] == wanted and each.info["cwd"] == str(project.path):
            return each
    return None


def test_a_training_that_is_killed_is_tried_again(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path
) -> None:
    for moment in range(MOMENTS):
        project = copied(stale, tmp_path / f"{moment}")
        with Flow(project, **server) as flow:
            victim = until(partial(process_of, project, TRAINS))
            time.sleep(random.Random(moment).uniform(0, 2))
            with suppress(psutil.NoSuchProcess):
                victim.kill()
            flow.ends_well()
        like(project, undisturbed)


def test_after_a_flow_that_is_killed_the_next_goes_on(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path
) -> None:
    for moment in range(MOMENTS):
        project = copied(stale, tmp_path / f"{moment}")
        with Flow(project, **server) as flow:
            time.sleep(random.Random(moment).uniform(0, undisturbed.seconds))
            flow.kill()
        with Flow(project, **server) as flow:
            flow.ends_well()
        like(project, undisturbed)


def killed(service: services.Service) -> None:
    """Kill a service and all that it has started."""
    process = services.running(service.pid_file)
    assert process is not None
    for each in [*process.children(recursive=True), process]:
        each.kill()
    until(lambda: services.running(service.pid_file) is None)


@contextmanager
def up(service: services.Service) -> Iterator[None]:
    services.start_one(service)
    try:
        yield
    finally:
        services.stop_one(service.pid_file)


def lost_by(flow: Flow, service: services.Service, seconds: float) -> None:
    """Kill the service that a flow uses after `seconds`; start it again once the flow has ended."""
    time.sleep(seconds)
    killed(service)
    flow.wait(PATIENCE)
    services.start_one(service)


def test_after_a_prefect_server_that_is_killed_the_next_run_goes_on(
    stale: Project,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefect, *_ = services.services(free_port(), 0)
    api = {"PREFECT_API_URL": prefect.environment["PREFECT_API_URL"]}
    monkeypatch.setattr(services, "STARTS_WITHIN", PATIENCE)
    for moment in range(MOMENTS):
        project = copied(stale, tmp_path / f"{moment}")
        monkeypatch.chdir(project.path)
        with up(prefect):
            with Flow(project, PREFECT_CLIENT_MAX_RETRIES="1", **api) as flow:
                lost_by(flow, prefect, random.Random(moment).uniform(0, undisturbed.seconds))
            with Flow(project, **api) as flow:
                flow.ends_well()
        like(project, undisturbed)


def test_an_mlflow_server_that_is_killed_costs_no_stage(
    stale: Project,
    undisturbed: Undisturbed,
    server: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it should have been told is kept, and delivered once it is back."""
    monkeypatch.setattr(services, "STARTS_WITHIN", PATIENCE)
    port = free_port()
    for moment in range(MOMENTS):
        project = copied(stale, tmp_path / f"{moment}")
        monkeypatch.chdir(project.path)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        _, mlflow, _ = services.services(0, port)
        with up(mlflow):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.page)
            with Flow(project, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", **server) as flow:
                lost_by(flow, mlflow, random.Random(moment).uniform(0, undisturbed.seconds))
            done = ran(flow.log.read_text())
            with Flow(project, **server) as flow:
                flow.ends_well()
            assert ran(flow.log.read_text()) == done, "every stage had run"
            project.run("latentops.cli", "sync")
            assert runs(mlflow.page) == undisturbed.runs
        like(project, undisturbed)


def test_two_flows_at_once_share_the_work(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path
) -> None:
    project = copied(stale, tmp_path / "project")
    with Flow(project, **server) as one, Flow(project, **server) as other:
        one.ends_well()
        other.ends_well()
    stages = ran(one.log.read_text())
    assert sorted(stages) == sorted(set(stages)), "each stage ran once"
    like(project, undisturbed)


def test_a_repro_by_hand_beside_a_flow_takes_nothing_from_it(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path
) -> None:
    project = copied(stale, tmp_path / "project")
    with Flow(project, **server) as flow:
        until(partial(process_of, project, TRAINS))
        said = project.run("dvc", "repro", check=False)
        flow.ends_well()
    assert "is busy, it is being blocked by" in said or "ERROR" not in said
    like(project, undisturbed)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[], None]]:
    """A disk of `size` bytes at `place`; yields what makes it one of a gigabyte."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a disk")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=1g", place], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize(
    "room", [4096, *(pytest.param(2**k, marks=pytest.mark.long) for k in (15, 17, 19, 21))]
)
def test_a_full_disk_ends_a_flow_and_spoils_nothing(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path, room: int
) -> None:
    size = int(subprocess.check_output(["du", "--summarize", "--block-size=1", stale.path]).split()[0])
    with small_disk(tmp_path / "disk", size + room) as grow:
        project = copied(stale, tmp_path / "disk/project")
        with Flow(project, **server) as flow:
            flow.wait(PATIENCE)
        grow()
        with Flow(project, **server) as again:
            again.ends_well()
        like(project, undisturbed)
        assert flow.returncode == 0 or re.search("[Nn]o space left|disk is full", again.log.read_text())


def test_a_clock_that_is_moved_makes_nothing_stale(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("no faketime on this machine")
    project = copied(stale, tmp_path / "project")
    moved(project, "-400d", "dvc", "repro", TRAINS)
    moved(project, "+400d", "dvc", "repro")
    with Flow(project, **server) as flow:
        flow.ends_well()
    assert ran(flow.log.read_text()) == []
    like(project, undisturbed)


def moved(project: Project, by: str, *command: str) -> None:
    """Run a command while the clock is `by` off."""
    path = f"{project.path / 'src'}{os.pathsep}{project.path}"
    done = subprocess.run(
        ["faketime", "-f", by, sys.executable, "-m", *command],
        cwd=project.path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_retrainings_at_once_take_a_file_in_once(
    tiny: Project, server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied(tiny, tmp_path / "project")
    for knob, value in {"min_new_rows": 30, "drift_alpha": None, "cooldown_hours": 0}.items():
        project.edit(f"retrain.{knob}", value)
    monkeypatch.chdir(project.path)
    known = sources.read_source(load_params().dataset(DATASET).source).whole().slice(0, 40)
    new = [
        pc.multiply(column, 1.001) if pa.types.is_floating(column.type) else column
        for column in known.columns
    ]
    folder = project.path / "data/incoming" / DATASET
    folder.mkdir(parents=True)
    rows = pa.table(dict(zip(known.column_names, new, strict=True)))
    pq.write_table(
        rows.select([each for each in rows.column_names if not each.startswith(".")]), folder / "new.parquet"
    )
    with Flow(project, "retrain", **server) as one, Flow(project, "retrain", **server) as other:
        one.ends_well()
        other.ends_well()
    made = [entry["decision"] for entry in decisions(DATASET) if entry["files"]]
    assert len(made) == 1
    assert made[0] in {"promoted", "held"}
    assert [entry["decision"] for entry in decisions(DATASET)][-1] == "no new rows"
    assert "waiting for another retraining to end" in one.log.read_text()
    assert project.run("dvc", "status", "--json").strip() == "{}"
