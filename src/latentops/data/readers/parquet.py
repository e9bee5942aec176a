"""Parquet: a table, a table of texts, or lists of the values of images or sequences."""

from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentops.config import Read, Source
from latentops.data import table as tables
from latentops.data.readers import cells, files
from latentops.data.readers.cells import Columns
from latentops.data.readers.files import Located, some
from latentops.data.table import Layout, Rows
from latentops.errors import DataError


def read(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The rows of `located`: of images the column `pixels`, of sequences `values`, else those that are named.

    Images are lists of rows, or of channels of rows, and of one size, which is that of the first. A
    sequence's values are a list, step after step, or a list of steps.
    """
    layout = _layout(located, source)
    return Rows(layout, chain.from_iterable(_rows(file, layout, source, read) for file in located))


def _layout(located: Sequence[Located], source: Source) -> Layout:
    if source.kind in ("tabular", "text"):
        return cells.layout(source, located)
    extras = files.extras(source, located)
    if source.kind == "sequence":
        return Layout(
            "sequence", (source.channels,), source.label, extras=extras, numeric_label=source.numeric_label
        )
    path = located[0].path
    parquet = _opened(path)
    names = parquet.schema_arrow.names
    cells.check_names(path, names, ["pixels"], names)
    column = next(
        (batch.column(0) for batch in parquet.iter_batches(1, columns=["pixels"]) if batch.num_rows), None
    )
    if column is None:
        raise DataError(f"{path}: no rows")
    shape = np.asarray(column[0].as_py(), dtype=np.float64).shape
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3:
        raise DataError(
            f"{path}: column 'pixels' holds lists of {len(shape)} levels; images are [H][W] or [C][H][W]"
        )
    inner = column.type
    while hasattr(inner, "value_type"):
        inner = inner.value_type
    return Layout(
        "image",
        shape,
        source.label,
        bytes=inner == pa.uint8(),
        extras=extras,
        numeric_label=source.numeric_label,
    )


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file ({reason}); get it again") from None


def _rows(file: Located, layout: Layout, source: Source, read: Read) -> Iterator[pa.Table]:
    parquet = _opened(file.path)
    names = parquet.schema_arrow.names
    sample = {"image": ["pixels"], "sequence": ["values"]}
    label = [] if source.label is None else [source.label]
    needed = [
        *([*label, *sample[layout.kind]] if layout.kind in sample else cells.needed(layout, source, names)),
        *cells.places(source),
    ]
    cells.check_names(file.path, names, needed, source.drop)

    def parts() -> Iterator[pa.Table]:
        first = 0
        try:
            for batch in parquet.iter_batches(layout.part_rows(), columns=needed):
                by_name = {name: tables.whole(batch.column(name)) for name in needed}
                columns = Columns(by_name, batch.num_rows, first)
                if layout.kind in sample:
                    name = sample[layout.kind][0]
                    values = _lists(by_name[name], layout, columns, file)
                    yield cells.rows(columns, layout, source, read, file, {name: values})
                else:
                    yield cells.rows(columns, layout, source, read, file)
                first += batch.num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file.path}: damaged: {str(error).splitlines()[0]}; get it again") from None

    return some(file.path, parts())


def _lists(column: pa.Array, layout: Layout, columns: Columns, file: Located) -> pa.Array:
    """A column of lists as `layout` has it; a list of another size is missing, and `columns` says why."""
    name = "pixels" if layout.kind == "image" else "values"
    flat = column
    depth = 0
    while _is_list(flat.type):
        flat, depth = flat.flatten(), depth + 1
    if not depth or not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        raise DataError(f"{file.path}: column {name!r} is {column.type}, not lists of numbers")
    sizes, width = _sizes(column), prod(layout.shape)
    ends = np.cumsum(sizes)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    image = layout.kind == "image"
    fine = (sizes == width if image else sizes % width == 0) & ~missing
    for row in np.flatnonzero(~fine & ~missing):
        wanted = f"{width}" if image else f"a multiple of {width}"
        columns.wrong[int(row)] = [f"{name}: {sizes[row]} values, expected {wanted}"]
    holes = np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))
    for row in np.unique(np.searchsorted(ends, holes, side="right")):
        columns.wrong.setdefault(int(row), []).append(f"{name}: missing values")
    filled = pc.fill_null(flat, 0).to_numpy(zero_copy_only=False)
    values = filled.astype(np.uint8) if layout.bytes else files.float32(filled)
    if layout.bytes:
        fine[np.searchsorted(ends, holes, side="right")] = False
    else:
        values[holes] = np.nan
    kept = [
        values[end - size : end] if whole else None
        for end, size, whole in zip(ends.tolist(), sizes.tolist(), fine.tolist(), strict=True)
    ]
    return files.pixels(kept, layout) if image else files.sequences(kept)


def _is_list(of: pa.DataType) -> bool:
    return pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of)


def _sizes(column: pa.Array) -> NDArray[np.int64]:
    """How many numbers there are in each of a column's lists, of lists or not; 0 where one is missing."""
    own = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    inner = column.flatten()
    if not _is_list(inner.type):
        return own
    below = np.concatenate([[0], np.cumsum(_sizes(inner))])
    ends = np.cumsum(own)
    return below[ends] - below[ends - own]
