"""`ledger/drift.jsonl`: every look for drift, a line each, of rows that came in or were scored."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from latentops import atomic
from latentops.errors import RegistryError

LEDGER = Path("ledger/drift.jsonl")

Origin = Literal["retrain", "score"]


@dataclass(frozen=True)
class Look:
    """Rows of some `files`, held against what version `champion` knows; `found` as `Drift.to_json` has it."""

    dataset: str
    origin: Origin
    files: Sequence[str]
    champion: int | None
    found: dict[str, Any]
    when: str = ""

    @property
    def surest(self) -> dict[str, Any] | None:
        """The finding with the smallest corrected p-value; None where nothing could be tested."""
        return min(self.found["findings"], key=lambda each: float(each["corrected"]), default=None)

    @property
    def moved(self) -> list[dict[str, Any]]:
        """The findings of drift, the surest first."""
        found = [each for each in self.found["findings"] if each["moved"]]
        return sorted(found, key=lambda each: float(each["corrected"]))


def keep(look: Look) -> None:
    """Add `look` to the ledger, with the time."""
    told = {**asdict(look), "files": list(look.files)}
    told["when"] = datetime.now(UTC).isoformat(timespec="seconds")
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with atomic.alone(LEDGER.parent):
        lines = LEDGER.read_text(encoding="utf-8").splitlines() if LEDGER.exists() else []
        lines.append(json.dumps(told, sort_keys=True, ensure_ascii=False, allow_nan=False))
        atomic.write_text(LEDGER, "".join(f"{line}\n" for line in lines))


def history(root: Path = Path()) -> list[Look]:
    """All looks, the oldest first; `RegistryError` names a line that isn't one."""
    path = root / LEDGER
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.exists() else [], start=1):
        try:
            found.append(Look(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RegistryError(f"{path}: line {number} is no look for drift ({error})") from None
    return found
