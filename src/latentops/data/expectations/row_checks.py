"""What each row must satisfy by itself, built from the layout and the settings."""

import numpy as np
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metadata_types import FailureSeverity

from latentops.config import Expectations, Source
from latentops.data.expectations.checks import Check
from latentops.data.expectations.custom import (
    ExpectColumnValuesToBeFinite,
    ExpectColumnValuesToBeMetFirst,
    ExpectRowsToBeReadable,
)
from latentops.data.table import Layout

_GREATEST = float(np.finfo(np.float64).max)


def read_check() -> Check:
    """That a row was read in whole."""
    return _row(ExpectRowsToBeReadable(column="problem"), None, "not read in whole")


def row_checks(layout: Layout, source: Source, expectations: Expectations) -> list[Check]:
    """What is expected of each row that was read in whole."""
    label = layout.label
    checks = []
    bounds = dict(expectations.columns)
    if label is not None and layout.numeric_label:
        there = gxe.ExpectColumnValuesToNotBeNull(column=label)
        checks.append(_row(there, label, "missing or not finite"))
        if label in bounds:
            checks.append(_bounded(label, *bounds.pop(label)))
    elif label is not None:
        declared = gxe.ExpectColumnValuesToBeInSet(column=label, value_set=expectations.classes)
        checks += [
            _row(gxe.ExpectColumnValuesToNotBeNull(column=label), label, "missing"),
            _row(declared, label, "not a declared class"),
        ]
    if source.time is not None and "time" in layout.extras:
        checks.append(_row(gxe.ExpectColumnValuesToNotBeNull(column=".time"), source.time, "missing"))
    if layout.kind == "tabular":
        checks += _cell_checks(layout, source, expectations, bounds)
    elif layout.kind == "text":
        checks.append(_row(_between("text.characters", 1, None), "text", "missing or empty"))
    else:
        checks += _value_checks(layout, source, expectations)
    for name in expectations.unique:
        met = ExpectColumnValuesToBeMetFirst(column=f"{name} met", min_value=0, max_value=0)
        checks.append(
            _row(met, None, "the same as an earlier row")
            if name == ".row"
            else _row(met, name, "an earlier row has the same")
        )
    return checks


def _cell_checks(
    layout: Layout, source: Source, expectations: Expectations, bounds: dict[str, tuple[float, float]]
) -> list[Check]:
    checks = []
    for name, type_ in layout.columns():
        number = type_ in ("numeric", "date")
        if name not in expectations.missing:
            problem = "missing or not finite" if number else "missing"
            checks.append(_row(gxe.ExpectColumnValuesToNotBeNull(column=name), name, problem))
        elif number:
            finite = ExpectColumnValuesToBeFinite(column=name, min_value=-_GREATEST, max_value=_GREATEST)
            checks.append(_row(finite, name, "not finite"))
    if source.value_range is not None:
        numbers = [name for name, type_ in layout.columns() if type_ == "numeric"]
        bounds = {name: bounds.get(name, source.value_range) for name in numbers} | bounds
    checks += [_bounded(name, low, high) for name, (low, high) in bounds.items()]
    return checks + [
        _row(gxe.ExpectColumnValuesToBeInSet(column=name, value_set=known), name, "not a declared category")
        for name, known in expectations.categories.items()
    ]


def _value_checks(layout: Layout, source: Source, expectations: Expectations) -> list[Check]:
    name = "pixels" if layout.kind == "image" else "values"
    checks = [_row(_between(f"{name}.missing", 0, 0), name, "missing or not finite")]
    if source.value_range is not None:
        low, high = source.value_range
        checks += [
            _row(_between(f"{name}.least", low, None), name, f"below {low:g}"),
            _row(_between(f"{name}.greatest", None, high), name, f"above {high:g}"),
        ]
    if expectations.sizes is not None:
        for side, low, high in zip((".height", ".width"), *expectations.sizes, strict=True):
            checks.append(_row(_between(side, low, high), side, f"outside [{low}, {high}]"))
    if layout.kind == "sequence":
        shortest, longest = expectations.lengths or (1, None)
        steps = f"[{shortest}, {longest}]" if longest else f"[{shortest}, …]"
        checks += [
            _row(_between("values.remainder", 0, 0), name, f"not a multiple of {layout.shape[0]} values"),
            _row(_between("values.steps", shortest, longest), name, f"steps outside {steps}"),
        ]
    return checks


def _row(expectation: ColumnMapExpectation, column: str | None, problem: str) -> Check:
    expectation.severity = FailureSeverity.WARNING  # the row is set aside, the run goes on
    return Check(expectation, column, problem if column is None else f"{column}: {problem}", "row")


def _bounded(column: str, low: float, high: float) -> Check:
    return _row(_between(column, low, high), column, f"outside [{low:g}, {high:g}]")


def _between(column: str, low: float | None, high: float | None) -> ColumnMapExpectation:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)
