"""One protocol for every variant and every floor: codes and errors in, metrics and per-sample results out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from latentops.config import Evaluation
from latentops.data import prepared
from latentops.data.prepared import SPLITS, Samples, SplitName
from latentops.evaluation.anomaly import (
    Scorer,
    Spread,
    mean_error,
    neighbour_distance,
    reference_rows,
    some_rows,
)
from latentops.evaluation.clustering import CLUSTERED, clusters
from latentops.evaluation.conformal import threshold
from latentops.evaluation.contingency import CLASSIFIED, Contingency, few_label_metric
from latentops.evaluation.few_labels import draw, few_label_classes
from latentops.evaluation.floors import numbers
from latentops.evaluation.knn import knn_classes, knn_means
from latentops.evaluation.probe import Probe, fit_probe
from latentops.evaluation.ridge import fit_ridge, unexplained
from latentops.evaluation.statistics import auroc, average_precision, false_alarm_at_95
from latentops.evaluation.timeline import Alarms, Timeline

Role = Literal["variant", "rival", "reference"]
VIEW_ALL = "all"


Made = Callable[[str, SplitName], NDArray[np.floating]]
"""From a view's name (its members, trained on that view alone) and a split to what they make of those of its
rows that `Field.asked` names."""


@dataclass(frozen=True)
class Coder:
    """What a model makes of samples: codes `[seeds, n, latent]` and, where it has a decoder, residuals.

    `residuals` are the reconstruction's, squared, `[seeds, n, values]`, NaN where no value is. The judge asks
    for each thing once, and looks at one seed of it at a time; so it need not lie in memory. `own` are
    anomaly scores `[seeds, n]` that it has and others don't, by the name of the metric they are judged by.
    """

    codes: Made
    residuals: Made | None = None
    own: Mapping[str, Made] = field(default_factory=dict)


PREFIXES: dict[SplitName, str] = {"stop": "stop_", "test": ""}
"""Splits whose metrics are kept, and what their names start with."""


@dataclass(frozen=True)
class Field:
    """What is judged on: the splits, the class names, the views called normal, and the settings.

    Where rows are windows of long series `every` is the seconds from one step to the next; of tokens there
    are so many in the `vocabulary`.
    """

    samples: dict[SplitName, Samples]
    classes: Sequence[str]
    normal: Sequence[str]
    settings: Evaluation
    every: float | None = None
    vocabulary: int | None = None

    @classmethod
    def read(cls, source: Path, normal: Sequence[str], settings: Evaluation) -> "Field":
        """All splits of the prepared dataset in `source`."""
        description = prepared.describe(source)
        return cls(
            {split: prepared.load(source, split) for split in SPLITS},
            description.classes,
            normal,
            settings,
            description.every,
            description.vocabulary,
        )

    @property
    def labelled(self) -> bool:
        """Whether there are classes to tell apart; rows without a label are all of one."""
        return len(self.classes) > 1

    def labels(self, split: SplitName) -> NDArray[np.int64]:
        """Class index of each row."""
        return np.array(self.samples[split].labels)

    @property
    def targeted(self) -> bool:
        """Whether the label is a number."""
        return self.samples["train"].targets is not None

    def targets(self, split: SplitName) -> NDArray[np.float64]:
        """The label of each row where it is a number."""
        return np.array(self.samples[split].targets, dtype=np.float64)

    def asked(self, view: str, split: SplitName) -> slice | NDArray[np.bool_]:
        """Which rows of a split a view's members are asked for.

        What a score is fitted on, and what sets its threshold, are normal rows alone.
        """
        if view == VIEW_ALL or split not in ("train", "calibration"):
            return slice(None)
        return self.is_normal(split, view)

    def given(self, view: str, split: SplitName) -> Samples:
        """Those rows."""
        return self.samples[split].select(self.asked(view, split))

    def inputs(self, split: SplitName, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """What some rows are made of `[m, …]`; of tokens how many there are of each."""
        return numbers(self.samples[split].select(rows), self.vocabulary)

    def is_normal(self, split: SplitName, view: str) -> NDArray[np.bool_]:
        """Which rows belong to the class that `view` holds."""
        return np.asarray(self.labels(split) == self.classes.index(view))


@dataclass
class Verdict:
    """A leaderboard row in the making: `metrics` hold one value a seed, `samples` one result a test item.

    `probe` is what its codes were read by, for who asks more of it; of no problems where none was.
    """

    name: str
    role: Role
    latent_dim: int | None
    seeds: list[int]
    metrics: dict[str, list[float]]
    samples: dict[str, NDArray[Any]]
    probe: Probe = field(default_factory=lambda: Probe((), (), (), ()))

    def to_json(self) -> dict[str, Any]:
        """The row without its per-sample results."""
        return {
            "name": self.name,
            "role": self.role,
            "latent_dim": self.latent_dim,
            "seeds": self.seeds,
            "metrics": {name: {"values": values} for name, values in sorted(self.metrics.items())},
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Per-sample results under `<row name>/…`."""
        return {f"{self.name}/{key}": np.ascontiguousarray(value) for key, value in self.samples.items()}


