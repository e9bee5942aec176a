"""The model card: what a registered model is for, how it was judged, and where it ends.

After Mitchell et al., "Model Cards for Model Reporting" (2019). Every sentence comes from a result or a
setting; no section is empty.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from latentops import config
from latentops.config import Params
from latentops.data import catalogue
from latentops.errors import DataError
from latentops.reporting import profiles, provenance, results
from latentops.reporting.leaderboard import ahead, interval, number, ordered
from latentops.reporting.results import Comparison, Difference, Row, Validation, title
from latentops.reporting.warnings import CATALOGUE

THINGS = {"image": "images", "tabular": "rows of a table", "sequence": "sequences", "text": "texts"}
PRIORS = ("variational", "adversarial")
SHOWN = ("probe_accuracy", "auroc", "mae", "reconstruction_error")
"""Metrics of the excerpt beside the primary one, where rows have them."""


class Judged(Protocol):
    """A condition of promotion as a card tells it."""

    @property
    def gate(self) -> str:
        """What was asked."""

    @property
    def passed(self) -> bool:
        """Whether it is so."""

    @property
    def text(self) -> str:
        """What was measured."""


def card_for(
    dataset: str,
    params: Params,
    root: Path = Path(),
    *,
    model: str = "",
    gates: Sequence[Judged] | None = None,
) -> str:
    """The card of what `compare` chose on `dataset`, from the results below `root`.

    `model` is what it is loaded as, the dataset's champion unless given; `gates` are those of its promotion,
    or, unless given, only the comparison's. Raises `DataError` where a result is missing or nothing was
    chosen.
    """
    comparison = results.comparison(dataset, root)
    chosen = comparison.chosen.variant if comparison.chosen else None
    lineage = {"git commit": provenance.commit(root), "dvc.lock": provenance.lock_digest(root)}
    lineage |= provenance.digests(dataset, chosen, provenance.lock(root))
    knobs = params.variant(chosen) if chosen else {}
    validation = results.validation(dataset, root)
    return model_card(
        dataset,
        comparison,
        validation,
        params.dataset(dataset),
        params.comparison,
        knobs,
        lineage,
        model or f"{dataset}@champion",
        comparison.gates if gates is None else gates,
    )


def model_card(
    dataset: str,
    comparison: Comparison,
    validation: Validation,
    settings: config.Dataset,
    protocol: config.Comparison,
    knobs: Mapping[str, object],
    lineage: Mapping[str, str],
    model: str,
    gates: Sequence[Judged],
) -> str:
    """The card as Markdown.

    `knobs` are the variant's settings; `lineage` maps what a result came from to its hash, and entries
    without one are left out. Raises `DataError` where `comparison` chose nothing.
    """
    chosen = comparison.row(comparison.chosen.variant) if comparison.chosen else None
    if comparison.chosen is None or chosen is None:
        raise DataError(
            f"results/compare/{dataset}.json: nothing was chosen, so there is no model to describe"
        )
    primary = comparison.primary
    paired = [one for one in comparison.comparisons if one.variant == chosen.name]
    size = f"{chosen.latent_dim} numbers" if chosen.latent_dim else "a code"
    sections = {
        "Intended use": _use(dataset, chosen, settings, size),
        "Data": _data(validation, settings),
        "How it was judged": _protocol(comparison, chosen, settings, protocol),
        "Results": _results(comparison, chosen),
        "Floors": _floors(paired, chosen),
        "Gates": _gates(gates),
        "Warnings": _warnings(comparison, chosen),
        "Limits": _limits(comparison, paired, chosen, settings),
        "Lineage": _lineage(comparison, chosen, knobs, lineage),
        "Load it": _load(model),
    }
    article = "An" if chosen.name[0] in "aeiou" else "A"
    metric = "AUROC" if primary == "auroc" else title(primary).capitalize()
    summary = (
        f"{article} {_plain(chosen.name)} autoencoder of {_plain(dataset)}, seed {comparison.chosen.seed}, "
        f"that makes {size} of {THINGS[settings.source.kind]}. {metric} {_figure(chosen, primary)} on test "
        "rows."
    )
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"# {_plain(dataset)}-autoencoder: {_plain(chosen.name)}\n\n{summary}\n\n{body}\n"


def as_html(card: str) -> Markup:
    """A card as a part of a page, its headings two levels lower; HTML in the card stays text."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(card)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1:]) + 2}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
    text = reader.renderer.render(tokens, reader.options, {})
    opened = '<div class="scroll" role="region" tabindex="0" aria-label="Results of the model"><table>'
    caption = "<caption>Mean over seeds, with its interval</caption>"
    return Markup(  # noqa: S704 - the reader escapes
        text.replace("<table>", opened + caption).replace("</table>", "</table></div>")
    )


