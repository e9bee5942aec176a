"""Data at a revision as DVC has it, and what changed from one to another: rows added, removed and changed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from latentops.config import nearest
from latentops.data import table
from latentops.data.prepared import PLACES, UNLABELLED
from latentops.errors import ConfigError, DataError, UnknownNameError

WORKSPACE = "workspace"
"""What DVC calls the files as they are now."""
_AT_ONCE = 2**21  # rows that are held against each other


class Revision:
    """The tables at a commit, a tag, a branch or in the workspace: from the cache, or from a remote."""

    def __init__(self, name: str) -> None:
        """Open the project in the current folder; `DataError` where there is no such revision."""
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException

        self.name = name
        try:
            self.files = DVCFileSystem(rev=None if name == WORKSPACE else name)
            self.root: str = self.files.repo.root_dir
        except DvcException as error:
            raise DataError(f"{name}: {' '.join(str(error).split())}; run from the project's root") from None

    def datasets(self) -> list[str]:
        """Those that have a table of splits."""
        try:
            found = self.files.ls("data/splits", detail=False)
        except FileNotFoundError:
            return []
        return sorted(Path(each).stem for each in found if each.endswith(".parquet"))

    def md5(self, path: str) -> str | None:
        """What DVC knows the file or folder `path` by, or None."""
        try:
            known = self.files.info(path).get("dvc_info") or {}
        except FileNotFoundError:
            return None
        return known.get("md5")

    def label(self, dataset: str) -> str | None:
        """The column of the label, as params.yaml says."""
        try:
            found: dict[str, Any] = yaml.safe_load(self.files.read_text("params.yaml"))
            label: str | None = found["datasets"][dataset]["source"]["label"]
        except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError):
            raise ConfigError(f"{self.name}: params.yaml has no datasets.{dataset}.source.label") from None
        return label

    @contextmanager
    def open(self, path: str, stage: str) -> Iterator[pq.ParquetFile]:
        """The Parquet file `path` that `stage` writes; `DataError` says what to run where it is nowhere."""
        try:
            stream = self.files.open(path)
        except OSError:
            if self.name == WORKSPACE:
                todo = f"make it with `dvc repro {stage}`, or fetch it with `dvc pull {path}`"
            else:
                todo = f"fetch it with `dvc fetch --all-commits {path}` from the remote that has it"
            raise DataError(
                f"{self.name}: {path}: neither in the DVC cache nor in a remote; {todo}"
            ) from None
        with stream:
            yield pq.ParquetFile(stream)


@dataclass(frozen=True)
class Listed:
    """The rows of a dataset at a revision: for each its id, where it is from, its split and its class.

    Of an id the first 128 bits are kept; some 30 bytes a row in all.
    """

    ids: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    source: NDArray[np.int32]
    position: NDArray[np.int64]
    split: NDArray[np.int8]
    label: NDArray[np.int32]
    quarantined: int

    def __len__(self) -> int:
        """How many clean rows there are."""
        return len(self.position)


@dataclass(frozen=True)
class Example:
    """A row that differs: where it is, its class, and its splits before and after where it has them."""

    source: str
    position: int
    label: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Change:
    """What became of a dataset's rows: counts by what happened (added, removed, changed), class and split.

    Of a changed row, class and split are those it has now. `moved` counts rows by their split before and
    after where that differs; `rows` and `quarantined` are before and after.
    """

    dataset: str
    rows: tuple[int, int]
    quarantined: tuple[int, int]
    counts: Mapping[str, Counter[tuple[str, str]]]
    moved: Counter[tuple[str, str]]
    examples: Mapping[str, Sequence[Example]]


def compare(old: Revision, new: Revision, names: Sequence[str], examples: int = 3) -> list[Change]:
    """What changed from `old` to `new` in each dataset that either has, or in those of `names`.

    A row is the same where its content is, wherever it lies; a row that was removed and one that was added
    at the same source and position are one that changed. Rows that are there twice count twice. Raises
    `UnknownNameError` for a dataset of neither, and `DataError` where a table is nowhere.
    """
    before, after = old.datasets(), new.datasets()
    known = sorted({*before, *after})
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"{old.name} and {new.name}: no splits of a dataset {name!r}{nearest(name, known)}"
            )
    made = []
    for name in names or known:
        codes: dict[str, int] = {}
        sides = [
            _listed(revision, name, codes) if name in present else _nothing()
            for revision, present in ((old, before), (new, after))
        ]
        made.append(_change(name, sides[0], sides[1], list(codes), examples))
    return made


def pairs(
    old: Sequence[NDArray[Any]],
    new: Sequence[NDArray[Any]],
    left: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two tables, given by their columns, that are equal: each with one other.

    `left` are the numbers of the rows that are looked at, if not all. That is done for some million of them
    at a time, shared out by the last column, whose values should be many.
    """
    rows = left or (np.arange(len(old[0])), np.arange(len(new[0])))
    shares = 1 + sum(map(len, rows)) // _AT_ONCE
    of = [columns[-1][each] % shares for columns, each in zip((old, new), rows, strict=True)]
    found = [(rows[0][:0], rows[1][:0])]
    for share in range(shares):
        few = [each[which == share] for each, which in zip(rows, of, strict=True)]
        here = _pairs([column[few[0]] for column in old], [column[few[1]] for column in new])
        found.append((few[0][here[0]], few[1][here[1]]))
    befores, afters = (np.concatenate(each) for each in zip(*found, strict=True))
    return befores, afters


