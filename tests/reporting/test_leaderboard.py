import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from latentops.errors import DataError
from latentops.reporting import leaderboard, results
from latentops.reporting.results import Difference, Row

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]
DATASETS = ["digits", "breast_cancer", "digit_columns"]
COLUMNS = {
    "dataset",
    "kind",
    "name",
    "role",
    "latent_dim",
    "members",
    "metrics",
    "corruption",
    "diagnosis",
    "profiles",
}


def row(name: str, role: str, value: float | None, metric: str = "probe_accuracy") -> Row:
    metrics = (
        {} if value is None else {metric: {"mean": value, "low": value, "high": value, "values": [value]}}
    )
    fields = {"dataset": "d", "kind": "image", "name": name, "role": role, "latent_dim": None, "members": 1}
    return Row.model_validate({**fields, "metrics": metrics})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.01234, "−0.0123"),
        (1.23456, "1.235"),
        (123.456, "123"),
        (1234.5, "1,230"),
        (-98765.0, "−98,800"),
        (12345678.0, "1.23e+07"),
    ],
)
def test_numbers_have_as_many_digits_as_say_something(value: float | None, text: str) -> None:
    assert leaderboard.number(value) == text


def printed(comparisons: list[results.Comparison], width: int, terminal: bool) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False
    )
    leaderboard.print_table(comparisons, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_row_has_the_schema_and_no_more(project: Path) -> None:
    leaderboard.write(DATASETS, project)
    rows = json.loads((project / leaderboard.PATH).read_text())
    assert len(rows) == 3 * 25
    for one in rows:
        assert set(one) == COLUMNS
        assert one["role"] in {"variant", "rival", "reference"}
        assert isinstance(one["members"], int)
        for metric in one["metrics"].values():
            assert set(metric) == {"mean", "low", "high", "values"}
            assert metric["low"] <= metric["mean"] <= metric["high"]
            assert len(metric["values"]) == one["members"]


def test_the_same_results_give_the_same_bytes(project: Path) -> None:
    leaderboard.write(DATASETS, project)
    first = (project / leaderboard.PATH).read_bytes()
    leaderboard.write(DATASETS, project)
    assert (project / leaderboard.PATH).read_bytes() == first


def test_the_order_of_rows_in_a_comparison_does_not_matter(project: Path, edit: Edit) -> None:
    leaderboard.write(["digits"], project)
    first = (project / leaderboard.PATH).read_bytes()
    edit("digits", lambda value: value["rows"].reverse())
    leaderboard.write(["digits"], project)
    assert (project / leaderboard.PATH).read_bytes() == first


def test_what_is_loaded_is_what_was_written(project: Path) -> None:
    comparisons = leaderboard.write(DATASETS, project)
    written = [one for each in comparisons for one in leaderboard.ordered(each.rows, each.primary)]
    assert leaderboard.load(project) == written


def test_floors_that_beat_every_variant_come_first_and_are_ahead() -> None:
    rows = [
        row("b", "variant", 0.9),
        row("pca", "rival", 0.97),
        row("raw", "reference", 0.95),
        row("kNN", "reference", 0.8),
        row("a", "variant", 0.85),
        row("forest", "reference", None),
    ]
    names = [one.name for one in leaderboard.ordered(rows, "probe_accuracy")]
    assert names == ["pca", "raw", "b", "a", "kNN", "forest"]
    assert [one.name for one in leaderboard.ahead(rows, "probe_accuracy")] == ["pca", "raw"]
    assert leaderboard.ranks(leaderboard.ordered(rows, "probe_accuracy")) == {"b": 1, "a": 2}


def test_a_reference_that_ties_with_the_best_variant_is_not_ahead() -> None:
    rows = [row("a reference", "reference", 0.9), row("variant", "variant", 0.9)]
    assert [one.name for one in leaderboard.ordered(rows, "probe_accuracy")] == ["variant", "a reference"]
    assert leaderboard.ahead(rows, "probe_accuracy") == []


def test_less_error_is_better() -> None:
    rows = [
        row("worse", "variant", 0.2, "reconstruction_error"),
        row("better", "variant", 0.1, "reconstruction_error"),
    ]
    assert [one.name for one in leaderboard.ordered(rows, "reconstruction_error")] == ["better", "worse"]


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("auroc", 0.01, 0.02, "better"),
        ("auroc", -0.02, -0.01, "worse"),
        ("auroc", -0.01, 0.01, "no difference shown"),
        ("auroc", 0.0, 0.01, "no difference shown"),
        ("reconstruction_error", 0.01, 0.02, "worse"),
    ],
)
def test_a_winner_is_named_only_where_the_interval_excludes_zero(
    metric: str, low: float, high: float, verdict: str
) -> None:
    one = Difference(variant="a", against="b", metric=metric, difference=(low + high) / 2, low=low, high=high)
    assert one.verdict == verdict


@pytest.mark.parametrize(("width", "terminal"), [(100, True), (80, True), (60, True), (200, False)])
def test_the_printed_table_fits_and_stays_aligned(finished: Path, width: int, terminal: bool) -> None:
    text = printed([results.comparison("digits", finished)], width, terminal)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "\x1b" not in text
    _, header, *lines = text.splitlines()
    for title in ("name", "probe accuracy"):
        at = header.index(title)
        for line in lines[:17]:
            assert line[at - 2 : at] == "  "
            assert line[at] != " "


def test_the_printed_table_marks_the_chosen_the_references_ahead_and_the_gates(finished: Path) -> None:
    text = printed([results.comparison(name, finished) for name in ("digits", "digit_columns")], 100, False)
    assert "denoising *" in text
    assert "raw ↑" in text
    assert "denoising: 5 of 5 gates passed" in text
    assert "sequence: 4 of 5 gates passed; not met: beats PCA-8" in text
    assert "8 more untrained encoders" in text


@pytest.mark.parametrize("width", [100, 80])
def test_a_metric_that_no_row_has_takes_no_column(project: Path, edit: Edit, width: int) -> None:
    before = printed([results.comparison("digits", project)], width, True)

    def lose(value: dict[str, Any]) -> None:
        for one in value["rows"]:
            one["metrics"].pop("auroc", None)

    edit("digits", lose)
    after = printed([results.comparison("digits", project)], width, True)
    assert "AUROC" in before.splitlines()[1]
    assert after.splitlines()[1].split() == [
        word for word in before.splitlines()[1].split() if word != "AUROC"
    ]


def test_names_are_printed_as_they_are_never_as_markup(project: Path, edit: Edit) -> None:
    def rename(value: dict[str, Any]) -> None:
        value["rows"][0]["name"] = "[red]odd[/]"

    edit("digits", rename)
    assert "[red]odd[/]" in printed([results.comparison("digits", project)], 100, False)


def test_a_missing_comparison_is_one_line_that_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"results/compare/digits\.json: not found; `dvc repro compare@digits`"
    ):
        leaderboard.write(["digits"], tmp_path)
    assert not (tmp_path / leaderboard.PATH).exists()


def test_a_missing_leaderboard_is_one_line_that_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaderboard\.json: not found; `dvc repro report`"):
        leaderboard.load(tmp_path)


def test_a_broken_comparison_is_one_line_that_names_the_key(project: Path, edit: Edit) -> None:
    edit("digits", lambda value: value["rows"][3].update(role="judge"))
    with pytest.raises(DataError, match=r"digits\.json: rows\.3\.role: ") as caught:
        results.comparison("digits", project)
    assert "\n" not in str(caught.value)