def judge(
    field: Field, name: str, role: Role, latent_dim: int | None, seeds: Sequence[int], coder: Coder
) -> Verdict:
    """Probe, anomaly scores and reconstruction error of one row of the leaderboard."""
    verdict = Verdict(name, role, latent_dim, list(seeds), {}, {})
    judge_probe(field, verdict, coder)
    if coder.residuals is not None:
        residuals = coder.residuals(VIEW_ALL, "test")
        error = np.stack([mean_error(each) for each in residuals]).astype(np.float32)
        verdict.samples["reconstruction_error"] = error
        verdict.metrics["reconstruction_error"] = error.mean(axis=1).astype(float).tolist()
    judge_anomaly(field, verdict, coder)
    return verdict


Codes = dict[SplitName, torch.Tensor]
"""Codes `[seeds, n, latent]` of the members that saw all rows."""

READ: tuple[SplitName, ...] = ("train", "stop", "test")
LEARNED: tuple[SplitName, ...] = ("train", "test")
"""Splits that the linear probe takes, and those that whatever chooses nothing on `stop` does."""


Standardised = dict[SplitName, list[NDArray[np.float32]]]
"""Codes `[n, latent]` of each seed, of mean 0 and deviation 1 on the training rows."""


def judge_probe(field: Field, verdict: Verdict, coder: Coder) -> None:
    """What reads labels from the codes of the members that saw all rows, where there are labels to read."""
    if not (field.labelled or field.targeted):
        return
    codes = {split: torch.from_numpy(np.array(coder.codes(VIEW_ALL, split))) for split in READ}
    if field.targeted:
        judge_regression(field, verdict, codes)
        return
    judge_linear(field, verdict, codes)
    standardised: Standardised = {}
    for split in LEARNED:
        each = zip(verdict.probe.standards, codes.pop(split), strict=True)
        standardised[split] = [standard.apply(rows).numpy() for standard, rows in each]
    judge_knn(field, verdict, standardised)
    judge_few_labels(field, verdict, standardised)
    judge_clusters(field, verdict, standardised)


def judge_linear(field: Field, verdict: Verdict, codes: Codes) -> None:
    """The linear probe: what it predicts, and with how much certainty."""
    labels = {split: torch.from_numpy(field.labels(split)) for split in READ}
    strengths, classes = field.settings.probe.strengths, len(field.classes)
    verdict.probe = fit_probe(
        codes["train"], labels["train"], codes["stop"], labels["stop"], strengths, classes
    )
    logits = verdict.probe.logits(codes["test"])
    truth, predicted = labels["test"].numpy(), logits.argmax(1).numpy()
    nats = cross_entropy(logits, labels["test"].expand(len(logits), -1), reduction="none").numpy()
    tables = [Contingency.of(truth, each) for each in predicted]
    verdict.samples |= {"probe_predicted": predicted.astype(np.uint16), "probe_log_loss": nats}
    verdict.metrics |= {
        "probe_accuracy": (predicted == truth).mean(axis=1).tolist(),
        **{name: [float(of(table)[0]) for table in tables] for name, of in CLASSIFIED.items()},
        "probe_log_loss": nats.mean(axis=1, dtype=np.float64).tolist(),
        "stop_probe_accuracy": list(verdict.probe.stop_accuracy),
    }


def judge_regression(field: Field, verdict: Verdict, codes: Codes) -> None:
    """Ridge regression and the mean of the nearest codes: how far off they are, row by row.

    R² is of nothing where all rows of a split have the same target, and then left out.
    """
    knn, strengths = field.settings.knn, field.settings.probe.strengths
    targets = {split: field.targets(split) for split in READ}
    known = reference_rows(targets["train"], knn.reference)
    told: dict[str, list[NDArray[np.float64]]] = {"stop": [], "test": [], "knn": []}
    for train, stop, test in zip(*(codes[split] for split in READ), strict=True):
        ridge = fit_ridge(train, targets["train"], stop, targets["stop"], strengths)
        told["stop"].append(ridge.predict(stop))
        told["test"].append(ridge.predict(test))
        near, asked = (ridge.standard.apply(rows).numpy() for rows in (train, test))
        told["knn"].append(knn_means(reference_rows(near, knn.reference), known, asked, knn.neighbours))
    found = {name: np.stack(each) for name, each in told.items()}
    missed = np.abs(found["test"] - targets["test"])
    verdict.samples["absolute_error"] = missed.astype(np.float32)
    verdict.metrics["mae"] = missed.mean(axis=1).tolist()
    if np.ptp(targets["stop"]) > 0:
        verdict.metrics["stop_r2"] = (1 - unexplained(found["stop"], targets["stop"]).mean(axis=1)).tolist()
    if np.ptp(targets["test"]) > 0:
        for prefix, name in (("", "test"), ("knn_", "knn")):
            terms = unexplained(found[name], targets["test"])
            verdict.samples[f"{prefix}unexplained"] = terms.astype(np.float32)
            verdict.metrics[f"{prefix}r2"] = (1 - terms.mean(axis=1)).tolist()


