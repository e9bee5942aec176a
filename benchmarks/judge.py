"""What judging costs at size: probes against scikit-learn, neighbours against torch.cdist, the bootstrap.

    python -m benchmarks.judge [--rounds 5]

Everything runs on one thread, in turns, on codes drawn from a seed: ten classes, 32 features. An encoder's
features depend on one another: a few directions hold most of the variance, and a first-order method takes
long. Independent ones are the easiest there is for it. Writes `benchmarks/judge.json`.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from benchmarks.figures import ROOT, Row, git, machine, row, table, warn_if_busy
from latentops import atomic
from latentops.cli import guard
from latentops.config import load_params
from latentops.evaluation.anomaly import neighbour_distance, reference_rows
from latentops.evaluation.clustering import CLUSTERED, clusters
from latentops.evaluation.contingency import CLASSIFIED, Contingency
from latentops.evaluation.few_labels import draw, few_label_classes
from latentops.evaluation.knn import knn_classes
from latentops.evaluation.probe import logistic_regression
from latentops.evaluation.statistics import Replicates, Resampling, auroc
from latentops.progress import bar

RESULT = ROOT / "benchmarks/judge.json"
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
TRAIN, TEST, FEATURES, CLASSES = 60_000, 10_000, 32, 10
NEIGHBOURS = 5
RESAMPLES = 2000
TOGETHER = 0.8
"""Deviation of a direction over the one before in dependent features."""
WORSE = 1e-9
"""Nats by which an objective may lie above lbfgs's and still count as no worse: rounding."""

Array = NDArray[np.float64]


def codes(rows: int, seed: int, decay: float) -> tuple[Array, NDArray[np.int64]]:
    """Codes `[rows, FEATURES]` of mean 0 and deviation 1 in ten classes, and the classes.

    Clusters with a spread of 1 whose centres have one of 1/2 in each direction; then each direction is
    shortened to `decay` of the one before, and all are turned into features.
    """
    shape = np.random.default_rng(0)
    centres = 0.5 * shape.normal(size=(CLASSES, FEATURES))
    turn, back = (np.linalg.qr(shape.normal(size=(FEATURES, FEATURES)))[0] for _ in range(2))
    mixing = turn * decay ** np.arange(FEATURES) @ back
    random = np.random.default_rng([1, seed])
    labels = random.integers(0, CLASSES, rows)
    made = (centres[labels] - centres.mean(axis=0) + random.normal(size=(rows, FEATURES))) @ mixing
    covariance = mixing.T @ (np.cov(centres.T, bias=True) + np.eye(FEATURES)) @ mixing
    return made / np.sqrt(np.diag(covariance)), labels


