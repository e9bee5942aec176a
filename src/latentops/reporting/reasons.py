"""Why samples are anomalous: the test rows with the highest scores, and where these come from.

What adds to a score is as `latentops.evaluation.attribution` has it, of the chosen member; a row that is
normal stands beside them for contrast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from latentops.config import Anomaly
from latentops.data import prepared
from latentops.data.prepared import Description, Samples
from latentops.data.tokenizer import Tokenizer
from latentops.errors import DataError
from latentops.reporting import figures, results, svg
from latentops.reporting.pictures import Gallery, Picture, Strip, shades
from latentops.reporting.results import Comparison
from latentops.reporting.svg import Drawing, Scale, path

if TYPE_CHECKING:
    from latentops.evaluation.attribution import Attribution
    from latentops.training.trained import Trained

HEADING = "Why is this sample anomalous?"
SHOWN = 5  # rows with the highest scores, beside the normal one
IMAGES = 9
STRONGEST = 0.5  # quantile over rows of what their strongest place adds, which has full colour
COLUMNS = 6  # of a table, those that add most
RAISES, LOWERS = (0.78, 0.2, 0.09), (0.04, 0.42, 0.45)  # what adds to a score, and what takes from it
WIDTH, LETTER, LINE = 300.0, 6.4, 19.0  # of a drawing, a letter and a line of text

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reasons:
    """Some rows, the last of them normal, what they are called, and what was found of each."""

    rows: Samples
    names: tuple[str, ...]
    found: "Attribution"


def gallery(comparison: Comparison, settings: Anomaly, root: Path = Path()) -> Gallery:
    """The picture of a dataset whose chosen member is here and whose test rows were scored by it."""
    if comparison.chosen is None:
        return Gallery()
    dataset, chosen = comparison.dataset, comparison.chosen.variant
    data, model = root / "data" / "prepared" / dataset, root / "models" / dataset / chosen
    scored = root / "results" / "evaluate" / dataset / chosen / "samples.safetensors"
    try:
        description = prepared.describe(data)
        train, test = prepared.load(data, "train"), prepared.load(data, "test")
        if not (model / "weights.safetensors").exists():
            return Gallery()
    except DataError:
        return Gallery()  # the other pictures' note says what is missing
    try:
        tensors = load_file(scored)
    except (FileNotFoundError, SafetensorError):
        return Gallery(
            notes=(f"No reasons for scores: {scored} is not here, or not whole; `dvc pull` brings it.",)
        )
    from latentops.training.trained import Trained

    seeds = [each.seed for each in results.training(dataset, chosen, root).members if each.view == "all"]
    at, (before, after) = seeds.index(comparison.chosen.seed), (f"{chosen}/score/", "/auroc")
    scores = {
        key.removeprefix(before).removesuffix(after): each[at]
        for key, each in tensors.items()
        if key.startswith(before) and key.endswith(after)
    }
    if not scores:
        return Gallery()
    stack = Trained.load(model).select(seed=comparison.chosen.seed)
    reasons = _reasons(stack, scores, train, test, settings)
    return Gallery(others=(picture(reasons, description, chosen),))


def _reasons(
    stack: "Trained", scores: dict[str, Array], train: Samples, test: Samples, settings: Anomaly
) -> Reasons:
    """Of a seed's members: each row is held against the normal class that it is least unlike."""
    from latentops.evaluation.anomaly import Scorer, some_rows
    from latentops.evaluation.attribution import attribute
    from latentops.evaluation.floors import numbers

    classes = stack.description.classes
    views, each = list(scores), np.stack(list(scores.values()))
    view, score = each.argmin(axis=0), each.min(axis=0)
    normal = np.isin(test.labels, [classes.index(name) for name in views])
    highest = np.argsort(-score, kind="stable")[: IMAGES if stack.description.kind == "image" else SHOWN]
    (usual,) = np.nonzero(normal)
    middle = usual[np.abs(score[usual] - np.median(score[usual])).argmin()]
    shown = np.array([*highest, middle])
    parts, order = [], []
    for at in np.unique(view[shown]):
        member = stack.select(view=views[at])
        fold = train.select(train.labels == classes.index(views[at]))
        inputs = numbers(fold.select(some_rows(len(fold))), stack.description.vocabulary)
        made = member.residuals(fold)[0], member.encode(fold)[0]
        scorer = Scorer.fit(*made, inputs, settings.neighbours, settings.reference)
        (mine,) = np.nonzero(view[shown] == at)
        parts.append(attribute(member, scorer, test.select(shown[mine])))
        order.append(mine)
    names = tuple(
        f"{classes[label]}, score {one:.1f}"
        for label, one in zip(test.labels[shown], score[shown], strict=True)
    )
    return Reasons(test.select(shown), names, _joined(parts, np.argsort(np.concatenate(order))))


