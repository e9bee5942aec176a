"""Great Expectations takes seconds to import, so all that needs it is in this one file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from latentops.config import Dataset, Params
from latentops.data import leaks, table
from latentops.data.expectations import validation
from latentops.errors import ConfigError, DataError


def with_cells(raw: pa.Table, column: str, cells: dict[int, object]) -> pa.Table:
    """`raw` with other values in the given rows of one column."""
    values = raw.column(column).to_pylist()
    for row, value in cells.items():
        values[row] = value
    at = raw.column_names.index(column)
    return raw.set_column(at, raw.schema.field(column), pa.array(values, raw.schema.field(column).type))


def changed(raw: pa.Table, column: str, row: int, at: int, value: float | None) -> list[float | None]:
    """A list cell with one of its values replaced."""
    cell: list[float | None] = raw.column(column)[row].as_py()
    cell[at] = value
    return cell


def validate(raw: pa.Table, dataset: Dataset, **options: object) -> validation.Validated:
    return validation.validate(raw, "set", dataset.source, dataset.expectations, **options)  # type: ignore[arg-type]


def reasons_by_position(validated: validation.Validated) -> dict[int, list[str]]:
    rows = validated.quarantined
    return dict(zip(rows.column(".position").to_pylist(), rows.column(".reasons").to_pylist(), strict=True))


def test_embedded_sets_are_as_expected(raw: pa.Table, dataset: Dataset, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    validated = validate(raw, dataset, docs=docs)
    assert validated.clean.equals(raw)
    assert validated.quarantined.num_rows == 0
    assert validated.quarantined.column_names == [*raw.column_names, ".reasons"]
    assert all(each["success"] for each in validated.summary["expectations"])
    assert "Great Expectations" in (docs / "index.html").read_text(encoding="utf-8")
    pages = {page.stem for page in (docs / "validations").rglob("*.html")}
    assert pages == {"columns", "rows", "table", "leaks"}


def test_bad_images_are_set_aside_with_reason_and_position(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    raw, dataset = raw_tables["digits"], params.dataset("digits")
    cells: dict[int, object] = {
        3: changed(raw, "pixels", 3, 7, 17.0),
        10: changed(raw, "pixels", 10, 63, -0.5),
        500: changed(raw, "pixels", 500, 0, float("nan")),
        501: changed(raw, "pixels", 501, 0, float("inf")),
        502: changed(raw, "pixels", 502, 5, None),
        503: None,
        1796: changed(raw, "pixels", 1796, 0, 99.0),
    }
    broken = with_cells(with_cells(raw, "pixels", cells), "digit", {3: "ten", 20: None})
    validated = validate(broken, dataset)
    missing = "pixels: missing or not finite"
    assert reasons_by_position(validated) == {
        3: ["digit: not a declared class", "pixels: above 16"],
        10: ["pixels: below 0"],
        20: ["digit: missing"],
        500: [missing],
        501: [missing],
        502: [missing],
        503: [missing],
        1796: ["pixels: above 16"],
    }
    summary = validated.summary
    assert (summary["rows"], summary["clean"], summary["quarantined"]) == (1797, 1789, 8)
    assert summary["reasons"][missing] == 4
    assert validated.clean.num_rows + validated.quarantined.num_rows == raw.num_rows
    assert set(reasons_by_position(validated)).isdisjoint(validated.clean.column(".position").to_pylist())


def test_bad_measurements_are_set_aside_by_column(params: Params, raw_tables: dict[str, pa.Table]) -> None:
    raw, dataset = raw_tables["breast_cancer"], params.dataset("breast_cancer")
    broken = with_cells(raw, "mean radius", {0: 61.0, 1: None})
    broken = with_cells(broken, "area error", {1: float("nan"), 2: float("-inf")})
    assert reasons_by_position(validate(broken, dataset)) == {
        0: ["mean radius: outside [1, 60]"],
        1: ["mean radius: missing or not finite", "area error: missing or not finite"],
        2: ["area error: missing or not finite"],
    }


def test_bad_sequences_are_set_aside_by_length_and_value(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    raw, dataset = raw_tables["digit_columns"], params.dataset("digit_columns")
    step = [1.0] * 8
    cells: dict[int, object] = {
        0: step * 9,
        1: [],
        2: None,
        3: [*step, 1.0],
        4: [*step, *step[:-1], 20.0],
        5: [*step[:-1], float("nan")],
    }
    assert reasons_by_position(validate(with_cells(raw, "values", cells), dataset)) == {
        0: ["values: steps outside [1, 8]"],
        1: ["values: steps outside [1, 8]"],
        2: ["values: steps outside [1, 8]"],
        3: ["values: not a multiple of 8 values"],
        4: ["values: above 16"],
        5: ["values: missing or not finite"],
    }


def test_a_table_without_a_column_stops_with_its_name(
    raw: pa.Table, dataset: Dataset, tmp_path: Path
) -> None:
    for column in (raw.column_names[-1], dataset.source.label):
        with pytest.raises(DataError, match=rf"set: 1 of \d+ columns .*'{column}' is \(missing\)") as caught:
            validate(raw.drop_columns([column]), dataset, docs=tmp_path / "docs")
        assert "\n" not in str(caught.value)
        assert (tmp_path / "docs" / "index.html").exists(), "the docs show what went wrong"


def test_a_column_of_a_wrong_type_stops_with_both_types(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    raw, dataset = raw_tables["breast_cancer"], params.dataset("breast_cancer")
    at = raw.column_names.index("worst area")
    text = raw.set_column(at, "worst area", raw.column("worst area").cast(pa.string()))
    with pytest.raises(DataError, match="column 'worst area' is string, expected double"):
        validate(text, dataset)


def test_too_few_rows_stop(raw: pa.Table, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="99 clean rows are fewer than min_rows"):
        validate(raw.slice(0, 99), dataset)
    with pytest.raises(DataError, match="0 clean rows are fewer than min_rows"):
        validate(raw.slice(0, 0), dataset)


def test_a_few_new_rows_may_skip_the_limits_of_a_dataset_but_not_those_of_a_row(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    few = with_cells(raw_tables["digits"].slice(0, 5), "digit", {2: "ten"})
    validated = validate(few, params.dataset("digits"), limits="rows")
    assert (validated.clean.num_rows, validated.quarantined.num_rows) == (4, 1)
    with pytest.raises(DataError, match="'pixels'"):
        validate(few.drop_columns(["pixels"]), params.dataset("digits"), limits="rows")


def test_too_many_bad_rows_stop_with_column_count_and_first_rows(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    raw, dataset = raw_tables["breast_cancer"], params.dataset("breast_cancer")
    broken = with_cells(raw, "worst area", {row: 1e6 + row for row in range(100, 200)})
    message = (
        r"100 of 569 rows \(17\.6%\): .*max_quarantined = 2\.0%: "
        r"worst area: outside \[10, 10000\] in 100 rows \(embedded\[100\] = 1000100\.0, .*, …\)"
    )
    with pytest.raises(DataError, match=message) as caught:
        validate(broken, dataset)
    assert "\n" not in str(caught.value)


def test_a_class_that_all_but_vanished_stops_with_its_count(
    params: Params, raw_tables: dict[str, pa.Table]
) -> None:
    raw = raw_tables["digits"]
    sevens = np.flatnonzero(np.array(raw.column("digit").to_pylist()) == "7")
    kept = np.setdiff1d(np.arange(raw.num_rows), sevens[5:])
    with pytest.raises(DataError, match=r"column 'digit': .*'7' has 5 of \d+ rows \(0\.3%\)"):
        validate(raw.take(pa.array(kept)), params.dataset("digits"))


def test_a_limit_on_what_the_data_lacks_is_refused(params: Params, raw_tables: dict[str, pa.Table]) -> None:
    cancer, digits = params.dataset("breast_cancer"), params.dataset("digits")
    unknown = cancer.expectations.model_copy(update={"columns": {"worst aria": (0.0, 1.0)}})
    with pytest.raises(ConfigError, match="did you mean 'worst area'"):
        validation.validate(raw_tables["breast_cancer"], "set", cancer.source, unknown)
    lengths = digits.expectations.model_copy(update={"lengths": (1, 8)})
    with pytest.raises(ConfigError, match="no lengths"):
        validation.validate(raw_tables["digits"], "set", digits.source, lengths)


def test_validating_again_gives_the_same_bytes(
    params: Params, raw_tables: dict[str, pa.Table], tmp_path: Path
) -> None:
    raw = with_cells(raw_tables["breast_cancer"], "mean radius", {0: 61.0})
    written = []
    for name in ("first", "second"):
        validated = validate(raw, params.dataset("breast_cancer"))
        table.write(tmp_path / name, validated.quarantined)
        written.append(((tmp_path / name).read_bytes(), validated.summary))
    assert written[0] == written[1]


def test_a_leak_is_found_where_classes_take_turns() -> None:
    labels = np.array(["a", "b"] * 20, dtype=object)
    columns = {"copy": labels.copy(), "noise": np.random.default_rng(0).normal(size=40)}
    found = leaks.predictive(columns, labels)
    assert found["copy"] == 1.0
    assert found["noise"] < 0.9
