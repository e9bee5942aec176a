"""What each loss puts first, as `benchmarks/remedies.json` has it measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentops.reporting.results import Result, read

PATH = Path("benchmarks/remedies.json")
PLAIN = "gaussian, learned variance"
VERDICTS: dict[str, Literal["better", "worse"]] = {"helps": "better", "hurts": "worse"}


class _Side(Result):
    mean: float


class _Row(Result):
    topic: str
    number: str
    remedy: str
    without: _Side
    remedied: _Side
    verdict: Literal["helps", "no effect shown", "hurts"]


class _Remedies(Result):
    rows: tuple[_Row, ...]


@dataclass(frozen=True)
class Cell:
    """What a loss leaves of an error, and whether that is `better` or `worse` than the plain loss's."""

    mean: float
    verdict: Literal["better", "worse"] | None


@dataclass(frozen=True)
class Losses:
    """Kinds of error by loss, the plain one first."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def table(root: Path = Path()) -> Losses | None:
    """The rows of the topic `losses`; None where they aren't measured.

    Raises `DataError` where the file is broken.
    """
    if not (root / PATH).exists():
        return None
    found = [row for row in read(_Remedies, root / PATH, "make bench-remedies").rows if row.topic == "losses"]
    if not found:
        return None
    names = tuple(dict.fromkeys(row.remedy for row in found))
    rows = []
    for number in dict.fromkeys(row.number for row in found):
        of = {row.remedy: row for row in found if row.number == number}
        plain = next(iter(of.values())).without.mean
        cells = (Cell(of[name].remedied.mean, VERDICTS.get(of[name].verdict)) for name in names)
        rows.append((number, (Cell(plain, None), *cells)))
    return Losses((PLAIN, *names), tuple(rows))
