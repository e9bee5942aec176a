"""Saves store, ledger, outbox and DVC's cache into a folder, and puts them back, here or elsewhere.

    mlflow.db       the store's database, by SQLite's own backup: whole, also while others write to it
    artifacts/      the files of runs and models
    ledger/ outbox/
    cache/          DVC's cache
    manifest.json   the sha256 of every file, and where the artifacts were

Data and results come back by git and `dvc checkout`.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from latentops import atomic
from latentops.errors import RegistryError
from latentops.registry import champion, ledger, lineage, outbox, store

MANIFEST = "manifest.json"
DATABASE = "mlflow.db"


@dataclass(frozen=True)
class Saved:
    """What a backup holds: files, and their bytes."""

    folder: Path
    files: int
    bytes: int


def backup(folder: Path) -> Saved:
    """Write a backup as `folder`, which must not exist yet.

    Files of the cache are hard links where that is possible: DVC never changes one. Raises `RegistryError`
    where `folder` exists, or the store isn't a SQLite file that is there.
    """
    if folder.exists():
        raise RegistryError(f"{folder}: there already; name a folder that isn't")
    database = _database()
    if not database.is_file():
        raise RegistryError(f"{database}: not found, so there is no store to back up")
    with store.locked("promotion", champion.HOLDER), atomic.replacing(folder) as aside:
        aside.mkdir()
        with (
            closing(sqlite3.connect(database)) as source,
            closing(sqlite3.connect(aside / DATABASE)) as target,
        ):
            source.backup(target)
        for name, place in _places(database).items():
            if place.is_dir():
                _copy(place, aside / name, link=name == "cache")
        hashes = {path.relative_to(aside).as_posix(): _sha256(path) for path in _files(aside)}
        manifest = {"artifacts": str(_places(database)["artifacts"]), "sha256": hashes}
        size = sum(path.stat().st_size for path in _files(aside))
        atomic.write_json(aside / MANIFEST, manifest)
    return Saved(folder, len(hashes), size)


def restore(folder: Path, *, force: bool = False) -> Saved:
    """Put back what `backup` wrote into `folder`, after every file of it was checked.

    Where the project lies elsewhere now, the store's paths are changed to it. What DVC's cache has already
    stays. Raises `RegistryError` where a file of the backup is missing, changed or not of it, or, without
    `force`, where there is a store, an outbox, or a ledger that has lines which the backup hasn't.
    """
    manifest = _verified(folder)
    database = _database()
    places = _places(database)
    if not force:
        _expect_room(folder, database)
    with store.locked("promotion", champion.HOLDER):
        if (folder / "cache").is_dir():
            _copy(folder / "cache", places["cache"], link=True)
        for name in ("artifacts", "ledger", "outbox"):
            if (folder / name).is_dir():
                with atomic.replacing(places[name]) as aside:
                    aside.mkdir()
                    _copy(folder / name, aside, link=False)
        with atomic.replacing(database) as aside:
            shutil.copyfile(folder / DATABASE, aside)
            _move(aside, str(manifest["artifacts"]), str(places["artifacts"]))
            for leftover in ("-wal", "-shm", "-journal"):
                database.with_name(f"{database.name}{leftover}").unlink(missing_ok=True)
    return Saved(folder, len(manifest["sha256"]), sum(path.stat().st_size for path in _files(folder)))


def _database() -> Path:
    uri = store.tracking_uri()
    if not uri.startswith("sqlite:///"):
        raise RegistryError(
            f"MLflow at {store.shown(uri)}: no SQLite file; back it up by its own means (such as `pg_dump` "
            "and a copy of the server's artifacts), the ledger by git and the cache by `dvc push`"
        )
    return Path(uri.removeprefix("sqlite:///")).resolve()


def _places(database: Path) -> dict[str, Path]:
    """Where each folder of a backup belongs."""
    places = {
        "artifacts": database.parent / "artifacts",
        "ledger": ledger.LEDGER.parent.resolve(),
        "outbox": outbox.home(),
    }
    return {**places, "cache": lineage.cache()} if Path(".dvc").is_dir() else places


def _verified(folder: Path) -> dict[str, dict[str, str]]:
    """The manifest of a backup, whose files are what it says."""
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        expected = dict(manifest["sha256"])
    except FileNotFoundError:
        raise RegistryError(f"{folder / MANIFEST}: not found, so {folder} is no backup") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{folder / MANIFEST}: not whole ({error})") from None
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    del found[MANIFEST]
    for name in sorted({*expected, *found}):
        if name not in found:
            raise RegistryError(f"{folder / name}: missing from the backup; nothing was restored")
        if _sha256(found[name]) != expected.get(name):
            raise RegistryError(f"{folder / name}: not as it was backed up; nothing was restored")
    return manifest


def _expect_room(folder: Path, database: Path) -> None:
    """Refuse to replace a store, an outbox or lines of the ledger."""
    cure = "--force replaces it (`latentops backup` saves it first)"
    if database.exists():
        raise RegistryError(f"{database}: a store is here already; {cure}")
    if outbox.entries():
        raise RegistryError(f"{outbox.home()}: runs wait here to be delivered; {cure}")
    for path in ledger.LEDGER.parent.glob("*.jsonl"):
        saved = folder / "ledger" / path.name
        if not (saved.read_bytes() if saved.exists() else b"").startswith(path.read_bytes()):
            raise RegistryError(f"{path}: has lines that the backup hasn't; {cure}")


def _move(database: Path, old: str, new: str) -> None:
    """Change every path in the store from under `old` to under `new`, in whichever table it is."""
    if old == new:
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                for before, after in ((old, new), (f"file://{old}", f"file://{new}")):
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '  # noqa: S608
                        f'WHERE "{column}" = ? OR substr("{column}", 1, ?) = ?',
                        (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _copy(source: Path, target: Path, *, link: bool) -> None:
    """Copy the files of `source` that `target` lacks; with `link` as hard links, where that is possible."""
    for path in _files(source):
        if path.name.endswith(".part") or any(
            part.endswith(".part") for part in path.relative_to(source).parts
        ):
            continue  # still being written
        there = target / PurePosixPath(path.relative_to(source).as_posix())
        there.parent.mkdir(parents=True, exist_ok=True)
        if there.exists():
            continue
        if link:
            try:
                os.link(path, there)
                continue
            except OSError:
                pass  # on another disk, or one that has no links
        with atomic.replacing(there) as aside:
            shutil.copy2(path, aside)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
