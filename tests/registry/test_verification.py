"""Every link from the ledger down to dvc.lock is held against its neighbour, and a broken one is named."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from latentops.atomic import write_text
from latentops.config import load_params
from latentops.registry import candidate, ledger, lineage, results, store, tracking, versions
from latentops.registry.champion import promote, rollback
from latentops.registry.verification import Verification, verify
from latentops.reporting.profiles import drawings

from .conftest import write_comparison

MODEL = "table-autoencoder"


def broken(name: str = "table@champion") -> list[str]:
    return [link.name for link in verify(name).broken]


@pytest.mark.parametrize("name", ["table", "table@champion", "table@previous", "table/1"])
@pytest.mark.postgresql
def test_every_link_of_an_untouched_chain_holds(twice: Path, name: str) -> None:
    answer = verify(name)
    assert answer.holds, [link.text for link in answer.broken]
    assert len(answer.links) >= 9


def test_it_still_holds_after_a_rollback_and_after_loading(twice: Path) -> None:
    rollback("table")
    versions.load("table")
    assert broken() == []
    assert broken("table@previous") == []


def test_a_changed_ledger_line_shows_at_the_next(twice: Path) -> None:
    lines = ledger.LEDGER.read_text().splitlines()
    ledger.LEDGER.write_text("\n".join([lines[0].replace('"seed": 1', '"seed": 0'), lines[1]]) + "\n")
    assert [found.line for found in ledger.breaks()] == [2]
    [link] = verify("table").broken
    assert link.name == "ledger, line 2: hash of the line before"
    assert link.left in link.text
    assert link.right in link.text


def test_a_ledger_line_taken_out_shows(twice: Path) -> None:
    ledger.LEDGER.write_text(ledger.LEDGER.read_text().splitlines()[1] + "\n")
    assert [found.expected for found in ledger.breaks()] == [ledger.FIRST]


def test_an_alias_moved_by_hand_shows(twice: Path) -> None:
    store.connect().set_registered_model_alias(MODEL, "champion", "1")
    link = next(link for link in verify("table@champion").broken if "alias" in link.name)
    assert (link.left, link.right) == ("version 2", "version 1")


def test_a_challenger_is_proven_and_so_is_what_was_forced(twice: Path) -> None:
    failing = {"gate": "rivals", "value": -0.01, "limit": 0.0, "passed": False, "text": "does not beat pca-3"}
    write_comparison("table", "variational", seed=0, gates=[failing], passed=False)
    tracking.record("table", load_params(), drawings)
    promote("table")
    assert broken("table@challenger") == []
    assert broken("table@champion") == []
    rollback("table")
    assert broken("table@challenger") == []
    promote("table", reason="it has to be", force=True)
    assert broken("table@champion") == []
    store.connect().delete_model_version_tag(MODEL, "3", candidate.FORCED)
    assert broken("table@champion") == ["ledger ↔ version: promoted against a gate"]


@pytest.mark.postgresql
def test_a_changed_byte_of_the_package_shows(twice: Path, kept: Callable[[str], Path]) -> None:
    weights = kept("table") / "artifacts" / "package" / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert broken() == ["version ↔ package: sha256 of the files"]


@pytest.mark.postgresql
def test_a_package_that_is_gone_shows(twice: Path, kept: Callable[[str], Path]) -> None:
    shutil.rmtree(kept("table"))
    [link] = verify("table").broken
    assert (link.name, link.right) == ("version ↔ package: sha256 of the files", "gone")


def test_a_changed_tag_shows(twice: Path) -> None:
    store.connect().set_model_version_tag(MODEL, "2", results.CONTENT, "0" * 64)
    assert broken() == [
        "ledger ↔ version: content hash",
        "version ↔ package: content hash",
        "version ↔ run: content hash",
    ]


def test_a_run_that_is_gone_shows(twice: Path) -> None:
    client = store.connect()
    client.delete_run(versions.resolve("table").run_id)
    assert broken() == ["version ↔ run: still there"]


def rewrite_lock(**changes: str) -> None:
    """Put other digests into dvc.lock: of the rows of `table`, or of a variant's model."""
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    for name, digest in changes.items():
        stage = "prepare@table" if name == "rows" else f"train@table-{name}"
        lock["stages"][stage]["outs"][0]["md5"] = digest
    write_text(Path("dvc.lock"), yaml.safe_dump(lock))


