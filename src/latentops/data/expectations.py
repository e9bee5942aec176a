"""What is expected of rows and of whole tables, as Great Expectations suites built in code.

- `columns`: every column is there, of its type. A broken table stops here.
- `read` and `rows`: what each row must satisfy by itself. A row that doesn't is set aside with the reasons.
- `table`, `missing`, `drift` and `leaks`: limits of the dataset as a whole, each suite on a frame of one line
  that holds figures. A broken limit stops the pipeline.

Rows come a part at a time, and nothing here is larger for there being more of them, but for a hash a row.
Images and sequences are looked at through one summary line a row (missing, least, greatest, steps), never
value by value, and of a text its number of characters; of tables every column is.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentops import atomic
from latentops.config import Expectations, Source, nearest
from latentops.data import drift, leaks
from latentops.data import profile as profiles
from latentops.data import table as tables
from latentops.data.profile import Profile, Profiler
from latentops.data.table import Layout, Stored
from latentops.errors import ConfigError, DataError

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
import great_expectations as gx
from great_expectations import expectations as gxe
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer

Limits = Literal["dataset", "rows", "samples"]
ACCEPTED = Path("data/profiles")
"""The profiles of the versions accepted last: `<dataset>/accepted.json`."""
DOCS = Path("var/data_docs")
"""Data docs: `<dataset>/<version>/index.html`."""

_SHOWN = 3  # offending rows named in an error
_OTHERS = "other reasons"
_LISTED = 30  # reasons that a summary counts one by one
_TOLD_APART = 10_000  # reasons that are counted at all: a reader's may be another one for every row
_AT_ONCE = 200_000  # rows a suite is run on: a run takes a second or two, however few there are
_BYTES_AT_ONCE = 2**27
_MD5 = partial(hashlib.md5, usedforsecurity=False)
_GREATEST = float(np.finfo(np.float64).max)


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


@dataclass(frozen=True)
class Validated(Found):
    """Rows that are as expected, and rows that aren't (with a column `.reasons`), beside what was found."""

    clean: pa.Table
    quarantined: pa.Table


class _Told:
    """Data docs say what is expected in `told`, where `$max_value` and `$min_value` stand for the limits."""

    told: ClassVar[str]

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None, **_: Any
    ) -> Any:
        text = {"template": cls.told, "params": dict(configuration.kwargs)}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=text)]


class ExpectRowsToBeReadable(_Told, gxe.ExpectColumnValuesToBeNull):
    """Expect that nothing kept a row from being read."""

    told: ClassVar[str] = "must be empty: nothing kept the row from being read."


class ExpectColumnValuesToBeFinite(_Told, gxe.ExpectColumnValuesToBeBetween):
    """Expect numbers that are not infinite."""

    told: ClassVar[str] = "values must be finite, where they are not missing."


class ExpectColumnValuesToBeMetFirst(_Told, gxe.ExpectColumnValuesToBeBetween):
    """Expect a value that no earlier row has; the column says of each row whether one does (1) or not (0)."""

    told: ClassVar[str] = "no earlier row may have the same."


class ExpectQuarantineToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect few rows to be set aside."""

    told: ClassVar[str] = "share of the rows that is set aside must be at most $max_value."


class ExpectCleanRowsToBeEnough(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect so many clean rows at least."""

    told: ClassVar[str] = "clean rows must be at least $min_value."


