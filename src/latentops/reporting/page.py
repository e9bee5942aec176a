"""The HTML report: an index of all datasets, a page for each, one of costs and one of drift, all static.

They ask no other host for anything.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latentops.atomic import write_text
from latentops.config import Params
from latentops.errors import DataError, UnknownNameError
from latentops.registry.lineage import Lock
from latentops.reporting import (
    anomalies,
    card,
    costs,
    drift,
    figures,
    losses,
    profiles,
    provenance,
    ranks,
    reasons,
    results,
    timelines,
)
from latentops.reporting.board import Board, board
from latentops.reporting.leaderboard import ahead, interval, number, ordered
from latentops.reporting.pictures import Gallery, Picture, gallery
from latentops.reporting.provenance import Champion, Run
from latentops.reporting.results import (
    Comparison,
    Difference,
    Health,
    Row,
    Splits,
    Training,
    Validation,
    title,
)
from latentops.reporting.warnings import Warned, warned

TEMPLATES = Path(__file__).parent / "templates"
FOLDER = Path("reports")
INDEX, COSTS, DRIFT = "index", "costs", "drift"  # pages that are of no dataset
LIKELIHOOD = ("reconstruction", "length")  # terms that every objective has


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
class Summary:
    """What the index says of one dataset."""

    comparison: Comparison
    headline: Row | None
    leaders: list[Row]
    champion: Champion | None
    warned: list[Warned]

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.comparison.dataset

    @property
    def raised(self) -> list[Warned]:
        """The warnings that have come true of some variant."""
        return [each for each in self.warned if each.raised]


@dataclass(frozen=True)
class Section:
    """Everything the page of one dataset shows beside its summary."""

    board: Board
    own_metrics: list[str]
    own: dict[str, dict[str, tuple[Difference, Markup]]]
    others: list[tuple[Difference, Markup]]
    pairs: Picture | None
    scatter: Markup | None
    anomalies: Gallery
    health: Diagnosis
    profiles: list[Picture]
    transfer: list[str]
    panels: list[Panel]
    terms: list[Panel]
    failures: list[str]
    gallery: Gallery
    timeline: Gallery
    reasons: Gallery
    validation: Validation
    splits: Splits
    docs: str | None
    sweeps: dict[str, str]
    card: Markup | None
    digests: dict[str, str]
    run: Run | None


def write(
    params: Params, root: Path = Path(), folder: Path = FOLDER, datasets: Sequence[str] | None = None
) -> Path:
    """Write the report of `datasets` (those compared so far, unless named) to `folder` below `root`.

    Gives back the index's path; pages of datasets that aren't in it any more are removed. Raises `DataError`
    that names the first missing result and the command that makes it; then all pages are as they were.
    """
    folder = root / folder
    datasets = results.compared(root) if datasets is None else datasets
    if not datasets:
        raise DataError(f"{root / 'results' / 'compare'}: no comparison yet; `dvc repro` makes them")
    for name in {INDEX, COSTS, DRIFT}.intersection(datasets):
        raise DataError(f"{folder / name}.html is the report's own page: call the dataset something else")
    lock = provenance.lock(root)
    summaries = [_summary(name, params, root) for name in datasets]
    comparisons = [summary.comparison for summary in summaries]
    ranked = ranks.over_datasets(comparisons, params.comparison.confidence)
    shared = {
        "commit": provenance.commit(root),
        "lock_digest": provenance.lock_digest(root),
        "summaries": summaries,
    }
    pages = {
        summary.name: render(
            "dataset.html", s=summary, of=_section(summary.comparison, params, root, folder, lock), **shared
        )
        for summary in summaries
    }
    pages[INDEX] = render(
        "index.html",
        board=board(comparisons),
        ranked=ranked,
        rank_diagram=ranks.diagram(ranked),
        losses=losses.table(root),
        **shared,
    )
    pages[COSTS] = render("costs.html", costs=costs.tell(root))
    pages[DRIFT] = render("drift.html", drifts=drift.tell(root))
    for name, text in pages.items():
        write_text(folder / f"{name}.html", text)
    for path in folder.glob("*.html"):
        if path.stem not in pages:
            path.unlink()
    return folder / f"{INDEX}.html"


def render(template: str, **values: object) -> str:
    """`template` with the report's filters; text is escaped, and a value that is missing is an error."""
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
    return environment.get_template(template).render(values)


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


def _summary(dataset: str, params: Params, root: Path) -> Summary:
    comparison = results.comparison(dataset, root)
    return Summary(
        comparison,
        comparison.row(comparison.chosen.variant) if comparison.chosen else None,
        ahead(comparison.rows, comparison.primary),
        provenance.champion(dataset, root),
        warned(comparison, params, root),
    )


def _section(comparison: Comparison, params: Params, root: Path, folder: Path, lock: Lock) -> Section:
    dataset = comparison.dataset
    rows = ordered(comparison.rows, comparison.ranked_by)
    chosen = comparison.chosen.variant if comparison.chosen else None
    variants = [row.name for row in rows if row.role == "variant"]
    panels, terms, failures = _training(dataset, variants, root)
    own = [one for one in comparison.comparisons if one.variant == chosen]
    return Section(
        board=board([comparison]),
        own_metrics=_own_metrics(own, comparison.primary),
        own=_differences(own, comparison.primary),
        others=_others(comparison.comparisons, chosen),
        pairs=ranks.matrix(comparison),
        scatter=_scatter(rows, comparison.primary, chosen),
        anomalies=anomalies.gallery(comparison, root),
        health=_health(rows),
        profiles=profiles.pictures(rows),
        transfer=profiles.transfer(rows),
        panels=panels,
        terms=terms,
        failures=failures,
        gallery=gallery(comparison, root),
        timeline=timelines.gallery(comparison, root),
        reasons=reasons.gallery(comparison, params.evaluation.anomaly, root),
        validation=results.validation(dataset, root),
        splits=results.splits(dataset, root),
        docs=_docs(dataset, root, folder, lock),
        sweeps={name: _beside(path, folder) for name, path in _sweeps(dataset, variants, root).items()},
        card=_card(dataset, params, root) if chosen else None,
        digests=provenance.digests(dataset, chosen, lock),
        run=provenance.run(dataset, chosen, root) if chosen else None,
    )


def _card(dataset: str, params: Params, root: Path) -> Markup | None:
    """The chosen model's card; None where params.yaml has no longer what it was made with."""
    try:
        return card.as_html(card.card_for(dataset, params, root))
    except UnknownNameError:
        return None


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


def _docs(dataset: str, root: Path, folder: Path, lock: Lock) -> str | None:
    """Where the data docs are as seen from the page, if made on this machine: those of the version in use."""
    made = root / "var" / "data_docs" / dataset
    ingested = lock.stages.get(f"ingest@{dataset}")
    version = ingested.outs.get(f"data/raw/{dataset}.parquet", "") if ingested else ""
    for index in (made / version[:12] / "index.html", made / "index.html"):
        if index.exists():
            return _beside(index, folder)
    return None


def _sweeps(dataset: str, variants: Sequence[str], root: Path) -> dict[str, Path]:
    """The pages of sweeps over the code's size that were made on this machine, by variant."""
    pages = {name: root / "var" / "sweep" / f"{dataset}-{name}.html" for name in variants}
    return {name: path for name, path in pages.items() if path.exists()}


def _beside(path: Path, folder: Path) -> str:
    """`path` as seen from a page in `folder`."""
    return Path(os.path.relpath(path, folder)).as_posix()