def commit(message: str) -> str:
    """Commit dvc.lock; the commit's name, as links show it."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "dvc.lock"], ["commit", "-q", "-m", message]):
        subprocess.run([*git, *command], check=True)
    return lineage.git_commit()[:12]


def test_rows_that_changed_since_show(twice: Path) -> None:
    rewrite_lock(rows="0" * 32 + ".dir")
    changed, disk = verify("table").broken
    there = lineage.digest(Path("data/prepared/table"))
    assert changed.name == "version ↔ dvc.lock: dataset digest"
    assert (changed.left, changed.right) == (there, "0" * 32 + ".dir")
    assert disk.name == "dvc.lock ↔ data/prepared/table: md5"
    assert (disk.left, disk.right) == ("0" * 32 + ".dir", there)


def test_rows_on_disk_that_are_others_show(twice: Path) -> None:
    path = next(path for path in Path("data/prepared/table/test").iterdir() if path.is_file())
    path.write_bytes(path.read_bytes() + b"!")
    assert broken() == ["dvc.lock ↔ data/prepared/table: md5"]
    shutil.rmtree("data/prepared/table")
    [link] = verify("table").broken
    assert "dvc pull" in link.right


def test_a_model_of_an_earlier_commit_is_proven_by_that_commits_lock(twice: Path) -> None:
    then = commit("both champions")
    rewrite_lock(variational="1" * 32, undercomplete="2" * 32)
    commit("trained again, and held back")
    for name in ("table@champion", "table@previous"):
        answer = verify(name)
        assert answer.holds, [link.text for link in answer.broken]
        assert f"run ↔ dvc.lock of {then}: md5 of the model" in [link.name for link in answer.links]
        assert any("run ↔ package and rows" in link.name for link in answer.links)


def test_a_model_that_no_lock_names_shows(twice: Path) -> None:
    rewrite_lock(undercomplete="2" * 32)
    commit("trained again")
    [link] = verify("table").broken
    assert link.name == "run ↔ dvc.lock: md5 of the model"
    assert link.right.startswith(f"{'2' * 32} (no commit's dvc.lock names its model")


def test_the_runs_figures_are_taken_again_from_the_package(twice: Path) -> None:
    names = [link.name for link in verify("table").links]
    assert {"run ↔ package and rows: probe_accuracy", "run ↔ package's own scorers: auroc"} <= set(names)
    client = store.connect()
    run = client.get_run(versions.resolve("table").run_id)
    child = tracking.member(client, run, 1)
    client.log_metric(child.info.run_id, "knn_accuracy", 1.5)
    [link] = verify("table").broken
    assert link.name == "run ↔ package and rows: knn_accuracy"
    assert link.left == "1.5"
    assert 0 <= float(link.right) <= 1
    client.delete_run(child.info.run_id)
    assert {link.left for link in verify("table").broken} == {"not recorded"}


def test_a_promotion_the_ledger_lost_shows(twice: Path) -> None:
    ledger.LEDGER.write_text(ledger.LEDGER.read_text().splitlines()[0] + "\n")
    assert "ledger ↔ alias champion" in broken()


def test_so_does_a_ledger_that_is_gone(twice: Path) -> None:
    """A clone has none, and the store may be another's."""
    ledger.LEDGER.unlink()
    assert "ledger ↔ alias champion" in broken()


def test_the_answer_reads_as_lines(twice: Path) -> None:
    answer = verify("table")
    assert isinstance(answer, Verification)
    assert answer.name == "table@champion"
    assert all(link.text.startswith(link.name) for link in answer.links)


def test_a_ledger_line_says_who_when_and_why(twice: Path) -> None:
    line = json.loads(ledger.LEDGER.read_text().splitlines()[-1])
    assert {"who", "when", "why", "gates", "previous", "version", "variant", "seed", "content_hash"} <= set(
        line
    )