class ExpectCleanRowsToBeFew(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect so many clean rows at most."""

    told: ClassVar[str] = "clean rows must be at most $max_value."


class ExpectClassShareToBeLarge(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect a class to have its share of the rows."""

    told: ClassVar[str] = "share of the clean rows of this class must be at least $min_value."


class ExpectColumnMissingShareToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect few of a column's values to be missing."""

    told: ClassVar[str] = "share of the values that is missing must be at most $max_value."


class ExpectColumnDriftToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect a column's distribution to be near that of the version accepted last."""

    told: ClassVar[str] = "distance from the version accepted last must be at most $max_value (of 1)."


class ExpectColumnLeakToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect that no column predicts the label alone."""

    told: ClassVar[str] = "must predict the label alone no better than $max_value (0 is guessing, 1 always)."


@dataclass(frozen=True)
class _Check:
    """One expectation on a frame, the table's column that it is about, and what breaking it means."""

    expectation: gxe.Expectation
    column: str | None
    means: str
    level: Literal["row", "table"] = "table"


@dataclass(frozen=True)
class _Outcome:
    """What became of a check: in how many lines of the frame it is broken, and in which."""

    check: _Check
    success: bool
    unexpected: int
    lines: tuple[int, ...] = ()
    first: tuple[str, ...] = ()  # the first offending rows: `source[position] = value`

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.check.expectation.expectation_type,
            "column": self.check.column,
            "level": self.check.level,
            "success": self.success,
            "unexpected": self.unexpected,
            "means": self.check.means,
        }

    def and_then(self, more: "_Outcome") -> "_Outcome":
        """The outcome on this frame and on a later one."""
        return replace(
            self,
            success=self.success and more.success,
            unexpected=self.unexpected + more.unexpected,
            lines=(),
            first=(self.first + more.first)[:_SHOWN],
        )


def validate(
    table: pa.Table,
    dataset: str,
    source: Source,
    expectations: Expectations,
    *,
    limits: Limits = "dataset",
    accepted: Profile | None = None,
    docs: Path | None = None,
) -> Validated:
    """Hold a raw `table` of `dataset` to what is expected; set the rows aside that fall short.

    With `limits="rows"` the limits of whole datasets (all that are not about single rows) are passed over, as
    fits a file of a few new rows; with `limits="samples"` the label is, too. `accepted` is the profile that
    columns may not have moved far from. `docs` is the folder that gets the data docs (HTML), also where
    validation fails.

    Raises `DataError` that names the column, how many rows it is about and the first of them, where a
    column is missing or of a wrong type, or a limit of the dataset is broken.
    """
    parts: tuple[list[pa.Table], list[pa.Table]] = ([], [])

    def keep(clean: pa.Table, quarantined: pa.Table) -> None:
        parts[0].append(clean)
        parts[1].append(quarantined)

    found = _sift(
        table.schema,
        [table],
        keep,
        dataset,
        source,
        expectations,
        limits=limits,
        accepted=accepted,
        docs=docs,
    )
    clean, quarantined = (
        pa.concat_tables([schema.empty_table(), *each]).combine_chunks()
        for schema, each in zip((table.schema, _with_reasons(table.schema)), parts, strict=True)
    )
    return Validated(found.summary, found.profile, clean, quarantined)


def validate_stored(
    stored: Stored,
    dataset: str,
    source: Source,
    expectations: Expectations,
    *,
    clean: Path,
    quarantined: Path,
    accepted: Profile | None = None,
    docs: Path | None = None,
) -> Found:
    """As `validate`, of a table in a file, into the files `clean` and `quarantined`, a part at a time.

    Where it raises neither file is touched.
    """
    reasons = _with_reasons(stored.schema)
    with tables.writing(clean, stored.schema) as good, tables.writing(quarantined, reasons) as bad:

        def keep(*parts: pa.Table) -> None:
            for writer, part in zip((good, bad), parts, strict=True):
                if part.num_rows:
                    writer.write_table(part, row_group_size=part.num_rows)

        return _sift(
            stored.schema, stored.parts(), keep, dataset, source, expectations, accepted=accepted, docs=docs
        )


def accept(stored: Stored, dataset: str, source: Source, expectations: Expectations) -> Profile:
    """Take a raw table as it is as the version that later ones may not move far from.

    Raises `DataError` where any other limit is broken.
    """
    found = _sift(stored.schema, stored.parts(), lambda *_: None, dataset, source, expectations)
    profiles.write(ACCEPTED / dataset / "accepted.json", found.profile)
    return found.profile


def accepted(dataset: str) -> Profile | None:
    """The profile of the version of `dataset` that was accepted last, if one was."""
    return profiles.read(ACCEPTED / dataset / "accepted.json")


def docs_of(dataset: str, raw: Path) -> Path:
    """The folder for the data docs of a version of `dataset`: `raw`, by its MD5 as DVC has it."""
    with raw.open("rb") as stream:
        return DOCS / dataset / hashlib.file_digest(stream, _MD5).hexdigest()[:12]


