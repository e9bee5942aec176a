"""Sources of rows: embedded sets, which need no download, files of your own, and rows accepted later."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentops.config import Source, nearest
from latentops.data import forgotten, readers
from latentops.data import table as tables
from latentops.data.fetch import found as find
from latentops.data.fetch import locate
from latentops.data.table import EMBEDDED, Layout, Rows
from latentops.errors import DataError, UnknownNameError


def ingest(source: Source, accepted: Path, left_out: Callable[[int], object] = lambda rows: None) -> Rows:
    """All rows of `source`: its own, then those of each file in `accepted`, by file name.

    Rows that were forgotten (`accepted/forgotten.txt`) are left out; `left_out` is told how many, each time.
    Raises `UnknownNameError` for a source that doesn't exist, and `DataError` where it isn't what `source`
    says, its file isn't there or not the one that is meant, or where an accepted file has other columns; at
    the end of its rows, where a file has changed since it was opened.
    """
    places = [accepted, *(found[1] for file in source.files if (found := find(file)))]
    before = _marks(places)
    own = read_source(source)
    for pointer in sorted(accepted.glob("*.parquet.dvc")):
        if not pointer.with_suffix("").exists():
            raise DataError(
                f"{pointer.with_suffix('')}: not on this machine; fetch it with `dvc pull {pointer}`"
            )
    files = sorted(accepted.glob("*.parquet"))
    parts = chain(own.parts, (_read_file(path, own.layout, source) for path in files))
    kept = forgotten.without(parts, own.layout, forgotten.read(accepted), left_out)
    return Rows(own.layout, chain(kept, _unchanged(places, before)))


def _marks(places: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    """What differs after a file was written to, of each of `places` and all that is in it."""
    states = {path: path.stat() for place in places if place.exists() for path in (place, *place.rglob("*"))}
    return {path: (state.st_size, state.st_mtime_ns, state.st_ino) for path, state in states.items()}


def _unchanged(places: Sequence[Path], before: Mapping[Path, tuple[int, int, int]]) -> Iterator[pa.Table]:
    """No rows; `DataError` where the files aren't as they were."""
    for path, mark in {**before, **_marks(places)}.items():
        if before.get(path) != mark or not path.exists():
            raise DataError(f"{path}: changed while it was read; run again once it is whole")
    yield from ()


def read_source(source: Source) -> Rows:
    """The rows of a source's own, without any that were accepted; raises as `ingest` does."""
    if source.name not in _READERS:
        raise UnknownNameError(f"unknown source {source.name!r}{nearest(source.name, list(_READERS))}")
    used = {"pixels", "values", "text"} | ({"steps", "characters"} if source.numeric_label else set())
    if source.label in used:
        raise DataError(f"source {source.name!r}: {source.label!r} can't be the label column: it has a use")
    rows = _READERS[source.name](source)
    layout = rows.layout
    if source.kind != layout.kind:
        raise DataError(f"source {source.name!r} holds {layout.kind} data, but its kind says {source.kind}")
    if layout.kind in ("image", "sequence") and source.channels != layout.shape[0]:
        raise DataError(
            f"source {source.name!r} has {layout.shape[0]} channels, but its channels says {source.channels}"
        )
    return rows


def read_rows(path: Path, source: Source) -> pa.Table:
    """Rows of an incoming file (Parquet; for tables CSV too), with the same columns as `source` has.

    The columns are the label and what a sample is made of, in any order; each row's source is the file's
    name. Values may be missing or wild (expectations look into that), but a column may not: `DataError`
    names the file and the column that is missing, unknown or of a type that can't be converted.
    """
    return _read_file(path, read_source(source).layout, source)