def _use(dataset: str, chosen: Row, settings: config.Dataset, size: str) -> str:
    normal = ", ".join(map(_plain, settings.normal))
    lines = [f"- `encode`: {THINGS[settings.source.kind]} like those of {_plain(dataset)} into {size}."]
    lines.append("- `reconstruct` and `denoise`: back from the code, without what the code does not hold.")
    if settings.anomalies:
        lines.append(f"- `score`: how far a row is from what is normal here ({normal}).")
    elif normal:
        lines.append(
            f"- `score`: how unlike the data a row is; judged with one class at a time as normal ({normal})."
        )
    else:
        lines.append("- `score`: how unlike the data a row is.")
    if chosen.name in PRIORS:
        lines.append("- `sample`: new rows from draws of the prior.")
    lines.append("- Not for rows that the expectations below refuse, nor for other data than this.")
    return "\n".join(lines)


def _data(validation: Validation, settings: config.Dataset) -> str:
    split, classes = settings.split, settings.expectations.classes
    share = 0.0 if split.test == "official" else split.test
    train = 1 - split.stop - split.calibration - share
    test = "the official test rows" if split.test == "official" else f"{share:.0%} test"
    met = sum(one.success for one in validation.expectations)
    told = f"{len(classes)} classes: {', '.join(map(_plain, classes))}"
    if settings.source.numeric_label:
        told = "a number"
    lines = [
        f"- Source `{settings.source.name}`, label `{settings.source.label}`, {told}.",
        f"- {validation.rows:,} rows: {validation.clean:,} clean, {validation.quarantined:,} quarantined.",
        f"- {met} of {len(validation.expectations)} expectations met by every row.",
        f"- Split: {train:.0%} train, {split.stop:.0%} stop, {split.calibration:.0%} calibration, "
        f"{test} (by {split.by}, seed {split.seed}); duplicates stay on one side.",
    ]
    if known := catalogue.entry_of(settings.source):
        lines.insert(0, f"- {_plain(known.title)}: {_plain(known.citation)}.")
        lines.insert(1, f"- Licence: {_plain(known.licence)}; {known.homepage}")
    lines += [f"- File `{file.path}`, SHA-256 `{file.sha256}`." for file in settings.source.files]
    lines += [
        f"- Quarantined: {_plain(reason)} ({count})." for reason, count in sorted(validation.reasons.items())
    ]
    return "\n".join(lines)


def _protocol(
    comparison: Comparison, chosen: Row, settings: config.Dataset, protocol: config.Comparison
) -> str:
    lines = [
        f"- Primary metric: {title(comparison.primary)}. The variant is the one that led its best rival of "
        "the same size by most on the stop rows, the seed its best there; the test rows had no say.",
        f"- {chosen.members} seeds; {protocol.confidence:.0%} intervals by Student's t from the variance "
        f"over seeds and over {protocol.resamples:,} resamples of the test rows; comparisons are paired over "
        "both, corrected after Holm.",
        "- R² and mean absolute error, in the label's units: ridge regression on standardised codes."
        if settings.source.numeric_label
        else "- Probe: logistic regression on standardised codes. AUROC: "
        + (
            "classes that are not normal as anomalies."
            if settings.anomalies
            else "one class as normal at a time."
        ),
    ]
    return "\n".join(lines)


def _results(comparison: Comparison, chosen: Row) -> str:
    """The excerpt: floors ahead of every variant, the best variants, and floors that say most."""
    rows, primary = ordered(comparison.rows, comparison.primary), comparison.primary
    leaders = {row.name for row in ahead(rows, primary)}
    variants = [row.name for row in rows if row.role == "variant"][:3]
    own = {one.against for one in comparison.comparisons if one.variant == chosen.name}
    best = next((row.name for row in rows if row.role == "reference"), chosen.name)
    shown = [row for row in rows if row.name in {*leaders, *variants, *own, best, chosen.name}]
    metrics = [primary, *(m for m in SHOWN if m != primary)]
    metrics = [metric for metric in metrics if any(metric in row.metrics for row in shown)]
    lines = [
        _cells(["name", "role", "size", *map(title, metrics)]),
        _cells(["---", "---", "---:"] + ["---:"] * len(metrics)),
    ]
    for row in shown:
        name = f"**{_plain(row.name)}**" if row.name == chosen.name else _plain(row.name)
        figures = [_figure(row, metric) for metric in metrics]
        lines.append(_cells([name, row.role, str(row.latent_dim or "–"), *figures]))
    return "\n".join([*lines, "", f"{len(shown)} of {len(rows)} rows; this model in bold."])