def list_docs(dataset: str) -> None:
    """Write the page that links to the data docs of all versions of `dataset`, the latest first."""
    pages = sorted((DOCS / dataset).glob("*/index.html"), key=lambda page: -page.stat().st_mtime)
    links = "".join(
        f'<li><a href="{page.parent.name}/index.html">{page.parent.name}</a>, '
        f"{datetime.fromtimestamp(page.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC</li>"
        for page in pages
    )
    told = "<p>Versions of the raw data, by MD5, the one validated last first.</p>"
    atomic.write_text(DOCS / dataset / "index.html", _page(dataset, f"{told}<ul>{links}</ul>"))


def _sift(
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
    _check_settings(layout, dataset, expectations)
    judge = _Judge(dataset)
    summary: dict[str, Any] | None = None
    stopped: str | None = None
    try:
        wrong = judge.run("columns", _column_frame(schema, layout), [_column_check()])[0]
        if not wrong.success:
            raise DataError(f"{dataset}: {_wrong_columns(schema, layout)}")

        # A row that is only scored goes into no split.
        placed = source if limits != "samples" else source.model_copy(update={"time": None})
        rows = _Rows(judge, layout, placed, expectations)
        profiler, reasons = Profiler(layout), Counter[str]()
        total = clean = quarantined = 0
        for chunk in _chunks(chain([schema.empty_table()], parts), layout):
            for part, told in rows.judge(chunk):
                good, bad = _part(part, told)
                _count(reasons, told)
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
            _check_table(judge, dataset, layout, expectations, profile, total, reasons)
            _check_missing(judge, dataset, expectations, profile)
            _check_drift(judge, dataset, expectations.max_drift, moved)
            _check_leaks(judge, dataset, expectations, predicts)
        summary = {
            "rows": total,
            "clean": clean,
            "quarantined": quarantined,
            "reasons": _listed(reasons),
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
        return Found(summary, profile)
    except DataError as error:
        stopped = str(error)
        raise
    finally:
        if docs is not None:
            judge.write_docs(docs, _front(summary, stopped))


class _Rows:
    """Holds rows to what each of them must satisfy by itself."""

    def __init__(self, judge: "_Judge", layout: Layout, source: Source, expectations: Expectations) -> None:
        self._judge = judge
        self._layout = layout
        self._gaps = set(expectations.missing)
        self._met = {name: _Met() for name in expectations.unique}
        self._checks = _row_checks(layout, source, expectations)
        self._readable = _row(ExpectRowsToBeReadable(column="problem"), None, "not read in whole")

    def judge(self, chunk: Sequence[pa.Table]) -> Iterator[tuple[pa.Table, list[list[str]]]]:
        """Each part of `chunk`, and of each of its rows the reasons to set it aside.

        What else is wrong with a row that wasn't read in whole isn't said: it wasn't read in whole.
        """
        problems = [text for part in chunk for text in self._problems(part)]
        frame = pd.concat([self._frame(part) for part in chunk], ignore_index=True)
        reasons: list[list[str]] = [[] for _ in problems]
        place = _places(chunk)
        if "problem" in self._layout.extras:
            told = pd.DataFrame({"problem": pd.Series(problems, dtype="str")})
            for line in self._judge.run("read", told, [self._readable], place)[0].lines:
                reasons[line].append(str(problems[line]))
        read = np.flatnonzero([text is None for text in problems])
        frame = frame.iloc[read].reset_index(drop=True)
        for outcome in self._judge.run("rows", frame, self._checks, lambda line: place(int(read[line]))):
            for line in outcome.lines:
                reasons[read[line]].append(outcome.check.means)
        at = 0
        for part in chunk:
            yield part, reasons[at : at + part.num_rows]
            at += part.num_rows

    def _problems(self, part: pa.Table) -> list[str | None]:
        if "problem" not in self._layout.extras:
            return [None] * part.num_rows
        return part.column(".problem").to_pylist()

    def _frame(self, part: pa.Table) -> pd.DataFrame:
        """What the row expectations look at, one line a row."""
        looked = {**self._label(part), **self._sample(part)}
        if "time" in self._layout.extras:
            looked[".time"] = part.column(".time").to_numpy()
        for name, met in self._met.items():
            if name == ".row":
                keys, there = profiles.content_keys(part, self._layout), np.ones(part.num_rows, bool)
            else:
                keys = profiles.value_keys(part.column(name))
                there = part.column(name).is_valid().to_numpy()
            there &= np.array([text is None for text in self._problems(part)], bool)
            looked[f"{name} met"] = met.again(keys, there).astype(float)
        return pd.DataFrame(looked)

    def _label(self, part: pa.Table) -> dict[str, Any]:
        if self._layout.label is None:
            return {}
        return {self._layout.label: pd.Series(tables.labels(part, self._layout), dtype="str")}

    def _sample(self, part: pa.Table) -> dict[str, Any]:
        layout = self._layout
        if layout.kind == "text":
            return {"text.characters": [len(each.strip()) for each in tables.texts(part)]}
        if layout.kind == "tabular":
            return {name: self._cells(part.column(name), name) for name, _ in layout.columns()}
        found = profiles.summaries(part, layout)
        name = "pixels" if layout.kind == "image" else "values"
        looked = {f"{name}.{figure}": found[figure] for figure in ("missing", "least", "greatest")}
        sides = (f".{each}" for each in ("height", "width") if each in layout.extras)
        looked |= {side: part.column(side).to_numpy() for side in sides}
        if layout.kind == "sequence":
            steps, rest = np.divmod(found["sizes"], layout.shape[0])
            looked = {"values.steps": steps, "values.remainder": rest, **looked}
        return looked

    def _cells(self, column: pa.ChunkedArray, name: str) -> Any:
        if pa.types.is_string(column.type):
            return pd.Series(column.to_pylist(), dtype="str")
        values = column.to_numpy()
        return values if name in self._gaps else np.where(np.isfinite(values), values, np.nan)


class _Met:
    """The keys of values that were met, 64 bits each, in order."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, np.uint64)

    def again(self, keys: NDArray[np.uint64], there: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of `keys` [n] were met before, here or in an earlier call, of those that are `there` [n]."""
        again = np.zeros(len(keys), bool)
        rows = np.flatnonzero(there)
        fresh, first = np.unique(keys[rows], return_index=True)
        again[rows] = True
        at = np.searchsorted(self._keys, fresh)
        known = at < len(self._keys)
        known[known] = self._keys[at[known]] == fresh[known]
        again[rows[first]] = known
        self._keys = np.insert(self._keys, at[~known], fresh[~known])
        return again


class _Judge:
    """Runs suites in a Great Expectations context that lives in memory, and keeps every outcome.

    A suite may be run on several frames, one after the other: its outcome is that of all of them together.
    """

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._source = self._context.data_sources.add_pandas(dataset)
        self._suites: dict[str, tuple[Any, gx.ExpectationSuite]] = {}
        self._results: dict[str, Any] = {}
        self._outcomes: dict[str, list[_Outcome]] = {}

    def run(
        self,
        suite: str,
        frame: pd.DataFrame,
        checks: Sequence[_Check],
        place: Callable[[int], str] | None = None,
    ) -> list[_Outcome]:
        """Outcomes of `checks` on `frame`, in their order; `place` names a line of it."""
        if suite not in self._suites:
            batches = self._source.add_dataframe_asset(suite).add_batch_definition_whole_dataframe(suite)
            for at, check in enumerate(checks):
                check.expectation.meta = {"check": at}
            wanted = gx.ExpectationSuite(suite, expectations=[check.expectation for check in checks])
            self._suites[suite] = batches, self._context.suites.add(wanted)
        batches, expected = self._suites[suite]
        result = batches.get_batch({"dataframe": frame}).validate(
            expected, result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False}
        )
        result.results.sort(key=lambda each: each.expectation_config.meta["check"])
        outcomes = [
            _outcome(check, each, frame, place) for check, each in zip(checks, result.results, strict=True)
        ]
        if suite in self._outcomes:
            known = self._outcomes[suite]
            self._outcomes[suite] = [a.and_then(b) for a, b in zip(known, outcomes, strict=True)]
            for total, more in zip(self._results[suite].results, result.results, strict=True):
                _add(total, more)
        else:
            self._outcomes[suite] = outcomes
            self._results[suite] = result
        for each in self._results[suite].results:
            for much in ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list"):
                each.result.pop(much, None)
        return outcomes

    def outcomes(self, *suites: str) -> list[_Outcome]:
        """Of the suites named, or of all that were run, in their order."""
        return [each for suite in suites or self._outcomes for each in self._outcomes.get(suite, [])]

    def write_docs(self, folder: Path, front: str) -> None:
        """Data docs of all that was run: `folder/index.html` begins with `front` and links to the others."""
        for suite, result in self._results.items():
            self._store(suite, result)
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
            # A first page of our own: the library's asks other hosts for the scripts that list what there is.
            pages = {page.stem: page.relative_to(aside) for page in (aside / "validations").rglob("*.html")}
            links = "".join(
                f'<li><a href="{pages[suite].as_posix()}">{suite}</a>: {_met_and_not(outcomes)}</li>'
                for suite, outcomes in self._outcomes.items()
            )
            body = f"{front}<h2>Great Expectations</h2><ul>{links}</ul>"
            atomic.write_text(aside / "index.html", _page(self._dataset, body))

    def _store(self, suite: str, result: Any) -> None:
        met = sum(bool(each.success) for each in result.results)
        result.success = met == len(result.results)
        result.statistics = {
            "evaluated_expectations": len(result.results),
            "successful_expectations": met,
            "unsuccessful_expectations": len(result.results) - met,
            "success_percent": 100 * met / len(result.results),
        }
        run = RunIdentifier(run_name=suite)
        result.meta |= {"run_id": run, "validation_time": run.run_time}
        key = ValidationResultIdentifier(ExpectationSuiteIdentifier(suite), run, suite)
        self._context.validation_results_store.set(key, result)


def _outcome(check: _Check, result: Any, frame: pd.DataFrame, place: Callable[[int], str] | None) -> _Outcome:
    detail = result.result
    if not result.success and not detail:
        raise DataError(
            f"expectation {check.expectation.expectation_type} of {check.column!r} can't be computed: "
            f"{result.exception_info}"
        )
    lines = tuple(int(line) for line in detail.get("unexpected_index_list") or ())
    first: tuple[str, ...] = ()
    if place is not None:
        values = frame[result.expectation_config.kwargs["column"]]
        first = tuple(f"{place(line)} = {values.iloc[line]}" for line in lines[:_SHOWN])
    return _Outcome(check, bool(result.success), len(lines), lines, first)


def _add(total: Any, more: Any) -> None:
    """Make the library's result for a frame the one for that and a later frame."""
    total.success = bool(total.success and more.success)
    known, new = total.result, more.result
    for name in ("element_count", "unexpected_count", "missing_count"):
        if name in known:
            known[name] += new[name]
    if "unexpected_count" in known:
        rows, bad, missing = (
            known.get(name, 0) for name in ("element_count", "unexpected_count", "missing_count")
        )
        shares = {
            "unexpected_percent": bad / max(rows - missing, 1),
            "unexpected_percent_nonmissing": bad / max(rows - missing, 1),
            "unexpected_percent_total": bad / max(rows, 1),
            "missing_percent": missing / max(rows, 1),
        }
        known |= {name: 100 * share for name, share in shares.items() if name in known}
        some = known.get("partial_unexpected_list", []) + new.get("partial_unexpected_list", [])
        known["partial_unexpected_list"] = some[:20]
        known.pop("partial_unexpected_counts", None)


def _check_settings(layout: Layout, dataset: str, expectations: Expectations) -> None:
    """Refuse limits on what the data doesn't have: they would be passed over in silence."""
    where = f"datasets.{dataset}.expectations"
    numbers = [name for name, type_ in layout.columns() if type_ in ("numeric", "date")]
    words = [name for name in layout.features if name not in numbers]
    extras = [f".{name}" for name in ("name", "group", "time") if name in layout.extras]
    label = [] if layout.label is None else [layout.label]
    known: dict[str, tuple[Iterable[str], list[str], str]] = {
        "columns": (expectations.columns, numbers, "column of numbers"),
        "categories": (expectations.categories, words, "column of categories"),
        "missing": (expectations.missing, list(layout.features), "column"),
        "unique": (expectations.unique, [*layout.features, *label, *extras, ".row"], "column"),
    }
    for key, (named, there, what) in known.items():
        for name in named:
            if name not in there:
                raise ConfigError(
                    f"{where}.{key}: {layout.kind} data has no {what} {name!r}{nearest(name, there)}"
                )
    if expectations.lengths is not None and layout.kind != "sequence":
        raise ConfigError(f"{where}.lengths: {layout.kind} data has no lengths")
    if expectations.sizes is not None and "height" not in layout.extras:
        raise ConfigError(f"{where}.sizes: only pictures in a folder have sizes of their own")


def _column_frame(schema: pa.Schema, layout: Layout) -> pd.DataFrame:
    """One line a column that is there or should be: its name, its type, and the type wanted."""
    wanted = {field.name: _type_name(field.type) for field in layout.schema()}
    found = {field.name: _type_name(field.type) for field in schema}
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


def _wrong_columns(schema: pa.Schema, layout: Layout) -> str:
    frame = _column_frame(schema, layout)
    wrong = frame[frame["found"] != frame["wanted"]]
    problems = [
        f"column {line.column!r} is {line.found}, expected {line.wanted}" for line in wrong.itertuples()
    ]
    return f"{len(problems)} of {len(frame)} columns are wrong: {'; '.join(problems)}"


def _row_checks(layout: Layout, source: Source, expectations: Expectations) -> list[_Check]:
    label = layout.label
    checks = []
    if label is not None:
        declared = gxe.ExpectColumnValuesToBeInSet(column=label, value_set=expectations.classes)
        checks += [
            _row(gxe.ExpectColumnValuesToNotBeNull(column=label), label, "missing"),
            _row(declared, label, "not a declared class"),
        ]
    if source.time is not None and "time" in layout.extras:
        checks.append(_row(gxe.ExpectColumnValuesToNotBeNull(column=".time"), source.time, "missing"))
    if layout.kind == "tabular":
        checks += _cell_checks(layout, source, expectations)
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


def _cell_checks(layout: Layout, source: Source, expectations: Expectations) -> list[_Check]:
    checks = []
    for name, type_ in layout.columns():
        number = type_ in ("numeric", "date")
        if name not in expectations.missing:
            problem = "missing or not finite" if number else "missing"
            checks.append(_row(gxe.ExpectColumnValuesToNotBeNull(column=name), name, problem))
        elif number:
            finite = ExpectColumnValuesToBeFinite(column=name, min_value=-_GREATEST, max_value=_GREATEST)
            checks.append(_row(finite, name, "not finite"))
    bounds = dict(expectations.columns)
    if source.value_range is not None:
        numbers = [name for name, type_ in layout.columns() if type_ == "numeric"]
        bounds = {name: bounds.get(name, source.value_range) for name in numbers} | bounds
    checks += [
        _row(_between(name, low, high), name, f"outside [{low:g}, {high:g}]")
        for name, (low, high) in bounds.items()
    ]
    return checks + [
        _row(gxe.ExpectColumnValuesToBeInSet(column=name, value_set=known), name, "not a declared category")
        for name, known in expectations.categories.items()
    ]


def _value_checks(layout: Layout, source: Source, expectations: Expectations) -> list[_Check]:
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


def _row(expectation: ColumnMapExpectation, column: str | None, problem: str) -> _Check:
    expectation.severity = FailureSeverity.WARNING  # the row is set aside, the run goes on
    return _Check(expectation, column, problem if column is None else f"{column}: {problem}", "row")


def _between(column: str, low: float | None, high: float | None) -> ColumnMapExpectation:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)


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


