"""The HTML report: one static page with everything in it, that asks no other host for anything."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latentops.atomic import write_text
from latentops.errors import DataError
from latentops.registry.lineage import Lock
from latentops.reporting import figures, losses, profiles, provenance, results, timelines
from latentops.reporting.leaderboard import ahead, interval, number, ordered, ranks
from latentops.reporting.pictures import Gallery, Picture, gallery
from latentops.reporting.results import (
    LOWER_IS_BETTER,
    Comparison,
    Difference,
    Health,
    Row,
    Splits,
    Training,
    Validation,
    title,
)

TEMPLATES = Path(__file__).parent / "templates"
PATH = Path("var/report/index.html")
DRAWN = ("probe_accuracy", "auroc")  # columns with a whisker
LIKELIHOOD = ("reconstruction", "length")  # terms that every objective has
STAMPED = ("timestamp_auroc", "marks_hit", "false_alarms_per_day")  # of long series
PLAIN = ("auroc_reconstruction", "auroc_latent", *STAMPED, "reconstruction_error")


@dataclass(frozen=True)
class Cell:
    """A metric of a row: the number, its interval as text, what to sort by, and a drawing or none."""

    value: float | None
    text: str
    interval: str
    whisker: Markup | None


@dataclass(frozen=True)
class Line:
    """A row of the board as it is shown."""

    row: Row
    rank: int | None
    chosen: bool
    ahead: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """A metric's column: its scale's ends where whiskers are drawn, and whether a row lies beyond."""

    metric: str
    title: str
    domain: tuple[float, float] | None
    lower: bool
    cut: bool


@dataclass(frozen=True)
class Panel:
    """A number of a variant's training by step: whose it is, more of it in words, and its curves."""

    name: str
    detail: str
    drawing: Markup


@dataclass(frozen=True)
class Diagnosis:
    """Health numbers of the variants: `shared` ones, and of each variant those that are its `own`."""

    shared: list[str]
    own: dict[str, dict[str, Health]]
    of: dict[str, dict[str, Health]]


@dataclass(frozen=True)
class Section:
    """Everything the page shows of one dataset."""

    name: str
    anchor: str
    comparison: Comparison
    headline: Row | None
    leaders: list[Row]
    columns: list[Column]
    lines: list[Line]
    own_metrics: list[str]
    own: dict[str, dict[str, tuple[Difference, Markup]]]
    others: list[tuple[Difference, Markup]]
    scatter: Markup | None
    health: Diagnosis
    profiles: list[Picture]
    transfer: list[str]
    panels: list[Panel]
    terms: list[Panel]
    failures: list[str]
    gallery: Gallery
    timeline: Gallery
    validation: Validation
    splits: Splits
    docs: str | None
    digests: dict[str, str]


@dataclass(frozen=True)
class Cost:
    """What the stages of one verb took together."""

    verb: str
    runs: int
    seconds: float
    slowest: float
    peak: float


def write(root: Path = Path(), out: Path = PATH, datasets: Sequence[str] | None = None) -> Path:
    """Write the report of `datasets` (those compared so far, unless named) to `out` below `root`.

    Raises `DataError` that names the first missing result and the command that makes it.
    """
    out = root / out
    datasets = results.compared(root) if datasets is None else datasets
    if not datasets:
        raise DataError(f"{root / 'results' / 'compare'}: no comparison yet; `dvc repro` makes them")
    lock = provenance.lock(root)
    sections = [_section(name, root, out, lock) for name in datasets]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "title_of": title,
        "shown": _shown,
        "signed": _signed,
        "p_value": _p_value,
    }
    page = environment.get_template("report.html").render(
        sections=sections,
        losses=losses.table(root),
        costs=_costs(root),
        commit=provenance.commit(root),
        lock_digest=provenance.lock_digest(root),
    )
    write_text(out, page)
    return out