def _joined(parts: Sequence["Attribution"], order: NDArray[np.int64]) -> "Attribution":
    """The rows of all parts, in that order."""
    told = [part.attribution for part in parts if part.attribution is not None]
    values = np.concatenate([part.nearest.values for part in parts])[order]
    return replace(
        parts[0],
        score=np.concatenate([part.score for part in parts])[order],
        start=np.concatenate([part.start for part in parts])[order],
        residual=np.concatenate([part.residual for part in parts])[order],
        attribution=np.concatenate(told)[order] if told else None,
        nearest=replace(parts[0].nearest, values=values),
    )


def picture(reasons: Reasons, description: Description, chosen: str) -> Picture:
    """Where the scores of some rows come from."""
    names = "; ".join(reasons.names)
    start = f"The test rows that {chosen} scores highest, and last a normal row of the middle score"
    if description.kind == "image":
        caption = (
            f"{start}: {names}. Below each the nearest normal training row as the model "
            "decodes it, and what adds to the score (red) and takes from it (teal), on one scale."
        )
        return Picture(HEADING, caption, strips=_images(reasons, description))
    if description.tokenizer is not None:
        caption = f"{start}. The fuller the shade, the more nats a token costs; all on one scale."
        return Picture(HEADING, caption, drawings=_texts(reasons, description.tokenizer), panel=280)
    if description.kind == "sequence":
        caption = (
            f"{start}, over the nearest normal training row as the model decodes it. The fuller the shade "
            "of a step, the more it adds to the score (red) or takes from it (teal), all on one scale."
        )
        return Picture(
            HEADING,
            caption,
            drawings=_sequences(reasons, description),
            legend=("nearest normal row", "test row"),
            panel=200,
        )
    caption = (
        f"{start}: the {COLUMNS} columns that add most to each score, by how much, with the row's value and "
        "that of the nearest normal training row as the model decodes it. Bars are on one scale."
    )
    return Picture(HEADING, caption, drawings=_columns(reasons, description), panel=280)


def _images(reasons: Reasons, description: Description) -> tuple[Strip, ...]:
    rows, nearest = reasons.rows, reasons.found.nearest
    grey = shades(np.asarray(rows.values), rows, description)
    told = _told(reasons)[1][:, None]
    colour = np.where(told > 0, np.reshape(RAISES, (3, 1, 1)), np.reshape(LOWERS, (3, 1, 1)))
    faint = 0.4 * np.repeat(grey[:, :1], 3, axis=1)
    heat = faint + np.abs(told) * (colour - faint)
    labels = ", ".join(reasons.names)
    return (
        Strip("test row", svg.strip(grey), f"Test images: {labels}"),
        Strip(
            "nearest normal",
            svg.strip(shades(nearest.values, rows, description)),
            "The nearest normal training images as the model decodes them",
        ),
        Strip(
            "why", svg.strip(heat.astype(np.float32)), "The same images with what adds to their scores in red"
        ),
    )


def _told(reasons: Reasons) -> tuple[Array, Array]:
    """What each place adds to the score, of tokens to the error; and that on a scale from -1 to 1.

    It is the same for all rows, and ends at what the strongest place of a row adds, of most of the rows.
    """
    found = reasons.found
    each = found.residual if found.attribution is None else found.attribution
    strongest = np.abs(each).reshape(len(each), -1).max(axis=1)
    return each, np.clip(each / (float(np.quantile(strongest, STRONGEST)) or 1.0), -1, 1)


def _fill(share: float) -> str:
    """Red for what adds, teal for what takes away, the fuller the more."""
    red, green, blue = (round(255 * part) for part in (RAISES if share > 0 else LOWERS))
    return f"fill: rgb({red} {green} {blue} / {svg.short(min(abs(share), 1.0) * 0.8)})"


