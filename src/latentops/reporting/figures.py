"""The report's figures, each a drawing that follows the page's colours."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from latentops.reporting.leaderboard import interval, number
from latentops.reporting.results import Difference, Estimate, Profile, Role
from latentops.reporting.svg import Drawing, Scale, dots, path, scale

Floats = NDArray[np.float32]
MOST_POINTS = 2000  # dots that a map shows
GRADED = 26.0  # height of the key to a map by a number
MOST_CHANNELS = 8  # lines that a sequence's panel shows
LETTER = 6.2  # width of a letter of a name
SQUEEZE = 0.42  # share of a scale that outliers may take
COLOURS = 10  # class colours in the style sheet
GRADES = 8  # colours of a number in the style sheet, from the lowest to the highest
RATIOS_STYLE = """
.ratios { --paper: #fbfbf9; --ink: #1b1e22; --muted: #5a616b; --rule: #e2e2dd; --floor: #7d8590;
  --met: #1d6a3d; --missed: #9a3412; font: 12px -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue",
  Arial, "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { .ratios { --paper: #131619; --ink: #e8e8e4; --muted: #a2a9b1;
  --rule: #2d3338; --floor: #8f979f; --met: #7fcf9c; --missed: #f3a07f; } }
.paper { fill: var(--paper); }
text { fill: var(--muted); }
.name { fill: var(--ink); }
.told { font-weight: 600; }
.met { fill: var(--met); }
.missed { fill: var(--missed); }
.open { fill: var(--floor); }
.grid { stroke: var(--rule); }
.one { stroke: var(--floor); }
.target { stroke: var(--ink); stroke-width: 2; }
.gap { stroke: var(--paper); stroke-width: 5; }
"""
"""What `ratios` looks like wherever its file is shown; the colours are the report's."""

PROFILE_STYLE = """
.profile { --paper: #fbfbf9; --ink: #1b1e22; --muted: #5a616b; --rule: #e2e2dd; --floor: #7d8590;
  --accent: #0a6a72; font: 11px -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", Arial,
  "Liberation Sans", sans-serif; background: var(--paper); }
@media (prefers-color-scheme: dark) { .profile { --paper: #131619; --ink: #e8e8e4; --muted: #a2a9b1;
  --rule: #2d3338; --floor: #8f979f; --accent: #58c4cb; } }
text { fill: var(--muted); }
.grid { stroke: var(--rule); }
.axis { stroke: var(--floor); }
.bar, .point { fill: var(--accent); }
.range { stroke: var(--ink); }
.line { fill: none; stroke: var(--floor); opacity: .6; }
.line.stop { stroke: var(--accent); opacity: 1; }
"""
"""What `profile` looks like in a file of its own, likewise."""


def fences(values: Sequence[float]) -> tuple[float, float]:
    """The range of `values`, at either end without outliers that would take nearly half of it.

    Outliers lie more than 1.5 quartile ranges beyond the quartiles (Tukey 1977).
    """
    lower, upper = (float(q) for q in np.percentile(values, [25, 75]))
    reach = 1.5 * (upper - lower)
    inside = [v for v in values if lower - reach <= v <= upper + reach]
    low, high = min(values), max(values)
    much = SQUEEZE * (high - low)
    return min(inside) if min(inside) - low > much else low, max(inside) if high - max(
        inside
    ) > much else high


def whisker(
    estimate: Estimate, domain: tuple[float, float], role: Role, chosen: bool, at: float | None
) -> Markup:
    """A mean with its interval on `domain`; floors are hollow; `at` is a value to compare with by eye.

    A mean outside of `domain` is an arrow at its end.
    """
    label = f"{number(estimate.mean)}" + (f", interval {interval(estimate)}" if interval(estimate) else "")
    width, middle = 128.0, 9.0
    to = Scale(*domain, 6, width - 6)

    def held(value: float) -> float:
        return min(max(to(value), 2.0), width - 2.0)

    drawing = Drawing(width, 18, label, f"whisker {role}{' chosen' if chosen else ''}")
    drawing.add("line", "track", x1=0, x2=width, y1=middle, y2=middle)
    if at is not None:
        drawing.add("line", "at", x1=held(at), x2=held(at), y1=0, y2=18)
    if estimate.low is not None and estimate.high is not None:
        drawing.add("line", "range", x1=held(estimate.low), x2=held(estimate.high), y1=middle, y2=middle)
    x = to(estimate.mean)
    if x < 2:
        drawing.add("path", "mark", d="M2 9L8 5L8 13Z", hover=label)
    elif x > width - 2:
        drawing.add("path", "mark", d=f"M{width - 2:g} 9L{width - 8:g} 5L{width - 8:g} 13Z", hover=label)
    elif role == "reference":
        drawing.add(
            "path", "mark", d=f"M{x - 4.5:.2f} 9L{x:.2f} 4.5L{x + 4.5:.2f} 9L{x:.2f} 13.5Z", hover=label
        )
    else:
        drawing.add("circle", "mark", cx=x, cy=middle, r=3.8, hover=label)
    return drawing.markup()


def difference(one: Difference, domain: tuple[float, float]) -> Markup:
    """A paired difference with its interval, against zero."""
    label = f"{one.difference:+.3f}, interval {one.low:+.3f} to {one.high:+.3f}: {one.verdict}"
    to = Scale(*domain, 6, 154)
    css = {"better": "better", "worse": "worse"}.get(one.verdict, "open")
    drawing = Drawing(160, 18, label, f"whisker {css}")
    drawing.add("line", "track", x1=0, x2=160, y1=9, y2=9)
    drawing.add("line", "zero", x1=to(0), x2=to(0), y1=0, y2=18)
    drawing.add("line", "range", x1=to(one.low), x2=to(one.high), y1=9, y2=9)
    drawing.add("circle", "mark", cx=to(one.difference), cy=9, r=3.8, hover=label)
    return drawing.markup()


@dataclass(frozen=True)
class Dot:
    """A named point of a scatter."""

    name: str
    x: float
    y: float
    role: Role
    chosen: bool = False


def scatter(points: Sequence[Dot], x_title: str, y_title: str, label: str) -> Markup:
    """Named points; x is logarithmic where it spans more than a factor of ten.

    A point whose y lies far from all others is drawn at the edge, with its value.
    """
    width, height = 440.0, 330.0
    xs, (bottom, top) = [p.x for p in points], fences([p.y for p in points])
    spread = min(xs) > 0 and max(xs) / min(xs) > 10
    across = scale(xs, 52, width - 14, 0.1, log=spread)
    up = scale([bottom, top], height - 44, 14, 0.08)
    drawing = Drawing(width, height, label, "plot")
    axes(drawing, across, up, x_title + (" (log)" if spread else ""), y_title)
    shown = []
    for p in sorted(points, key=lambda p: (not p.chosen, p.role != "variant", p.name)):
        name = (
            f"{p.name} ↓ {number(p.y)}"
            if p.y < up.low
            else f"{p.name} ↑ {number(p.y)}"
            if p.y > up.high
            else p.name
        )
        shown.append((p, name, (across(p.x), up(min(max(p.y, up.low), up.high)))))
    taken = [(x - 5, y - 5, x + 5, y + 5) for _, _, (x, y) in shown]
    for p, name, at in shown:
        css = "name chosen" if p.chosen else f"name {p.role}"
        _place(drawing, name, css, at, taken, (across.start + 2, up.end - 8, across.end + 12, up.start - 2))
    for p, _, (x, y) in reversed(shown):
        css = f"point {p.role}{' chosen' if p.chosen else ''}"
        drawing.add("circle", css, cx=x, cy=y, r=4.2, hover=f"{p.name}: {number(p.x)}, {number(p.y)}")
    return drawing.markup()


Box = tuple[float, float, float, float]  # left, top, right, bottom
BESIDE = ((8, 4, "start"), (-8, 4, "end"), (0, -9, "middle"), (0, 17, "middle"))
ASIDE = sorted(  # further off, the nearest first, to be tied to the point by a line
    (
        (dx, dy, "start" if dx > 0 else "end")
        for dx in (20, -20, 40, -40, 70, -70, 130, -130)
        for dy in range(-136, 137, 14)
    ),
    key=lambda spot: abs(spot[0]) + abs(spot[1]),
)


def _place(
    drawing: Drawing, name: str, css: str, at: tuple[float, float], taken: list[Box], frame: Box
) -> None:
    """Write `name` where nothing is yet within `frame`, as near as there is room, and take that place."""
    x, y = at
    length = LETTER * len(name)
    for dx, dy, anchor in (*BESIDE, *ASIDE):
        left = x + dx - {"start": 0.0, "end": length, "middle": length / 2}[anchor]
        box = (left - 2, y + dy - 10, left + length + 2, y + dy + 3)
        inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
        free = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
        if inside and free:
            if (dx, dy, anchor) not in BESIDE:
                nearer = -2 if dx > 0 else 2
                drawing.add("line", "leader", x1=x, y1=y, x2=x + dx + nearer, y2=y + dy - 4)
            drawing.add("text", css, name, x=x + dx, y=y + dy, text_anchor=anchor)
            taken.append(box)
            return


def axes(drawing: Drawing, across: Scale, up: Scale, x_title: str, y_title: str) -> None:
    """A frame with round ticks and titles for what lies between `across` and `up`."""
    drawing.scales(across, up, x_title, y_title)
    floor, left = up.start, across.start
    for value in up.ticks(5):
        drawing.add("line", "grid", x1=left, x2=across.end, y1=up(value), y2=up(value))
        drawing.add("text", "tick", _tick(value), x=left - 6, y=up(value) + 3.5, text_anchor="end")
    for value in across.ticks(5):
        drawing.add("line", "grid", x1=across(value), x2=across(value), y1=floor, y2=up.end)
        drawing.add("text", "tick", _tick(value), x=across(value), y=floor + 15, text_anchor="middle")
    drawing.add("line", "axis", x1=left, x2=across.end, y1=floor, y2=floor)
    middle = (across.start + across.end) / 2
    drawing.add("text", "axis-title", x_title, x=middle, y=floor + 34, text_anchor="middle")
    turn = f"rotate(-90 12 {(up.start + up.end) / 2:.1f})"
    drawing.add(
        "text", "axis-title", y_title, x=12, y=(up.start + up.end) / 2, text_anchor="middle", transform=turn
    )


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def curves(by_seed: Mapping[int, Sequence[tuple[int, float | None, float | None]]], label: str) -> Markup:
    """A number by step: a pale line a seed for training, a strong one for the stop rows."""
    looks = [row for seed in by_seed.values() for row in seed]
    found = [value for row in looks for value in row[1:] if value is not None]
    settled = sorted(value for value in found if math.isfinite(value))
    top = settled[min(len(settled) - 1, int(len(settled) * 0.98))] if settled else 1.0
    bottom = settled[0] if settled else 0.0
    width, height = 216.0, 132.0
    across = Scale(0, max((row[0] for row in looks), default=1), 38, width - 8)
    up = scale([bottom, top], height - 20, 8, 0.05)
    drawing = Drawing(width, height, label, "plot small")
    drawing.scales(across, up, "step", "")
    ticks = up.ticks(3)
    for value in ticks if len(ticks) > 1 else up.ticks(5):
        drawing.add("line", "grid", x1=38, x2=width - 8, y1=up(value), y2=up(value))
        drawing.add("text", "tick", _tick(value), x=34, y=up(value) + 3.5, text_anchor="end")
    for value in (0, across.high):
        anchor = "start" if value == 0 else "end"
        drawing.add("text", "tick", f"{value:g}", x=across(value), y=height - 6, text_anchor=anchor)
    for css, column in (("train", 1), ("stop", 2)):
        for seed, rows in by_seed.items():
            line = [(row[0], row[column]) for row in rows]
            kept = [(across(x), up(min(y, up.high))) for x, y in line if y is not None and math.isfinite(y)]
            if kept:
                drawing.add("path", f"line {css}", d=path(kept), data_name=f"seed {seed}, {css} rows")
    return drawing.markup()


def profile(one: Profile, label: str) -> Drawing:
    """A health number by place: bars where places are names, a line where they are numbers.

    The interval is a whisker on a bar; of a line each seed is a pale one. Numbers that span more than a
    factor of ten are on a logarithmic axis.
    """
    width, floor = 320.0, 180.0
    bars = any(isinstance(x, str) for x in one.x)
    step = (width - 50) / len(one.x)
    names = [str(x).replace("_", " ") for x in one.x]
    every = math.ceil(max(map(len, names)) * LETTER / step)
    slanted = bars and every > 1 and not all(name.isdigit() for name in names)
    below = 40.0 + (0.64 * LETTER * max(map(len, names)) if slanted else 0.0)
    seeds = [y for seed in one.values for y in seed if y is not None]
    ends = [y for y in (*one.mean, *one.low, *one.high) if y is not None] or seeds or [1.0]
    up = scale([0.0, *(ends if bars else seeds or ends)], floor, 24, 0.04)
    up = Scale(max(up.low, 0.0) if min(ends) >= 0 else up.low, up.high, up.start, up.end)
    drawing = Drawing(width, floor + below, label, "plot profile")
    if bars:
        across = Scale(0, len(one.x), 42, width - 8)
        _frame(drawing, across, up, one, floor + below - 7)
        for at, (name, mean, low, high) in enumerate(zip(names, one.mean, one.low, one.high, strict=True)):
            middle = across(at + 0.5)
            if slanted:
                turn = f"rotate(-40 {middle + 4:.1f} {floor + 12:g})"
                drawing.add(
                    "text", "tick", name, x=middle + 4, y=floor + 12, text_anchor="end", transform=turn
                )
            elif at % every == 0:
                drawing.add("text", "tick", name, x=middle, y=floor + 15, text_anchor="middle")
            if mean is None:
                continue
            top, base = sorted((up(mean), up(max(0.0, up.low))))
            hover = f"{name}: {number(mean)}"
            left, wide = middle - 0.36 * step, 0.72 * step
            drawing.add("rect", "bar", x=left, y=top, width=wide, height=max(base - top, 0.5), hover=hover)
            if low is not None and high is not None:
                drawing.add("line", "range", x1=middle, x2=middle, y1=up(max(low, up.low)), y2=up(high))
        return drawing
    xs = [float(x) for x in one.x]
    spread = min(xs) > 0 and max(xs) / min(xs) > 10
    across = scale(xs, 42, width - 12, 0.02, log=spread)
    _frame(drawing, across, up, one, floor + below - 7)
    drawing.scales(across, up, one.x_title, one.y_title)
    for value in across.ticks(5) if not spread else xs:
        drawing.add("text", "tick", _tick(value), x=across(value), y=up.start + 15, text_anchor="middle")
    members = [("train", f"member {k}", seed) for k, seed in enumerate(one.values, start=1)]
    for css, name, line in (*members, ("stop", "mean", one.mean)):
        points = [(across(x), up(y)) for x, y in zip(xs, line, strict=True) if y is not None]
        if points:
            drawing.add("path", f"line {css}", d=path(points), data_name=name)
    for x, y in zip(xs, one.mean, strict=True):
        if y is not None:
            drawing.add(
                "circle", "point chosen", cx=across(x), cy=up(y), r=3, hover=f"{_tick(x)}: {number(y)}"
            )
    return drawing


def _frame(drawing: Drawing, across: Scale, up: Scale, one: Profile, title_at: float) -> None:
    for value in up.ticks(4):
        drawing.add("line", "grid", x1=across.start, x2=across.end, y1=up(value), y2=up(value))
        drawing.add("text", "tick", _tick(value), x=across.start - 6, y=up(value) + 3.5, text_anchor="end")
    drawing.add("line", "axis", x1=across.start, x2=across.end, y1=up.start, y2=up.start)
    middle = (across.start + across.end) / 2
    drawing.add("text", "axis-title", one.x_title, x=middle, y=title_at, text_anchor="middle")
    drawing.add("text", "axis-title", one.y_title, x=4, y=12, text_anchor="start")


def cloud(
    points: Floats, labels: NDArray[np.int64], names: Sequence[str], axes: tuple[str, str], label: str
) -> Markup:
    """Points [n, 2] coloured by class, each class named at its median.

    `names` are the classes that `labels` count into. At most `MOST_POINTS` evenly chosen points are drawn.
    """
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    points, labels = points[::step], labels[::step]
    present = [k for k in range(len(names)) if (labels == k).any()]
    groups = {names[k]: (f"c{k % COLOURS}", points[labels == k]) for k in present}
    drawing, place = _plane(groups, axes, label)
    for name, (_, mine) in groups.items():
        x, y = place(np.median(mine, axis=0))
        drawing.add("text", "class-name", name, x=x, y=y + 4, text_anchor="middle")
    return drawing.markup()


def graded(points: Floats, values: Floats, name: str, axes: tuple[str, str], label: str) -> Markup:
    """Points [n, 2] coloured by a number, `values` [n] called `name`: a grade for each eighth of the points.

    At most `MOST_POINTS` evenly chosen points are drawn; above them stand the grades, with the least, the
    median and the greatest value.
    """
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    points, values = points[::step], values[::step]
    edges = np.quantile(values, np.linspace(0, 1, GRADES + 1))
    grade = np.searchsorted(edges[1:-1], values, side="right")
    groups = {}
    for k in np.unique(grade).tolist():
        mine = values[grade == k]
        groups[f"{name} {mine.min():,.6g} to {mine.max():,.6g}"] = (f"g{k}", points[grade == k])
    drawing, _ = _plane(groups, axes, label, above=GRADED)
    for k in range(GRADES):
        drawing.add("path", f"dots g{k}", d=dots([(150 + 20 * k, 8.0)]))
    low, middle, high = (f"{value:,.6g}" for value in (values.min(), np.median(values), values.max()))
    drawing.add("text", "tick", f"{name} {low}", x=142, y=12, text_anchor="end")
    drawing.add("text", "tick", middle, x=220, y=24, text_anchor="middle")
    drawing.add("text", "tick", high, x=298, y=12, text_anchor="start")
    return drawing.markup()


def overlay(real: Floats, made: Floats, names: tuple[str, str], axes: tuple[str, str], label: str) -> Markup:
    """Made points [m, 2] in the accent's colour over real ones [n, 2] in grey."""
    return _plane({names[0]: ("real", real), names[1]: ("made", made)}, axes, label)[0].markup()


def _plane(
    groups: Mapping[str, tuple[str, Floats]], axes: tuple[str, str], label: str, above: float = 0.0
) -> tuple[Drawing, Callable[[NDArray[np.floating]], tuple[float, float]]]:
    """A drawing of named groups of points, each with its colour, and where a point [2] comes to lie.

    There is room for a key `above` the points.
    """
    width, height = 440.0, 330.0
    points = np.concatenate([mine for _, mine in groups.values()])
    across = scale([float(v) for v in points[:, 0]], 22, width - 8, 0.03)
    up = scale([float(v) for v in points[:, 1]], height - 24, 8 + above, 0.03)

    def place(point: NDArray[np.floating]) -> tuple[float, float]:
        return across(float(point[0])), up(float(point[1]))

    drawing = Drawing(width, height, label, "plot")
    drawing.add("path", "axis", d=f"M{across.start:g} {up.end:g}V{up.start:g}H{across.end:g}", fill="none")
    for name, (css, mine) in groups.items():
        drawing.add(
            "path", f"dots {css}", d=dots([place(p) for p in mine]), hover=f"{name}: {len(mine)} rows"
        )
    middle = (up.start + up.end) / 2
    centre = (across.start + across.end) / 2
    drawing.add("text", "axis-title", axes[0], x=centre, y=height - 7, text_anchor="middle")
    turn = f"rotate(-90 12 {middle:g})"
    drawing.add("text", "axis-title", axes[1], x=12, y=middle, text_anchor="middle", transform=turn)
    return drawing, place


def ridges(lines: Mapping[str, Floats], domain: tuple[float, float], label: str) -> Markup:
    """Sequences [T, C] of equal length over each other, a line a channel, all on one scale.

    `lines` maps the class of a line's colour (`train` is pale, `stop` is strong) to its sequence.
    """
    drawing, places = _ridge_frame(next(iter(lines.values())).shape, domain, label)
    for css, values in lines.items():
        for line in places(values):
            drawing.add("path", f"line {css}", d=path(line))
    return drawing.markup()


def _ridge_frame(
    shape: tuple[int, ...], domain: tuple[float, float], label: str
) -> tuple[Drawing, Callable[[Floats], list[list[tuple[float, float]]]]]:
    """A drawing with a row a channel, and where the line of each channel of a sequence comes to lie."""
    steps, channels = shape
    shown = min(channels, MOST_CHANNELS)
    width, row = 150.0, 84.0 if shown == 1 else 46.0 if shown <= 3 else 19.0
    across = Scale(0, max(steps - 1, 1), 6, width - 6)
    ups = [Scale(*domain, (channel + 1) * row + 3, channel * row + 6) for channel in range(shown)]
    drawing = Drawing(width, shown * row + 8, label, "plot small")
    for up in ups:
        drawing.add("line", "grid", x1=6, x2=width - 6, y1=up.start, y2=up.start)

    def places(values: Floats) -> list[list[tuple[float, float]]]:
        clipped = np.clip(np.nan_to_num(values), *domain)
        lines = [
            [(across(t), up(float(v))) for t, v in enumerate(clipped[:, channel])]
            for channel, up in enumerate(ups)
        ]
        return [[*line, line[-1]] for line in lines]

    return drawing, places


def fan(walk: Sequence[Floats], domain: tuple[float, float], label: str) -> Markup:
    """Sequences [T, C] along a way over each other as `ridges` has them, from pale to strong."""
    drawing, places = _ridge_frame(walk[0].shape, domain, label)
    for at, values in enumerate(walk):
        strength = f"{0.15 + 0.85 * at / max(len(walk) - 1, 1):.2f}"
        for line in places(values):
            drawing.add("path", "line walk", d=path(line), opacity=strength)
    return drawing.markup()


@dataclass(frozen=True)
class Ratio:
    """A ratio for `ratios`: what is compared, the figure in words, and the value to reach, if any."""

    name: str
    value: float
    told: str
    target: float | None
    verdict: Literal["met", "missed", "open"]


def ratios(rows: Sequence[Ratio], label: str) -> str:
    """Bars from 1 on a logarithmic scale, each with a tick at its target, as an SVG file of its own.

    Narrow, with each name above its bar, so that a phone shows it as well as a desk.
    """
    width, edge, row, head = 420.0, 14.0, 37.0, 44.0
    floor = head + row * len(rows)
    values = [1.0, 2.0, *(v for one in rows for v in (one.value, one.target) if v)]
    to = scale(values, edge, width - edge, 0.03, log=True)
    drawing = Drawing(width, floor + 26, label, "ratios")
    drawing.add("rect", "paper", width=width, height=floor + 26)
    drawing.add("rect", "bar met", x=edge, y=15, width=14, height=8)
    drawing.add("text", "", "target met", x=edge + 20, y=23)
    drawing.add("rect", "bar missed", x=112, y=15, width=14, height=8)
    drawing.add("text", "", "missed", x=132, y=23)
    drawing.add("rect", "bar open", x=194, y=15, width=14, height=8)
    drawing.add("text", "", "no target", x=214, y=23)
    drawing.add("line", "target", x1=290, x2=290, y1=13, y2=25)
    drawing.add("text", "", "target", x=298, y=23)
    for tick in (v for v in (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if to.low <= v <= to.high):
        css = "one" if tick == 1 else "grid"
        drawing.add("line", css, x1=to(tick), x2=to(tick), y1=head - 6, y2=floor)
        told = "peer = 1" if tick == 1 else f"{tick:g}"
        drawing.add("text", "", told, x=to(tick), y=floor + 16, text_anchor="middle")
    for k, one in enumerate(rows):
        top = head + k * row
        left, right = sorted((to(1), to(one.value)))
        drawing.add("rect", "paper", x=edge - 3, y=top, width=LETTER * len(one.name) + 6, height=17)
        drawing.add("rect", "paper", x=width - edge - LETTER * len(one.told) - 6, y=top, width=140, height=17)
        drawing.add("text", "name", one.name, x=edge, y=top + 12)
        drawing.add("text", f"told {one.verdict}", one.told, x=width - edge, y=top + 12, text_anchor="end")
        drawing.add(
            "rect",
            f"bar {one.verdict}",
            x=left,
            y=top + 19,
            width=max(right - left, 1),
            height=8,
            hover=f"{one.name}: {one.told}",
        )
        if one.target is not None:
            for css in ("gap", "target"):
                drawing.add("line", css, x1=to(one.target), x2=to(one.target), y1=top + 17, y2=top + 29)
    return drawing.file(RATIOS_STYLE)


def shares(values: Mapping[str, float], label: str) -> Markup:
    """Named shares of one (below zero shown as zero), largest first, as dots on a line."""
    ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    width, row, left = 440.0, 17.0, 150.0
    to = Scale(0, 1, left, width - 40)
    drawing = Drawing(width, row * len(ranked) + 20, label, "plot")
    for tick in (0, 0.5, 1):
        drawing.add("line", "grid", x1=to(tick), x2=to(tick), y1=0, y2=row * len(ranked))
        drawing.add("text", "tick", f"{tick:g}", x=to(tick), y=row * len(ranked) + 14, text_anchor="middle")
    for k, (name, value) in enumerate(ranked):
        y, x = (k + 0.5) * row, to(min(max(value, 0.0), 1.0))
        drawing.add(
            "text",
            "tick",
            name if len(name) < 27 else name[:25] + "…",
            x=left - 8,
            y=y + 3.5,
            text_anchor="end",
        )
        drawing.add("line", "range", x1=left, x2=x, y1=y, y2=y)
        drawing.add("circle", "point variant", cx=x, cy=y, r=3.2, hover=f"{name}: {value:.2f}")
        drawing.add("text", "tick", f"{value:.2f}", x=width - 2, y=y + 3.5, text_anchor="end")
    return drawing.markup()
