"""Health along something, as the page and a run in MLflow show it.

What variants have at the same places is a table of them, anything else is drawn.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from latentops.reporting import figures
from latentops.reporting.leaderboard import number
from latentops.reporting.pictures import Picture, Shaded, Table
from latentops.reporting.results import LOWER_IS_BETTER, Profile, Row, title

PLAIN = "undercomplete"  # what a denoising code is held against
CLEAN = "clean"

# Heading and caption of each table.
TABLES = {
    "withstood_error": (
        "Error by the corruption met",
        "Mean squared error against the clean rows when the encoder is shown corrupted ones, each corruption "
        "from weak to strong: noise by its deviation over the data's, the others by the share of values "
        "replaced. A frame marks what a variant was trained with.",
    ),
    "withstood_probe_accuracy": (
        "Probe accuracy by the corruption met",
        "A probe fitted on clean codes reads the codes of corrupted rows: where it still can, the features "
        "are stable.",
    ),
    "withstood_psnr": (
        "PSNR by the corruption met",
        "Peak signal-to-noise ratio in dB of what is made of corrupted rows, against the clean ones.",
    ),
    "withstood_ssim": (
        "SSIM by the corruption met",
        "Structural similarity of what is made of corrupted images to the clean ones: 1 is the same image.",
    ),
    "imputation_error": (
        "Missing values",
        "Squared error of values that are missing, by their share, over that of each column's mean in "
        "their place: below 1 the code knows more than the means.",
    ),
    "unit_auroc": (
        "Best unit by class",
        "AUROC of the single unit that tells a class best from the others: 1 reads it off one number, 0.5 is "
        "chance.",
    ),
    "hidden_error": (
        "Is the whole image in the code?",
        "Error in the right half of images when that half is blank to the encoder, by the distance in "
        "columns from what it sees, over the data's variance there: 1 is no better than the mean image.",
    ),
}


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """The tables, then what else several of the variants have, then all that are a variant's own."""
    variants = [row for row in rows if row.role == "variant"]
    names = dict.fromkeys(name for row in variants for name in row.profiles)
    of = {name: [row for row in variants if name in row.profiles] for name in names}
    tables = [_table(name, of[name]) for name in TABLES if name in of]
    drawn = sorted(name for name in names if name not in TABLES and len(of[name]) > 1)
    single = {name for name in names if name not in TABLES and len(of[name]) == 1}
    own = [(row, name) for row in variants for name in row.profiles if name in single]
    return [*tables, *(_shared(name, of[name]) for name in drawn), *([_own(own)] if own else [])]