def read_samples(path: Path, source: Source, rows: int, beside: Sequence[str] = ()) -> Rows:
    """Rows to be scored, at most `rows` at a time: as `read_rows`, without a label.

    A label column is passed over, and so are those of a Parquet file that `beside` names, which it must have.
    A value that can't be converted is missing, and the row's `.problem` says so. Raises as `read_rows` does,
    for a file that is damaged further on only as the rows are gone through.
    """
    layout = replace(read_source(source).layout, label=None).with_problems()
    if path.suffix == ".csv" and layout.kind in ("tabular", "text"):
        if beside:
            raise DataError(f"{path}: the keys {', '.join(beside)} are passed on of Parquet files alone")
        parts = readers.read_table_parts(path, layout, source)
        return Rows(layout, (part.slice(at, rows) for part in parts for at in range(0, part.num_rows, rows)))
    file = _opened(path, layout)
    for name in beside:
        if file.schema_arrow.names.count(name) != 1:
            raise DataError(f"{path}: no column {name!r}{nearest(name, file.schema_arrow.names)}")
    ignored = (*beside, *(() if source.label is None else (source.label,)))
    _check_names(path, file.schema_arrow.names, layout, ignored)
    return Rows(layout, _samples(file, path, layout, rows))


def unknown(folder: Path, rows: pa.Table, source: Source) -> pa.Table:
    """Those of `rows` (as `read_rows` gives them) that are new: each once, and none that was forgotten.

    Known are those of the source, of the files in `folder`, and earlier ones of `rows`.
    """
    layout = tables.layout_of(rows, source.label)
    present = ingest(source, folder).parts
    known = {each.tobytes() for part in present for each in tables.content_hashes(part, layout)}
    known |= forgotten.read(folder)
    fresh = []
    for each in tables.content_hashes(rows, layout):
        fresh.append(each.tobytes() not in known)
        known.add(each.tobytes())
    return rows.filter(pa.array(fresh, pa.bool_()))


def accept(folder: Path, rows: pa.Table, source: Source) -> Path | None:
    """Keep `rows` (as `read_rows` gives them) for good: a Parquet file in `folder`, named by its SHA-256.

    Only what is `unknown` is kept, so that no row is there twice and none changes its split; None where
    nothing is left.
    """
    layout = tables.layout_of(rows, source.label)
    fresh = unknown(folder, rows, source)
    if not fresh.num_rows:
        return None
    kept = fresh.select([field.name for field in layout.fields()])
    with tempfile.TemporaryDirectory() as scratch:
        aside = Path(scratch, "rows.parquet")
        tables.write(aside, kept)
        name = hashlib.sha256(aside.read_bytes()).hexdigest()[:16]
    path = folder / f"{name}.parquet"
    tables.write(path, kept)
    return path


def _read_file(path: Path, layout: Layout, source: Source) -> pa.Table:
    if path.suffix == ".csv" and layout.kind in ("tabular", "text"):
        return readers.read_table(path, layout, source)
    file = _opened(path, layout)
    _check_names(path, file.schema_arrow.names, layout, ())
    with _reading(path):
        found = file.read()
    columns = []
    for field in layout.fields():
        if field.name not in found.column_names:
            columns.append(pa.nulls(found.num_rows, field.type))
            continue
        column = found.column(field.name)
        values, wrong = _converted(column, field, path)
        for row, reason in wrong.items():
            raise DataError(
                f"{path}: column {field.name!r} is {column.type}, not {field.type} (row {row}: {reason})"
            )
        columns.append(values)
    return tables.build(layout, path.name, columns)


def _samples(file: pq.ParquetFile, path: Path, layout: Layout, rows: int) -> Iterator[pa.Table]:
    """The rows of a Parquet file in their order, `rows` at a time."""
    there = [field.name for field in layout.fields() if field.name in file.schema_arrow.names]
    first = 0
    batches = file.iter_batches(rows, columns=there)
    while True:
        with _reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        columns = []
        problems: dict[int, list[str]] = {}
        for field in layout.fields():
            if field.name not in there:
                columns.append(pa.nulls(batch.num_rows, field.type))
                continue
            values, wrong = _converted(batch.column(field.name), field, path)
            columns.append(values)
            for row, reason in wrong.items():
                problems.setdefault(row, []).append(f"column {field.name!r}: {reason}")
        if problems:
            at = layout.fields().index(pa.field(".problem", tables.EXTRAS["problem"]))
            told = columns[at].to_pylist()
            for row, reasons in problems.items():
                told[row] = "; ".join([*([told[row]] if told[row] else []), *reasons])
            columns[at] = pa.array(told, pa.string())
        yield tables.build(layout, path.name, columns, first)
        first += batch.num_rows


