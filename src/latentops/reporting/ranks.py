"""Which variants are told apart: in pairs on one dataset, by their mean ranks over all of them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from latentops.atomic import write_json
from latentops.evaluation import friedman
from latentops.reporting import results
from latentops.reporting.figures import LETTER
from latentops.reporting.leaderboard import number, ordered
from latentops.reporting.pictures import Picture
from latentops.reporting.results import Comparison, Pair, Result, title
from latentops.reporting.svg import Drawing, Scale

PATH = Path("reports/over_datasets.json")
FEWEST = 10
"""Datasets from which on a diagram is drawn."""
LONGEST = 15  # letters of a name that are shown


class Friedman(Result):
    """Friedman's test of whether the variants differ at all."""

    statistic: float
    p_value: float


class OverDatasets(Result):
    """`reports/over_datasets.json`: variants, best first, by their ranks in each dataset's primary metric.

    `metrics` and `ranks` are by dataset, in the order of `datasets`. Variants of one of the `groups` aren't
    told apart.
    """

    datasets: tuple[str, ...]
    metrics: dict[str, str]
    variants: tuple[str, ...]
    ranks: dict[str, dict[str, float]]
    mean_ranks: dict[str, float]
    confidence: float
    friedman: Friedman | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    text: str


def over_datasets(comparisons: Sequence[Comparison], confidence: float) -> OverDatasets:
    """The variants that all `comparisons` with a primary metric have, ranked by its mean."""
    judged = [one for one in comparisons if one.primary != "none"]
    having = [
        {row.name for row in one.rows if row.role == "variant" and one.primary in row.metrics}
        for one in judged
    ]
    names = sorted(set.intersection(*having)) if having else []
    values = [[_mean(one, name) for name in names] for one in judged]
    ranked = friedman.ranks(np.array(values)) if names else np.empty((len(judged), 0))
    mean = ranked.mean(axis=0).tolist() if names else []
    order = sorted(range(len(names)), key=lambda at: (mean[at], names[at]))
    enough = len(names) > 1
    tested = friedman.friedman(ranked) if len(names) > 2 and len(judged) > 1 else None
    apart = friedman.critical_difference(len(names), len(judged), confidence) if enough else None
    differ = tested is None or tested.p_value <= 1 - confidence
    found = friedman.groups(mean, apart if apart is not None and differ else math.inf)
    return OverDatasets(
        datasets=tuple(one.dataset for one in judged),
        metrics={one.dataset: one.primary for one in judged},
        variants=tuple(names[at] for at in order),
        ranks={
            one.dataset: {names[at]: float(row[at]) for at in order}
            for one, row in zip(judged, ranked, strict=True)
        },
        mean_ranks={names[at]: float(mean[at]) for at in order},
        confidence=confidence,
        friedman=Friedman(statistic=tested.statistic, p_value=tested.p_value) if tested else None,
        critical_difference=apart,
        groups=tuple(tuple(names[at] for at in group) for group in found),
        text=_told(len(judged), [[names[at] for at in group] for group in found], apart, tested),
    )


def _mean(comparison: Comparison, name: str) -> float:
    row = comparison.row(name)
    return row.metrics[comparison.primary].mean if row else math.nan


def _told(
    datasets: int, groups: Sequence[Sequence[str]], apart: float | None, tested: friedman.Friedman | None
) -> str:
    """What the ranks say, in a sentence or two; no winner is named where they show none."""
    if apart is None:
        return "There are no two variants to rank over datasets with labels."
    if datasets < FEWEST:
        return (
            f"{datasets} dataset{'s' * (datasets != 1)} can't show a difference under CD = {number(apart)} "
            f"in mean rank; from {FEWEST} on the variants are compared in a diagram."
        )
    asked = f"Friedman's test over {datasets} datasets: p {_p_value(tested.p_value)}. " if tested else ""
    best, *rest = groups
    if not rest:
        return f"{asked}No difference shown between the variants."
    if len(best) > 1:
        return (
            f"{asked}No variant is shown to be the best: {', '.join(best[:-1])} and {best[-1]} lie within "
            f"CD = {number(apart)} of each other in mean rank."
        )
    return (
        f"{asked}{best[0]} is better than every other variant by more than CD = {number(apart)} in mean rank."
    )


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def write(comparisons: Sequence[Comparison], confidence: float, root: Path = Path()) -> OverDatasets:
    """Write `reports/over_datasets.json`, and return what is in it."""
    found = over_datasets(comparisons, confidence)
    write_json(root / PATH, found.model_dump(mode="json"))
    return found


