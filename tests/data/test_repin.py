"""A file of one's own that changed: its checksum is renewed in place, and rows that came and went counted."""

import re
from pathlib import Path

import pytest

from latentops.cli import app
from latentops.config import load_params
from latentops.data import fetch, sources
from latentops.data.repin import repin
from latentops.errors import ConfigError, DataError, UnknownNameError
from latentops.stages import ingest
from tests.data import people

ROWS = people.people(30)
PARAMS = Path("params.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ingested rows, and a params.yaml with comments and odd spaces around what is renewed."""
    monkeypatch.chdir(tmp_path)
    people.write_csv(ROWS)
    people.write_params()
    text = PARAMS.read_text()
    text = re.sub(r"(?m)^( +)(sha256: \w+)$", r"\1\2   # of the file: kept", text)
    PARAMS.write_text(f"# mine\n{text}\n# the end\n")
    ingest.run("people")


def test_only_the_checksum_changes_and_rows_are_counted() -> None:
    before = PARAMS.read_text()
    old = people.sha256(Path("people.csv"))
    people.write_csv([*ROWS[2:], *people.people(3, seed=5)])
    found = repin("people")
    assert found.files == ("people.csv",)
    assert (found.added, found.removed) == (3, 2)
    assert PARAMS.read_text() == before.replace(old, people.sha256(Path("people.csv")))
    fetch.locate(load_params().dataset("people").source.files[0])


def test_a_file_as_it_was_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = PARAMS.read_bytes()
    assert repin("people").files == ()
    app(["repin", "people"], standalone_mode=False)
    assert "are the ones that params.yaml means" in capsys.readouterr().out
    assert PARAMS.read_bytes() == before


def test_the_mismatch_names_the_command_that_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    people.write_csv(ROWS[1:])
    source = load_params().dataset("people").source
    with pytest.raises(DataError, match="`latentops repin DATASET`"):
        sources.read_source(source)
    app(["repin", "people"], standalone_mode=False)
    assert "people: 0 rows added, 1 removed; next: make repro DATASET=people" in capsys.readouterr().out
    sources.read_source(load_params().dataset("people").source)


def test_a_file_that_cannot_be_read_leaves_all_as_it_was() -> None:
    before = PARAMS.read_bytes()
    Path("people.csv").write_text("person,age\np1,3\n")
    with pytest.raises(DataError, match=r"people\.csv"):
        repin("people")
    assert PARAMS.read_bytes() == before


def test_an_official_file_is_renewed_by_force_alone() -> None:
    text = PARAMS.read_text()
    PARAMS.write_text(
        text.replace("- path: people.csv", "- path: people.csv\n        url: https://example.org/p")
    )
    people.write_csv(ROWS[1:])
    before = PARAMS.read_bytes()
    with pytest.raises(DataError, match=r"no longer the official one of https://example\.org/p"):
        repin("people")
    assert PARAMS.read_bytes() == before
    assert repin("people", force=True).removed == 1


def test_rows_accepted_since_are_not_the_files(tmp_path: Path) -> None:
    source = load_params().dataset("people").source
    late = tmp_path / "late.csv"
    people.write_csv(people.people(4, seed=3), late)
    accepted = Path("data/accepted/people")
    assert sources.accept(accepted, sources.read_rows(late, source), source) is not None
    ingest.run("people")
    people.write_csv(ROWS[1:])
    found = repin("people")
    assert (found.added, found.removed) == (0, 1)


def test_without_a_raw_table_there_is_nothing_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/raw/people.parquet").unlink()
    people.write_csv(ROWS[1:])
    app(["repin", "people"], standalone_mode=False)
    assert "no raw table to compare with" in capsys.readouterr().out


def test_embedded_and_unknown_datasets_are_refused(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'people'"):
        repin("peple")
    PARAMS.write_text((root / "params.yaml").read_text())
    with pytest.raises(DataError, match="embedded"):
        repin("digits")


def test_a_params_file_that_is_none_is_said() -> None:
    PARAMS.write_text("datasets: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        repin("people")
