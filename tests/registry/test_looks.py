from pathlib import Path

import pytest

from latentops.errors import RegistryError
from latentops.registry import looks
from latentops.registry.looks import Look


def finding(of: str, corrected: float, moved: bool) -> dict[str, object]:
    return {"of": of, "test": "kernel", "corrected": corrected, "moved": moved}


def test_looks_are_kept_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert looks.history() == []
    found = {"drifted": False, "findings": []}
    for name in ("a.csv", "b.csv"):
        looks.keep(Look("digits", "retrain", (name,), 2, found))
    kept = looks.history()
    assert [(each.files, each.champion, each.found) for each in kept] == [
        (["a.csv"], 2, found),
        (["b.csv"], 2, found),
    ]
    assert all(each.when for each in kept)


def test_what_moved_is_told_the_surest_first() -> None:
    findings = [
        finding("codes", 0.009, True),
        finding("scores", 0.4, False),
        finding("column a", 0.001, True),
    ]
    look = Look("digits", "score", (), 1, {"drifted": True, "findings": findings})
    assert [each["of"] for each in look.moved] == ["column a", "codes"]
    assert look.surest == findings[2]
    assert Look("digits", "score", (), 1, {"drifted": False, "findings": []}).surest is None


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / looks.LEDGER
    path.parent.mkdir()
    path.write_text("{half\n")
    with pytest.raises(RegistryError, match=r"drift\.jsonl: line 1 is no look"):
        looks.history(tmp_path)