def _places(chunk: Sequence[pa.Table]) -> Callable[[int], str]:
    """What names a row of `chunk`: its source and its position there."""
    ends = np.cumsum([part.num_rows for part in chunk])

    def place(line: int) -> str:
        at = int(np.searchsorted(ends, line, side="right"))
        part, row = chunk[at], line - int(ends[at]) + chunk[at].num_rows
        return f"{part.column(tables.SOURCE)[row]}[{part.column(tables.POSITION)[row]}]"

    return place


def _part(part: pa.Table, reasons: list[list[str]]) -> tuple[pa.Table, pa.Table]:
    """Clean rows, and quarantined ones with their reasons."""
    good = pa.array([not each for each in reasons], pa.bool_())
    told = pa.array([each for each in reasons if each], pa.list_(pa.string()))
    return part.filter(good), part.filter(pc.invert(good)).append_column(tables.REASONS, told)


def _with_reasons(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(tables.REASONS, pa.list_(pa.string())))


def _count(counts: Counter[str], reasons: Iterable[Iterable[str]]) -> None:
    """Count the reasons of further rows; those of which there are too many kinds together."""
    for each in reasons:
        for reason in each:
            counts[reason if reason in counts or len(counts) < _TOLD_APART else _OTHERS] += 1


def _listed(counts: Counter[str]) -> dict[str, int]:
    """The most frequent reasons with their rows, and all others together."""
    others = counts.pop(_OTHERS, 0)
    listed = dict(counts.most_common(_LISTED))
    others += counts.total() - sum(listed.values())
    return listed | ({_OTHERS: others} if others else {})


