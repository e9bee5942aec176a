"""The flow on workers that are processes of their own in clones of their own: a Dask cluster, a work pool."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from projects import Project, copy_project, shrink
from test_remotes import free_port, outs, serving

from pipelines.graph import read_status
from pipelines.reproduce import reproduce

pytestmark = pytest.mark.slow

Where = dict[str, str]
"""What `reproduce` is told of the workers."""

# a → b → c, a → d, of which c is small enough for git. Each says in whose clone it ran; d loses its worker
# the first time, if the file `doomed` beside the clones says so.
DAG = """
stages:
  a:
    cmd: echo a > a.txt && basename $PWD >> ../ran-a
    outs: [a.txt]
  b:
    cmd: cat a.txt > b.txt && echo b >> b.txt && basename $PWD >> ../ran-b
    deps: [a.txt]
    outs: [b.txt]
  c:
    cmd: cat b.txt > c.txt && basename $PWD >> ../ran-c
    deps: [b.txt]
    outs: [{c.txt: {cache: false}}]
  d:
    cmd: echo half > d.txt && basename $PWD >> ../ran-d && python lose.py && cat a.txt > d.txt
    deps: [a.txt]
    outs: [d.txt]
  e:
    cmd: cat c.txt d.txt > e.txt && basename $PWD >> ../ran-e
    deps: [c.txt, d.txt]
    outs: [e.txt]
"""

# As if out of memory: what the stage was started by, up to a Dask worker or a work pool's flow run.
LOSE = """
import os
import signal
from pathlib import Path

import psutil

doomed = Path("../doomed")
if doomed.exists():
    doomed.unlink()
    above = psutil.Process().parents()
    said = [" ".join(each.cmdline()) for each in above]
    worker = next(i for i, each in enumerate(said) if "dask_worker" in each or "-m prefect." in each)
    for each in reversed(above[: worker + 1]):
        each.send_signal(signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def process(command: list[str], folder: Path, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a worker as long as the test needs it."""
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | environment,
            stdout=stream,
            stderr=stream,
        ) as started,
    ):
        try:
            yield
        finally:
            started.terminate()
            started.wait(60)


def clones(project: Project, place: Path) -> list[Project]:
    """Two clones of what the project's origin has."""
    found = [Project(place / name) for name in ("one", "two")]
    for each in found:
        project.git("clone", "--quiet", str(place / "origin.git"), str(each.path))
    return found


def code_of(clone: Project) -> dict[str, str]:
    """The environment in which a worker runs its own clone's code, where the clone has any."""
    root = clone.path if (clone.path / "src").exists() else Path(__file__).parents[2]
    venv = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "PATH": venv}


@contextmanager
def dask(project: Project, place: Path) -> Iterator[Where]:
    pytest.importorskip("prefect_dask", reason="no prefect-dask in this environment")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    with serving([sys.executable, "-m", *scheduler], port, place / "scheduler.log"), ExitStack() as stack:
        for clone in clones(project, place):
            command = [
                "distributed.cli.dask_worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
            ]
            log = place / f"{clone.path.name}.log"
            stack.enter_context(process(command, clone.path, code_of(clone), log))
        yield {"cluster": address}


@contextmanager
def pool(project: Project, place: Path) -> Iterator[Where]:
    from prefect.settings import get_current_settings

    api = str(get_current_settings().api.url)
    name = place.name
    prefect = [sys.executable, "-m", "prefect"]
    environment = {"PREFECT_API_URL": api, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    create = [*prefect, "work-pool", "create", name, "--type", "process"]
    subprocess.run(create, env=os.environ | environment, check=True, capture_output=True)
    with ExitStack() as stack:
        for clone in clones(project, place):
            command = ["prefect", "worker", "start", "--pool", name, "--type", "process", "--limit", "1"]
            home = {
                "LATENTOPS_CLONE": str(clone.path),
                "PREFECT_HOME": str(place / f"{clone.path.name}-home"),
            }
            log = place / f"{clone.path.name}.log"
            stack.enter_context(process(command, clone.path, code_of(clone) | environment | home, log))
        yield {"pool": name}


PLACES: dict[str, Callable[[Project, Path], AbstractContextManager[Where]]] = {"dask": dask, "pool": pool}


def share(project: Project, place: Path) -> None:
    """Commit all of the project to a repository and name a DVC remote, which are all that clones share."""
    project.run("dvc", "remote", "add", "--default", "store", str(place / "store"))
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "all of it")
    project.git("clone", "--quiet", "--bare", str(project.path), str(place / "origin.git"))
    project.git("remote", "add", "origin", str(place / "origin.git"))


@pytest.fixture
def toy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "flow")
    project.path.mkdir()
    shutil.copy(root / "params.yaml", project.path)
    shutil.copytree(
        root / "pipelines", project.path / "pipelines", ignore=shutil.ignore_patterns("__pycache__")
    )
    (project.path / "dvc.yaml").write_text(DAG)
    (project.path / "lose.py").write_text(LOSE)
    (project.path / ".gitignore").write_text("__pycache__/\n")
    project.git("init", "--quiet")
    project.run("dvc", "init", "--quiet")
    share(project, tmp_path)
    monkeypatch.chdir(project.path)
    return project


