"""Runs that the store didn't take, kept under `var/outbox` until they are delivered.

    <dataset>/<content hash>/run.json      the parent run and its children: tags, params, metrics
    <dataset>/<content hash>/artifacts/    its files

A folder is there whole or not at all.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentops import atomic
from latentops.errors import RegistryError
from latentops.registry import store

ARTIFACTS = "artifacts"
RUN = "run.json"


@dataclass(frozen=True)
class Entry:
    """A parent run with its children: `content` is its `run.json`, `folder` where that and the files are."""

    folder: Path
    content: dict[str, Any]

    @property
    def dataset(self) -> str:
        """Whose results they are."""
        return str(self.content["dataset"])

    @property
    def content_hash(self) -> str:
        """What the run is found again by."""
        return str(self.content["content_hash"])


def home() -> Path:
    """`var/outbox`, absolute."""
    return store.project_root() / "var" / "outbox"


@contextmanager
def keeping(dataset: str, content_hash: str) -> Iterator[Path]:
    """Yield a folder to `write` into; on success it is the entry of that content hash, else it is removed."""
    with atomic.replacing(home() / dataset / content_hash) as aside:
        yield aside


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the `run.json` of an entry."""
    atomic.write_json(folder / RUN, dict(content))


def read(folder: Path) -> Entry:
    """The entry in `folder`; `RegistryError` where its `run.json` is missing or isn't whole."""
    try:
        return Entry(folder, dict(json.loads((folder / RUN).read_text(encoding="utf-8"))))
    except (FileNotFoundError, ValueError) as error:
        raise RegistryError(
            f"{folder / RUN}: can't be read ({error}); remove {folder}, then `latentops record` writes anew "
            "what the results still say"
        ) from None


def entries(dataset: str = "*") -> list[Entry]:
    """What waits, of all datasets or of one, the oldest first."""
    found = [read(path.parent) for path in home().glob(f"{dataset}/[!.]*/{RUN}")]
    return sorted(found, key=lambda entry: (entry.content["milliseconds"], entry.folder))


def remove(entry: Entry) -> None:
    """Forget what was delivered."""
    gone = entry.folder.with_name(f".{entry.folder.name}.gone.part")
    entry.folder.rename(gone)
    shutil.rmtree(gone)
