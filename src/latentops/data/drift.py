"""How far rows have moved from those that were accepted last, column by column."""

from collections.abc import Mapping, Sequence

import numpy as np

from latentops.data.profile import Column, Profile


def distances(accepted: Profile, found: Profile) -> dict[str, float]:
    """The distance of each column of `found` from `accepted`: 0 the same, 1 nothing in common.

    Of numbers it is the greatest difference of the two distribution functions (Kolmogorov–Smirnov), of
    categories and of the label half the sum of the differences of their shares (total variation), and no less
    than the difference of the shares that are missing. A column that only one of them has is at 1.
    """
    before = {column.name: column for column in accepted.columns}
    now = {column.name: column for column in found.columns}
    names = [*now, *(name for name in before if name not in now)]
    moved = {name: _of_columns(before.get(name), now.get(name)) for name in names}
    if found.label is not None and accepted.label is not None and found.label not in moved:
        moved[found.label] = _total_variation(accepted.classes, found.classes)
    return {name: round(distance, 4) for name, distance in moved.items()}


def _of_columns(before: Column | None, now: Column | None) -> float:
    if before is None or now is None or before.type != now.type:
        return 1.0
    if now.type in ("numeric", "date"):
        moved = _kolmogorov_smirnov(before.quantiles, now.quantiles)
    else:
        moved = _total_variation(before.categories, now.categories)
    return max(moved, abs(before.missing - now.missing))


def _kolmogorov_smirnov(before: Sequence[float], now: Sequence[float]) -> float:
    """Of two samples: their quantiles, evenly spaced."""
    if not before or not now:
        return 0.0  # where all are missing on one side, the shares that are missing say so
    at = np.union1d(before, now)
    shares = [np.searchsorted(np.sort(each), at, side="right") / len(each) for each in (before, now)]
    return float(np.abs(shares[0] - shares[1]).max())


def _total_variation(before: Mapping[str, int], now: Mapping[str, int]) -> float:
    if not before or not now:
        return 0.0
    totals = sum(before.values()), sum(now.values())
    names = before.keys() | now.keys()
    return sum(abs(before.get(n, 0) / totals[0] - now.get(n, 0) / totals[1]) for n in sorted(names)) / 2
