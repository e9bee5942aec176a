"""The Parquet tables between ingest and prepare: one row a sample, columns by kind of data.

Our own columns start with a dot, so that yours may have any name: `.source` (text: "embedded" or the name of
a file), `.position` (the row's number in it) and, where there are any, the `EXTRAS`. Then follow the label
column (text; float64 where it is a number), if there is one, and what the sample is made of:

- image: `pixels`, C·H·W values in raw units, bytes or float32;
- tabular: a column a feature, float64 (numbers, and dates as seconds since 1970) or text (categories);
- sequence: `values`, T·C float32 values, step after step; T may differ from row to row;
- text: `text`.

They are read and written a part at a time, a Parquet row group each: a table need not fit into memory.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentops import atomic
from latentops.config import ColumnType, Kind
from latentops.errors import DataError

EMBEDDED = "embedded"
SOURCE, POSITION, REASONS = ".source", ".position", ".reasons"
Extra = Literal["part", "group", "time", "marked", "name", "height", "width", "problem"]
EXTRAS: dict[Extra, pa.DataType] = {
    "part": pa.string(),  # "train" or "test", as an official split has it
    "group": pa.string(),  # what has to stay on one side of a split
    "time": pa.float64(),  # seconds since 1970, or whatever rises: of a window, that of its first step
    "marked": pa.list_(pa.uint8()),  # of a window's steps, whether they are marked: 1 or 0
    "name": pa.string(),  # what the row is called where it comes from: a file in a folder, an id
    "height": pa.float64(),  # of a picture before it was made as large as the others
    "width": pa.float64(),
    "problem": pa.string(),  # what kept the row from being read, if anything did
}
PART_BYTES = 2**25
"""Of a table's values that are dealt with at once."""

_METADATA, _SIZE = b"latentops", b"size"
_BYTE = pa.field("element", pa.uint8())  # named as Parquet names it, so that a table reads back as it was
_VALUE = pa.field("element", pa.float32())