def drawings(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of a comparison as SVG files by their names, one a profile."""
    read = Row.model_validate(row)
    return {
        f"{name}.svg": figures.profile(one, _label(read, name, one)).file(figures.PROFILE_STYLE)
        for name, one in read.profiles.items()
    }


def transfer(rows: Sequence[Row]) -> list[str]:
    """How each variant that was trained with a corruption fares under that and under the others.

    It is held against the plain variant; without that one there is nothing to say.
    """
    plain = next((row for row in rows if row.name == PLAIN and row.role == "variant"), None)
    told = [row for row in rows if row.role == "variant" and row.corruption and row is not plain]
    return [line for row in told if plain is not None for line in _transferred(row, plain)]


def mismatch(row: Row, plain: Row) -> float | None:
    """Error under corruptions of other kinds than `row` was trained with, over that of `plain`.

    None where `row` was trained with none, or neither met others.
    """
    other = _places(row, plain)[1]
    return _mean(row, "withstood_error", other) / _mean(plain, "withstood_error", other) if other else None


def _places(row: Row, plain: Row) -> tuple[list[str], list[str]]:
    """What both rows met: the corruption that `row` was trained with, and those of other kinds."""
    names = ("withstood_error", "withstood_probe_accuracy")
    if row.corruption is None or any(name not in each.profiles for name in names for each in (row, plain)):
        return [], []
    known = [each.profiles[name] for name in names for each in (row, plain)]
    places = [
        str(x)
        for at, x in enumerate(known[0].x)
        if all(one.x == known[0].x and one.mean[at] is not None for one in known)
    ]
    kind = row.corruption.split()[0]
    same = [place for place in places if place.split()[0] == kind]
    same = [row.corruption] if row.corruption in same else same
    return same, [place for place in places if place.split()[0] not in (kind, CLEAN)]


def _transferred(row: Row, plain: Row) -> list[str]:
    if row.corruption is None:
        return []
    names = ("withstood_error", "withstood_probe_accuracy")
    same, other = _places(row, plain)
    told = []
    for where, chosen in (("where it meets that,", same), ("under other corruptions,", other)):
        if not chosen:
            continue
        mine, theirs = ([_mean(each, name, chosen) for name in names] for each in (row, plain))
        told.append(
            f"{where} its error is {mine[0] / theirs[0]:.2f} times that of {PLAIN} and its probe accuracy "
            f"{number(mine[1])} against {number(theirs[1])}"
        )
    return [f"{row.name} was trained with {_words(row.corruption)}: {'; '.join(told)}."] if told else []


def _mean(row: Row, name: str, places: Sequence[str]) -> float:
    one = row.profiles[name]
    return fmean(mean for x, mean in zip(one.x, one.mean, strict=True) if x in places and mean is not None)


def _opened(words: str) -> str:
    return words[:1].upper() + words[1:]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(name: str, rows: Sequence[Row]) -> Picture:
    one = rows[0].profiles[name]
    heading, caption = TABLES[name]
    lower = name in LOWER_IS_BETTER
    alike = [row for row in rows if row.profiles[name].x == one.x]
    columns = list(zip(*(row.profiles[name].mean for row in alike), strict=True))
    percents = [shades(column, lower=lower) for column in columns]
    lines = tuple(
        (
            row.name,
            tuple(
                Shaded(number(mean), percents[at][k], one.x[at] == row.corruption)
                for at, mean in enumerate(row.profiles[name].mean)
            ),
        )
        for k, row in enumerate(alike)
    )
    better = "lower" if lower else "higher"
    caption = f"{caption} Shades compare the variants within a column; {better} is better."
    columns_ = tuple(_words(str(x)) for x in one.x)
    return Picture(heading, caption, table=Table("variant", columns_, lines))


def shades(values: Sequence[float | None], *, lower: bool) -> list[int]:
    """Percent of full colour for each value of a column: the best has all of it, the worst none.

    Outliers have no more than all and no less than none.
    """
    known = [value for value in values if value is not None]
    low, high = figures.fences(known) if known else (0.0, 0.0)
    if known and high <= low:  # all but the outliers are alike
        low, high = min(known), max(known)
    result = []
    for value in values:
        if value is None or high <= low:
            result.append(0)
            continue
        share = (min(max(value, low), high) - low) / (high - low)
        result.append(round(100 * (1 - share if lower else share)))
    return result


def _shared(name: str, rows: Sequence[Row]) -> Picture:
    """A drawing a variant: each may have places of its own, such as the ranks of codes of other sizes."""
    drawn = tuple((row.name, _drawing(row, name)) for row in rows)
    one = rows[0].profiles[name]
    caption = f"{_opened(one.y_title)} by {one.x_title}, on the test rows; each variant has its own scale."
    return Picture(_opened(title(name)), caption, drawings=drawn, panel=200)


def _own(own: Sequence[tuple[Row, str]]) -> Picture:
    drawn = tuple((f"{row.name}: {title(name)}", _drawing(row, name)) for row, name in own)
    caption = (
        "What single variants are looked into for, on the test rows: the mean over seeds, bars with "
        "Student's interval, lines with a pale one a seed."
    )
    return Picture("Variant by variant", caption, drawings=drawn, panel=260)


def _drawing(row: Row, name: str) -> Markup:
    one = row.profiles[name]
    return figures.profile(one, _label(row, name, one)).markup()


def _label(row: Row, name: str, one: Profile) -> str:
    return f"{title(name)} of {row.name}: {one.y_title} by {one.x_title}"
