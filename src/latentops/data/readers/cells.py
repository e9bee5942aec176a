"""From the columns of a table in a file, as they are found, to those of a raw table.

Cells that can't be read become missing, with the reason. Blanks around a cell don't count.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from latentops.config import ColumnType, Read, Source, nearest
from latentops.data.readers import files
from latentops.data.readers.files import Located
from latentops.data.table import Layout
from latentops.errors import DataError

EXACT = 2**53
"""The greatest whole number up to which float64 has every one."""

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)
_GROUPED = r"^[+-]?\d{1,3}((\.\d{3})+,\d+|(\.\d{3}){2,})$"  # 1.234 alone may be meant otherwise
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_YES, _NO = {"true", "t", "yes", "y", "1", "1.0"}, {"false", "f", "no", "n", "0", "0.0"}
_SHOWN = 40  # characters of a cell that an error shows


@dataclass(frozen=True)
class Columns:
    """Some rows of a file's table: its columns by name, the first row's position, what is wrong by row."""

    by_name: Mapping[str, pa.Array]
    rows: int
    first: int
    wrong: dict[int, list[str]] = field(default_factory=dict)

    def typed(self, name: str, type_: ColumnType, read: Read) -> pa.Array:
        """A column as a `Layout` has it; what can't be read is missing, and `wrong` says so."""
        return self._read(name, read, _READERS[type_])

    def times(self, name: str, read: Read) -> pa.Array:
        """A column of times as float64: seconds since 1970, or numbers as they are."""
        return self._read(name, read, _time)

    def text(self, name: str, read: Read) -> pa.Array:
        """A column of names, without blanks around them; what is empty or stands for nothing is missing."""
        return _known(self._plain(name), read)

    def raw_text(self, name: str, read: Read) -> pa.Array:
        """A column of text, as it is."""
        column = self._plain(name)
        return pc.if_else(pc.is_valid(_known(column, read)), column, None)

    def _plain(self, name: str) -> pa.Array:
        column = self.by_name[name]
        try:
            return column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(f"column {name!r} is {column.type}, which is no text") from None

    def _read(self, name: str, read: Read, reader: "_Reader") -> pa.Array:
        column = self.by_name[name]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        try:
            values, reasons = reader(column, read, read.written(name))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(f"column {name!r} is {column.type}, which its use can't be") from None
        for row, reason in reasons.items():
            self.wrong.setdefault(row, []).append(f"column {name!r}: {reason}")
        return values


_Reader = Callable[[pa.Array, Read, str | None], tuple[pa.Array, dict[int, str]]]
"""Of a column, as `read` and the way that its dates are written say: its values, and why a row's is none."""


def check_names(where: object, found: Sequence[str], needed: Sequence[str], known: Sequence[str]) -> None:
    """`DataError` where a column has no name of its own, isn't there, or is neither `needed` nor `known`."""
    for at, name in enumerate(found):
        if not name:
            raise DataError(f"{where}: column {at + 1} has no name; name the columns in read.header")
        if name in found[:at]:
            raise DataError(f"{where}: more than one column {name!r}; name the columns in read.header")
    for name in needed:
        if name not in found:
            raise DataError(f"{where}: no column {name!r}{nearest(name, found)}")
    for name in found:
        if name not in needed and name not in known:
            raise DataError(
                f"{where}: unknown column {name!r}{nearest(name, [*needed, *known])}; "
                "name it under drop to pass it over"
            )


def layout(source: Source, located: Sequence[Located]) -> Layout:
    """The layout of a table, or of a table of texts, that `source` describes."""
    extras = files.extras(source, located)
    if source.kind == "text":
        return Layout("text", (), source.label, extras=extras, numeric_label=source.numeric_label)
    types = tuple(source.columns.values())
    # A table of numbers says nothing of types, as those of the embedded sets.
    plain = all(type_ == "numeric" for type_ in types)
    return Layout(
        "tabular",
        (len(types),),
        source.label,
        tuple(source.columns),
        () if plain else types,
        extras=extras,
        numeric_label=source.numeric_label,
    )


