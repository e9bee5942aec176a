"""What the codes of real data are worth: each set through the DAG in a workspace of its own.

    python -m benchmarks.quality [--only DATASET] [--keep DIR]

`benchmarks/quality.yaml` names the sets, what is laid over `params.yaml` for each, and what its figures are
held against. A workspace is a clone of the commit that is checked out, in which a set is added as `latentops
add-dataset` does it and `dvc repro` goes as far as its comparison; the DVC cache is this checkout's, so what
was made of the same commit, data and parameters before isn't made again. Named sets come from
`LATENTOPS_MIRROR` or their address. Writes `benchmarks/quality.json` after each set; with `--only` the rows
of the others stay as they are. A set that can't be had is named and left out.

A figure is that of the variant chosen on the stop rows, with its interval, beside the best rival and the best
reference on the same rows; nothing is chosen by what is shown here.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from pydantic import Field

from benchmarks.figures import ROOT, git, machine, warn_if_busy
from benchmarks.pipeline import Checkout
from latentops import atomic
from latentops.cli import guard
from latentops.config import Settings, nearest, parse
from latentops.errors import LatentOpsError, UnknownNameError
from latentops.evaluation.statistics import student_interval

SETS = ROOT / "benchmarks/quality.yaml"
RESULT = ROOT / "benchmarks/quality.json"
CONFIDENCE = 0.95
STAGES = 24  # that a set of nine variants goes through


class Measure(Settings):
    """A figure of a set: `target` is what it has to reach, `aim` what we want, `others` what peers have."""

    name: str
    metric: str
    target: float | None = None
    aim: float | None = None
    others: dict[str, float] = Field(default_factory=dict)


class Quality(Settings):
    """A set: the arguments of `add-dataset`, none where params.yaml has it; and what is laid over that."""

    dataset: str
    add: list[str] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)
    measures: list[Measure]


class Against(Settings):
    """A floor that the sets named like `sets…` are held against together, by the mean difference."""

    name: str
    sets: str
    metric: str
    floor: str
    target: float | None = None
    aim: float | None = None


class Sets(Settings):
    """`benchmarks/quality.yaml`."""

    sets: list[Quality]
    together: list[Against] = Field(default_factory=list)


@dataclass(frozen=True)
class Held:
    """A row of the board that ours stands beside."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Lead:
    """By how much ours is ahead of another code, seed by seed and row by row."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class QualityRow:
    """The chosen variant's `metric` on a set, from `low` to `high`, and whether it keeps its `target`.

    `lead` is over the best `rival`, where the two were compared in this metric.
    """

    name: str
    dataset: str
    metric: str
    variant: str
    latent_dim: int | None
    value: float
    low: float
    high: float
    target: float | None
    aim: float | None
    met: bool | None
    rival: Held | None
    lead: Lead | None
    reference: Held | None
    floors: dict[str, float]
    others: dict[str, float]
    commit: str


def overlaid(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings key by key, anything else in its place."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: overlaid(below.get(key), value) for key, value in above.items()}}


def run(quality: Quality, folder: Path) -> dict[str, Any]:
    """What the comparison of one set says, made in a clone at `folder`."""
    checkout = Checkout.clone(folder)
    checkout.say("dvc", "cache", "dir", "--local", str(ROOT / ".dvc/cache"))
    if quality.add:
        given = [os.path.expandvars(each) for each in quality.add]
        checkout.time(f"quality {quality.dataset} add", ["latentops", "add-dataset", *given])
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    laid = overlaid(overlaid(params, {"run": {"datasets": [quality.dataset]}}), quality.params)
    atomic.write_text(path, yaml.safe_dump(laid, sort_keys=False, allow_unicode=True))
    step = f"quality {quality.dataset}"
    checkout.time(step, ["dvc", "repro", f"compare@{quality.dataset}"], STAGES)
    found: dict[str, Any] = json.loads((folder / "results/compare" / f"{quality.dataset}.json").read_text())
    return found


def figures(quality: Quality, found: Mapping[str, Any], commit: str) -> list[QualityRow]:
    """A row a measure. Raises `LatentOpsError` where no variant was chosen or it lacks the metric."""
    if found["chosen"] is None:
        raise LatentOpsError(f"{quality.dataset}: no variant was chosen; what is its `primary`?")
    variant = found["chosen"]["variant"]
    ours = next(row for row in found["rows"] if row["name"] == variant)
    return [_figure(measure, quality.dataset, ours, found, commit) for measure in quality.measures]


def _figure(
    measure: Measure, dataset: str, ours: Mapping[str, Any], found: Mapping[str, Any], commit: str
) -> QualityRow:
    if measure.metric not in ours["metrics"]:
        known = ", ".join(sorted(ours["metrics"]))
        raise LatentOpsError(f"{dataset}: {ours['name']} has no {measure.metric}; it has {known}")
    value = ours["metrics"][measure.metric]
    floors = [
        row
        for row in found["rows"]
        if measure.metric in row["metrics"]
        and (row["role"] == "reference" or (row["role"] == "rival" and _comparable(row, ours)))
    ]
    rival = _best(floors, "rival", measure.metric)
    return QualityRow(
        name=measure.name,
        dataset=dataset,
        metric=measure.metric,
        variant=ours["name"],
        latent_dim=ours["latent_dim"],
        value=value["mean"],
        low=value["low"],
        high=value["high"],
        target=measure.target,
        aim=measure.aim,
        met=None if measure.target is None else value["mean"] >= measure.target,
        rival=rival,
        lead=_lead(found["comparisons"], ours["name"], rival, measure.metric),
        reference=_best(floors, "reference", measure.metric),
        floors={row["name"]: row["metrics"][measure.metric]["mean"] for row in floors},
        others=measure.others,
        commit=commit,
    )


def _comparable(row: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Codes of the same size; of untrained encoders its own."""
    untrained = str(row["name"]).startswith("untrained ")
    return row["latent_dim"] == ours["latent_dim"] and (not untrained or row["name"].endswith(ours["name"]))


