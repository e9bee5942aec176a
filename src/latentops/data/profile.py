"""What rows look like: columns with their types and ranges, what is missing, classes, lengths, duplicates.

It is made in one pass, a part at a time, and is the same however the rows are cut into parts. What is counted
(rows, missing, least, greatest, classes, duplicates) is exact; quantiles are those of a sample. Images and
sequences have a column `pixels` or `values` (the mean of each row's), sequences also `steps`, and texts have
`characters`. A label that is a number is the last column.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from latentops import atomic
from latentops.config import ColumnType, Kind
from latentops.data import table as tables
from latentops.data.table import Layout, Rows
from latentops.errors import DataError

LEVELS = 51
"""Quantiles that are kept of a column, evenly spaced from the least to the greatest."""
SAMPLED = 10_000
"""Rows that quantiles are taken of, and single-column predictors fitted on."""
COUNTED = 10_000
"""Values of a column that are told apart; of more, `distinct` says that many."""
KEPT = 100
"""Categories of a column that are kept with their counts, the most frequent ones."""
SHOWN = 5
"""Rows of a preview."""
_WIDTH = 40  # characters of a cell in it
_TOLD = 4  # categories that a person is told of

Texts = NDArray[np.object_]


@dataclass(frozen=True)
class Column:
    """A column as it was found.

    `missing` is the share of rows without a value, `infinite` how many hold one that isn't finite, `distinct`
    how many values there are (up to `COUNTED`). Numbers and dates have `least`, `greatest` and `quantiles`
    (nothing where all are missing), categories and truth values the most frequent `categories` with their
    rows.
    """

    name: str
    type: ColumnType
    missing: float
    infinite: int
    distinct: int
    least: float | None
    greatest: float | None
    quantiles: tuple[float, ...]
    categories: dict[str, int]

    @property
    def constant(self) -> bool:
        """Whether it tells no row from another."""
        return self.distinct <= 1 and self.missing in (0, 1)

    @property
    def median(self) -> float | None:
        """The middle of the quantiles."""
        return self.quantiles[LEVELS // 2] if self.quantiles else None

    @property
    def told(self) -> str:
        """What its values are like: least, median and greatest, or categories with their rows, most first."""
        if self.least is not None and self.greatest is not None:
            if self.type == "date":
                ends = [datetime.fromtimestamp(each, UTC).date() for each in (self.least, self.greatest)]
                return f"{ends[0]} … {ends[1]}"
            return f"{self.least:g} … {self.median:g} … {self.greatest:g}"
        counts = [f"{name} ({rows:,})" for name, rows in self.categories.items()]
        more = ", …" if len(counts) > _TOLD else ""
        values = "value" if self.distinct == 1 else "values"
        return f"{self.distinct:,} {values}: {', '.join(counts[:_TOLD])}{more}" if counts else "no value"


@dataclass(frozen=True)
class Profile:
    """What `rows` rows look like.

    `classes` counts the rows of each class, by name, and `unlabelled` those without a label. `duplicates` are
    rows whose values and label were met before, `problems` those that couldn't be read in whole. `sizes` are
    the least and the greatest [height, width] of pictures in a folder, as they are there. `preview`
    has the first rows, a text a column.
    """

    kind: Kind
    label: str | None
    rows: int
    columns: tuple[Column, ...]
    classes: dict[str, int]
    unlabelled: int
    duplicates: int
    problems: int
    sizes: tuple[tuple[float, float], tuple[float, float]] | None
    preview: tuple[dict[str, str], ...]

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(each for each in self.columns if each.name == name)

    @property
    def numeric_label(self) -> bool:
        """Whether the label is a number, and so the last column."""
        return any(each.name == self.label for each in self.columns)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns but the label."""
        return self.columns[:-1] if self.numeric_label else self.columns

    @property
    def lengths(self) -> tuple[int, int, int] | None:
        """Steps of the shortest, the median and the longest sequence; None where there are none."""
        if self.kind != "sequence" or not self.rows:
            return None
        steps = self.column("steps")
        return int(steps.least or 0), int(steps.median or 0), int(steps.greatest or 0)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Least and greatest value of images and sequences; None where there is none."""
        if self.kind not in ("image", "sequence"):
            return None
        values = self.columns[0]
        return None if values.least is None or values.greatest is None else (values.least, values.greatest)


def profile(rows: Rows) -> Profile:
    """Go through `rows` once."""
    profiler = Profiler(rows.layout)
    for part in rows.parts:
        profiler.add(part)
    return profiler.finish()


def write(path: Path, made: Profile) -> None:
    """Put a profile into `path` as JSON, without the preview."""
    value = asdict(made)
    del value["preview"]
    atomic.write_json(path, value)


def read(path: Path) -> Profile | None:
    """The profile that `path` holds; None where there is no such file, `DataError` where it is another."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Profile).validate_python({**value, "preview": ()})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, ValidationError) as error:
        raise DataError(
            f"{path}: not the profile of a dataset ({str(error).splitlines()[0]}); put back what git has"
        ) from None


