"""What changed between two revisions, of tables made by hand and of a project under git and DVC."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.cli import app
from latentops.data import history
from latentops.data.history import WORKSPACE, Change, Listed, Revision
from latentops.errors import DataError, UnknownNameError
from tests.data import people

ROWS = people.people(80)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        people.start()
        people.make(ROWS)
        people.commit("one")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for each test."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def changed(old: str = "one", new: str = WORKSPACE) -> Change:
    (found,) = history.compare(Revision(old), Revision(new), [])
    return found


def counted(change: Change) -> dict[str, int]:
    return {what: sum(counts.values()) for what, counts in change.counts.items()}


def side(rows: list[tuple[int, int]]) -> Listed:
    """A row of each content and position."""
    ids, positions = (np.array([row[at] for row in rows], np.uint64) for at in (0, 1))
    zeros = np.zeros(len(rows), np.int32)
    return Listed(
        (ids, ids), zeros, positions.astype(np.int64), (ids % 4).astype(np.int8), zeros, quarantined=0
    )


TABLES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=12, unique_by=lambda row: row[1])


@given(old=TABLES, new=TABLES)
def test_what_is_added_and_removed_is_the_difference_of_multisets(
    old: list[tuple[int, int]], new: list[tuple[int, int]]
) -> None:
    counts = counted(history._change("d", side(old), side(new), [""], 3))
    before, after = Counter(row[0] for row in old), Counter(row[0] for row in new)
    assert counts["added"] + counts["changed"] == (after - before).total()
    assert counts["removed"] + counts["changed"] == (before - after).total()


@given(old=TABLES, new=TABLES, at_once=st.integers(1, 5))
def test_rows_held_against_each_other_share_by_share_are_the_same_ones(
    old: list[tuple[int, int]], new: list[tuple[int, int]], at_once: int
) -> None:
    whole = history._change("d", side(old), side(new), [""], 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "_AT_ONCE", at_once)
        assert history._change("d", side(old), side(new), [""], 3) == whole


@given(old=TABLES, new=TABLES)
def test_looked_at_backwards_added_is_removed(old: list[tuple[int, int]], new: list[tuple[int, int]]) -> None:
    there = history._change("d", side(old), side(new), [""], 3)
    back = history._change("d", side(new), side(old), [""], 3)
    assert there.counts["added"] == back.counts["removed"]
    assert counted(there)["changed"] == counted(back)["changed"]
    assert not there.moved, "a row's split goes by its content here"


def test_nothing_changed_where_nothing_was_done(project: Path) -> None:
    found = changed()
    clean = len(ROWS) - 4
    assert counted(found) == {"added": 0, "removed": 0, "changed": 0}
    assert found.rows == (clean, clean)
    assert found.quarantined == (4, 4)
    assert not found.moved


def test_rows_added_removed_and_changed_are_told_apart(project: Path) -> None:
    twice, other = dict(ROWS[0]), ROWS[10] | {"height": "1.5", "ill": "1"}
    # The last three go, one in the middle has another value, one comes twice, and one is too old.
    rows = [*ROWS[:10], other, *ROWS[11:77], ROWS[1] | {"age": "500"}, ROWS[2] | {"height": "3"}]
    people.make([*rows[:77], rows[77], rows[78], twice])
    found = changed()
    assert counted(found) == {"added": 0, "removed": 1, "changed": 3}
    assert found.quarantined == (4, 5)
    places = {(each.source, each.position) for each in found.examples["changed"]}
    assert places == {("people.csv", 10), ("people.csv", 78), ("people.csv", 79)}
    assert [each.position for each in found.examples["removed"]] == [77]
    (example,) = (each for each in found.examples["changed"] if each.position == 10)
    assert example.label == "1"


def test_rows_in_another_order_are_the_same_rows(project: Path) -> None:
    people.make(ROWS[::-1])
    found = changed()
    assert counted(found) == {"added": 0, "removed": 0, "changed": 0}
    assert not found.moved


def test_rows_by_hash_stay_in_their_split_when_others_come(project: Path) -> None:
    people.make([*ROWS, *people.people(30, seed=1)[:12]])
    found = changed()
    assert counted(found)["added"] == 11, "one is too old"
    assert not found.moved


def test_another_seed_moves_rows_and_it_is_said(project: Path) -> None:
    people.write_params({"seed": 1, "stop": 0.2, "calibration": 0.1, "test": 0.2, "by": "hash"})
    people.make()
    found = changed()
    assert counted(found) == {"added": 0, "removed": 0, "changed": 0}
    assert found.moved.total() > 0
    assert all(a != b for a, b in found.moved)


def test_two_commits_are_compared_without_the_workspace(project: Path) -> None:
    people.make(ROWS[:60])
    people.commit("two")
    people.make(ROWS)
    assert counted(changed("one", "two"))["removed"] == 19, "of twenty one is too old"
    assert counted(changed("two", WORKSPACE))["added"] == 19
    assert counted(changed("one", WORKSPACE)) == {"added": 0, "removed": 0, "changed": 0}


def test_a_dataset_of_one_side_alone_is_all_added(project: Path) -> None:
    people.git("checkout", "--quiet", "-b", "empty")
    Path("dvc.yaml").write_text("stages: {}\n")
    people.git("rm", "--quiet", "--cached", "dvc.lock")
    Path("dvc.lock").unlink()
    people.commit("none")
    assert counted(changed("none", "one")) == {"added": 76, "removed": 0, "changed": 0}
    assert changed("one", "none").rows == (76, 0)


def test_data_that_are_nowhere_are_named_with_what_to_run(project: Path, tmp_path: Path) -> None:
    people.make(ROWS[:60])
    shutil.rmtree(".dvc/cache")
    with pytest.raises(DataError, match=r"one: data/splits/people\.parquet: .* `dvc fetch --all-commits"):
        changed()


def test_data_in_a_remote_alone_are_read_from_there(project: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    Path(".dvc/config.local").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path}/remote\n"
    )
    with Repo() as repo:
        repo.push()
    people.make(ROWS[:60])
    shutil.rmtree(".dvc/cache")
    assert counted(changed())["removed"] == 19


def test_the_command_says_it_in_a_line_a_table_and_examples(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people.make(ROWS[:78])
    app(["data-status", "one", "workspace", "people"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "people: 76 → 74 rows: 0 added, 2 removed, 0 changed; quarantined: 4 → 4\n" in out
    assert "moved to another split: none\n" in out
    assert "  removed: people.csv:78 (" in out


def test_an_unknown_revision_or_dataset_is_named(project: Path) -> None:
    with pytest.raises(DataError, match="yesterday"):
        Revision("yesterday")
    with pytest.raises(UnknownNameError, match="did you mean 'people'"):
        history.compare(Revision("one"), Revision(WORKSPACE), ["peple"])


def test_a_folder_without_git_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="not a git repository"):
        Revision("HEAD")