@dataclass(frozen=True)
class Layout:
    """What a table's columns hold.

    `shape` is [C, H, W] for images, [D] for tables, [C] for sequences and empty for text; `features` names a
    table's D columns, and `types` says what each is (nothing: they are all numbers). Images of whole numbers
    from 0 to 255 are kept in `bytes`. `extras` are the columns of `EXTRAS` that there are, in their order.
    Rows to be scored have no `label`, nor have those of which none is known; a `numeric_label` is a number,
    not a class.
    """

    kind: Kind
    shape: tuple[int, ...]
    label: str | None
    features: tuple[str, ...] = ()
    types: tuple[ColumnType, ...] = ()
    bytes: bool = False
    extras: tuple[Extra, ...] = ()
    numeric_label: bool = False

    def columns(self) -> list[tuple[str, ColumnType]]:
        """A table's features with their types."""
        number: ColumnType = "numeric"
        types = self.types or (number,) * len(self.features)
        return list(zip(self.features, types, strict=True))

    def sample_fields(self) -> list[pa.Field]:
        """The label column, if there is one, and those that the sample is made of."""
        type_ = pa.float64() if self.numeric_label else pa.string()
        label = [] if self.label is None else [pa.field(self.label, type_)]
        if self.kind == "image":
            return [*label, pa.field("pixels", pa.list_(_BYTE if self.bytes else _VALUE, prod(self.shape)))]
        if self.kind == "sequence":
            return [*label, pa.field("values", pa.list_(_VALUE))]
        if self.kind == "text":
            return [*label, pa.field("text", pa.string())]
        number = {"numeric": True, "date": True, "categorical": False, "boolean": False}
        return [
            *label,
            *(
                pa.field(name, pa.float64() if number[type_] else pa.string())
                for name, type_ in self.columns()
            ),
        ]

    def fields(self) -> list[pa.Field]:
        """All that a reader gives of a row: the extras, then the sample's own."""
        return [*(pa.field(f".{name}", EXTRAS[name]) for name in self.extras), *self.sample_fields()]

    def schema(self) -> pa.Schema:
        """Columns of a raw table, with kind, shape and features as metadata."""
        origin = [pa.field(SOURCE, pa.string()), pa.field(POSITION, pa.int64())]
        told = asdict(self).items()
        value = {name: each for name, each in told if name not in ("label", "numeric_label")}
        text = json.dumps(value, sort_keys=True)
        return pa.schema([*origin, *self.fields()], metadata={_METADATA: text.encode()})

    def with_problems(self) -> "Layout":
        """The same with a column that says what kept a row from being read."""
        problem: Extra = "problem"
        return replace(self, extras=tuple(dict.fromkeys([*self.extras, problem])))

    def part_rows(self) -> int:
        """How many rows are dealt with at once; sequences and texts are taken to be of some 1,000 values."""
        width = prod(self.shape) if self.kind == "image" else len(self.features)
        return max(1, PART_BYTES // (4 * max(width, 1 if self.kind == "tabular" else 16)))


def layout_of(stored: "pa.Table | Stored", label: str | None) -> Layout:
    """The layout that a table says it has. Its columns may break it: expectations look into that.

    What its label is, a class or a number, is what the column is.
    """
    at = -1 if label is None else stored.schema.get_field_index(label)
    value = json.loads(stored.schema.metadata[_METADATA])
    lists = {name: tuple(value[name]) for name in ("shape", "features", "types", "extras")}
    numeric = at >= 0 and pa.types.is_floating(stored.schema.field(at).type)
    return Layout(kind=value["kind"], label=label, bytes=value["bytes"], numeric_label=numeric, **lists)


@dataclass(frozen=True)
class Rows:
    """Rows on their way: their layout, and tables of them in their order, to be gone through once."""

    layout: Layout
    parts: Iterable[pa.Table]

    def whole(self) -> pa.Table:
        """All of them at once."""
        return pa.concat_tables([self.layout.schema().empty_table(), *self.parts]).combine_chunks()


def build(
    layout: Layout, source: str, columns: Sequence[pa.Array | pa.ChunkedArray], first: int = 0
) -> pa.Table:
    """A raw table of `layout` out of `columns` (`layout.fields()`): each row with its source and position.

    `first` is the position of the first of them.
    """
    rows = len(columns[0])
    origin = [pa.array([source] * rows, pa.string()), pa.array(range(first, first + rows), pa.int64())]
    each = [column.cast(field.type) for column, field in zip(columns, layout.fields(), strict=True)]
    return pa.Table.from_arrays([*origin, *each], schema=layout.schema())


class Stored:
    """A table in a file, read a part at a time."""

    def __init__(self, path: Path, stage: str) -> None:
        """Open what `stage` (such as `ingest@digits`) writes; `DataError` where there is none."""
        try:
            self._file = pq.ParquetFile(path)  # `read_table` would import pandas
        except FileNotFoundError:
            raise DataError(f"{path}: not found; make it with `dvc repro {stage}`") from None
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path}: not a Parquet file ({reason}); make it with `dvc repro {stage}`"
            ) from None
        found: pa.Schema = self._file.schema_arrow
        if _METADATA not in (found.metadata or {}):
            raise DataError(f"{path}: says nothing of its kind and shape; make it with `dvc repro {stage}`")
        self.schema = pa.schema([_fixed(field) for field in found], found.metadata)

    @property
    def num_rows(self) -> int:
        """How many rows there are in all."""
        return int(self._file.metadata.num_rows)

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows in their order, a row group at a time; of them the `columns` named, or all."""
        for at in range(self._file.num_row_groups):
            yield self._typed(self._file.read_row_group(at, columns=columns))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows at once."""
        return self._typed(self._file.read(columns=columns))

    def _typed(self, table: pa.Table) -> pa.Table:
        fields = [self.schema.field(name) for name in table.column_names]
        return table.cast(pa.schema(fields, self.schema.metadata))


def _loose(field: pa.Field) -> pa.Field:
    """A field of lists of one size as one of lists of any, with the size beside: Arrow 25 writes a missing
    list of one size in a way that it can't read.
    """
    if not pa.types.is_fixed_size_list(field.type):
        return field
    return pa.field(field.name, pa.list_(field.type.value_field)).with_metadata(
        {_SIZE: str(field.type.list_size)}
    )


def _fixed(field: pa.Field) -> pa.Field:
    """The field that `_loose` was given."""
    if _SIZE not in (field.metadata or {}):
        return field
    return pa.field(field.name, pa.list_(field.type.value_field, int(field.metadata[_SIZE])))


class Writer:
    """Writes tables into a file one after the other."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write_table(self, table: pa.Table, row_group_size: int | None = None) -> None:
        """Add the rows of `table`, as many in a group as `row_group_size` says."""
        self._writer.write_table(table.cast(self._writer.schema), row_group_size)


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Writer]:
    """Write tables into `path` one after the other, whole or not at all; the same give the same bytes."""
    loose = pa.schema([_loose(field) for field in schema], schema.metadata)
    with atomic.replacing(path) as aside, pq.ParquetWriter(aside, loose, compression="zstd") as writer:
        yield Writer(writer)


def write_parts(path: Path, parts: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Put the rows of `parts` into `path`, a row group each."""
    with writing(path, schema) as writer:
        for part in parts:
            if part.num_rows:
                writer.write_table(part, row_group_size=part.num_rows)


def write(path: Path, table: pa.Table) -> None:
    """Put `table` into `path`."""
    write_parts(path, [table], table.schema)


