"""Prepared arrays: what train and evaluate read. Needs NumPy alone, so that importing it costs nothing.

data/prepared/<dataset>/dataset.json          kind, shape, features, classes, transform, rows a split
data/prepared/<dataset>/<split>/values.npy    float32 [n, *shape]; sequences are padded with zeros
data/prepared/<dataset>/<split>/lengths.npy   int64 [n], sequences only: steps that are not padding
data/prepared/<dataset>/<split>/labels.npy    int64 [n], index into classes
data/prepared/<dataset>/<split>/ids.npy       uint8 [n, 32], hash of the row's content
data/prepared/<dataset>/<split>/targets.npy   float64 [n], the label where it is a number

and where rows are windows of long series:

data/prepared/<dataset>/<split>/times.npy     float64 [n], of a window's first step, seconds since 1970
data/prepared/<dataset>/<split>/series.npy    int64 [n], which series a window is of
data/prepared/<dataset>/test/marks.npy        uint8 [n, T], steps that are marked, if any are known; only here
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from latentops import atomic
from latentops.config import Kind
from latentops.data.encoding import Encoding
from latentops.data.tokenizer import Tokenizer
from latentops.data.transforms import Transform
from latentops.errors import DataError

UNLABELLED = "unlabelled"
"""The one class of rows without a label, or with one that is a number."""

SplitName = Literal["train", "stop", "calibration", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
PLACES = (*SPLITS, "purged")
"""Where a row may be: in a split, or in none, because it shares steps with a row of a later one."""


@dataclass(frozen=True)
class Description:
    """What the arrays of a dataset hold.

    `shape` is that of one prepared sample: [C, H, W], [D] or [T_max, C]. `features` names the columns of a
    table and is empty otherwise. `spread` is the root of the training values' mean variance,
    `likelihood_range` what prepared values are bounded by, if anything. `columns` are the widths of a table's
    columns where some are categories or may be missing: 1 for a number, k for one of k categories, which is k
    indicators (all 0 where it is missing); empty where all are numbers. Of those in `optional`, by their
    place among them, a flag says whether the number is there; these flags are the last entries of a row.
    `spread` is of numbers alone, and of those that are there. The `encoding` makes such rows of columns. Of
    tokens `vocabulary` is how many there are, padding and the unknown among them; their sequences hold ids,
    one a step, and `spread` is that of the numbers which models read them as, 1. The `tokenizer` makes them
    of text. Where rows are windows of long series `every` is the seconds from one step to the next. Where the
    label is a number `target` is its name.
    """

    kind: Kind
    shape: tuple[int, ...]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    transform: Transform
    spread: float
    likelihood_range: tuple[float, float] | None = None
    columns: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    encoding: Encoding | None = None
    vocabulary: int | None = None
    tokenizer: Tokenizer | None = None
    every: float | None = None
    target: str | None = None

    def present(self, rows: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which entries of a table's prepared rows `[n, D]` say something of a value that is there."""
        known = np.ones(rows.shape, dtype=bool)
        ends = np.cumsum(self.columns, dtype=np.int64)
        for end, width in zip(ends, self.columns, strict=True):
            if width > 1:
                known[:, end - width : end] = rows[:, end - width : end].any(axis=1, keepdims=True)
        for flag, column in enumerate(self.optional, start=sum(self.columns)):
            known[:, ends[column] - 1] = rows[:, flag] > 0
            known[:, flag] = False
        return known

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same description again."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "features": list(self.features),
            "classes": list(self.classes),
            "transform": self.transform.to_json(),
            "spread": self.spread,
            "likelihood_range": list(self.likelihood_range) if self.likelihood_range else None,
            **({"columns": list(self.columns)} if self.columns else {}),
            **({"optional": list(self.optional)} if self.optional else {}),
            **({"encoding": self.encoding.to_json()} if self.encoding else {}),
            **({"vocabulary": self.vocabulary} if self.vocabulary else {}),
            **({"tokenizer": asdict(self.tokenizer)} if self.tokenizer else {}),
            **({"every": self.every} if self.every else {}),
            **({"target": self.target} if self.target else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Description":
        """The description that `to_json` wrote; further keys are passed over."""
        bounds = value["likelihood_range"]
        return cls(
            kind=value["kind"],
            shape=tuple(value["shape"]),
            features=tuple(value["features"]),
            classes=tuple(value["classes"]),
            transform=Transform.from_json(value["transform"]),
            spread=value["spread"],
            likelihood_range=(bounds[0], bounds[1]) if bounds else None,
            columns=tuple(value.get("columns", ())),
            optional=tuple(value.get("optional", ())),
            encoding=Encoding.from_json(value["encoding"]) if "encoding" in value else None,
            vocabulary=value.get("vocabulary"),
            tokenizer=Tokenizer(**value["tokenizer"]) if "tokenizer" in value else None,
            every=value.get("every"),
            target=value.get("target"),
        )


@dataclass(frozen=True)
class Windows:
    """Where windows lie: `times` [n] of their first steps, and which of the `series` [n] they are of.

    `times` are seconds since 1970, NaN where a window's is not known. `marks` [n, T] say which steps are
    marked; they are known of test windows alone.
    """

    times: NDArray[np.float64]
    series: NDArray[np.int64]
    marks: NDArray[np.uint8] | None = None

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_] | slice) -> "Windows":
        """The windows at `index`, in its order."""
        marks = None if self.marks is None else self.marks[index]
        return Windows(self.times[index], self.series[index], marks)


