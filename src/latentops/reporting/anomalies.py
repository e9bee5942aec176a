"""How the chosen variant tells anomalies: detection against false alarms, and scores with the threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from latentops.reporting import figures, results
from latentops.reporting.leaderboard import number, ordered
from latentops.reporting.pictures import Gallery, Picture
from latentops.reporting.results import Comparison, Result, read
from latentops.reporting.svg import Drawing, Scale, path

GRID = np.linspace(0.0, 1.0, 201)  # false-alarm rates that curves are averaged at
BINS = 28
SCORE = "auroc"  # the combined one

Array = NDArray[np.float64]


class _Floors(Result):
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """A row's test scores `[seeds, n]` by view, and the thresholds `[seeds]` of each that has them."""

    name: str
    scores: Mapping[str, Array]
    limits: Mapping[str, Array]

    @classmethod
    def of(cls, name: str, tensors: Mapping[str, NDArray[np.generic]]) -> "Scored":
        """What `tensors` hold of the row called `name`."""
        start, end = f"{name}/score/", f"/{SCORE}"
        scores = {
            key[len(start) : -len(end)]: np.asarray(values, dtype=np.float64)
            for key, values in tensors.items()
            if key.startswith(start) and key.endswith(end)
        }
        limits = {view: f"{name}/limit/{view}" for view in scores}
        return cls(
            name,
            scores,
            {view: np.asarray(tensors[key], np.float64) for view, key in limits.items() if key in tensors},
        )


@dataclass(frozen=True)
class Curve:
    """Detection rates at `GRID`, averaged over seeds and views, and those of its `parts`.

    `by` says what these are: normal classes, or the seeds of the only one.
    """

    name: str
    rates: Array
    by: str
    parts: Mapping[str, Array]

    @property
    def area(self) -> float:
        """The area below it."""
        return float(np.trapezoid(self.rates, GRID))


def gallery(comparison: Comparison, root: Path = Path()) -> Gallery:
    """ROC curves of the chosen variant and of the best floors, and a histogram of its scores for each view.

    Nothing where no class is called normal; a note where the scores are not on this machine.
    """
    if comparison.chosen is None or not any("auroc" in row.metrics for row in comparison.rows):
        return Gallery()
    dataset, chosen = comparison.dataset, comparison.chosen
    floors = root / "results" / "floors" / dataset
    evaluated = root / "results" / "evaluate" / dataset / chosen.variant
    try:
        tensors = [load_file(folder / "samples.safetensors") for folder in (floors, evaluated)]
    except (FileNotFoundError, SafetensorError):
        where = f"{floors}/samples.safetensors or {evaluated}/samples.safetensors"
        note = f"No score curves: {where} is not here, or not whole; `dvc pull` or `dvc repro` brings them."
        return Gallery(notes=(note,))
    classes = read(_Floors, floors / "metrics.json", f"dvc repro floors@{dataset}").classes
    labels = np.asarray(tensors[0]["labels"])
    ours = Scored.of(chosen.variant, tensors[1])
    if not ours.scores:
        return Gallery()
    normal = {view: labels == classes.index(view) for view in ours.scores}
    names = [chosen.variant, *_floors(comparison)]
    scored = [ours, *(Scored.of(name, {**tensors[0], **tensors[1]}) for name in names[1:])]
    seeds = [m.seed for m in results.training(dataset, chosen.variant, root).members if m.view == "all"]
    at = seeds.index(chosen.seed)
    return Gallery(
        others=(
            _rates([curve(each, normal) for each in scored if each.scores], _operating(ours, normal, at)),
            _histograms(ours, normal, at, chosen.seed),
        )
    )


def _floors(comparison: Comparison) -> list[str]:
    """The best rival of the chosen variant's size and the best reference, by AUROC."""
    rows = [row for row in ordered(comparison.rows, "auroc") if "auroc" in row.metrics]
    chosen = comparison.chosen.variant if comparison.chosen else ""
    ours = comparison.row(chosen)
    size = ours.latent_dim if ours else None
    apart = [
        row for row in rows if not row.name.startswith("untrained ") or row.name == f"untrained {chosen}"
    ]
    rivals = [row.name for row in apart if row.role == "rival" and row.latent_dim == size]
    references = [row.name for row in apart if row.role == "reference"]
    return [*references[:1], *rivals[:1]]