def _shown(value: float | str | None) -> str:
    """A gate's value or limit: numbers as on the board, words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if value is not None and value == round(value) else number(value)


def _signed(value: float, decimals: int = 3) -> str:
    """With its sign, a true minus, and no sign for what rounds to zero."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _section(dataset: str, root: Path, out: Path, lock: Lock) -> Section:
    comparison = results.comparison(dataset, root)
    rows = ordered(comparison.rows, comparison.ranked_by)
    chosen = comparison.chosen.variant if comparison.chosen else None
    variants = [row.name for row in rows if row.role == "variant"]
    panels, terms, failures = _training(dataset, variants, root)
    columns = [_column(metric, rows) for metric in _metrics(rows, comparison.primary)]
    own = [one for one in comparison.comparisons if one.variant == chosen]
    return Section(
        name=dataset,
        anchor=re.sub(r"[^a-z0-9]+", "-", dataset.lower()),
        comparison=comparison,
        headline=comparison.row(chosen) if chosen else None,
        leaders=ahead(rows, comparison.primary),
        columns=columns,
        lines=_lines(rows, columns, chosen, comparison.primary),
        own_metrics=_own_metrics(own, comparison.primary),
        own=_differences(own, comparison.primary),
        others=_others(comparison.comparisons, chosen),
        scatter=_scatter(rows, comparison.primary, chosen),
        health=_health(rows),
        profiles=profiles.pictures(rows),
        transfer=profiles.transfer(rows),
        panels=panels,
        terms=terms,
        failures=failures,
        gallery=gallery(comparison, root),
        timeline=timelines.gallery(comparison, root),
        validation=results.validation(dataset, root),
        splits=results.splits(dataset, root),
        docs=_docs(dataset, root, out, lock),
        digests=provenance.digests(dataset, chosen, lock),
    )


def _metrics(rows: Sequence[Row], primary: str) -> list[str]:
    """The board's columns: the primary metric first, then what any row has."""
    wanted = [primary, *(m for m in (*DRAWN, *PLAIN) if m != primary)]
    return [m for m in wanted if any(m in row.metrics for row in rows)]


def _column(metric: str, rows: Sequence[Row]) -> Column:
    """The metric's column; its scale leaves out rows far below or above all others."""
    domain, cut = None, False
    if metric in DRAWN:
        found = [row.metrics[metric] for row in rows if metric in row.metrics]
        low, high = figures.fences([one.mean for one in found])
        near = [one for one in found if low <= one.mean <= high]
        ends = [end for one in near for end in (one.low, one.mean, one.high) if end is not None]
        domain, cut = (min(ends), max(ends)), len(near) < len(found)
    return Column(metric, title(metric), domain, metric in LOWER_IS_BETTER, cut)


def _lines(rows: Sequence[Row], columns: Sequence[Column], chosen: str | None, primary: str) -> list[Line]:
    places = ranks(rows)
    leaders = {row.name for row in ahead(rows, primary)}
    marks = {row.name: row for row in rows}
    lines = []
    for row in rows:
        mine = row.name == chosen
        cells = []
        for column in columns:
            one = row.metrics.get(column.metric)
            drawing = None
            if one is not None and column.domain is not None:
                at = marks[chosen].mean(column.metric) if chosen in marks else None
                drawing = figures.whisker(one, column.domain, row.role, mine, at)
            cells.append(
                Cell(one.mean if one else None, number(one.mean if one else None), interval(one), drawing)
            )
        lines.append(Line(row, places.get(row.name), mine, row.name in leaders, tuple(cells)))
    return lines


def _own_metrics(own: Sequence[Difference], primary: str) -> list[str]:
    """The compared metrics, the primary one first."""
    return sorted({one.metric for one in own}, key=lambda metric: (metric != primary, metric))


def _drawn(group: Sequence[Difference]) -> list[tuple[Difference, Markup]]:
    """Each difference with its drawing, all on one scale."""
    ends = [0.0, *(end for one in group for end in (one.low, one.high))]
    return [(one, figures.difference(one, (min(ends), max(ends)))) for one in group]


def _differences(own: Sequence[Difference], primary: str) -> dict[str, dict[str, tuple[Difference, Markup]]]:
    """By rival and metric; the closest rival by the primary metric comes first."""
    found: dict[str, dict[str, tuple[Difference, Markup]]] = {}
    for metric in _own_metrics(own, primary):
        group = [one for one in own if one.metric == metric]
        group.sort(key=lambda one: (one.difference, one.against))
        for one, drawing in _drawn(group):
            found.setdefault(one.against, {})[metric] = (one, drawing)
    return found


