"""A file of text is read as it is, from where it should be, or refused with the reason."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentops.config import Expectations, Source, parse
from latentops.data import sources, table
from latentops.data.expectations.validation import validate
from latentops.errors import ConfigError, DataError
from tests.data.texts import rows, section, source, write_csv

ODD = [
    {"class": "sport", "title": "A", "story": 'two\nlines, a "quote", a \\backslash'},
    {"class": "money", "title": "", "story": "no title"},
    {"class": "money", "title": "B #39;", "story": "ünïcode ☃"},
]


def read(found: Source, folder: Path) -> pa.Table:
    return sources.ingest(found, folder / "accepted").whole()


def texts(found: pa.Table) -> list[str]:
    return [str(each) for each in found.column("text").to_pylist()]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("header", [True, False])
def test_a_csv_file_gives_its_columns_joined(tmp_path: Path, header: bool) -> None:
    path = tmp_path / "news.csv"
    write_csv(path, ODD, header)
    named = {} if header else {"read": {"format": "csv", "header": ["class", "title", "story"]}}
    found = read(source(path, "news.csv", **named), tmp_path)
    assert texts(found) == [f"{row['title']} {row['story']}".strip() for row in ODD]
    assert found.column("class").to_pylist() == ["sport", "money", "money"]
    assert set(found.column(".source").to_pylist()) == {"news.csv"}
    assert table.layout_of(found, "class").kind == "text"


def test_a_parquet_file_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "news.parquet"
    pq.write_table(pa.Table.from_pylist([*ODD, {"class": "sport", "title": None, "story": "only"}]), path)
    found = read(source(path, "news.parquet", read={"format": "parquet"}), tmp_path)
    assert texts(found) == [*(f"{row['title']} {row['story']}".strip() for row in ODD), "only"]


def test_a_class_of_numbers_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "news.parquet"
    pq.write_table(pa.table({"class": [3, 1], "title": ["a", "b"], "story": ["c", "d"]}), path)
    assert read(source(path, "news.parquet", read={"format": "parquet"}), tmp_path).column(
        "class"
    ).to_pylist() == ["3", "1"]


def test_a_file_that_is_missing_or_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    write_csv(path, rows(4))
    known = source(path, "news.csv")
    write_csv(path, rows(5))
    with pytest.raises(DataError, match=r"news\.csv: its SHA-256 is \w{64}, but source\.files says"):
        read(known, tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"news\.csv: not found; .*set LATENTOPS_MIRROR"):
        read(known, tmp_path)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    write_csv(path, rows(4))
    with pytest.raises(DataError, match=r"no column 'titel' \(did you mean 'title'"):
        read(source(path, "news.csv", text=["titel"]), tmp_path)


def test_new_rows_are_one_text_each(tmp_path: Path) -> None:
    path, new = tmp_path / "news.csv", tmp_path / "new.csv"
    write_csv(path, rows(4))
    write_csv(new, [{"text": "a new one", "class": "sport"}])
    found = source(path, "news.csv")
    read_in = sources.read_rows(new, found)
    assert texts(read_in) == ["a new one"]
    assert sources.accept(tmp_path / "accepted", read_in, found) is not None
    assert texts(read(found, tmp_path))[4:] == ["a new one"]
    assert sources.accept(tmp_path / "accepted", read_in, found) is None


def test_a_rows_hash_is_of_its_class_and_text(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    write_csv(path, [*ODD, {**ODD[0], "class": "money"}, ODD[0]])
    found = read(source(path, "news.csv"), tmp_path)
    hashes = [each.tobytes() for each in table.content_hashes(found, table.layout_of(found, "class"))]
    assert len(set(hashes)) == 4
    assert hashes[0] == hashes[4]


def test_a_row_without_a_text_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    write_csv(path, [*rows(20), {"class": "sport", "title": "", "story": " "}])
    found = source(path, "news.csv")
    expected = parse(
        Expectations, {"min_rows": 4, "max_quarantined": 0.1, "classes": ["sport", "money"]}, "expectations"
    )
    result = validate(read(found, tmp_path), "news", found, expected)
    assert result.clean.num_rows == 20
    assert result.quarantined.column(".reasons").to_pylist() == [["text: missing or empty"]]
    lengths = expected.model_copy(update={"lengths": (1, 5)})
    with pytest.raises(ConfigError, match="text data has no lengths"):
        validate(read(found, tmp_path), "news", found, lengths)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "image", "value_range": [0, 1]}, "gives tabular or text, but kind says image"),
        ({"text": []}, "needs the columns that hold its text"),
        ({"files": [{"path": "news.csv", "sha256": "abc"}]}, "sha256"),
        ({"files": []}, "needs its files and how to read them"),
        ({"read": {"format": "csv", "size": [8, 8]}}, "size means nothing to format: csv"),
        ({"name": "digits", "kind": "image", "value_range": [0, 1]}, "belongs to name: file"),
        ({"value_range": [0, 1]}, "text has no value_range"),
    ],
)
def test_a_source_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = tmp_path / "news.csv"
    write_csv(path, rows(4))
    with pytest.raises(ConfigError, match=says):
        parse(Source, section(path, "news.csv") | change, "source")
