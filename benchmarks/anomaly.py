"""The anomaly scores on 17 public tables, against kNN, an isolation forest and PCA: is one rule good for all?

    python -m benchmarks.anomaly [--splits 3]

The sets are those of the catalogue whose names begin with `adbench_` (Han et al. 2022). Half of the normal
rows, drawn by the split's seed, are known: they standardise the columns, an undercomplete autoencoder of the
size that `latentops add-dataset` proposes is trained on them (five members; an eighth of them are its stop
rows), and every score is fitted on them. The other half and all anomalies are scored. Of a set of more than
`LARGEST` rows so many are drawn. Nothing is chosen by a label.

A stack's score is the mean of its members' logarithms. Intervals are of a mean over sets, by a bootstrap of
sets. Trained stacks are kept in `var/anomaly/`, so that another rule is tried in a minute. Writes
`benchmarks/anomaly.json`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.figures import ROOT, git, machine
from latentops import atomic
from latentops.cli import guard
from latentops.config import Architectures, load_params
from latentops.data import catalogue, fetch
from latentops.data.prepared import Description, Samples
from latentops.data.transforms import Transform
from latentops.evaluation.anomaly import Scorer, Spread, neighbour_distance, some_rows, weighted
from latentops.evaluation.floors import isolation_forest_scores, pca
from latentops.evaluation.statistics import auroc
from latentops.progress import bar
from latentops.training.checkpoint import SOURCE, data_digest, fingerprint
from latentops.training.loop import Look, fit
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe, Trained

RESULT = ROOT / "benchmarks/anomaly.json"
TRAINED = ROOT / "var/anomaly"
TRAINED_BY = ("architectures", "training", "variants")
PREFIX = "adbench_"
VARIANT = "undercomplete"
MEMBERS = 5
LARGEST = 6_000
HELD_OUT = 8
NEIGHBOURS = 5
SCALED_BY = 500
"""Known rows, about, that the logarithms of `larger` and `sum` are standardised by."""
RESAMPLES = 10_000
TARGET = -0.5
"""Least that the stack's lead over kNN may be, at the lower end of its interval."""

Array = NDArray[np.float64]

SCORES = {
    "combined": "distance in code and residual together",
    "reconstruction": "weighted squared residual",
    "code": "distance to the nearest codes",
    "Mahalanobis": "of the code",
    "larger": "the larger of reconstruction and code, as standardised logarithms",
    "sum": "their sum",
}
"""What each member is scored by."""

FLOORS = {
    "kNN": "distance to the 5 nearest rows",
    "isolation forest": "of 100 trees",
    "Mahalanobis of the input": "distance from the mean",
    "PCA residual": "with as many axes as the code has",
    "PCA combined": "those axes and residuals, by the combined rule",
}
"""What they are held against."""


@dataclass(frozen=True)
class Split:
    """The known half of the normal rows `[n, d]`, the rows to score `[k, d]`, and which are anomalies."""

    known: NDArray[np.float32]
    asked: NDArray[np.float32]
    anomalous: NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """A mean over sets in per cent, or points of difference, with its interval over them."""

    name: str
    value: float
    low: float
    high: float
    unit: str = "%"
    target: float | None = None
    met: bool | None = None
    better: str = "higher"