def judge_knn(field: Field, verdict: Verdict, codes: Standardised) -> None:
    """The kNN probe: which test rows it gets right."""
    settings, labels = field.settings.knn, field.labels("train")
    known = reference_rows(labels, settings.reference)
    correct = [
        knn_classes(reference_rows(train, settings.reference), known, test, settings.neighbours)
        == field.labels("test")
        for train, test in zip(codes["train"], codes["test"], strict=True)
    ]
    verdict.samples["knn_correct"] = np.stack(correct).astype(np.uint8)
    verdict.metrics["knn_accuracy"] = [float(each.mean()) for each in correct]


def judge_few_labels(field: Field, verdict: Verdict, codes: Standardised) -> None:
    """Probes that learn from a few rows of each class: which test rows each draw's one gets right."""
    settings, strengths = field.settings.few_labels, field.settings.probe.strengths
    for count in settings.labels:
        drawn = draw(field.labels("train"), len(field.classes), count, settings.draws, settings.seed)
        if drawn is None:
            continue
        correct = [
            few_label_classes(train, drawn, test, strengths) == field.labels("test")
            for train, test in zip(codes["train"], codes["test"], strict=True)
        ]
        verdict.samples[f"few_labels_correct/{count}"] = np.stack(correct).astype(np.uint8)
        verdict.metrics[few_label_metric(count)] = [float(each.mean()) for each in correct]


def judge_clusters(field: Field, verdict: Verdict, codes: Standardised) -> None:
    """Clusters of the test rows' codes, as many as there are classes, which they are then held against."""
    count, starts = len(field.classes), field.settings.clustering.starts
    found = np.stack([clusters(each, count, starts) for each in codes["test"]])
    tables = [Contingency.of(field.labels("test"), each) for each in found]
    verdict.samples["cluster"] = found.astype(np.uint16)
    verdict.metrics |= {name: [float(of(table)[0]) for table in tables] for name, of in CLUSTERED.items()}


def judge_anomaly(field: Field, verdict: Verdict, coder: Coder) -> None:
    """Scores of every view's members on `stop` and `test`; every other class is the anomaly.

    A code without a decoder is scored by the code alone.
    """
    for view in field.normal:
        scores = (
            code_scores(field, view, coder.codes)
            if coder.residuals is None
            else combined_scores(field, view, coder.codes, coder.residuals)
        )
        for split, found in scores.items():
            found |= {name: made(view, split) for name, made in coder.own.items()}
        add_scores(field, verdict, view, scores)
    average_views(field, verdict)


MAHALANOBIS = "auroc_mahalanobis"
"""The metric that the Mahalanobis distance of the code is judged by."""

SCORED: tuple[SplitName, ...] = ("stop", "calibration", "test")

OF_COMBINED = {"average_precision": average_precision, "false_alarm_at_95": false_alarm_at_95}
"""What else the combined score is judged by, on the test rows."""

Scores = dict[SplitName, dict[str, NDArray[Any]]]
"""Of each split each score `[seeds, n]` of the rows `Field.asked` names, by its metric's name.

`calibration` is for the threshold of the combined score, and has no other.
"""


def combined_scores(field: Field, view: str, codes: Made, residuals: Made) -> Scores:
    """Reconstruction, code and both together, fitted on the view's training rows."""
    settings, normals = field.settings.anomaly, np.flatnonzero(field.is_normal("train", view))
    inputs = field.inputs("train", normals[some_rows(len(normals))])
    scorers = [
        (Scorer.fit(r, c, inputs, settings.neighbours, settings.reference), Spread.fit(c))
        for r, c in zip(residuals(view, "train"), codes(view, "train"), strict=True)
    ]
    result: Scores = {}
    for split in SCORED:
        made = zip(scorers, residuals(view, split), codes(view, split), strict=True)
        each = [
            scorer.score(r, c) | {MAHALANOBIS: spread.distance(c)}
            if split in PREFIXES
            else {"auroc": scorer.combined(r, c)}
            for (scorer, spread), r, c in made
        ]
        result[split] = {name: np.stack([one[name] for one in each]) for name in each[0]}
    return result


