"""Put the figures of the results into the README and the docs: `python docs/render.py`.

What stands between `<!-- NAME:start -->` and `<!-- NAME:end -->` is written from the result files, so that no
figure is typed by hand. `--check` writes nothing and fails where a page isn't what the results say;
`--picture` takes the README's picture of the report with headless Chromium.
"""

import argparse
import html
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from latentops import atomic
from latentops.cli import guard
from latentops.config import load_params
from latentops.data.entry import COMMENTS
from latentops.errors import DataError, LatentOpsError
from latentops.evaluation import comparison as judged
from latentops.reporting import figures, leaderboard, results, svg
from latentops.reporting.results import Comparison, Estimate, Result, Row, read, title

PIPELINE = Path("benchmarks/flows.json")
JUDGE = Path("benchmarks/judge.json")
SPEED = Path("benchmarks/speed.json")
PROFILE = Path("benchmarks/profile.json")
GROWTH = Path("benchmarks/growth.json")
STARTUP = Path("benchmarks/startup.json")
LARGE = Path("benchmarks/large.json")
SERVING = Path("benchmarks/serving.json")
QUALITY = Path("benchmarks/quality.json")
REMEDIES = Path("benchmarks/remedies.json")
ANOMALY = Path("benchmarks/anomaly.json")
REPORT = Path("reports/index.html")
PICTURE = Path("docs/report.png")
DRAWING = Path("docs/speed.svg")
CURVES = Path("docs/growth.svg")
IRRELEVANT = Path("docs/irrelevant.svg")
CURVES_STYLE = f"""{figures.RATIOS_STYLE}
.curves {{ --time: #2f5f9e; --memory: #a8590f; }}
@media (prefers-color-scheme: dark) {{ .curves {{ --time: #8ab4ea; --memory: #e6ab6b; }} }}
.line {{ fill: none; stroke-width: 1.6; }}
.time {{ stroke: var(--time); }}
.memory {{ stroke: var(--memory); }}
.plain {{ stroke: var(--ink); }}
.linear {{ stroke: var(--floor); stroke-dasharray: 4 3; }}
text.time {{ fill: var(--time); stroke: none; }}
text.memory {{ fill: var(--memory); stroke: none; }}
.mark {{ fill: var(--paper); stroke-width: 1.6; }}
"""
VARIANTS_SHOWN = 4
ROWS_PICTURED = 12
UNITS = ("s", "ms", "GB", "GB/s", "stages", "×", "%", "rows/s", "requests/s")
VERDICTS = {None: "", True: "yes", False: "**no**"}
ARROWS = {"lower": "↓", "higher": "↑"}
EFFECTS = {"helps": "help", "no effect shown": "show no effect", "hurts": "hurt"}
SIGNS = {"lower": "≤ ", "higher": "≥ "}
OURS = "LatentOps"  # our name among the contestants
MEMORY = "long contexts cost memory"
LIGHTER = {
    "training, GRU": ("length", "training, GRU in chunks"),
    "training, Transformer": ("blocks", "training, checkpoints"),
}  # sweeps of benchmarks/growth.json, and what takes less memory for the same
WARNINGS = {
    "a good reconstruction is not a good code": ("a good reconstruction is not a good code",),
    "bottleneck too narrow underfits, too wide copies": (
        "a bottleneck too narrow underfits",
        "a bottleneck too wide copies",
    ),
    "overcomplete learns the identity": ("overcomplete learns the identity",),
    "too much sparsity hurts; its weight is delicate": (
        "too much sparsity hurts",
        "the weight of sparsity is delicate",
    ),
    "robust to irrelevant features?": ("robust to irrelevant features?",),
    "corruption mismatch hurts transfer": ("corruption mismatch hurts transfer",),
    "the Jacobian penalty costs compute": ("the Jacobian penalty costs compute",),
    "too much contraction collapses variation": ("too much contraction collapses variation",),
    "posterior collapse": ("posterior collapse",),
    "blurred reconstructions": ("blurred reconstructions",),
    "deconvolution artefacts": ("deconvolution leaves artefacts",),
    "convolution loses global context": ("convolution loses global context",),
    "sequences lose fine detail; long contexts cost memory": ("sequences lose fine detail", MEMORY),
    "adversarial training is unstable; terms need balance": (
        "adversarial training is unstable; terms need balance",
    ),
}  # what the field warns of, and what the studies call it
MATRIX = "a code doesn't withstand what it wasn't trained on"  # shown as a matrix, not as remedies
FLEET = 1000  # datasets of which docs/scale.md says what they take
FLEET_CORES = (1, 16, 128)
LEAST_BYTES = 10**5  # what `benchmarks.growth` can tell from none
WIDTH = 1280
LARGEST = 400_000  # bytes of a picture that a README should carry
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Figure(Result):
    """One measured figure, and the most it may be; or what was found true or not, and what it should be."""

    name: str
    value: bool | float | None
    unit: str = ""
    target: bool | float | None = None
    met: bool | None = None
    better: Literal["lower", "higher"] = "lower"


class Spread(Result):
    """Median, lowest and highest of some measurements."""

    median: float
    low: float
    high: float


class SpeedRow(Result):
    """Our training throughput over the best peer's, or under where lower is better."""

    name: str
    ratio: float
    target: float | None
    better: Literal["lower", "higher"]
    met: bool | None
    best_peer: str
    ratios: tuple[float, ...]
    samples_per_second: dict[str, Spread]
    losses: dict[str, Spread]
    peak_bytes: dict[str, int]
    gemm_share: float | None
    counts: bool


class Speed(Result):
    """`benchmarks/speed.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[SpeedRow, ...]


class Gpu(Speed):
    """`benchmarks/gpu-<name>.json`: the same on a `device`, and `figures` of what it is capable of."""

    device: dict[str, Any]
    peers: dict[str, str]
    figures: tuple[Figure, ...]


class ProfileRow(Result):
    """A step's time and the parts of it."""

    name: str
    microseconds: float
    products: float
    other_kernels: float
    optimiser: float
    bookkeeping: float


