"""DVC's list of locks: what a process that is gone held is released, what one holds is not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from latentops import locks


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / locks.LIST).parent.mkdir(parents=True)
    return tmp_path


def write(project: Path, **pids: int) -> None:
    """A list in which each process reads one path and writes another."""
    read = {f"/{name}/in": [{"pid": pid, "cmd": f"/bin/{name} run --now"}] for name, pid in pids.items()}
    held = {f"/{name}/out": {"pid": pid, "cmd": f"/bin/{name} run --now"} for name, pid in pids.items()}
    (project / locks.LIST).write_text(json.dumps({"read": read, "write": held}))


def left(project: Path) -> set[str]:
    found = json.loads((project / locks.LIST).read_text())
    return {name.split("/")[1] for name in (*found["read"], *found["write"])}


def test_without_a_list_or_a_lock_there_is_nothing_to_release(project: Path) -> None:
    assert locks.release(project) == []
    (project / locks.LIST).write_text("{}")
    assert locks.release(project) == []


def test_who_is_gone_or_another_program_by_now_holds_nothing(project: Path) -> None:
    write(project, gone=2**30, other=os.getpid())
    said = locks.release(project)
    assert len(said) == 2
    assert f"`/bin/other run --now` (process {os.getpid()}, which is gone)" in said[1]
    assert left(project) == set()
    assert locks.release(project) == []


@pytest.mark.parametrize(
    "command", [["-c", "import time; time.sleep(60)", "run", "--now"], ["-m", "dvc_sleep"]]
)
def test_who_runs_keeps_its_locks(project: Path, command: list[str]) -> None:
    """It is known by its arguments, or as DVC."""
    (project / "dvc_sleep.py").write_text("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, *command], cwd=project) as process:
        while len(psutil.Process(process.pid).cmdline()) < len(command) + 1:
            time.sleep(0.01)
        write(project, gone=2**30, runs=process.pid)
        try:
            assert len(locks.release(project)) == 1
            assert left(project) == {"runs"}
        finally:
            process.kill()


@pytest.mark.parametrize("text", ["", '{"read": {"/a"', '{"read": []}', '{"write": {"/a": {"pid": "x"}}}'])
def test_a_list_that_is_not_whole_is_removed(project: Path, text: str) -> None:
    (project / locks.LIST).write_text(text)
    assert len(locks.release(project)) == 1
    assert not (project / locks.LIST).exists()
