"""Delimited text: a table, or a table of texts.

Blank lines are no rows. A row of too many or too few cells keeps its place, with all of it missing.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from latentops.config import Read, Source
from latentops.data import table as tables
from latentops.data.readers import cells
from latentops.data.readers.cells import Columns
from latentops.data.readers.files import Located, Text, opened, some
from latentops.data.table import Layout, Rows
from latentops.errors import DataError

BLOCK_BYTES = 2**25
"""Of a file that become a part; no row may be longer."""

_END = "\x01end of latentops text\x01"


def read(files: Sequence[Located], source: Source, read: Read) -> Rows:
    """The rows of `files` as a table, or as texts whose columns are joined by a space."""
    layout = cells.layout(source, files)
    return Rows(layout, chain.from_iterable(_own(file, layout, source, read) for file in files))


def _own(file: Located, layout: Layout, source: Source, read: Read) -> Iterator[pa.Table]:
    names = header(file, read)
    needed = [*cells.needed(layout, source, names), *cells.places(source)]
    cells.check_names(file.path, names, needed, source.drop)
    return some(file.path, _rows(file, names, layout, source, read))


def incoming(file: Located, layout: Layout, source: Source, read: Read) -> Iterator[pa.Table]:
    """The rows of a file that came in: all but its samples' columns may be left out."""
    known = [*cells.places(source), *source.drop, *([] if source.label is None else [source.label])]
    names = header(file, read)
    if read.header:
        # Where the source's own has no header, that of a new file may have one.
        plain = read.model_copy(update={"header": []})
        first = header(file, plain)
        if set(first) <= {*cells.needed(layout, source, first), *known}:
            names, read = first, plain
    cells.check_names(file.path, names, cells.needed(layout, source, names), known)
    return some(file.path, _rows(file, names, layout, source, read))


def _rows(
    file: Located, names: Sequence[str], layout: Layout, source: Source, read: Read
) -> Iterator[pa.Table]:
    return (cells.rows(columns, layout, source, read, file) for columns in parts(file, read, names))


def header(file: Located, read: Read) -> list[str]:
    """The names of a file's columns: those in `read.header`, or else in its first row."""
    if read.header:
        return list(read.header)
    with opened(file.path) as stream:
        text = Text(file.path, stream, read.encoding, read.skip, read.comment)
        try:
            reader = csv.reader(
                text.lines(),
                delimiter=read.delimiter,
                quotechar=read.quote or None,
                quoting=csv.QUOTE_MINIMAL if read.quote else csv.QUOTE_NONE,
            )
            first = next((row for row in reader if row), None)
        except csv.Error as error:
            raise DataError(f"{file.path}: its header can't be read: {error}") from None
    if first is None:
        raise DataError(f"{file.path}: empty")
    return [name.strip() for name in first]


def parts(file: Located, read: Read, names: Sequence[str]) -> Iterator[Columns]:
    """All columns of a file as text, some rows at a time, without its header."""
    ragged: dict[int, int] = {}
    closed = False

    def note(row: pa.csv.InvalidRow) -> str:
        nonlocal closed
        if row.text.startswith(_END):
            closed = True
        else:
            ragged[row.number - 1] = row.actual_columns
        return "skip"

    # A row that can't be one of the file's ends it; if it isn't seen, a quote before it was never closed.
    end = read.delimiter.join([_END, *names])
    at, headed = 0, not read.header
    with opened(file.path) as stream:
        text = Text(file.path, stream, read.encoding, read.skip, read.comment, tail=end)
        try:
            reader = pa.csv.open_csv(
                text,
                # In one thread: only then do ragged rows come with their number.
                pa.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES, use_threads=False),
                pa.csv.ParseOptions(
                    delimiter=read.delimiter,
                    quote_char=read.quote or False,
                    newlines_in_values=bool(read.quote),
                    invalid_row_handler=note,
                ),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            )
            for batch in chain(reader, [reader.schema.empty_table()]):
                columns, at = _placed(batch, ragged, at, headed, len(names))
                if columns.rows:
                    yield columns
        except pa.ArrowInvalid as error:
            reason = str(error).splitlines()[0]
            if "straddling" in reason:
                reason = f"a row is longer than {BLOCK_BYTES} bytes; is a quote never closed?"
            raise DataError(f"{file.path}: can't be read as delimited text: {reason}") from None
    if not closed:
        raise DataError(
            f"{file.path}: row {at - 1 - headed}: a quote is never closed; mend it, or say in read.quote"
        )


def _placed(
    batch: pa.RecordBatch | pa.Table, ragged: dict[int, int], at: int, headed: bool, width: int
) -> tuple[Columns, int]:
    """A batch's rows from row `at` of the file on, with the `ragged` ones among them, and the row after.

    Where the file is `headed`, its row 0 is no row of the table. Ragged rows that are placed are taken out.
    """
    pieces: list[NDArray[np.int64]] = []
    wrong: dict[int, list[str]] = {}
    row, taken = at, 0
    for bad in sorted(ragged):
        if bad - row > batch.num_rows - taken:
            break
        pieces += [np.arange(taken, taken + bad - row), np.array([-1])]
        taken += bad - row
        row = bad + 1
        wrong[bad - at] = [f"{ragged.pop(bad)} cells, expected {width}"]
    pieces.append(np.arange(taken, batch.num_rows))
    row += batch.num_rows - taken
    order = np.concatenate(pieces)
    if headed and at == 0 and row:
        order, wrong = order[1:], {each - 1: why for each, why in wrong.items()}
    chosen = batch.take(pa.array(order, mask=order < 0)) if wrong else batch.slice(row - at - len(order))
    by_name = {name: tables.whole(chosen.column(name)) for name in batch.schema.names}
    return Columns(by_name, len(order), max(at - headed, 0), wrong), row
