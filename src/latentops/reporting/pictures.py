"""What the models themselves show: latent maps, reconstructions and samples.

These need the weights and the test rows, which a clone without `dvc pull` doesn't have. Then there are no
pictures, and a note says which file is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from latentops.data import prepared
from latentops.data.prepared import Description, Samples
from latentops.data.tokenizer import Tokenizer
from latentops.errors import DataError, LatentOpsError
from latentops.reporting import figures, svg
from latentops.reporting.leaderboard import number, ordered
from latentops.reporting.results import Comparison

if TYPE_CHECKING:
    from latentops.training.trained import Trained

Floats = NDArray[np.float32]
SHOWN = 10  # samples in a row
MOST_ROWS = 400  # sampled rows of a table on their map
PRIORS = ("variational", "adversarial")
LATENTS = ("variational", "sparse", "convolutional")


@dataclass(frozen=True)
class Strip:
    """A row of images under one name."""

    name: str
    source: str
    alt: str


@dataclass(frozen=True)
class Shaded:
    """A number on a ground of some percent of full colour; `own` where it is what a model was made for."""

    text: str
    percent: int
    own: bool = False


@dataclass(frozen=True)
class Table:
    """Numbers by row and column, shaded."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shaded, ...]], ...]


@dataclass(frozen=True)
class Picture:
    """A titled figure with what it shows: drawings side by side, rows of images, a shaded table, named texts.

    `panel` is the least width of drawings that stand side by side, in pixels.
    """

    heading: str
    caption: str
    drawings: tuple[tuple[str, Markup], ...] = ()
    strips: tuple[Strip, ...] = ()
    table: Table | None = None
    texts: tuple[tuple[str, str], ...] = ()
    wide: bool = True
    legend: tuple[str, ...] = ()
    panel: int = 150


@dataclass(frozen=True)
class Gallery:
    """The pictures of a dataset, and why any are missing."""

    map: Picture | None = None
    others: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = field(default=())


def gallery(comparison: Comparison, root: Path = Path()) -> Gallery:
    """Everything that can be drawn of the chosen member and of those that sample."""
    if comparison.chosen is None:
        return Gallery(notes=("No variant was chosen, so there is none to look into.",))
    dataset, chosen, seed = comparison.dataset, comparison.chosen.variant, comparison.chosen.seed
    data = root / "data" / "prepared" / dataset
    try:
        description, test = prepared.describe(data), prepared.load(data, "test")
    except DataError as error:
        return Gallery(notes=(f"No pictures: {error}.",))
    notes: list[str] = []
    absent: dict[str, Path] = {}

    def member(variant: str) -> "Trained | None":
        directory = root / "models" / dataset / variant
        if not (directory / "weights.safetensors").exists():
            absent[variant] = directory
            return None
        from latentops.training.members import VIEW_ALL
        from latentops.training.trained import Trained

        try:
            return Trained.load(directory).select(seed=seed, view=VIEW_ALL)
        except LatentOpsError as error:
            notes.append(f"No pictures of {variant}: {error}.")
            return None

    first = member(chosen)
    if first is None:
        return Gallery(notes=(*notes, *_absent(absent)))
    few = some(test, len(description.classes))
    variants = [row.name for row in ordered(comparison.rows, comparison.ranked_by) if row.role == "variant"]
    others: list[Picture] = []
    if description.kind == "image":
        others.append(_images(few, description, [chosen, *(n for n in variants if n != chosen)], member))
    elif description.tokenizer is not None:
        others.append(_texts(chosen, few, description, description.tokenizer, first.reconstruct(few)[0]))
    elif description.kind == "sequence":
        others.append(_sequences(chosen, few, description, first.reconstruct(few)[0]))
    else:
        others.append(_columns(chosen, test, description, first.reconstruct(test)[0]))
    drawn: dict[str, Floats] = {}
    for variant in PRIORS:
        stack = member(variant) if variant in variants else None
        if stack is not None:
            try:
                count = min(len(test), MOST_ROWS) if description.kind == "tabular" else SHOWN
                drawn[variant] = stack.sample(count, seed=0)[0][0]
            except LatentOpsError as error:
                notes.append(f"No samples of {variant}: {error}.")
    if description.kind == "image":
        others += [_sampled_images(drawn, few, description)] if drawn else []
    else:
        others += [_samples(variant, rows, test, description) for variant, rows in drawn.items()]
    there = {name: stack for name in LATENTS if name in variants and (stack := member(name))}
    others += _latents(there, test, few, description)
    return Gallery(
        _map(chosen, first.encode(test)[0], test, description), tuple(others), (*notes, *_absent(absent))
    )


def _absent(directories: Mapping[str, Path]) -> list[str]:
    """One note for all stacks whose weights are not on this machine."""
    if not directories:
        return []
    names, places = ", ".join(directories), ", ".join(map(str, directories.values()))
    return [f"No pictures of {names}: not here are {places}; `dvc pull` or `dvc repro` brings them."]