def split(name: str, seed: int) -> Split:
    """One of the sets, halved by `seed`."""
    with np.load(fetch.locate(catalogue.find(name).source.files[0])) as file:
        rows, labels = file["X"].astype(np.float64), file["y"].astype(bool)
    random = np.random.default_rng(seed)
    kept = random.permutation(len(rows))[:LARGEST]
    rows, labels = rows[kept], labels[kept]
    normals = random.permutation(np.flatnonzero(~labels))
    known, other = normals[: len(normals) // 2], normals[len(normals) // 2 :]
    asked = np.concatenate([other, np.flatnonzero(labels)])
    transform = Transform.fit(rows[known])
    return Split(transform.apply(rows[known]), transform.apply(rows[asked]), labels[asked])


def samples(rows: NDArray[np.float32]) -> Samples:
    """Rows without labels, as models take them."""
    return Samples(rows, None, np.zeros(len(rows), np.int64), np.zeros((len(rows), 32), np.uint8))


@cache
def trained_by() -> list[str]:
    """Digests of the code that makes a stack what it is; how it is judged is no part of it."""
    files = [path for part in TRAINED_BY for path in sorted((SOURCE / part).rglob("*.py"))]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def stack(known: NDArray[np.float32]) -> Trained:
    """Members trained on the known rows, or found in `var/anomaly/`."""
    params, width = load_params(), known.shape[1]
    entry = params.dataset("breast_cancer").architectures.model_dump() | {"mlp": {"hidden": [64]}}
    recipe = Recipe.resolve(
        VARIANT,
        params.variant(VARIANT),
        "mlp",
        Architectures.model_validate(entry),
        min(16, max(2, width // 3)),
        Description("tabular", (width,), tuple(map(str, range(width))), (), Transform.identity(), 1.0),
    )
    members = [Member(seed, VIEW_ALL) for seed in range(MEMBERS)]
    model = recipe.build(members)
    stop, train = (samples(each) for each in np.split(known, [max(1, len(known) // HELD_OUT)]))
    place = TRAINED / fingerprint(
        recipe=recipe.to_json(),
        members=[asdict(member) for member in members],
        training=params.training.model_dump(mode="json"),
        data=[data_digest(train), data_digest(stop)],
        code=trained_by(),
    )
    if place.exists():
        return Trained.load(place)

    def ignore(look: Look) -> None:
        del look

    device = torch.device("cpu")
    fit(model, members, train, stop, (), params.training, params.training.budget["mlp"], device, ignore)
    trained = Trained(model, members, recipe)
    trained.save(place)
    return trained


def standardised(known: Array, asked: Array) -> Array:
    """Logarithms of the scores of the rows to score, by mean and deviation of those of the known ones."""
    logs, other = (np.log(np.maximum(each, 1e-12)) for each in (known, asked))
    return np.asarray((other - logs.mean()) / max(float(logs.std()), 1e-6))


def member_scores(
    found: Split, residuals: Sequence[NDArray[np.floating]], codes: Sequence[NDArray[np.floating]]
) -> dict[str, Array]:
    """Every one of `SCORES` of the rows to score; residuals and codes are of the known, then of these."""
    rows = some_rows(len(found.known))
    scorer = Scorer.fit(residuals[0], codes[0], found.known[rows], NEIGHBOURS)
    scores = scorer.score(residuals[1], codes[1])
    few = rows[:: max(1, len(rows) // SCALED_BY)]
    usual = np.sqrt(weighted(residuals[0][few], scorer.usual))
    near = neighbour_distance(codes[0], codes[0][few], NEIGHBOURS, itself=few)
    parts = (
        standardised(usual, scores["auroc_reconstruction"]),
        standardised(near, scores["auroc_latent"]),
    )
    return {
        "combined": scores["auroc"],
        "reconstruction": scores["auroc_reconstruction"],
        "code": scores["auroc_latent"],
        "Mahalanobis": Spread.fit(codes[0]).distance(codes[1]),
        "larger": np.exp(np.maximum(*parts)),
        "sum": np.exp(np.add(*parts)),
    }


def floor_scores(found: Split, axes: int, seed: int) -> dict[str, Array]:
    """Every one of `FLOORS` of the rows to score."""
    known, asked = (np.asarray(each, dtype=np.float64) for each in (found.known, found.asked))
    fitted = pca(known, axes)
    residuals, codes = ([of(each) for each in (known, asked)] for of in (fitted.residuals, fitted.encode))
    by_rule = Scorer.fit(residuals[0], codes[0], known[some_rows(len(known))], NEIGHBOURS)
    return {
        "kNN": neighbour_distance(known, asked, NEIGHBOURS),
        "isolation forest": isolation_forest_scores(known, [asked], load_params().floors.trees, seed)[0],
        "Mahalanobis of the input": Spread.fit(known).distance(asked),
        "PCA residual": residuals[1].mean(axis=1),
        "PCA combined": by_rule.score(residuals[1], codes[1])["auroc"],
    }


def judged(name: str, seed: int) -> dict[str, float]:
    """AUROC in per cent of every score on one split of a set: members, stack and floors."""
    found = split(name, seed)
    trained = stack(found.known)
    halves = samples(found.known), samples(found.asked)
    residuals, codes = ([of(each) for each in halves] for of in (trained.residuals, trained.encode))
    members = [
        member_scores(found, [each[at] for each in residuals], [each[at] for each in codes])
        for at in range(MEMBERS)
    ]
    scores = floor_scores(found, min(trained.latent_dim, len(found.known)), seed)
    areas = {floor: auroc(each, found.anomalous) for floor, each in scores.items()}
    for score in SCORES:
        each = [member[score] for member in members]
        together = np.mean([np.log(np.maximum(one, 1e-12)) for one in each], axis=0)
        areas[f"{score}, a member"] = float(np.mean([auroc(one, found.anomalous) for one in each]))
        areas[f"{score}, {MEMBERS} members"] = auroc(together, found.anomalous)
    return {key: 100 * value for key, value in areas.items()}


def mean_over_sets(name: str, values: Array, unit: str = "%", target: float | None = None) -> Row:
    """Mean of `values` `[sets]`, with the interval of a bootstrap of sets; met where all of it is above."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = (float(each) for each in np.quantile(values[drawn].mean(axis=1), [0.025, 0.975]))
    met = None if target is None else low >= target
    return Row(name, round(float(values.mean()), 3), round(low, 3), round(high, 3), unit, target, met)


def rows_of(areas: Mapping[str, Mapping[str, float]]) -> Iterator[Row]:
    """Of every score its mean over sets and how far that is above kNN's, the paired difference."""
    names = list(next(iter(areas.values())))
    columns = {name: np.array([found[name] for found in areas.values()]) for name in names}
    wanted = f"combined, {MEMBERS} members"
    for name in names:
        yield mean_over_sets(name, columns[name])
    for name in names:
        if name != "kNN":
            target = TARGET if name == wanted else None
            yield mean_over_sets(f"{name}, over kNN", columns[name] - columns["kNN"], "points", target)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    splits: Annotated[int, typer.Option(min=1, help="How often each set is halved.")] = 3,
) -> None:
    """Score 17 public tables by every score and every floor."""
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    torch.set_num_threads(1)
    names = sorted(name for name in catalogue.entries() if name.startswith(PREFIX))
    areas: dict[str, dict[str, float]] = {}
    with threadpool_limits(1), bar("anomaly", len(names) * splits) as progress:
        for at, name in enumerate(names):
            each = []
            for seed in range(splits):
                each.append(judged(name, seed))
                progress(at * splits + seed + 1)
            means = {key: round(float(np.mean([one[key] for one in each])), 3) for key in each[0]}
            areas[name.removeprefix(PREFIX)] = means
    rows = list(rows_of(areas))
    atomic.write_json(
        RESULT,
        {
            "machine": machine("torch", "scikit-learn", "numpy"),
            "commit": commit,
            "splits": splits,
            "rows": [asdict(row) for row in rows],
            "sets": areas,
        },
    )
    for row in rows:
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        print(
            f"{row.name:<44}{row.value:>8.2f}  {row.low:.2f} to {row.high:.2f} {row.unit} {verdict}".rstrip()
        )
    print(RESULT)


if __name__ == "__main__":
    guard(app)
