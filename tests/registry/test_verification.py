"""Every link from the ledger down to dvc.lock is held against its neighbour, and a broken one is named."""

import json
import shutil
from pathlib import Path

import pytest

from latentops.config import load_params
from latentops.registry import candidate, ledger, results, store, tracking, versions
from latentops.registry.champion import promote, rollback
from latentops.registry.verification import Verification, verify
from latentops.reporting.profiles import drawings

from .conftest import write_comparison

MODEL = "table-autoencoder"


def broken(name: str = "table@champion") -> list[str]:
    return [link.name for link in verify(name).broken]


@pytest.mark.parametrize("name", ["table", "table@champion", "table@previous", "table/1"])
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
    rollback("table")
    promote("table", reason="it has to be", force=True)
    assert broken("table@champion") == []
    store.connect().delete_model_version_tag(MODEL, "3", candidate.FORCED)
    assert broken("table@champion") == ["ledger ↔ version: promoted against a gate"]


def test_a_changed_byte_of_the_package_shows(twice: Path) -> None:
    place = versions.files(store.connect(), versions.resolve("table"))
    weights = place / "artifacts" / "package" / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert broken() == ["version ↔ package: sha256 of the files"]


def test_a_package_that_is_gone_shows(twice: Path) -> None:
    shutil.rmtree(versions.files(store.connect(), versions.resolve("table")))
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


def test_rows_that_changed_since_show(twice: Path) -> None:
    lock = Path("dvc.lock")
    lock.write_text(lock.read_text().replace(f"{'table':_<32}.dir", "0" * 32 + ".dir"))
    [link] = verify("table").broken
    assert link.name == "version ↔ dvc.lock: dataset digest"
    assert (link.left, link.right) == (f"{'table':_<32}.dir", "0" * 32 + ".dir")


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
