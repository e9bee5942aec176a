"""Delimited text against Python's own reader, and every row accounted for."""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.data import readers
from latentops.data.readers import delimited, files
from latentops.errors import DataError
from tests.data.readers.made import read, source

PEOPLE = {"age": "numeric", "job": "categorical"}


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def people(read: dict[str, object] | None = None, **changes: object):
    return source("a.csv", read={"format": "csv", **(read or {})}, **{"columns": PEOPLE, **changes})


def test_every_type_of_column(tmp_path: Path) -> None:
    text = (
        "n,c,b,d,y\n 1.5 ,red, Yes,2020-01-02,u\n-2e3, ?,0,2020-01-02T01:00:00+01:00,v\n"
        ",NaN,,,\n+7,7,FALSE,2020-01-02 00:00:01.5,u\n"
    )
    columns = {"n": "numeric", "c": "categorical", "b": "boolean", "d": "date"}
    found = source("a.csv", read={"format": "csv", "missing": ["?"]}, columns=columns, label="y")
    table = read(found, written(tmp_path, text))
    assert table.column("n").to_pylist() == [1.5, -2000.0, None, 7.0]
    assert table.column("c").to_pylist() == ["red", None, "NaN", "7"]
    assert table.column("b").to_pylist() == ["true", "false", None, "false"]
    midnight = 1577923200.0
    assert table.column("d").to_pylist() == [midnight, midnight, None, midnight + 1.5]
    assert table.column("y").to_pylist() == ["u", "v", None, "u"]
    assert table.column(".problem").null_count == 4
    assert table.column(".source").to_pylist() == ["a.csv"] * 4


def test_a_cell_that_cant_be_read_is_missing_and_says_so(tmp_path: Path) -> None:
    text = "n,b,d\n1,yes,2020-01-01\nold,2,01/02/2020\n9007199254740993,no,2020-13-01\n0x1F,,\n"
    found = source("a.csv", read={"format": "csv"}, columns={"n": "numeric", "b": "boolean", "d": "date"})
    table = read(found, written(tmp_path, text))
    assert table.column("n").to_pylist() == [1, None, None, None]
    assert table.column("b").to_pylist() == ["true", None, "false", None]
    problems = table.column(".problem").to_pylist()
    assert problems[0] is None
    assert problems[1].startswith("column 'n': 'old' is not a number; column 'b': '2' is neither true")
    assert "column 'd': '01/02/2020' is not a date in ISO 8601" in problems[1]
    assert "column 'n': '9007199254740993' is too large a number to be kept exactly" in problems[2]
    assert problems[3] == "column 'n': '0x1F' is not a number"


def test_dates_are_read_as_they_are_said_to_be_written(tmp_path: Path) -> None:
    found = source("a.csv", read={"format": "csv", "dates": "%d/%m/%Y"}, columns={"d": "date"})
    table = read(found, written(tmp_path, "d\n01/02/1970\n2020-01-01\n"))
    assert table.column("d").to_pylist() == [31 * 86400.0, None]
    assert "as read.dates says (%d/%m/%Y)" in table.column(".problem").to_pylist()[1]


@pytest.mark.parametrize("block", [40, 64, 2**20])
@pytest.mark.parametrize("header", [True, False])
def test_ragged_rows_keep_their_places_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, header: bool
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    lines = []
    for row in range(60):
        lines.append({3: f"{row}", 4: f"{row},a,b", 17: f"{row},a,", 59: "x"}.get(row, f'{row},"j\n{row}"'))
        lines += [""] * (row % 7 == 0)  # a blank line is no row
    text = "\n".join((["age,job"] if header else []) + lines) + "\n"
    how: dict[str, object] = {} if header else {"header": ["age", "job"]}
    table = read(people(how), written(tmp_path, text))
    bad = {
        3: "1 cells, expected 2",
        4: "3 cells, expected 2",
        17: "3 cells, expected 2",
        59: "1 cells, expected 2",
    }
    assert table.column(".position").to_pylist() == list(range(60))
    assert table.column(".problem").to_pylist() == [bad.get(row) for row in range(60)]
    assert table.column("age").to_pylist() == [None if row in bad else row for row in range(60)]
    assert table.column("job").to_pylist() == [None if row in bad else f"j\n{row}" for row in range(60)]


CELL = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    chunk=st.sampled_from([1, 7, 2**20]),
)
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    encoding: str,
    chunk: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [("title", "body"), *rows]
    )
    (folder / "a.csv").write_bytes(text.getvalue().encode(encoding))
    how = {"format": "csv", "delimiter": delimiter, "encoding": encoding}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "CHUNK_BYTES", chunk)
        for at, name in enumerate(("title", "body")):
            other = ("body", "title")[at]
            table = read(source("a.csv", kind="text", read=how, text=[name], drop=[other]), folder)
            expected = [row[at] if row[at].strip() else None for row in rows]
            assert table.column("text").to_pylist() == expected
            assert table.column(".problem").null_count == len(rows)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.none() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53), min_size=1),
    decimal=st.sampled_from([".", ","]),
)
def test_any_number_comes_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[float | None], decimal: str
) -> None:
    folder = tmp_path_factory.mktemp("numbers")
    cells = ["" if value is None else repr(value).replace(".", decimal) for value in values]
    text = "\n".join(["n;c", *(f"{cell};x" for cell in cells)])
    how = {"format": "csv", "delimiter": ";", "decimal": decimal}
    columns = {"n": "numeric", "c": "categorical"}
    table = read(source("a.csv", read=how, columns=columns), written(folder, text))
    assert table.column("n").to_pylist() == values