def read(path: Path, stage: str) -> pa.Table:
    """Read all of a table that `stage` writes; `DataError` where there is none."""
    return Stored(path, stage).read()


def labels(table: pa.Table, layout: Layout) -> list[str | None]:
    """Class name of each row; None for all where there is no label, or where it is a number."""
    if layout.label is None or layout.numeric_label:
        return [None] * table.num_rows
    return cast("list[str | None]", table.column(layout.label).to_pylist())


def targets(table: pa.Table, layout: Layout) -> NDArray[np.float64]:
    """The label of each row where it is a number, float64 [n]; NaN where it is missing."""
    values: NDArray[np.float64] = table.column(str(layout.label)).to_numpy()
    return values


def dense(table: pa.Table, layout: Layout) -> NDArray[np.floating]:
    """Images as float32 [n, C, H, W], a table's numbers as float64 [n, D]; what is missing is NaN.

    A table's categories are left to `categories`: their columns are NaN here.
    """
    if layout.kind == "tabular":
        # A column at a time into one array: [n, D], rows contiguous.
        out = np.full((table.num_rows, len(layout.features)), np.nan)
        for at, field in enumerate(layout.sample_fields()[layout.label is not None :]):
            if pa.types.is_floating(field.type):
                out[:, at] = table.column(field.name).to_numpy()
        return out
    pixels = whole(table.column("pixels"))
    size = prod(layout.shape)
    flat = pixels.values.slice(pixels.offset * size, len(pixels) * size).to_numpy(zero_copy_only=False)
    images: NDArray[np.float32] = flat.astype(np.float32).reshape(len(pixels), *layout.shape)
    images[pixels.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return images


def categories(table: pa.Table, layout: Layout) -> dict[str, list[str | None]]:
    """The values of each of a table's columns that hold categories, yes and no among them."""
    named = [name for name, type_ in layout.columns() if type_ in ("categorical", "boolean")]
    return {name: cast("list[str | None]", table.column(name).to_pylist()) for name in named}


def columns(table: pa.Table, layout: Layout) -> dict[str, NDArray[np.float64] | list[str | None]]:
    """A table's columns by name, in their order: numbers and dates float64 [n], categories as text."""
    texts_, numbers = categories(table, layout), np.asarray(dense(table, layout), dtype=np.float64)
    return {
        name: texts_[name] if name in texts_ else numbers[:, at] for at, name in enumerate(layout.features)
    }


def ragged(table: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Values of all sequences end to end, float32 [total], and how many each row has, int64 [n]."""
    values = whole(table.column("values"))
    flat = values.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    sizes = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return flat, sizes


def marked(table: pa.Table, longest: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Which steps of each window are marked, uint8 [n, longest], and which windows don't say, [n]."""
    column = whole(table.column(".marked"))
    sizes = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    marks = np.zeros((len(column), longest), dtype=np.uint8)
    marks[np.arange(longest) < sizes[:, None]] = column.flatten().to_numpy(zero_copy_only=False)
    return marks, column.is_null().to_numpy(zero_copy_only=False)


def texts(table: pa.Table) -> list[str]:
    """The text of each row; one that is missing is empty."""
    return [each or "" for each in table.column("text").to_pylist()]


def content_hashes(table: pa.Table, layout: Layout) -> NDArray[np.uint8]:
    """SHA-256 of each row's label and values, uint8 [n, 32]; where the row came from has no part in it."""
    told: Sequence[object] = labels(table, layout)
    if layout.label is not None and layout.numeric_label:
        told = (targets(table, layout) + 0).tolist()
    digests = (
        hashlib.sha256(f"{label}\0".encode() + content).digest()
        for label, content in zip(told, _contents(table, layout), strict=True)
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
    elif named := categories(table, layout):
        values = dense(table, layout) + 0
        quoted = [_quoted(column) for column in named.values()]
        for row, texts_ in zip(values, zip(*quoted, strict=True), strict=True):
            yield row.tobytes() + f"[{', '.join(texts_)}]".encode()
        return
    else:
        flat = dense(table, layout).reshape(table.num_rows, prod(layout.shape))
        width = flat.shape[1] * flat.itemsize
        starts = np.arange(table.num_rows, dtype=np.int64) * width
        ends = starts + width
    data = memoryview((flat + 0).tobytes())  # adding 0 makes -0.0 the same as 0.0
    yield from (data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))


def _quoted(column: list[str | None]) -> list[str]:
    """Each text as JSON has it; written once for all rows that have the same."""
    quoted = {text: json.dumps(text, ensure_ascii=False) for text in set(column)}
    return [quoted[text] for text in column]


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`column` as one array, also where it has no chunk or many."""
    combined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
