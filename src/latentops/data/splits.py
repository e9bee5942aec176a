"""Which rows train, stop, calibrate and test: systematic sampling by hash.

Within each stratum (the rows of one class in one source) the rows are put in the order of a keyed hash of
their content, and the k-th of n stands at u = (k + offset) / n; the shares cut [0, 1) into splits. So every
class has its share in every split to within one row, the order of rows in a file plays no part, and rows
that come later (in a source of their own) move none of those that were there.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import SPLITS, SplitName
from latentops.errors import DataError


def assign(
    content: NDArray[np.uint8],
    sources: Sequence[str],
    classes: Sequence[str],
    *,
    seed: int,
    stop: float,
    calibration: float,
    test: float,
    uncalibrated: Collection[str] = (),
) -> NDArray[np.int64]:
    """The split of each row, as an index into `SPLITS` [n].

    `content` [n, 32] is the hash of each row's content, its class included. A row whose content was met
    before, here or in an earlier source, goes where the first one went. Classes in `uncalibrated` have no
    calibration share: it goes to test.
    """
    content = np.ascontiguousarray(content)
    keys = [row.tobytes() for row in content]
    strata: dict[tuple[str, str], dict[bytes, None]] = {}
    for key, source, name in zip(keys, sources, classes, strict=True):
        strata.setdefault((source, name), {})[key] = None

    chosen: dict[bytes, int] = {}
    for (source, name), members in strata.items():
        stops = 1 - calibration - test
        cuts = np.array([stops - stop, stops, stops if name in uncalibrated else 1 - test])
        ordered = sorted(members, key=lambda key: hashlib.sha256(f"{seed}\0".encode() + key).digest())
        u = (np.arange(len(ordered)) + _offset(seed, source, name)) / len(ordered)
        for key, at in zip(ordered, np.searchsorted(cuts, u, side="right").tolist(), strict=True):
            chosen.setdefault(key, at)
    return np.array([chosen[key] for key in keys], dtype=np.int64)


def indices(assigned: NDArray[np.int64]) -> dict[SplitName, NDArray[np.int64]]:
    """Row numbers of each split, ascending."""
    return {name: np.flatnonzero(assigned == at) for at, name in enumerate(SPLITS)}


def check_classes(
    dataset: str,
    rows: Mapping[SplitName, NDArray[np.int64]],
    named: Sequence[str | None],
    classes: Sequence[str],
    least: int,
    *,
    uncalibrated: Collection[str] = (),
) -> None:
    """Raise `DataError` where a split has fewer than `least` rows of a class that has a share in it.

    `rows` are each split's, `named` [n] says of which class each row of `dataset` is.
    """
    for split, index in rows.items():
        counts = Counter(named[at] for at in index)
        for name in classes:
            shared = split != "calibration" or name not in uncalibrated
            if shared and counts[name] < least:
                raise DataError(
                    f"{dataset}: split {split!r} has {counts[name]} rows of class {name!r}, fewer than "
                    f"expectations.min_split_rows = {least}; get more rows, or give it a larger share"
                )


def _offset(seed: int, source: str, name: str) -> float:
    """A number in [0, 1) that belongs to the stratum."""
    digest = hashlib.sha256(f"{seed}\0{source}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