def test_under_a_decimal_comma_a_point_is_no_decimal_point(tmp_path: Path) -> None:
    how = {"format": "csv", "delimiter": ";", "decimal": ","}
    found = source("a.csv", read=how, columns={"n": "numeric"})
    table = read(found, written(tmp_path, "n\n1,5\n1.234\n1.234,5\n"))
    assert table.column("n").to_pylist() == [1.5, None, 1234.5]
    assert table.column(".problem").null_count == 2


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "utf-16-le"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "age,job\n3,Bäcker\n4,Übersetzer\n"
    table = read(people({"encoding": encoding}), written(tmp_path, text.encode(encoding)))
    assert table.column("job").to_pylist() == ["Bäcker", "Übersetzer"]


def test_lines_before_the_header_and_comments_are_no_rows(tmp_path: Path) -> None:
    text = "made by hand\n\nage,job\n| a comment, with a comma\n3,a\n| another\n4,|b\n"
    table = read(people({"skip": 2, "comment": "|"}), written(tmp_path, text))
    assert table.column("age").to_pylist() == [3, 4]
    assert table.column("job").to_pylist() == ["a", "|b"]
    assert table.column(".position").to_pylist() == [0, 1]


def test_a_gzip_file_is_read_as_what_it_holds(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"age,job\n3,a\n"))
    found = source("a.csv.gz", read={"format": "csv"}, columns=PEOPLE)
    assert read(found, tmp_path).column("age").to_pylist() == [3]


def test_part_group_and_time_are_kept_beside_the_sample(tmp_path: Path) -> None:
    text = "age,job,who,when,side,extra\n1,a,p,1970-01-01 00:01,train,0\n2,b,,5.5,valid,0\n"
    found = people({"part": "side"}, group="who", time="when", drop=["extra"])
    table = read(found, written(tmp_path, text))
    assert table.column(".group").to_pylist() == ["p", None]
    assert table.column(".time").to_pylist() == [60.0, 5.5]
    assert table.column(".part").to_pylist() == ["train", None]
    assert table.column(".problem").to_pylist() == [None, "column 'side': 'valid' is neither train nor test"]
    assert "extra" not in table.column_names


def test_files_follow_one_another_each_with_its_part_and_a_name_of_its_own(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, f"age,job,label\n1,{name},{name}.\n")
    files_ = [{"path": "x/a.csv", "part": "train"}, {"path": "y/a.csv", "part": "test"}]
    found = source(*files_, read={"format": "csv", "relabel": {"x.": "x"}}, columns=PEOPLE, label="label")
    table = read(found, tmp_path)
    assert table.column(".source").to_pylist() == ["x/a.csv", "y/a.csv"]
    assert table.column(".position").to_pylist() == [0, 0]
    assert table.column(".part").to_pylist() == ["train", "test"]
    assert table.column("label").to_pylist() == ["x", "y."]


def test_rows_that_came_in_are_read_as_the_sources_own(tmp_path: Path) -> None:
    how = {"delimiter": ";", "header": ["age", "job", "label"], "missing": ["?"], "relabel": {"y.": "y"}}
    found = people(how, label="label")
    layout = delimited.read([], found, found.read).layout
    written(tmp_path, "1; ?;y.\nx;b;y\n", "new.csv")
    rows = readers.read_table(tmp_path / "new.csv", layout, found)
    assert rows.column("age").to_pylist() == [1, None]
    assert rows.column("job").to_pylist() == [None, "b"]
    assert rows.column("label").to_pylist() == ["y", "y"]
    assert rows.column(".problem").to_pylist() == [None, "column 'age': 'x' is not a number"]
    written(tmp_path, "job;age\nb;2\n", "headed.csv")
    from dataclasses import replace

    unlabelled = readers.read_table(tmp_path / "headed.csv", replace(layout, label=None), found)
    assert unlabelled.column("age").to_pylist() == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('age,job\n1,a\n2,"b\n3,c\n', "row 1: a quote is never closed"),
        ("age,age\n1,2\n", "more than one column 'age'"),
        ("age,,job\n1,2,3\n", "column 2 has no name"),
        ("age\n1\n", r"no column 'job' \(known: age\)"),
        ("age,jobs\n1,a\n", r"no column 'job' \(did you mean 'jobs'"),
        ("age,job,pay\n1,a,2\n", "unknown column 'pay'.*name it under drop"),
        ("age,job\n", "no rows"),
        ("", "empty"),
        ("\n\n", "empty"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(people(), written(tmp_path, text))
    assert "a.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_encoding_names_the_byte_and_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "age,job\n3,baker\n4,Müller\n"
    folder = written(tmp_path, text.encode("latin-1"))
    for chunk in (5, 2**20):
        monkeypatch.setattr(files, "CHUNK_BYTES", chunk)
        with pytest.raises(DataError, match=r"line 3, byte 19: 0xfc is not utf-8; .*read\.encoding"):
            read(people(), folder)


def test_parts_are_of_one_layout_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 2000)
    text = "age,job\n" + "".join(f"{row},{'x' * (row % 9)}\n" for row in range(3000))
    found = people()
    whole = readers.read([(written(tmp_path, text) / "a.csv", found.files[0])], found)
    parts = list(whole.parts)
    assert len(parts) > 10
    assert all(part.schema.equals(whole.layout.schema(), check_metadata=True) for part in parts)
    table = pa.concat_tables(parts)
    assert table.column("age").to_pylist() == list(range(3000))
    assert table.column(".position").to_pylist() == list(range(3000))
