"""Long series as the page shows them: over time, and below the test's part its score by time stamp."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from latentops.data import prepared
from latentops.data.prepared import SPLITS, Description, Samples, Windows
from latentops.errors import DataError
from latentops.evaluation.timeline import Timeline
from latentops.reporting import results
from latentops.reporting.leaderboard import number, ordered
from latentops.reporting.pictures import Gallery, Picture
from latentops.reporting.results import Comparison
from latentops.reporting.svg import Drawing, Scale, path, scale

MOST_SERIES = 4
HOUR, DAY = 3600.0, 86400.0
TICKS = (1.0, 60.0, 600.0, HOUR, 6 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)
LEFT, RIGHT, TOP, BELOW = 46.0, 8.0, 20.0, 24.0  # of a panel, around what is drawn

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """One series: `times` and `values` [T] of all that is known of it, and of the test its scores.

    `asked` [S] are the times of the test's stamps, `scores` and `marked` [S] theirs; `every` the seconds
    between two, `limit` the score above which one is flagged.
    """

    times: Array
    values: Array
    asked: Array
    scores: Array
    marked: NDArray[np.bool_]
    every: float
    limit: float


def gallery(comparison: Comparison, root: Path = Path()) -> Gallery:
    """A picture a series, of the chosen member; nothing where rows aren't windows of marked series.

    Where there was nothing to choose by, it is of the first seed of the variant that leads the board.
    """
    dataset = comparison.dataset
    data = root / "data" / "prepared" / dataset
    try:
        description = prepared.describe(data)
        splits = [prepared.load(data, split) for split in SPLITS] if description.every else []
    except DataError:
        return Gallery()  # the other pictures' note says what is missing
    if not splits or description.every is None:
        return Gallery()
    rows = ordered(comparison.rows, comparison.ranked_by)
    chosen = comparison.chosen
    variant = chosen.variant if chosen else next(row.name for row in rows if row.role == "variant")
    folder = root / "results" / "evaluate" / dataset / variant
    try:
        tensors = load_file(folder / "samples.safetensors")
    except (FileNotFoundError, SafetensorError):
        missing = f"{folder / 'samples.safetensors'} is not here, or not whole"
        return Gallery(notes=(f"No scores over time: {missing}; `dvc pull` or `dvc repro` brings it.",))
    key = next((name for name in tensors if name.startswith(f"{variant}/stamp_score/")), None)
    if key is None:
        return Gallery()
    members = results.training(dataset, variant, root).members
    seeds = [member.seed for member in members if member.view == "all"]
    at = seeds.index(chosen.seed) if chosen else 0
    limit = float(tensors[key.replace("stamp_score", "stamp_limit")][at])
    tracks = _tracks(splits, description, description.every, tensors[key][at], limit)
    caption = (
        f"Above the whole series{_channel(description)}, its test part shaded; then that part, and below it "
        f"the score of {variant} (seed {seeds[at]}) at each time stamp: the mean over the windows "
        "that cover it. Marked stretches are shaded, the line is the threshold. Of more stamps than there "
        "are pixels the least and the greatest are drawn."
    )
    pictures = tuple(
        Picture(
            "Scores over time" if len(tracks) == 1 else f"Scores over time, series {at}",
            caption,
            drawings=(("", drawing(track, 1080, "broad") + drawing(track, 360, "slim")),),
            panel=720,
        )
        for at, track in enumerate(tracks, start=1)
    )
    return Gallery(others=pictures)


def _channel(description: Description) -> str:
    channels = description.shape[-1]
    return "" if channels == 1 else f" (the first of its {channels} values)"


def _tracks(
    splits: Sequence[Samples], description: Description, every: float, scores: Array, limit: float
) -> list[Track]:
    """The first series that the test has stamps of."""
    windows = [each.windows for each in splits if each.windows is not None and each.lengths is not None]
    rows = Samples(
        np.concatenate([each.values for each in splits]),
        np.concatenate([np.asarray(each.lengths) for each in splits]),
        np.concatenate([each.labels for each in splits]),
        np.concatenate([each.ids for each in splits]),
        Windows(
            np.concatenate([each.times for each in windows]),
            np.concatenate([each.series for each in windows]),
        ),
    )
    line, asked = Timeline.of(rows, every), Timeline.of(splits[SPLITS.index("test")], every)
    values = np.full(len(line), np.nan)
    there = line.at >= 0
    values[line.at[there]] = description.transform.invert(rows.values[there])[:, 0]
    found = []
    for series in np.unique(asked.series)[:MOST_SERIES]:
        whole, part = line.series == series, asked.series == series
        found.append(
            Track(
                line.times[whole],
                values[whole],
                asked.times[part],
                np.asarray(scores, dtype=np.float64)[part],
                asked.marked[part],
                every,
                limit,
            )
        )
    return found


def drawing(track: Track, width: float, css: str) -> Markup:
    """Three panels, each `width` wide: the series, its test part, and the score there."""
    height = 130.0 if width < 500 else 150.0
    label = (
        f"A series of {len(track.times):,} time stamps and the scores of {len(track.asked):,} in the test, "
        f"{int(track.marked.sum()):,} of them marked"
    )
    sheet = Drawing(width, 3 * height + 2 * BELOW + 8, label, f"plot timeline {css}")
    ends = (float(track.times[0]), float(track.times[-1]))
    tested = (float(track.asked[0]), float(track.asked[-1]))
    inside = (track.times >= tested[0]) & (track.times <= tested[1])
    marks = _spans(track.asked, track.marked, track.every)
    panels: list[tuple[str, tuple[float, float], Array, Array, list[tuple[float, float]]]] = [
        ("series", ends, track.times, track.values, [tested]),
        ("its test part", tested, track.times[inside], track.values[inside], marks),
        ("score", tested, track.asked, track.scores, marks),
    ]
    top = 0.0
    for name, span, times, values, shaded in panels:
        across = Scale(*span, LEFT, width - RIGHT)
        scored = name == "score"
        up = scale([*values.tolist(), *([track.limit] if scored else [])], top + height, top + TOP, 0.05)
        for since, until in shaded:
            left, right = across(max(since, span[0])), across(min(until, span[1]))
            kind = "marked" if shaded is marks else "held"
            sheet.add("rect", kind, x=left, y=up.end, width=max(right - left, 1.5), height=up.start - up.end)
        for value in up.ticks(4):
            sheet.add("line", "grid", x1=LEFT, x2=width - RIGHT, y1=up(value), y2=up(value))
            shown = f"{value:g}".replace("-", "−")
            sheet.add("text", "tick", shown, x=LEFT - 6, y=up(value) + 3.5, text_anchor="end")
        if name != "its test part":
            for moment, told in _moments(span, 9 if width > 500 else 3):
                sheet.add("text", "tick", told, x=across(moment), y=top + height + 15, text_anchor="middle")
        for line in _lines(times, values, across, track.every):
            sheet.add("path", f"line {'stop' if scored else 'raw'}", d=path((x, up(y)) for x, y in line))
        if scored:
            at = up(track.limit)
            hover = f"threshold {number(track.limit)}"
            sheet.add("line", "limit", x1=LEFT, x2=width - RIGHT, y1=at, y2=at, hover=hover)
        sheet.add("line", "axis", x1=LEFT, x2=width - RIGHT, y1=up.start, y2=up.start)
        sheet.add("text", "axis-title", name, x=LEFT, y=top + 13, text_anchor="start")
        top += height + (4 if name == "its test part" else BELOW)
    return sheet.markup()


def _spans(times: Array, marked: NDArray[np.bool_], every: float) -> list[tuple[float, float]]:
    """From where to where `marked` times follow one another."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(float(times[a]), float(times[b - 1]) + every) for a, b in edges.reshape(-1, 2)]


