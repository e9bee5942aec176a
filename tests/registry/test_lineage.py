import fcntl
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from latentops.errors import RegistryError
from latentops.registry import lineage
from latentops.registry.lineage import Lock

STAGE = {"cmd": "x", "deps": [{"path": "in", "md5": "a"}], "outs": [{"path": "out", "md5": "b"}]}
WHOLE = yaml.safe_dump({"schema": "2.0", "stages": {f"train@digits-{at}": STAGE for at in range(50)}})


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / ".dvc/tmp/lock").touch()
    return tmp_path


def test_a_lock_file_is_not_read_while_dvc_writes_it(workspace: Path) -> None:
    path = workspace / "dvc.lock"
    found: list[Lock] = []
    reader = threading.Thread(target=lambda: found.append(Lock.read(path)))
    with (workspace / ".dvc/tmp/lock").open("rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        path.write_text(WHOLE[: len(WHOLE) // 2])
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
        path.write_text(WHOLE)
    reader.join()
    assert len(found[0].stages) == 50
    assert found[0].stage("train@digits-49").outs == {"out": "b"}


def test_waiting_for_dvc_has_an_end(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "PATIENCE", 0.0)
    (workspace / "dvc.lock").write_text(WHOLE)
    with (workspace / ".dvc/tmp/lock").open("rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(RegistryError, match="held by another DVC command"):
            Lock.read(workspace / "dvc.lock")


def test_a_missing_lock_file_and_stage_say_what_to_run(workspace: Path) -> None:
    with pytest.raises(RegistryError, match="not found; run `dvc repro`"):
        Lock.read(workspace / "dvc.lock")
    (workspace / "dvc.lock").write_text(WHOLE)
    with pytest.raises(RegistryError, match="run `dvc repro train@digits-99`"):
        Lock.read(workspace / "dvc.lock").stage("train@digits-99")


@pytest.mark.slow
def test_rows_of_an_earlier_commit_come_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a folder has the md5 that DVC gives it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("data/prepared/table")
    (folder / "test").mkdir(parents=True)
    (folder / "test.json").write_text("earlier")
    (folder / "test/values.npy").write_text("earlier")
    dvc = [sys.executable, "-m", "dvc"]
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (
        [*git, "init", "-q"],
        [*dvc, "init", "-q"],
        [*dvc, "add", "-q", str(folder)],
        [*git, "add", "-A"],
        [*git, "commit", "-q", "-m", "rows"],
    ):
        subprocess.run(command, check=True)
    told = yaml.safe_load(Path("data/prepared/table.dvc").read_text())["outs"][0]["md5"]
    assert lineage.digest(folder) == told
    stage = lineage.Stage("prepare@table", {}, {str(folder): told})
    lock = lineage.Lock({stage.name: stage}, lineage.git_commit())
    with lineage.rows_of(lock, "table") as rows:
        assert rows == folder
    (folder / "test/values.npy").unlink()
    (folder / "test/values.npy").write_text("later")
    with lineage.rows_of(lock, "table") as rows:
        assert rows != folder
        assert lineage.digest(rows) == told
    shutil.rmtree(".dvc/cache")
    with lineage.rows_of(lock, "table") as rows:
        assert not rows.exists()
