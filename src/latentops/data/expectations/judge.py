"""Runs suites with Great Expectations, frame after frame, and writes the data docs of all that was run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from latentops import atomic
from latentops.data.expectations.checks import SHOWN, Check, Outcome
from latentops.data.expectations.pages import html_page, met_and_not
from latentops.errors import DataError


class Judge:
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
        self._outcomes: dict[str, list[Outcome]] = {}

    def run(
        self,
        suite: str,
        frame: pd.DataFrame,
        checks: Sequence[Check],
        place: Callable[[int], str] | None = None,
    ) -> list[Outcome]:
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

    def outcomes(self, *suites: str) -> list[Outcome]:
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
                f'<li><a href="{pages[suite].as_posix()}">{suite}</a>: {met_and_not(outcomes)}</li>'
                for suite, outcomes in self._outcomes.items()
            )
            body = f"<main>{front}</main><h2>Great Expectations</h2><ul>{links}</ul>"
            atomic.write_text(aside / "index.html", html_page(self._dataset, body))

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


def _outcome(check: Check, result: Any, frame: pd.DataFrame, place: Callable[[int], str] | None) -> Outcome:
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
        first = tuple(f"{place(line)} = {values.iloc[line]}" for line in lines[:SHOWN])
    return Outcome(check, bool(result.success), len(lines), lines, first)


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