class Profile(Result):
    """`benchmarks/profile.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[ProfileRow, ...]


class GrowthRow(Result):
    """How a figure grows: `points` are sizes with seconds or bytes, `exponent` is of the larger ones."""

    name: str
    against: str
    figure: Literal["time", "memory"]
    exponent: float
    target: float
    tolerance: float
    met: bool
    points: tuple[tuple[int, float], ...]

    def told(self, value: float) -> str:
        """`value` with its unit."""
        if self.figure == "time":
            return f"{amount(value)} s"
        return f"{amount(value / 1e6)} MB" if value > LEAST_BYTES else f"< {LEAST_BYTES / 1e6:g} MB"


class Growth(Result):
    """`benchmarks/growth.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[GrowthRow, ...]


class StageRun(Result):
    """A stage on one dataset: seconds to start and to work, and what it loads only once it runs."""

    arguments: tuple[str, ...]
    start: float
    work: float
    peak_bytes: int
    libraries: tuple[str, ...]


class StartRow(Result):
    """What importing something takes, and for a stage how long it works then."""

    name: str
    seconds: Spread
    peak_bytes: int
    libraries: tuple[str, ...]
    runs: tuple[StageRun, ...]
    start_over_work: float | None
    target: float | None
    met: bool | None


class Startup(Result):
    """`benchmarks/startup.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[StartRow, ...]


class Side(Result):
    """One number a seed, and their mean."""

    mean: float
    values: tuple[float, ...]


class RemedyRow(Result):
    """A number of a warning, without a remedy and with it, and the paired difference."""

    topic: str
    commit: str
    warning: str
    number: str
    remedy: str
    without: Side
    remedied: Side
    difference: float
    low: float
    high: float
    verdict: Literal["helps", "no effect shown", "hurts"]
    better: Literal["lower", "higher"]


