"""What is expected of rows and of whole tables, as Great Expectations suites built in code.

- `columns`: every column is there, of its type. A broken table stops here.
- `rows`: what each row must satisfy by itself. A row that doesn't is set aside with the reasons.
- `quarantine` and `classes`: limits of the dataset as a whole. A broken limit stops the pipeline.

Images and sequences are looked at through one summary line a row (missing, least, greatest, steps), never
value by value, and of a text its number of characters; of tables every column is.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentops import atomic
from latentops.config import Expectations, Source, nearest
from latentops.data import table as tables
from latentops.data.table import Layout
from latentops.errors import ConfigError, DataError

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
import great_expectations as gx
from great_expectations import expectations as gxe
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metadata_types import FailureSeverity

Limits = Literal["dataset", "rows", "samples"]
_SHOWN = 3  # offending rows named in an error


@dataclass(frozen=True)
class Validated:
    """Rows that are as expected, rows that aren't (with a column `reasons`), and what was looked at.

    `summary`: {rows, clean, quarantined, reasons: {text: rows}, expectations: [{name, column, level,
    success, unexpected, means}]}.
    """

    clean: pa.Table
    quarantined: pa.Table
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Check:
    """One expectation on a frame, the table's column that it is about, and what breaking it means."""

    expectation: gxe.Expectation
    column: str | None
    means: str
    level: Literal["row", "table"] = "table"


@dataclass(frozen=True)
class _Outcome:
    """What became of a check; where it is by row, which rows of the frame break it with which values."""

    check: _Check
    success: bool
    rows: tuple[int, ...]
    values: tuple[object, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.check.expectation.expectation_type,
            "column": self.check.column,
            "level": self.check.level,
            "success": self.success,
            "unexpected": len(self.rows),
            "means": self.check.means,
        }


def validate(
    table: pa.Table,
    dataset: str,
    source: Source,
    expectations: Expectations,
    *,
    limits: Limits = "dataset",
    docs: Path | None = None,
) -> Validated:
    """Hold a raw `table` of `dataset` to what is expected; set the rows aside that fall short.

    With `limits="rows"` the limits of whole datasets (`min_rows`, `max_quarantined`, `min_class_share`) are
    passed over, as fits a file of a few new rows; with `limits="samples"` the label is, too. `docs` is the
    folder that gets the data docs (HTML), also where validation fails.

    Raises `DataError` that names the column, how many rows it is about and the first of them, where a
    column is missing or of a wrong type, or a limit of the dataset is broken.
    """
    layout = tables.layout_of(table, None if limits == "samples" else source.label)
    _check_settings(layout, dataset, expectations)
    judge = _Judge(dataset)
    try:
        wrong = judge.run("columns", _column_frame(table, layout), [_column_check()])[0]
        if not wrong.success:
            raise DataError(f"{dataset}: {_wrong_columns(table, layout)}")

        broken = judge.run("rows", _row_frame(table, layout), _row_checks(layout, source, expectations))
        reasons: list[list[str]] = [[] for _ in range(table.num_rows)]
        for outcome in broken:
            for row in outcome.rows:
                reasons[row].append(outcome.check.means)
        clean, quarantined = _part(table, reasons)

        if limits == "dataset":
            bad = pd.DataFrame({"quarantined": [float(bool(each)) for each in reasons]})
            few_bad = judge.run("quarantine", bad, [_quarantine_check(expectations)])[0]
            if table.num_rows and not few_bad.success:
                raise DataError(
                    f"{dataset}: {quarantined.num_rows} of {table.num_rows} rows "
                    f"({quarantined.num_rows / table.num_rows:.1%}): {few_bad.check.means}: "
                    f"{_examples(table, broken)}"
                )
            classes = _class_frame(clean, layout, expectations.classes)
            enough, shares = judge.run("classes", classes, _class_checks(layout, expectations))
            if not enough.success:
                raise DataError(f"{dataset}: {clean.num_rows} {enough.check.means}")
            if not shares.success:
                small = ", ".join(
                    f"{line['class']!r} has {line['rows']} of {clean.num_rows} rows ({line['share']:.1%})"
                    for line in classes.iloc[list(shares.rows)].to_dict("records")
                )
                raise DataError(f"{dataset}: column {layout.label!r}: {shares.check.means}: {small}")
    finally:
        if docs is not None:
            judge.write_docs(docs)

    summary = {
        "rows": table.num_rows,
        "clean": clean.num_rows,
        "quarantined": quarantined.num_rows,
        "reasons": dict(Counter(reason for each in reasons for reason in each)),
        "expectations": [outcome.to_json() for outcome in judge.outcomes],
    }
    return Validated(clean, quarantined, summary)


