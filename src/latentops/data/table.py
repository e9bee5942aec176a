"""The Parquet tables between ingest and prepare: one row a sample, columns by kind of data.

Every table has `source` (text: "embedded" or the name of an accepted file), `position` (the row's number
in that source) and the label column (text). Then follows what the sample is made of:

- image: `pixels`, C·H·W float32 values in raw units;
- tabular: one float64 column a feature;
- sequence: `values`, T·C float32 values, step after step; T may differ from row to row;
- text: `text`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentops import atomic
from latentops.config import Kind
from latentops.errors import DataError

EMBEDDED = "embedded"
_METADATA = b"latentops"
_VALUE = pa.field("element", pa.float32())  # named as Parquet names it, so that a table reads back as it was


@dataclass(frozen=True)
class Layout:
    """What a table's columns hold.

    `shape` is [C, H, W] for images, [D] for tables, [C] for sequences and empty for text;
    `features` names a table's D columns.
    Rows to be scored have no `label`.
    """

    kind: Kind
    shape: tuple[int, ...]
    label: str | None
    features: tuple[str, ...] = ()

    def sample_fields(self) -> list[pa.Field]:
        """The label column, if there is one, and those that the sample is made of: all that a file holds."""
        label = [] if self.label is None else [pa.field(self.label, pa.string())]
        if self.kind == "image":
            return [*label, pa.field("pixels", pa.list_(_VALUE, prod(self.shape)))]
        if self.kind == "sequence":
            return [*label, pa.field("values", pa.list_(_VALUE))]
        if self.kind == "text":
            return [*label, pa.field("text", pa.string())]
        return [*label, *(pa.field(name, pa.float64()) for name in self.features)]

    def schema(self) -> pa.Schema:
        """Columns of a raw table, with kind, shape and features as metadata."""
        origin = [pa.field("source", pa.string()), pa.field("position", pa.int64())]
        return pa.schema([*origin, *self.sample_fields()], metadata=self._metadata())

    def _metadata(self) -> dict[bytes, bytes]:
        text = json.dumps({"kind": self.kind, "shape": self.shape, "features": self.features}, sort_keys=True)
        return {_METADATA: text.encode()}


def layout_of(table: pa.Table, label: str | None) -> Layout:
    """The layout that `table` says it has. Its columns may break it: expectations look into that."""
    value = json.loads(table.schema.metadata[_METADATA])
    return Layout(value["kind"], tuple(value["shape"]), label, tuple(value["features"]))


def build(layout: Layout, source: str, columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Table:
    """A raw table of `layout` out of its sample columns, every row with its source and position."""
    rows = len(columns[0])
    origin = [pa.array([source] * rows, pa.string()), pa.array(range(rows), pa.int64())]
    sample = [column.cast(field.type) for column, field in zip(columns, layout.sample_fields(), strict=True)]
    return pa.Table.from_arrays([*origin, *sample], schema=layout.schema())


def write(path: Path, table: pa.Table) -> None:
    """Put `table` into `path` whole; the same table gives the same bytes."""
    with atomic.replacing(path) as aside:
        pq.write_table(table, aside, compression="zstd")


def read(path: Path, stage: str) -> pa.Table:
    """Read a table that `stage` (such as `ingest@digits`) writes; `DataError` where there is none."""
    try:
        table = pq.ParquetFile(path).read()  # `read_table` would import pandas
    except FileNotFoundError:
        raise DataError(f"{path}: not found; make it with `dvc repro {stage}`") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file ({reason}); make it with `dvc repro {stage}`") from None
    if _METADATA not in (table.schema.metadata or {}):
        raise DataError(f"{path}: says nothing of its kind and shape; make it with `dvc repro {stage}`")
    return table


def labels(table: pa.Table, layout: Layout) -> list[str | None]:
    """Class name of each row; None for all where there is no label."""
    if layout.label is None:
        return [None] * table.num_rows
    return cast("list[str | None]", table.column(layout.label).to_pylist())


def dense(table: pa.Table, layout: Layout) -> NDArray[np.floating]:
    """Images as float32 [n, C, H, W], tables as float64 [n, D]; what is missing is NaN."""
    if layout.kind == "tabular":
        # A column at a time into one array: [n, D], rows contiguous.
        out = np.empty((table.num_rows, len(layout.features)))
        for at, name in enumerate(layout.features):
            out[:, at] = table.column(name).to_numpy()
        return out
    pixels = _whole(table.column("pixels"))
    size = prod(layout.shape)
    flat = pixels.values.slice(pixels.offset * size, len(pixels) * size).to_numpy(zero_copy_only=False)
    images: NDArray[np.float32] = flat.astype(np.float32).reshape(len(pixels), *layout.shape)
    images[pixels.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return images


def ragged(table: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Values of all sequences end to end, float32 [total], and how many each row has, int64 [n]."""
    values = _whole(table.column("values"))
    flat = values.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    sizes = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return flat, sizes


def texts(table: pa.Table) -> list[str]:
    """The text of each row; one that is missing is empty."""
    return [each or "" for each in table.column("text").to_pylist()]


def content_hashes(table: pa.Table, layout: Layout) -> NDArray[np.uint8]:
    """SHA-256 of each row's label and values, uint8 [n, 32]; where the row came from has no part in it."""
    digests = (
        hashlib.sha256(f"{label}\0".encode() + content).digest()
        for label, content in zip(labels(table, layout), _contents(table, layout), strict=True)
    )
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def _contents(table: pa.Table, layout: Layout) -> Iterator[bytes | memoryview]:
    """Each row's values as bytes."""
    if layout.kind == "text":
        yield from (each.encode() for each in texts(table))
        return
    if layout.kind == "sequence":
        flat, sizes = ragged(table)
        ends = np.cumsum(sizes) * flat.itemsize
        starts = ends - sizes * flat.itemsize
    else:
        flat = dense(table, layout).reshape(table.num_rows, -1)
        width = flat.shape[1] * flat.itemsize
        starts = np.arange(table.num_rows, dtype=np.int64) * width
        ends = starts + width
    data = memoryview((flat + 0).tobytes())  # adding 0 makes -0.0 the same as 0.0
    yield from (data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """`column` as one array, also where it has no chunk or many."""
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