@dataclass(frozen=True)
class Samples:
    """Rows of one split: `values` [n, *shape], `lengths` [n] (sequences), `labels` [n], `ids` [n, 32].

    Of long series they are `windows`. Where the label is a number they have `targets` [n], and are of one
    class.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64] | None
    labels: NDArray[np.int64]
    ids: NDArray[np.uint8]
    windows: Windows | None = None
    targets: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_] | slice) -> "Samples":
        """The rows at `index` (numbers, a mask or a slice), in its order."""
        lengths = None if self.lengths is None else self.lengths[index]
        windows = None if self.windows is None else self.windows.select(index)
        targets = None if self.targets is None else self.targets[index]
        return Samples(self.values[index], lengths, self.labels[index], self.ids[index], windows, targets)


def pad(flat: NDArray[np.float32], lengths: NDArray[np.int64], longest: int) -> NDArray[np.float32]:
    """Sequences end to end [sum of lengths, C] as [n, longest, C], zero after each one's last step."""
    valid = np.arange(longest) < lengths[:, None]
    padded = np.zeros((len(lengths), longest, flat.shape[-1]), dtype=np.float32)
    padded[valid] = flat
    return padded


def describe(directory: Path) -> Description:
    """Read `dataset.json` of a prepared dataset; `DataError` where it isn't there."""
    path = directory / "dataset.json"
    try:
        return Description.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not what prepare writes ({error!r}); {_remedy(directory)}") from None


def load(directory: Path, split: SplitName) -> Samples:
    """One split of a prepared dataset, mapped into memory, not read; `DataError` where it isn't there.

    What is written to the arrays stays in memory: the files are what they were.
    """
    folder, description = directory / split, describe(directory)
    windows = None
    if description.every is not None:
        marked = split == "test" and description.classes != (UNLABELLED,)
        marks = _array(folder / "marks.npy") if marked else None
        windows = Windows(_array(folder / "times.npy"), _array(folder / "series.npy"), marks)
    return Samples(
        values=_array(folder / "values.npy"),
        lengths=_array(folder / "lengths.npy") if description.kind == "sequence" else None,
        labels=_array(folder / "labels.npy"),
        ids=_array(folder / "ids.npy"),
        windows=windows,
        targets=None if description.target is None else _array(folder / "targets.npy"),
    )


