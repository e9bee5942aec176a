"""What a path holds is told by looking at it: each format gives the source that a person would write."""

import csv
import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
from latentops.errors import DataError, LatentOpsError


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


@pytest.mark.parametrize(
    ("text", "said", "header", "skip", "encoding"),
    [
        ("sep=;\na;class\n", Said(), [], 1, "utf-8"),
        (";class\n", Said(), ["c1", "class"], 1, "utf-8"),
        ("x;x;class\n", Said(), ["c1", "c2", "class"], 1, "utf-8"),
        ("0;class\n", Said(), [], 0, "utf-8"),
        ("0;was\n", Said(label="was"), [], 0, "utf-8"),
        ("0;was\n", Said(), ["c1", "c2"], 0, "utf-8"),
        ("€;class\n", Said(), [], 0, "cp1252"),
        ("ä\x81;class\n", Said(), [], 0, "latin-1"),
    ],
)
def test_headers_as_they_come(text: str, said: Said, header: list[str], skip: int, encoding: str) -> None:
    width = text.splitlines()[-1].count(";")
    rows = "".join(f"{';'.join([str(at * 7 % 31)] * width)};{'ab'[at // 2 % 2]}\n" for at in range(60))
    Path("x.csv").write_bytes((text + rows).encode(encoding))
    source = detect(Path("x.csv"), said).source
    assert source.read is not None
    assert (source.read.header, source.read.skip, source.read.encoding) == (header, skip, encoding)
    assert source.label == (None if header == ["c1", "c2"] else "was" if said.label else "class")
    whole = readers.read([(Path("x.csv"), source.files[0])], source).whole()
    assert len(whole) == 60 + (header == ["c1", "c2"])
    assert whole.column(".problem").null_count >= 60


def test_dots_group_thousands_beside_decimal_commas() -> None:
    lines = [f"{at},25;{at + 1}.{at:03}.500;1.000,5;{'ab'[at // 2 % 2]}" for at in range(60)]
    Path("x.csv").write_text("x;y;z;class\n" + "\n".join(lines) + "\n")
    source = detect(Path("x.csv"), Said(types={"z": "numeric"})).source
    assert source.columns == dict.fromkeys("xyz", "numeric")
    whole = readers.read([(Path("x.csv"), source.files[0])], source).whole()
    assert whole.column("y").to_pylist() == [(at + 1) * 10**6 + at * 1000 + 500 for at in range(60)]
    assert set(whole.column("z").to_pylist()) == {1000.5}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Said(fit="crop"), "--fit means nothing to it: read as csv, it takes --dates, --drop, .*--type"),
        (Said(size=(8, 8)), "--size means nothing"),
        (Said(values=("age",)), "--values means nothing"),
        (Said(kind="image"), "holds tabular data, but --kind says image"),
        (Said(kind="text"), "no column holds texts of several words; name one with --text"),
        (Said(label="age", group="age"), "column 'age' is given two uses"),
        (Said(drop=("age",), types={"age": "numeric"}), "'age' is to be passed over and used"),
        (
            Said(kind="sequence", time="born", values=("label",), label="label"),
            "'label' is given two uses|--label",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(said: Said, message: str) -> None:
    with pytest.raises(LatentOpsError, match=rf"^people\.csv: .*({message})") as caught:
        detect(write(Path("people.csv"), people()), said)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "given", [{"window": 0}, {"every": -1.0}, {"every": float("inf")}, {"size": ("0", "4")}, {"size": ("4",)}]
)
def test_numbers_that_cannot_be_meant_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(DataError, match=f"^--{next(iter(given))}"):
        detection.said(given)


def test_a_column_that_is_passed_over_is_no_label() -> None:
    found = detect(write(Path("people.csv"), people()), Said(drop=("label",)))
    assert found.source.label is None
    assert "label" in found.source.drop
    assert detect(Path("people.csv"), Said(types={"label": "categorical"})).source.columns["label"]


def test_parquet_columns_keep_their_types_and_nested_ones_are_passed_over() -> None:
    days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=at * 3 % 97) for at in range(60)]
    table = pa.table(
        {
            "price": pa.array([Decimal(at % 37) / 4 for at in range(60)], pa.decimal128(10, 3)),
            "zoned": pa.array(days, pa.timestamp("us", "Europe/Berlin")),
            "day": pa.array([each.date() for each in days]),
            "yes": [at % 3 == 0 for at in range(60)],
            "list": [[at] for at in range(60)],
            "mapping": [{"a": at} for at in range(60)],
            "class": ["a", "b"] * 30,
        }
    )
    pq.write_table(table, "x.parquet")
    found = detect(Path("x.parquet"), Said())
    assert found.source.columns == {"price": "numeric", "zoned": "date", "day": "date", "yes": "boolean"}
    assert found.source.drop == ["list", "mapping"]
    assert found.remarks["list"].endswith("which no column of a table holds")
    whole = readers.read([(Path("x.parquet"), found.source.files[0])], found.source).whole()
    assert whole.column("price").to_pylist() == [at % 37 / 4 for at in range(60)]
    assert whole.column("zoned").to_pylist() == [each.timestamp() for each in days]


@pytest.mark.parametrize("shape", [(30, 3, 8, 8), (30, 8, 8, 3), (30, 16, 8, 8)])
def test_arrays_of_pictures_may_have_channels_first_or_last(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    pixels[0] = np.nan
    np.save("x.npy", pixels)
    source = detect(Path("x.npy"), Said()).source
    assert source.channels == (16 if 16 in shape else 3)
    assert source.value_range == (np.nanmin(pixels), np.nanmax(pixels))


def test_damaged_arrays_and_archives_are_refused_in_a_line() -> None:
    for name, message in (
        ("x.npz", "not a NumPy file, or damaged"),
        ("x.xlsx", "a zip archive or a spreadsheet"),
    ):
        Path(name).write_bytes(b"PK\x03\x04....")
        with pytest.raises(DataError, match=rf"^{name}: {message}"):
            detect(Path(name), Said())
    np.save("x.npy", np.full((9, 4, 4), np.nan))
    with pytest.raises(DataError, match=r"x\.npy: none of its values is a finite number"):
        detect(Path("x.npy"), Said())


@pytest.mark.parametrize("name", ["pixels", "values"])
def test_a_parquet_table_may_call_a_column_as_pictures_and_sequences_do(name: str) -> None:
    pq.write_table(pa.table({name: [1.5, 2.5] * 30, "class": ["a", "a", "b"] * 20}), "x.parquet")
    assert detect(Path("x.parquet"), Said()).source.columns == {name: "numeric"}
