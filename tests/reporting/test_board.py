from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentops.reporting.board import board
from latentops.reporting.results import comparison

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]


def test_rows_of_all_datasets_are_on_one_scale(finished: Path) -> None:
    found = [comparison(name, finished) for name in ("digits", "breast_cancer")]
    both = board(found)
    assert [line.row for line in both.lines] == [
        line.row for one in found for line in board([one]).lines
    ]  # fmt: skip
    assert both.values("dataset") == ["digits", "breast_cancer"]
    assert both.sorted_by is None
    assert board(found[:1]).sorted_by == "probe_accuracy"
    for line in both.lines:
        primary = [each.metric for each, cell in zip(both.columns, line.cells, strict=True) if cell.primary]
        assert primary == ["probe_accuracy" if line.row.dataset == "digits" else "auroc"]


def test_the_scale_holds_the_variants_and_what_beats_them_and_far_floors_are_arrows(finished: Path) -> None:
    one = comparison("digits", finished)
    column = board([one]).columns[0]
    assert column.domain is not None
    low, high = column.domain
    for row in one.rows:
        mean = row.mean("probe_accuracy")
        if mean is not None and (row.role == "variant" or row.name == "raw"):
            assert low <= mean <= high
    assert column.cut, "the untrained encoders lie far below"
    assert low > 0.78


def test_a_metric_that_nobody_has_heard_of_has_a_column_on_demand(edit: Edit, project: Path) -> None:
    def add(value: dict[str, Any]) -> None:
        value["rows"][0]["metrics"]["new_thing"] = {"mean": 0.5, "low": 0.4, "high": 0.6, "values": [0.5]}

    edit("digits", add)
    found = board([comparison("digits", project)])
    (column,) = [each for each in found.columns if each.metric == "new_thing"]
    assert column.more
    assert column.title == "new thing"
    at = found.columns.index(column)
    assert sorted((line.cells[at].interval for line in found.lines), reverse=True)[0] == "0.400–0.600"


def test_untrained_encoders_of_variants_not_chosen_are_aside(finished: Path) -> None:
    found = board([comparison("digits", finished)])
    names = {line.row.name for line in found.lines if line.aside}
    assert len(names) == found.aside == 8
    assert "untrained denoising" not in names


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer"])
def test_the_primary_metric_comes_first(finished: Path, dataset: str) -> None:
    one = comparison(dataset, finished)
    assert board([one]).columns[0].metric == one.primary