def load(root: Path = Path()) -> OverDatasets:
    """What `reports/over_datasets.json` holds. Raises `DataError` where it is missing or broken."""
    return results.read(OverDatasets, root / PATH, "dvc repro report")


def diagram(found: OverDatasets) -> Markup | None:
    """The critical-difference diagram (Demšar 2006), a row a variant; None for fewer than ten datasets.

    Rows that a bar on the right joins aren't told apart. The ruler above is as long as two mean ranks have to
    be apart.
    """
    if len(found.datasets) < FEWEST or found.critical_difference is None:
        return None
    bars = [group for group in found.groups if len(group) > 1]
    width, head, row, gap = 440.0, 48.0, 23.0, 9.0
    floor = head + row * len(found.variants)
    names = LETTER * 1.1 * max(len(_cut(name)) for name in found.variants) + 10
    to = Scale(1, len(found.variants), names + 10, width - 48 - gap * len(bars))
    drawing = Drawing(width, floor + 42, f"Critical-difference diagram: {found.text}", "plot")
    for tick in to.ticks(min(8, len(found.variants) - 1)):
        drawing.add("line", "grid", x1=to(tick), x2=to(tick), y1=head - 6, y2=floor)
        drawing.add("text", "tick", f"{tick:g}", x=to(tick), y=floor + 15, text_anchor="middle")
    middle = (to.start + to.end) / 2
    drawing.add(
        "text", "axis-title", "mean rank, 1 is the best", x=middle, y=floor + 34, text_anchor="middle"
    )
    ruler = to(1) + min(found.critical_difference / max(len(found.variants) - 1, 1), 1) * (to.end - to.start)
    drawing.add("line", "axis", x1=to(1), x2=ruler, y1=27, y2=27)
    for end in (to(1), ruler):
        drawing.add("line", "axis", x1=end, x2=end, y1=22, y2=32)
    told = f"CD = {number(found.critical_difference)}"
    drawing.add("text", "tick", told, x=to(1), y=15)
    for k, name in enumerate(found.variants):
        y, mean = head + (k + 0.5) * row, found.mean_ranks[name]
        each = sorted(found.ranks[dataset][name] for dataset in found.datasets)
        hover = (
            f"{name}: mean rank {number(mean)} over {len(each)} datasets, from {each[0]:g} to {each[-1]:g}"
        )
        drawing.add("line", "grid", x1=names + 4, x2=width - 44 - gap * len(bars), y1=y, y2=y)
        drawing.add("text", "name variant", _cut(name), x=names, y=y + 4, text_anchor="end", hover=name)
        drawing.add("circle", "point variant", cx=to(mean), cy=y, r=4.2, hover=hover)
        right = width - 10 - gap * len(bars)
        drawing.add("text", "tick", f"{mean:.2f}", x=right, y=y + 4, text_anchor="end")
    for k, group in enumerate(bars):
        top, bottom = (found.variants.index(group[end]) for end in (0, -1))
        hover = f"not told apart: {', '.join(group)}"
        drawing.add(
            "rect",
            "bar",
            x=width - gap * (len(bars) - k) + 2,
            y=head + top * row + 5,
            width=4,
            height=(bottom - top + 1) * row - 10,
            hover=hover,
        )
    return drawing.markup()


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def matrix(comparison: Comparison) -> Picture | None:
    """Every pair of variants by each metric that they were compared in; None where there is no pair."""
    pairs = comparison.among_variants
    metrics = sorted({pair.metric for pair in pairs}, key=lambda metric: metric != comparison.primary)
    if not pairs:
        return None
    names = [row.name for row in ordered(comparison.rows, comparison.ranked_by) if row.role == "variant"]
    drawn = tuple(
        (title(metric), _matrix([pair for pair in pairs if pair.metric == metric], names, metric))
        for metric in metrics
    )
    caption = (
        "The row's variant less the column's in hundredths, paired over seeds and test rows. Filled: a "
        "difference is shown after Holm's correction over all pairs, the row's variant better or, in red, "
        f"worse; pale: no difference shown. {_alike(comparison)}"
    )
    return Picture("Which variants are told apart?", caption.strip(), drawings=drawn, panel=320)


