"""The checksums of a dataset's own files, renewed in params.yaml after a file was meant to change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.config import File, Source, load_params, params_path
from latentops.data import entry, fetch, forgotten, history, sources, table
from latentops.data.table import Layout, Stored
from latentops.errors import DataError


@dataclass(frozen=True)
class Repinned:
    """The files whose checksum is another now, and the rows that came and went; None without a raw table."""

    files: tuple[str, ...]
    added: int | None
    removed: int | None


def repin(dataset: str, *, force: bool = False) -> Repinned:
    """Put the SHA-256 of the files as they are now into the entry of `dataset`, and nothing else.

    The rows are read first, and compared with those of `data/raw/<dataset>.parquet` by their content. Raises
    `DataError`, and leaves params.yaml as it was, where a file is nowhere or can't be read, where one with
    an official address has changed (unless `force`), and for a dataset that has no files.
    """
    source = load_params().dataset(dataset).source
    if not source.files:
        raise DataError(f"{dataset}: its source {source.name!r} is embedded; there is no checksum to renew")
    marks = source.read.marks if source.read is not None else None
    renewed = {}
    for file in (*source.files, *([marks] if marks is not None else [])):
        here = fetch.found(file)
        if here is None:
            fetch.locate(file)  # which says where it should be, or brings the one that is meant
            continue
        sha256 = fetch.digest(here[1])
        if sha256 == file.sha256:
            continue
        if file.url is not None and not force:
            raise DataError(
                f"{here[1]}: its SHA-256 is no longer the official one of {file.url}; remove the file to get "
                "that again, or say --force to go by the one that is here"
            )
        renewed[file.path] = sha256
    if not renewed:
        return Repinned((), None, None)
    added, removed = _compared(dataset, _with(source, renewed))
    entry.repin(params_path(), dataset, renewed)
    return Repinned(tuple(renewed), added, removed)


def _with(source: Source, renewed: Mapping[str, str]) -> Source:
    def new(file: File) -> File:
        return file.model_copy(update={"sha256": renewed.get(file.path, file.sha256)})

    read = source.read
    if read is not None and read.marks is not None:
        read = read.model_copy(update={"marks": new(read.marks)})
    return source.model_copy(update={"files": [new(file) for file in source.files], "read": read})


def _compared(dataset: str, source: Source) -> tuple[int | None, int | None]:
    """How many rows of the source aren't in the raw table, and the other way round."""
    accepted = Path("data/accepted", dataset)
    own = sources.read_source(source)
    now = _contents(forgotten.without(own.parts, own.layout, forgotten.read(accepted)), own.layout)
    path = Path("data/raw", f"{dataset}.parquet")
    if not path.exists():
        return None, None
    raw = Stored(path, f"ingest@{dataset}")
    later = {each.name for each in accepted.glob("*.parquet")}
    before = _contents(
        (
            part.filter(pa.array([each not in later for each in part.column(table.SOURCE).to_pylist()]))
            for part in raw.parts()
        ),
        table.layout_of(raw, source.label),
    )
    same, _ = history.pairs(before, now)
    return len(now[0]) - len(same), len(before[0]) - len(same)


def _contents(parts: Iterable[pa.Table], layout: Layout) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The first 128 bits of each row's hash."""
    hashes = [table.content_hashes(part, layout)[:, :16].copy().view(np.uint64) for part in parts]
    whole = np.concatenate([np.empty((0, 2), np.uint64), *hashes])
    return whole[:, 0], whole[:, 1]