def _opened(path: Path, layout: Layout) -> pq.ParquetFile:
    """A Parquet file, of which no more is read at once than is asked for."""
    if path.suffix != ".parquet":
        known = ".parquet or .csv" if layout.kind in ("tabular", "text") else ".parquet"
        raise DataError(f"{path}: {layout.kind} rows come as {known}")
    with _reading(path):
        return pq.ParquetFile(path, buffer_size=2**16, pre_buffer=False)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: can't be read as {path.suffix}: {str(error).splitlines()[0]}") from None


def _check_names(path: Path, found: Sequence[str], layout: Layout, ignored: Sequence[str]) -> None:
    extras = {f".{name}" for name in layout.extras}
    wanted = [field.name for field in layout.fields()]
    for name in wanted:
        if found.count(name) != 1 and (name not in extras or name in found):
            problem = "no column" if name not in found else "more than one column"
            raise DataError(f"{path}: {problem} {name!r}; its columns must be {', '.join(wanted)}")
    for name in found:
        if name not in wanted and name not in ignored:
            raise DataError(f"{path}: unknown column {name!r}{nearest(name, wanted)}")


def _converted(
    column: pa.Array | pa.ChunkedArray, field: pa.Field, path: Path
) -> tuple[pa.Array, dict[int, str]]:
    """`column` as `field` has it: what can't be is missing, and why by row.

    Raises `DataError` where nothing of that type can be converted.
    """
    whole = tables.whole(column)
    try:
        return whole.cast(field.type), {}
    except pa.ArrowNotImplementedError:
        raise DataError(f"{path}: column {field.name!r} is {column.type}, not {field.type}") from None
    except pa.ArrowInvalid:
        if len(whole) > 1:
            at = len(whole) // 2
            left, wrong = _converted(whole.slice(0, at), field, path)
            right, more = _converted(whole.slice(at), field, path)
            return pa.concat_arrays([left, right]), wrong | {at + row: why for row, why in more.items()}
    value = whole[0].as_py()
    if isinstance(value, list):
        size = field.type.list_size if pa.types.is_fixed_size_list(field.type) else None
        reason = f"{len(value)} values" + ("" if size is None else f", expected {size}")
    else:
        reason = f"{value!r} is no {'text' if pa.types.is_string(field.type) else 'number'}"
    return pa.nulls(1, field.type), {0: reason}


def _embedded(layout: Layout, columns: list[pa.Array]) -> Rows:
    return Rows(layout, [tables.build(layout, EMBEDDED, columns)])


def _digits(source: Source) -> Rows:
    images, classes = _digit_images()
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), images[0].size)
    return _embedded(Layout("image", (1, *images[0].shape), source.label), [classes, pixels])


def _digit_columns(source: Source) -> Rows:
    """Each image as a sequence of its columns, from the first to the last that has any ink."""
    images, classes = _digit_images()
    steps = images.transpose(0, 2, 1)  # [n, columns, rows]
    inked = np.count_nonzero(steps, axis=2) > 0
    begun = np.maximum.accumulate(inked, axis=1)
    unfinished = np.maximum.accumulate(inked[:, ::-1], axis=1)[:, ::-1]
    kept = begun & unfinished
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]) * steps.shape[2]
    values = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(steps[kept].ravel()))
    return _embedded(Layout("sequence", (steps.shape[2],), source.label), [classes, values])


def _digit_images() -> tuple[NDArray[np.float32], pa.Array]:
    """1,797 grey images [n, 8, 8] of values 0…16, and the digit that each shows."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images.astype(np.float32), pa.array([str(digit) for digit in loaded.target])


def _breast_cancer(source: Source) -> Rows:
    """569 cell nuclei of 30 measurements each, malignant or benign."""
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer()
    features = tuple(str(name) for name in loaded.feature_names)
    classes = pa.array([str(loaded.target_names[at]) for at in loaded.target])
    columns = [pa.array(column) for column in np.ascontiguousarray(loaded.data.T)]
    return _embedded(Layout("tabular", (len(features),), source.label, features), [classes, *columns])


def _file(source: Source) -> Rows:
    marks = source.read.marks if source.read is not None else None
    found = None if marks is None else locate(marks)
    return readers.read([(locate(file), file) for file in source.files], source, found)


_READERS: dict[str, Callable[[Source], Rows]] = {
    "digits": _digits,
    "breast_cancer": _breast_cancer,
    "digit_columns": _digit_columns,
    "file": _file,
}
