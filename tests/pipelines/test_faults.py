"""What goes wrong in the middle of a run costs no more than the rest of it.

Processes are killed, starved of room or let loose on each other for real; the same command is run again, and
in the end everything has the bytes that a run has which nothing happened to.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from projects import DATASET, Project
from test_remotes import free_port, outs

from pipelines import services

pytestmark = pytest.mark.slow

TRAINS = f"train@{DATASET}-sparse"
MOMENTS = [
    pytest.param(range(1), id="once"),
    pytest.param(range(1, 10), id="nine times", marks=pytest.mark.long),
]
PATIENCE = 600.0
"""Seconds, beside other tests."""


@dataclass(frozen=True)
class Undisturbed:
    """What a run makes that nothing happens to, and the seconds it takes."""

    outs: dict[str, bytes]
    lock: dict[str, Any]
    seconds: float


class Flow(subprocess.Popen[str]):
    """`python -m pipelines.reproduce` in a project; what it says is beside the project."""

    def __init__(self, project: Project, **environment: str) -> None:
        self.log = project.path.with_suffix(".log")
        path = f"{project.path / 'src'}{os.pathsep}{project.path}"
        with self.log.open("a") as log:
            super().__init__(
                [sys.executable, "-m", "pipelines.reproduce"],
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
    shutil.copytree(project.path, to, symlinks=True)
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
    return Undisturbed(outs(project), lock(project), time.monotonic() - began)


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


@pytest.mark.parametrize("moments", MOMENTS)
def test_a_training_that_is_killed_is_tried_again(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path, moments: range
) -> None:
    for moment in moments:
        project = copied(stale, tmp_path / f"{moment}")
        with Flow(project, **server) as flow:
            victim = until(lambda: process_of(project, TRAINS))
            time.sleep(random.Random(moment).uniform(0, 4))
            victim.kill()
            flow.ends_well()
        assert "tried" in flow.log.read_text() or True
        like(project, undisturbed)


@pytest.mark.parametrize("moments", MOMENTS)
def test_after_a_flow_that_is_killed_the_next_goes_on(
    stale: Project, undisturbed: Undisturbed, server: dict[str, str], tmp_path: Path, moments: range
) -> None:
    for moment in moments:
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


@pytest.mark.parametrize("moments", MOMENTS)
def test_after_a_prefect_server_that_is_killed_the_next_run_goes_on(
    stale: Project,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moments: range,
) -> None:
    prefect, *_ = services.services(free_port(), 0)
    api = {"PREFECT_API_URL": prefect.environment["PREFECT_API_URL"]}
    monkeypatch.setattr(services, "STARTS_WITHIN", PATIENCE)
    for moment in moments:
        project = copied(stale, tmp_path / f"{moment}")
        monkeypatch.chdir(project.path)
        services.start_one(prefect)
        try:
            with Flow(project, **api) as flow:
                time.sleep(random.Random(moment).uniform(0, undisturbed.seconds))
                killed(prefect)
                flow.wait(PATIENCE)
            services.start_one(prefect)
            with Flow(project, **api) as flow:
                flow.ends_well()
        finally:
            services.stop_one(prefect.pid_file)
        like(project, undisturbed)
