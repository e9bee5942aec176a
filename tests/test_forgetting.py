"""A person is forgotten: no later data have their rows, and what still has them is named with a command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops import forgetting
from latentops.cli import app
from latentops.config import load_params
from latentops.data import forgotten, prepared, sources, table
from latentops.data.forgotten import Ids
from latentops.data.prepared import SPLITS
from latentops.errors import DataError, UnknownNameError
from latentops.forgetting import Forgotten
from tests.data import people

ROWS = people.people(80)
CLEAN = 76
LIST = Path("data/accepted/people/forgotten.txt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits, the first with two rows more than the second."""
    folder = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        people.start()
        people.make(ROWS)
        people.commit("one")
        people.make(ROWS[:-2])
        people.commit("two")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "project"


def forget(*lines: str, **options: object) -> Forgotten:
    return forgetting.forget("people", Ids(frozenset(lines)), **options)  # type: ignore[arg-type]


def whats(found: Forgotten) -> set[str]:
    return {holding.what for holding in found.holdings}


def where(found: Forgotten, what: str) -> list[str]:
    return [holding.where for holding in found.holdings if holding.what == what]


def paths(found: Forgotten, what: str) -> list[str]:
    return [path for holding in found.holdings if holding.what == what for path in holding.paths]


def run(found: Forgotten, what: str) -> None:
    """Run the commands that are printed for `what`, as they are printed."""
    for holding in found.holdings:
        if holding.what == what:
            subprocess.run(holding.command, shell=True, check=True, capture_output=True)


def splits() -> dict[bytes, str]:
    folder = Path("data/prepared/people")
    return {row.tobytes(): split for split in SPLITS for row in prepared.load(folder, split).ids}


def raw() -> pa.Table:
    return table.read(Path("data/raw/people.parquet"), "ingest@people")


def hashes(rows: pa.Table) -> set[bytes]:
    return forgotten.hashes(rows, table.layout_of(rows, "ill"))


def of(*persons: str) -> set[bytes]:
    """The hashes of these people's rows in the workspace."""
    rows = raw()
    return hashes(rows.filter(pa.array([each in persons for each in rows.column(".group").to_pylist()])))


def earlier() -> list[forgetting.Version]:
    return forgetting.versions("people", load_params().dataset("people").source, None)[1]


def listed() -> set[bytes]:
    return set(forgotten.read(LIST.parent))


@settings(deadline=None)  # the first call loads pyarrow's kernels
@given(gone=st.sets(st.integers(0, 79)), parts=st.integers(1, 5))
def test_rows_in_are_rows_kept_and_rows_forgotten(gone: set[int], parts: int) -> None:
    layout = table.Layout("tabular", (1,), "ill", ("age",))
    columns = [pa.array(["a", "b"] * 40), pa.array(np.arange(80.0))]
    whole = table.build(layout, "here", columns)
    size = 80 // parts + 1
    cut = [whole.slice(start, size) for start in range(0, 80, size)]
    named = forgotten.hashes(whole.take(pa.array(sorted(gone), pa.int64())), layout)
    told: list[int] = []
    kept = pa.concat_tables(forgotten.without(cut, layout, named, told.append))
    assert kept.num_rows + sum(told) == 80
    assert set(kept.column(".position").to_pylist()) == set(range(80)) - gone


