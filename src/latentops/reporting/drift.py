"""Looks for drift over time, for a page of their own: rows that came in or were scored, by dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from latentops.registry import looks
from latentops.registry.looks import Look
from latentops.reporting.svg import Drawing, Scale, path

SHOWN = 50
"""Looks that have a line of their own, the latest."""
LEAST = 1e-4
"""The smallest p-value that is told from smaller ones: permutations go no lower."""


@dataclass(frozen=True)
class Watched:
    """The looks at one dataset, how many found drift, and the last of them."""

    dataset: str
    looks: int
    drifted: int
    last: Look
    drawing: Markup


@dataclass(frozen=True)
class Drifts:
    """Every dataset that was looked at, and the latest looks, the newest first."""

    datasets: list[Watched]
    looks: list[Look]
    more: int


def tell(root: Path = Path()) -> Drifts:
    """What `ledger/drift.jsonl` says; empty where nobody has looked yet."""
    found = looks.history(root)
    by_dataset: dict[str, list[Look]] = {}
    for look in found:
        by_dataset.setdefault(look.dataset, []).append(look)
    watched = [
        Watched(name, len(of), sum(each.found["drifted"] for each in of), of[-1], _line(name, of))
        for name, of in sorted(by_dataset.items())
    ]
    return Drifts(watched, found[::-1][:SHOWN], max(0, len(found) - SHOWN))


def _line(dataset: str, of: Sequence[Look]) -> Markup:
    """The smallest corrected p-value of each look, the oldest on the left; what drifted is a filled dot."""
    drifted = sum(each.found["drifted"] for each in of)
    label = f"Smallest corrected p-value of {dataset} over {len(of)} looks, of which {drifted} found drift"
    drawing = Drawing(160, 40, label, "whisker")
    across = Scale(0, max(len(of) - 1, 1), 5, 155)
    up = Scale(LEAST, 1.0, 35, 5, log=True)
    drawing.add("line", "track", x1=0, x2=160, y1=up(1.0), y2=up(1.0))
    tested = [(at, each, each.surest) for at, each in enumerate(of)]
    points = [
        (across(at), up(max(float(surest["corrected"]), LEAST)), each, surest)
        for at, each, surest in tested
        if surest is not None
    ]
    if len(points) > 1:
        drawing.add("path", "over-time", d=path([(x, y) for x, y, _, _ in points]))
    for x, y, each, surest in points:
        hover = f"{each.when[:10]}: p = {float(surest['corrected']):.2g}, {surest['of']}"
        drawing.add("circle", "moved" if each.found["drifted"] else "still", cx=x, cy=y, r=3, hover=hover)
    return drawing.markup()
