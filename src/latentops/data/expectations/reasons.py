"""Why rows are set aside: counted by column and by what is wrong there, whatever the cells are."""

import re
from collections import Counter
from collections.abc import Iterable

_OTHERS = "other reasons"
_LISTED = 30  # reasons that are listed one by one
_TOLD_APART = 10_000  # reasons that are counted at all: a reader's may be another one for every row

_QUOTED = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_NEXT = re.compile(rf"; (?=row \d+: |column {_QUOTED}: )")
_CELL = re.compile(rf"(?P<column>column {_QUOTED}: )(?P<cell>{_QUOTED})(?P<what> .*)", re.DOTALL)


class Reasons:
    """Counts of the rows that are set aside for each reason.

    What a reader says of a cell (`column 'age': 'old' is not a number`) is one reason for all cells of the
    column of which it says so; the first of them is kept as an example.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self._others = 0

    def add(self, rows: Iterable[Iterable[str]]) -> None:
        """Count the reasons of further rows, each once a row."""
        for each in rows:
            kinds: dict[tuple[str, str], str] = {}
            for told in each:
                for kind, example in map(_kind, _NEXT.split(told)):
                    kinds.setdefault(kind, example)
            for kind, example in kinds.items():
                if kind not in self._counts and len(self._counts) >= _TOLD_APART:
                    self._others += 1
                    continue
                self._counts[kind] += 1
                self._examples.setdefault(kind, example)

    def listed(self, most: int | None = None) -> dict[str, int]:
        """The `most` frequent reasons with their rows, and all others together."""
        listed = self._counts.most_common(_LISTED if most is None else most)
        others = self._others + self._counts.total() - sum(count for _, count in listed)
        told = {f"{kind[0]}{self._examples[kind]}{kind[1]}": count for kind, count in listed}
        return told | ({_OTHERS: others} if others else {})

    def first(self) -> str:
        """The most frequent one with its count, as the end of a sentence; empty where there is none."""
        told = next(iter(self.listed(1).items()), None)
        return "" if told is None else f"; set aside most often, {told[1]:,} times: {told[0]}"


def _kind(told: str) -> tuple[tuple[str, str], str]:
    """A reason without what but names the row or the cell: what is before it and after it, and the cell."""
    told = re.sub(r"^row \d+: ", "", told)
    found = _CELL.fullmatch(told)
    if found is None:
        return (told, ""), ""
    return (found["column"], found["what"]), f"a value such as {found['cell']}"