class Profiler:
    """Gathers a profile, a part at a time, and a sample of the rows beside it."""

    def __init__(self, layout: Layout) -> None:
        """Start on rows of `layout`."""
        self._layout = layout
        named: dict[Kind, list[tuple[str, ColumnType]]] = {
            "tabular": layout.columns(),
            "image": [("pixels", "numeric")],
            "sequence": [("values", "numeric"), ("steps", "numeric")],
            "text": [("characters", "numeric")],
        }
        self._columns = [_Gathered(name, type_) for name, type_ in named[layout.kind]]
        self._target: _Gathered | None = None
        if layout.label is not None and layout.numeric_label:
            self._target = _Gathered(layout.label, "numeric")
        self._rows = 0
        self._classes: Counter[str | None] = Counter()
        self._problems = 0
        self._sizes: list[tuple[float, float]] = []
        self._contents: list[NDArray[np.uint64]] = []
        self._preview: list[dict[str, str]] = []
        self._keys = np.zeros(0, np.uint64)
        self._labels: Texts = np.zeros(0, object)

    def add(self, part: pa.Table) -> None:
        """Take in further rows."""
        if not part.num_rows:
            return
        layout = self._layout
        if len(self._preview) < SHOWN:
            self._preview += _preview(part.slice(0, SHOWN - len(self._preview)), layout)
        if "problem" in layout.extras:
            self._problems += part.num_rows - part.column(".problem").null_count
        if self._target is not None:
            self._classes[None] += part.column(self._target.name).null_count
        elif layout.label is not None:
            counts = pc.value_counts(part.column(layout.label)).to_pylist()
            self._classes.update({each["values"]: each["counts"] for each in counts})
        if "height" in layout.extras:
            sides = [pc.min_max(part.column(side)).as_py() for side in (".height", ".width")]
            bounds = [tuple(each[end] for each in sides) for end in ("min", "max")]
            self._sizes += [each for each in bounds if None not in each]
        self._contents.append(content_keys(part, layout))
        self._rows += part.num_rows

        # A row is in the sample for its place, not its content: else equal rows would be in it all or not.
        keys = np.concatenate([self._keys, _place_keys(part)])
        chosen = np.sort(np.argsort(keys, kind="stable")[:SAMPLED])
        old, new = chosen[chosen < len(self._keys)], chosen[chosen >= len(self._keys)] - len(self._keys)
        self._keys = keys[chosen]
        labels: Texts = np.array(tables.labels(part.take(pa.array(new)), layout), object)
        self._labels = np.concatenate([self._labels[old], labels])
        for gathered, look in zip(self._columns, _looks(part, layout), strict=True):
            gathered.add(look, old, new)
        if self._target is not None:
            self._target.add(_Look(tables.targets(part, layout)), old, new)

    def finish(self) -> Profile:
        """The profile of all that was taken in."""
        met = np.sort(np.concatenate([np.zeros(0, np.uint64), *self._contents]))
        classes = {str(name): self._classes[name] for name in self._classes if name is not None}
        gathered = [*self._columns, *([] if self._target is None else [self._target])]
        return Profile(
            kind=self._layout.kind,
            label=self._layout.label,
            rows=self._rows,
            columns=tuple(each.finish(self._rows) for each in gathered),
            classes=dict(sorted(classes.items())),
            unlabelled=self._classes[None],
            duplicates=int(np.count_nonzero(met[1:] == met[:-1])),
            problems=self._problems,
            sizes=None if not self._sizes else (_extreme(min, self._sizes), _extreme(max, self._sizes)),
            preview=tuple(self._preview),
        )

    def sample(self) -> tuple[dict[str, NDArray[np.floating] | Texts], NDArray[np.floating] | Texts]:
        """Up to `SAMPLED` rows: each column's values (categories as text or None), and their labels."""
        labels = self._labels if self._target is None else self._target.sampled
        return {each.name: each.sampled for each in self._columns}, labels