def _figures(
    judge: _Judge, suite: str, figures: dict[str, float], checks: Sequence[_Check]
) -> list[_Outcome]:
    """Outcomes of limits of the dataset as a whole, on a frame of one line."""
    frame = pd.DataFrame({name: [float(value)] for name, value in figures.items()})
    return judge.run(suite, frame, checks) if checks else []


def _check_table(
    judge: _Judge,
    dataset: str,
    layout: Layout,
    expectations: Expectations,
    profile: Profile,
    rows: int,
    reasons: Counter[str],
) -> None:
    bad, clean = rows - profile.rows, profile.rows
    limit, least, most = expectations.max_quarantined, expectations.min_rows, expectations.max_rows
    figures: dict[str, float] = {"rows set aside": bad / max(rows, 1), "clean rows": clean}
    few_bad = ExpectQuarantineToBeSmall(column="rows set aside", max_value=limit)
    enough = ExpectCleanRowsToBeEnough(column="clean rows", min_value=least)
    checks = [
        _Check(few_bad, None, f"rows set aside are more than max_quarantined = {limit:.1%}"),
        _Check(enough, None, f"clean rows are fewer than min_rows = {least}"),
    ]
    if most is not None:
        few = ExpectCleanRowsToBeFew(column="clean rows", max_value=most)
        checks.append(_Check(few, None, f"clean rows are more than max_rows = {most}"))
    whole, share = len(checks), expectations.min_class_share
    if layout.label is not None:
        for name in expectations.classes:
            column = f"{layout.label}: {name}"
            figures[column] = profile.classes.get(name, 0) / max(clean, 1)
            means = f"a class is below min_class_share = {share:.1%}"
            checks.append(
                _Check(ExpectClassShareToBeLarge(column=column, min_value=share), layout.label, means)
            )
    outcomes = _figures(judge, "table", figures, checks)
    if not outcomes[0].success:
        raise DataError(
            f"{dataset}: {bad} of {rows} rows ({bad / rows:.1%}): {outcomes[0].check.means}: "
            f"{_examples(judge.outcomes('read', 'rows'))}"
        )
    for outcome in outcomes[1:whole]:
        if not outcome.success:
            told = "".join(
                f"; set aside most often, {count} times: {reason}" for reason, count in reasons.most_common(1)
            )
            raise DataError(f"{dataset}: {clean} {outcome.check.means}{told}")
    small = ", ".join(
        f"{name!r} has {profile.classes.get(name, 0)} of {clean} rows "
        f"({profile.classes.get(name, 0) / max(clean, 1):.1%})"
        for name, outcome in zip(expectations.classes, outcomes[whole:], strict=False)
        if not outcome.success
    )
    if small:
        raise DataError(f"{dataset}: column {layout.label!r}: {outcomes[whole].check.means}: {small}")


