"""Parquet gives what delimited text does, its columns being typed already, and lists besides."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentops.config import Source
from latentops.data import table
from latentops.errors import DataError
from tests.data.readers.made import read, source


def stored(*, kind: str = "tabular", **changes: object) -> Source:
    limits = {"value_range": [0, 255]} if kind == "image" else {}
    return source("a.parquet", kind=kind, **{"read": {"format": "parquet"}, **limits, **changes})


def written(folder: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder


@pytest.mark.parametrize(
    ("type_", "column", "expected"),
    [
        ("numeric", pa.array([1, None, 3], pa.int8()), [1, None, 3]),
        ("numeric", pa.array([0.5, float("nan"), 3], pa.float32()), [0.5, None, 3]),
        ("numeric", pa.array([True, False, None]), [1, 0, None]),
        ("numeric", pa.array([Decimal("1.50"), None, Decimal("-2.25")]), [1.5, None, -2.25]),
        ("numeric", pa.array([" 1", "", "2e1"]), [1, None, 20]),
        ("categorical", pa.array(["a", None, " b "]).dictionary_encode(), ["a", None, "b"]),
        ("categorical", pa.array([1, None, 2]), ["1", None, "2"]),
        ("categorical", pa.array([True, False, None]), ["true", "false", None]),
        ("boolean", pa.array([True, False, None]), ["true", "false", None]),
        ("boolean", pa.array([1, 0, None]), ["true", "false", None]),
        ("boolean", pa.array(["Yes", "n", None]), ["true", "false", None]),
        ("date", pa.array([date(1970, 1, 2), None, date(1969, 12, 31)]), [86400, None, -86400]),
        ("date", pa.array([datetime(1970, 1, 2), None, datetime(1970, 1, 1, 0, 0, 1)]), [86400, None, 1]),
        (
            "date",
            pa.array([datetime(1970, 1, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("ns", "Asia/Tokyo")),
            [3600] * 3,
        ),
        ("date", pa.array(["1970-01-02", None, "1970-01-01T00:00:01Z"]), [86400, None, 1]),
    ],
)
def test_columns_of_any_type(tmp_path: Path, type_: str, column: pa.Array, expected: list[object]) -> None:
    found = read(stored(columns={"x": type_}), written(tmp_path, {"x": column}))
    assert found.column("x").to_pylist() == expected
    assert found.column(".problem").null_count == 3


def test_a_value_that_cant_be_read_is_missing_and_says_so(tmp_path: Path) -> None:
    columns = {"n": pa.array([2**60 + 1, 1]), "s": pa.array(["1", "old"]), "d": pa.array(["?", "x"])}
    types = {"n": "numeric", "s": "numeric", "d": "date"}
    found = read(
        stored(columns=types, read={"format": "parquet", "missing": ["?"]}), written(tmp_path, columns)
    )
    assert found.select(list(types)).to_pylist() == [
        {"n": None, "s": 1, "d": None},
        {"n": 1, "s": None, "d": None},
    ]
    first, second = found.column(".problem").to_pylist()
    assert "column 'n': '1152921504606846977' is too large" in first
    assert "column 's': 'old' is not a number; column 'd': 'x' is not a date" in second


@pytest.mark.parametrize("part", [64, 2**25])
def test_images_are_lists_of_rows_or_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(table, "PART_BYTES", part)
    values = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4))
    colour = pa.array(values.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8()))))
    found = read(stored(kind="image", channels=2), written(tmp_path, {"pixels": colour}))
    layout = table.layout_of(found, None)
    assert layout.bytes
    assert np.array_equal(table.dense(found, layout), values)
    grey = pa.array([*values[:, 0].tolist(), [[1] * 4] * 2, None], pa.list_(pa.list_(pa.float32())))
    found = read(stored(kind="image"), written(tmp_path, {"pixels": grey}))
    layout = table.layout_of(found, None)
    assert not layout.bytes
    assert np.array_equal(table.dense(found, layout)[:5], values[:, :1])
    assert found.column(".problem").to_pylist()[5:] == ["pixels: 8 values, expected 12", None]
    assert found.column("pixels").null_count == 2


def test_sequences_are_lists_of_values_or_of_steps(tmp_path: Path) -> None:
    steps = pa.array(
        [[[1, 2], [3, 4]], None, [], [[5, 6]], [[7, None]], [[8]]], pa.list_(pa.list_(pa.int16()))
    )
    columns = {"values": steps, "y": list("abcdef"), "extra": [0] * 6}
    found = read(stored(kind="sequence", channels=2, label="y", drop=["extra"]), written(tmp_path, columns))
    values = found.column("values").to_pylist()
    assert values[:4] == [[1, 2, 3, 4], None, [], [5, 6]]
    assert np.isnan(values[4][1])
    assert values[5] is None
    assert found.column(".problem").to_pylist()[4:] == [
        "values: missing values",
        "values: 1 values, expected a multiple of 2",
    ]
    flat = pa.array([[1.0, 2.0, 3.0, 4.0]])
    found = read(stored(kind="sequence", channels=2), written(tmp_path, {"values": flat}))
    assert found.column("values").to_pylist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({"x": pa.array([[1]])}, {}, r"column 'x' is list<.*which its use can't be"),
        ({"x": pa.array([datetime(2020, 1, 1)])}, {}, "column 'x' is timestamp.*which its use can't be"),
        ({"x": pa.array([], pa.float64())}, {}, "no rows"),
        ({"z": pa.array([1])}, {}, "no column 'x'"),
        ({"x": pa.array([1]), "z": pa.array([1])}, {}, "unknown column 'z'"),
        ({"pixels": pa.array([[1]])}, {"kind": "image", "columns": {}}, "holds lists of 1 levels"),
        ({"values": pa.array([["a"]])}, {"kind": "sequence", "columns": {}}, "not lists of numbers"),
    ],
)
def test_a_table_of_something_else_is_refused(
    tmp_path: Path, columns: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(stored(**{"columns": {"x": "numeric"}, **changes}), written(tmp_path, columns))
    assert "a.parquet" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 100, -10])
def test_a_damaged_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = written(tmp_path, {"x": list(range(100))}) / "a.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"not a Parquet file .*get it again") as caught:
        read(stored(columns={"x": "numeric"}), tmp_path)
    assert "\n" not in str(caught.value)
