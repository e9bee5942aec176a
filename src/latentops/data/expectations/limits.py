"""Suites `table`, `missing`, `drift` and `leaks`: limits of the dataset as a whole.

Each is run on a frame of one line that holds figures. A broken limit stops the pipeline.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

from latentops.config import Expectations
from latentops.data.expectations.checks import SHOWN, Check, Outcome
from latentops.data.expectations.custom import (
    ExpectClassShareToBeLarge,
    ExpectCleanRowsToBeEnough,
    ExpectCleanRowsToBeFew,
    ExpectColumnDriftToBeSmall,
    ExpectColumnLeakToBeSmall,
    ExpectColumnMissingShareToBeSmall,
    ExpectQuarantineToBeSmall,
)
from latentops.data.expectations.judge import Judge
from latentops.data.expectations.reasons import Reasons
from latentops.data.profile import Profile
from latentops.data.table import Layout
from latentops.errors import DataError


def check_table(
    judge: Judge,
    dataset: str,
    layout: Layout,
    expectations: Expectations,
    profile: Profile,
    rows: int,
    reasons: Reasons,
) -> None:
    """Hold the rows set aside, the clean ones of `rows` and the share of each class to their limits."""
    bad, clean = rows - profile.rows, profile.rows
    limit, least, most = expectations.max_quarantined, expectations.min_rows, expectations.max_rows
    figures: dict[str, float] = {"rows set aside": bad / max(rows, 1), "clean rows": clean}
    few_bad = ExpectQuarantineToBeSmall(column="rows set aside", max_value=limit)
    enough = ExpectCleanRowsToBeEnough(column="clean rows", min_value=least)
    checks = [
        Check(few_bad, None, f"rows set aside are more than max_quarantined = {limit:.1%}"),
        Check(enough, None, f"clean rows are fewer than min_rows = {least}"),
    ]
    if most is not None:
        few = ExpectCleanRowsToBeFew(column="clean rows", max_value=most)
        checks.append(Check(few, None, f"clean rows are more than max_rows = {most}"))
    whole, share = len(checks), expectations.min_class_share
    if layout.label is not None:
        for name in expectations.classes:
            column = f"{layout.label}: {name}"
            figures[column] = profile.classes.get(name, 0) / max(clean, 1)
            means = f"a class is below min_class_share = {share:.1%}"
            checks.append(
                Check(ExpectClassShareToBeLarge(column=column, min_value=share), layout.label, means)
            )
    outcomes = _figures(judge, "table", figures, checks)
    if not outcomes[0].success:
        raise DataError(
            f"{dataset}: {bad} of {rows} rows ({bad / rows:.1%}): {outcomes[0].check.means}: "
            f"{_examples(judge.outcomes('read', 'rows'))}{reasons.first()}"
        )
    for outcome in outcomes[1:whole]:
        if not outcome.success:
            raise DataError(f"{dataset}: {clean} {outcome.check.means}{reasons.first()}")
    small = ", ".join(
        f"{name!r} has {profile.classes.get(name, 0)} of {clean} rows "
        f"({profile.classes.get(name, 0) / max(clean, 1):.1%})"
        for name, outcome in zip(expectations.classes, outcomes[whole:], strict=False)
        if not outcome.success
    )
    if small:
        raise DataError(f"{dataset}: column {layout.label!r}: {outcomes[whole].check.means}: {small}")


def check_missing(judge: Judge, dataset: str, expectations: Expectations, profile: Profile) -> None:
    """Hold what is missing of each column to its limit."""
    figures = {name: profile.column(name).missing for name in expectations.missing}
    checks = [
        Check(
            ExpectColumnMissingShareToBeSmall(column=name, max_value=most),
            name,
            f"more of its values are missing than missing.{name} = {most:.1%}",
        )
        for name, most in expectations.missing.items()
    ]
    _stop_where_broken(dataset, _figures(judge, "missing", figures, checks), figures)


def check_drift(judge: Judge, dataset: str, most: float | None, moved: dict[str, float]) -> None:
    """Hold each column's distance to `max_drift`; without one, only show it."""
    means = "its distance from the version accepted last" + (
        ""
        if most is None
        else f" is above max_drift = {most:g}; if it is meant: `latentops accept {dataset}`"
    )
    checks = [
        Check(ExpectColumnDriftToBeSmall(column=name, max_value=1.0 if most is None else most), name, means)
        for name in moved
    ]
    _stop_where_broken(dataset, _figures(judge, "drift", moved, checks), moved)


def check_leaks(judge: Judge, dataset: str, expectations: Expectations, predicts: dict[str, float]) -> None:
    """Hold what each column alone says of the label to `max_leak`; without one, only show it."""
    most = expectations.max_leak
    limit = expectations.leak if most is None else most
    means = f"alone it predicts the label better than {'leak' if most is None else 'max_leak'} = {limit:g}"
    checks = [
        Check(ExpectColumnLeakToBeSmall(column=name, max_value=limit), name, means) for name in predicts
    ]
    outcomes = _figures(judge, "leaks", predicts, checks)
    if most is not None:
        _stop_where_broken(dataset, outcomes, predicts)


def _stop_where_broken(dataset: str, outcomes: Iterable[Outcome], figures: dict[str, float]) -> None:
    broken = [each.check for each in outcomes if not each.success]
    if broken:
        told = "; ".join(
            f"column {each.column!r}: {each.means}: {figures[str(each.column)]:g}" for each in broken
        )
        raise DataError(f"{dataset}: {told}")


def _figures(judge: Judge, suite: str, figures: dict[str, float], checks: Sequence[Check]) -> list[Outcome]:
    """Outcomes of limits of the dataset as a whole, on a frame of one line."""
    frame = pd.DataFrame({name: [float(value)] for name, value in figures.items()})
    return judge.run(suite, frame, checks) if checks else []


def _examples(broken: Iterable[Outcome]) -> str:
    """Each broken row expectation with its count and the first rows that break it."""
    return "; ".join(
        f"{outcome.check.means} in {outcome.unexpected} rows ({', '.join(outcome.first)}"
        f"{', …' if outcome.unexpected > SHOWN else ''})"
        for outcome in broken
        if outcome.unexpected
    )
