"""Delimited text of sequences: a row a step, of many sequences in a file or of one."""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.config import Read, Source
from latentops.data.readers import cells, delimited, files, sequences
from latentops.data.readers.cells import Columns
from latentops.data.readers.files import Located, below, check_classes
from latentops.data.readers.sequences import Steps
from latentops.data.table import Layout, Rows
from latentops.errors import DataError

_SHOWN = 3  # rows of a sequence that its problem names


def read(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The sequences in each file, in the order in which they begin; `read.id` says which one a step is of.

    A sequence's steps need not follow one another, but keep their order, in which `source.time`, if it is
    named, has to rise; label, group and part are the same at all of them. Values are the columns of
    `source.values`, or all that have no other use. A step that can't be assigned is a row of its own. Values
    wait in a temporary file; kept in memory are some 30 bytes a step.
    """
    layout = _layout(located, source)
    return Rows(
        layout,
        chain.from_iterable(
            sequences.tables(layout, file, _gathered(file, layout, source, read), read.relabel)
            for file in located
        ),
    )


def read_folder(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The sequences in each folder, one a file, by path; a class is a subfolder.

    What is wrong with a file as a whole is its sequence's problem.
    """
    layout = _layout(located, source)
    return Rows(layout, chain.from_iterable(_folder(file, layout, source, read) for file in located))


def _layout(located: Sequence[Located], source: Source) -> Layout:
    extras = files.extras(source, located, ["name"])
    return Layout(
        "sequence", (source.channels,), source.label, extras=extras, numeric_label=source.numeric_label
    )


def value_columns(
    file: Located, names: Sequence[str], source: Source, others: Sequence[str], channels: int
) -> list[str]:
    """The columns that steps are made of, as many as there are `channels`; `others` have another use."""
    passed = {*others, *source.drop}
    values = source.values or [name for name in names if name not in passed]
    cells.check_names(file.path, names, [*values, *others], source.drop)
    if len(values) != channels:
        raise DataError(
            f"{file.path}: {len(values)} columns of values ({', '.join(values)}), but source.channels says "
            f"{channels}; name them in source.values, and the others under drop"
        )
    return values


def matrix(columns: Columns, names: Sequence[str], read: Read) -> NDArray[np.float64]:
    """The columns `names` as numbers [n, C], NaN where there is none."""
    each = [columns.typed(name, "numeric", read).to_numpy(zero_copy_only=False) for name in names]
    return np.stack(each, axis=1)


def _folder(folder: Located, layout: Layout, source: Source, read: Read) -> Iterator[pa.Table]:
    paths = below(folder.path)
    check_classes(folder, paths, layout)
    found = (_one(folder, path, layout, source, read) for path in paths)
    return sequences.tables(layout, folder, found, read.relabel)


def _one(folder: Located, path: Path, layout: Layout, source: Source, read: Read) -> Steps:
    """The sequence in one file of a folder."""
    label = path.parts[0] if len(path.parts) > 1 else None
    name = path.as_posix()
    file = Located(folder.path / path, name)
    try:
        names = delimited.header(file, read)
        places = cells.places(source)
        values = value_columns(file, names, source, places, layout.shape[0])
        blocks, whole = [], _Whole(source, read)
        for columns in delimited.parts(file, read, names):
            blocks.append(files.float32(matrix(columns, values, read)))
            whole.add(columns, np.zeros(columns.rows, np.int64))
    except DataError as error:
        return Steps(None, label, str(error), name)
    if not blocks:
        return Steps(np.empty((0, layout.shape[0]), np.float32), label, name=name)
    steps = np.concatenate(blocks)
    return whole.steps(0, np.arange(len(steps)), steps, name, label)


class _Whole:
    """What the steps of sequences, by code, say of each as a whole, and what is wrong with them."""

    def __init__(self, source: Source, read: Read) -> None:
        self._source, self._read = source, read
        named = {"label": source.label if read.format == "long" else None, "group": source.group}
        self._columns = {
            what: name for what, name in {**named, "part": read.part}.items() if name is not None
        }
        self._said: dict[tuple[str, int], list[str]] = {}
        self._wrong: dict[int, list[str]] = {}
        self._loose: dict[int, str] = {}
        self._times: list[NDArray[np.float64]] = []

    def add(self, columns: Columns, codes: NDArray[np.int64]) -> None:
        """The steps in `columns`, of the sequences `codes` [n]; -1 is of none."""
        if self._source.time is not None:
            self._times.append(
                columns.times(self._source.time, self._read).to_numpy(zero_copy_only=False).astype(np.float64)
            )
        for what, name in self._columns.items():
            number = what == "label" and self._source.numeric_label
            told = (
                columns.typed(name, "numeric", self._read).cast(pa.string())
                if number
                else columns.text(name, self._read)
            )
            said = told.dictionary_encode()
            keys = said.indices.fill_null(len(said.dictionary)).to_numpy(zero_copy_only=False)
            known = [*said.dictionary.to_pylist(), None]
            for pair in np.unique(codes * len(known) + keys).tolist():
                code, key = divmod(pair, len(known))
                if known[key] is not None:
                    held = self._said.setdefault((what, code), [])
                    if known[key] not in held:
                        held.append(known[key])
        for row, reasons in columns.wrong.items():
            at, text = columns.first + row, f"row {columns.first + row}: {'; '.join(reasons)}"
            if codes[row] < 0:
                self._loose[at] = text
            else:
                self._wrong.setdefault(int(codes[row]), []).append(text)

    def steps(
        self, code: int, rows: NDArray[np.int64], values: NDArray[np.floating], name: str, label: str | None
    ) -> Steps:
        """The sequence `code`, which has the file's `rows`."""
        wrong = self._wrong.get(code, [])
        problems = [*wrong[:_SHOWN], *([f"and {len(wrong) - _SHOWN} rows more"] if wrong[_SHOWN:] else [])]
        said: dict[str, str | None] = {}
        for what in ("label", "group", "part"):
            each = self._said.get((what, code), [])
            if len(each) > 1:
                problems.append(f"its {what} changes: {', '.join(map(repr, each[:_SHOWN]))}")
            said[what] = each[0] if len(each) == 1 else None
        if said["part"] not in (None, "train", "test"):
            problems.append(f"part {said['part']!r} is neither train nor test")
            said["part"] = None
        time = None
        if self._times:
            times = self._whole_times()[rows]
            time = float(times[0])
            still = np.flatnonzero(~(np.diff(times) > 0))
            if len(still):
                problems.append(f"time doesn't rise at row {rows[still[0] + 1]}")
        return Steps(
            values,
            label or said["label"],
            "; ".join(problems) or None,
            name,
            said["group"],
            None if time is None or np.isnan(time) else time,
            said["part"],
        )

    def unassigned(self, row: int) -> Steps:
        """A step of the file that no sequence is named for."""
        return Steps(None, problem=self._loose.get(row, f"row {row}: no {self._read.id}"))

    def _whole_times(self) -> NDArray[np.float64]:
        if len(self._times) > 1:
            self._times = [np.concatenate(self._times)]
        return self._times[0]


def _gathered(file: Located, layout: Layout, source: Source, read: Read) -> Iterator[Steps]:
    names = delimited.header(file, read)
    label = [] if source.label is None else [source.label]
    others = [str(read.id), *label, *cells.places(source)]
    channels = layout.shape[0]
    values = value_columns(file, names, source, others, channels)
    known: dict[str, int] = {}
    each: list[NDArray[np.int64]] = []
    whole = _Whole(source, read)
    with tempfile.TemporaryFile() as aside:
        for columns in delimited.parts(file, read, names):
            aside.write(files.float32(matrix(columns, values, read)).tobytes())
            found = columns.text(str(read.id), read).dictionary_encode()
            numbers = [known.setdefault(name, len(known)) for name in found.dictionary.to_pylist()]
            local = found.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
            each.append(np.array([*numbers, -1], np.int64)[local])
            whole.add(columns, each[-1])
        if not each:
            return
        codes = np.concatenate(each)
        aside.flush()
        stored = np.memmap(aside, np.float32, "r", shape=(len(codes), channels))
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes, np.arange(-1, len(known)), side="right", sorter=order)
        for name, code in known.items():
            rows = order[ends[code] : ends[code + 1]]
            yield whole.steps(code, rows, stored[rows], name, None)
        for row in order[: ends[0]].tolist():
            yield whole.unassigned(row)
