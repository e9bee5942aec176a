"""Limits for a new dataset, as wide as its profile says that they have to be, and some more."""

from math import floor, log10

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.data import table as tables
from latentops.data.profile import KEPT, Column, Profile, summaries
from latentops.data.table import Layout

_QUARANTINED = 0.02  # share of rows that may always be bad
_MORE = 0.1  # than are bad now, at most
_DRIFT = 0.25


def propose(profile: Profile, bad: float = 0.0) -> dict[str, object]:
    """The section `expectations` of a dataset with this `profile`, as `config.Expectations` takes it.

    `bad` is the share of the rows that are set aside as they are: twice of it may be, a tenth more at most.

    Ranges go half their width beyond what was found (not below zero where nothing was), lengths and sizes
    from half to twice, and half of the rows, or of the smallest class, is enough. Constant columns get no
    limit, nor do dates, which go on, nor categories that are too many to list.
    """
    section: dict[str, object] = {
        "min_rows": max(1, profile.rows // 2),
        "max_quarantined": max(_QUARANTINED, _up(min(2 * bad, bad + _MORE), 2)),
        "classes": sorted(profile.classes, key=_in_order) if profile.label is not None else [],
    }
    if profile.classes:
        smallest = min(profile.classes.values()) / sum(profile.classes.values())
        section["min_class_share"] = _down(smallest / 2, 1 - floor(log10(smallest / 2)))
    ranged = profile.columns if profile.kind == "tabular" else profile.columns[len(profile.inputs) :]
    numbers = [column for column in ranged if column.type == "numeric" and not column.constant]
    if numbers:
        section["columns"] = {column.name: _range(column) for column in numbers}
    if profile.kind == "tabular":
        told = [column for column in profile.inputs if not column.constant]
        limits = {
            "categories": {
                column.name: sorted(column.categories)
                for column in told
                if column.type in ("categorical", "boolean") and column.distinct <= KEPT
            },
            "missing": {
                column.name: min(1.0, _up(1.5 * column.missing + 0.01, 2))
                for column in told
                if column.missing
            },
        }
        section |= {key: found for key, found in limits.items() if found}
    if profile.lengths is not None:
        shortest, _, longest = profile.lengths
        section["lengths"] = [max(1, shortest // 2), max(1, 2 * longest)]
    if profile.sizes is not None:
        least, greatest = profile.sizes
        section["sizes"] = [[max(1, int(side) // 2) for side in least], [2 * int(side) for side in greatest]]
    return section | {"max_drift": _DRIFT}


def faults(part: pa.Table, layout: Layout) -> list[list[str]]:
    """Of each row of a raw table, why it is set aside whatever its limits are."""
    problems = part.column(".problem").to_pylist() if "problem" in layout.extras else [None] * part.num_rows
    found: list[list[str]] = [[] if text is None else [text] for text in problems]
    for why, rows in _broken(part, layout).items():
        for row in np.flatnonzero(rows):
            if problems[row] is None:
                found[row].append(why)
    return found


def _broken(part: pa.Table, layout: Layout) -> dict[str, NDArray[np.bool_]]:
    """Which rows [n] have no label, no time, or no sample that can be used."""
    broken = {}
    if layout.label is not None:
        missing = (
            ~np.isfinite(tables.targets(part, layout))
            if layout.numeric_label
            else part.column(layout.label).is_null().to_numpy()
        )
        broken[f"{layout.label}: missing"] = missing
    if "time" in layout.extras:
        broken["time: missing"] = part.column(".time").is_null().to_numpy()
    if layout.kind == "tabular":
        numbers = [name for name in layout.features if pa.types.is_floating(part.column(name).type)]
        broken |= {f"{name}: not finite": np.isinf(part.column(name).to_numpy()) for name in numbers}
    elif layout.kind == "text":
        broken["text: missing or empty"] = np.array([not each.strip() for each in tables.texts(part)], bool)
    else:
        name = "pixels" if layout.kind == "image" else "values"
        broken[f"{name}: missing or not finite"] = summaries(part, layout)["missing"] > 0
    return broken


def _range(column: Column) -> list[float]:
    """Closed limits, of two digits, half the column's width beyond its least and greatest."""
    if column.least is None or column.greatest is None:
        return [0.0, 0.0]
    margin = (column.greatest - column.least) / 2 or abs(column.least) or 1.0
    decimals = 1 - floor(log10(margin))
    low = _down(column.least - margin, decimals)
    return [max(low, 0.0) if column.least >= 0 else low, _up(column.greatest + margin, decimals)]


def _down(value: float, decimals: int) -> float:
    unit = 10.0**-decimals
    return round(floor(value / unit) * unit, max(decimals, 0))


def _up(value: float, decimals: int) -> float:
    return -_down(-value, decimals) + 0.0


def _in_order(name: str) -> tuple[bool, float, str]:
    """Numbers by their value, before words."""
    return (False, float(name), name) if name.isdecimal() else (True, 0.0, name)
