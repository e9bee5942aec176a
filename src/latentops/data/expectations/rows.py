"""Suites `read` and `rows`: what each row must satisfy by itself, and the reasons where it doesn't."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from latentops.config import Expectations, Source
from latentops.data import profile as profiles
from latentops.data import table as tables
from latentops.data.expectations.judge import Judge
from latentops.data.expectations.row_checks import read_check, row_checks
from latentops.data.table import Layout


class Rows:
    """Holds rows to what each of them must satisfy by itself."""

    def __init__(self, judge: Judge, layout: Layout, source: Source, expectations: Expectations) -> None:
        self._judge = judge
        self._layout = layout
        self._gaps = set(expectations.missing)
        self._met = {name: _Met() for name in expectations.unique}
        self._checks = row_checks(layout, source, expectations)
        self._readable = read_check()

    def judge(self, chunk: Sequence[pa.Table]) -> Iterator[tuple[pa.Table, list[list[str]]]]:
        """Each part of `chunk`, and of each of its rows the reasons to set it aside.

        What else is wrong with a row that wasn't read in whole isn't said: it wasn't read in whole.
        """
        problems = [text for part in chunk for text in self._problems(part)]
        frame = pd.concat([self._frame(part) for part in chunk], ignore_index=True)
        reasons: list[list[str]] = [[] for _ in problems]
        place = _places(chunk)
        if "problem" in self._layout.extras:
            told = pd.DataFrame({"problem": pd.Series(problems, dtype="str")})
            for line in self._judge.run("read", told, [self._readable], place)[0].lines:
                reasons[line].append(str(problems[line]))
        read = np.flatnonzero([text is None for text in problems])
        frame = frame.iloc[read].reset_index(drop=True)
        for outcome in self._judge.run("rows", frame, self._checks, lambda line: place(int(read[line]))):
            for line in outcome.lines:
                reasons[read[line]].append(outcome.check.means)
        at = 0
        for part in chunk:
            yield part, reasons[at : at + part.num_rows]
            at += part.num_rows

    def _problems(self, part: pa.Table) -> list[str | None]:
        if "problem" not in self._layout.extras:
            return [None] * part.num_rows
        return part.column(".problem").to_pylist()

    def _frame(self, part: pa.Table) -> pd.DataFrame:
        """What the row expectations look at, one line a row."""
        looked = {**self._label(part), **self._sample(part)}
        if "time" in self._layout.extras:
            looked[".time"] = part.column(".time").to_numpy()
        for name, met in self._met.items():
            if name == ".row":
                keys, there = profiles.content_keys(part, self._layout), np.ones(part.num_rows, bool)
            else:
                keys = profiles.value_keys(part.column(name))
                there = part.column(name).is_valid().to_numpy()
            there &= np.array([text is None for text in self._problems(part)], bool)
            looked[f"{name} met"] = met.again(keys, there).astype(float)
        return pd.DataFrame(looked)

    def _label(self, part: pa.Table) -> dict[str, Any]:
        if self._layout.label is None:
            return {}
        if self._layout.numeric_label:
            values = tables.targets(part, self._layout)
            return {self._layout.label: np.where(np.isfinite(values), values, np.nan)}
        return {self._layout.label: pd.Series(tables.labels(part, self._layout), dtype="str")}

    def _sample(self, part: pa.Table) -> dict[str, Any]:
        layout = self._layout
        if layout.kind == "text":
            return {"text.characters": [len(each.strip()) for each in tables.texts(part)]}
        if layout.kind == "tabular":
            return {name: self._cells(part.column(name), name) for name, _ in layout.columns()}
        found = profiles.summaries(part, layout)
        name = "pixels" if layout.kind == "image" else "values"
        looked = {f"{name}.{figure}": found[figure] for figure in ("missing", "least", "greatest")}
        sides = (f".{each}" for each in ("height", "width") if each in layout.extras)
        looked |= {side: part.column(side).to_numpy() for side in sides}
        if layout.kind == "sequence":
            steps, rest = np.divmod(found["sizes"], layout.shape[0])
            looked = {"values.steps": steps, "values.remainder": rest, **looked}
        return looked

    def _cells(self, column: pa.ChunkedArray, name: str) -> Any:
        if pa.types.is_string(column.type):
            return pd.Series(column.to_pylist(), dtype="str")
        values = column.to_numpy()
        return values if name in self._gaps else np.where(np.isfinite(values), values, np.nan)


class _Met:
    """The keys of values that were met, 64 bits each, in order."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, np.uint64)

    def again(self, keys: NDArray[np.uint64], there: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of `keys` [n] were met before, here or in an earlier call, of those that are `there` [n]."""
        again = np.zeros(len(keys), bool)
        rows = np.flatnonzero(there)
        fresh, first = np.unique(keys[rows], return_index=True)
        again[rows] = True
        at = np.searchsorted(self._keys, fresh)
        known = at < len(self._keys)
        known[known] = self._keys[at[known]] == fresh[known]
        again[rows[first]] = known
        self._keys = np.insert(self._keys, at[~known], fresh[~known])
        return again


def _places(chunk: Sequence[pa.Table]) -> Callable[[int], str]:
    """What names a row of `chunk`: its source and its position there."""
    ends = np.cumsum([part.num_rows for part in chunk])

    def place(line: int) -> str:
        at = int(np.searchsorted(ends, line, side="right"))
        part, row = chunk[at], line - int(ends[at]) + chunk[at].num_rows
        return f"{part.column(tables.SOURCE)[row]}[{part.column(tables.POSITION)[row]}]"

    return place
