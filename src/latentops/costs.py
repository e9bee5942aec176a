"""What stages took on this machine, in `var/costs`: the last run of each, and a history of many runs.

Stages of several processes may end at once; git ignores the folder, and no DVC out is made from it.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latentops import atomic

FOLDER = Path("var/costs")
HISTORY = "history.jsonl"
KEPT = 5_000
"""Runs in the history; the oldest go first. They are some seventy runs of a DAG of seventy stages."""


@dataclass(frozen=True)
class Cost:
    """What one run of a stage took: seconds by the clock, seconds of CPU, the most memory in bytes.

    `stage` is DVC's name of it, `when` the time in UTC at which it ended, `revision` the git commit checked
    out. The last two are empty where they aren't known.
    """

    stage: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    when: str = ""
    revision: str = ""

    @property
    def verb(self) -> str:
        """What the stage does, such as `train`."""
        return self.stage.partition("@")[0]


def write(stage: str, wall_seconds: float, cpu_seconds: float, peak_bytes: int, root: Path = Path()) -> Cost:
    """Write down what a run of `stage` took that ended now, as its last one and into the history."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    cost = Cost(stage, round(wall_seconds, 3), round(cpu_seconds, 3), peak_bytes, now, _revision(root))
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path(stage, root), asdict(cost))
    with atomic.alone(folder):
        past = folder / HISTORY
        lines = past.read_text(encoding="utf-8").splitlines() if past.exists() else []
        kept = [*lines, json.dumps(asdict(cost), sort_keys=True)][-KEPT:]
        atomic.write_text(past, "".join(f"{line}\n" for line in kept))
    return cost


def last(stage: str, root: Path = Path()) -> Cost | None:
    """The last run of `stage`; None where there is none, or nobody can read it."""
    try:
        return _cost({**json.loads(path(stage, root).read_text(encoding="utf-8")), "stage": stage})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lasts(root: Path = Path()) -> Iterator[Cost]:
    """The last run of every stage that has run here, by name."""
    for each in sorted((root / FOLDER).glob("*.json")):
        found = last(each.stem.replace("-", "@", 1), root)
        if found is not None:
            yield found


def history(root: Path = Path()) -> list[Cost]:
    """The runs that are still known, the oldest first; a line that nobody can read is passed over."""
    past = root / FOLDER / HISTORY
    found = []
    for line in past.read_text(encoding="utf-8").splitlines() if past.exists() else []:
        try:
            found.append(_cost(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _cost(value: Mapping[str, Any]) -> Cost:
    return Cost(
        str(value["stage"]),
        float(value["wall_seconds"]),
        float(value["cpu_seconds"]),
        int(value["peak_bytes"]),
        str(value.get("when", "")),
        str(value.get("revision", "")),
    )


def path(stage: str, root: Path = Path()) -> Path:
    """Where the last run of `stage` is."""
    return root / FOLDER / f"{stage.replace('@', '-', 1)}.json"


def _revision(root: Path) -> str:
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