def _check_missing(judge: _Judge, dataset: str, expectations: Expectations, profile: Profile) -> None:
    figures = {name: profile.column(name).missing for name in expectations.missing}
    checks = [
        _Check(
            ExpectColumnMissingShareToBeSmall(column=name, max_value=most),
            name,
            f"more of its values are missing than missing.{name} = {most:.1%}",
        )
        for name, most in expectations.missing.items()
    ]
    _stop_where_broken(dataset, _figures(judge, "missing", figures, checks), figures)


def _check_drift(judge: _Judge, dataset: str, most: float | None, moved: dict[str, float]) -> None:
    """Hold each column's distance to `max_drift`; without one, only show it."""
    means = "its distance from the version accepted last" + (
        ""
        if most is None
        else f" is above max_drift = {most:g}; if it is meant: `latentops accept {dataset}`"
    )
    checks = [
        _Check(ExpectColumnDriftToBeSmall(column=name, max_value=1.0 if most is None else most), name, means)
        for name in moved
    ]
    _stop_where_broken(dataset, _figures(judge, "drift", moved, checks), moved)


def _check_leaks(judge: _Judge, dataset: str, expectations: Expectations, predicts: dict[str, float]) -> None:
    """Hold what each column alone says of the label to `max_leak`; without one, only show it."""
    most = expectations.max_leak
    limit = expectations.leak if most is None else most
    means = f"alone it predicts the label better than {'leak' if most is None else 'max_leak'} = {limit:g}"
    checks = [
        _Check(ExpectColumnLeakToBeSmall(column=name, max_value=limit), name, means) for name in predicts
    ]
    outcomes = _figures(judge, "leaks", predicts, checks)
    if most is not None:
        _stop_where_broken(dataset, outcomes, predicts)