def _alike(comparison: Comparison) -> str:
    if comparison.chosen is None:
        return ""
    chosen, alike = comparison.chosen.variant, comparison.not_told_apart
    if not alike:
        return f"By {title(comparison.primary)} {chosen} is told apart from every other variant."
    return f"By {title(comparison.primary)} {chosen} is not told apart from {', '.join(alike)}."


def _matrix(pairs: Sequence[Pair], names: Sequence[str], metric: str) -> Markup:
    shown = [name for name in names if any(name in (pair.variant, pair.against) for pair in pairs)]
    of = {(pair.variant, pair.against): pair for pair in pairs}
    length = LETTER * max(len(_cut(name)) for name in shown)
    width, left, head, row = 440.0, length * 1.1 + 10, 0.75 * length + 16, 25.0
    step = (width - left - 0.63 * length) / len(shown)
    drawing = Drawing(
        width, head + row * len(shown) + 2, f"Differences between variants in {title(metric)}", "plot"
    )
    for k, name in enumerate(shown):
        y, x = head + k * row, left + (k + 0.5) * step
        drawing.add("text", "name variant", _cut(name), x=left - 6, y=y + row / 2 + 4, text_anchor="end")
        turn = f"rotate(-45 {x:.1f} {head - 6:.1f})"
        drawing.add("text", "tick", _cut(name), x=x, y=head - 6, transform=turn)
    for k, one in enumerate(shown):
        for j, other in enumerate(shown):
            x, y = left + j * step, head + k * row
            pair, sign = (of[one, other], 1) if (one, other) in of else (of.get((other, one)), -1)
            if pair is None:
                continue
            _cell(drawing, (x, y, step, row), (one, other), pair, sign)
    return drawing.markup()


def _cell(
    drawing: Drawing, place: tuple[float, float, float, float], names: tuple[str, str], pair: Pair, sign: int
) -> None:
    """A pair as the difference of its two `names`, which turns it around where `sign` is -1."""
    x, y, width, height = place
    low, high = sorted((sign * pair.low, sign * pair.high))
    difference = sign * pair.difference
    shown = pair.verdict != "no difference shown"
    verdict = pair.verdict if not shown or sign > 0 else {"better": "worse", "worse": "better"}[pair.verdict]
    told = f"{_signed(low)} to {_signed(high)}, p {_p_value(pair.p_holm)} after Holm"
    hover = f"{names[0]} less {names[1]}: {_signed(difference)} ({told}): {verdict}"
    css, strength = {"better": ("bar", 0.4), "worse": ("marked", 1)}.get(verdict, ("held", 0.6))
    drawing.add(
        "rect",
        css,
        x=x + 1,
        y=y + 1,
        width=width - 2,
        height=height - 2,
        fill_opacity=strength,
        hover=hover,
    )
    drawing.add(
        "text",
        "name" if shown else "tick",
        _signed(100 * difference, 1),
        x=x + width / 2,
        y=y + height / 2 + 4,
        text_anchor="middle",
        pointer_events="none",
    )


def _signed(value: float, decimals: int = 3) -> str:
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
