"""Goes through the rows of a table once, a part at a time, and tells the clean ones from the others.

Nothing here is larger for there being more rows, but for a hash a row.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from latentops.config import Expectations, Source
from latentops.data import drift, leaks
from latentops.data import table as tables
from latentops.data.expectations import pages
from latentops.data.expectations.columns import check_columns
from latentops.data.expectations.judge import Judge
from latentops.data.expectations.limits import check_drift, check_leaks, check_missing, check_table
from latentops.data.expectations.reasons import Reasons
from latentops.data.expectations.rows import Rows
from latentops.data.expectations.settings import check_settings
from latentops.data.profile import Profile, Profiler
from latentops.data.table import Layout
from latentops.errors import DataError

Limits = Literal["dataset", "rows", "samples"]

_AT_ONCE = 200_000  # rows a suite is run on: a run takes a second or two, however few there are
_BYTES_AT_ONCE = 2**27


@dataclass(frozen=True)
class Found:
    """What was looked at and found: a summary, and the profile of the clean rows.

    `summary`: {rows, clean, quarantined, reasons: {text: rows}, expectations: [{name, column, level,
    success, unexpected, means}], columns: [{name, missing, constant, predicts, moved}], flags: [text],
    accepted: {rows} or None}. `predicts` is how well the column predicts the label alone, `moved` how far it
    is from the version accepted last.
    """

    summary: dict[str, Any]
    profile: Profile


def sift(
    schema: pa.Schema,
    parts: Iterable[pa.Table],
    keep: Callable[[pa.Table, pa.Table], None],
    dataset: str,
    source: Source,
    expectations: Expectations,
    *,
    limits: Limits = "dataset",
    accepted: Profile | None = None,
    docs: Path | None = None,
) -> Found:
    """Go through `parts` once, and hand the clean and the quarantined rows of each to `keep`."""
    layout = tables.layout_of(schema.empty_table(), None if limits == "samples" else source.label)
    check_settings(layout, dataset, expectations)
    judge = Judge(dataset)
    found: Found | None = None
    stopped: str | None = None
    try:
        check_columns(judge, dataset, schema, layout)

        # A row that is only scored goes into no split.
        placed = source if limits != "samples" else source.model_copy(update={"time": None})
        rows = Rows(judge, layout, placed, expectations)
        profiler, reasons = Profiler(layout), Reasons()
        total = clean = quarantined = 0
        for chunk in _chunks(chain([schema.empty_table()], parts), layout):
            for part, told in rows.judge(chunk):
                good, bad = _part(part, told)
                reasons.add(told)
                profiler.add(good)
                keep(good, bad)
                total += part.num_rows
                clean += good.num_rows
                quarantined += bad.num_rows
        if total != clean + quarantined:
            raise AssertionError(f"{total} rows in, {clean} + {quarantined} out")

        profile = profiler.finish()
        moved = drift.distances(accepted, profile) if accepted is not None else {}
        predicts = leaks.predictive(*profiler.sample())
        if limits == "dataset":
            check_table(judge, dataset, layout, expectations, profile, total, reasons)
            check_missing(judge, dataset, expectations, profile)
            check_drift(judge, dataset, expectations.max_drift, moved)
            check_leaks(judge, dataset, expectations, predicts)
        summary = {
            "rows": total,
            "clean": clean,
            "quarantined": quarantined,
            "reasons": reasons.listed(),
            "expectations": [outcome.to_json() for outcome in judge.outcomes()],
            "columns": [
                {
                    "name": column.name,
                    "missing": column.missing,
                    "constant": column.constant,
                    "predicts": predicts.get(column.name),
                    "moved": moved.get(column.name),
                }
                for column in profile.columns
            ],
            "flags": _flags(profile, predicts, expectations.leak),
            "accepted": None if accepted is None else {"rows": accepted.rows},
        }
        found = Found(summary, profile)
        return found
    except DataError as error:
        stopped = str(error)
        raise
    finally:
        if docs is not None:
            judge.write_docs(docs, _front(found, stopped, dataset, source))


def _front(found: Found | None, stopped: str | None, dataset: str, source: Source) -> str:
    if found is None:
        return pages.stop(stopped)
    return pages.front(found.summary, found.profile, pages.passed_over(dataset, source.drop))


def with_reasons(schema: pa.Schema) -> pa.Schema:
    """The schema of quarantined rows."""
    return schema.append(pa.field(tables.REASONS, pa.list_(pa.string())))


def _chunks(parts: Iterable[pa.Table], layout: Layout) -> Iterator[list[pa.Table]]:
    """Parts that a suite is run on together: many rows, few bytes; one at least, if an empty one."""
    chunk: list[pa.Table] = []
    size = layout.part_rows()
    for part in parts:
        for at in range(0, part.num_rows, size):
            chunk.append(part.slice(at, size))
            if (
                sum(each.num_rows for each in chunk) >= _AT_ONCE
                or sum(each.nbytes for each in chunk) >= _BYTES_AT_ONCE
            ):
                yield chunk
                chunk = []
        if not part.num_rows:
            chunk.append(part)
    if chunk:
        yield chunk


def _part(part: pa.Table, reasons: list[list[str]]) -> tuple[pa.Table, pa.Table]:
    """Clean rows, and quarantined ones with their reasons."""
    good = pa.array([not each for each in reasons], pa.bool_())
    told = pa.array([each for each in reasons if each], pa.list_(pa.string()))
    return part.filter(good), part.filter(pc.invert(good)).append_column(tables.REASONS, told)


def _flags(profile: Profile, predicts: dict[str, float], leak: float) -> list[str]:
    """What a person should look at, though it stops nothing."""
    flags = [
        f"{name}: predicts the label alone ({skill:.3g}; 0 is no better than guessing, 1 is always right)"
        for name, skill in predicts.items()
        if skill >= leak
    ]
    flags += [f"{column.name}: constant" for column in profile.columns if column.constant and profile.rows]
    if profile.duplicates:
        flags.append(f"clean rows that are the same as an earlier one: {profile.duplicates}")
    return flags
