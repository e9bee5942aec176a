"""Rows that someone asked to have forgotten: what they are known by, and how they are left out.

A row is known by the hash of its label and values, which is all that is kept of it. Who guesses a whole row,
value by value, can tell by its hash whether it was here; nothing else can be read from it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from latentops import atomic
from latentops.data import table
from latentops.data.table import Layout
from latentops.errors import DataError

FILE = "forgotten.txt"
"""Beside the files of accepted rows: a hash a line, after a comment."""

_COMMENT = (
    "# SHA-256 of the label and values of each row that ingest leaves out; `latentops forget` adds to it.\n"
)
_HASH = re.compile(r"[0-9a-f]{64}")
_PLACE = re.compile(r"(.+):(\d+)")


def read(folder: Path) -> frozenset[bytes]:
    """The hashes of the rows that are left out; none where `folder` has no list.

    Raises `DataError` where a line is none.
    """
    path = folder / FILE
    if not path.exists():
        return frozenset()
    found = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#"):
            continue
        if not _HASH.fullmatch(line):
            raise DataError(f"{path}: line {number} is not a SHA-256; put back what git has")
        found.add(bytes.fromhex(line))
    return frozenset(found)


def add(folder: Path, rows: Collection[bytes]) -> int:
    """Put the hashes of `rows` on the list; how many are new to it."""
    known = read(folder)
    fresh = set(rows) - known
    if fresh:
        lines = sorted(each.hex() for each in known | fresh)
        atomic.write_text(folder / FILE, _COMMENT + "".join(f"{line}\n" for line in lines))
    return len(fresh)


def held(part: pa.Table, layout: Layout, rows: Collection[bytes]) -> pa.Array:
    """Whether each row of `part` is one of those that the hashes `rows` are of."""
    content = table.content_hashes(part, layout)
    return pa.array([row.tobytes() in rows for row in content], pa.bool_())


def hashes(part: pa.Table, layout: Layout) -> set[bytes]:
    """The hash of each row of `part`."""
    return {row.tobytes() for row in table.content_hashes(part, layout)}


def without(
    parts: Iterable[pa.Table],
    layout: Layout,
    gone: Collection[bytes],
    left_out: Callable[[int], object] = lambda rows: None,
) -> Iterator[pa.Table]:
    """The rows of `parts` but those of the hashes `gone`; `left_out` is told how many, each time."""
    for part in parts:
        if not gone:
            yield part
            continue
        kept = part.filter(pc.invert(held(part, layout, gone)))
        left_out(part.num_rows - kept.num_rows)
        yield kept


@dataclass
class Ids:
    """What a person wrote to say which rows are meant, and which of it was found so far.

    Each of `lines` is a group or a name (`.group`, `.name` of a raw table), a row's id (64 hexadecimal
    digits), or `source:position`, which means a row of the data as they are now.
    """

    lines: frozenset[str]
    found: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> "Ids":
        """From a file of an id a line, comments (`#`) passed over; `DataError` where it is none, or empty."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: can't be read as text: {error}") from None
        lines = frozenset(line for each in text.splitlines() if (line := each.strip()) and line[0] != "#")
        if not lines:
            raise DataError(
                f"{path}: no ids; write one a line: a group, a name, a row's id or source:position"
            )
        return cls(lines)

    def meant(self, part: pa.Table, layout: Layout, places: Collection[str]) -> pa.Array:
        """Whether each row of `part` is meant; `places` are those lines that may say where a row of it is."""
        mask = pa.array([False] * part.num_rows, pa.bool_())
        origins, positions = (table.whole(part.column(name)) for name in (table.SOURCE, table.POSITION))
        for name in (".group", ".name"):
            if name in part.column_names:
                values = table.whole(part.column(name))
                here = pc.is_in(values, value_set=pa.array(sorted(self.lines), pa.string()))
                mask = pc.or_(mask, here)
                self.found |= set(values.filter(here).to_pylist())
        for source, meant in _positions(places).items():
            inside = pc.is_in(positions, value_set=pa.array(meant, pa.int64()))
            here = pc.and_(pc.equal(origins, source), inside)
            mask = pc.or_(mask, here)
            self.found |= {f"{source}:{position}" for position in positions.filter(here).to_pylist()}
        if wanted := {bytes.fromhex(line) for line in self.lines if _HASH.fullmatch(line)}:
            here = held(part, layout, wanted)
            mask = pc.or_(mask, here)
            self.found |= {each.hex() for each in hashes(part.filter(here), layout)}
        return mask

    def known(self, listed: Collection[bytes]) -> set[bytes]:
        """Those of the hashes `listed` that are meant by themselves."""
        there = {each for each in listed if each.hex() in self.lines}
        self.found |= {each.hex() for each in there}
        return there


def _positions(places: Collection[str]) -> Mapping[str, Sequence[int]]:
    found = defaultdict(list)
    for place in places:
        if match := _PLACE.fullmatch(place):
            found[match[1]].append(int(match[2]))
    return found
