"""What the catalogue says of a set is what its files hold."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from latentops.cli import app
from latentops.config import Dataset, File, Params, Source
from latentops.data import catalogue, fetch, sources, table
from latentops.errors import DataError, UnknownNameError
from latentops.reporting import datasets as listing

ENTRIES = catalogue.entries()
IN_FILES = [name for name, entry in ENTRIES.items() if entry.source.name == "file"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTOPS_CACHE", str(tmp_path / "cache"))


def classes(name: str) -> list[str]:
    found = ENTRIES[name].expectations.get("classes", [])
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_all_there_is_to_say(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.rows
    assert entry.licence
    assert entry.citation
    assert entry.homepage.startswith("http")
    assert (entry.source.label is None) == (entry.primary == "none")
    assert (entry.primary == "r2") == entry.source.numeric_label
    assert set(entry.normal) < set(classes(name)) or entry.source.label is None or entry.primary == "r2"
    assert (entry.split.get("test") == "official") == any(file.part for file in entry.source.files)
    assert catalogue.entry_of(entry.source) == entry


@pytest.mark.parametrize("name", IN_FILES)
def test_a_sets_files_can_be_fetched(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.size
    for file in catalogue.all_files(entry.source):
        assert str(file.url).startswith(("https://", "http://"))
        kind = {"image": "images", "tabular": "tabular", "sequence": "sequences", "text": "text"}
        folder = "sequences" if name.startswith("ECG5000") else kind[entry.source.kind]
        assert file.path.startswith(f"{folder}/")
    published = [file.sha256 != catalogue.UNPUBLISHED for file in entry.source.files]
    assert all(published)


def test_a_file_has_one_checksum_and_one_address() -> None:
    every = [file for name in IN_FILES for file in catalogue.all_files(ENTRIES[name].source)]
    pairs = {(file.path, file.sha256, file.url) for file in every}
    assert len({path for path, _, _ in pairs}) == len(pairs)


def test_the_docs_name_every_set(root: Path) -> None:
    page = (root / "docs/datasets.md").read_text(encoding="utf-8")
    for name in ENTRIES:
        shared = name.replace("adbench_", "adbench_… ").replace("nab/", "nab/… ").split(" ")[0]
        assert f"`{shared}`" in page


def here(name: str) -> list[Path]:
    """The files of a set, from the mirror; those that it doesn't have are a reason to skip."""
    files = ENTRIES[name].source.files
    if any(fetch.found(file) is None for file in files):
        pytest.skip(f"the mirror has no {name}")
    return [fetch.locate(file) for file in files]


@pytest.mark.parametrize("name", IN_FILES)
@pytest.mark.usefixtures("mirror")
def test_a_set_is_what_it_says(name: str) -> None:
    entry, paths = ENTRIES[name], here(name)
    assert sum(path.stat().st_size for path in paths) == entry.size
    rows, labels = _ORACLES[entry.source.read.format](entry.source, paths)  # type: ignore[union-attr]
    assert rows == entry.rows
    if labels is not None and not entry.source.numeric_label:
        relabel = entry.source.read.relabel  # type: ignore[union-attr]
        assert {relabel.get(each, each) for each in labels} == set(classes(name))


@pytest.mark.parametrize("name", IN_FILES)
@pytest.mark.usefixtures("mirror")
def test_a_set_is_read_as_its_entry_says(name: str, tmp_path: Path) -> None:
    here(name)
    entry = catalogue.resolve(name)
    found = sources.ingest(entry.source, tmp_path / "nothing accepted").whole()
    layout = table.layout_of(found, entry.source.label)
    assert set(table.labels(found, layout)) == set(classes(name) or [None])
    problems = [None] * found.num_rows
    if ".problem" in found.column_names:
        problems = found.column(".problem").to_pylist()
    share = sum(each is not None for each in problems) / found.num_rows
    if entry.source.read is not None and entry.source.read.format == "series":  # in windows, some with gaps
        assert share <= float(str(entry.expectations.get("max_quarantined", 0.02)))
    else:
        assert (found.num_rows, share) == (entry.rows, 0)


