"""What the stages took on this machine, for a page of its own: it is no part of the results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from markupsafe import Markup

from latentops import costs
from latentops.costs import Cost
from latentops.reporting.svg import Drawing, Scale, path, scale

SHOWN = 25
"""Stages that have a line of their own, the dearest."""
MIB = 2**20


@dataclass(frozen=True)
class Verb:
    """The last runs of all stages of a verb together; `bar` compares their seconds with other verbs'."""

    name: str
    stages: int
    wall_seconds: float
    cpu_seconds: float
    slowest: float
    peak: float
    bar: Markup


@dataclass(frozen=True)
class Stage:
    """The last run of a stage, beside the earlier ones that are known."""

    last: Cost
    runs: int
    median: float
    drawing: Markup

    @property
    def peak(self) -> float:
        """The most memory of the last run, in MiB."""
        return self.last.peak_bytes / MIB


@dataclass(frozen=True)
class Costs:
    """Verbs and stages, the dearest first, and how many `more` stages there are."""

    verbs: list[Verb]
    stages: list[Stage]
    more: int

    @property
    def wall_seconds(self) -> float:
        """Seconds of the last run of every stage together."""
        return sum(verb.wall_seconds for verb in self.verbs)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of the same."""
        return sum(verb.cpu_seconds for verb in self.verbs)

    @property
    def peak(self) -> float:
        """The most memory that one of them took, in MiB."""
        return max((verb.peak for verb in self.verbs), default=0.0)


def tell(root: Path = Path()) -> Costs:
    """What `var/costs` says; empty where no stage has run here."""
    lasts = sorted(costs.lasts(root), key=lambda cost: (-cost.wall_seconds, cost.stage))
    by_verb: dict[str, list[Cost]] = {}
    for cost in lasts:
        by_verb.setdefault(cost.verb, []).append(cost)
    most = max((sum(each.wall_seconds for each in of) for of in by_verb.values()), default=0.0)
    verbs = [_verb(name, of, most) for name, of in by_verb.items()]
    earlier: dict[str, list[Cost]] = {}
    for cost in costs.history(root):
        earlier.setdefault(cost.stage, []).append(cost)
    stages = [_stage(cost, earlier.get(cost.stage, [cost])) for cost in lasts[:SHOWN]]
    verbs.sort(key=lambda verb: (-verb.wall_seconds, verb.name))
    return Costs(verbs, stages, len(lasts) - len(stages))


def _verb(name: str, of: Sequence[Cost], most: float) -> Verb:
    wall = sum(each.wall_seconds for each in of)
    peak = max(each.peak_bytes for each in of) / MIB
    cpu = sum(each.cpu_seconds for each in of)
    return Verb(name, len(of), wall, cpu, max(each.wall_seconds for each in of), peak, _bar(wall, most))


def _stage(last: Cost, runs: Sequence[Cost]) -> Stage:
    return Stage(last, len(runs), median(each.wall_seconds for each in runs), _line(last.stage, runs))


def _bar(seconds: float, most: float) -> Markup:
    """A bar of `seconds`, of full length where they are the `most`."""
    drawing = Drawing(128, 18, f"{seconds:.1f} s", "whisker")
    length = max(128 * seconds / most, 0.5) if most else 0.5
    drawing.add("rect", "spent", x=0, y=4, width=length, height=10, hover=f"{seconds:.1f} s")
    return drawing.markup()


def _line(stage: str, runs: Sequence[Cost]) -> Markup:
    """Seconds of each run, the oldest on the left, above zero; the last one is marked."""
    first, last = runs[0].wall_seconds, runs[-1].wall_seconds
    label = f"Seconds of {stage} over {len(runs)} runs, from {first:.1f} to {last:.1f}"
    drawing = Drawing(128, 24, label, "whisker")
    across = Scale(0, max(len(runs) - 1, 1), 5, 123)
    up = scale([0.0, *(run.wall_seconds for run in runs)], 22, 3, 0.0)
    drawing.add("line", "track", x1=0, x2=128, y1=22, y2=22)
    points = [(across(k), up(run.wall_seconds)) for k, run in enumerate(runs)]
    if len(points) > 1:
        drawing.add("path", "over-time", d=path(points))
    x, y = points[-1]
    hover = f"{last:.1f} s" + (f", {runs[-1].when[:10]}" if runs[-1].when else "")
    drawing.add("circle", "last", cx=x, cy=y, r=3, hover=hover)
    return drawing.markup()