def lock(project: Project) -> dict[str, object]:
    stages: dict[str, object] = yaml.safe_load((project.path / "dvc.lock").read_text())["stages"]
    return stages


def refs(place: Path) -> str:
    command = ["git", "for-each-ref", "refs/latentops"]
    return subprocess.run(
        command, cwd=place / "origin.git", check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("kind", PLACES)
def test_a_stage_whose_worker_is_lost_runs_again(toy: Project, tmp_path: Path, kind: str) -> None:
    (tmp_path / "doomed").touch()
    with PLACES[kind](toy, tmp_path) as where:
        state = reproduce(promoting=False, return_state=True, **where)
    assert state.is_completed(), state.message
    ran = {stage: (tmp_path / f"ran-{stage}").read_text().split() for stage in "abcde"}
    assert len(ran["d"]) == 2
    assert [len(ran[stage]) for stage in "abce"] == [1, 1, 1, 1]
    assert {name for names in ran.values() for name in names} == {"one", "two"}
    assert (toy.path / "e.txt").read_text() == "a\nb\na\n"
    assert read_status() == {}
    assert refs(tmp_path) == ""


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("kind", PLACES)
def test_clones_that_share_a_remote_make_what_one_machine_makes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    alone, project = (copy_project(root, tmp_path / name) for name in ("alone", "flow"))
    shrink(alone)
    alone.run("dvc", "repro", "--quiet")
    shrink(project)
    share(project, tmp_path)
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("PYTHONPATH", code_of(project)["PYTHONPATH"])
    with PLACES[kind](project, tmp_path) as where:
        state = reproduce(promoting=False, return_state=True, **where)
    assert state.is_completed(), state.message
    assert lock(project) == lock(alone)
    assert outs(project) == outs(alone)
    assert read_status() == {}
    for clone in ("one", "two"):
        assert re.search("evaluate@|floors@|train@", " ".join(lock(Project(tmp_path / clone))))


@pytest.mark.usefixtures("prefect_server")
def test_what_is_not_committed_is_refused(toy: Project) -> None:
    (toy.path / "lose.py").write_text("")
    state = reproduce(promoting=False, cluster="tcp://127.0.0.1:1", return_state=True)
    assert "commit or stash first: lose.py" in str(state.message)


@pytest.mark.usefixtures("prefect_server", "toy")
def test_a_pool_that_is_not_there_is_refused_with_the_command_that_makes_it() -> None:
    state = reproduce(promoting=False, pool="nowhere", return_state=True)
    assert "no work pool 'nowhere': prefect work-pool create nowhere --type process" in str(state.message)