def _lines(times: Array, values: Array, across: Scale, every: float) -> list[list[tuple[float, float]]]:
    """The points of `values` by pixel, the least and the greatest of each; a gap in time ends a line."""
    if not len(times):
        return []
    x = np.array([across(float(time)) for time in times])
    lines = []
    breaks = np.flatnonzero(np.diff(times) > 1.5 * every) + 1
    for piece in np.split(np.arange(len(times)), breaks):
        pixels = np.split(piece, np.flatnonzero(np.diff(np.floor(x[piece]))) + 1)
        kept = [
            at
            for pixel in pixels
            for at in sorted({pixel[np.argmin(values[pixel])], pixel[np.argmax(values[pixel])]})
        ]
        lines.append([(float(x[at]), float(values[at])) for at in [*kept, kept[-1]]])
    return lines


def _moments(span: tuple[float, float], most: int) -> list[tuple[float, str]]:
    """About `most` round times within `span`, and what they are called."""
    step = next((each for each in TICKS if (span[1] - span[0]) / each <= most), TICKS[-1])
    form = "%d %b" if step >= DAY else "%d %b %H:%M" if step >= 60 else "%H:%M:%S"
    form = f"{form} %Y" if step >= 90 * DAY else form
    margin = (span[1] - span[0]) / (most * 4)
    firsts = np.arange(np.ceil((span[0] + margin) / step), (span[1] - margin) // step + 1) * step
    return [(float(each), f"{datetime.fromtimestamp(float(each), UTC):{form}}") for each in firsts]