def _figure(row: Row, metric: str) -> str:
    """`0.951 (0.940–0.962)`, without the interval where there is none."""
    between = interval(row.metrics.get(metric))
    return f"{number(row.mean(metric))} ({between})" if between else number(row.mean(metric))


def _floors(paired: Sequence[Difference], chosen: Row) -> str:
    if not paired:
        return f"- {_plain(chosen.name)} was held against no rival."
    return "\n".join(
        f"- {title(one.metric)} less {_plain(one.against)}: {one.difference:+.3f} "
        f"({one.low:+.3f} to {one.high:+.3f}), {one.verdict}."
        for one in paired
    )


def _gates(gates: Sequence[Judged]) -> str:
    if not gates:
        return "- None was asked."
    return "\n".join(
        f"- {_plain(gate.gate)}: **{'passed' if gate.passed else 'held'}**. {_plain(gate.text)}".rstrip()
        for gate in gates
    )


def _warnings(comparison: Comparison, chosen: Row) -> str:
    """Every number that the report warns by of this variant, those that are raised first."""
    plain = comparison.row(profiles.PLAIN)
    told = []
    for each in dict.fromkeys(each for entry in CATALOGUE for each in entry.numbers):
        found = each.of(chosen, plain)
        if found is None or found.mean is None:
            continue
        raised, between = each.raised(found), interval(found)
        figure = f"{number(found.mean)} ({between})" if between else number(found.mean)
        verdict = f", **{each.rule}**" if raised else f", not {each.rule}" if each.rule else ""
        told.append((not raised, f"- {_plain(each.words)}: {figure}{verdict}"))
    return "\n".join(text for _, text in sorted(told, key=lambda one: one[0])) or "- None has a number here."


def _limits(
    comparison: Comparison, paired: Sequence[Difference], chosen: Row, settings: config.Dataset
) -> str:
    primary = comparison.primary
    words = {"worse": "Worse than", "no difference shown": "No difference shown from"}
    lines = [
        f"- Without a code, {_plain(row.name)} does better: {number(row.mean(primary))} against "
        f"{number(chosen.mean(primary))}."
        for row in ordered(comparison.rows, primary)
        if row.role == "reference" and (row.mean(primary) or 0) > (chosen.mean(primary) or 0)
    ]
    lines += [
        f"- {words[one.verdict]} {_plain(one.against)} in {title(one.metric)}."
        for one in paired
        if one.verdict != "better"
    ]
    lines.append(
        "- Fixed splits: the intervals tell of other seeds and test rows, not of another source of data."
    )
    if settings.anomalies:
        lines.append("- Anomalies of a kind that these rows don't hold are untested.")
    elif not settings.normal:
        lines.append("- Its scores were not judged: no class is called normal.")
    else:
        lines.append("- Its scores were judged on whole classes left out; subtler anomalies are untested.")
    lines.append("- The false-alarm rate of its threshold holds for rows drawn as the calibration rows were.")
    return "\n".join(lines)


def _lineage(
    comparison: Comparison, chosen: Row, knobs: Mapping[str, object], lineage: Mapping[str, str]
) -> str:
    seed = comparison.chosen.seed if comparison.chosen else None
    lines = [f"- variant: `{chosen.name}`, seed {seed}"]
    lines += [
        f"- `variants.{chosen.name}.{key}`: {_plain(str(value))}" for key, value in sorted(knobs.items())
    ]
    lines += [
        f"- {name if ' ' in name else f'`{name}`'}: `{digest}`" for name, digest in lineage.items() if digest
    ]
    return "\n".join(lines)


def _load(model: str) -> str:
    code = f'import latentops\nmodel = latentops.load("{model}")\ncodes = model.encode(rows)'
    return f"```python\n{code}\n```"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """`text` on one line, with what Markdown and HTML would take for markup escaped."""
    escaped = "".join(f"\\{sign}" if sign in "\\`*[]|#" else sign for sign in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