class Remedies(Result):
    """`benchmarks/remedies.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[RemedyRow, ...]


class QualityFloor(Result):
    """A row of a board that the chosen variant stands beside."""

    name: str
    value: float
    low: float
    high: float


class QualityLead(Result):
    """By how much the chosen variant is ahead of the best rival, paired."""

    value: float
    low: float
    high: float


class QualityRow(Result):
    """What the chosen variant reaches on a set, or the mean difference to a floor over several."""

    name: str
    value: float
    low: float
    high: float
    target: float | None
    aim: float | None
    met: bool | None
    variant: str | None = None
    latent_dim: int | None = None
    rival: QualityFloor | None = None
    lead: QualityLead | None = None
    reference: QualityFloor | None = None
    others: dict[str, float] = Field(default_factory=dict)


class Quality(Result):
    """`benchmarks/quality.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[QualityRow, ...]


class Benchmark(Result):
    """`benchmarks/flows.json` or `benchmarks/judge.json`."""

    machine: str | dict[str, Any]
    commit: str
    rows: tuple[Figure, ...]


class OverSets(Result):
    """A mean over sets with its interval, and the least that its lower end may be."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    target: float | None
    met: bool | None


class Anomaly(Result):
    """`benchmarks/anomaly.json`: every score over all `sets`, and its AUROC on each."""

    machine: str | dict[str, Any]
    commit: str
    splits: int
    rows: tuple[OverSets, ...]
    sets: dict[str, dict[str, float]]


def escaped(text: object) -> str:
    """`text` as Markdown that shows it, whatever is in it: no tag, no link, no new cell or line."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]|~$!#])", r"\\\1", html.escape(one_line, quote=False))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table of cells that are Markdown already; columns in `right` are set to the right."""
    rule = ["--:" if at in right else "---" for at in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def figure(estimate: Estimate | None) -> str:
    """`0.939 (0.917–0.958)`."""
    if estimate is None:
        return "–"
    span = leaderboard.interval(estimate)
    return leaderboard.number(estimate.mean) + (f" ({span})" if span else "")


def board(root: Path) -> str:
    """A table a dataset: the best variants, the rivals of the chosen one, the references, and the verdict."""
    rows = leaderboard.load(root)
    parts = []
    for name in dict.fromkeys(row.dataset for row in rows):
        found = results.comparison(name, root)
        own = [row for row in rows if row.dataset == name]
        if own != leaderboard.ordered(found.rows, found.primary):
            source = f"results/compare/{name}.json"
            raise DataError(f"{leaderboard.PATH}: not what {source} says; `dvc repro report` makes it anew")
        parts.append(_dataset(found, own))
    return "\n\n".join(parts)


def _dataset(found: Comparison, rows: Sequence[Row]) -> str:
    primary = found.primary
    other = "probe_accuracy" if primary == "auroc" else "auroc"
    chosen = found.chosen.variant if found.chosen else None
    places = leaderboard.ranks(rows)
    leaders = {row.name for row in leaderboard.ahead(rows, primary)}

    def told(row: Row) -> bool:
        if row.role == "variant":
            return places[row.name] <= VARIANTS_SHOWN or row.name == chosen
        untrained = row.name.startswith("untrained ")
        return primary in row.metrics and (not untrained or row.name in {*leaders, f"untrained {chosen}"})

    def line(row: Row) -> list[str]:
        name, value = escaped(row.name), figure(row.metrics.get(primary))
        if row.name == chosen:
            name, value = f"**{name}** (chosen)", f"**{value}**"
        if row.name in leaders:
            name += " ↑"
        size = str(row.latent_dim or "–")
        return [str(places.get(row.name, "")), name, row.role, size, value, figure(row.metrics.get(other))]

    shown = [row for row in rows if told(row)]
    notes = []
    if leaders & {row.name for row in shown}:
        notes.append("↑ a floor, yet ahead of every variant")
    if left := len(rows) - len(shown):
        notes.append(f"{left} more rows in `{leaderboard.PATH}`")
    board_ = table(
        ["#", "name", "role", "size", title(primary), title(other)], map(line, shown), right=(0, 3, 4, 5)
    )
    verdict = f"**{'Passed' if found.passed else 'Held'}:** {escaped(leaderboard.verdict(found))}."
    parts = [f"**{escaped(found.dataset)}** ({escaped(found.kind)}), by {escaped(title(primary))}", board_]
    return "\n\n".join([*parts, " ".join([verdict, *(f"{note[0].upper()}{note[1:]}." for note in notes)])])


def choice(root: Path) -> str:
    """What `stop` would choose by the metric alone, and what it chooses by the lead over the best rival."""
    lines = []
    for name in _datasets(root):
        primary = results.comparison(name, root).primary
        metric = f"stop_{primary}"
        rows = list(_judged(name, root))
        leads = {row.name: _lead(row, rows, metric) for row in rows if row.role == "variant"}
        means = {row.name: _mean(row, metric) for row in rows if row.role == "variant"}
        alone, leading = max(means, key=means.__getitem__), judged.choose(rows, primary).name
        for rule, best in (("the metric alone", alone), ("the lead", leading)):
            size = next(row.latent_dim for row in rows if row.name == best)
            figures = [leaderboard.number(means[best]), f"{leads[best]:+.3f}".replace("-", "−")]
            lines.append([escaped(name), rule, escaped(best), str(size), *figures])
    header = ["dataset", "chosen by", "variant", "size", "primary metric on stop", "lead over its best rival"]
    return table(header, lines, right=(3, 4, 5))


def _mean(row: judged.Row, metric: str) -> float:
    return float(np.mean(row.values[metric]))


def _lead(row: judged.Row, rows: Sequence[judged.Row], metric: str) -> float:
    return _mean(row, metric) - max(_mean(rival, metric) for rival in judged.rivals_of(row, rows))


def gates(root: Path) -> str:
    """Every gate of every dataset's chosen variant."""
    lines = []
    for name in _datasets(root):
        found = results.comparison(name, root)
        chosen = found.chosen.variant if found.chosen else "–"
        for gate in found.gates:
            verdict = "passed" if gate.passed else "**held**"
            lines.append([escaped(name), escaped(chosen), escaped(gate.gate), escaped(gate.text), verdict])
    return table(["dataset", "chosen", "gate", "measured on test", "verdict"], lines)


def beaten(root: Path) -> str:
    """How many variants beat each sort of rival by an interval above zero, without regard to the choice."""
    sorts = {"untrained encoder": "untrained ", "PCA": "PCA-", "random features": "random "}
    lines = []
    for name in _datasets(root):
        found = results.comparison(name, root).comparisons
        for metric in dict.fromkeys(each.metric for each in found):
            cells = []
            for prefix in sorts.values():
                pairs = [one for one in found if one.metric == metric and one.against.startswith(prefix)]
                better = sum(one.verdict == "better" for one in pairs)
                cells.append(f"{better} of {len(pairs)}" if pairs else "–")
            lines.append([escaped(name), escaped(title(metric)), *cells])
    return table(["dataset", "metric", *sorts], lines, right=(2, 3, 4))


def scores(root: Path) -> str:
    """The three anomaly scores: averaged over the variants, of the chosen one, and of PCA."""
    names = ("auroc", "auroc_reconstruction", "auroc_latent")
    lines = []
    for dataset in _datasets(root):
        found = results.comparison(dataset, root)
        chosen = found.chosen.variant if found.chosen else None
        groups = {
            "mean of the variants": [row for row in found.rows if row.role == "variant"],
            f"{chosen} (chosen)": [row for row in found.rows if row.name == chosen],
            **{row.name: [row] for row in found.rows if row.name.startswith("PCA-")},
        }
        for group, rows in groups.items():
            means = [[mean for row in rows if (mean := row.mean(name)) is not None] for name in names]
            cells = [leaderboard.number(float(np.mean(each)) if each else None) for each in means]
            lines.append([escaped(dataset), escaped(group), *cells])
    return table(["dataset", "code", "combined", "reconstruction", "code alone"], lines, right=(2, 3, 4))


def pipeline(root: Path) -> str:
    """The figures of `benchmarks/flows.json`, or how to get them."""
    return measured(root, PIPELINE, "make bench-pipeline")


def fleet(root: Path) -> str:
    """What `FLEET` datasets like the project's own take, by what its stages took in `PIPELINE`."""
    command = "make bench-pipeline"
    if not (root / PIPELINE).exists():
        return f"Not measured yet: `{command}` writes `{PIPELINE}`."
    found = read(Benchmark, root / PIPELINE, command)
    measured_on = len(load_params(root / "params.yaml").run.datasets)
    hours = {
        row.name.removesuffix(", wall"): float(row.value or 0) / measured_on * FLEET / 3600
        for row in found.rows
        if row.name.endswith(", wall") and not row.name.startswith("report")
    }
    total = sum(hours.values())
    stages = [[verb, f"{taken:,.1f}", f"{taken / total:.0%}"] for verb, taken in hours.items()]
    shares = [[f"{cores:,}", f"{total / cores:.2g}"] for cores in FLEET_CORES]
    return "\n\n".join(
        (
            f"{FLEET:,} datasets are {total:,.0f} hours of one core: {FLEET:,} times the mean over the "
            f"{measured_on} embedded datasets, each with every variant. "
            f"{taken_on(found.machine, found.commit)}",
            table(
                ["stage", "core hours", "share"], [*stages, ["all", f"{total:,.1f}", "100%"]], right=(1, 2)
            ),
            table(["cores", "hours"], shares, right=(0, 1)),
        )
    )


def judge(root: Path) -> str:
    """The figures of `benchmarks/judge.json`, or how to get them."""
    return measured(root, JUDGE, "make bench-judge")


def large(root: Path) -> str:
    """The figures of `benchmarks/large.json`, or how to get them."""
    return measured(root, LARGE, "make bench-large")


def serving(root: Path) -> str:
    """The figures of `benchmarks/serving.json`, or how to get them."""
    return measured(root, SERVING, "make bench-serving")


def quality(root: Path) -> str:
    """What the chosen codes of real data are worth, beside the floors on the same rows and what is cited."""
    if not (root / QUALITY).exists():
        return f"Not measured yet: `make bench-quality` writes `{QUALITY}`."
    found = read(Quality, root / QUALITY, "make bench-quality")

    def spanned(one: QualityRow | QualityFloor | None) -> str:
        return "–" if one is None else f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})".replace("-", "−")

    def floor(one: QualityFloor | None) -> str:
        return "–" if one is None else f"{escaped(one.name)} {spanned(one)}"

    def lead(one: QualityLead | None) -> str:
        return (
            "–" if one is None else f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})".replace("-", "−")
        )

    lines = [
        [
            escaped(row.name),
            f"**{spanned(row)}**",
            "" if row.variant is None else escaped(f"{row.variant}, {row.latent_dim}"),
            "" if row.target is None else f"≥ {row.target:g}".replace("-", "−"),
            "" if row.aim is None else f"{row.aim:g}",
            VERDICTS[row.met],
            floor(row.rival),
            lead(row.lead),
            floor(row.reference),
            escaped(", ".join(f"{name} {value:g}" for name, value in row.others.items())) or "–",
        ]
        for row in found.rows
    ]
    header = [
        "figure",
        "ours",
        "variant, size",
        "target",
        "aim",
        "met",
        "best rival",
        "lead over it",
        "best reference",
        "cited",
    ]
    return f"{taken_on(found.machine, found.commit)}\n\n{table(header, lines, right=(1, 3, 4))}"


def measured(root: Path, path: Path, command: str) -> str:
    """The figures that `command` wrote to `path`, each with its target, or how to get them."""
    if not (root / path).exists():
        return f"Not measured yet: `{command}` writes `{path}`."
    found = read(Benchmark, root / path, command)
    return f"{taken_on(found.machine, found.commit)}\n\n{verdicts(found.rows)}"


def verdicts(rows: Iterable[Figure]) -> str:
    """Figures, each with its target."""
    lines = [
        [
            escaped(row.name),
            escaped(f"{amount(row.value)} {row.unit if row.unit in UNITS else ''}".strip()),
            ""
            if row.target is None
            else SIGNS[row.better] * (type(row.target) is float) + amount(row.target),
            VERDICTS[row.met],
        ]
        for row in rows
    ]
    return table(["figure", "measured", "target", "met"], lines, right=(1, 2))


def taken_on(machine: str | dict[str, Any], commit: str) -> str:
    """The sentence that says where and when figures were taken."""
    parts = [f"{key} {value}" for key, value in machine.items()] if isinstance(machine, dict) else [machine]
    where, short = ", ".join(parts).replace("_", " "), re.sub("[^0-9a-f]", "", commit)[:12]
    return f"Taken on {escaped(where)}, at commit `{short}`."


def tables_scored(root: Path) -> str:
    """Mean AUROC of every score over the sets of `benchmarks/anomaly.json`, and its lead over kNN."""
    if not (root / ANOMALY).exists():
        return f"Not measured yet: `make bench-anomaly` writes `{ANOMALY}`."
    found = read(Anomaly, root / ANOMALY, "make bench-anomaly")
    rows = {row.name: row for row in found.rows}
    lines = []
    for name in sorted(next(iter(found.sets.values())), key=lambda name: -rows[name].value):
        mean, lead = rows[name], rows.get(f"{name}, over kNN")
        target = "" if lead is None or lead.target is None else f"≥ {signed(lead.target)} throughout"
        lines.append(
            [
                escaped(name),
                f"{mean.value:.2f} ({mean.low:.2f}–{mean.high:.2f})",
                "–" if lead is None else _span(lead),
                target,
                "" if lead is None else VERDICTS[lead.met],
            ]
        )
    heads = ["score", "mean AUROC, %", "over kNN, points", "target", "met"]
    first = (
        f"{taken_on(found.machine, found.commit)} {found.splits} halvings of each of {len(found.sets)} sets."
    )
    return f"{first}\n\n{table(heads, lines, right=(1, 2))}"


def _span(lead: OverSets) -> str:
    low, high = (f"{each:+.2f}".replace("-", "−") for each in (lead.low, lead.high))
    return f"{lead.value:+.2f}".replace("-", "−") + rf" \[{low}, {high}\]"


def sets_scored(root: Path) -> str:
    """AUROC on each set of `benchmarks/anomaly.json`, of the five-member stack and of the floors."""
    if not (root / ANOMALY).exists():
        return f"Not measured yet: `make bench-anomaly` writes `{ANOMALY}`."
    found = read(Anomaly, root / ANOMALY, "make bench-anomaly")
    means = {row.name: row.value for row in found.rows}
    shown = (name for name in next(iter(found.sets.values())) if not name.endswith(", a member"))
    names = sorted(shown, key=lambda name: -means[name])
    lines = [[escaped(each), *(f"{areas[name]:.1f}" for name in names)] for each, areas in found.sets.items()]
    heads = ["set", *(escaped(name.removesuffix(", 5 members")) for name in names)]
    return table(heads, lines, right=tuple(range(1, len(heads))))


def profile(root: Path) -> str:
    """Where a step's time goes, from `benchmarks/profile.json`, or how to get it."""
    if not (root / PROFILE).exists():
        return f"Not measured yet: `make bench-profile` writes `{PROFILE}`."
    found = read(Profile, root / PROFILE, "make bench-profile")
    lines = [
        [
            escaped(row.name),
            f"{row.microseconds:,.0f}",
            *(f"{share:.0%}" for share in (row.products, row.other_kernels, row.optimiser, row.bookkeeping)),
        ]
        for row in found.rows
    ]
    heads = ["case", "µs a step", "products", "other kernels", "optimiser", "bookkeeping"]
    return f"{taken_on(found.machine, found.commit)}\n\n{table(heads, lines, right=(1, 2, 3, 4, 5))}"


def ratios(rows: Iterable[SpeedRow]) -> str:
    """Our throughput over the best peer's, a line for each piece of work."""
    lines = [
        [
            escaped(row.name),
            f"{row.samples_per_second[OURS].median:,.0f}",
            f"{row.samples_per_second[row.best_peer].median:,.0f} ({escaped(row.best_peer)})",
            f"{row.ratio:.2f} ({min(row.ratios):.2f}–{max(row.ratios):.2f})",
            "" if row.target is None else f"{SIGNS[row.better]}{row.target:g}",
            VERDICTS[row.met] if row.counts else "losses differ",
            "–" if row.gemm_share is None else f"{row.gemm_share:.0%}",
            f"{row.peak_bytes[OURS] / 1e6:.0f} · {row.peak_bytes[row.best_peer] / 1e6:.0f}",
        ]
        for row in rows
    ]
    header = [
        "work",
        "our samples/s",
        "best peer's",
        "ratio (range)",
        "target",
        "met",
        "of GEMM peak",
        "MB, our · its",
    ]
    return table(header, lines, right=range(1, 8))


def gpu(root: Path) -> str:
    """The figures of every `benchmarks/gpu-<name>.json`, or how to get them."""
    parts = []
    for path in sorted(root.glob("benchmarks/gpu-*.json")):
        found = read(Gpu, path, "make bench-gpu")
        device = escaped(", ".join(f"{key} {value}" for key, value in found.device.items()))
        peers = escaped(", ".join(f"{key} {value}" for key, value in found.peers.items()))
        where = f"{taken_on(found.machine, found.commit)} The GPU: {device}. The peers: {peers}."
        parts += [where, ratios(found.rows), verdicts(found.figures)]
    command = "`make bench-gpu` writes `benchmarks/gpu-<name>.json` where torch sees a GPU"
    return "\n\n".join(parts) or f"Not measured yet: {command}."


def speed(root: Path) -> str:
    """The figures of `benchmarks/speed.json`, or how to get them."""
    if not (root / SPEED).exists():
        return f"Not measured yet: `make bench-speed` writes `{SPEED}`."
    found = read(Speed, root / SPEED, "make bench-speed")
    names = list(dict.fromkeys(name for row in found.rows for name in row.samples_per_second))
    others = [
        [
            escaped(row.name),
            *(
                f"{row.samples_per_second[name].median:,.0f} ({row.losses[name].median:.3g})"
                if name in row.losses
                else "–"
                for name in names
            ),
        ]
        for row in found.rows
    ]
    return "\n\n".join(
        [
            taken_on(found.machine, found.commit),
            f"![Our training throughput over the best peer's, by work]({DRAWING.name})",
            ratios(found.rows),
            "Everybody's samples a second, with the loss it ended with:",
            table(["work", *map(escaped, names)], others, right=range(1, len(names) + 1)),
        ]
    )


def speed_drawing(root: Path) -> str | None:
    """The ratios of `benchmarks/speed.json` as bars; None where they aren't measured yet."""
    if not (root / SPEED).exists():
        return None
    verdicts: dict[bool | None, Literal["met", "missed", "open"]] = {
        True: "met",
        False: "missed",
        None: "open",
    }
    rows = read(Speed, root / SPEED, "make bench-speed").rows
    bars = [
        figures.Ratio(
            row.name + ("" if row.counts else ", losses differ"),
            row.ratio,
            f"{row.ratio:.2f} × {row.best_peer}" + (" (lower is better)" if row.better == "lower" else ""),
            row.target,
            verdicts[row.met],
        )
        for row in rows
    ]
    told = "; ".join(f"{bar.name}: {bar.told}" for bar in bars)
    return figures.ratios(bars, f"Our training throughput over the best peer's. {told}.")


def growth(root: Path) -> str:
    """The exponents of `benchmarks/growth.json`, or how to get them."""
    if not (root / GROWTH).exists():
        return f"Not measured yet: `make bench-growth` writes `{GROWTH}`."
    found = read(Growth, root / GROWTH, "make bench-growth")
    lines = []
    for row in found.rows:
        (smallest, first), *_, (largest, last) = row.points
        ends = f"{smallest:,}–{largest:,}", row.told(first), row.told(last)
        wanted = f"≤ {row.target + row.tolerance:g}"
        lines.append(
            [
                escaped(row.name),
                escaped(row.against),
                row.figure,
                *ends,
                f"{row.exponent:.2f}",
                wanted,
                VERDICTS[row.met],
            ]
        )
    header = ["work", "against", "figure", "sizes", "smallest", "largest", "exponent", "target", "met"]
    picture_ = f"![Time and memory against size, each as a share of that at the largest size]({CURVES.name})"
    board_ = table(header, lines, right=range(3, 8))
    return "\n\n".join([taken_on(found.machine, found.commit), picture_, board_])


def growth_drawing(root: Path) -> str | None:
    """The points of `benchmarks/growth.json`, a panel for each thing that grows; None where there are none.

    Both axes are logarithmic, and figures are shares of that at the largest size: a figure that grows in
    proportion runs along the broken line, one that grows faster comes from below it.
    """
    if not (root / GROWTH).exists():
        return None
    rows = read(Growth, root / GROWTH, "make bench-growth").rows
    panels = {key: [row for row in rows if (row.name, row.against) == key] for key in _sweeps(rows)}
    columns, width, height, head = 2, 210.0, 214.0, 34.0
    total = head + height * -(-len(panels) // columns)
    told = "; ".join(f"{r.name}, {r.figure} by {r.against}: exponent {r.exponent:.2f}" for r in rows)
    label = f"Time and memory against size, as shares of those at the largest size. {told}."
    drawing = svg.Drawing(columns * width, total, label, "ratios curves")
    drawing.add("rect", "paper", width=columns * width, height=total)
    for x, css, name in ((14, "time", "time"), (92, "memory", "memory"), (186, "linear", "in proportion")):
        drawing.add("line", f"line {css}", x1=x, x2=x + 20, y1=17, y2=17)
        drawing.add("text", "", name, x=x + 26, y=21)
    for at, ((name, against), own) in enumerate(panels.items()):
        _panel(drawing, name, against, own, (at % columns * width, head + at // columns * height))
    return drawing.file(CURVES_STYLE)


def _sweeps(rows: Iterable[GrowthRow]) -> Iterable[tuple[str, str]]:
    return dict.fromkeys((row.name, row.against) for row in rows)


def _panel(
    drawing: svg.Drawing, name: str, against: str, rows: Sequence[GrowthRow], corner: tuple[float, float]
) -> None:
    """The rows of one sweep, in a panel of 210 × 214 units at `corner`."""
    left, top = corner
    sizes = [size for size, _ in rows[0].points]
    shares = {row.figure: [(size, value / row.points[-1][1]) for size, value in row.points] for row in rows}
    every = [share for points in shares.values() for _, share in points]
    floor = 10.0 ** math.floor(math.log10(min(every)) + 1e-9)
    across = svg.Scale(sizes[0], sizes[-1], left + 46, left + 194, log=True)
    up = svg.Scale(floor, max(every), top + 176, top + 60, log=True)
    drawing.add("text", "name", f"{name}, by {against}", x=left + 14, y=top + 12)
    for at, row in enumerate(rows):
        end = f"{row.figure} {row.exponent:.2f}, {row.told(row.points[-1][1])}"
        drawing.add("text", f"told {row.figure}", end, x=left + 14, y=top + 27 + 15 * at)
    for tick in up.ticks():
        drawing.add("line", "grid", x1=across.start, x2=across.end, y1=up(tick), y2=up(tick))
        drawing.add("text", "", f"{tick:g}", x=across.start - 6, y=up(tick) + 4, text_anchor="end")
    for tick in across.ticks():
        drawing.add("line", "grid", x1=across(tick), x2=across(tick), y1=up.start, y2=up.end)
        drawing.add("text", "", _size(tick), x=across(tick), y=up.start + 17, text_anchor="middle")
    reached = max(up.low, sizes[0] / sizes[-1])  # where a line of slope 1 leaves the panel
    drawing.add("line", "linear", x1=across(reached * sizes[-1]), x2=across.end, y1=up(reached), y2=up(1))
    for row in rows:
        places = [(across(size), up(share)) for size, share in shares[row.figure]]
        drawing.add("path", f"line {row.figure}", d=svg.path(places))
        for (x, y), (size, value) in zip(places, row.points, strict=True):
            hover = f"{row.told(value)} at {size:,}"
            drawing.add("circle", f"mark {row.figure}", cx=x, cy=y, r=2.6, hover=hover)


def _size(value: float) -> str:
    """A round size, in letters that fit under a tick."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def startup(root: Path) -> str:
    """The figures of `benchmarks/startup.json`, or how to get them."""
    if not (root / STARTUP).exists():
        return f"Not measured yet: `make bench-startup` writes `{STARTUP}`."
    found = read(Startup, root / STARTUP, "make bench-startup")
    lines, runs = [], []
    for row in found.rows:
        later = dict.fromkeys(library for run in row.runs for library in run.libraries)
        lines.append(
            [
                escaped(row.name),
                f"{row.seconds.median:.2f}",
                f"{row.peak_bytes / 1e6:.0f}",
                escaped(", ".join(row.libraries) or "–"),
                escaped(", ".join(later) or "–") if row.runs else "",
                "" if row.start_over_work is None else amount(row.start_over_work),
                "" if row.target is None else f"≤ {row.target:g}",
                VERDICTS[row.met],
            ]
        )
        runs += [
            [escaped(" ".join([row.name, *run.arguments])), f"{run.start:.2f}", f"{run.work:.2f}"]
            for run in row.runs
        ]
    header = ["start", "s", "MB", "loads", "once it runs", "start over work, at most", "target", "met"]
    return "\n\n".join(
        [
            taken_on(found.machine, found.commit),
            table(header, lines, right=(1, 2, 5, 6)),
            "Every run:",
            table(["stage", "start, s", "work, s"], runs, right=(1, 2)),
        ]
    )


def warnings(root: Path) -> str:
    """A line for each warning of the field: the first number of its remedies, and how many of them help."""
    if not (root / REMEDIES).exists():
        return f"Not measured yet: `make bench-remedies` writes `{REMEDIES}`."
    found = read(Remedies, root / REMEDIES, "make bench-remedies").rows
    lines = []
    for warning, names in WARNINGS.items():
        for name in names:
            rows = [row for row in found if row.warning == name]
            told = memory(root) if name == MEMORY else [_told(row) for row in rows]
            first = told[0] if told else ["not measured yet", "", "", ""]
            lines.append([escaped(warning), *first, ", ".join(_counted(rows))])
    header = ["warning", "number", "remedy", "without", "with", "of all its remedies"]
    return table(header, lines, right=(3, 4))


def _counted(rows: Sequence[RemedyRow]) -> list[str]:
    counts = {word: sum(row.verdict == word for row in rows) for word in EFFECTS}
    return [f"{count} {EFFECTS[word]}" for word, count in counts.items() if count]


def _told(row: RemedyRow) -> list[str]:
    """Number, remedy, and both sides, as cells."""
    number = f"{escaped(row.number)} {ARROWS[row.better]}"
    return [number, escaped(row.remedy), signed(row.without.mean), signed(row.remedied.mean)]


def memory(root: Path) -> list[list[str]]:
    """Number, remedy, and both sides, as cells: the sweeps of `LIGHTER` at their largest, plain and lighter.

    Empty where `benchmarks/growth.json` has no such sweeps.
    """
    if not (root / GROWTH).exists():
        return []
    found = read(Growth, root / GROWTH, "make bench-growth").rows
    rows = {(row.name, row.against, row.figure): row for row in found}
    lines = []
    for name, (against, lighter) in LIGHTER.items():
        for kind in ("memory", "time"):
            plain, other = (rows.get((each, against, kind)) for each in (name, lighter))
            if plain is None or other is None:
                continue
            size = max({size for size, _ in plain.points} & {size for size, _ in other.points})
            sides = [escaped(row.told(dict(row.points)[size])) for row in (plain, other)]
            lines.append([escaped(f"{kind}, {name}, {against} {size:,} ↓"), escaped(lighter), *sides])
    return lines


def remedies(root: Path) -> str:
    """A table a warning of `benchmarks/remedies.json`, or how to get them."""
    if not (root / REMEDIES).exists():
        return f"Not measured yet: `make bench-remedies` writes `{REMEDIES}`."
    found = read(Remedies, root / REMEDIES, "make bench-remedies")
    rows = [row for row in found.rows if row.warning != MATRIX]
    told = ", ".join(_counted(rows))
    parts = [taken_on(found.machine, found.commit), f"Of {len(rows)} remedies {told}."]
    if older := sorted({row.topic for row in rows if row.commit != found.commit}):
        parts.append(f"Taken at an earlier commit: {escaped(', '.join(older))}.")
    header = ["number", "remedy", "without", "with", "difference (95 %)", "verdict"]
    for warning in dict.fromkeys(row.warning for row in rows):
        lines = [
            [
                *_told(row),
                f"{signed(row.difference, '+')} ({signed(row.low, '+')} to {signed(row.high, '+')})",
                row.verdict if row.verdict == "helps" else f"**{row.verdict}**",
            ]
            for row in rows
            if row.warning == warning
        ]
        parts.append(f"**{escaped(warning[:1].upper() + warning[1:])}**")
        parts.append(table(header, lines, right=(2, 3, 4)))
    if lines := memory(root):
        parts.append(f"**{MEMORY.capitalize()}** (`{GROWTH}`, without intervals)")
        parts.append(table(header[:4], lines, right=(2, 3)))
    return "\n\n".join(parts)


def losses(root: Path) -> str:
    """What each loss of `benchmarks/remedies.json` leaves of each kind of error, side by side."""

    def chosen(row: RemedyRow) -> bool:
        return row.topic == "losses"

    return side_by_side(root, chosen, "left by", "gaussian, learned variance", "losses")


def matrix(root: Path) -> str:
    """What each trained corruption of `benchmarks/remedies.json` makes of each one met."""

    def chosen(row: RemedyRow) -> bool:
        return row.warning == MATRIX

    return side_by_side(root, chosen, "trained on", "nothing", "denoising")


def side_by_side(root: Path, chosen: Callable[[RemedyRow], bool], corner: str, plain: str, topic: str) -> str:
    """The `chosen` rows of `benchmarks/remedies.json`, a line a number and a column a remedy.

    What differs from the `plain` column has a star.
    """
    path, found = root / REMEDIES, []
    if path.exists():
        found = [row for row in read(Remedies, path, "make bench-remedies").rows if chosen(row)]
    if not found:
        return f"Not measured yet: `make bench-remedies TOPIC={topic}` writes `{REMEDIES}`."
    names = dict.fromkeys(row.remedy for row in found)
    lines = []
    for number in dict.fromkeys(row.number for row in found):
        cells = {row.remedy: row for row in found if row.number == number}
        without = next(iter(cells.values())).without.mean
        told = [
            amount(cells[name].remedied.mean) + ("" if cells[name].verdict == "no effect shown" else "\\*")
            for name in names
        ]
        lines.append([escaped(number), amount(without), *told])
    header = [corner, plain, *map(escaped, names)]
    return table(header, lines, right=range(1, len(header)))


def keys(_: Path) -> str:
    """Each key of a dataset's entry, and what it means."""
    return table(["key", "means"], ((f"`{key}`", escaped(means)) for key, means in COMMENTS.items()))


def irrelevant_drawing(root: Path) -> str | None:
    """Probe accuracy lost by columns of noise, a line a code; None where that isn't measured yet."""
    if not (root / REMEDIES).exists():
        return None
    pattern = re.compile(r"probe accuracy lost with (\d+) columns of noise")
    rows = read(Remedies, root / REMEDIES, "make bench-remedies").rows
    found = [(int(match[1]), row) for row in rows if (match := pattern.fullmatch(row.number))]
    if not found:
        return None
    lines: dict[str, dict[int, float]] = {"undercomplete": {0: 0.0}}
    for columns, row in found:
        lines["undercomplete"][columns] = row.without.mean
        lines.setdefault(row.remedy, {0: 0.0})[columns] = row.remedied.mean
    told = "; ".join(
        f"{name}: {', '.join(f'{value:.3f} with {at}' for at, value in sorted(line.items()) if at)}"
        for name, line in lines.items()
    )
    label = f"Probe accuracy lost on breast_cancer by columns of noise added to its 30. {told}."
    width, height = 420.0, 270.0
    drawing = svg.Drawing(width, height, label, "ratios curves")
    drawing.add("rect", "paper", width=width, height=height)
    values = [value for line in lines.values() for value in line.values()]
    across = svg.scale([at for at, _ in found] + [0], 52, width - 16, 0.02)
    up = svg.scale(values, height - 42, 50, 0.06)
    drawing.add("text", "", "probe accuracy lost", x=14, y=42)
    for tick in up.ticks(5):
        drawing.add("line", "one" if tick == 0 else "grid", x1=52, x2=width - 16, y1=up(tick), y2=up(tick))
        drawing.add("text", "", f"{tick:g}".replace("-", "−"), x=46, y=up(tick) + 4, text_anchor="end")
    for tick in sorted(lines["undercomplete"]):
        drawing.add("text", "", f"{tick}", x=across(tick), y=height - 24, text_anchor="middle")
    drawing.add("text", "", "columns of noise", x=(52 + width) / 2, y=height - 8, text_anchor="middle")
    for at, (name, line) in enumerate(lines.items()):
        css = ("plain", "time", "memory")[at % 3]
        left = 14 + 134 * at
        drawing.add("line", f"line {css}", x1=left, x2=left + 20, y1=17, y2=17)
        drawing.add("text", "", name, x=left + 26, y=21)
        places = [(across(columns), up(value)) for columns, value in sorted(line.items())]
        drawing.add("path", f"line {css}", d=svg.path(places))
        for (x, y), (columns, value) in zip(places, sorted(line.items()), strict=True):
            hover = f"{name}, {columns} columns: {value:.3f}"
            drawing.add("circle", f"mark {css}", cx=x, cy=y, r=2.6, hover=hover)
    return drawing.file(CURVES_STYLE)


def signed(value: float, plus: Literal["", "+"] = "") -> str:
    """A number in three digits, with a minus sign that is one."""
    text = amount(value + 0.0)  # no zero below zero
    return text.replace("-", "−", 1) if value < 0 else plus * (value > 0) + text


def amount(value: bool | float | None) -> str:
    """`yes`, `no`, or a number in three digits, never fewer than it has before the point."""
    if isinstance(value, bool) or value is None:
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _datasets(root: Path) -> list[str]:
    return list(dict.fromkeys(row.dataset for row in leaderboard.load(root)))


def _judged(dataset: str, root: Path) -> Iterable[judged.Row]:
    """Every row of `dataset` with its metrics on stop, which the leaderboard doesn't show."""
    folder = root / "results"
    paths = [
        *sorted(folder.glob(f"evaluate/{dataset}/*/metrics.json")),
        folder / "floors" / dataset / "metrics.json",
    ]
    for path in paths:
        try:
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
                yield judged.Row.read(row, {})
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: can't be read ({error}); `dvc repro` makes it") from None


DRAWINGS: tuple[tuple[Path, Callable[[Path], str | None]], ...] = (
    (DRAWING, speed_drawing),
    (CURVES, growth_drawing),
    (IRRELEVANT, irrelevant_drawing),
)
SECTIONS: tuple[tuple[Path, str, Callable[[Path], str]], ...] = (
    (Path("README.md"), "leaderboard", board),
    (Path("docs/anomaly.md"), "scores", tables_scored),
    (Path("docs/anomaly.md"), "sets", sets_scored),
    (Path("docs/decisions.md"), "choice", choice),
    (Path("docs/decisions.md"), "scores", scores),
    (Path("docs/decisions.md"), "gates", gates),
    (Path("docs/decisions.md"), "beaten", beaten),
    (Path("docs/performance.md"), "speed", speed),
    (Path("docs/performance.md"), "gpu", gpu),
    (Path("docs/performance.md"), "profile", profile),
    (Path("docs/performance.md"), "judge", judge),
    (Path("docs/performance.md"), "large", large),
    (Path("docs/performance.md"), "growth", growth),
    (Path("docs/performance.md"), "pipeline", pipeline),
    (Path("docs/performance.md"), "startup", startup),
    (Path("docs/your-data.md"), "keys", keys),
    (Path("docs/quality.md"), "quality", quality),
    (Path("docs/scale.md"), "fleet", fleet),
    (Path("docs/serving.md"), "serving", serving),
    (Path("docs/variants.md"), "losses", losses),
    (Path("docs/variants.md"), "matrix", matrix),
    (Path("docs/variants.md"), "warnings", warnings),
    (Path("docs/variants.md"), "remedies", remedies),
)


def filled(page: str, name: str, text: str, path: Path) -> str:
    """`page` with `text` between the markers of `name`; `DataError` where they aren't there once each."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise DataError(f"{path}: needs one line {start} and after it one line {end}")
    before, rest = page.split(start)
    return f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}"


def render(root: Path, mode: Literal["write", "check"] = "write") -> list[Path]:
    """Fill every section and draw every drawing from the results; the files that weren't as they say.

    Raises `DataError` where a result or a page can't be read.
    """
    pages: dict[Path, tuple[str, str]] = {}
    for path, name, make in SECTIONS:
        try:
            was, now = pages.get(path) or ((text := (root / path).read_text(encoding="utf-8")), text)
        except FileNotFoundError:
            raise DataError(f"{path}: not found") from None
        pages[path] = was, filled(now, name, make(root), path)
    for path, draw in DRAWINGS:
        if (drawing := draw(root)) is not None:
            exists = (root / path).exists()
            pages[path] = (root / path).read_text(encoding="utf-8") if exists else "", drawing
    changed = [path for path, (was, now) in pages.items() if was != now]
    if mode == "write":
        for path in changed:
            atomic.write_text(root / path, pages[path][1])
    return changed


def picture(root: Path) -> None:
    """Write `docs/report.png`: the report from its top to the first rows of its first leaderboard.

    Raises `LatentOpsError` without a report or a Chromium, or where the picture is too large.
    """
    page = (root / REPORT).absolute()
    if not page.exists():
        raise LatentOpsError(f"{REPORT}: not found; `make report` writes it")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise LatentOpsError(f"no picture without Chromium: none of {', '.join(BROWSERS)} is on the PATH")
    with tempfile.TemporaryDirectory() as scratch, atomic.replacing(root / PICTURE) as aside:
        measured = Path(scratch, "measured.html")
        bottom = f"document.querySelectorAll('table')[0].rows[{ROWS_PICTURED}].getBoundingClientRect().bottom"
        script = f"<script>document.title = 'height=' + Math.ceil({bottom})</script>"
        measured.write_text(page.read_text(encoding="utf-8") + script, encoding="utf-8")
        shown = _browse(browser, scratch, measured, 1500, "--dump-dom")
        height = re.search(r"<title>height=(\d+)</title>", shown)
        if height is None:
            raise LatentOpsError(
                f"{REPORT}: holds no leaderboard of {ROWS_PICTURED} rows to take a picture of"
            )
        _browse(browser, scratch, page, int(height[1]), f"--screenshot={Path(scratch, 'report.png')}")
        shutil.copyfile(Path(scratch, "report.png"), aside)
        if aside.stat().st_size > LARGEST:
            raise LatentOpsError(f"{PICTURE}: {aside.stat().st_size} bytes, more than {LARGEST}")


def _browse(browser: str, scratch: str, page: Path, height: int, do: str) -> str:
    """What Chromium prints when it opens `page` in a window of `height`, does `do` and ends."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        "--blink-settings=preferredColorScheme=1",
    ]
    command += [f"--user-data-dir={scratch}/profile", f"--window-size={WIDTH},{height}", do, page.as_uri()]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise LatentOpsError(f"{browser}: took no picture ({str(error).splitlines()[0]})") from None
    return ended.stdout


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a page is out of date"
    )
    parser.add_argument("--picture", action="store_true", help=f"take {PICTURE} from {REPORT} too")
    asked = parser.parse_args()
    if asked.check and (stale := render(Path(), "check")):
        pages = ", ".join(map(str, stale))
        raise LatentOpsError(f"{pages}: not what the results say; run `python docs/render.py`")
    if not asked.check:
        for path in render(Path()):
            print(f"{path}: brought up to date")
        if asked.picture:
            picture(Path())
            print(f"{PICTURE}: taken")


if __name__ == "__main__":
    guard(main)