def _sequences(reasons: Reasons, description: Description) -> tuple[tuple[str, Markup], ...]:
    rows, nearest = reasons.rows, reasons.found.nearest
    ends = np.full(len(rows), description.shape[0]) if rows.lengths is None else rows.lengths
    low, high = float(min(rows.values.min(), nearest.values.min())), float(rows.values.max())
    drawings = []
    adds, told = _told(reasons)
    for name, row, other, added, each, end in zip(
        reasons.names, rows.values, nearest.values, adds, told, ends, strict=True
    ):
        channels = min(row.shape[1], figures.MOST_CHANNELS)
        height = 90.0 if channels == 1 else 46.0 if channels <= 3 else 22.0
        width = 200.0
        step = (width - 12) / end
        most = int(each[:end].max(axis=1).argmax())
        label = f"A test sequence of class {name}; step {most + 1} of {end} adds most to its score"
        drawing = Drawing(width, channels * height + 8, label, "plot small")
        for channel in range(channels):
            up = Scale(low, high, (channel + 1) * height + 2, channel * height + 8)
            for at, one in enumerate(each[:end, channel]):
                if abs(one) > 0.02:
                    drawing.add(
                        "rect",
                        style=_fill(float(one)),
                        x=6 + at * step,
                        y=channel * height + 4,
                        width=step,
                        height=height - 1,
                        hover=f"step {at + 1}: {added[at, channel]:+.2f}",
                    )
            for css, values in (("train", other), ("stop", row)):
                points = [(6 + (at + 0.5) * step, up(float(v))) for at, v in enumerate(values[:end, channel])]
                drawing.add("path", f"line {css}", d=path([*points, points[-1]]))
        drawings.append((name, drawing.markup()))
    return tuple(drawings)


def _columns(reasons: Reasons, description: Description) -> tuple[tuple[str, Markup], ...]:
    values, nearest = (_cells(each.values, description) for each in (reasons.rows, reasons.found.nearest))
    adds, _ = _told(reasons)
    drawings = []
    for at, name in enumerate(reasons.names):
        first = np.argsort(-adds[at], kind="stable")[:COLUMNS]
        shown = [column for column in first if adds[at, column] > 0]
        label = f"A test row of class {name}; what adds most to its score"
        drawing = Drawing(WIDTH, 34.0 * COLUMNS + 4, label, "plot")
        if not shown:
            drawing.add("text", "name", "no column adds to its score", x=0, y=14)
        for line, column in enumerate(shown):
            feature, top = description.features[column], 34.0 * line
            cell = f"{values[at][column]} (nearest {nearest[at][column]})"
            room = int((WIDTH - LETTER * len(cell)) / LETTER) - 1
            short = feature if len(feature) <= room else f"{feature[: room - 1]}…"
            drawing.add("text", "name", short, x=0, y=top + 12)
            drawing.add("text", "tick", cell, x=WIDTH, y=top + 12, text_anchor="end")
            width = adds[at, column] / adds.max() * (WIDTH - 44)
            drawing.add("rect", style=_fill(1.0), x=0, y=top + 17, width=max(width, 1.0), height=8)
            drawing.add("text", "tick", f"{adds[at, column]:+.2f}", x=width + 5, y=top + 25)
        drawings.append((name, drawing.markup()))
    return tuple(drawings)


def _cells(rows: NDArray[np.float32], description: Description) -> list[list[str]]:
    """Prepared rows of a table as they are read, in raw units."""
    if description.encoding is None:
        return [[f"{value:.4g}" for value in row] for row in description.transform.invert(rows)]
    from latentops.registry import cells

    frame = cells.frame(description.encoding.invert(rows), description.encoding)
    return [[_cell(value) for value in row] for row in frame.itertuples(index=False)]


def _cell(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _texts(reasons: Reasons, tokenizer: Tokenizer) -> tuple[tuple[str, Markup], ...]:
    from latentops.registry.reasons import pieces

    adds, told = _told(reasons)
    drawings = []
    for at, tokens in enumerate(pieces(tokenizer, reasons.rows)):
        places, x, y = [], 0.0, 0.0
        for token in tokens:
            width = LETTER * len(token)
            if x and x + width > WIDTH:
                x, y = 0.0, y + LINE
            places.append((x, y, width))
            x += width
        label = f"A test text of class {reasons.names[at]}: {''.join(tokens)}"
        drawing = Drawing(WIDTH, y + LINE + 2, label, "plot")
        for token, place, added, share in zip(tokens, places, adds[at, :, 0], told[at, :, 0], strict=False):
            (x, y, width), word = place, token.lstrip()
            hover = f"{word}: {added:.2f}"
            drawing.add(
                "rect", style=_fill(float(share)), x=x, y=y, width=width, height=LINE - 3, hover=hover
            )
            own = LETTER * len(word)
            drawing.add("text", "name", word, x=x + width - own, y=y + 12, textLength=own)
        drawings.append((reasons.names[at], drawing.markup()))
    return tuple(drawings)
