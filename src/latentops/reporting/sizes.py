"""The curves of a sweep over latent sizes, on one static page in the look of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from latentops.atomic import write_text
from latentops.reporting.leaderboard import number
from latentops.reporting.page import render
from latentops.reporting.results import LOWER_IS_BETTER, title
from latentops.reporting.svg import Drawing, Scale, dots, path, scale

MOST_TICKS = 8  # sizes that have a number below the axis

BySize = Mapping[int, Sequence[float]]
"""Of each size, the smallest first, one value a seed."""


def write(
    out: Path,
    dataset: str,
    variant: str,
    metrics: Mapping[str, BySize],
    knee: int | None,
    verdict: str,
    latent_dim: int,
) -> None:
    """Write the page of one sweep: a drawing a metric, then the numbers."""
    means = {
        name: {size: float(np.mean(seeds)) for size, seeds in by.items()} for name, by in metrics.items()
    }
    page = render(
        "sweep.html",
        dataset=dataset,
        variant=variant,
        drawings={name: curve(by, name, knee) for name, by in metrics.items()},
        lower=LOWER_IS_BETTER,
        means=means,
        sizes=list(next(iter(means.values()))),
        knee=knee,
        verdict=verdict,
        latent_dim=latent_dim,
    )
    write_text(out, page)


def curve(by_size: BySize, metric: str, knee: int | None) -> Markup:
    """A metric over size (log2): the mean as a line, seeds as pale dots, the knee as a dashed upright.

    A reconstruction error is drawn with the chord that its knee is measured from.
    """
    sizes = list(by_size)
    means = {size: float(np.mean(seeds)) for size, seeds in by_size.items()}
    values = [value for seeds in by_size.values() for value in seeds]
    width, height = 320.0, 240.0
    across = scale(sizes, 42, width - 12, 0.05, log=True)
    up = scale(values, height - 42, 24, 0.06)
    at = knee if knee in means else None
    said = f"{title(metric)} over latent size" + (f", knee at {at}" if at is not None else "")
    drawing = Drawing(width, height, said, "plot")
    _axes(drawing, across, up, sizes, title(metric))
    if at is not None:
        x = across(at)
        drawing.add("line", "knee", x1=x, x2=x, y1=up.start, y2=up.end - 8)
        room = x + 54 < across.end
        anchor, beside = ("start", x + 5) if room else ("end", x - 5)
        drawing.add("text", "name chosen", f"knee {at}", x=beside, y=up.end - 1, text_anchor=anchor)
        if metric == "reconstruction_error":
            ends = [(across(size), up(means[size])) for size in (sizes[0], sizes[-1])]
            drawing.add("path", "chord", d=path(ends))
    seeds = [(across(size), up(value)) for size, found in by_size.items() for value in found]
    drawing.add("path", "seeds", d=dots(seeds))
    drawing.add("path", "line stop", d=path([(across(size), up(mean)) for size, mean in means.items()]))
    for size, mean in means.items():
        css = f"point variant{' chosen' if size == at else ''}"
        hover = f"size {size}: {number(mean)}"
        drawing.add("circle", css, cx=across(size), cy=up(mean), r=3.6, hover=hover)
    return drawing.markup()


def _axes(drawing: Drawing, across: Scale, up: Scale, sizes: Sequence[int], y_title: str) -> None:
    floor, left = up.start, across.start
    for value in up.ticks(5):
        drawing.add("line", "grid", x1=left, x2=across.end, y1=up(value), y2=up(value))
        drawing.add("text", "tick", f"{value:g}", x=left - 6, y=up(value) + 3.5, text_anchor="end")
    for size in sizes[:: -(-len(sizes) // MOST_TICKS)]:
        drawing.add("text", "tick", f"{size}", x=across(size), y=floor + 15, text_anchor="middle")
    drawing.add("line", "axis", x1=left, x2=across.end, y1=floor, y2=floor)
    middle = (left + across.end) / 2
    drawing.add("text", "axis-title", "latent size (log)", x=middle, y=floor + 33, text_anchor="middle")
    drawing.add("text", "axis-title", y_title, x=left - 30, y=11, text_anchor="start")
