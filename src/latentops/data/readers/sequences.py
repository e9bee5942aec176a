"""Sequences on their way into a raw table, whatever they were read from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.data.readers import cells, files
from latentops.data.readers.files import Located
from latentops.data.table import Layout
from latentops.errors import DataError

_MISSING = {None, "", "?"}  # labels that say that there is none
PART_VALUES = 2**22
"""Of sequences that become a part; a longer one is a part of its own."""


@dataclass(frozen=True)
class Steps:
    """One sequence: values [T, C], or None where they can't be told, and what else its row says.

    `marked` [T] is of a window's steps.
    """

    values: NDArray[np.floating] | None
    label: str | None = None
    problem: str | None = None
    name: str | None = None
    group: str | None = None
    time: float | None = None
    part: str | None = None
    marked: NDArray[np.bool_] | None = None


def tables(
    layout: Layout, file: Located, found: Iterable[Steps], relabel: Mapping[str, str]
) -> Iterator[pa.Table]:
    """Raw tables of the sequences that were `found` in a file; `DataError` where there is none."""
    first, held, size = 0, list[Steps](), 0
    for each in found:
        held.append(each)
        size += 1 if each.values is None else max(each.values.size, 1)
        if size >= PART_VALUES:
            yield _table(layout, file, held, first, relabel)
            first, held, size = first + len(held), [], 0
    if held:
        yield _table(layout, file, held, first, relabel)
    elif not first:
        raise DataError(f"{file.path}: no sequences")


def _table(
    layout: Layout, file: Located, held: list[Steps], first: int, relabel: Mapping[str, str]
) -> pa.Table:
    columns = {
        ".name": pa.array([each.name for each in held], pa.string()),
        ".group": pa.array([each.group for each in held], pa.string()),
        ".time": pa.array([each.time for each in held], pa.float64()),
        ".marked": pa.array(
            [None if each.marked is None else each.marked.astype(np.uint8) for each in held],
            pa.list_(pa.uint8()),
        ),
        ".part": pa.array([each.part or file.part for each in held], pa.string()),
        ".problem": pa.array([_problem(each, layout) for each in held], pa.string()),
        "values": files.sequences([each.values for each in held]),
    }
    if layout.label is not None and layout.numeric_label:
        columns[layout.label] = pa.array([_target(each)[0] for each in held], pa.float64())
    elif layout.label is not None:
        labels = pa.array([each.label for each in held], pa.string())
        columns[layout.label] = files.relabelled(labels, relabel)
    return files.assembled(layout, file, columns, len(held), first)


def _target(steps: Steps) -> tuple[float | None, str | None]:
    """The label as a number, and why it is none."""
    try:
        return None if steps.label in _MISSING else cells.number(steps.label or ""), None
    except ValueError as error:
        return None, f"label {steps.label!r} {error}"


def _problem(steps: Steps, layout: Layout) -> str | None:
    """What is wrong with a sequence, steps without a value and one without a step among it."""
    if steps.values is None:
        return steps.problem
    unread = _target(steps)[1] if layout.numeric_label else None
    holes = int(np.isnan(steps.values).any(axis=1).sum())
    missing = f"values are missing at {holes} of {len(steps.values)} steps" if holes else None
    empty = None if len(steps.values) else "no steps"
    return "; ".join(text for text in (steps.problem, unread, missing, empty) if text) or None