class Writer:
    """The arrays of a dataset while they are filled, rows in the order in which they are put."""

    def __init__(
        self, folder: Path, counts: Mapping[SplitName, int], shape: Sequence[int], also: Collection[str]
    ) -> None:
        self._folder = folder
        self._counts = dict(counts)
        self._filled = dict.fromkeys(counts, 0)
        self._files: dict[SplitName, dict[str, _Growing]] = {}
        wanted: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "values": (np.float32, tuple(shape)),
            "labels": (np.int64, ()),
            "ids": (np.uint8, (32,)),
            "lengths": (np.int64, ()),
            "times": (np.float64, ()),
            "series": (np.int64, ()),
            "marks": (np.uint8, tuple(shape)[:1]),
            "targets": (np.float64, ()),
        }
        for split, count in counts.items():
            (folder / split).mkdir(parents=True)
            there = {"values", "labels", "ids", *also} - (set() if split == "test" else {"marks"})
            self._files[split] = {
                name: _Growing(folder / split / f"{name}.npy", np.dtype(dtype), (count, *each))
                for name, (dtype, each) in wanted.items()
                if name in there
            }

    def put(self, assigned: NDArray[np.integer], given: Samples) -> None:
        """The next rows, each into the split that is `assigned` [n] to it, an index into `PLACES`."""
        each = _arrays(given)
        for split, files in self._files.items():
            rows = np.flatnonzero(assigned == SPLITS.index(split))
            for name, file in files.items():
                file.add(each[name][rows])
            self._filled[split] += len(rows)

    def split(self, split: SplitName) -> Samples:
        """All rows of a split, once they were put."""
        arrays = {name: file.whole() for name, file in self._files[split].items()}
        return Samples(arrays["values"], arrays.get("lengths"), arrays["labels"], arrays["ids"])

    def describe(self, description: Description) -> None:
        """Write `dataset.json`: what the arrays hold, and how many rows each split has."""
        atomic.write_json(self._folder / "dataset.json", {**description.to_json(), "rows": self._counts})

    def close(self) -> None:
        """Put the last of it on the disk."""
        for files in self._files.values():
            for file in files.values():
                file.close()

    def check(self) -> None:
        """`AssertionError` where rows are missing."""
        if self._filled != self._counts:
            raise AssertionError(f"{self._counts} rows expected, {self._filled} were put")


class _Growing:
    """A `.npy` file of a shape known beforehand, written from its first row to its last."""

    def __init__(self, path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        self._path, self._dtype = path, dtype
        self._stream = path.open("wb")
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def add(self, rows: NDArray[np.generic]) -> None:
        self._stream.write(np.ascontiguousarray(rows, self._dtype).data)

    def whole(self) -> NDArray[Any]:
        self._stream.flush()
        return _array(self._path)

    def close(self) -> None:
        self._stream.close()


@contextmanager
def writing(
    directory: Path, counts: Mapping[SplitName, int], shape: Sequence[int], also: Collection[str]
) -> Iterator[Writer]:
    """Fill a prepared dataset of `counts` rows a split, in place of what `directory` held.

    `also` names the arrays that it has beside `values`, `labels` and `ids`.
    """
    with atomic.replacing(directory) as aside:
        writer = Writer(aside, counts, shape, also)
        try:
            yield writer
            writer.check()
        finally:
            writer.close()


def write(directory: Path, description: Description, samples: Mapping[SplitName, Samples]) -> None:
    """Put a whole prepared dataset into `directory`, in place of what was there."""
    counts = {split: len(each) for split, each in samples.items()}
    also = {name for each in samples.values() for name in _arrays(each)}
    with writing(directory, counts, description.shape, also) as arrays:
        for split, each in samples.items():
            arrays.put(np.full(len(each), SPLITS.index(split)), each)
        arrays.describe(description)


def _arrays(rows: Samples) -> dict[str, NDArray[Any]]:
    """What there is of some rows, by the names of the files."""
    windows = rows.windows
    found: dict[str, NDArray[Any] | None] = {
        "values": rows.values,
        "labels": rows.labels,
        "ids": rows.ids,
        "lengths": rows.lengths,
        "times": None if windows is None else windows.times,
        "series": None if windows is None else windows.series,
        "marks": None if windows is None else windows.marks,
        "targets": rows.targets,
    }
    return {name: array for name, array in found.items() if array is not None}


def _array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy array ({error}); {_remedy(path.parent.parent)}") from None
    return array


def _missing(path: Path) -> DataError:
    folder = path.parent if path.name == "dataset.json" else path.parent.parent
    return DataError(f"{path}: not found; {_remedy(folder)}")


def _remedy(directory: Path) -> str:
    return f"make it with `dvc repro prepare@{directory.name}`"
