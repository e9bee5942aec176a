"""`ledger/decisions.jsonl`: what retraining decided, a line each; also a "no", with its numbers."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from latentops import atomic
from latentops.errors import LatentOpsError

LEDGER = Path("ledger/decisions.jsonl")

Outcome = Literal["promoted", "held", "failed", "rejected", "waiting", "no new rows"]
SETTLED = {"promoted", "held", "failed", "rejected", "no new rows"}  # after these a file is new no more


@dataclass(frozen=True)
class Decision:
    """One line of the ledger.

    `questions` are what the policy asked, `drift` what was found to have moved, `gates` what the new model
    was held to, and `version` is the one that is live afterwards.
    """

    dataset: str
    decision: Outcome
    reason: str
    files: tuple[dict[str, str], ...] = ()
    rows: dict[str, int] = field(default_factory=lambda: {"new": 0, "clean": 0, "known": 0, "bad": 0})
    bad_reasons: dict[str, int] = field(default_factory=dict)
    questions: list[dict[str, Any]] = field(default_factory=list)
    drift: dict[str, Any] | None = None
    accepted: tuple[str, ...] = ()
    gates: tuple[dict[str, Any], ...] = ()
    version: int | None = None

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.dataset}: {self.decision}: {self.reason}"


def decisions(dataset: str) -> list[dict[str, Any]]:
    """What was decided about `dataset` so far, the oldest first; `LatentOpsError` names a broken line."""
    entries = []
    for number, line in enumerate(_lines(), start=1):
        try:
            entries.append(dict(json.loads(line)))
        except ValueError as error:
            raise LatentOpsError(f"{LEDGER}: line {number} is not JSON ({error})") from None
    return [entry for entry in entries if entry.get("dataset") == dataset]


def append(decision: Decision) -> None:
    """Add `decision` to the ledger, with the time."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"when": when, **asdict(decision)}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with atomic.alone(LEDGER.parent):
        atomic.write_text(LEDGER, "".join(f"{each}\n" for each in [*_lines(), line]))


def _lines() -> list[str]:
    return LEDGER.read_text(encoding="utf-8").splitlines() if LEDGER.exists() else []


def unfinished(past: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the last run that took rows in, or tried to go on with them, failed."""
    verdicts = [entry["decision"] for entry in past if entry["decision"] != "rejected"]
    return verdicts[-1:] == ["failed"]
