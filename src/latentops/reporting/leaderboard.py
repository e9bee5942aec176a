"""The leaderboard: every variant beside its floors, ordered by what the code is good for.

A reference that beats the best variant comes first; then everything by the primary metric. Only variants
have a rank.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latentops.atomic import write_json
from latentops.errors import DataError
from latentops.reporting import results
from latentops.reporting.results import LOWER_IS_BETTER, Comparison, Estimate, Health, Row, title

PATH = Path("reports/leaderboard.json")
WIDE, MEDIUM = 98, 78  # columns that the full and the reduced table take


def goodness(row: Row, metric: str) -> float:
    """The mean of `metric`, turned so that more is better; below everything where the row lacks it."""
    mean = row.mean(metric)
    if mean is None:
        return float("-inf")
    return -mean if metric in LOWER_IS_BETTER else mean


def ahead(rows: Iterable[Row], primary: str) -> list[Row]:
    """Floors whose mean beats that of the best variant, best first."""
    rows = list(rows)
    best = max((goodness(row, primary) for row in rows if row.role == "variant"), default=float("inf"))
    return [row for row in ordered(rows, primary) if goodness(row, primary) > best]


def ordered(rows: Iterable[Row], primary: str) -> list[Row]:
    """One dataset's rows in the board's order: the best first, of equals the variant."""
    return sorted(rows, key=lambda row: (-goodness(row, primary), row.role != "variant", row.name))


def ranks(rows: Sequence[Row]) -> dict[str, int]:
    """The place of each variant among the variants, for rows in the board's order."""
    variants = [row.name for row in rows if row.role == "variant"]
    return {name: place for place, name in enumerate(variants, start=1)}


def write(datasets: Sequence[str], root: Path = Path()) -> list[Comparison]:
    """Write `reports/leaderboard.json` from the comparisons of `datasets`, and return these.

    Raises `DataError` where a comparison is missing or broken.
    """
    comparisons = [results.comparison(dataset, root) for dataset in datasets]
    rows = [row for one in comparisons for row in ordered(one.rows, one.ranked_by)]
    write_json(root / PATH, [row.model_dump(mode="json") for row in rows])
    return comparisons


def load(root: Path = Path()) -> list[Row]:
    """The rows of `reports/leaderboard.json`, in its order."""
    path = root / PATH
    try:
        return [Row.model_validate(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise DataError(f"{path}: not found; `dvc repro report` makes it") from None
    except ValueError as error:
        raise DataError(f"{path}: not a leaderboard ({str(error).splitlines()[0]})") from None


def number(value: float | None) -> str:
    """Three decimals, four below 0.1, three digits from ten on, the others 0; a dash for what isn't there."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    text = f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
    if 1000 <= abs(value) < 1e6:
        text = f"{float(text):,.0f}"
    return text.replace("-", "−")


def interval(estimate: Estimate | Health | None) -> str:
    """`0.941–0.972`, or nothing where there is no interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)}–{number(estimate.high)}"


def verdict(comparison: Comparison) -> str:
    """One line: what the gates say of the chosen variant."""
    if comparison.primary == "none":
        return f"{comparison.unchosen}, so there is nothing to choose a variant by: nothing is promoted"
    if comparison.chosen is None:
        lack = "labels that differ" if comparison.primary == "r2" else "normal rows or anomalies"
        return (
            f"the stop rows have no {comparison.primary} to choose a variant by, as they lack {lack}: "
            "nothing is promoted"
        )
    passed = f"{len(comparison.gates) - len(comparison.held)} of {len(comparison.gates)} gates passed"
    if comparison.passed:
        return f"{comparison.chosen.variant}: {passed}"
    reasons = "; ".join(f"{gate.gate} ({gate.text})" if gate.text else gate.gate for gate in comparison.held)
    return f"{comparison.chosen.variant}: {passed}; not met: {reasons}"


def print_table(comparisons: Iterable[Comparison], console: Console | None = None) -> None:
    """Print a table a dataset, at most 100 columns wide; plain text where the output is no terminal.

    A metric that no row has, such as AUROC where no class is normal, has no column. Untrained encoders of
    variants that were not chosen are left to the report, and counted, unless they are ahead.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(file=console.file, width=100, highlight=False, force_terminal=False)
    for comparison in comparisons:
        _print_dataset(comparison, console)


def _print_dataset(comparison: Comparison, console: Console) -> None:
    primary = comparison.ranked_by
    other = {"auroc": "probe_accuracy", "r2": "mae"}.get(primary, "auroc")
    chosen = comparison.chosen.variant if comparison.chosen else None
    rows = ordered(comparison.rows, primary)
    places = ranks(rows)
    leaders = {row.name for row in ahead(rows, primary)}
    told = {*leaders, f"untrained {chosen}"}
    shown = [row for row in rows if not row.name.startswith("untrained ") or row.name in told]
    wide, medium = console.width >= WIDE, console.width >= MEDIUM
    beside = [
        metric
        for metric in (other, "reconstruction_error")
        if medium and metric != primary and any(metric in row.metrics for row in shown)
    ]

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("#", justify="right")
    table.add_column("name", no_wrap=True)
    if medium:
        table.add_column("role", min_width=9)
        table.add_column("size", justify="right", min_width=4)
    table.add_column(title(primary), min_width=17)
    if other in beside:
        short = {"auroc": "AUROC", "mae": "MAE"}.get(other, "probe")
        table.add_column(title(other) if wide else short, min_width=17 if wide else 5)
    if "reconstruction_error" in beside:
        table.add_column("rec. error" if wide else "error", justify="right", min_width=6)

    for row in shown:
        mark = " *" if row.name == chosen else " ↑" if row.name in leaders else ""
        cells = [str(places.get(row.name, "")), row.name + mark]
        if medium:
            cells += [row.role, str(row.latent_dim or "–")]
        cells.append(_with_interval(row.metrics.get(primary)))
        if other in beside:
            cells.append(_with_interval(row.metrics.get(other)) if wide else number(row.mean(other)))
        if "reconstruction_error" in beside:
            cells.append(number(row.mean("reconstruction_error")))
        style = "bold green" if row.name == chosen else "yellow" if row.name in leaders else ""
        table.add_row(
            *(Text(cell) for cell in cells), style=style or ("" if row.role == "variant" else "dim")
        )

    console.print(Text(f"{comparison.dataset} ({comparison.kind}), by {title(primary)}", style="bold"))
    console.print(table)
    notes = ["* chosen on the stop rows"] if chosen else []
    if leaders:
        notes.append("↑ a floor, yet ahead of every variant")
    if hidden := len(rows) - len(shown):
        notes.append(f"{hidden} more untrained encoders are in the report")
    if notes:
        console.print(Text(" · ".join(notes), style="dim"))
    console.print(Text(verdict(comparison), style="green" if comparison.passed else "yellow"))
    console.print()


def _with_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{number(estimate.mean)} {interval(estimate)}".rstrip()