def needed(layout: Layout, source: Source, found: Sequence[str]) -> list[str]:
    """The columns that rows of `layout` are read from: a text from its parts, or from a column `text`."""
    label = [] if layout.label is None else [layout.label]
    if layout.kind == "tabular":
        return [*label, *layout.features]
    whole = not source.text or ("text" in found and not set(source.text) & set(found))
    return [*label, *(["text"] if whole else source.text)]


def places(source: Source) -> list[str]:
    """The columns that say where a row belongs."""
    part = source.read.part if source.read is not None else None
    return [name for name in (source.group, source.time, part) if name is not None]


def rows(
    columns: Columns,
    layout: Layout,
    source: Source,
    read: Read,
    file: Located,
    sample: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """A raw table of the rows in `columns`; of images and sequences with the `sample` column as it is."""
    given = dict(sample or {})
    try:
        given |= {name: columns.typed(name, type_, read) for name, type_ in layout.columns()}
        if layout.kind == "text":
            parts = needed(layout, source, list(columns.by_name))[layout.label is not None :]
            given["text"] = _joined([columns.raw_text(name, read) for name in parts])
        if layout.label is not None:
            given[layout.label] = (
                columns.typed(layout.label, "numeric", read)
                if layout.numeric_label
                else files.relabelled(columns.text(layout.label, read), read.relabel)
            )
        if source.group in columns.by_name:
            given[".group"] = columns.text(str(source.group), read)
        if source.time in columns.by_name:
            given[".time"] = columns.times(str(source.time), read)
        if read.part in columns.by_name:
            given[".part"] = _parts(columns, str(read.part), read)
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from None
    given[".problem"] = files.problems(columns.wrong, columns.rows)
    return files.assembled(layout, file, given, columns.rows, columns.first)


def _joined(texts: Sequence[pa.Array]) -> pa.Array:
    """`texts` side by side with a blank between, without those that are missing; missing where all are."""
    nothing = pc.is_null(texts[0])
    for each in texts[1:]:
        nothing = pc.and_(nothing, pc.is_null(each))
    # Arrow 25 leaves a row out if each of its parts is missing.
    first = pc.if_else(nothing, "", texts[0])
    return pc.if_else(
        nothing, None, pc.binary_join_element_wise(first, *texts[1:], " ", null_handling="skip")
    )


def _parts(columns: Columns, name: str, read: Read) -> pa.Array:
    given = columns.text(name, read)
    known = pc.is_in(given, pa.array(["train", "test"]))
    for row, (value, fine) in enumerate(zip(given.to_pylist(), known.to_pylist(), strict=True)):
        if not fine and row not in columns.wrong:
            columns.wrong[row] = [f"column {name!r}: {_shown(value)} is neither train nor test"]
    return pc.if_else(known, given, None)


def _known(column: pa.Array, read: Read) -> pa.Array:
    """`column` without blanks around its cells; those that are empty or say so are missing."""
    column = pc.utf8_trim_whitespace(column)
    nothing = pc.is_in(column, pa.array(["", *(each.strip() for each in read.missing)]))
    return pc.if_else(nothing, None, column)


def _each(
    column: pa.Array, parse: Callable[[str], object], type_: pa.DataType
) -> tuple[pa.Array, dict[int, str]]:
    """`parse` of every cell; where it raises `ValueError`, missing, with its text as the reason."""
    codes = column.dictionary_encode()
    parsed: list[object] = []
    reasons: dict[int, str] = {}
    for code, cell in enumerate(codes.dictionary.to_pylist()):
        try:
            parsed.append(parse(cell))
        except ValueError as error:
            parsed.append(None)
            reasons[code] = f"{_shown(cell)} {error}"
    values = pa.array(parsed, type_).take(codes.indices)
    if not reasons:
        return values, {}
    unread = pc.is_in(codes.indices, pa.array(list(reasons), codes.indices.type)).to_numpy(False).nonzero()[0]
    return values, {int(row): reasons[codes.indices[int(row)].as_py()] for row in unread}


def _shown(cell: object) -> str:
    text = str(cell)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _numbers(column: pa.Array, read: Read, _: str | None = None) -> tuple[pa.Array, dict[int, str]]:
    if pa.types.is_temporal(column.type):
        raise pa.ArrowInvalid("a time is no number")
    reasons: dict[int, str] = {}
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = _known(column, read)
        if read.decimal != ".":
            # A dot is then no decimal point, and must not be read as one; some are certain to group.
            grouped = pc.match_substring_regex(text, _GROUPED)
            text = pc.if_else(grouped, pc.replace_substring(text, ".", ""), text)
            text = pc.replace_substring(pc.replace_substring(text, ".", "·"), read.decimal, ".")
    else:
        text = None
    try:
        values = (column if text is None else text).cast(pa.float64())
        if text is not None and (pc.max(pc.abs(values)).as_py() or 0) > EXACT:
            raise pa.ArrowInvalid("some may not be exact")
    except pa.ArrowInvalid:
        values, reasons = _each(column.cast(pa.string()) if text is None else text, number, pa.float64())
    return pc.if_else(pc.is_nan(values), None, values), reasons


def number(cell: str) -> float:
    """A cell as a number; `ValueError`, whose text ends a sentence that begins with it, where it is none."""
    if not _NUMBER.fullmatch(cell):
        raise ValueError("is not a number")
    value = float(cell)
    if _WHOLE.fullmatch(cell) and (math.isinf(value) or (abs(value) >= EXACT and int(value) != int(cell))):
        raise ValueError("is too large a number to be kept exactly; make the column categorical, or drop it")
    return value


def _dates(column: pa.Array, read: Read, written: str | None) -> tuple[pa.Array, dict[int, str]]:
    if pa.types.is_temporal(column.type):
        return _seconds(column), {}
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return _numbers(column, read)
    return _each(_known(column, read), lambda cell: date(cell, written), pa.float64())


def _time(column: pa.Array, read: Read, written: str | None) -> tuple[pa.Array, dict[int, str]]:
    if pa.types.is_temporal(column.type):
        return _seconds(column), {}
    known = _known(column.cast(pa.string()), read)

    def parse(cell: str) -> float:
        return float(cell) if _NUMBER.fullmatch(cell) else date(cell, written)

    return _each(known, parse, pa.float64())


def _seconds(column: pa.Array) -> pa.Array:
    if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        raise pa.ArrowInvalid("no date")
    micros = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    return pc.divide(micros.cast(pa.float64(), safe=False), 1e6)


def date(cell: str, written: str | None = None) -> float:
    """Seconds since 1970 of a date in ISO 8601, or as `written` says; UTC where it names no zone.

    Raises `ValueError`, whose text ends a sentence that begins with the cell.
    """
    try:
        moment = datetime.strptime(cell, written) if written else datetime.fromisoformat(cell)
    except ValueError:
        asked = f"as read.dates says ({written})" if written else "in ISO 8601; say in read.dates how it is"
        raise ValueError(f"is not a date {asked}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _categories(column: pa.Array, read: Read, _: str | None) -> tuple[pa.Array, dict[int, str]]:
    return _known(column.cast(pa.string()), read), {}


def _booleans(column: pa.Array, read: Read, _: str | None) -> tuple[pa.Array, dict[int, str]]:
    return _each(_known(column.cast(pa.string()), read), _boolean, pa.string())


def _boolean(cell: str) -> str:
    if cell.lower() in _YES | _NO:
        return "true" if cell.lower() in _YES else "false"
    raise ValueError("is neither true nor false")


_READERS: dict[ColumnType, _Reader] = {
    "numeric": _numbers,
    "categorical": _categories,
    "boolean": _booleans,
    "date": _dates,
}
