"""The leaderboard as a page draws it: a column a metric on one scale, a cell with its interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from latentops.reporting import figures
from latentops.reporting.leaderboard import ahead, goodness, interval, number, ordered, ranks
from latentops.reporting.results import LOWER_IS_BETTER, Comparison, Row, title

DRAWN = ("probe_accuracy", "r2", "auroc")  # a whisker each, beside that of the primary metric
PLAIN = ("mae", "reconstruction_error")  # beside it too, but without one: each dataset has units of its own
FIRST = (*DRAWN, *PLAIN)  # shown from the start; all others on demand


@dataclass(frozen=True)
class Cell:
    """A metric of a row: the number, its interval as text, and a drawing or none.

    `primary` where it is what the row's dataset is judged by.
    """

    value: float | None
    text: str
    interval: str
    whisker: Markup | None
    primary: bool


@dataclass(frozen=True)
class Column:
    """A metric's column: its scale's ends where whiskers are drawn, and whether a row lies beyond.

    `more` where it is shown on demand.
    """

    metric: str
    title: str
    domain: tuple[float, float] | None
    lower: bool
    cut: bool
    more: bool


@dataclass(frozen=True)
class Line:
    """A row of the board as it is shown.

    `aside` is the untrained encoder of a variant that was not chosen, which a first look can do without.
    """

    row: Row
    rank: int | None
    chosen: bool
    ahead: bool
    aside: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Board:
    """Rows of one dataset or several, in the board's order within each; `sorted_by` is None over several."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    sorted_by: str | None

    @property
    def cut(self) -> bool:
        """Whether any mark lies beyond its scale."""
        return any(column.cut for column in self.columns)

    @property
    def aside(self) -> int:
        """How many lines are set aside."""
        return sum(line.aside for line in self.lines)

    def values(self, name: str) -> list[str]:
        """What rows have under `dataset`, `kind` or `role`, each once."""
        return list(dict.fromkeys(str(getattr(line.row, name)) for line in self.lines))


def board(comparisons: Sequence[Comparison]) -> Board:
    """All rows of `comparisons`, those of one dataset together; a metric has one scale over all of them."""
    rows = [row for one in comparisons for row in ordered(one.rows, one.ranked_by)]
    columns = _columns(rows, [one.ranked_by for one in comparisons])
    lines = [line for one in comparisons for line in _lines(one, columns)]
    single = comparisons[0].ranked_by if len(comparisons) == 1 else None
    return Board(tuple(columns), tuple(lines), single)


def _columns(rows: Sequence[Row], primaries: Iterable[str]) -> list[Column]:
    """The primary metrics first, then what any row has."""
    first = dict.fromkeys((*primaries, *FIRST))
    drawn = {*first} - {*PLAIN}
    others = sorted({metric for row in rows for metric in row.metrics} - first.keys())
    return [
        _column(metric, rows, drawn=metric in drawn, more=metric not in first)
        for metric in (*first, *others)
        if any(metric in row.metrics for row in rows)
    ]


def _column(metric: str, rows: Sequence[Row], *, drawn: bool, more: bool) -> Column:
    """The metric's column; its scale holds the variants but those far from all others, and what is better."""
    domain, cut = None, False
    if drawn:
        found = [row for row in rows if metric in row.metrics]
        variants = [row.metrics[metric].mean for row in found if row.role == "variant"]
        low, high = figures.fences(variants or [row.metrics[metric].mean for row in found])
        worst = -high if metric in LOWER_IS_BETTER else low
        near = [row.metrics[metric] for row in found if goodness(row, metric) >= worst]
        ends = [end for one in near for end in (one.low, one.mean, one.high) if end is not None]
        domain, cut = (min(ends), max(ends)), len(near) < len(found)
    return Column(metric, title(metric), domain, metric in LOWER_IS_BETTER, cut, more)


def _lines(comparison: Comparison, columns: Sequence[Column]) -> list[Line]:
    rows = ordered(comparison.rows, comparison.ranked_by)
    name = comparison.chosen.variant if comparison.chosen else None
    chosen = comparison.row(name) if name else None
    places = ranks(rows)
    leaders = {row.name for row in ahead(rows, comparison.primary)}
    return [
        Line(
            row,
            places.get(row.name),
            row is chosen,
            row.name in leaders,
            row.name.startswith("untrained ") and row.name != f"untrained {name}",
            tuple(_cell(row, column, chosen, comparison.ranked_by) for column in columns),
        )
        for row in rows
    ]


def _cell(row: Row, column: Column, chosen: Row | None, ranked_by: str) -> Cell:
    one = row.metrics.get(column.metric)
    drawing = None
    if one is not None and column.domain is not None:
        at = chosen.mean(column.metric) if chosen else None
        drawing = figures.whisker(one, column.domain, row.role, row is chosen, at)
    mean = one.mean if one else None
    return Cell(mean, number(mean), interval(one), drawing, column.metric == ranked_by)