def _pairs(
    old: Sequence[NDArray[Any]], new: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = len(old[0])
    columns = [np.concatenate(each) for each in zip(old, new, strict=True)]
    order = np.lexsort(columns)  # stable: of equal rows the old ones come first
    if not len(order):
        return order, order
    differs = np.zeros(len(order), bool)
    for column in columns:
        ordered = column[order]
        differs[1:] |= ordered[1:] != ordered[:-1]
    group = np.cumsum(differs)
    late = order >= rows
    olds = np.bincount(group[~late], minlength=group[-1] + 1)
    sizes = np.bincount(group)
    rank = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[group] - np.where(late, olds[group], 0)
    paired = rank < np.minimum(olds, sizes - olds)[group]
    return order[paired & ~late], order[paired & late] - rows


def _listed(revision: Revision, dataset: str, codes: dict[str, int]) -> Listed:
    """The rows of `dataset`; `codes` numbers sources and classes, the same for both revisions."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("high", "low", *_COLUMNS)}
    places = {name: at for at, name in enumerate(PLACES)}

    def coded(column: pa.ChunkedArray) -> NDArray[np.int32]:
        encoded = pc.dictionary_encode(table.whole(column).fill_null(UNLABELLED))
        of = [codes.setdefault(name, len(codes)) for name in encoded.dictionary.to_pylist()]
        return np.array(of, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]

    with revision.open(f"data/splits/{dataset}.parquet", f"prepare@{dataset}") as splits:
        for part in _parts(splits):
            ids = np.frombuffer(b"".join(part.column("id").to_pylist()), np.uint64).reshape(-1, 4)
            parts["high"].append(ids[:, 0].copy())
            parts["low"].append(ids[:, 1].copy())
            parts["source"].append(coded(part.column(table.SOURCE)))
            parts["position"].append(part.column(table.POSITION).to_numpy())
            split = [places[name] for name in part.column("split").to_pylist()]
            parts["split"].append(np.array(split, np.int8))
    rows = sum(map(len, parts["high"]))
    label = revision.label(dataset)
    if label is not None:
        with revision.open(f"data/clean/{dataset}.parquet", f"validate@{dataset}") as clean:
            if pa.types.is_string(clean.schema_arrow.field(label).type):
                parts["label"] = [coded(part.column(label)) for part in _parts(clean, [label])]
            else:  # a number, by which rows are no more told apart here than without a label
                label = None
    if label is None:
        parts["label"] = [np.full(rows, codes.setdefault(UNLABELLED, len(codes)), np.int32)]
    if sum(map(len, parts["label"])) != rows:
        raise DataError(
            f"{revision.name}: data/clean/{dataset}.parquet and data/splits/{dataset}.parquet are not of the "
            f"same rows; run `dvc repro prepare@{dataset}`"
        )
    with revision.open(f"data/quarantine/{dataset}.parquet", f"validate@{dataset}") as aside:
        quarantined = int(aside.metadata.num_rows)
    whole = {
        name: np.concatenate([np.empty(0, _COLUMNS.get(name, np.uint64)), *each])
        for name, each in parts.items()
    }
    return Listed((whole.pop("high"), whole.pop("low")), quarantined=quarantined, **whole)


def _parts(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    return (file.read_row_group(at, columns=columns) for at in range(file.num_row_groups))


_COLUMNS: dict[str, type[np.generic]] = {
    "source": np.int32,
    "position": np.int64,
    "split": np.int8,
    "label": np.int32,
}


def _nothing() -> Listed:
    empty = {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}
    return Listed((np.empty(0, np.uint64), np.empty(0, np.uint64)), quarantined=0, **empty)


def _change(dataset: str, old: Listed, new: Listed, names: Sequence[str], examples: int) -> Change:
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    left = np.arange(len(old)), np.arange(len(new))
    # Rows that stayed where they were, then those of the same content elsewhere, then others in their place.
    for keys in (lambda side: (*side.ids, *_place(side)), lambda side: side.ids, _place):
        found = pairs(keys(old), keys(new), left)
        kept.append(found)
        left = _without(left[0], found[0]), _without(left[1], found[1])
    changed = tuple(each[np.argsort(kept[2][1])] for each in kept[2])
    same = [np.concatenate([each[side] for each in kept[:2]]) for side in (0, 1)]
    was, now = old.split[same[0]], new.split[same[1]]
    differs = was != now

    def example(side: Listed, at: int, before: int | None, after: int | None) -> Example:
        return Example(
            names[side.source[at]],
            int(side.position[at]),
            names[side.label[at]],
            None if before is None else PLACES[old.split[before]],
            None if after is None else PLACES[new.split[after]],
        )

    few = [each[:examples].tolist() for each in (left[0], left[1], *changed)]
    return Change(
        dataset,
        rows=(len(old), len(new)),
        quarantined=(old.quarantined, new.quarantined),
        counts={
            "added": _counts(new, left[1], names),
            "removed": _counts(old, left[0], names),
            "changed": _counts(new, changed[1], names),
        },
        moved=Counter((PLACES[a], PLACES[b]) for a, b in zip(was[differs], now[differs], strict=True)),
        examples={
            "added": [example(new, at, None, at) for at in few[1]],
            "removed": [example(old, at, at, None) for at in few[0]],
            "changed": [example(new, b, a, b) for a, b in zip(few[2], few[3], strict=True)],
        },
    )


def _without(rows: NDArray[np.int64], gone: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(rows):
        return rows
    there = np.zeros(rows[-1] + 1, bool)
    there[rows] = True
    there[gone] = False
    return np.flatnonzero(there)


def _place(side: Listed) -> tuple[NDArray[Any], ...]:
    return side.source, side.position


def _counts(side: Listed, rows: NDArray[np.int64], names: Sequence[str]) -> Counter[tuple[str, str]]:
    """How many of `rows` there are of each class and split."""
    both, counts = np.unique(np.stack([side.label[rows], side.split[rows]]), axis=1, return_counts=True)
    return Counter(
        {
            (names[label], PLACES[split]): int(count)
            for label, split, count in zip(*both.tolist(), counts.tolist(), strict=True)
        }
    )