def _delimited(source: Source, paths: list[Path]) -> tuple[int, set[str] | None]:
    read = source.read
    assert read is not None
    labels, count = set(), 0
    for path in paths:
        with path.open(newline="", encoding=read.encoding) as stream:
            lines = (line for line in stream if not read.comment or not line.startswith(read.comment))
            for cells in csv.reader(lines, delimiter=read.delimiter, skipinitialspace=True):
                if not cells:
                    continue
                row = dict(zip(read.header, cells, strict=True))
                count += 1
                if source.label is not None:
                    labels.add(row[source.label])
                for column, type_ in source.columns.items():
                    if type_ == "numeric" and row[column] not in read.missing:
                        float(row[column])
    used = {*source.columns, *source.text, *source.drop, source.label} - {None}
    assert used == set(read.header)
    return count, labels if source.label is not None else None


def _array(source: Source, paths: list[Path]) -> tuple[int, set[str]]:
    with np.load(paths[0]) as arrays:
        assert arrays["X"].shape[0] == arrays["y"].shape[0]
        return len(arrays["X"]), {str(each) for each in np.unique(arrays["y"])}


def _idx(source: Source, paths: list[Path]) -> tuple[int, set[str]]:
    labels: set[str] = set()
    count = 0
    for path in paths:
        with gzip.open(path) as stream:
            content = stream.read()
        if content[3] == 1:
            labels |= {str(each) for each in content[8:]}
            count += len(content) - 8
        else:
            assert len(content) - 16 == 28 * 28 * int.from_bytes(content[4:8], "big")
    return count, labels


def _ts(source: Source, paths: list[Path]) -> tuple[int, set[str]]:
    lines = []
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        lines += [line for line in text.split("@data")[1].splitlines() if line.strip()]
    assert {line.count(":") for line in lines} == {source.channels}
    return len(lines), {line.rsplit(":", 1)[1].strip() for line in lines}


def _series(source: Source, paths: list[Path]) -> tuple[int, None]:
    assert source.read is not None
    assert source.read.marks is not None
    marks = json.loads(fetch.locate(_pinned(source.read.marks)).read_text())
    assert f"realKnownCause/{paths[0].name}" in marks
    with paths[0].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert set(rows[0]) == {source.time, *source.values}
    return len(rows), None


def _pinned(file: File) -> File:
    return fetch.pin(file.path, str(file.url))


_ORACLES = {"csv": _delimited, "array": _array, "idx": _idx, "ts": _ts, "series": _series}


@pytest.mark.usefixtures("mirror")
def test_a_set_resolves_to_checksums_of_all_its_files() -> None:
    for name in ("adult", "nab/nyc_taxi", "ucr/GunPoint", "uea/JapaneseVowels"):
        for file in catalogue.all_files(catalogue.resolve(name).source):
            assert fetch.digest(fetch.locate(file)) == file.sha256
    assert catalogue.resolve("ucr/GunPoint") == ENTRIES["GunPoint"]


TS = "#about it\n@problemName Toy\n@univariate {univariate}\n{dimensions}@classLabel {label}\n@data\n{rows}"


def ts(
    folder: Path,
    univariate: str = "true",
    dimensions: str = "",
    label: str = "true a b",
    rows: str = "1,2,3:a\n1,2:b\n\n",
) -> None:
    text = TS.format(univariate=univariate, dimensions=dimensions, label=label, rows=rows)
    for part in ("TRAIN", "TEST"):
        path = folder / f"sequences/Toy/Toy_{part}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + (rows if part == "TEST" else ""))


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENTOPS_MIRROR", str(tmp_path / "toys"))
    return tmp_path / "toys"


