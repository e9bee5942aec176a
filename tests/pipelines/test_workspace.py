"""A working copy of the flows' own, beside a checkout that a person works in."""

import json
import subprocess
from datetime import date
from pathlib import Path

import pytest

from latentops.errors import LatentOpsError
from pipelines import publish, workspace

DAYS = [date(2026, 6, day) for day in (8, 9, 10)]


def git(*arguments: str, at: Path | None = None) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=at).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one file under DVC, pushed, with uncommitted edits."""
    folder = tmp_path / "checkout"
    for name in ("ledger", "data/accepted/digits", "data/incoming/digits", "var"):
        (folder / name).mkdir(parents=True)
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=main")
    for command in (
        ("init", "--quiet"),
        ("remote", "add", "--quiet", "--default", "store", str(tmp_path / "store")),
    ):
        subprocess.run(["dvc", *command], check=True)
    Path("rows.txt").write_text("rows")
    subprocess.run(["dvc", "add", "--quiet", "rows.txt"], check=True)
    subprocess.run(["dvc", "push", "--quiet"], check=True)
    with Path(".gitignore").open("a") as ignored:
        ignored.write("/var\n/data/incoming\n")
    Path("ledger/decisions.jsonl").write_text("one\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    Path("edit.py").write_text("half an edit\n")
    Path("data/incoming/digits/new.parquet").write_text("new")
    return folder


def retrained(place: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A retraining in `place`, handed back; its commit."""
    with (place / "ledger/decisions.jsonl").open("a") as ledger:
        ledger.write(f"{line}\n")
    with monkeypatch.context() as patch:
        patch.chdir(place)
        branch = publish.branch_now()
        made = publish.commit(branch, line)
    workspace.hand_back(place, branch)
    assert made is not None
    return made


def test_the_checkout_is_left_as_it_is(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = git("status", "--porcelain"), git("rev-parse", "HEAD")
    place = tmp_path / "place"
    assert workspace.prepare(place, checkout, DAYS[0]) == "retrain/2026-06-08"
    assert (place / "rows.txt").read_text() == "rows"
    assert (place / "data/incoming/digits/new.parquet").read_text() == "new"
    assert not (place / "edit.py").exists()
    made = retrained(place, "two", monkeypatch)
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD")) == before
    assert git("rev-parse", "retrain/2026-06-08") == made
    assert git("show", "retrain/2026-06-08:ledger/decisions.jsonl") == "one\ntwo"


def test_a_day_goes_on_from_the_one_before_until_that_is_merged(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    workspace.prepare(place, checkout, DAYS[0])
    first = retrained(place, "two", monkeypatch)
    workspace.prepare(place, checkout, DAYS[1])
    assert (place / "ledger/decisions.jsonl").read_text() == "one\ntwo\n"
    retrained(place, "three", monkeypatch)
    git("merge", "--quiet", "--ff-only", "retrain/2026-06-09")
    git("commit", "--quiet", "--allow-empty", "-m", "by hand")
    workspace.prepare(place, checkout, DAYS[2])
    assert git("rev-parse", "HEAD", at=place) == git("rev-parse", "main")
    assert git("merge-base", first, "HEAD", at=place) == first


def test_what_an_ended_run_left_is_made_anew(checkout: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    workspace.prepare(place, checkout, DAYS[0])
    (place / "rows.txt.dvc").write_text("half")
    (place / "data/accepted/digits").mkdir(parents=True)
    (place / "data/accepted/digits/half.parquet.dvc").write_text("half")
    workspace.prepare(place, checkout, DAYS[0])
    assert git("status", "--porcelain", at=place) == ""
    assert (place / "rows.txt").read_text() == "rows"


def test_branches_that_parted_are_for_a_person(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    workspace.prepare(place, checkout, DAYS[0])
    retrained(place, "two", monkeypatch)
    git("commit", "--quiet", "--allow-empty", "-m", "by hand")
    with pytest.raises(LatentOpsError, match="git merge retrain/2026-06-08"):
        workspace.prepare(place, checkout, DAYS[1])


def test_a_line_that_a_person_added_goes_along_and_another_one_stops_it(
    checkout: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    Path("ledger/decisions.jsonl").write_text("one\nby hand\n")
    workspace.prepare(place, checkout, DAYS[0])
    assert (place / "ledger/decisions.jsonl").read_text() == "one\nby hand\n"
    Path("ledger/decisions.jsonl").write_text("another\n")
    with pytest.raises(LatentOpsError, match=r"decisions\.jsonl and that of retrain/2026-06-08 have parted"):
        workspace.prepare(place, checkout, DAYS[0])


def test_a_folder_of_something_else_is_not_touched(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(LatentOpsError, match="not empty"):
        workspace.prepare(other, checkout, DAYS[0])
    git("init", "--quiet", at=other)
    git("remote", "add", "origin", "https://example.org/thesis.git", at=other)
    with pytest.raises(LatentOpsError, match="a clone of something else"):
        workspace.prepare(other, checkout, DAYS[0])
    assert (other / "thesis.tex").read_text() == "mine"


def test_without_a_remote_there_is_no_data_to_have(checkout: Path, tmp_path: Path) -> None:
    subprocess.run(["dvc", "remote", "remove", "--quiet", "store"], check=True)
    git("commit", "--quiet", "-m", "no remote", ".dvc/config")
    with pytest.raises(LatentOpsError, match="dvc remote add"):
        workspace.prepare(tmp_path / "place", checkout, DAYS[0])


def test_it_runs_the_workspaces_own_code(checkout: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "pipelines").mkdir(parents=True)
    (place / "pipelines/__init__.py").touch()
    (place / "pipelines/retrain.py").write_text(
        "import json, os, sys\nopen('said.json', 'w').write(json.dumps([os.getcwd(), sys.argv[1:]]))\n"
    )
    assert workspace.run(place, ["--dataset", "digits"], print) == 0
    assert json.loads((place / "said.json").read_text()) == [str(place), ["--dataset", "digits"]]
