"""What a retraining hands on, in a git repository of its own."""

import subprocess
from datetime import date
from pathlib import Path

import pytest

from latentops.errors import LatentOpsError
from pipelines import publish, repository

BRANCH = publish.branch_of(date(2026, 6, 8))


def git(*arguments: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    return subprocess.run(
        ["git", *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    git("init", "--quiet", "--initial-branch=main")
    for name in ("ledger", "data/accepted/digits", "src"):
        Path(name).mkdir(parents=True)
    Path("dvc.lock").write_text("one\n")
    Path("src/code.py").write_text("code\n")
    Path(".gitignore").write_text("/data/accepted/**/*.parquet\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    return tmp_path


def retrained(text: str) -> None:
    Path("dvc.lock").write_text(f"{text}\n")
    with Path("ledger/decisions.jsonl").open("a") as ledger:
        ledger.write(f"{text}\n")
    Path("data/accepted/digits/a.parquet").write_text("rows")
    Path("data/accepted/digits/a.parquet.dvc").write_text(text)


def held(what: str) -> str:
    return git("show", f"{BRANCH}:{what}")


def test_the_branch_has_what_changed_and_the_checkout_is_as_it_was(checkout: Path) -> None:
    Path("src/code.py").write_text("half an edit\n")
    git("add", "src/code.py")
    retrained("two")
    before = git("status", "--porcelain"), git("rev-parse", "HEAD"), git("branch", "--show-current")
    made = publish.commit(BRANCH, "Retrained digits")
    assert made == git("rev-parse", BRANCH)
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD"), git("branch", "--show-current")) == before
    assert [held(each) for each in ("dvc.lock", "ledger/decisions.jsonl", "src/code.py")] == [
        "two",
        "two",
        "code",
    ]
    assert held("data/accepted/digits/a.parquet.dvc") == "two"
    assert "a.parquet\n" not in git("ls-tree", "-r", "--name-only", BRANCH) + "\n"
    assert git("log", "-1", "--format=%s %an", BRANCH) == "Retrained digits LatentOps"


def test_nothing_new_is_no_commit(checkout: Path) -> None:
    assert publish.commit(BRANCH, "nothing") is None
    retrained("two")
    assert publish.commit(BRANCH, "first")
    assert publish.commit(BRANCH, "again") is None


def test_a_second_retraining_of_a_day_follows_the_first_and_what_a_person_did_between(checkout: Path) -> None:
    retrained("two")
    first = publish.commit(BRANCH, "first")
    Path("src/code.py").write_text("a person's\n")
    git("commit", "--quiet", "-m", "by hand", "src/code.py")
    retrained("three")
    publish.commit(BRANCH, "second")
    assert held("src/code.py") == "a person's"
    assert held("dvc.lock") == "three"
    assert git("log", "-1", "--format=%P", BRANCH).split() == [first, git("rev-parse", "main")]
    git("stash", "--quiet", "--include-untracked")
    git("merge", "--quiet", "--ff-only", BRANCH)
    assert Path("dvc.lock").read_text() == "three\n"


def test_on_the_branch_itself_the_index_follows(checkout: Path) -> None:
    git("checkout", "--quiet", "-b", BRANCH)
    retrained("two")
    publish.commit(BRANCH, "here")
    assert git("status", "--porcelain") == ""


def test_outside_of_git_there_is_nothing_to_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert publish.commit(BRANCH, "nothing") is None


def test_a_branch_that_moved_meanwhile_is_not_overwritten(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrained("two")
    original = repository.git

    def slow(*arguments: str, **options: object) -> str:
        if arguments[0] == "commit-tree":
            git("branch", "--force", BRANCH, "main")
        return original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(repository, "git", slow)
    with pytest.raises(LatentOpsError, match="git update-ref"):
        publish.commit(BRANCH, "late")
    assert git("rev-parse", BRANCH) == git("rev-parse", "main")


def test_without_a_remote_nothing_is_pushed(checkout: Path) -> None:
    said: list[str] = []
    git("init", "--quiet")
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    assert not publish.push(said.append)
    assert "dvc remote add" in said[0]


def track_a_file(remote: str) -> None:
    """A file under DVC, with a default remote."""
    Path("rows.txt").write_text("rows")
    for command in (["init"], ["remote", "add", "--default", "store", remote], ["add", "rows.txt"]):
        subprocess.run(["dvc", *command, "--quiet"], check=True)


@pytest.mark.slow
def test_data_goes_to_the_default_remote(checkout: Path) -> None:
    track_a_file("remote")
    assert publish.push(lambda _: None)
    assert [path.read_text() for path in Path("remote").rglob("*") if path.is_file()] == ["rows"]


@pytest.mark.slow
def test_a_remote_that_is_down_is_an_error(checkout: Path) -> None:
    track_a_file("/proc/nowhere")
    with pytest.raises(LatentOpsError, match="dvc push: "):
        publish.push(lambda _: None)


@pytest.mark.slow
def test_a_remote_that_is_back_gets_what_waited(checkout: Path) -> None:
    track_a_file("/proc/nowhere")
    with pytest.raises(LatentOpsError, match="dvc push: "):
        publish.push(lambda _: None)
    back = Path("remote").absolute()
    subprocess.run(["dvc", "remote", "modify", "--quiet", "store", "url", str(back)], check=True)
    assert publish.push(lambda _: None)
    assert [path.read_text() for path in back.rglob("*") if path.is_file()] == ["rows"]