def roc(scores: Array, anomalous: NDArray[np.bool_]) -> Array:
    """The share of anomalies found at the false-alarm rates of `GRID`, of scores `[n]`, interpolated.

    Ties are passed together, so that the area is the AUROC, which counts half of them (Fawcett 2006).
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(anomalous[order])[ends] / anomalous.sum()
    alarms = np.cumsum(~anomalous[order])[ends] / (~anomalous).sum()
    return np.interp(GRID, np.append(0.0, alarms), np.append(0.0, hits))


def curve(row: Scored, normal: Mapping[str, NDArray[np.bool_]]) -> Curve:
    """The mean curve of a row over its seeds and views."""
    by_view = {
        view: np.array([roc(seed, ~normal[view]) for seed in scores]) for view, scores in row.scores.items()
    }
    means = {view: rates.mean(axis=0) for view, rates in by_view.items()}
    only = next(iter(by_view.values()))
    several = len(means) > 1
    return Curve(
        row.name,
        np.mean(list(means.values()), axis=0),
        "normal class" if several else "seed",
        means if several else {f"member {k}": rates for k, rates in enumerate(only, start=1)},
    )


def _operating(row: Scored, normal: Mapping[str, NDArray[np.bool_]], at: int) -> tuple[float, float] | None:
    """False-alarm and detection rate of a seed at its thresholds, the mean over views; None without these."""
    if not row.limits:
        return None
    flagged = {view: row.scores[view][at] > limits[at] for view, limits in row.limits.items()}
    alarms = [float(over[normal[view]].mean()) for view, over in flagged.items()]
    hits = [float(over[~normal[view]].mean()) for view, over in flagged.items()]
    return float(np.mean(alarms)), float(np.mean(hits))


def _rates(curves: Sequence[Curve], operating: tuple[float, float] | None) -> Picture:
    ours, floors = curves[0], curves[1:]
    width, height = 440.0, 330.0
    across, up = Scale(0, 1, 52, width - 14), Scale(0, 1, height - 44, 14)
    label = "Detection against false alarms of " + ", ".join(
        f"{each.name} (area {number(each.area)})" for each in curves
    )
    drawing = Drawing(width, height, label, "plot")
    figures.axes(drawing, across, up, "false-alarm rate", "detection rate")
    drawing.add("line", "chance", x1=across(0), x2=across(1), y1=up(0), y2=up(1))
    for name, rates in ours.parts.items():
        drawing.add("path", "line part", d=_line(rates, across, up), data_name=f"{ours.name}, {name}")
    for css, each in (*zip(("reference", "rival"), floors, strict=False), ("stop", ours)):
        drawing.add("path", f"line {css}", d=_line(each.rates, across, up), data_name=each.name)
    if operating is not None:
        alarms, hits = operating
        hover = f"at the threshold: {hits:.1%} detected, {alarms:.1%} false alarms"
        drawing.add("circle", "point chosen", cx=across(alarms), cy=up(hits), r=4.2, hover=hover)
    for k, (css, each) in enumerate((("stop", ours), *zip(("reference", "rival"), floors, strict=False))):
        y = up(0.06 + 0.075 * (len(curves) - 1 - k))
        drawing.add("line", f"line {css}", x1=across(0.42), x2=across(0.48), y1=y - 4, y2=y - 4)
        drawing.add("text", "name", f"{each.name}, area {number(each.area)}", x=across(0.5), y=y)
    caption = (
        "Share of anomalies found against share of normal test rows flagged, by the combined score: "
        f"{ours.name}, the best floor without a code and the best of its size. The mean over seeds and "
        f"normal classes; pale, {ours.name} by {ours.by}."
    )
    if operating is not None:
        caption += " The dot is the chosen member at the threshold that the calibration rows set."
    return Picture("Detection against false alarms", caption, drawings=(("", drawing.markup()),), wide=False)


def _line(rates: Array, across: Scale, up: Scale) -> str:
    """Straight stretches are left out: a point is kept where the slope changes, and at both ends."""
    bends = np.abs(np.diff(rates, 2)) > 1e-9
    kept = [0, *(np.flatnonzero(bends) + 1).tolist(), len(rates) - 1]
    return path([(across(0), up(0)), *((across(float(GRID[k])), up(float(rates[k]))) for k in kept)])


def _histograms(row: Scored, normal: Mapping[str, NDArray[np.bool_]], at: int, seed: int) -> Picture:
    drawings = tuple(
        (
            view if len(row.scores) > 1 else "",
            histogram(
                scores[at],
                normal[view],
                float(row.limits[view][at]) if view in row.limits else None,
                view,
                300.0 if len(row.scores) > 1 else 440.0,
            ),
        )
        for view, scores in row.scores.items()
    )
    caption = (
        f"Combined scores of {row.name} (seed {seed}) on the test rows: normal ones upwards, anomalies "
        "downwards, each as shares of their number. What lies beyond an end is counted in the last bar there."
    )
    if row.limits:
        caption += " The dashed line is the threshold; what lies to its right is flagged."
    return Picture(
        "Scores", caption, drawings=drawings, wide=False, panel=240, legend=("normal", "anomalies")
    )


def histogram(
    scores: Array, normal: NDArray[np.bool_], limit: float | None, view: str, width: float
) -> Markup:
    """Scores `[n]` of normal rows above the axis and of anomalies below it, with the threshold."""
    ends = (*np.percentile(scores, [0.5, 99.5]), *((limit,) if limit is not None else ()))
    low, high = float(min(ends)), float(max(ends))
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = {
        name: np.histogram(np.clip(scores[which], edges[0], edges[-1]), edges)[0]
        for name, which in (("normal", normal), ("anomalous", ~normal))
    }
    shares = {name: count / max(count.sum(), 1) for name, count in counts.items()}
    height = 190.0 if width < 400 else 330.0
    top = max(float(each.max()) for each in shares.values())
    across = Scale(float(edges[0]), float(edges[-1]), 10, width - 10)
    up = Scale(-top, top, height - 40, 20)
    told = f", threshold {number(limit)}" if limit is not None else ""
    drawing = Drawing(width, height, f"Scores with {view} as normal{told}", "plot histogram")
    for value in across.ticks(4):
        drawing.add("line", "grid", x1=across(value), x2=across(value), y1=up.start, y2=up.end)
        drawing.add("text", "tick", f"{value:g}".replace("-", "−"), x=across(value), y=up.start + 14,
                    text_anchor="middle")  # fmt: skip
    for name, sign in (("normal", 1), ("anomalous", -1)):
        total = int(counts[name].sum())
        for k, share in enumerate(shares[name]):
            if counts[name][k]:
                left, right = across(float(edges[k])), across(float(edges[k + 1]))
                y, other = sorted((up(0), up(sign * float(share))))
                span = f"{number(float(edges[k]))} to {number(float(edges[k + 1]))}"
                hover = f"{span}: {counts[name][k]} of {total} {name}"
                drawing.add("rect", f"bar {name}", x=left + 0.4, y=y, width=right - left - 0.8,
                            height=max(other - y, 0.6), hover=hover)  # fmt: skip
    drawing.add("line", "axis", x1=across.start, x2=across.end, y1=up(0), y2=up(0))
    if limit is not None:
        over = scores > limit
        x = across(limit)
        hover = (
            f"threshold {number(limit)}: flags {over[normal].mean():.1%} of normal rows and "
            f"{over[~normal].mean():.1%} of anomalies"
        )
        drawing.add("line", "limit", x1=x, x2=x, y1=up.start, y2=up.end - 8, hover=hover)
    drawing.add("text", "axis-title", "combined score", x=(across.start + across.end) / 2, y=height - 8,
                text_anchor="middle")  # fmt: skip
    return drawing.markup()