def seconds(work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """How long `work` of `given` took, and what it returned."""
    began = time.perf_counter()
    result = work(*given)
    return time.perf_counter() - began, result


def with_bias(rows: Array) -> torch.Tensor:
    """Rows `[n, d]` as the probe takes them: float32 `[d + 1, n]`."""
    return torch.nn.functional.pad(torch.from_numpy(rows).float().T, (0, 0, 0, 1), value=1.0)


def lbfgs(rows: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[float, Array]:
    """scikit-learn's weights `[classes, d + 1]`, the bias last, for each strength."""
    found = {}
    for strength in STRENGTHS:
        peer = LogisticRegression(C=1 / (strength * len(rows)), max_iter=1000).fit(rows, labels)
        found[strength] = np.concatenate([peer.coef_, peer.intercept_[:, None]], axis=1).astype(np.float64)
    return found


def probe(rows: Array, labels: NDArray[np.int64]) -> dict[float, Array]:
    """Our weights in the same form."""
    fits = logistic_regression(with_bias(rows), torch.from_numpy(labels), CLASSES, STRENGTHS)
    return {strength: weights.double().numpy() for strength, weights in fits}


def objective(weights: Array, rows: Array, labels: NDArray[np.int64], strength: float) -> float:
    """Mean cross-entropy with the penalty, in float64."""
    logits = torch.from_numpy(rows @ weights[:, :-1].T + weights[:, -1])
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    return float(loss) + 0.5 * strength * float((weights[:, :-1] ** 2).sum())


def accuracy(weights: Array, rows: Array, labels: NDArray[np.int64]) -> float:
    """Share of rows whose class is predicted."""
    return float(((rows @ weights[:, :-1].T + weights[:, -1]).argmax(axis=1) == labels).mean())


def probe_rows(rounds: int, kind: str, decay: float, target: float | None) -> list[Row]:
    """The probe over all strengths against scikit-learn's lbfgs with its default tolerance."""
    (rows, labels), (test, test_labels) = codes(TRAIN, 0, decay), codes(TEST, 1, decay)
    single = rows.astype(np.float32)
    for warm in (probe, lbfgs):
        warm(rows[:6000], labels[:6000])
    times: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        probe(rows, labels)  # reads them: a virtual machine takes back memory that nobody read for seconds
        took, ours = seconds(probe, rows, labels)
        peer, theirs = seconds(lbfgs, rows, labels)
        times.append((took, peer, seconds(lbfgs, single, labels)[0]))
    above = [objective(ours[s], rows, labels, s) - objective(theirs[s], rows, labels, s) for s in STRENGTHS]
    apart = [
        100 * abs(accuracy(ours[s], test, test_labels) - accuracy(theirs[s], test, test_labels))
        for s in STRENGTHS
    ]
    return [
        row(f"probe, {kind}: lbfgs over ours", [p / t for t, p, _ in times], "×", target, "higher"),
        row(f"probe, {kind}: lbfgs in float32 over ours", [s / t for t, _, s in times], "×"),
        row(f"probe, {kind}: ours, five strengths", [t for t, *_ in times], "s"),
        row(f"probe, {kind}: no strength's objective is worse", [a <= WORSE for a in above], "yes/no", True),
        row(f"probe, {kind}: most that test accuracy differs", [max(apart)], "%"),
    ]


def cdist(reference: Array, queries: Array) -> Array:
    """The same mean distances by torch.cdist, in blocks of queries, or they would fill the memory."""
    known = torch.from_numpy(reference)
    parts = torch.split(torch.from_numpy(queries), 500)
    found = [torch.cdist(part, known).topk(NEIGHBOURS, largest=False).values.mean(1) for part in parts]
    return torch.cat(found).numpy()


def neighbour_rows(rounds: int) -> list[Row]:
    """Distances of 10,000 queries, half of them anomalies, to 60,000 codes and to a tenth of them.

    Anomalies lie 1.3 times as far out. A round has codes of its own, for the error of the AUROC.
    """
    anomalous = np.arange(TEST) % 2 == 1
    times: list[tuple[float, float, float]] = []
    same, areas, errors = [], [], []
    for seed in range(rounds):
        reference, queries = (codes(n, 2 * seed + k, TOGETHER)[0] for k, n in enumerate((TRAIN, TEST)))
        queries[anomalous] *= 1.3
        took, exact = seconds(neighbour_distance, reference, queries, NEIGHBOURS)
        peer, theirs = seconds(cdist, reference, queries)
        tenth = reference_rows(reference, TRAIN // 10)
        less, sampled = seconds(neighbour_distance, tenth, queries, NEIGHBOURS)
        times.append((took, peer, less))
        same.append(bool(np.allclose(exact, theirs, rtol=1e-6)))
        areas.append(100 * auroc(exact, anomalous))
        errors.append(100 * auroc(sampled, anomalous) - areas[-1])
    return [
        row("neighbours: torch.cdist over ours, exact", [p / t for t, p, _ in times], "×"),
        row("neighbours: ours, exact", [t for t, *_ in times], "s"),
        row("neighbours: distances are torch.cdist's", same, "yes/no", True),
        row("neighbours: exact over a tenth of the codes", [t / less for t, _, less in times], "×"),
        row("neighbours: AUROC, exact", areas, "%"),
        row("neighbours: AUROC with a tenth, less the exact one", errors, "%"),
    ]


def probing_rows(rounds: int) -> list[Row]:
    """What else reads one seed's codes: neighbours, few labels and clusters, as the settings have them."""
    (rows, labels), (test, truth) = codes(TRAIN, 0, TOGETHER), codes(TEST, 1, TOGETHER)
    known, asked = rows.astype(np.float32), test.astype(np.float32)
    settings = load_params().evaluation
    neighbours, few, starts = settings.knn.neighbours, settings.few_labels, settings.clustering.starts
    drawn = [draw(labels, CLASSES, count, few.draws, few.seed) for count in few.labels]
    learned = [each for each in drawn if each is not None]

    def peer() -> NDArray[np.int64]:
        found = KNeighborsClassifier(neighbours, algorithm="brute").fit(known, labels).predict(asked)
        return np.asarray(found, dtype=np.int64)

    def few_labels() -> list[float]:
        found = [few_label_classes(known, each, asked, STRENGTHS) for each in learned]
        return [float((each == truth).mean()) for each in found]

    times: list[tuple[float, float, float, float]] = []
    for _ in range(rounds):
        took, ours = seconds(knn_classes, known, labels, asked, neighbours)
        other, theirs = seconds(peer)
        times.append((took, other, seconds(few_labels)[0], seconds(clusters, asked, CLASSES, starts)[0]))
    numbers = " and ".join(str(count) for count in few.labels)
    return [
        row("kNN probe: scikit-learn over ours", [p / t for t, p, *_ in times], "×"),
        row("kNN probe: ours", [t for t, *_ in times], "s"),
        row("kNN probe: classes are scikit-learn's", [100 * float((ours == theirs).mean())], "%"),
        row(f"few labels, {numbers} a class: {few.draws} draws of each", [t for *_, t, _ in times], "s"),
        row(f"clusters: {starts} starts on the test codes", [t for *_, t in times], "s"),
    ]


def auroc_interval(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> tuple[float, float]:
    """Draws, replicates and the interval for `scores` `[seeds, test]`; class 0 is normal."""
    blocks = list(Resampling.draw(labels, RESAMPLES, seed=0))
    values = np.array([auroc(each, labels > 0) for each in scores])
    resampled = np.concatenate([block.auroc(scores, labels > 0) for block in blocks])
    found = Replicates(values, resampled, blocks[0].drawn, blocks[0].freedom)
    return found.estimate().interval(0.95, share=True)


def counted(
    metrics: dict[str, Callable[[Contingency], Array]], labels: NDArray[np.int64], found: NDArray[np.int64]
) -> list[dict[str, Array]]:
    """Draws, and the replicates of each of `metrics`."""
    blocks = Resampling.draw(labels, RESAMPLES, seed=0)
    return [block.counted(metrics, labels, found) for block in blocks]


def bootstrap_rows(rounds: int) -> list[Row]:
    """Intervals of what is counted by class, and of the AUROC, of which also one seed's on 100,000 rows."""
    rows = []
    labels = np.arange(TEST) % CLASSES
    found = np.random.default_rng(0).integers(0, CLASSES, size=(5, TEST))
    for title, metrics in (("balanced accuracy and macro-F1", CLASSIFIED), ("NMI and ARI", CLUSTERED)):
        name = f"intervals of {title}: rows {TEST:,}, seeds 5, resamples {RESAMPLES:,}"
        rows.append(row(name, [seconds(counted, metrics, labels, found)[0] for _ in range(rounds)], "s"))
    for test, seeds, times in ((TEST, 5, rounds), (10 * TEST, 1, 1)):
        labels = np.arange(test) % CLASSES
        scores = np.random.default_rng(0).normal(size=(seeds, test)).astype(np.float32) + (labels > 0)
        name = f"interval of AUROC: rows {test:,}, seeds {seeds}, resamples {RESAMPLES:,}"
        rows.append(row(name, [seconds(auroc_interval, labels, scores)[0] for _ in range(times)], "s"))
    return rows


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed, in turns.")] = 5,
) -> None:
    """Time the probe, the neighbours and the bootstrap at size, against public tools."""
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    taken_on = machine("torch", "scikit-learn", "numpy")
    warn_if_busy(taken_on)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="sklearn")
    parts: list[Callable[[], list[Row]]] = [
        lambda: probe_rows(rounds, "dependent features", TOGETHER, target=15.0),
        lambda: probe_rows(rounds, "independent features", 1.0, target=None),
        lambda: neighbour_rows(rounds),
        lambda: probing_rows(rounds),
        lambda: bootstrap_rows(rounds),
    ]
    rows: list[Row] = []
    with threadpool_limits(1), bar("judge", len(parts)) as progress:
        for done, part in enumerate(parts, 1):
            rows += part()
            progress(done)
    atomic.write_json(RESULT, {"machine": taken_on, "commit": commit, "rows": [asdict(one) for one in rows]})
    print(*table(rows), RESULT, sep="\n")


if __name__ == "__main__":
    guard(app)