def _stop_where_broken(dataset: str, outcomes: Iterable[_Outcome], figures: dict[str, float]) -> None:
    broken = [each.check for each in outcomes if not each.success]
    if broken:
        told = "; ".join(
            f"column {each.column!r}: {each.means}: {figures[str(each.column)]:g}" for each in broken
        )
        raise DataError(f"{dataset}: {told}")


def _examples(broken: Iterable[_Outcome]) -> str:
    """Each broken row expectation with its count and the first rows that break it."""
    return "; ".join(
        f"{outcome.check.means} in {outcome.unexpected} rows ({', '.join(outcome.first)}"
        f"{', …' if outcome.unexpected > _SHOWN else ''})"
        for outcome in broken
        if outcome.unexpected
    )


def _flags(profile: Profile, predicts: dict[str, float], leak: float) -> list[str]:
    """What a person should look at, though it stops nothing."""
    flags = [
        f"{name}: predicts the label alone ({skill:.3g}, where 1 is always and 0 no better than guessing)"
        for name, skill in predicts.items()
        if skill >= leak
    ]
    flags += [f"{column.name}: constant" for column in profile.columns if column.constant and profile.rows]
    if profile.duplicates:
        flags.append(f"clean rows that are the same as an earlier one: {profile.duplicates}")
    return flags


