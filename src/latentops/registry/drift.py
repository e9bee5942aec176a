"""Have rows moved away from those that the champion knows? Asked of its codes, its scores and the columns.

New rows are held against the stop rows, of which the champion's weights were not learned. Each test has a
p-value; over all tests of all datasets that are looked at together they are corrected, so that without any
drift a look finds some with a chance of at most α.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentops.data import prepared
from latentops.data.encoding import CATEGORIES
from latentops.data.tokenizer import UNKNOWN
from latentops.evaluation.statistics import holm
from latentops.evaluation.two_sample import FEWEST, Found, classifier_test, column_test, kernel_test
from latentops.registry import cells
from latentops.registry.package import Input, Package, in_raw_units

CODES, SCORES = "codes", "scores"
COLUMNS = "column"


@dataclass(frozen=True)
class Finding:
    """One test: what it is of, its statistic, its own p-value, and that corrected for all others."""

    of: str
    test: str
    statistic: float
    p_value: float
    corrected: float = 1.0

    @property
    def of_champion(self) -> bool:
        """Whether it is of what the champion makes of rows, not of the rows themselves."""
        return self.of in (CODES, SCORES)


@dataclass(frozen=True)
class Drift:
    """What was found of the new rows of one dataset, against so many `known` ones.

    Where nothing could be tested `findings` are empty.
    """

    dataset: str
    rows: int
    known: int
    findings: tuple[Finding, ...] = ()

    def beyond(self, alpha: float) -> list[Finding]:
        """What is found to have moved at `alpha`, the surest first."""
        moved = [each for each in self.findings if each.corrected <= alpha]
        return sorted(moved, key=lambda each: each.corrected)

    def to_json(self, alpha: float) -> dict[str, Any]:
        """As ledgers keep it: all that is of the champion, and of the columns those that moved."""
        kept = [each for each in self.findings if each.of_champion or each.corrected <= alpha]
        return {
            "rows": self.rows,
            "known": self.known,
            "tests": len(self.findings),
            "drifted": bool(self.beyond(alpha)),
            "findings": [
                {
                    "of": each.of,
                    "test": each.test,
                    "statistic": round(each.statistic, 4),
                    "p_value": float(f"{each.p_value:.3g}"),
                    "corrected": float(f"{each.corrected:.3g}"),
                    "moved": each.corrected <= alpha,
                }
                for each in kept
            ],
        }


def look(dataset: str, champion: Package, new: Input) -> Drift:
    """Test rows `new` of `dataset`, in raw units, against its stop rows; correct nothing yet.

    Of fewer than `two_sample.FEWEST` rows on either side nothing is said.
    """
    source = Path("data/prepared", dataset)
    stop = prepared.load(source, "stop")
    known = in_raw_units(prepared.describe(source), np.asarray(stop.values), stop.lengths)
    sizes = len(new), len(known)
    if min(sizes) < FEWEST:
        return Drift(dataset, *sizes)
    findings = [
        Finding(of, test, found.statistic, found.p_value)
        for of, made in made_of(champion, known, new).items()
        for test, found in (("classifier", classifier_test(*made)), ("kernel", kernel_test(*made)))
    ]
    findings += [
        Finding(
            f"{COLUMNS} {name}", "Kolmogorov–Smirnov" if numeric else "χ²", found.statistic, found.p_value
        )
        for name, numeric, found in of_columns(champion, known, new)
    ]
    return Drift(dataset, *sizes, tuple(findings))


def corrected(looks: Iterable[Drift]) -> list[Drift]:
    """All looks of one time, each p-value corrected for all of them.

    Holm's within the tests of champions and within those of columns, each of which has half of α: there may
    be hundreds of columns, and of permutations too few to be sure beside them.
    """
    looks = list(looks)
    of_family: dict[bool, Iterator[float]] = {}
    for family in (True, False):
        raw = [each.p_value for one in looks for each in one.findings if each.of_champion is family]
        of_family[family] = iter([min(1.0, 2 * each) for each in holm(raw)])
    return [
        replace(
            one,
            findings=tuple(
                replace(each, corrected=next(of_family[each.of_champion])) for each in one.findings
            ),
        )
        for one in looks
    ]


Sets = tuple[NDArray[np.floating], NDArray[np.floating]]


def made_of(champion: Package, known: Input, new: Input) -> dict[str, Sets]:
    """Codes of both sets of rows and, where the champion scores, the score in each normal view.

    Scores are replaced by their ranks among all: a few that are far out would be all that a kernel sees.
    """
    made: dict[str, Sets] = {CODES: (champion.encode(known), champion.encode(new))}
    if champion.references:
        frames = [champion.score(rows) for rows in (known, new)]
        names = [name for name in frames[0].columns if str(name).startswith("score ")] or ["score"]
        ranked = pd.concat([frame[names] for frame in frames]).rank(pct=True).to_numpy(dtype=np.float64)
        made[SCORES] = (ranked[: len(frames[0])], ranked[len(frames[0]) :])
    return made


def of_columns(champion: Package, known: Input, new: Input) -> Iterator[tuple[str, bool, Found]]:
    """Each column of a table, or what sums up an image, a sequence or a text: its name, and its test."""
    encoding = champion.description.encoding
    categories = (
        {name for name, type_ in encoding.types.items() if type_ in CATEGORIES} if encoding else set()
    )
    before, after = summed_up(champion, known), summed_up(champion, new)
    for name, values in before.items():
        numeric = name not in categories
        yield name, numeric, column_test(values, after[name], numeric=numeric)


def summed_up(champion: Package, rows: Input) -> Mapping[str, Sequence[object]]:
    """The columns of a table; of an image each channel's mean and deviation, likewise of a sequence.

    Of a sequence its length too, of a text its length in words and the share of those that are unknown.
    """
    description = champion.description
    if description.encoding is not None:
        return {
            name: list(each)
            for name, each in cells.columns(champion.frame(rows), description.encoding).items()
        }
    if description.kind == "tabular":
        frame = champion.frame(rows)
        return {str(name): frame[name].tolist() for name in frame.columns}
    if description.tokenizer is not None:
        ids, lengths = description.tokenizer.apply(list(cast("Sequence[str]", rows)))
        unknown = np.add.reduceat(ids[:, 0] == UNKNOWN, np.cumsum([0, *lengths[:-1]]))
        return {"length": lengths.tolist(), "unknown": (unknown / lengths).tolist()}
    flat = [np.asarray(row, dtype=np.float64) for row in cast("Sequence[NDArray[np.floating]]", rows)]
    channels = [row if description.kind == "sequence" else row.reshape(len(row), -1).T for row in flat]
    means, deviations = (np.stack([of(row, axis=0) for row in channels]).T for of in (np.mean, np.std))
    found: dict[str, Sequence[object]] = {}
    for at, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        of = f" of channel {at}" if len(means) > 1 else ""
        found |= {f"mean{of}": mean.tolist(), f"deviation{of}": deviation.tolist()}
    if description.kind == "sequence":
        found["length"] = [len(row) for row in channels]
    return found
