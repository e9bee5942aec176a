"""Long series: windows of regular steps, each a sequence."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentops.config import Read, Source, nearest
from latentops.data.readers import cells, delimited, files, long, sequences
from latentops.data.readers.files import Located
from latentops.data.readers.sequences import Steps
from latentops.data.table import Layout, Rows
from latentops.errors import ConfigError, DataError

LONGEST_GAP = 2
"""Of steps in a row without a value that are filled in, on the line between those around them."""

_SHOWN = 3  # problems of a window that it names

_Marks = list[tuple[float, float]]


def read(located: Sequence[Located], source: Source, read: Read, marks: Path | None = None) -> Rows:
    """Windows of `read.window` steps, one each `read.stride`, of the series in each file.

    Steps are `read.every` seconds from the series' first time stamp on, and a step's value is the mean of
    those within it. Of steps without a value up to `LONGEST_GAP` in a row are filled in; more are a gap, and
    a window that touches one has it as a problem, as it has rows that go back in time or can't be read. The
    last window ends with the series, so that none of it is left out; windows within a gap aren't rows. With
    `marks` a step is marked if it overlaps one of its series' marks, and a window with such a step is an
    `anomaly`, any other `normal`. A series is held in memory: 8 bytes a value.
    """
    marked = None if marks is None else _marks(marks)
    extras = files.extras(source, located, ["time"] if marked is None else ["time", "marked"])
    layout = Layout("sequence", (source.channels,), source.label, extras=extras)

    def windows(file: Located, own: _Marks | None) -> Iterator[Steps]:
        return _windows(_series(file, layout, source, read), read, own)

    return Rows(
        layout,
        chain.from_iterable(
            sequences.tables(layout, file, windows(file, _own(marked, file, listed.path)), {})
            for file, listed in zip(located, source.files, strict=True)
        ),
    )


def _marks(path: Path) -> dict[str, _Marks]:
    """Of each series the spans that are marked, from and to, in seconds since 1970."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): [(_moment(begin), _moment(end)) for begin, end in spans]
            for name, spans in found.items()
        }
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"{path}: not marks, {{series: [[from, to], …], …}}: {error}") from None


def _moment(value: object) -> float:
    return float(value) if isinstance(value, int | float) else cells.date(str(value))


def _own(marked: dict[str, _Marks] | None, file: Located, listed: str) -> _Marks | None:
    """The marks of a file, under its path or the end of it."""
    if marked is None:
        return None
    ends = ["/".join(Path(listed).parts[at:]) for at in range(len(Path(listed).parts))]
    name = next((end for end in ends if end in marked), None)
    if name is None:
        raise DataError(f"{file.path}: read.marks says nothing of it{nearest(ends[-1], marked)}")
    return marked[name]


@dataclass(frozen=True)
class _Series:
    """A series by steps: those [m] that have a value, in their order; their values [m, C]; what is wrong.

    `start` is the first one's time in seconds since 1970; `wrong` has problems by step.
    """

    start: float
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    wrong: dict[int, list[str]]


def _series(file: Located, layout: Layout, source: Source, read: Read) -> _Series:
    if source.time is None or read.every is None:
        raise ConfigError("format: series needs source.time and read.every")
    names = delimited.header(file, read)
    channels = layout.shape[0]
    columns_of = long.value_columns(file, names, source, cells.places(source), channels)
    all_times, all_values, reasons = [], [], dict[int, list[str]]()
    for columns in delimited.parts(file, read, names):
        all_values.append(long.matrix(columns, columns_of, read))
        all_times.append(columns.times(source.time, read).to_numpy(zero_copy_only=False).astype(np.float64))
        for row, why in columns.wrong.items():
            reasons[columns.first + row] = [f"row {columns.first + row}: {'; '.join(why)}"]
    times = np.concatenate([np.empty(0), *all_times])
    values = np.concatenate([np.empty((0, channels)), *all_values])
    if not len(times):
        raise DataError(f"{file.path}: no rows")
    placed = np.isfinite(times)
    if not placed.any():
        raise DataError(f"{file.path}: none of its rows has a time in column {source.time!r}; say read.dates")
    for row in np.flatnonzero(~placed).tolist():
        reasons.setdefault(row, [f"row {row}: no time"])
    # A row without a time counts to where the one before it is; those at the beginning to the first.
    before = np.maximum.accumulate(np.where(placed, np.arange(len(times)), -1))
    before[before < 0] = np.argmax(placed)
    held = times[before]
    latest = np.maximum.accumulate(held)
    for row in (np.flatnonzero(held[1:] < latest[:-1]) + 1).tolist():
        if placed[row]:
            reasons.setdefault(row, []).append(f"row {row}: time goes back")
    start = float(held.min())
    steps = np.floor((held - start) / read.every + 1e-9).astype(np.int64)
    wrong: dict[int, list[str]] = {}
    for row, why in sorted(reasons.items()):
        wrong.setdefault(int(steps[row]), []).extend(why)
    values[~placed] = np.nan
    kept, means = _means(steps, values)
    return _Series(start, kept, means, wrong)


