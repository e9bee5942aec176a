"""`ledger/promotions.jsonl`: who made which model live or turned it down, when and why.

Lines are added, never changed.

Each line carries the sha256 of the line before it, so that a line which is changed, moved or taken out later
shows at the next one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latentops import atomic
from latentops.errors import RegistryError
from latentops.registry import lineage

LEDGER = Path("ledger/promotions.jsonl")
FIRST = "0" * 64  # what the first line carries in place of a hash
MOVES = ("promote", "rollback")
"""Events that made another version champion; the others, `hold` and `reject`, are a challenger's."""


@dataclass(frozen=True)
class Break:
    """A line that doesn't carry the hash of the line before it."""

    line: int
    expected: str
    found: str


def entries(dataset: str | None = None, path: Path = LEDGER) -> list[dict[str, Any]]:
    """All lines in their order, or those of `dataset`; `RegistryError` names a line that isn't JSON."""
    parsed = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            parsed.append(dict(json.loads(line)))
        except ValueError as error:
            raise RegistryError(f"{path}: line {number} is not JSON ({error})") from None
    return [entry for entry in parsed if dataset in (None, entry.get("dataset"))]


def moves(dataset: str, path: Path = LEDGER) -> list[dict[str, Any]]:
    """The lines of `dataset` that made another version champion."""
    return [entry for entry in entries(dataset, path) if entry["event"] in MOVES]


def append(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Add one line: `entry` with who, when, and the hash of the line before. The caller holds the lock."""
    lines = _lines()
    added = {
        **entry,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": lineage.user(),
        "before": _hash(lines[-1]) if lines else FIRST,
    }
    text = json.dumps(added, sort_keys=True, ensure_ascii=False, allow_nan=False)
    atomic.write_text(LEDGER, "".join(f"{line}\n" for line in [*lines, text]))
    return added


def breaks() -> list[Break]:
    """Where the chain of hashes is broken; empty for a ledger that is whole."""
    lines, found = _lines(), []
    earlier = [None, *lines][: len(lines)]
    for number, (entry, before) in enumerate(zip(entries(), earlier, strict=True), start=1):
        expected = FIRST if before is None else _hash(before)
        if entry.get("before") != expected:
            found.append(Break(number, expected, str(entry.get("before"))))
    return found


def _lines(path: Path = LEDGER) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
