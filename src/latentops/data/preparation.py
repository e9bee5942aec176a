"""Clean rows as arrays to train on, a part at a time: split, fitted on training rows, transformed, written.

The clean table is gone through three times: for what each row is (its hash, class, group, time, length), for
the training rows that transforms are fitted on, and for the values. What is kept of a row meanwhile is some
60 bytes, however wide it is.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentops.config import Dataset, Read, Split
from latentops.data import likeness, prepared, splits, table
from latentops.data.encoding import Encoding
from latentops.data.prepared import PLACES, UNLABELLED, Description, Samples, SplitName, Windows
from latentops.data.splits import Shares, Units
from latentops.data.table import Layout, Stored
from latentops.data.tokenizer import Tokenizer
from latentops.data.transforms import Transform
from latentops.errors import DataError

FITTED_VALUES = 2**23
"""The most raw values that a transform is fitted on: of more training rows those of the lowest keys."""


@dataclass
class Facts:
    """What is known of each row once all were seen."""

    content: NDArray[np.uint8]
    labels: NDArray[np.int32]
    strata: list[tuple[str, str]]
    stratum: NDArray[np.int32]
    steps: NDArray[np.int64] | None = None
    groups: NDArray[np.int32] | None = None
    names: list[str] = field(default_factory=list)
    times: NDArray[np.float64] | None = None
    tested: NDArray[np.bool_] | None = None
    looks: NDArray[np.uint64] | None = None
    missing: frozenset[str] = frozenset()
    targets: NDArray[np.float64] | None = None

    @property
    def series(self) -> NDArray[np.int64]:
        """Of each stratum the number of its source, in the order in which these come."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name, _ in self.strata], np.int64)


def prepare(clean: Stored, settings: Dataset, dataset: str, folder: Path, listed: Path) -> dict[str, object]:
    """Write the arrays into `folder` and each row's split into `listed` (Parquet), and report on the splits.

    `listed` has a row's source and position, its `id` (the hash of its content), its `split` (`purged` where
    it is in none) and its `unit`: rows of one are on one side. Raises `DataError` where no row is left to
    train on.
    """
    layout = table.layout_of(clean, settings.source.label)
    classes = settings.expectations.classes or [UNLABELLED]
    facts = _look(clean, layout, classes, near=settings.split.near is not None)
    every = settings.source.read.every if settings.source.read is not None else None
    units = splits.unite(
        facts.content if every is None else _timed(facts),
        seed=settings.split.seed,
        groups=facts.groups,
        names=facts.names,
        alike=() if facts.looks is None else likeness.alike(facts.looks, settings.split.near or 0),
    )
    assigned = _assign(units, facts, settings, dataset, classes)
    rows = splits.indices(assigned)
    if not len(rows["train"]):
        raise DataError(
            f"{dataset}: none of {clean.num_rows} clean rows is left to train on; see its `split:`"
        )
    counts = splits.counts(assigned, classes, facts.labels)
    uncalibrated = set(classes) - set(settings.normal) if settings.anomalies else set()
    splits.check_classes(dataset, counts, settings.expectations.min_split_rows, uncalibrated=uncalibrated)
    normal = np.isin(facts.labels, [classes.index(name) for name in settings.normal])
    fitted = rows["train"][normal[rows["train"]]] if settings.anomalies else rows["train"]
    sample = _taken(clean, _fewer(fitted, units, layout, facts))
    fit = _fit(settings, layout, sample, {*facts.missing, *settings.expectations.missing})
    steps = facts.steps
    if fit.tokenizer is not None:
        steps = np.concatenate([fit.apply(part)[1] for part in clean.parts(["text"])])
    shape = fit.shape if steps is None else (int(steps.max()), *fit.shape)

    sizes: dict[SplitName, int] = {split: len(index) for split, index in rows.items()}
    also = {"lengths"} if steps is not None else set()
    if every is not None:
        also |= {"times", "series", *({"marks"} if "marked" in layout.extras else ())}
    if facts.targets is not None:
        also.add("targets")
    with prepared.writing(folder, sizes, shape, also) as arrays:
        start = 0
        for part in clean.parts():
            these = slice(start, start + part.num_rows)
            values, lengths = fit.apply(part)
            if lengths is not None:
                values = prepared.pad(values, lengths, shape[0])
            windows = None if every is None else _windows(part, layout, facts, these, shape[0])
            labels = facts.labels[these].astype(np.int64)
            targets = None if facts.targets is None else facts.targets[these]
            arrays.put(
                assigned[these], Samples(values, lengths, labels, facts.content[these], windows, targets)
            )
            start += part.num_rows
        arrays.describe(
            Description(
                kind="sequence" if layout.kind == "text" else layout.kind,
                shape=shape,
                features=layout.features,
                classes=tuple(classes),
                transform=fit.transform,
                spread=1.0 if fit.tokenizer else _spread(arrays, shape, fit.encoding),
                likelihood_range=(0.0, 1.0) if settings.scaling.name == "range" else None,
                columns=fit.encoding.widths if fit.encoding else (),
                optional=fit.encoding.flagged if fit.encoding else (),
                encoding=fit.encoding,
                vocabulary=fit.tokenizer.vocabulary if fit.tokenizer else None,
                tokenizer=fit.tokenizer,
                every=every,
                target=layout.label if layout.numeric_label else None,
            )
        )
    _list(clean, listed, assigned, units, facts)
    purged = {} if every is None else {"purged": clean.num_rows - sum(sizes.values())}
    return {"rows": counts, **purged, **splits.kept_together(units)}


