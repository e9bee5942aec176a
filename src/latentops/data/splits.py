"""Which rows train, stop, calibrate and test.

Rows that belong together (equal ones, those of one group, pictures that look alike) are one unit, and a unit
is on one side. Each unit stands at some u in [0, 1), and the shares cut [0, 1) into splits.

- By `rank`: the units of a stratum (a class in one source) are put in the order of a keyed hash, and one that
  begins with the k-th of its n rows stands at u = (k + offset) / n (systematic sampling). Every class has its
  share in every split to within one row, the order of rows in a file plays no part, and rows that come later
  in a source of their own move none of those that were there.
- By `hash`: u is the keyed hash itself. The shares are kept up to chance, and a row stays where it is
  whatever comes into its file.
- By `time`: u is the share of the rows that are earlier, or what the cuts make of it.

An official split is honoured: its test rows are test rows, and so is what belongs together with one of them.

Windows of long series overlap. By time, one that shares a step with a window of a later split is purged: it
is in no split (López de Prado 2018, ch. 7).
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import PLACES, SPLITS, SplitName
from latentops.errors import DataError

Codes = NDArray[np.integer]

_AT_ONCE = 2**18  # units that are hashed at once


@dataclass(frozen=True)
class Units:
    """What each row is a part of: `of` [n] numbers the units from 0, in the order of their first rows.

    `key` [units] is the keyed hash that a unit is put in order by, `first` [units] its first row and `size`
    [units] how many different rows it has.
    """

    of: Codes
    key: NDArray[np.uint64]
    first: Codes
    size: Codes


def unite(
    content: NDArray[np.uint8],
    *,
    seed: int,
    groups: Codes | None = None,
    names: Sequence[str] = (),
    alike: Iterable[tuple[int, int]] = (),
) -> Units:
    """Rows of equal `content` [n, 32], of one group, or `alike` (pairs of rows) are one unit.

    `groups` [n] are places in `names`, -1 where a row belongs to none.
    """
    same = _first_equals(content)
    root = same
    if groups is not None:
        firsts: dict[int, int] = {}
        rows = np.flatnonzero(groups >= 0).tolist()
        root = _joined(root, ((row, firsts.setdefault(int(groups[row]), row)) for row in rows))
    root = _joined(root, alike)
    first, of = np.unique(root, return_inverse=True)
    size = np.bincount(of[np.unique(same)], minlength=len(first))
    prefix = f"{seed}\0".encode()
    key = np.empty(len(first), np.uint64)
    for start in range(0, len(first), _AT_ONCE):
        rows = first[start : start + _AT_ONCE].tolist()
        whole = (
            content[row].tobytes() if groups is None or groups[row] < 0 else names[groups[row]].encode()
            for row in rows
        )
        digests = b"".join(hashlib.sha256(prefix + each).digest()[:8] for each in whole)
        key[start : start + len(rows)] = np.frombuffer(digests, ">u8")
    return Units(of, key, first, size)


def _first_equals(content: NDArray[np.uint8]) -> Codes:
    """Of each row of `content` [n, 32], hashes, the first row that has the same; 128 bits tell them apart."""
    high, low = np.ascontiguousarray(content[:, :16]).view(np.uint64).T
    order = np.lexsort((low, high))  # stable: of equal rows the first comes first
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def _joined(root: Codes, pairs: Iterable[tuple[int, int]]) -> Codes:
    """`root` [n], each row's first relative, once those of each of the `pairs` are relatives too."""
    found = root.tolist()

    def of(row: int) -> int:
        while found[row] != row:
            found[row] = found[found[row]]
            row = found[row]
        return row

    joined = False
    for one, other in pairs:
        low, high = sorted((of(one), of(other)))
        found[high] = low
        joined = True
    return np.array([of(row) for row in range(len(found))]) if joined else root


@dataclass(frozen=True)
class Shares:
    """The shares of `stop`, `calibration` and `test`; the rest is `train`. `seed` keys what is drawn."""

    seed: int
    stop: float
    calibration: float
    test: float

    @property
    def cuts(self) -> NDArray[np.float64]:
        """Where [0, 1) is cut: train, stop, calibration, test."""
        stops = 1 - self.calibration - self.test
        return np.array([stops - self.stop, stops, 1 - self.test])


