"""What the columns of a table could be, told by their cells."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pyarrow.compute as pc

from latentops.config import ColumnType, Read
from latentops.data import dates
from latentops.data.readers.cells import Columns
from latentops.errors import DataError

MISSING = ("?", "NA", "N/A", "NaN", "nan", "null", "NULL")
MISSING_NUMBERS = ("-", "--", ".", "None", "none", "missing", "unknown")
"""What stands for nothing in any column, and in one of numbers."""

ROWS = 200_000
"""That types are told by, at most."""

_READABLE = 0.99  # share of a column's cells that must be of its type
_APART = 1000  # values told apart
_WORDS = 4  # in a cell, from which on it is a text
_FEW = 20  # cells that may well differ by chance
_CLASSES = 20  # values that may well be classes, and cells that each of more would have


@dataclass
class Looked:
    """A column's cells as far as they were looked at: how many there are, and how many can't be of a type.

    `counts` are those of the first values met, `more` says that there are others. `words` are all cells'.
    `formats` are those, besides ISO 8601, that cells are dates in, and `dated` counts the cells that are in
    any. `unfit` is the type that a Parquet file gives the column, where no table has such cells.
    """

    cells: int = 0
    unread: dict[ColumnType, int] = field(default_factory=lambda: {"boolean": 0, "numeric": 0, "date": 0})
    counts: Counter[str] = field(default_factory=Counter)
    more: bool = False
    words: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    dated: int = 0
    unfit: str | None = None

    @property
    def type(self) -> ColumnType:
        """The first of boolean (two values), numeric and date that nearly all cells are, or categorical."""
        for type_, unread in self.unread.items():
            if self._nearly_all(self.cells - unread) and (type_ != "boolean" or len(self.counts) == 2):
                return type_
        return "date" if self._nearly_all(self.formats[next(iter(self.written), "")]) else "categorical"

    @property
    def written(self) -> list[str]:
        """The formats that most cells are dates in; none where as many are as they were read."""
        most = max(self.formats.values(), default=0)
        if most <= self.cells - self.unread["date"]:
            return []
        return [each for each, count in self.formats.items() if count == most]

    @property
    def variously_dated(self) -> str | None:
        """In which formats its cells are dates, where nearly all are, though in no single one."""
        if self.type != "categorical" or not self._nearly_all(self.dated):
            return None
        told = ", ".join(f"{each} in {count:,} cells" for each, count in self.formats.most_common(2))
        return f"dates that no single format reads ({told})"

    def _nearly_all(self, cells: int) -> bool:
        return bool(self.cells) and self.cells - cells <= (1 - _READABLE) * self.cells

    @property
    def wordy(self) -> bool:
        """Whether it holds texts."""
        return self.type == "categorical" and bool(self.cells) and self.words >= _WORDS * self.cells

    @property
    def measured(self) -> bool:
        """Whether its cells are numbers that are no classes: many, and not whole ones that come often."""
        if self.type != "numeric" or len(self.counts) <= _CLASSES:
            return False
        whole = all(re.fullmatch(r"[+-]?\d+", cell) for cell in self.counts)
        return self.more or not whole or self.cells < _CLASSES * len(self.counts)

    @property
    def useless(self) -> str | None:
        """Why it tells a model nothing, if that is so: one value, or but a name or a number of each row."""
        if not self.cells:
            return "empty" if self.unfit is None else f"{self.unfit}, which no column of a table holds"
        if len(self.counts) == 1 and not self.more:
            return "constant"
        if self.cells < _FEW or max(self.counts.values()) > 1:
            return None
        if self.type == "categorical":
            return "a different value in each row"
        if self.type == "numeric" and all(re.fullmatch(r"\d+", cell) for cell in self.counts):
            seen = [int(cell) for cell in self.counts]
            if all(later - earlier == 1 for earlier, later in pairwise(seen)):
                return "the row's number"
        return None

    def add(self, part: Columns, name: str, read: Read, for_numbers: Read) -> Counter[str]:
        """Take in a part's column; what was met of `read.missing` in it."""
        markers: Counter[str] = Counter()
        try:
            cells = part.text(name, read.model_copy(update={"missing": []}))
        except DataError:
            self.unfit = str(part.by_name[name].type)
            return markers
        before = self.cells
        for each in pc.value_counts(cells).to_pylist():
            cell, count = each["values"], each["counts"]
            if cell is None:
                continue
            if cell in read.missing:
                markers[cell] += count
                continue
            self.cells += count
            self.words += count * len(cell.split())
            formats = dates.formats(cell)
            self.formats.update(dict.fromkeys(formats, count))
            self.dated += count * bool(formats)
            if cell in self.counts or len(self.counts) < _APART:
                self.counts[cell] += count
            else:
                self.more = True
        for type_ in self.unread:
            alone = replace(part, wrong={})
            try:
                alone.typed(name, type_, for_numbers if type_ == "numeric" else read)
                self.unread[type_] += len(alone.wrong)
            except DataError:  # a column of a type that this one can't be, such as a date that is a number
                self.unread[type_] += self.cells - before
        return markers


def look(parts: Iterable[Columns], names: Sequence[str], read: Read) -> tuple[dict[str, Looked], list[str]]:
    """The columns called `names`, and what stands for nothing in them, in the order of `MISSING`."""
    looked = {name: Looked() for name in names}
    anywhere = read.model_copy(update={"missing": [*read.missing, *MISSING]})
    numbers = read.model_copy(update={"missing": [*read.missing, *MISSING, *MISSING_NUMBERS]})
    markers: Counter[str] = Counter()
    rows = 0
    for part in parts:
        for name, column in looked.items():
            markers += column.add(part, name, anywhere, numbers)
        rows += part.rows
        if rows >= ROWS:
            break
    for column in looked.values():
        if column.type == "numeric":
            for marker in MISSING_NUMBERS:
                markers[marker] += column.counts.pop(marker, 0)
    return looked, [
        *read.missing,
        *(each for each in numbers.missing if markers[each] and each not in read.missing),
    ]