class _Judge:
    """Runs suites in a Great Expectations context that lives in memory, and keeps every outcome."""

    def __init__(self, dataset: str) -> None:
        self.outcomes: list[_Outcome] = []
        self._dataset = dataset
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._source = self._context.data_sources.add_pandas(dataset)

    def run(self, suite: str, frame: pd.DataFrame, checks: Sequence[_Check]) -> list[_Outcome]:
        """Outcomes of `checks` on `frame`, in their order."""
        name = f"{self._dataset}.{suite}"
        batch = self._source.add_dataframe_asset(suite).add_batch_definition_whole_dataframe(suite)
        for at, check in enumerate(checks):
            check.expectation.meta = {"check": at}
        expected = gx.ExpectationSuite(name, expectations=[check.expectation for check in checks])
        definition = gx.ValidationDefinition(name=name, data=batch, suite=self._context.suites.add(expected))
        result = self._context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame},
            run_id=RunIdentifier(run_name=suite),
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
        by_check = {
            each.expectation_config.meta["check"]: each for each in result.results if each.expectation_config
        }
        outcomes = [_outcome(check, by_check[at]) for at, check in enumerate(checks)]
        self.outcomes += outcomes
        return outcomes

    def write_docs(self, folder: Path) -> None:
        """Data docs of all that was run, as a site whose first page is `folder/index.html`."""
        with atomic.replacing(folder) as aside:
            site: Any = {  # `show_how_to_buttons` is missing from the library's type
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(aside.resolve()),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
            self._context.add_data_docs_site("site", site)
            self._context.build_data_docs(site_names=["site"])
            self._link_results(aside)

    def _link_results(self, site: Path) -> None:
        """Plain links on the first page: its own list needs scripts from the network."""
        pages = sorted(page.relative_to(site) for page in (site / "validations").rglob("*.html"))
        links = "".join(f'<li><a href="{page.as_posix()}">{page.parts[2]}</a></li>' for page in pages)
        index = site / "index.html"
        html = index.read_text(encoding="utf-8")
        title = f"<h1>{self._dataset}</h1><p>Validation results:</p><ul>{links}</ul>"
        atomic.write_text(index, html.replace("<body>", f"<body>{title}", 1))


def _outcome(check: _Check, result: Any) -> _Outcome:
    detail = result.result
    if not result.success and not detail:
        raise DataError(
            f"expectation {check.expectation.expectation_type} of {check.column!r} can't be computed: "
            f"{result.exception_info}"
        )
    rows = tuple(int(row) for row in detail.get("unexpected_index_list") or ())
    values = tuple(detail.get("unexpected_list") or ())
    return _Outcome(check, bool(result.success), rows, values)


def _check_settings(layout: Layout, dataset: str, expectations: Expectations) -> None:
    """Refuse limits on what the data doesn't have: they would be passed over in silence."""
    where = f"datasets.{dataset}.expectations"
    for name in expectations.columns:
        if name not in layout.features:
            guess = nearest(name, list(layout.features))
            raise ConfigError(f"{where}.columns: {layout.kind} data has no column {name!r}{guess}")
    if expectations.lengths is not None and layout.kind != "sequence":
        raise ConfigError(f"{where}.lengths: {layout.kind} data has no lengths")


def _column_frame(table: pa.Table, layout: Layout) -> pd.DataFrame:
    """One line a column that is there or should be: its name, its type, and the type wanted."""
    wanted = {field.name: _type_name(field.type) for field in layout.schema()}
    found = {field.name: _type_name(field.type) for field in table.schema}
    names = [*wanted, *(name for name in found if name not in wanted)]
    return pd.DataFrame(
        {
            "column": names,
            "found": [found.get(name, "(missing)") for name in names],
            "wanted": [wanted.get(name, "(no such column)") for name in names],
        }
    )


def _type_name(of: pa.DataType) -> str:
    """The type in words that leave out how a file names a list's items."""
    if pa.types.is_fixed_size_list(of):
        return f"{of.list_size} × {of.value_type}"
    return f"list of {of.value_type}" if pa.types.is_list(of) else str(of)


def _column_check() -> _Check:
    return _Check(
        gxe.ExpectColumnPairValuesToBeEqual(column_A="found", column_B="wanted"), None, "wrong columns"
    )


def _wrong_columns(table: pa.Table, layout: Layout) -> str:
    frame = _column_frame(table, layout)
    wrong = frame[frame["found"] != frame["wanted"]]
    problems = [
        f"column {line.column!r} is {line.found}, expected {line.wanted}" for line in wrong.itertuples()
    ]
    return f"{len(problems)} of {len(frame)} columns are wrong: {'; '.join(problems)}"


def _row_frame(table: pa.Table, layout: Layout) -> pd.DataFrame:
    """What the row expectations look at, one line a row."""
    label = {}
    if layout.label is not None:
        label = {layout.label: pd.Series(tables.labels(table, layout), dtype="str")}
    if layout.kind == "sequence":
        flat, sizes = tables.ragged(table)
        channels = layout.shape[0]
        lengths = {"values.steps": sizes // channels, "values.remainder": sizes % channels}
        return pd.DataFrame({**label, **lengths, **_summary(flat, sizes, "values")})
    if layout.kind == "text":
        return pd.DataFrame({**label, "text.characters": [len(each.strip()) for each in tables.texts(table)]})
    values = tables.dense(table, layout)
    if layout.kind == "image":
        sizes = np.full(len(values), prod(layout.shape))
        return pd.DataFrame({**label, **_summary(values.ravel(), sizes, "pixels")})
    finite = np.where(np.isfinite(values), values, np.nan)
    return pd.concat([pd.DataFrame(label), pd.DataFrame(finite, columns=layout.features)], axis=1)


def _summary(
    flat: NDArray[np.floating], sizes: NDArray[np.int64], name: str
) -> dict[str, NDArray[np.floating]]:
    """Of each row: how many values are missing or not finite, and the least and greatest of the others.

    `flat` holds the rows end to end, `sizes` [n] how many values each has.
    """
    some = sizes > 0
    starts = (np.cumsum(sizes) - sizes)[some]
    finite = np.isfinite(flat)
    missing, least, greatest = np.zeros(len(sizes)), np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    if len(starts):
        missing[some] = np.add.reduceat(~finite, starts, dtype=np.int64)
        least[some] = np.minimum.reduceat(np.where(finite, flat, np.inf), starts)
        greatest[some] = np.maximum.reduceat(np.where(finite, flat, -np.inf), starts)
    nothing = missing == sizes
    least[nothing], greatest[nothing] = np.nan, np.nan
    return {f"{name}.missing": missing, f"{name}.least": least, f"{name}.greatest": greatest}


def _row_checks(layout: Layout, source: Source, expectations: Expectations) -> list[_Check]:
    label = layout.label
    checks = []
    if label is not None:
        declared = gxe.ExpectColumnValuesToBeInSet(column=label, value_set=expectations.classes)
        checks += [
            _row(gxe.ExpectColumnValuesToNotBeNull(column=label), label, "missing"),
            _row(declared, label, "not a declared class"),
        ]
    if layout.kind == "tabular":
        checks += [
            _row(gxe.ExpectColumnValuesToNotBeNull(column=name), name, "missing or not finite")
            for name in layout.features
        ]
        bounds = dict(expectations.columns)
        if source.value_range is not None:
            bounds = {name: bounds.get(name, source.value_range) for name in layout.features}
        return checks + [
            _row(_between(name, low, high), name, f"outside [{low:g}, {high:g}]")
            for name, (low, high) in bounds.items()
        ]

    if layout.kind == "text":
        return [*checks, _row(_between("text.characters", 1, None), "text", "missing or empty")]

    name = "pixels" if layout.kind == "image" else "values"
    checks.append(_row(_between(f"{name}.missing", 0, 0), name, "missing or not finite"))
    if source.value_range is not None:
        low, high = source.value_range
        checks += [
            _row(_between(f"{name}.least", low, None), name, f"below {low:g}"),
            _row(_between(f"{name}.greatest", None, high), name, f"above {high:g}"),
        ]
    if layout.kind == "sequence":
        shortest, longest = expectations.lengths or (1, None)
        steps = f"[{shortest}, {longest}]" if longest else f"[{shortest}, …]"
        checks += [
            _row(_between("values.remainder", 0, 0), name, f"not a multiple of {layout.shape[0]} values"),
            _row(_between("values.steps", shortest, longest), name, f"steps outside {steps}"),
        ]
    return checks


def _row(expectation: ColumnMapExpectation, column: str, problem: str) -> _Check:
    expectation.severity = FailureSeverity.WARNING  # the row is set aside, the run goes on
    return _Check(expectation, column, f"{column}: {problem}", "row")


def _between(column: str, low: float | None, high: float | None) -> ColumnMapExpectation:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)


def _part(table: pa.Table, reasons: list[list[str]]) -> tuple[pa.Table, pa.Table]:
    """Clean rows, and quarantined ones with their reasons."""
    good = pa.array([not each for each in reasons], pa.bool_())
    told = pa.array([each for each in reasons if each], pa.list_(pa.string()))
    clean, quarantined = table.filter(good), table.filter(pc.invert(good)).append_column(tables.REASONS, told)
    if clean.num_rows + quarantined.num_rows != table.num_rows:
        raise AssertionError(f"{table.num_rows} rows in, {clean.num_rows} + {quarantined.num_rows} out")
    return clean, quarantined


def _quarantine_check(expectations: Expectations) -> _Check:
    limit = expectations.max_quarantined
    share = gxe.ExpectColumnMeanToBeBetween(column="quarantined", max_value=limit)
    return _Check(share, None, f"rows set aside are more than max_quarantined = {limit:.1%}")


def _class_frame(clean: pa.Table, layout: Layout, declared: list[str]) -> pd.DataFrame:
    """One line a declared class, or one in all: how many of the clean rows it has, and their share."""
    classes: list[str | None] = [*declared] or [None]
    counts = Counter(tables.labels(clean, layout))
    rows = np.array([counts[name] for name in classes])
    return pd.DataFrame({"class": classes, "rows": rows, "share": rows / max(clean.num_rows, 1)})


def _class_checks(layout: Layout, expectations: Expectations) -> list[_Check]:
    least, share = expectations.min_rows, expectations.min_class_share
    return [
        _Check(
            gxe.ExpectColumnSumToBeBetween(column="rows", min_value=least),
            None,
            f"clean rows are fewer than min_rows = {least}",
        ),
        _Check(
            _between("share", share, None), layout.label, f"a class is below min_class_share = {share:.1%}"
        ),
    ]


def _examples(table: pa.Table, broken: list[_Outcome]) -> str:
    """Each broken row expectation with its count and the first rows that break it."""
    sources, positions = table.column(tables.SOURCE), table.column(tables.POSITION)
    causes = []
    for outcome in broken:
        if outcome.rows:
            first = [
                f"{sources[row]}[{positions[row]}] = {value}"
                for row, value in list(zip(outcome.rows, outcome.values, strict=True))[:_SHOWN]
            ]
            more = ", …" if len(outcome.rows) > _SHOWN else ""
            causes.append(f"{outcome.check.means} in {len(outcome.rows)} rows ({', '.join(first)}{more})")
    return "; ".join(causes)