@pytest.mark.parametrize("seed", range(3))
def test_no_prepared_row_is_a_forgotten_one_and_the_others_keep_their_split(project: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    persons = [f"p{at}" for at in random.choice(39, size=5, replace=False)]
    before, gone, there = splits(), of(*persons), raw().num_rows
    forget(*persons)
    people.make()
    after = splits()
    assert not gone & set(after)
    assert after == {row: split for row, split in before.items() if row not in gone}
    assert raw().num_rows == there - 10
    assert listed() == gone


def test_the_stage_says_how_many_rows_it_leaves_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget("p1")
    people.make()
    assert f"people: 2 rows left out, which are forgotten ({LIST})" in capsys.readouterr().out


def test_rows_are_meant_by_group_by_place_and_by_their_own_id(project: Path) -> None:
    rows = raw()
    one = hashes(rows.slice(20, 1)).pop()
    found = forget("p3", "people.csv:10", one.hex())
    assert found.rows == 4
    assert listed() == of("p3") | hashes(rows.slice(10, 1)) | {one}


def test_a_row_of_an_earlier_version_is_forgotten_too(project: Path) -> None:
    found = forget("p39")
    assert found.rows == 0, "they are in the first commit alone"
    assert found.fresh == 2
    assert len(where(found, "version")) == 1
    assert "tag: one" in where(found, "version")[0]
    people.make(ROWS)
    assert not listed() & set(splits())


def test_a_place_is_one_of_the_data_as_they_are_now(project: Path) -> None:
    people.make(ROWS[5:])
    found = forget("people.csv:10")
    assert listed() == hashes(raw().slice(10, 1))
    people.make()
    again = forget("people.csv:10")
    assert (found.fresh, again.fresh) == (1, 0)


def test_a_row_of_the_same_values_goes_with_it_and_is_counted(project: Path) -> None:
    people.make([*ROWS[:-2], ROWS[0] | {"person": "other"}])
    found = forget("p0")
    assert (found.rows, found.alike, found.fresh) == (2, 1, 2)


def test_an_unknown_id_is_named_and_nothing_changes(project: Path) -> None:
    with pytest.raises(DataError, match=r"people: no row goes by 'nobody', 'people\.csv:999', here"):
        forget("p1", "nobody", "people.csv:999")
    assert not LIST.exists()


def test_trying_changes_nothing_and_finds_the_same(project: Path) -> None:
    tried = forget("p1", trying=True)
    assert not LIST.exists()
    assert people.git("status", "--porcelain") == ""
    assert forget("p1") == tried


def test_twice_is_once(project: Path) -> None:
    forget("p1", "p3")
    first = LIST.read_bytes()
    people.make()
    again = forget("p1", "p3")
    assert (again.fresh, again.rows) == (0, 0)
    assert LIST.read_bytes() == first
    forget("p5")
    assert LIST.read_text().splitlines()[1:] == sorted(LIST.read_text().splitlines()[1:])


def test_the_list_itself_says_who_was_forgotten(project: Path) -> None:
    forget("p1")
    people.make([row for row in ROWS[:-2] if row["person"] != "p1"])
    again = forgetting.forget("people", Ids.read(LIST))
    assert (again.fresh, again.rows) == (0, 0)
    assert {"version", "DVC cache"} <= whats(again)
    assert not {"workspace", "source"} & whats(again)


def test_only_models_that_were_taught_a_row_are_named(project: Path) -> None:
    found = splits()
    taught = next(row for row, split in found.items() if split == "train")
    tested = next(row for row, split in found.items() if split == "test")
    assert "models/people/sparse" in paths(forget(taught.hex(), trying=True), "workspace")
    said = paths(forget(tested.hex(), trying=True), "workspace")
    assert "models/people/sparse" not in said
    assert "data/prepared/people" in said
    assert "data/quarantine/people.parquet" not in said


def test_the_source_is_named_until_the_rows_are_out_of_it(project: Path) -> None:
    found = forget("p1")
    assert where(found, "source") == ["people.csv: 2 rows"]
    people.make([row for row in ROWS[:-2] if row["person"] != "p1"])
    assert "source" not in whats(forget("p1"))


def test_rows_that_came_in_later_are_forgotten_and_not_accepted_again(project: Path) -> None:
    source = load_params().dataset("people").source
    late = Path("data/incoming/people/late.csv")
    late.parent.mkdir(parents=True)
    people.write_csv([*({**row, "person": f"q{row['person']}"} for row in people.people(6, seed=9))], late)
    read = sources.read_rows(late, source)
    path = sources.accept(LIST.parent, read, source)
    assert path is not None
    subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", str(path)], check=True)
    pointer = Path(f"{path}.dvc").read_text()
    tried = forget("qp1", trying=True)
    assert tried.rewritten == [path]
    assert table.read(path, "").num_rows == 6
    found = forget("qp1")
    assert where(found, "incoming file") == [f"{late}: 2 of 6 rows"]
    assert table.read(path, "").num_rows == 4
    assert Path(f"{path}.dvc").read_text() != pointer
    assert sources.accept(LIST.parent, read, source) is None, "nothing in it is new"
    run(found, "incoming file")
    assert not late.exists()
    assert not listed() & hashes(sources.ingest(source, LIST.parent).whole())


def test_what_an_incoming_file_brings_is_looked_at_without_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import incoming

    forget("p1")
    late = Path("data/incoming/people/late.csv")
    late.parent.mkdir(parents=True)
    people.write_csv([*ROWS[:6]], late)
    seen = incoming.examine(incoming.Incoming(late, ""), "people", load_params().dataset("people"))
    assert seen.clean.num_rows + seen.bad == 4


@pytest.mark.slow
def test_caches_hold_versions_until_the_printed_commands_have_run(project: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    Path(".dvc/config.local").write_text(
        f"['remote \"store\"']\n    url = {tmp_path}/store\n[core]\n    remote = store\n"
    )
    with Repo() as repo:
        repo.push(all_commits=True)
    found = forget("p1", "p39")
    assert {"workspace", "version", "DVC cache", "DVC remote"} <= whats(found)
    assert len(where(found, "version")) == 2
    object_ = Path(where(found, "DVC cache")[0].rpartition("such as ")[2])
    assert object_.exists()

    people.make()
    people.commit("three")
    for holding in ("DVC cache", "DVC remote"):
        run(found, holding)
    assert not object_.exists()
    pushed, used = (
        {path.name for path in folder.rglob("files/md5/*/*")}
        for folder in (tmp_path / "store", Path(".dvc/cache"))
    )
    assert pushed < used, "what the workspace has no use for is gone from both"
    after = forget("p1")
    assert not {"workspace", "version", "DVC cache", "DVC remote"} & whats(after)
    assert len(after.unread) == 2


def test_a_version_that_is_nowhere_is_held_by_what_is_left_of_it(project: Path) -> None:
    (md5,) = {version.outs["data/raw/people.parquet"] for version in earlier() if "tag: one" in version.name}
    Path(".dvc/cache/files/md5", md5[:2], md5[2:]).unlink()
    found = forget("p1")
    assert ["tag: one" in name for name in found.unread] == [True]
    assert len(where(found, "version")) == 1
    (told,) = where(found, "DVC cache")
    assert not told.startswith(": 0")


def test_a_file_that_git_has_itself_is_named(project: Path) -> None:
    assert "people.csv itself is in 2 commits" in where(forget("p1", trying=True), "git")[0]


def test_a_file_under_dvc_is_held_by_its_cache(project: Path) -> None:
    people.git("rm", "--quiet", "--cached", "people.csv")
    subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", "people.csv"], check=True)
    people.commit("three")
    held = [each for each in forget("p1", trying=True).holdings if each.what == "version"]
    assert any("people.csv" in each.paths and "tag: three" in each.where for each in held)
    pointed = Path("people.csv.dvc").read_text().split("md5: ")[1].split()[0]
    outs = [version.holding() for version in earlier() if "tag: three" in version.name]
    assert [each["people.csv"] for each in outs] == [pointed]


def test_older_commits_than_the_limit_are_counted(project: Path) -> None:
    found = forget("p1", limit=1)
    assert found.passed_over == 1
    assert "tag: two" in where(found, "version")[0]


def test_what_shows_values_of_rows_is_named(project: Path) -> None:
    for path in ("var/data_docs/people", "reports/people.html", "var/checkpoints/people"):
        Path(path).mkdir(parents=True)
    rejected = raw().slice(2, 1)
    table.write(Path("var/retrain/people/late.rejected.parquet"), rejected)
    found = forget("p1")
    assert {"data docs", "report", "checkpoints", "rejected rows"} <= whats(found)
    assert "rejected rows" not in whats(forget("p9"))
    for what in ("data docs", "checkpoints", "rejected rows"):
        run(found, what)
    assert not {"data docs", "checkpoints", "rejected rows"} & whats(forget("p1"))


@pytest.mark.slow
def test_a_registered_model_is_named_until_the_printed_command_has_run(project: Path) -> None:
    from mlflow import MlflowClient

    from latentops.registry import store, versions
    from latentops.registry.candidate import DIGEST

    digests = {version.name: version.outs["data/prepared/people"] for version in earlier()}
    client: MlflowClient = store.connect()
    name = versions.model_name("people")
    client.create_registered_model(name)
    files = project / "model"
    files.mkdir()
    for digest in [*digests.values(), "0" * 32]:
        client.create_model_version(name, source=str(files), tags={DIGEST: digest})
    found = forget("p39", trying=True)
    assert len(where(found, "model")) == 1, "the second version was made without them"
    found = forget("p1", trying=True)
    assert len(where(found, "model")) == 2
    shutil.rmtree(files)
    files.mkdir()
    for holding in found.holdings:
        if holding.what == "model":
            subprocess.run(holding.command, shell=True, check=True, capture_output=True)
            files.mkdir(exist_ok=True)
    assert [version.tags[DIGEST] for version in versions.versions(client, "people")] == ["0" * 32]


def test_the_command_reads_a_file_and_says_what_to_commit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_text("p1\n\n  p3  \n", encoding="utf-8")
    app(["forget", "people", "--ids", "ids.txt", "--dry-run"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "people: 4 rows are meant; would be left out of all data to come" in out
    assert f"{LIST}: 4 hashes would be added\n" in out
    assert "  DVC cache: " in out
    assert "\n    data/prepared/people\n" in out, "a path a line"
    assert not LIST.exists()
    Path("ids.txt").write_text("people.csv:10\n", encoding="utf-8")
    app(["forget", "people", "--ids", "ids.txt"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "people: 1 row is meant; left out of all data to come" in out
    assert f"{LIST}: 1 hash added; commit it" in out


@contextmanager
def reproducing() -> Iterator[None]:
    """`dvc repro` in a process of its own, in the middle of a stage."""
    content = {"stages": {"long": {"cmd": "echo begun && cat gate > made", "outs": ["made"]}}}
    Path("dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    os.mkfifo("gate")
    command = [sys.executable, "-m", "dvc", "repro", "long"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert "begun\n" in iter(process.stdout.readline, "")  # type: ignore[union-attr]
        try:
            yield
        finally:
            Path("gate").write_text("", encoding="utf-8")
        process.communicate()
    assert process.returncode == 0


def test_while_dvc_runs_a_stage_nothing_is_said(project: Path) -> None:
    before = whats(forget("p1", trying=True))
    with reproducing(), pytest.raises(DataError, match="people: DVC is at work here, as `make repro`"):
        forget("p1")
    assert not LIST.exists()
    assert whats(forget("p1")) == before


def test_while_dvc_writes_nothing_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo, lock_repo

    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0)
    with Repo() as repo, lock_repo(repo), pytest.raises(DataError, match="DVC is at work here"):
        forget("p1")
    assert not LIST.exists()


@pytest.mark.parametrize("content", [b"", b"schema: '2.0'\n", b"stages: [", b"\xff\xfe", None])
def test_a_lock_file_that_says_nothing_is_not_taken_for_one_of_no_outs(
    project: Path, content: bytes | None
) -> None:
    lock = Path("dvc.lock")
    if content is None:
        lock.unlink()
    else:
        lock.write_bytes(content)
    with pytest.raises(DataError, match=r"dvc\.lock: .*`git checkout dvc\.lock`"):
        forget("p1")
    assert not LIST.exists()


def test_a_commit_whose_lock_file_is_broken_is_told(project: Path) -> None:
    lock = Path("dvc.lock")
    before = lock.read_bytes()
    lock.write_bytes(b"")
    people.commit("broken")
    lock.write_bytes(before)
    people.commit("whole")
    found = forget("p1")
    assert ["tag: broken" in name for name in found.unread] == [True]


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "no ids; write one a line"), (b"\xff\xfe\x00", "can't be read as text")]
)
def test_a_file_without_ids_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(DataError, match=told):
        Ids.read(tmp_path / "ids.txt")


def test_a_dataset_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'people'"):
        forgetting.forget("poeple", Ids(frozenset({"p1"})))


def test_a_broken_list_is_named_by_line(project: Path) -> None:
    LIST.write_text("# comment\nnot a hash\n")
    with pytest.raises(DataError, match=r"forgotten\.txt: line 2 is not a SHA-256"):
        people.make()