@pytest.mark.parametrize(
    ("name", "univariate", "dimensions", "channels"),
    [("ucr/Toy", "true", "", 1), ("uea/Toy", "false", "@dimensions 2\n", 2)],
)
def test_a_set_by_name_alone_is_what_its_files_say(
    toys: Path, name: str, univariate: str, dimensions: str, channels: int
) -> None:
    ts(toys, univariate, dimensions)
    entry = catalogue.resolve(name)
    assert (entry.rows, entry.source.channels) == (6, channels)
    assert entry.expectations == {"classes": ["a", "b"]}
    assert entry.normal == ["a"]
    for file, part in zip(entry.source.files, ("TRAIN", "TEST"), strict=True):
        assert file.url == "https://timeseriesclassification.com/aeon-toolkit/Toy.zip"
        assert file.member == f"Toy_{part}.ts"
        assert file.sha256 == fetch.digest(toys / file.path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "false"}, "names no classes under @classLabel"),
        ({"univariate": "false"}, "doesn't say under @dimensions how many channels"),
    ],
)
def test_a_set_that_cannot_be_added_by_name_says_why(toys: Path, change: dict[str, str], says: str) -> None:
    ts(toys, **change)
    with pytest.raises(DataError, match=says):
        catalogue.resolve("ucr/Toy")
    (toys / "sequences/Toy/Toy_TRAIN.ts").write_text("<html>")
    with pytest.raises(DataError, match="it has no line @data"):
        catalogue.resolve("ucr/Toy")


@pytest.mark.parametrize("name", ["fashion_mnst", "nab/nyc_taxis", "ucr/../x", "ucr/"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown data set .*; .*`latentops datasets` lists them"
    ) as told:
        catalogue.resolve(name)
    assert len(str(told.value)) < 200, "not all of them"


@pytest.fixture
def no_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTOPS_PARAMS", str(tmp_path / "none.yaml"))


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["datasets", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.usefixtures("no_params")
def test_the_list_names_every_set_within_80_columns() -> None:
    lines = shown().splitlines()
    assert max(map(len, lines)) <= 80
    for name, entry in ENTRIES.items():
        row = next(line for line in lines if line.split()[:1] == [name])
        assert f"{entry.rows:,}" in row
        assert entry.licence in row
        assert ("embedded" in row) == (entry.source.name != "file")


@pytest.mark.usefixtures("no_params")
def test_the_list_says_where_a_set_is(tmp_path: Path) -> None:
    file = ENTRIES["german_credit"].source.files[0]
    row = next(line for line in shown().splitlines() if line.startswith("german_credit"))
    assert "cache" not in row
    (tmp_path / "cache" / file.path).parent.mkdir(parents=True)
    (tmp_path / "cache" / file.path).write_text("")
    row = next(line for line in shown().splitlines() if line.startswith("german_credit"))
    assert row.split()[-1] == "cache"


def test_a_set_of_params_yaml_is_known_by_its_files(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dataset(source: Source) -> Dataset:
        return params.dataset("digits").model_copy(update={"source": source})

    known = ENTRIES["german_credit"].source
    (tmp_path / "mine.csv").write_text("12345")
    other = [File(path=str(tmp_path / "mine.csv"), sha256="1" * 64)]
    own = {"credit": dataset(known), "mine": dataset(known.model_copy(update={"files": other}))}
    listing.print_all(own)
    rows = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    assert rows["credit"] == ["1,000", "79.8", "kB", "CC", "BY", "4.0", "params.yaml"]
    assert rows["mine"] == ["5", "bytes", "project", "params.yaml"]
    listing.print_one("credit", own)
    assert "datasets.credit in params.yaml" in capsys.readouterr().out


def test_a_set_of_params_yaml_hides_none_of_the_catalogue_that_goes_by_its_name(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    listing.print_one("ag_news", params.datasets)
    assert "127,600" in capsys.readouterr().out
    listing.print_one("ag_news_test", params.datasets)
    out = capsys.readouterr().out
    assert "7,600" in out
    assert "Another set" not in out, "it is the same one"

    own = {"adult": params.dataset("ag_news_test")}
    listing.print_one("adult", own)
    out = " ".join(capsys.readouterr().out.split())
    assert "datasets.adult in params.yaml" in out
    assert "`latentops add-dataset adult --name OTHER` adds it" in out
    assert ENTRIES["adult"].source.files[0].sha256 in out
    listing.print_all(own)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adult ")]
    assert sorted("params.yaml" in line for line in lines) == [False, True]


@pytest.mark.usefixtures("no_params")
def test_one_is_shown_whole() -> None:
    text = shown("adult")
    for file in ENTRIES["adult"].source.files:
        assert file.path in text
        assert file.sha256 in text
    assert "https://archive.ics.uci.edu/static/public/2/adult.zip" in text
    assert "CC BY 4.0" in text
    assert "not on this machine" in text
    assert "none published" in shown("ucr/Coffee")
    assert "it is embedded" in shown("digits")