def _others(comparisons: Sequence[Difference], chosen: str | None) -> list[tuple[Difference, Markup]]:
    """The comparisons of the variants that were not chosen, in the order of their file."""
    others = [one for one in comparisons if one.variant != chosen]
    metrics = dict.fromkeys(one.metric for one in others)
    return [pair for metric in metrics for pair in _drawn([one for one in others if one.metric == metric])]


def _scatter(rows: Sequence[Row], primary: str, chosen: str | None) -> Markup | None:
    points = []
    for row in rows:
        error, value = row.mean("reconstruction_error"), row.mean(primary)
        if error is not None and value is not None and not row.name.startswith("untrained "):
            points.append(figures.Dot(row.name, error, value, row.role, row.name == chosen))
    if not points:
        return None
    label = f"Reconstruction error against {title(primary)}, a point a variant or floor"
    return figures.scatter(points, "reconstruction error", title(primary), label)


def _health(rows: Sequence[Row]) -> Diagnosis:
    """The numbers that all variants have, and those that only some have, by variant in the board's order."""
    of = {row.name: row.diagnosis for row in rows if row.role == "variant"}
    every = [set(numbers) for numbers in of.values()]
    shared = sorted(set.intersection(*every)) if every else []
    own = {name: {k: v for k, v in numbers.items() if k not in shared} for name, numbers in of.items()}
    return Diagnosis(shared, own, of)


def _training(
    dataset: str, variants: Sequence[str], root: Path
) -> tuple[list[Panel], list[Panel], list[str]]:
    """A panel a variant of its objective, one a term beside the likelihood's, and who was stopped why."""
    panels, terms, failures = [], [], []
    for name in variants:
        trained = results.training(dataset, name, root)
        for what, by_seed in results.curves(dataset, name, root).items():
            label = f"Training curves of {name}: {title(what)} by step, a line a seed"
            if what == "objective":
                panels.append(Panel(name, _detail(trained), figures.curves(by_seed, label)))
            elif what not in LIKELIHOOD and _varies(by_seed):
                terms.append(Panel(name, title(what), figures.curves(by_seed, label)))
        for member in trained.members:
            if member.failed:
                where = f"{name}, seed {member.seed}, view {member.view}"
                rows = ", ".join(map(str, member.failed.rows[:5]))
                when = f"step {member.failed.step}, on rows {rows}, …"
                failures.append(f"{where}: {member.failed.term} {member.failed.why} at {when}")
    return panels, terms, failures


def _varies(by_seed: results.Curves) -> bool:
    return len({value for seed in by_seed.values() for _, _, value in seed}) > 1


def _detail(trained: Training) -> str:
    return f"{trained.architecture} · {trained.parameters:,} parameters"


def _docs(dataset: str, root: Path, out: Path, lock: Lock) -> str | None:
    """Where the data docs are as seen from the page, if made on this machine: those of the version in use."""
    folder = root / "var" / "data_docs" / dataset
    ingested = lock.stages.get(f"ingest@{dataset}")
    version = ingested.outs.get(f"data/raw/{dataset}.parquet", "") if ingested else ""
    for index in (folder / version[:12] / "index.html", folder / "index.html"):
        if index.exists():
            return Path(os.path.relpath(index, out.parent)).as_posix()
    return None


def _costs(root: Path) -> list[Cost]:
    """What `var/costs` says of each verb, dearest first; nothing where no stage has run here."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted((root / "var" / "costs").glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        verb = path.stem.partition("-")[0]
        found.setdefault(verb, []).append((float(value["wall_seconds"]), value["peak_bytes"] / 2**20))
    costs = [
        Cost(verb, len(runs), sum(s for s, _ in runs), max(s for s, _ in runs), max(peak for _, peak in runs))
        for verb, runs in found.items()
    ]
    return sorted(costs, key=lambda cost: (-cost.seconds, cost.verb))
