"""Children of a flow: none outlives its limit or its flow, whatever it thinks of being asked to end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import ClassVar

import psutil
import pytest

from latentops.errors import LatentOpsError
from pipelines import children
from pipelines.children import Children, TimeLimitError

POLITE = "exec sleep 600"
STUBBORN = "trap '' INT TERM; while :; do sleep 1; done"
KINDS = {
    "polite": f"sh -c 'echo $$ > pid; {POLITE}' & wait",
    "stubborn": f'sh -c "echo \\$\\$ > pid; {STUBBORN}" & wait',
    "in a session of its own": f"setsid sh -c 'echo $$ > pid; {POLITE}' & wait",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(children, "GRACE", 1.0)
    return tmp_path


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def written() -> bool:
    return Path("pid").exists() and Path("pid").read_text().endswith("\n")


def gone(file: str = "pid") -> bool:
    pid = int(Path(file).read_text())
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_lines_come_as_they_are_said_and_the_status_is_given_back() -> None:
    heard: list[str] = []
    with Children() as group:
        assert group.run(["sh", "-c", "echo one; echo two >&2; exit 3"], heard.append) == 3
        assert group.run(["sh", "-c", "kill -9 $$"], heard.append) == -signal.SIGKILL
    assert heard == ["one", "two"]


class Clock:
    """Stands in for `threading.Timer`: time is up when the test says so."""

    started: ClassVar[list["Clock"]] = []

    def __init__(self, seconds: float, reach: Callable[[], None]) -> None:
        self.seconds, self.reach, self.daemon = seconds, reach, False

    def start(self) -> None:
        Clock.started.append(self)

    def cancel(self) -> None:
        pass


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> list[Clock]:
    monkeypatch.setattr(children, "Timer", Clock)
    monkeypatch.setattr(Clock, "started", [])
    return Clock.started


@pytest.mark.parametrize("kind", KINDS)
def test_over_its_limit_a_grandchild_ends_too(clocks: list[Clock], kind: str) -> None:
    errors: list[LatentOpsError] = []

    def run() -> None:
        try:
            group.run(["sh", "-c", KINDS[kind]], print, seconds=60)
        except TimeLimitError as error:
            errors.append(error)

    with Children() as group:
        thread = Thread(target=run)
        thread.start()
        assert until(lambda: written() and bool(clocks))
        clocks[-1].reach()
        thread.join(30)
    assert errors
    assert until(gone)


@pytest.mark.parametrize("kind", KINDS)
def test_on_leaving_all_that_run_are_ended(kind: str) -> None:
    statuses: list[int] = []
    with Children() as group:
        thread = Thread(target=lambda: statuses.append(group.run(["sh", "-c", KINDS[kind]], print)))
        thread.start()
        assert until(written)
    thread.join(30)
    assert statuses
    assert statuses != [0]
    assert until(gone)


def test_after_leaving_none_starts() -> None:
    with Children() as group:
        pass
    assert group.run(["touch", "started"], print) != 0
    assert not Path("started").exists()


def test_a_line_that_renews_begins_the_limit_anew(clocks: list[Clock]) -> None:
    with Children() as group:
        command = ["sh", "-c", "echo next; echo other; echo next"]
        group.run(command, print, seconds=60, renews=lambda line: line.startswith("next"))
        assert [clock.seconds for clock in clocks] == [60, 60, 60]
        group.run(command, print)
        assert len(clocks) == 3, "no limit, no clock"


def test_a_listener_that_fails_leaves_no_process() -> None:
    def say(line: str) -> None:
        raise ValueError(line)

    with Children() as group, pytest.raises(ValueError, match="go"):
        group.run(["sh", "-c", "echo $$ > pid; echo go; exec sleep 600"], say)
    assert until(gone)


FLOW = """
import sys
from pathlib import Path
from subprocess import Popen
from pipelines.children import Children
before = Popen(["sleep", "600"])
Path("before").write_text(f"{before.pid}\\n")
with Children() as group:
    group.run(["sh", "-c", sys.argv[1]], print)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_all_end_with_a_flow_that_is_killed(kind: str, root: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    with subprocess.Popen([sys.executable, "-c", FLOW, KINDS[kind]], env=environment) as flow:
        assert until(written)
        flow.kill()
    assert until(gone)
    assert until(lambda: gone("before"))


def test_a_guard_ends_what_it_watches_and_nothing_else() -> None:
    processes = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2)]
    watched, forgotten = processes
    children.guard([f"+{watched.pid}", f"+{forgotten.pid}", f"-{forgotten.pid}", f"+{2**30}"])
    assert watched.wait(30) in {-signal.SIGINT, -signal.SIGKILL}  # as it was told to pass over SIGINT or not
    assert forgotten.poll() is None
    forgotten.kill()
    forgotten.wait()
