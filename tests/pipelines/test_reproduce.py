"""The flow on a toy DAG: what fails stops only what depends on it, and the next run resumes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import pytest

from latentops import locks
from latentops.config import load_params
from pipelines import reproduce as reproduction
from pipelines.graph import read_graph, read_status
from pipelines.reproduce import free_workers, make_plan, may_pass, reproduce, run_unit

pytestmark = pytest.mark.slow

# a → b → c, a → d; b fails until the file `mended` is there.
DAG = """
stages:
  a:
    cmd: echo a >> ran.txt && echo a > a.txt
    outs: [a.txt]
  b:
    cmd:
      - echo b >> ran.txt
      - 'test -f mended || { echo "error: b needs mending" >&2; exit 1; }'
      - echo b > b.txt
    deps: [a.txt]
    outs: [b.txt]
  c:
    cmd: echo c >> ran.txt && echo c > c.txt
    deps: [b.txt]
    outs: [c.txt]
  d:
    cmd: echo d >> ran.txt && echo d > d.txt
    deps: [a.txt]
    outs: [d.txt]
"""


@pytest.fixture
def toy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(root / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DAG)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(project: Path) -> list[str]:
    return (project / "ran.txt").read_text().split()


@pytest.mark.usefixtures("prefect_server")
def test_a_failure_stops_its_dependents_only_and_a_rerun_resumes(toy: Path) -> None:
    state = reproduce(promoting=False, return_state=True)
    assert state.is_failed()
    assert "b: b needs mending" in str(state.message)
    assert "1 failed, 1 not started for it" in str(state.message)
    assert sorted(lines(toy)) == ["a", "b", "d"]

    (toy / "mended").touch()
    assert [unit.name for unit in make_plan([]).work] == ["b", "c"]
    assert reproduce(promoting=False, return_state=True).is_completed()
    assert lines(toy)[3:] == ["b", "c"]
    assert read_status() == {}


def test_the_graph_is_dvcs_own(toy: Path) -> None:
    assert read_graph() == {
        "a": frozenset(),
        "b": frozenset({"a"}),
        "c": frozenset({"b"}),
        "d": frozenset({"a"}),
    }


@pytest.mark.usefixtures("toy")
def test_a_plan_says_how_much_is_cached() -> None:
    assert str(make_plan([])) == "4 stages: 0 cached by DVC, 4 stale or after a stale one"


def exited(status: int) -> str:
    return f"ERROR: failed to reproduce 'a': failed to run: python -m latentops.stages, exited with {status}"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (-signal.SIGKILL, []),
        (255, [exited(-9)]),
        (255, [exited(137)]),
        (255, ["ERROR: Unable to acquire lock. Most likely another DVC process is running"]),
        (255, ["ERROR: unexpected error - Cannot connect to host store.example:443"]),
    ],
)
def test_what_may_pass(code: int, lines: list[str]) -> None:
    assert may_pass(code, lines)
    assert not may_pass(code, ["error: digits: no column 'x'", *lines])


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (-signal.SIGINT, []),
        (255, [exited(1)]),
        (255, [exited(-2)]),
        (255, [exited(130)]),
        (255, ["ERROR: unexpected error - [Errno 28] No space left on device: 'models'"]),
        (255, ["ERROR: missing data 'source': data/raw/digits.parquet"]),
        (255, ["epoch 3 timed out", exited(1)]),
        (255, []),
    ],
)
def test_what_does_not_pass(code: int, lines: list[str]) -> None:
    assert not may_pass(code, lines)


@pytest.fixture
def told(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Stands in for DVC: of stage `b` it says what is given, a try each; gives back the stages asked for."""
    monkeypatch.setattr(reproduction, "run_unit", run_unit.with_options(retry_delay_seconds=[0, 0]))

    def stand_in(*answers: tuple[int, list[str]]) -> list[str]:
        waiting, asked = list(answers), []

        def stream(arguments: list[str], *_: object) -> tuple[int, list[str]]:
            stage = arguments[-1]
            asked.append(stage)
            return waiting.pop(0) if stage == "b" else (0, [])

        monkeypatch.setattr(reproduction, "stream", stream)
        return asked

    return stand_in