def _front(summary: dict[str, Any] | None, stopped: str | None) -> str:
    """What the first page of the data docs begins with, as HTML."""
    if summary is None:
        return f"<p><strong>Stopped:</strong> {escape(stopped or 'by an error')}</p>"
    told = f"{summary['rows']:,} rows: {summary['clean']:,} clean, {summary['quarantined']:,} set aside."
    reasons = [(reason, f"{rows:,}") for reason, rows in summary["reasons"].items()]
    columns = [
        (
            each["name"],
            f"{each['missing']:.1%}",
            *("–" if each[figure] is None else f"{each[figure]:.3f}" for figure in ("predicts", "moved")),
        )
        for each in summary["columns"]
    ]
    since = summary["accepted"]
    compared = (
        f"moved: distance from the version accepted last ({since['rows']:,} rows), 1 is nothing in common"
        if since
        else "moved: no version was accepted yet"
    )
    return (
        f"<p>{told}</p>"
        + "".join(f"<p><strong>Look at</strong> {escape(flag)}</p>" for flag in summary["flags"])
        + (_table("Set aside", ("reason", "rows"), reasons) if reasons else "")
        + _table("Columns", ("column", "missing", "predicts", "moved"), columns)
        + f"<p>predicts: the label by this column alone, 0 is guessing and 1 always; {compared}.</p>"
    )


def _met_and_not(outcomes: Sequence[_Outcome]) -> str:
    """How many expectations are met, and which are not, as HTML."""
    broken = [outcome.check for outcome in outcomes if not outcome.success]
    told = f"{len(outcomes) - len(broken)} of {len(outcomes)} expectations met"
    about = (
        check.means if check.level == "row" or check.column is None else f"{check.column}: {check.means}"
        for check in broken
    )
    return escape("; not met: ".join([told, *(["; ".join(about)] if broken else [])]))


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: data docs</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;"
    "border-bottom:1px solid #d5dae2;overflow-wrap:anywhere}td+td,th+th{text-align:right;white-space:nowrap}"
    "h2{font-size:1.1rem;margin-top:2rem}a{color:#0b57a4}"
)
