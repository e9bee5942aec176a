"""How a text file writes a table: its encoding, delimiter, header and decimal mark, told by its beginning."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from latentops.config import Read
from latentops.data.readers.files import opened
from latentops.errors import DataError

_LOOKED_AT = 2**18  # bytes
_ROWS = 1000
_DELIMITERS = (",", ";", "\t", "|")
_NOT_WINDOWS = {b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d"}
_GROUPED = r"\s*[+-]?\d{1,3}(\.\d{3})+\s*"  # thousands, rather than decimals, where commas are about
_ALIKE = 0.8  # share of the lines that a delimiter cuts into equally many cells


def dialect(path: Path, names: Collection[str] = ()) -> Read | None:
    """How the file at `path` is read as `csv`; None where nothing delimits cells in it.

    Where the first row is no header, columns are called `c1`, `c2`, …, and so are those to which a header
    gives no name of their own. A first row that has one of `names` is a header, and so is one of words above
    numbers. Raises `DataError` for an empty file, and for an archive.
    """
    begins = beginning(path)
    if not begins.strip():
        raise DataError(f"{path}: empty")
    if begins.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: a zip archive or a spreadsheet; unpack it, or save it as CSV")
    encoding = encoding_of(begins)
    text = begins.decode(encoding, errors="replace").removeprefix("\ufeff")
    lines = text.splitlines()
    if len(begins) == _LOOKED_AT:
        lines = lines[:-1]
    told = re.fullmatch(r"sep=(.)", lines[0]) if lines else None  # as spreadsheets have it
    lines = lines[1:] if told else lines
    delimiter = told[1] if told else _delimiter(lines)
    if delimiter is None:
        return None
    rows = list(csv.reader(io.StringIO("\n".join(lines[:_ROWS])), delimiter=delimiter))
    first = [cell.strip() for cell in rows[0]] if rows else []
    named = not set(names).isdisjoint(first) or _above_numbers(first, rows[1:])
    own = len(set(first)) == len(first) and all(first)
    options: dict[str, object] = {"format": "csv", "delimiter": delimiter, "encoding": encoding}
    if not own or (any(map(is_number, first)) and not named):
        options["header"] = [
            cell if named and cell and first.count(cell) == 1 else f"c{at + 1}"
            for at, cell in enumerate(first)
        ]
    skip = (told is not None) + (named and not own)
    if skip:
        options["skip"] = skip
    if delimiter != "," and _commas(rows[1:]):
        options["decimal"] = ","
    return Read.model_validate(options)


def beginning(path: Path) -> bytes:
    """The first bytes of a file, unpacked if it is packed."""
    with opened(path) as stream:
        return stream.read(_LOOKED_AT)


def encoding_of(begins: bytes) -> str:
    """UTF-16 by its mark, UTF-8 where it can be, else that of Windows or Latin-1, which anything can be."""
    if begins.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        begins.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut off by the end of what was read is no fault.
        if error.start > len(begins) - 4 and len(begins) == _LOOKED_AT:
            return "utf-8"
        # Bytes that are control characters in Latin-1 and others in Windows-1252, such as the euro's.
        seen = set(re.findall(rb"[\x80-\x9f]", begins))
        return "cp1252" if seen and seen.isdisjoint(_NOT_WINDOWS) else "latin-1"
    return "utf-8"


def is_number(cell: str) -> bool:
    """Whether a cell may be a number, with a point or a comma."""
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _delimiter(lines: Sequence[str]) -> str | None:
    """That which cuts the lines into the most equal rows, of at least two cells, and of these the longest."""
    best: tuple[float, int, str | None] = (_ALIKE, 1, None)
    for delimiter in _DELIMITERS:
        counts = Counter(len(row) for row in csv.reader(lines[:_ROWS], delimiter=delimiter) if row)
        width, rows = counts.most_common(1)[0] if counts else (1, 0)
        if width > 1 and (rows / counts.total(), width) > best[:2]:
            best = rows / counts.total(), width, delimiter
    return best[2]


def _above_numbers(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has words alone and stands above a column of numbers."""
    if any(map(is_number, first)):
        return False
    columns = list(zip(*(row for row in rows if len(row) == len(first)), strict=True))
    return any(all(map(is_number, column)) for column in columns)


def _commas(rows: Sequence[Sequence[str]]) -> bool:
    """Whether numbers are written with a decimal comma."""

    def written(mark: str) -> int:
        return sum(bool(re.fullmatch(mark, cell)) for row in rows for cell in row)

    commas = written(r"\s*[+-]?\d+(\.\d{3})*,\d+\s*")
    return commas > written(r"\s*[+-]?\d+\.\d+\s*") - written(_GROUPED)
