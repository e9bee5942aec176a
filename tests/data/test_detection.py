"""What a path holds is told by looking at it: each format gives the source that a person would write."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.data import detection, readers
from latentops.data.detection import Said, detect
from latentops.data.dialect import dialect
from latentops.errors import DataError


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTOPS_MIRROR", raising=False)
    return tmp_path


def people(rows: int = 60, seed: int = 0) -> list[dict[str, object]]:
    random = np.random.default_rng(seed)
    return [
        {
            "id": at + 1,
            "age": "?" if at % 9 == 0 else int(random.integers(18, 90)),
            "height": f"{random.uniform(1.5, 2):.2f}",
            "job": str(random.choice(["cook", "nurse", "clerk"])),
            "smokes": str(random.choice(["yes", "no"])),
            "born": f"19{random.integers(50, 99)}-0{random.integers(1, 9)}-11",
            "planet": "earth",
            "label": str(random.choice(["a", "b"])),
        }
        for at in range(rows)
    ]


def write(
    path: Path,
    rows: list[dict[str, object]],
    delimiter: str = ",",
    encoding: str = "utf-8",
    header: bool = True,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        if header:
            writer.writeheader()
        writer.writerows(rows)
    return path


def test_columns_have_the_types_of_their_cells_and_useless_ones_are_passed_over() -> None:
    found = detect(write(Path("people.csv"), people()), Said())
    assert found.source.columns == {
        "age": "numeric",
        "height": "numeric",
        "job": "categorical",
        "smokes": "boolean",
        "born": "date",
    }
    assert found.source.label == "label"
    assert found.source.read is not None
    assert found.source.read.missing == ["?"]
    assert found.source.drop == ["id", "planet"]
    assert found.remarks == {"id": "the row's number", "planet": "constant"}


def test_what_is_said_goes_before_what_is_seen() -> None:
    said = Said(label="job", group="planet", drop=("height",), types={"age": "categorical", "id": "numeric"})
    found = detect(write(Path("people.csv"), people()), said)
    assert (found.source.label, found.source.group) == ("job", "planet")
    assert found.source.columns["age"] == "categorical"
    assert found.source.columns["id"] == "numeric"
    assert "height" in found.source.drop


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_a_table_is_the_same_however_it_is_written(delimiter: str, encoding: str) -> None:
    rows = [{**row, "job": f"{row['job']} é"} for row in people()]
    plain = detect(write(Path("plain.csv"), rows), Said()).source
    other = detect(write(Path("other.csv"), rows, delimiter, encoding), Said()).source
    assert other.columns == plain.columns
    tables = [
        readers.read([(Path(each.files[0].path), each.files[0])], each).whole() for each in (plain, other)
    ]
    assert tables[0].drop_columns([".source"]).equals(tables[1].drop_columns([".source"]))


def test_a_decimal_comma_is_told_from_a_delimiter() -> None:
    rows = [{"x": f"{at},5", "y": f"{at * 2},25", "label": "ab"[at % 2]} for at in range(40)]
    found = detect(write(Path("x.csv"), rows, ";"), Said()).source
    assert found.read is not None
    assert (found.read.delimiter, found.read.decimal) == (";", ",")
    assert found.columns == {"x": "numeric", "y": "numeric"}
    whole = readers.read([(Path("x.csv"), found.files[0])], found).whole()
    assert whole.column("y").to_pylist() == [at * 2 + 0.25 for at in range(40)]


def test_columns_without_a_header_are_numbered() -> None:
    found = detect(write(Path("x.csv"), people(), header=False), Said(label="c8")).source
    assert found.read is not None
    assert found.read.header == [f"c{at}" for at in range(1, 9)]
    assert found.columns["c2"] == "numeric"


word = st.text(st.characters(categories=("L",), exclude_characters="\ufeff"), min_size=1, max_size=6)


@given(
    cells=st.lists(st.tuples(word, st.integers(-999, 999), word), min_size=25, max_size=60),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)
def test_any_words_and_numbers_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, int, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.csv"
    write(path, [{"first": a, "number": n, "second": b} for a, n, b in cells], delimiter)
    read = dialect(path)
    assert read is not None
    assert (read.delimiter, read.header) == (delimiter, [])


def test_texts_are_told_from_categories() -> None:
    rows: list[dict[str, object]] = [
        {"class": "xy"[at % 2], "story": f"a story of the number {at} and of others"} for at in range(30)
    ]
    found = detect(write(Path("news.csv"), rows), Said())
    assert found.source.kind == "text"
    assert found.source.text == ["story"]
    assert found.source.label == "class"


def test_a_file_of_lines_is_a_text_each() -> None:
    Path("lines.txt").write_text("one line of it\nanother line\n" * 10)
    found = detect(Path("lines.txt"), Said()).source
    assert (found.kind, found.label) == ("text", None)
    assert readers.read([(Path("lines.txt"), found.files[0])], found).whole().num_rows == 20


def test_a_long_table_has_a_sequence_an_id() -> None:
    rows: list[dict[str, object]] = [
        {"who": f"p{at // 5}", "step": at % 5, "x": at / 7, "y": -at, "class": "ab"[at // 5 % 2]}
        for at in range(50)
    ]
    found = detect(write(Path("long.csv"), rows), Said(id="who", time="step")).source
    assert (found.kind, found.channels, found.values) == ("sequence", 2, ["x", "y"])
    assert readers.read([(Path("long.csv"), found.files[0])], found).whole().num_rows == 10


def test_a_long_series_is_cut_into_windows_at_its_own_pace() -> None:
    rows: list[dict[str, object]] = [
        {"when": f"2024-01-0{1 + at // 288} {at % 288 // 12:02}:{at % 12 * 5:02}:00", "value": at % 50}
        for at in range(600)
    ]
    found = detect(write(Path("cpu.csv"), rows), Said(kind="sequence", window=24)).source
    assert found.time == "when"
    assert found.read is not None
    assert (found.read.format, found.read.every, found.read.stride) == ("series", 300.0, 12)
    assert found.label is None


def test_pictures_in_folders_have_their_class(tmp_path: Path) -> None:
    from PIL import Image

    for at in range(6):
        folder = Path("tiles", "good" if at % 2 else "bad")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(at).integers(0, 255, (90 + at, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
    found = detect(Path("tiles"), Said()).source
    assert (found.kind, found.label, found.channels) == ("image", "label", 3)
    assert found.read is not None
    assert found.read.size == (32, 32)
    assert detect(Path("tiles"), Said(size=(48, 40), fit="crop")).source.read.size == (48, 40)  # type: ignore[union-attr]
    assert readers.read([(Path("tiles"), found.files[0])], found).whole().num_rows == 6


def test_arrays_are_told_by_their_shape() -> None:
    random = np.random.default_rng(0)
    np.savez("table.npz", X=random.normal(size=(30, 4)), y=np.arange(30) % 2)
    np.save("images.npy", random.integers(0, 255, (10, 12, 9), dtype=np.uint8))
    table, images = (detect(Path(name), Said()).source for name in ("table.npz", "images.npy"))
    assert (table.kind, table.label) == ("tabular", "label")
    assert (images.kind, images.label, images.channels) == ("image", None, 1)
    series = detect(Path("images.npy"), Said(kind="sequence")).source
    assert (series.kind, series.channels) == ("sequence", 9)


def test_parquet_has_types_of_its_own() -> None:
    table = pa.table(
        {"x": [1.5, None, 3.0] * 10, "word": ["a", "b", "c"] * 10, "class": ["u", "v", "w"] * 10}
    )
    pq.write_table(table, "t.parquet")
    found = detect(Path("t.parquet"), Said()).source
    assert found.columns == {"x": "numeric", "word": "categorical"}
    assert found.label == "class"


def test_official_parts_are_told_by_their_names() -> None:
    head = "@problemName x\n@univariate true\n@classLabel true a b\n@data\n"
    for part in ("TRAIN", "TEST"):
        Path(f"x_{part}.ts").write_text(head + "1,2,3:a\n4,5:b\n")
    Path("set").mkdir()
    for part in ("TRAIN", "TEST"):
        Path(f"x_{part}.ts").rename(Path("set", f"x_{part}.ts"))
    found = detect(Path("set"), Said()).source
    assert [file.part for file in found.files] == ["test", "train"]
    assert found.label == "label"


def test_a_packed_file_is_read_as_it_is() -> None:
    plain = write(Path("people.csv"), people())
    Path("people.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert detect(Path("people.csv.gz"), Said()).source.columns == detect(plain, Said()).source.columns


@pytest.mark.parametrize(
    ("content", "said", "says"),
    [
        (None, Said(), "not found"),
        ("", Said(), "empty"),
        ("a,b\n1,2\n3,4\n", Said(label="lable"), r"no column 'lable' \(known: a, b\)"),
        ("one\ntwo\n", Said(label="x"), "none of , ; tab | delimits columns"),
        ("a,b\n1,x\n1,x\n1,x\n", Said(), "no column tells rows apart"),
    ],
)
def test_what_cannot_be_is_said(content: str | None, said: Said, says: str) -> None:
    if content is not None:
        Path("x.csv").write_text(content)
    with pytest.raises(DataError, match=says.replace("|", r"\|") if "tab" in says else says):
        detect(Path("x.csv"), said)


@pytest.mark.parametrize(
    ("name", "says"),
    [("train-images-idx3-ubyte.gz", "come in pairs"), ("cat.png", "one picture is no dataset")],
)
def test_a_part_of_a_dataset_is_none(name: str, says: str) -> None:
    Path(name).write_bytes(b"anything")
    with pytest.raises(DataError, match=says):
        detect(Path(name), Said())


def test_a_folder_of_nothing_readable_says_what_it_holds() -> None:
    Path("docs").mkdir()
    Path("docs/a.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"docs: holds \.pdf; pictures"):
        detect(Path("docs"), Said())


def test_a_type_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match=r"types age: .*not 'number'"):
        detection.said({"types": {"age": "number"}})