@dataclass(frozen=True)
class _Look:
    """A column of a part: what each row has of it, and the bounds of what that was made from."""

    values: NDArray[np.float64] | pa.ChunkedArray
    least: NDArray[np.float64] | None = None
    greatest: NDArray[np.float64] | None = None


class _Gathered:
    """What is known of a column so far."""

    def __init__(self, name: str, type_: ColumnType) -> None:
        self.name, self.type = name, type_
        self.sampled: NDArray[np.floating] | Texts
        self.sampled = np.zeros(0) if type_ in ("numeric", "date") else np.zeros(0, object)
        self._missing = self._infinite = 0
        self._least, self._greatest = np.inf, -np.inf
        self._distinct = np.zeros(0)
        self._counts: dict[str, int] = {}

    def add(self, look: _Look, old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        """Take in a part's column; of the sample `old` stay, and rows `new` of the part come in."""
        if isinstance(look.values, pa.ChunkedArray):
            sampled: Texts = np.array(look.values.take(pa.array(new)).to_pylist(), object)
            self.sampled = np.concatenate([self.sampled[old], sampled])
            self._missing += look.values.null_count
            for each in pc.value_counts(look.values.drop_null()).to_pylist():
                name = each["values"]
                if name in self._counts or len(self._counts) < COUNTED:
                    self._counts[name] = self._counts.get(name, 0) + each["counts"]
            return
        values = look.values
        self.sampled = np.concatenate([self.sampled[old], values[new]])
        finite = np.isfinite(values)
        missing = np.isnan(values)
        self._missing += int(missing.sum())
        self._infinite += int((~finite & ~missing).sum())
        if finite.any():
            least, greatest = look.least, look.greatest
            self._least = min(self._least, float(np.nanmin(values[finite] if least is None else least)))
            self._greatest = max(
                self._greatest, float(np.nanmax(values[finite] if greatest is None else greatest))
            )
        if len(self._distinct) <= COUNTED:
            self._distinct = np.union1d(self._distinct, values[finite])

    def finish(self, rows: int) -> Column:
        """The column as it was found in `rows` rows."""
        numbers = self.type in ("numeric", "date")
        known = self.sampled[np.isfinite(self.sampled)] if numbers else self.sampled[:0]
        levels = np.linspace(0, 1, LEVELS)
        some = self._least <= self._greatest
        most = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))
        return Column(
            name=self.name,
            type=self.type,
            missing=_rounded(self._missing / rows) if rows else 0.0,
            infinite=self._infinite,
            distinct=min(len(self._distinct) if numbers else len(self._counts), COUNTED),
            least=_rounded(self._least) if some else None,
            greatest=_rounded(self._greatest) if some else None,
            quantiles=tuple(map(_rounded, np.quantile(known, levels, method="inverted_cdf")))
            if len(known)
            else (),
            categories=dict(most[:KEPT]),
        )