def last_run(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(max((project / "var/runs").glob("*.json")).read_text())
    return found


@pytest.mark.usefixtures("prefect_server")
def test_what_may_pass_is_tried_again(toy: Path, told: Callable[..., list[str]]) -> None:
    asked = told((255, [exited(-9)]), (255, [exited(137)]), (0, []))
    assert reproduce(promoting=False, return_state=True).is_completed()
    assert sorted(asked) == ["a", "b", "b", "b", "c", "d"]
    assert last_run(toy)["outcome"] == "completed"


@pytest.mark.usefixtures("prefect_server")
def test_after_three_tries_it_is_given_up(toy: Path, told: Callable[..., list[str]]) -> None:
    asked = told(*[(255, [exited(-9)])] * 3)
    state = reproduce(promoting=False, return_state=True)
    assert state.is_failed()
    assert asked.count("b") == 3
    assert "(3 tries)" in str(state.message)
    assert {each["stage"]: each["outcome"] for each in last_run(toy)["stages"]} == {
        "a": "ran",
        "b": "failed",
        "c": "not started",
        "d": "ran",
    }


@pytest.mark.usefixtures("prefect_server", "toy")
def test_bad_data_is_not_tried_again(told: Callable[..., list[str]]) -> None:
    asked = told((255, ["error: b: 12 of 40 rows break an expectation", exited(1)]))
    state = reproduce(promoting=False, return_state=True)
    assert asked.count("b") == 1
    assert "b: b: 12 of 40 rows break an expectation" in str(state.message)


def one_stage(project: Path, command: str) -> None:
    """The toy's DAG is one stage from here on."""
    (project / "dvc.yaml").write_text(json.dumps({"stages": {"a": {"cmd": command, "outs": ["a.txt"]}}}))


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def gone(project: Path) -> bool:
    """Whether the process that wrote `pid` has ended."""
    pid = int((project / "pid").read_text())
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


GRANDCHILD = "sh -c 'echo $$ > pid; exec sleep 600' & wait"


@pytest.mark.usefixtures("prefect_server")
def test_a_stage_over_its_limit_is_ended_with_all_it_started(toy: Path) -> None:
    one_stage(toy, GRANDCHILD)
    state = reproduce(promoting=False, stage_hours=15 / 3600, return_state=True)
    assert "took longer than stage_hours=0.00416" in str(state.message)
    assert gone(toy)


@pytest.mark.usefixtures("prefect_server")
def test_what_another_process_of_dvc_runs_is_waited_for(toy: Path) -> None:
    one_stage(toy, "echo a >> ran.txt; until test -f go; do sleep 0.1; done; echo a > a.txt")
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"], stdout=subprocess.DEVNULL):
        assert until((toy / "ran.txt").exists)
        timer = Timer(5, (toy / "go").touch)
        timer.start()
        assert reproduce(promoting=False, return_state=True).is_completed()
    assert lines(toy) == ["a"]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("left", ["held by a number in use", "half-written"])
def test_a_lock_that_dvc_left_behind_is_released(
    toy: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    held = json.dumps({"read": {}, "write": {str(toy / "a.txt"): {"pid": os.getpid(), "cmd": "dvc gone"}}})
    (toy / locks.LIST).write_text(held if left.startswith("held") else held[:20])
    one_stage(toy, "echo a > a.txt")
    assert reproduce(promoting=False, return_state=True).is_completed()
    assert re.search("`dvc gone` .* had locked|had left half-written", caplog.text)


# As at a terminal: what runs in the background may have been told to pass over SIGINT.
FLOW = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pipelines.reproduce import reproduce
reproduce(promoting=False)
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_stages_end_with_a_flow_that_is_asked_to_end(toy: Path, root: Path, sent: signal.Signals) -> None:
    one_stage(toy, GRANDCHILD)
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    with subprocess.Popen(
        [sys.executable, "-c", FLOW],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as flow:
        assert until(lambda: (toy / "pid").exists() and (toy / "pid").read_text().endswith("\n"))
        flow.send_signal(sent)
        assert flow.wait(60) != 0
    assert until(lambda: gone(toy), 15)
    assert last_run(toy)["outcome"] == "interrupted"
    assert [each["outcome"] for each in last_run(toy)["stages"]] == ["interrupted"]


@pytest.mark.parametrize("cores", [1, 2, 7, 64])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_workers_times_threads_never_exceed_the_cores(
    root: Path, monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    params = load_params()
    params = params.model_copy(update={"training": params.training.model_copy(update={"threads": threads})})
    workers = free_workers(params)
    assert workers * threads <= cores if threads <= cores else workers == 1
    assert (workers + 1) * threads > cores, "nor is a core left idle"
