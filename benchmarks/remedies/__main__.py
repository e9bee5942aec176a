"""What the field warns of, without its remedy and with it: the differences, paired over the seeds.

    python -m benchmarks.remedies [--only TOPIC]

A topic is a module of this package with a function `findings`. A finding is judged by the mean difference
(remedied less without) and Student's t interval of it. Writes `benchmarks/remedies.json` after each topic;
with `--only` the rows of the others stay as they are.
"""

import importlib
import json
import math
import pkgutil
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from scipy.stats import t as student

from benchmarks import remedies
from benchmarks.figures import ROOT, Better, git, machine, warn_if_busy
from benchmarks.remedies.study import Finding
from latentops import atomic
from latentops.cli import guard
from latentops.config import nearest
from latentops.errors import DataError, LatentOpsError, UnknownNameError
from latentops.progress import bar

RESULT = ROOT / "benchmarks/remedies.json"
CONFIDENCE = 0.95

Verdict = Literal["helps", "no effect shown", "hurts"]
Findings = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class Side:
    """One number a seed, and their mean."""

    mean: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Side":
        """The numbers in five digits, which is what is judged as well."""
        kept = tuple(float(f"{value:.5g}") for value in values)
        return cls(float(f"{statistics.fmean(kept):.5g}"), kept)


@dataclass(frozen=True)
class RemedyRow:
    """A finding of `topic`, taken at `commit`: both sides, and their `difference` from `low` to `high`."""

    name: str
    topic: str
    commit: str
    warning: str
    number: str
    remedy: str
    without: Side
    remedied: Side
    difference: float
    low: float
    high: float
    verdict: Verdict
    better: Better


def judge(finding: Finding, topic: str, commit: str) -> RemedyRow:
    """The row of a finding.

    `DataError` where its two sides aren't two or more finite numbers each, as many on one as on the other.
    """
    name = f"{finding.warning}: {finding.number}, {finding.remedy}"
    values = [*finding.without, *finding.remedied]
    paired = len(finding.without) == len(finding.remedied) >= 2
    if not paired or not all(map(math.isfinite, values)):
        raise DataError(
            f"{topic}: {name}: needs a finite number a seed on both sides, of two seeds or more; has "
            f"{list(finding.without)} without and {list(finding.remedied)} with the remedy"
        )
    without, remedied = Side.of(finding.without), Side.of(finding.remedied)
    low, difference, high = paired_difference(without.values, remedied.values)
    return RemedyRow(
        name=name,
        topic=topic,
        commit=commit,
        warning=finding.warning,
        number=finding.number,
        remedy=finding.remedy,
        without=without,
        remedied=remedied,
        difference=difference,
        low=low,
        high=high,
        verdict=verdict(low, high, finding.better),
        better=finding.better,
    )


def paired_difference(
    without: Sequence[float], remedied: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Low end, mean and high end of `remedied - without` over pairs, by Student's t.

    Where every pair differs by the same, the interval is that one number.
    """
    differences = [after - before for before, after in zip(without, remedied, strict=True)]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = float(student.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return mean - half, mean, mean + half


def verdict(low: float, high: float, better: Better) -> Verdict:
    """What an interval of `remedied - without` says; one that holds zero shows nothing."""
    if low <= 0 <= high:
        return "no effect shown"
    return "helps" if (high < 0) == (better == "lower") else "hurts"


def topics(package: Any = remedies) -> dict[str, Findings]:
    """The function `findings` of every module of `package` that has one, by the module's name."""
    names = sorted(each.name for each in pkgutil.iter_modules(package.__path__))
    modules = {
        name: importlib.import_module(f"{package.__name__}.{name}") for name in names if name[0] != "_"
    }
    return {name: module.findings for name, module in modules.items() if hasattr(module, "findings")}


def chosen(known: Mapping[str, Findings], only: Sequence[str]) -> dict[str, Findings]:
    """The topics named in `only`, or all; `UnknownNameError` names the nearest one."""
    for name in only:
        if name not in known:
            raise UnknownNameError(f"unknown topic {name!r}{nearest(name, known)}")
    return {name: findings for name, findings in known.items() if not only or name in only}


def kept(path: Path, known: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of `path` of the topics that there still are; none where there is no such file."""
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return [row for row in rows if row["topic"] in set(known)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a result of this benchmark ({error!r}); remove it") from None


def study(
    asked: Mapping[str, Findings],
    known: Sequence[str],
    path: Path,
    taken_on: Mapping[str, Any],
    commit: str,
    on_topic: Callable[[int], None] = lambda done: None,
) -> list[RemedyRow]:
    """Run what is `asked`, and put its rows into `path` topic by topic, in the place of their old ones.

    Raises `DataError` for a finding that can't be judged, or that is named as another one is.
    """
    made: list[RemedyRow] = []
    for done, (topic, findings) in enumerate(asked.items(), start=1):
        rows = [judge(finding, topic, commit) for finding in findings()]
        others = [row for row in kept(path, known) if row["topic"] != topic]
        names = [*(row["name"] for row in others), *(row.name for row in rows)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{topic}: found more than once: {'; '.join(twice)}")
        every = sorted([*others, *map(asdict, rows)], key=lambda row: known.index(row["topic"]))
        atomic.write_json(path, {"machine": taken_on, "commit": commit, "rows": every})
        made += rows
        on_topic(done)
    return made


def line(row: RemedyRow) -> str:
    """The row as a line of text."""
    return (
        f"{row.name:<70} {row.without.mean:>9.4g} → {row.remedied.mean:<9.4g} "
        f"{row.difference:>+9.3g} [{row.low:+.3g}, {row.high:+.3g}]  {row.verdict}"
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Only this topic; can be given several times.")
    ] = None,
) -> None:
    """Measure what the field warns of without its remedy and with it, and write the differences."""
    known = topics()
    if not known:
        raise LatentOpsError("no topic yet: a module of benchmarks/remedies with a function findings")
    asked = chosen(known, only or [])
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    taken_on = machine("torch")
    warn_if_busy(taken_on)
    with bar("remedies", len(asked)) as progress:
        rows = study(asked, list(known), RESULT, taken_on, commit, progress)
    print(*map(line, rows), RESULT, sep="\n")


if __name__ == "__main__":
    guard(app)
