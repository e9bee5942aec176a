"""A backup holds all that can't be made again, and restores it, also into another folder."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import latentops
from latentops.config import load_params
from latentops.errors import RegistryError
from latentops.registry import backup as saving
from latentops.registry import ledger, outbox, store, tracking
from latentops.registry.champion import promote
from latentops.registry.verification import verify
from latentops.reporting.profiles import drawings

from .conftest import write_comparison

STATE = ("var", "ledger", ".dvc")


@pytest.fixture
def saved(file_store: None, twice: Path) -> Iterator[Path]:
    """A backup of a project whose table has had two champions, where something waits and DVC has data."""
    cached = Path(".dvc/cache/files/md5/ab/cdef")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
    cached.parent.mkdir(parents=True)
    cached.write_text("rows")
    cached.chmod(0o444)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        tracking.record("series", load_params(), drawings)
    folder = twice.parent / "backup"
    made = saving.backup(folder)
    assert made.files > 10
    yield folder
    cached.chmod(0o644)


@pytest.fixture
def elsewhere(twice: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the project in another place, without any of that; the first one is gone."""
    place = twice.parent / "moved" / "clone"
    shutil.copytree(twice, place, ignore=shutil.ignore_patterns(*STATE))
    shutil.copytree(twice / ".dvc", place / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    monkeypatch.chdir(place)
    shutil.rmtree(twice)
    return place


@pytest.mark.slow
def test_what_was_backed_up_is_restored_into_another_place(saved: Path, elsewhere: Path) -> None:
    saving.restore(saved)
    for name in ("table@champion", "table@previous"):
        answer = verify(name)
        assert answer.holds, [link.text for link in answer.broken]
    assert latentops.load("table").facts.dataset == "table"
    assert len(ledger.entries("table")) == 2
    assert Path(".dvc/cache/files/md5/ab/cdef").read_text() == "rows"
    assert tracking.sync() == {"series": 2}
    write_comparison("table", "variational", values=[0.95, 0.96])  # and life goes on
    tracking.complete("table", load_params(), drawings)
    promote("table")
    assert verify("table").holds
    with closing(sqlite3.connect("var/mlflow/mlflow.db")) as database:
        assert "project/var" not in "\n".join(database.iterdump())


@pytest.mark.slow
def test_a_restored_store_is_the_one_that_was_saved(saved: Path) -> None:
    before = {path: path.read_bytes() for path in Path("var/mlflow/artifacts").rglob("*") if path.is_file()}
    shutil.rmtree("var")
    saving.restore(saved)
    after = {path: path.read_bytes() for path in Path("var/mlflow/artifacts").rglob("*") if path.is_file()}
    assert after == before
    with (
        closing(sqlite3.connect("var/mlflow/mlflow.db")) as here,
        closing(sqlite3.connect(saved / "mlflow.db")) as there,
    ):
        assert list(here.iterdump()) == list(there.iterdump())


@pytest.mark.slow
def test_nothing_is_replaced_unasked_or_from_a_backup_that_isnt_whole(saved: Path) -> None:
    with pytest.raises(RegistryError, match="there already"):
        saving.backup(saved)
    with pytest.raises(RegistryError, match=r"mlflow\.db: a store is here already; --force"):
        saving.restore(saved)
    Path("var/mlflow/mlflow.db").rename("elsewhere.db")
    with pytest.raises(RegistryError, match="runs wait here"):
        saving.restore(saved)
    shutil.rmtree(outbox.home())
    ledger.append({"event": "hold", "dataset": "table"})
    with pytest.raises(RegistryError, match="has lines that the backup hasn't"):
        saving.restore(saved)
    damaged = next(path for path in (saved / "artifacts").rglob("*.safetensors"))
    whole = damaged.read_bytes()
    for spoil, message in (
        (lambda: damaged.write_bytes(whole[:-1] + b"!"), "not as it was backed up; nothing was restored"),
        (damaged.unlink, "missing from the backup; nothing was restored"),
        (lambda: (saved / "manifest.json").write_text("{"), "not whole"),
        ((saved / "manifest.json").unlink, "is no backup"),
    ):
        spoil()
        with pytest.raises(RegistryError, match=message):
            saving.restore(saved, force=True)
        assert not Path("var/mlflow/mlflow.db").exists()
        assert len(ledger.entries("table")) == 3


@pytest.mark.slow
def test_with_force_the_backup_takes_the_place_of_what_is_here(saved: Path) -> None:
    write_comparison("table", "variational", values=[0.95, 0.96])
    tracking.complete("table", load_params(), drawings)
    promote("table")
    assert len(ledger.entries("table")) == 3
    saving.restore(saved, force=True)
    assert len(ledger.entries("table")) == 2
    command = [sys.executable, "-m", "latentops.cli", "verify", "table@champion"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False
    )  # this process has the old one open
    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("file_store")
def test_a_backup_that_fails_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    Path("var/mlflow/artifacts").mkdir()
    monkeypatch.setattr(saving, "_copy", fail)
    with pytest.raises(OSError, match="No space left"):
        saving.backup(Path("backup"))
    assert list(Path().glob("*backup*")) + list(Path().glob(".*backup*")) == []


def test_a_server_is_backed_up_by_its_own_means(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone:hunter2@db/mlflow")
    with pytest.raises(RegistryError, match="pg_dump") as raised:
        saving.backup(tmp_path / "backup")
    assert "hunter2" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.usefixtures("file_store")
def test_an_older_schema_is_upgraded_with_its_data(project: Path) -> None:
    """As after a new MLflow; where the store doesn't open before that, the error says what to run."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine

    hashes = tracking.complete("table", load_params(), drawings)
    uri = store.tracking_uri()
    config = _get_alembic_config(uri)
    newest = ScriptDirectory.from_config(config).get_current_head()
    assert newest is not None
    engine = create_sqlalchemy_engine(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()
    with closing(sqlite3.connect("var/mlflow/mlflow.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() != [(newest,)]
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True, capture_output=True)
    with closing(sqlite3.connect("var/mlflow/mlflow.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)]
    client = store.connect()
    assert {tracking.find(client, "table", each).info.run_name for each in hashes.values()} == set(hashes)
    with closing(sqlite3.connect("var/mlflow/mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'earlier'")
    code = "from latentops.cli import guard; from latentops.registry import store; guard(store.connect)"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "mlflow db upgrade" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.usefixtures("file_store")
def test_the_manifest_names_every_file(project: Path) -> None:
    tracking.complete("table", load_params(), drawings)
    saving.backup(Path("backup"))
    manifest = json.loads(Path("backup/manifest.json").read_text())
    files = {str(path.relative_to("backup")) for path in Path("backup").rglob("*") if path.is_file()}
    assert files == {*manifest["sha256"], "manifest.json"}