def _means(
    steps: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The steps that occur, in their order, and the mean of each one's values [m, C]; NaN where none is."""
    kept, inverse = np.unique(steps, return_inverse=True)
    there = ~np.isnan(values)
    sums, counts = np.zeros((len(kept), values.shape[1])), np.zeros((len(kept), values.shape[1]))
    np.add.at(sums, inverse, np.where(there, values, 0))
    np.add.at(counts, inverse, there)
    with np.errstate(invalid="ignore"):
        return kept, sums / counts


def _windows(series: _Series, read: Read, marks: _Marks | None) -> Iterator[Steps]:
    """The windows of a series that hold any of its steps."""
    if read.window is None or read.stride is None or read.every is None:
        raise ConfigError("format: series needs window, stride and every")
    series = _filled(series)
    total = int(series.steps[-1]) + 1
    for first in _starts(series.steps, total, read.window, read.stride):
        last = min(first + read.window, total)
        values = np.full((last - first, series.values.shape[1]), np.nan)
        held = slice(*np.searchsorted(series.steps, [first, last]))
        values[series.steps[held] - first] = series.values[held]
        begin = series.start + first * read.every
        problems = _problems(series, values, first, begin, read.every)
        if last - first < read.window:
            problems.insert(0, f"the series has {total} steps, fewer than a window's {read.window}")
        label, marked = None, None
        if marks is not None:
            marked = _overlapped(begin + np.arange(last - first) * read.every, read.every, marks)
            label = "anomaly" if marked.any() else "normal"
        yield Steps(values, label, "; ".join(problems) or None, time=begin, marked=marked)


def _overlapped(begins: NDArray[np.floating], every: float, marks: _Marks) -> NDArray[np.bool_]:
    """Which of the steps that begin at `begins` [T] and last for `every` seconds overlap one of `marks`."""
    found = np.zeros(len(begins), dtype=bool)
    for since, until in marks:
        found |= (since < begins + every) & (until >= begins)
    return found


def _filled(series: _Series) -> _Series:
    """The series with values on the line between those around a gap, where it is of `LONGEST_GAP` or less."""
    steps = series.steps
    jumps = np.diff(steps)
    short = np.flatnonzero((jumps > 1) & (jumps <= LONGEST_GAP + 1))
    added = np.concatenate(
        [np.empty(0, np.int64), *(np.arange(steps[at] + 1, steps[at + 1]) for at in short)]
    )
    every = np.sort(np.concatenate([steps, added]))
    values = np.full((len(every), series.values.shape[1]), np.nan)
    values[np.searchsorted(every, steps)] = series.values
    for channel in values.T:
        known = np.flatnonzero(~np.isnan(channel))
        jumps = np.diff(every[known])
        for at in np.flatnonzero((jumps > 1) & (jumps <= LONGEST_GAP + 1)):
            ends = known[at : at + 2]
            between = slice(ends[0] + 1, ends[1])
            channel[between] = np.interp(every[between], every[ends], channel[ends])
    return _Series(series.start, every, values, series.wrong)


def _starts(steps: NDArray[np.int64], total: int, window: int, stride: int) -> Iterator[int]:
    """Where the windows begin that hold one of `steps`, without going through those that don't."""
    if total <= window:
        yield 0
        return
    last = (total - window) // stride
    number = 0
    while number <= last:
        begin = number * stride
        at = int(np.searchsorted(steps, begin))
        if at < len(steps) and steps[at] < begin + window:
            yield begin
            number += 1
        else:
            following = int(steps[at]) if at < len(steps) else total
            number = max(number + 1, -(-(following - window + 1) // stride))
    if last * stride + window < total:
        yield total - window


def _problems(
    series: _Series, values: NDArray[np.float64], first: int, begin: float, every: float
) -> list[str]:
    """What is wrong within a window: gaps, then rows."""
    problems = []
    gap = np.isnan(values).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], gap, [False]]).astype(np.int8)))
    for since, until in edges.reshape(-1, 2)[:_SHOWN]:
        moment = datetime.fromtimestamp(begin + since * every, UTC)
        problems.append(f"a gap of {until - since} steps from {moment:%Y-%m-%dT%H:%M:%S}")
    rows = [
        text
        for step in range(first, first + len(values) if series.wrong else first)
        for text in series.wrong.get(step, [])
    ]
    more = [f"and {len(rows) - _SHOWN} rows more"] if rows[_SHOWN:] else []
    return [*problems, *rows[:_SHOWN], *more]