def one_of_each(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Up to `SHOWN` rows, taken from the classes in turn."""
    by_class = [np.flatnonzero(labels == k) for k in range(classes)]
    turns = [rows[turn] for turn in range(SHOWN) for rows in by_class if turn < len(rows)]
    picked = np.array(turns[:SHOWN], dtype=np.int64)
    return picked[np.argsort(labels[picked], kind="stable")]


def some(test: Samples, classes: int) -> Samples:
    """Up to `SHOWN` rows of all classes, or from the lowest target to the highest, evenly by rank."""
    if test.targets is None:
        return test.select(one_of_each(np.asarray(test.labels), classes))
    at = np.linspace(0, len(test) - 1, min(SHOWN, len(test))).round().astype(np.int64)
    return test.select(np.argsort(test.targets, kind="stable")[at])


def names(few: Samples, description: Description) -> list[str]:
    """What each row is called: its class, or its label's name and number."""
    if few.targets is None:
        return [description.classes[label] for label in few.labels]
    return [f"{description.target} {target:,.6g}" for target in few.targets]


def principal(values: NDArray[np.floating], onto: NDArray[np.floating]) -> tuple[Floats, tuple[float, float]]:
    """`values` [n, d] on the first two principal axes of `onto` [m, d], and the shares of its variance."""
    centre = onto.mean(axis=0)
    spread, axes = np.linalg.svd(np.asarray(onto - centre, dtype=np.float64), full_matrices=False)[1:]
    axes = axes * np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    plane = np.zeros((onto.shape[1], 2))
    plane[:, : min(2, len(axes))] = axes[:2].T
    total = float((spread**2).sum()) or 1.0
    shares = [float(s) ** 2 / total for s in spread[:2]] + [0.0, 0.0]
    return ((values - centre) @ plane).astype(np.float32), (shares[0], shares[1])


def _map(chosen: str, codes: Floats, test: Samples, description: Description) -> Picture:
    plane, shares = principal(codes, codes)
    axes = (
        f"principal axis 1 ({shares[0]:.0%} of variance)",
        f"principal axis 2 ({shares[1]:.0%} of variance)",
    )
    by = description.target or "class"
    what = f"the {codes.shape[1]}-dimensional test codes of {chosen}, two principal axes, coloured by {by}"
    caption = f"{len(codes):,} test codes of {chosen} on their first two principal axes; "
    if test.targets is None:
        drawing = figures.cloud(plane, np.asarray(test.labels), description.classes, axes, f"Map of {what}")
        caption += "a class is named at its median. Classes that overlap here may still part in the other "
        caption += "dimensions."
    else:
        drawing = figures.graded(plane, np.asarray(test.targets), by, axes, f"Map of {what}")
        caption += f"coloured by {by}, an eighth of them a colour. What is mixed here may still be in order "
        caption += "along another direction."
    return Picture("Latent map", caption, drawings=(("", drawing),), wide=False)


def _images(
    few: Samples, description: Description, variants: Sequence[str], member: "Callable[[str], Trained | None]"
) -> Picture:
    told = ", ".join(names(few, description))
    of = f"Test images of {'classes ' if few.targets is None else ''}{told}"
    strips = [Strip("original", svg.strip(shades(few.values, few, description)), of)]
    for name in variants:
        stack = member(name)
        if stack is not None:
            source = svg.strip(shades(stack.reconstruct(few)[0], few, description))
            strips.append(Strip(name, source, f"The same images as {name} reconstructs them"))
    caption = "Test images and what each variant makes of them from its code, the chosen variant first."
    return Picture("Reconstructions", caption, strips=tuple(strips))


def _sequences(chosen: str, few: Samples, description: Description, made: Floats) -> Picture:
    drawings = []
    lengths = few.lengths if few.lengths is not None else np.full(len(few), few.values.shape[1])
    domain = _domain(few.values, description)
    for k, (steps, name) in enumerate(zip(lengths, names(few, description), strict=True)):
        of = name if few.targets is not None else f"class {name}"
        label = f"A test sequence of {of} and its reconstruction"
        original, other = np.asarray(few.values[k, :steps]), made[k, :steps]
        drawings.append((name, figures.ridges({"train": original, "stop": other}, domain, label)))
    caption = f"Test sequences and what {chosen} makes of them from its code, {_lines(description)}."
    return Picture(
        "Reconstructions", caption, drawings=tuple(drawings), legend=("original", "reconstruction")
    )


def _texts(
    chosen: str, few: Samples, description: Description, tokenizer: Tokenizer, made: Floats
) -> Picture:
    rows = zip(
        names(few, description),
        tokenizer.invert(few.values, few.lengths),
        tokenizer.invert(made, few.lengths),
        strict=True,
    )
    pairs = [((name, original), ("reconstruction", other)) for name, original, other in rows]
    caption = f"Test texts as the tokenizer has them, and what {chosen} makes of them from its code."
    return Picture("Reconstructions", caption, texts=tuple(each for pair in pairs for each in pair))


def _columns(chosen: str, test: Samples, description: Description, made: Floats) -> Picture:
    values = np.asarray(test.values, dtype=np.float64)
    there = description.present(values)
    centre = (values * there).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    missed, total = ((there * (values - other) ** 2).sum(axis=0) for other in (made, centre))
    ends = np.cumsum(description.columns or [1] * len(description.features))
    each = zip(description.features, np.split(missed, ends), np.split(total, ends), strict=False)
    kept = {name: float(1 - own.sum() / all_.sum()) if all_.sum() > 0 else 0.0 for name, own, all_ in each}
    drawing = figures.shares(kept, f"Share of each column's variance that {chosen} reconstructs")
    told = (
        "; of a category that of its indicators. What is missing isn't counted" if description.columns else ""
    )
    caption = (
        f"Share of each column's test variance that {chosen} keeps through its code (R², below 0 shown as 0)"
        f"{told}."
    )
    return Picture("Reconstruction by column", caption, drawings=(("", drawing),), wide=False)


def _latents(
    stacks: "Mapping[str, Trained]", test: Samples, few: Samples, description: Description
) -> list[Picture]:
    """What a variant's code is made of: of the variational its space, of the sparse its units, of the
    convolutional its maps.
    """
    pictures: list[Picture] = []
    if "variational" in stacks:
        pictures += _walks(stacks["variational"], test, few)
    if "sparse" in stacks:
        pictures += _units(stacks["sparse"], test, description)
    if "convolutional" in stacks and description.kind == "image":
        pictures.append(_maps(stacks["convolutional"], few))
    return pictures


def _walks(stack: "Trained", test: Samples, few: Samples) -> list[Picture]:
    """What lies between and around codes; of sequences at full length, of texts the ends and the middle."""
    from latentops.reporting import latents

    name, description = stack.variant, stack.description
    ways = {
        f"Between codes of {name}": (
            latents.between(stack, few, SHOWN),
            "Straight lines between the codes of two test rows, decoded.",
        ),
        f"Units of {name}": (
            latents.travelled(stack, test, SHOWN),
            "One unit at a time from two deviations below the mean code to two above, decoded. "
            "Where nothing changes, the decoder takes no notice of the unit.",
        ),
    }
    if description.tokenizer is not None:
        return [
            Picture(heading, caption, texts=_passed(rows, description.tokenizer))
            for heading, (rows, caption) in ways.items()
        ]
    if description.kind != "image":
        table = description.kind == "tabular"
        domain = _domain(test.values, description)
        told = "a line over the columns as they are prepared" if table else _lines(description)
        return [
            Picture(
                heading,
                f"{caption} From pale to strong along the way, {told}.",
                drawings=tuple(
                    (row, figures.fan(list(walk[..., None] if table else walk), domain, f"{heading}: {row}"))
                    for row, walk in rows.items()
                ),
            )
            for heading, (rows, caption) in ways.items()
        ]
    return [
        Picture(
            heading,
            caption,
            strips=tuple(
                Strip(row, svg.strip(shades(images, few, description)), f"{heading}: {row}")
                for row, images in rows.items()
            ),
        )
        for heading, (rows, caption) in ways.items()
    ]


def _passed(rows: Mapping[str, Floats], tokenizer: Tokenizer) -> tuple[tuple[str, str], ...]:
    """The texts at a few points of each way, from its start to its end."""
    return tuple(
        (f"{row}, {told}", text)
        for row, walk in rows.items()
        for told, text in zip(
            ("start", "middle", "end"),
            tokenizer.invert(walk[[0, len(walk) // 2, -1]]),
            strict=True,
        )
    )


def _units(stack: "Trained", test: Samples, description: Description) -> list[Picture]:
    """Which class each unit tells, or how it goes with a number, and of images what it adds to them."""
    from latentops.reporting import latents

    codes = stack.encode(test)[0][:, : latents.MOST_UNITS]
    pictures = [
        _units_by_class(stack.variant, codes, test, description)
        if test.targets is None
        else _units_by_number(stack.variant, codes, test.targets, str(description.target))
    ]
    if description.kind == "image":
        added = svg.strip(latents.dictionary(stack, test))
        strip = Strip(stack.variant, added, "What each unit of the sparse code adds to an image")
        caption = "What each unit adds to an image when active: bright adds light, dark takes it away."
        pictures.append(Picture("Dictionary of the sparse code", caption, strips=(strip,)))
    return pictures


def _units_by_class(variant: str, codes: Floats, test: Samples, description: Description) -> Picture:
    from latentops.evaluation.structure import unit_auroc

    found = unit_auroc(codes, np.asarray(test.labels), len(description.classes))
    rows = tuple(
        (
            f"unit {unit + 1}",
            tuple(
                Shaded(number(None if np.isnan(value) else float(value)), _from_chance(value))
                for value in column
            ),
        )
        for unit, column in enumerate(found.T)
    )
    caption = (
        f"AUROC of each unit of {variant} for each class, of one seed. 1: it turns on for that class "
        "alone; 0: it turns off; 0.5: it takes no notice. The fuller the shade, the further from that."
    )
    table = Table("unit", tuple(description.classes), rows)
    return Picture(f"Which unit of {variant} tells which class", caption, table=table)


def _units_by_number(variant: str, codes: Floats, targets: NDArray[np.float64], name: str) -> Picture:
    from latentops.evaluation.statistics import spearman

    found = [spearman(unit.tolist(), targets.tolist()) for unit in codes.T]
    rows = tuple(
        (f"unit {unit + 1}", (Shaded(number(value), round(100 * abs(value or 0.0))),))
        for unit, value in enumerate(found)
    )
    caption = (
        f"Rank correlation of each unit of {variant} with {name}, of one seed. The fuller the shade, the "
        "further from 0."
    )
    return Picture(f"Which unit of {variant} goes with {name}", caption, table=Table("unit", (name,), rows))


def _from_chance(auroc: float) -> int:
    """Percent of full colour for an AUROC."""
    return 0 if np.isnan(auroc) else round(200 * abs(float(auroc) - 0.5))


def _maps(stack: "Trained", few: Samples) -> Picture:
    from latentops.reporting import latents

    strips = tuple(
        Strip(name, svg.strip(maps), f"{name} of {stack.variant} on test images")
        for name, maps in latents.feature_maps(stack, few).items()
    )
    caption = (
        f"What each layer of {stack.variant} hands on of the test images above, the maps that vary most: "
        "each on a scale of its own, and smaller with depth, since layers halve the image."
    )
    return Picture(f"Feature maps of {stack.variant}", caption, strips=strips)


def _sampled_images(drawn: Mapping[str, Floats], few: Samples, description: Description) -> Picture:
    strips = tuple(
        Strip(
            name,
            svg.strip(shades(images, few, description)),
            f"Images decoded from draws of {name}'s prior",
        )
        for name, images in drawn.items()
    )
    return Picture("Samples", "Decoded from random draws of each variant's prior.", strips=strips)


def shades(images: Floats, like: Samples, description: Description) -> Floats:
    """Prepared `images` [n, C, H, W] in raw units: the darkest value of `like` is 0, its brightest 1."""
    known = description.transform.invert(like.values)
    low, high = float(known.min()), float(known.max())
    shades = (description.transform.invert(images) - low) / ((high - low) or 1.0)
    return shades.astype(np.float32)


def _samples(variant: str, drawn: Floats, test: Samples, description: Description) -> Picture:
    heading = f"Samples of {variant}"
    if description.tokenizer is not None:
        texts = tuple(
            (f"draw {k}", text) for k, text in enumerate(description.tokenizer.invert(drawn), start=1)
        )
        caption = f"Decoded from random draws of {variant}'s prior at full length."
        return Picture(heading, caption, texts=texts)
    if description.kind == "sequence":
        domain = _domain(test.values, description)
        drawings = tuple(
            ("", figures.ridges({"stop": one}, domain, f"Sequence {k} decoded from {variant}'s prior"))
            for k, one in enumerate(drawn, start=1)
        )
        return Picture(
            heading,
            f"Decoded from random draws of {variant}'s prior at full length, {_lines(description)}.",
            drawings=drawings,
        )
    real = np.asarray(test.values)
    there, shares = principal(real, real)
    here, _ = principal(drawn, real)
    axes = (f"principal axis 1 of the test rows ({shares[0]:.0%})", f"principal axis 2 ({shares[1]:.0%})")
    names = ("test rows", "samples")
    drawing = figures.overlay(there, here, names, axes, f"{names[1]} of {variant} over the {names[0]}")
    caption = (
        f"{len(drawn)} rows decoded from random draws of {variant}'s prior over the test rows, on the first "
        "two principal axes of these."
    )
    return Picture(heading, caption, drawings=(("", drawing),), wide=False, legend=names)


def _domain(values: NDArray[np.float32], description: Description) -> tuple[float, float]:
    if description.likelihood_range:
        return description.likelihood_range
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high)


def _lines(description: Description) -> str:
    channels = description.shape[-1]
    if channels > figures.MOST_CHANNELS:
        return f"a line a channel, the first {figures.MOST_CHANNELS} of {channels}"
    return "a line a channel" if channels > 1 else "over time"
