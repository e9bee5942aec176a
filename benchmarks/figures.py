"""What the benchmarks share: rows of figures, and the machine and the commit that they were taken on."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from latentops.errors import LatentOpsError

ROOT = Path(__file__).resolve().parent.parent
Better = Literal["lower", "higher"]
UNITS = ("s", "ms", "GB", "stages", "×", "%", "rows/s", "requests/s")
"""Those that are shown."""


@dataclass(frozen=True)
class Row:
    """One figure: its `value` (the median of `values`), and whether it keeps its `target`, if it has one.

    What is yes or no has to be as the target says.
    """

    name: str
    value: float | bool
    unit: str
    target: float | bool | None
    met: bool | None
    values: tuple[float | bool, ...]
    better: Better = "lower"


def row(
    name: str,
    values: Sequence[float | bool],
    unit: str,
    target: float | bool | None = None,
    better: Better = "lower",
) -> Row:
    """A row of one or more measurements of the same thing; of yes or no, the worst counts."""
    if isinstance(values[0], bool):
        value: float | bool = all(values)
        met = None if target is None else value is target
    else:
        value = round(statistics.median(values), 3)
        met = None if target is None else keeps(value, target, better)
        values = [round(one, 3) for one in values]
    return Row(name, value, unit, target, met, tuple(values), better)


def keeps(value: float, target: float, better: Better) -> bool:
    """Whether `value` is at most the target, or at least where higher is better."""
    return value <= target if better == "lower" else value >= target


@dataclass(frozen=True)
class Spread:
    """The median of some measurements of the same thing, the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 6) -> "Spread":
        """The spread of at least one value, to so many decimals."""
        return cls(*(round(one, digits) for one in (statistics.median(values), min(values), max(values))))


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of text."""
    lines = []
    for one in rows:
        if isinstance(one.value, bool):
            value = "yes" if one.value else "no"
        else:
            value = f"{one.value:.{0 if one.unit == 'stages' else 2}f}"
        unit = one.unit if one.unit in UNITS else ""
        sign = "≤" if one.better == "lower" else "≥"
        wanted = "" if one.target is None else "yes" if one.target is True else f"{sign} {one.target:g}"
        verdict = "" if one.met is None else "met" if one.met else "MISSED"
        lines.append(f"{one.name:<52}{value:>9} {unit:<11}{wanted:<7}{verdict}".rstrip())
    return lines


def machine(*packages: str) -> dict[str, Any]:
    """What the figures were taken on, with the versions of `packages` that are installed here."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def warn_if_busy(taken_on: dict[str, Any]) -> None:
    """Print a note where the machine had other work before."""
    if taken_on["load_before"] > taken_on["cores"] / 2:
        print(f"note: this machine is busy (load {taken_on['load_before']}); its figures will be off")


def git(*arguments: str) -> str:
    """What a git command prints, run in this checkout; `LatentOpsError` where it isn't one."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        raise LatentOpsError(f"{ROOT}: not a git checkout with a commit, which a benchmark needs") from None