def _look(clean: Stored, layout: Layout, classes: Sequence[str], *, near: bool) -> Facts:
    """The first way through the rows."""
    place = {name: at for at, name in enumerate(classes)}
    strata: dict[tuple[str, str], int] = {}
    names: dict[str, int] = {}
    missing: set[str] = set()
    columns: dict[str, NDArray[Any]] = {}
    start = 0

    def keep(name: str, values: NDArray[Any]) -> None:
        if name not in columns:
            columns[name] = np.empty((clean.num_rows, *values.shape[1:]), values.dtype)
        columns[name][start : start + len(values)] = values

    for part in clean.parts():
        found = [each or UNLABELLED for each in table.labels(part, layout)]
        keep("content", table.content_hashes(part, layout))
        keep("labels", np.array([place[name] for name in found], dtype=np.int32))
        if layout.numeric_label:
            keep("targets", table.targets(part, layout))
        sources = part.column(table.SOURCE).to_pylist()
        pairs = zip(sources, found, strict=True)
        keep("stratum", np.array([strata.setdefault(pair, len(strata)) for pair in pairs], dtype=np.int32))
        nothing = {name: pc.is_null(part.column(name), nan_is_null=True) for name in layout.features}
        missing |= {name for name, each in nothing.items() if pc.any(each).as_py()}
        if layout.kind == "sequence":
            keep("steps", table.ragged(part)[1] // layout.shape[0])
        if "group" in layout.extras:
            groups = part.column(".group").to_pylist()
            codes = [-1 if name is None else names.setdefault(name, len(names)) for name in groups]
            keep("groups", np.array(codes, dtype=np.int32))
        if "time" in layout.extras:
            keep("times", part.column(".time").to_numpy())
        if "part" in layout.extras:
            keep("tested", pc.equal(part.column(".part"), "test").fill_null(False).to_numpy())
        if near:
            keep("looks", likeness.perceptual_hashes(table.dense(part, layout)))
        start += part.num_rows
    if not columns:
        empty = np.empty(0, np.int32)
        columns = {"content": np.empty((0, 32), np.uint8), "labels": empty, "stratum": empty}
    return Facts(strata=list(strata), names=list(names), missing=frozenset(missing), **columns)


def _assign(
    units: Units, facts: Facts, settings: Dataset, dataset: str, classes: Sequence[str]
) -> NDArray[np.int8]:
    split = settings.split
    tested = None
    if split.test == "official":
        if facts.tested is None or not facts.tested.any():
            raise DataError(
                f"{dataset}: split.test: official, but none of its rows is said to be a test row: name a "
                "part under source.files, or the column under source.read.part, or give split.test a share"
            )
        tested = facts.tested
    if split.by == "time" and (facts.times is None or not np.isfinite(facts.times).all()):
        raise DataError(f"{dataset}: split.by: time needs every row's time; name the column as source.time")
    uncalibrated = [at for at, name in enumerate(classes) if name not in settings.normal]
    assigned = splits.assign(
        units,
        Shares(split.seed, split.stop, split.calibration, 0.0 if split.test == "official" else split.test),
        split.by,
        facts.strata,
        facts.stratum,
        times=facts.times,
        cuts=None if split.cuts is None else _moments(split, dataset),
        tested=tested,
        uncalibrated=np.isin(facts.labels, uncalibrated) if settings.anomalies else None,
    )
    if split.by == "time" and settings.anomalies:
        anomalous = np.isin(facts.labels, uncalibrated)
        if not (anomalous & (assigned == PLACES.index("stop"))).any():
            # A variant is chosen by anomalies on stop, and these train no member that is scored.
            assigned[anomalous & (assigned == PLACES.index("train"))] = PLACES.index("stop")
        if not (anomalous & (assigned == PLACES.index("test"))).any():
            raise DataError(
                f"{dataset}: the test has no row that isn't {', '.join(settings.normal)}, so nothing can be "
                "judged; give split.test a larger share, or name split.cuts"
            )
    span = _span(settings.source.read)
    if split.by == "time" and span is not None and facts.times is not None:
        return splits.purge(assigned, facts.times, span)
    return assigned


def _timed(facts: Facts) -> NDArray[np.uint8]:
    """Each window's content and time as one hash [n, 32]: a series may look the same at two moments."""
    if facts.times is None:
        raise ValueError("windows need times")
    told = facts.content.copy()
    told[:, :8] ^= np.ascontiguousarray(facts.times, "<f8").view(np.uint8).reshape(-1, 8)
    return told


def _span(read: Read | None) -> float | None:
    """How far apart windows begin that share no step, less half a step; None where there are no windows."""
    if read is None or read.window is None or read.every is None:
        return None
    return (read.window - 0.5) * read.every


def _windows(part: pa.Table, layout: Layout, facts: Facts, these: slice, longest: int) -> Windows:
    """Where a part's windows lie in their series; one that doesn't say what is marked of it lies nowhere."""
    if facts.times is None:
        raise ValueError("windows need times")
    times, series = facts.times[these], facts.series[facts.stratum[these]]
    if "marked" not in layout.extras:
        return Windows(times, series)
    marks, unknown = table.marked(part, longest)
    return Windows(np.where(unknown, np.nan, times), series, marks)


def _moments(split: Split, dataset: str) -> list[float]:
    """The cuts as numbers: of a date, seconds since 1970."""
    found = []
    for cut in split.cuts or ():
        try:
            found.append(float(cut))
        except ValueError:
            try:
                moment = datetime.fromisoformat(cut)
            except ValueError:
                raise DataError(f"{dataset}: split.cuts: {cut!r} is neither a date nor a number") from None
            found.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if found != sorted(found):
        raise DataError(f"{dataset}: split.cuts: {', '.join(split.cuts or ())} must rise")
    return found


def _fewer(rows: NDArray[np.int64], units: Units, layout: Layout, facts: Facts) -> NDArray[np.int64]:
    """As many of `rows` as a transform is fitted on, ascending."""
    width = int(np.prod(layout.shape)) if layout.kind in ("image", "tabular") else 1
    if facts.steps is not None:
        width = layout.shape[0] * int(np.ceil(facts.steps.mean()))
    most = max(1, FITTED_VALUES // max(width, 1))
    if len(rows) <= most:
        return rows
    return np.sort(rows[np.argsort(units.key[units.of[rows]], kind="stable")[:most]])


def _taken(clean: Stored, rows: NDArray[np.int64]) -> pa.Table:
    """The rows of those numbers, ascending."""
    taken, start = [], 0
    for part in clean.parts():
        low, high = np.searchsorted(rows, [start, start + part.num_rows])
        if high > low:
            taken.append(part.take(pa.array(rows[low:high] - start)))
        start += part.num_rows
    return pa.concat_tables(taken)


@dataclass(frozen=True)
class Fit:
    """From raw rows to what a model sees, as it was fitted on training rows."""

    layout: Layout
    transform: Transform
    tokenizer: Tokenizer | None = None
    encoding: Encoding | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a prepared row, or of a step of one."""
        if self.encoding is not None:
            return (self.encoding.entries,)
        return (1,) if self.tokenizer is not None else self.transform.shape(self.layout.shape)

    def apply(self, part: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Rows [n, *shape]; of sequences all steps end to end, and how many each row has [n]."""
        if self.tokenizer is not None:
            return self.tokenizer.apply(table.texts(part))
        if self.layout.kind == "sequence":
            flat, sizes = table.ragged(part)
            steps = flat.reshape(-1, *self.layout.shape)
            return self.transform.apply(steps), sizes // self.layout.shape[0]
        if self.encoding is not None:
            return self.encoding.apply(table.columns(part, self.layout)), None
        return self.transform.apply(table.dense(part, self.layout)), None


def _fit(settings: Dataset, layout: Layout, sample: pa.Table, missing: Collection[str]) -> Fit:
    """Scaled by the known range of values, or fitted on `sample`, as `scaling` says.

    `missing` are the columns of a table whose values may be.
    """
    scaling = settings.scaling
    if scaling.vocabulary is not None and scaling.longest is not None:
        tokenizer = Tokenizer.train(table.texts(sample), scaling.vocabulary, scaling.longest)
        return Fit(layout, Transform.identity(), tokenizer)
    if missing or any(type_ != "numeric" for _, type_ in layout.columns()):
        encoding = Encoding.fit(
            table.columns(sample, layout),
            dict(layout.columns()),
            missing,
            lambda rows: _transform(settings, rows),
            categories=scaling.categories,
            buckets=scaling.buckets,
        )
        return Fit(layout, Transform.identity(), encoding=encoding)
    if layout.kind == "sequence":
        return Fit(layout, _transform(settings, table.ragged(sample)[0].reshape(-1, *layout.shape)))
    return Fit(layout, _transform(settings, table.dense(sample, layout)))


def _transform(settings: Dataset, rows: NDArray[np.floating]) -> Transform:
    if settings.source.value_range is not None and settings.scaling.name == "range":
        known = Transform.from_range(*settings.source.value_range)
        return replace(known, orientations=settings.scaling.orientations)
    fits = {
        "power": Transform.fit_power,
        "robust": Transform.fit_robust,
        "quantile": Transform.fit_quantile,
    }
    return fits.get(settings.scaling.name, Transform.fit)(rows)


def _spread(arrays: prepared.Writer, shape: tuple[int, ...], encoding: Encoding | None) -> float:
    """Root of the mean variance of a value over the training rows; padding isn't counted."""
    train = arrays.split("train")
    every = max(1, len(train) * int(np.prod(shape)) // FITTED_VALUES)
    few = train.select(slice(None, None, every))
    if encoding is not None:
        return encoding.spread(few.values)
    values = np.asarray(few.values, dtype=np.float64)
    if few.lengths is not None:
        padding = np.arange(values.shape[1]) >= few.lengths[:, None]
        values = np.where(padding[:, :, None], np.nan, values)
        values = values[:, ~padding.all(axis=0)]
    return float(np.sqrt(np.nanmean(np.nanvar(values, axis=0))))


def _list(clean: Stored, path: Path, assigned: NDArray[np.int8], units: Units, facts: Facts) -> None:
    """Each row's source, position, id, split and unit."""
    schema = pa.schema(
        [
            (table.SOURCE, pa.string()),
            (table.POSITION, pa.int64()),
            ("id", pa.binary(32)),
            ("split", pa.string()),
            ("unit", pa.int64()),
        ]
    )

    def parts() -> Iterator[pa.Table]:
        start = 0
        for part in clean.parts([table.SOURCE, table.POSITION]):
            these = slice(start, start + part.num_rows)
            start += part.num_rows
            ids = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(32), part.num_rows, [None, pa.py_buffer(facts.content[these].tobytes())]
            )
            named = pa.array([PLACES[at] for at in assigned[these].tolist()])
            columns = [*part.columns, ids, named, pa.array(units.of[these], pa.int64())]
            yield pa.Table.from_arrays(columns, schema=schema)

    table.write_parts(path, parts(), schema)