def code_scores(field: Field, view: str, codes: Made) -> Scores:
    """Distance to the nearest codes of the view's training rows, and to their centre."""
    settings = field.settings.anomaly
    fold = [(reference_rows(each, settings.reference), Spread.fit(each)) for each in codes(view, "train")]
    result: Scores = {}
    for split in SCORED:
        pairs = list(zip(fold, codes(view, split), strict=True))
        distance = np.stack([neighbour_distance(k, each, settings.neighbours) for (k, _), each in pairs])
        result[split] = {"auroc": distance}
        if split in PREFIXES:
            centred = np.stack([spread.distance(each) for (_, spread), each in pairs])
            result[split] |= {"auroc_latent": distance, MAHALANOBIS: centred}
    return result


def add_scores(field: Field, verdict: Verdict, view: str, scores: Scores) -> None:
    """Keep one view's test scores, and which test normals a threshold promised at `alpha` would flag.

    Of the combined score there are the average precision and the false alarms at 95 % detection too. A split
    that has no anomaly, or nothing else, has none of these metrics.
    """
    for score, values in scores["test"].items():
        for split, prefix in PREFIXES.items():
            anomalous = ~field.is_normal(split, view)
            if anomalous.all() or not anomalous.any():
                continue
            per_seed = [auroc(seed, anomalous) for seed in scores[split][score].astype(np.float32)]
            verdict.metrics[f"{prefix}{score}/{view}"] = per_seed
            if split == "test":
                verdict.samples[f"score/{view}/{score}"] = values.astype(np.float32)
    anomalous = ~field.is_normal("test", view)
    if anomalous.any() and not anomalous.all():
        for name, metric in OF_COMBINED.items():
            per_seed = [metric(seed, anomalous) for seed in scores["test"]["auroc"].astype(np.float32)]
            verdict.metrics[f"{name}/{view}"] = per_seed
    limits = [threshold(seed, field.settings.anomaly.alpha) for seed in scores["calibration"]["auroc"]]
    verdict.samples[f"limit/{view}"] = np.array(limits, dtype=np.float32)
    flagged = scores["test"]["auroc"] > np.array(limits)[:, None]
    false_alarm = np.where(~anomalous, flagged.astype(np.float32), np.float32("nan"))
    if not anomalous.all():
        verdict.samples[f"false_alarm/{view}"] = false_alarm
        verdict.metrics[f"false_alarm_rate/{view}"] = np.nanmean(false_alarm, axis=1).astype(float).tolist()
    if field.every is not None:
        add_stamps(field, field.every, verdict, view, scores)


def add_stamps(field: Field, every: float, verdict: Verdict, view: str, scores: Scores) -> None:
    """Of windows `every` seconds a step: how the time stamps of the test are scored, and what is flagged.

    The threshold is that of the calibration's stamps. They aren't exchangeable with those of the test, which
    come later, so it promises nothing.
    """
    known = Timeline.of(field.given(view, "calibration"), every)
    asked = Timeline.of(field.samples["test"], every)
    if len(np.unique(asked.marked)) < 2:
        return  # without a stamp of each kind there is nothing to tell apart
    stamps = np.stack([asked.mean(seed) for seed in scores["test"]["auroc"]]).astype(np.float32)
    alpha = field.settings.anomaly.alpha
    limits = [threshold(known.mean(seed), alpha) for seed in scores["calibration"]["auroc"]]
    alarms = [Alarms.of(asked, seed > limit) for seed, limit in zip(stamps, limits, strict=True)]
    found = {
        "stamp_hit": np.stack([each.hit for each in alarms]),
        "stamp_alarm": np.stack([each.false for each in alarms]),
        "stamp_limit": np.array(limits),
        "stamp_score": stamps,
    }
    for name, values in found.items():
        verdict.samples[f"{name}/{view}"] = values.astype(np.float32)
    verdict.metrics |= {
        f"timestamp_auroc/{view}": [auroc(seed, asked.marked) for seed in stamps],
        f"marks_hit/{view}": np.nanmean(found["stamp_hit"], axis=1).tolist(),
        f"false_alarms_per_day/{view}": np.nanmean(found["stamp_alarm"], axis=1).tolist(),
    }


def average_views(field: Field, verdict: Verdict) -> None:
    """Each per-view metric averaged over the views, seed by seed, takes the place of its parts."""
    parts: dict[str, list[list[float]]] = {}
    for key in [key for key in verdict.metrics if "/" in key]:
        parts.setdefault(key.split("/")[0], []).append(verdict.metrics.pop(key))
    for metric, views in parts.items():
        verdict.metrics[metric] = np.mean(np.array(views), axis=0).tolist()