def _extreme(
    least_or_greatest: Callable[[Iterable[float]], float], sizes: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    heights, widths = zip(*sizes, strict=True)
    return least_or_greatest(heights), least_or_greatest(widths)


def content_keys(part: pa.Table, layout: Layout) -> NDArray[np.uint64]:
    """64 bits of the hash of each row's label and values [n]."""
    return np.ascontiguousarray(tables.content_hashes(part, layout)[:, :8]).view(np.uint64).ravel()


def value_keys(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """64 bits of the hash of each of a column's values [n]; what is missing counts as an empty text."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    texts = ["", *encoded.dictionary.cast(pa.string()).to_pylist()]
    digests = b"".join(hashlib.blake2b(str(text).encode(), digest_size=8).digest() for text in texts)
    at = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False) + 1
    return np.frombuffer(digests, np.uint64)[at]


def summaries(part: pa.Table, layout: Layout) -> dict[str, NDArray[np.float64]]:
    """Of each image or sequence: how many values are missing or not finite, and least, greatest and mean of
    the others (NaN where there is none); `sizes` is how many values there are.
    """
    if layout.kind == "sequence":
        flat, sizes = tables.ragged(part)
    else:
        flat = tables.dense(part, layout).astype(np.float32, copy=False).ravel()
        sizes = np.full(part.num_rows, prod(layout.shape))
    some = sizes > 0
    starts = (np.cumsum(sizes) - sizes)[some]
    finite = np.isfinite(flat)
    # Where all are, as is usual, no copies are needed.
    low, high, known = (
        flat if finite.all() else np.where(finite, flat, other) for other in (np.inf, -np.inf, 0)
    )
    missing, total = np.zeros(len(sizes)), np.zeros(len(sizes))
    least, greatest = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    if len(starts):
        if known is not flat:
            missing[some] = np.add.reduceat(~finite, starts, dtype=np.int64)
        least[some] = np.minimum.reduceat(low, starts)
        greatest[some] = np.maximum.reduceat(high, starts)
        total[some] = np.add.reduceat(known, starts, dtype=np.float64)
    nothing = missing == sizes
    least[nothing], greatest[nothing] = np.nan, np.nan
    mean = np.divide(total, sizes - missing, out=np.full(len(sizes), np.nan), where=~nothing)
    return {"missing": missing, "least": least, "greatest": greatest, "mean": mean, "sizes": sizes}


def _looks(part: pa.Table, layout: Layout) -> list[_Look]:
    if layout.kind == "text":
        lengths = pc.utf8_length(part.column("text")).cast(pa.float64())
        return [_Look(lengths.to_numpy())]
    if layout.kind == "tabular":
        return [
            _Look(part.column(name).to_numpy() if type_ in ("numeric", "date") else part.column(name))
            for name, type_ in layout.columns()
        ]
    found = summaries(part, layout)
    values = _Look(found["mean"], found["least"], found["greatest"])
    if layout.kind == "image":
        return [values]
    return [values, _Look(np.floor(found["sizes"] / layout.shape[0]))]


def _place_keys(part: pa.Table) -> NDArray[np.uint64]:
    """64 bits for where each row came from [n]: the mixing of SplitMix64 (Steele, Lea & Flood 2014)."""
    place = part.column(tables.POSITION).to_numpy().astype(np.uint64)
    mixed = value_keys(part.column(tables.SOURCE)) + place * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _preview(part: pa.Table, layout: Layout) -> list[dict[str, str]]:
    names = [field.name for field in layout.fields()]
    return [{name: _cell(row[name]) for name in names} for row in part.to_pylist()]


def _cell(value: object) -> str:
    if isinstance(value, list):
        return f"{len(value)} values"
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _rounded(value: float) -> float:
    """To nine digits: enough to tell values apart, and the same on every machine."""
    return float(f"{value:.9g}")
