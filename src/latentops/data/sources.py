"""Sources of rows: embedded sets, which need no download, files of your own, and rows accepted later."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
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
from latentops.data.fetch import locate
from latentops.data.table import EMBEDDED, Layout, Rows
from latentops.errors import DataError, UnknownNameError


def ingest(source: Source, accepted: Path, left_out: Callable[[int], object] = lambda rows: None) -> Rows:
    """All rows of `source`: its own, then those of each file in `accepted`, by file name.

    Rows that were forgotten (`accepted/forgotten.txt`) are left out; `left_out` is told how many, each time.
    Raises `UnknownNameError` for a source that doesn't exist, and `DataError` where it isn't what `source`
    says, its file isn't there or not the one that is meant, or where an accepted file has other columns.
    """
    own = read_source(source)
    for pointer in sorted(accepted.glob("*.parquet.dvc")):
        if not pointer.with_suffix("").exists():
            raise DataError(
                f"{pointer.with_suffix('')}: not on this machine; fetch it with `dvc pull {pointer}`"
            )
    files = sorted(accepted.glob("*.parquet"))
    parts = chain(own.parts, (_read_file(path, own.layout, source) for path in files))
    return Rows(own.layout, forgotten.without(parts, own.layout, forgotten.read(accepted), left_out))


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


def read_samples(path: Path, source: Source) -> pa.Table:
    """Rows to be scored: as `read_rows`, without a label; a label column is passed over."""
    layout = replace(read_source(source).layout, label=None)
    return _read_file(path, layout, source, ignored=(source.label,) if source.label else ())


def accept(folder: Path, rows: pa.Table, source: Source) -> Path | None:
    """Keep `rows` (as `read_rows` gives them) for good: a Parquet file in `folder`, named by its SHA-256.

    Rows that the source, a file in `folder` or an earlier one of `rows` holds already are left out, so that
    no row is there twice and none changes its split, and so are those that were forgotten; None where nothing
    is left.
    """
    layout = tables.layout_of(rows, source.label)
    present = ingest(source, folder).parts
    known = {each.tobytes() for part in present for each in tables.content_hashes(part, layout)}
    known |= forgotten.read(folder)
    fresh = []
    for each in tables.content_hashes(rows, layout):
        fresh.append(each.tobytes() not in known)
        known.add(each.tobytes())
    if not any(fresh):
        return None
    columns = [field.name for field in layout.fields()]
    kept = rows.filter(pa.array(fresh)).select(columns)
    with tempfile.TemporaryDirectory() as scratch:
        aside = Path(scratch, "rows.parquet")
        tables.write(aside, kept)
        name = hashlib.sha256(aside.read_bytes()).hexdigest()[:16]
    path = folder / f"{name}.parquet"
    tables.write(path, kept)
    return path


def _read_file(path: Path, layout: Layout, source: Source, ignored: Sequence[str] = ()) -> pa.Table:
    if path.suffix == ".csv" and layout.kind in ("tabular", "text"):
        return readers.read_table(path, layout, source)
    found = _read_columns(path, layout)
    extras = {f".{name}" for name in layout.extras}
    wanted = [field.name for field in layout.fields()]
    for name in wanted:
        if found.column_names.count(name) != 1 and (name not in extras or name in found.column_names):
            problem = "no column" if name not in found.column_names else "more than one column"
            raise DataError(f"{path}: {problem} {name!r}; its columns must be {', '.join(wanted)}")
    for name in found.column_names:
        if name not in wanted and name not in ignored:
            raise DataError(f"{path}: unknown column {name!r}{nearest(name, wanted)}")
    columns = [
        _converted(found.column(field.name), field, path)
        if field.name in found.column_names
        else pa.nulls(found.num_rows, field.type)
        for field in layout.fields()
    ]
    return tables.build(layout, path.name, columns)


def _read_columns(path: Path, layout: Layout) -> pa.Table:
    """A Parquet file's columns."""
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: can't be read as {path.suffix}: {str(error).splitlines()[0]}") from None
    known = ".parquet or .csv" if layout.kind in ("tabular", "text") else ".parquet"
    raise DataError(f"{path}: {layout.kind} rows come as {known}")


def _converted(column: pa.ChunkedArray, field: pa.Field, path: Path) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"{path}: column {field.name!r} is {column.type}, not {field.type}{_culprit(column, field)}"
        ) from None


def _culprit(column: pa.ChunkedArray, field: pa.Field) -> str:
    """Where the first value is that can't be converted, if it is a matter of single values."""
    if not (pa.types.is_string(column.type) or pa.types.is_list(column.type)):
        return ""
    for row in range(len(column)):
        try:
            column.slice(row, 1).cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            value = column[row].as_py()
            shown = f"{len(value)} values" if isinstance(value, list) else repr(value)
            return f" (row {row}: {shown})"
    return ""


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
