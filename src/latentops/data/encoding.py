"""From the columns of a table to rows that a model sees, and back: numbers, categories, what's missing.

A number or a date is one entry, scaled; where it may be missing, 0 stands in its place and a flag says
whether it is there. A category of k is k indicators, all 0 where it is missing. The flags lie at the row's
end, in the order of their columns. It is fitted on training rows alone and is nothing but numbers and text,
so that it can travel inside a model's package.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from latentops.config import ColumnType
from latentops.data.transforms import Transform

Column = NDArray[np.floating] | Sequence[str | None]
"""Numbers (of a date seconds since 1970), NaN where one is missing; or text, None where it is."""

CATEGORIES: tuple[ColumnType, ...] = ("categorical", "boolean")
OTHER = "(other)"
"""What a category is called of which no more is kept than that it is none of the frequent ones."""


@dataclass(frozen=True)
class Encoding:
    """What each of a table's columns becomes.

    `types` are the columns' by name, in their order, `kept` the categories that have an indicator of their
    own, `buckets` how many the others share. Of the columns in `missing` some values are. `transform` is that
    of all numbers, in their order.
    """

    types: Mapping[str, ColumnType]
    kept: Mapping[str, tuple[str, ...]]
    buckets: int
    missing: tuple[str, ...]
    transform: Transform

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Column],
        types: Mapping[str, ColumnType],
        missing: Collection[str],
        scaled: Callable[[NDArray[np.float64]], Transform],
        *,
        categories: int,
        buckets: int,
    ) -> Self:
        """From training rows: the `categories` most frequent of a column are kept, numbers are `scaled`.

        `missing` names the columns that may have missing values, here or in rows to come. Of categories that
        are equally frequent the first in the alphabet is kept.
        """
        numbers = [name for name, type_ in types.items() if type_ not in CATEGORIES]
        kept = {}
        for name, type_ in types.items():
            if type_ in CATEGORIES:
                counts = Counter(
                    each for each in cast("Sequence[str | None]", columns[name]) if each is not None
                )
                ordered = sorted(counts, key=lambda each: (-counts[each], each))
                kept[name] = tuple(ordered[:categories])
        transform = Transform((), ())
        if numbers:
            transform = scaled(np.stack([np.asarray(columns[name], np.float64) for name in numbers], axis=1))
        return cls(dict(types), kept, buckets, tuple(name for name in types if name in missing), transform)

    @property
    def numbers(self) -> list[str]:
        """Names of the columns that are numbers or dates."""
        return [name for name, type_ in self.types.items() if type_ not in CATEGORIES]

    @property
    def optional(self) -> list[str]:
        """Those of them that may be missing, which have a flag."""
        return [name for name in self.numbers if name in self.missing]

    @property
    def widths(self) -> tuple[int, ...]:
        """Entries of each column, its flag apart: 1 of a number, k of k categories."""
        return tuple(len(self.kept[name]) + self.buckets if name in self.kept else 1 for name in self.types)

    @property
    def flagged(self) -> tuple[int, ...]:
        """Which columns have a flag at the row's end."""
        return tuple(at for at, name in enumerate(self.types) if name in self.optional)

    @property
    def entries(self) -> int:
        """Width of a prepared row."""
        return sum(self.widths) + len(self.optional)

    def apply(self, columns: Mapping[str, Column]) -> NDArray[np.float32]:
        """Rows `[n, entries]` of columns of n values each; never NaN."""
        rows = len(next(iter(columns.values())))
        out = np.zeros((rows, self.entries), dtype=np.float32)
        numbers = np.empty((rows, len(self.numbers)))
        for at, name in enumerate(self.numbers):
            numbers[:, at] = columns[name]
        there = np.isfinite(numbers)
        scaled = np.where(there, self.transform.apply(numbers), 0) if self.numbers else numbers
        for name, start in self._starts.items():
            if name in self.kept:
                column = cast("Sequence[str | None]", columns[name])
                places = {each: self._place(name, each) for each in set(column)}
                index = np.array([places[each] for each in column], dtype=np.int64)
                (given,) = np.nonzero(index >= 0)
                out[given, start + index[given]] = 1
            else:
                out[:, start] = scaled[:, self.numbers.index(name)]
        for at, name in enumerate(self.optional):
            out[:, sum(self.widths) + at] = there[:, self.numbers.index(name)]
        return out

    def invert(self, rows: NDArray[np.floating]) -> dict[str, NDArray[np.float64] | list[str | None]]:
        """The columns of rows `[n, entries]`: numbers, NaN where a flag says so, and categories as text.

        That is the likeliest one, of a shared place `(other)`; None where no indicator is above 0.
        """
        found: dict[str, NDArray[np.float64] | list[str | None]] = {}
        numbers = [self._starts[name] for name in self.numbers]
        raw = self.transform.invert(rows[:, numbers]) if numbers else np.empty((len(rows), 0))
        for name, start in self._starts.items():
            if name in self.kept:
                part = rows[:, start : start + len(self.kept[name]) + self.buckets]
                named = [*self.kept[name], *[OTHER] * self.buckets]
                likeliest = np.where(part.max(axis=1) > 0, part.argmax(axis=1), -1).tolist()
                found[name] = [None if at < 0 else named[at] for at in likeliest]
            else:
                column = np.array(raw[:, self.numbers.index(name)])
                if name in self.optional:
                    flag = sum(self.widths) + self.optional.index(name)
                    column[rows[:, flag] < 0.5] = np.nan
                found[name] = column
        return found

    def spread(self, rows: NDArray[np.floating]) -> float:
        """Root of the mean variance of the numbers that are there in rows `[n, entries]`; 1 without any."""
        there = {name: sum(self.widths) + at for at, name in enumerate(self.optional)}
        variances = []
        for name in self.numbers:
            known = rows[:, there[name]] > 0 if name in there else slice(None)
            column = rows[known, self._starts[name]].astype(np.float64)
            variances.append(column.var() if len(column) else 0.0)
        return float(np.sqrt(np.mean(variances or [1.0]))) or 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same encoding again."""
        return {
            "types": [[name, type_] for name, type_ in self.types.items()],
            "kept": {name: list(each) for name, each in self.kept.items()},
            "buckets": self.buckets,
            "missing": list(self.missing),
            "transform": self.transform.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The encoding that `to_json` wrote."""
        return cls(
            dict(value["types"]),
            {name: tuple(each) for name, each in value["kept"].items()},
            value["buckets"],
            tuple(value["missing"]),
            Transform.from_json(value["transform"]),
        )

    @cached_property
    def _starts(self) -> dict[str, int]:
        ends = accumulate(self.widths)
        return {name: end - width for name, width, end in zip(self.types, self.widths, ends, strict=True)}

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        return {name: {each: at for at, each in enumerate(kept)} for name, kept in self.kept.items()}

    def _place(self, name: str, category: str | None) -> int:
        """Which of a column's indicators a category has; -1 for one that is missing."""
        if category is None:
            return -1
        if category in self._places[name]:
            return self._places[name][category]
        digest = hashlib.sha256(category.encode()).digest()
        return len(self.kept[name]) + int.from_bytes(digest[:8], "big") % self.buckets