def _best(floors: Iterable[Mapping[str, Any]], role: str, metric: str) -> Held | None:
    of = {row["name"]: row["metrics"][metric] for row in floors if row["role"] == role}
    if not of:
        return None
    name = max(of, key=lambda name: of[name]["mean"])
    return Held(name, of[name]["mean"], of[name]["low"], of[name]["high"])


def _lead(compared: Iterable[Mapping[str, Any]], ours: str, rival: Held | None, metric: str) -> Lead | None:
    """What the paired comparison of two rows says."""
    wanted = (ours, None if rival is None else rival.name, metric)
    for entry in compared:
        if (entry["variant"], entry["against"], entry["metric"]) == wanted:
            return Lead(entry["difference"], entry["low"], entry["high"])
    return None


def together(
    against: Against, sets: Iterable[str], rows: Sequence[Mapping[str, Any]], commit: str
) -> dict[str, Any] | None:
    """The mean difference to a floor over the sets, with Student's interval over them.

    None until all of `sets` that it is of have their rows: what a part of them says is another figure.
    """
    wanted = {name for name in sets if name.startswith(against.sets)}
    own = [row for row in rows if row["dataset"] in wanted and row["metric"] == against.metric]
    if {row["dataset"] for row in own} != wanted or len(wanted) < 2:
        return None
    differences = [row["value"] - row["floors"][against.floor] for row in own]
    low, high = student_interval(differences, CONFIDENCE)
    return {
        "name": against.name,
        "metric": against.metric,
        "floor": against.floor,
        "sets": len(own),
        "value": float(np.mean(differences)),
        "low": low,
        "high": high,
        "target": against.target,
        "aim": against.aim,
        "met": None if against.target is None else float(np.mean(differences)) >= against.target,
        "commit": commit,
    }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[list[str] | None, typer.Option(help="A set's name; may be repeated.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Leave the workspaces in this folder.")] = None,
) -> None:
    """Run each set through the DAG and write down what its chosen code is worth."""
    commit = git("rev-parse", "HEAD")
    sets = parse(Sets, yaml.safe_load(SETS.read_text(encoding="utf-8")), str(SETS))
    known = {quality.dataset: quality for quality in sets.sets}
    for name in only or ():
        if name not in known:
            close = nearest(name, known)
            raise UnknownNameError(f"{name}: no set of {SETS.name}; did you mean {close}?")
    taken_on = machine("torch", "dvc")
    warn_if_busy(taken_on)
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"rows": []}
    rows = {row["name"]: row for row in before["rows"] if "dataset" in row}
    folder = Path(tempfile.mkdtemp(prefix="latentops-quality-")) if keep is None else keep.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    try:
        for name in only or known:
            try:
                found = figures(known[name], run(known[name], folder / name), commit)
            except LatentOpsError as error:
                failed.append(f"{name}: {error}")
                continue
            rows |= {row.name: asdict(row) for row in found}
            order = [measure.name for quality in sets.sets for measure in quality.measures]
            kept = [rows[one] for one in order if one in rows]
            over = [one for against in sets.together if (one := together(against, known, kept, commit))]
            written = {"machine": taken_on, "commit": commit, "rows": [*kept, *over]}
            atomic.write_json(RESULT, written)
            for row in found:
                print(f"{row.name:<44}{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]  {row.variant}")
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if failed:
        raise LatentOpsError("; ".join(failed))


if __name__ == "__main__":
    guard(app)