def assign(
    units: Units,
    shares: Shares,
    by: Literal["rank", "hash", "time"],
    strata: Sequence[tuple[str, str]],
    stratum: Codes,
    *,
    times: NDArray[np.float64] | None = None,
    cuts: Sequence[float] | None = None,
    tested: NDArray[np.bool_] | None = None,
    uncalibrated: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """The split of each row, as an index into `SPLITS` [n].

    `stratum` [n] is each row's place in `strata`, pairs of a source and a class. `times` [n], which `by` time
    needs, rise; `cuts` are the three between the splits. `tested` [n] are an official split's test rows, and
    the shares are of the others. Rows that are `uncalibrated` [n] have no calibration share: it goes to test,
    or where the test rows are given, to train.
    """
    if tested is None:
        fixed = np.zeros(len(units.first), dtype=bool)
    else:
        fixed = np.bincount(units.of, weights=tested, minlength=len(units.first)) > 0
    free = np.flatnonzero(~fixed)
    at = np.full(len(units.first), SPLITS.index("test"), dtype=np.int8)
    if by == "time":
        if times is None:
            raise ValueError("a split by time needs times")
        last = np.full(len(units.first), -np.inf)
        np.maximum.at(last, units.of, times)
        if cuts is None:
            ordered = np.sort(np.repeat(last[free], units.size[free]))
            u = np.searchsorted(ordered, last[free], side="left") / max(len(ordered), 1)
            at[free] = np.searchsorted(shares.cuts, u, side="right")
        else:
            at[free] = np.searchsorted(np.array(cuts), last[free], side="right")
    else:
        u = units.key / 2.0**64 if by == "hash" else _ranked(units, free, shares.seed, strata, stratum)
        at[free] = np.searchsorted(shares.cuts, u[free], side="right")
    found = at[units.of]
    if uncalibrated is not None:
        instead = SPLITS.index("test" if tested is None else "train")
        found[uncalibrated & (found == SPLITS.index("calibration"))] = instead
    return found


def _ranked(
    units: Units, free: Codes, seed: int, strata: Sequence[tuple[str, str]], stratum: Codes
) -> NDArray[np.float64]:
    """Where each of the `free` units stands in its stratum."""
    u = np.zeros(len(units.first))
    order = free[np.lexsort((units.key[free], stratum[units.first[free]]))]
    found, starts = np.unique(stratum[units.first[order]], return_index=True)
    for at, start, end in zip(found.tolist(), starts, np.append(starts, len(order))[1:], strict=True):
        members = order[start:end]
        ends = np.cumsum(units.size[members])
        u[members] = (ends - units.size[members] + _offset(seed, *strata[at])) / ends[-1]
    return u


def purge(assigned: Codes, times: NDArray[np.float64], span: float) -> NDArray[np.int8]:
    """The place of each row, an index into `PLACES` [n], once no two splits share a moment.

    A row lasts from its time, of `times` [n], for less than `span`. Of two that overlap in different splits
    the later split's stays, so that the test rows are all that they were.
    """
    purged = PLACES.index("purged")
    found = np.array(assigned, dtype=np.int8)
    for at in reversed(range(1, len(SPLITS))):
        later = np.sort(times[(found >= at) & (found != purged)])
        following = np.searchsorted(later, times - span, side="right")
        nearest = np.append(later, np.inf)[following]
        found[(found < at) & (nearest < times + span)] = purged
    return found


def indices(assigned: Codes) -> dict[SplitName, NDArray[np.int64]]:
    """Row numbers of each split, ascending."""
    return {name: np.flatnonzero(assigned == at) for at, name in enumerate(SPLITS)}


def counts(
    assigned: Codes, classes: Sequence[str], labels: NDArray[np.integer]
) -> dict[SplitName, dict[str, int]]:
    """How many rows of each class each split has; `labels` [n] are places in `classes`."""
    return {
        split: dict(zip(classes, np.bincount(labels[rows], minlength=len(classes)).tolist(), strict=True))
        for split, rows in indices(assigned).items()
    }


def check_classes(
    dataset: str,
    rows: Mapping[SplitName, Mapping[str, int]],
    least: int,
    *,
    uncalibrated: Collection[str] = (),
) -> None:
    """Raise `DataError` where a split has fewer than `least` rows of a class that has a share in it.

    `rows` are how many of each class each split has.
    """
    for split, classes in rows.items():
        for name, count in classes.items():
            shared = split != "calibration" or name not in uncalibrated
            if shared and count < least:
                raise DataError(
                    f"{dataset}: split {split!r} has {count} rows of class {name!r}, fewer than "
                    f"expectations.min_split_rows = {least}; get more rows, or give it a larger share"
                )


def kept_together(units: Units) -> dict[str, int]:
    """How many units there are, and how many rows are in one with an earlier row.

    `equal` repeat an earlier row's content; `related` are otherwise kept beside one: in a group, or alike.
    """
    different = int(units.size.sum())
    return {
        "units": len(units.first),
        "equal": len(units.of) - different,
        "related": different - len(units.first),
    }


def _offset(seed: int, source: str, name: str) -> float:
    """A number in [0, 1) that belongs to the stratum."""
    digest = hashlib.sha256(f"{seed}\0{source}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
