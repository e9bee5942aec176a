"""Rows with intervals, paired comparisons, the choice of a variant, and the gates it has to pass."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentops.config import Comparison
from latentops.errors import DataError
from latentops.evaluation.clustering import CLUSTERED
from latentops.evaluation.contingency import CLASSIFIED, few_label_metric
from latentops.evaluation.statistics import (
    Array,
    Replicates,
    Resampling,
    holm,
    rank_correlation_interval,
    spearman,
    student_interval,
)

COMPARED = ("probe_accuracy", "r2", "auroc")
"""Metrics on which every variant is paired with its rivals."""

PLAIN = "undercomplete"
"""The variant that asks nothing more of the code than the reconstruction."""

TITLES = {"probe_accuracy": "probe accuracy", "auroc": "AUROC", "r2": "R²"}
"""What a gate's text calls them."""


@dataclass(frozen=True)
class Row:
    """One row of results: what `evaluate` or `floors` wrote of it."""

    name: str
    role: str
    latent_dim: int | None
    seeds: list[int]
    values: dict[str, list[float]]
    samples: dict[str, NDArray[Any]]

    @classmethod
    def read(cls, row: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Row":
        """A row of `metrics.json` with its tensors of `samples.safetensors`."""
        prefix = f"{row['name']}/"
        return cls(
            row["name"],
            row["role"],
            row["latent_dim"],
            row["seeds"],
            {metric: entry["values"] for metric, entry in row["metrics"].items()},
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)},
        )

    def of_seed(self, seed: int) -> "Row":
        """What one seed did."""
        at = self.seeds.index(seed)
        values = {metric: each[at : at + 1] for metric, each in self.values.items()}
        samples = {key: each[at : at + 1] for key, each in self.samples.items()}
        return Row(self.name, self.role, self.latent_dim, [seed], values, samples)

    def resampled(
        self,
        resampling: Resampling,
        labels: NDArray[np.int64],
        classes: Sequence[str],
        targets: NDArray[np.float64] | None = None,
    ) -> dict[str, Array]:
        """Every test metric that this row has on each resample, `[resamples, seeds]`."""
        result: dict[str, Array] = {}
        if "probe_predicted" in self.samples:
            predicted = self.samples["probe_predicted"]
            result["probe_accuracy"] = resampling.mean((predicted == labels).astype(np.float32))
            result |= resampling.counted(CLASSIFIED, labels, predicted)
        if "cluster" in self.samples:
            result |= resampling.counted(CLUSTERED, labels, self.samples["cluster"])
        if "knn_correct" in self.samples:
            result["knn_accuracy"] = resampling.mean(self.samples["knn_correct"].astype(np.float32))
        for metric, name in _MEANS.items():
            if name in self.samples:
                result[metric] = resampling.mean(self.samples[name])
        if targets is not None:
            result |= {
                metric: resampling.r2(self.samples[name], targets)
                for metric, name in _EXPLAINED.items()
                if name in self.samples
            }
        return result | self._views_resampled(resampling, labels, classes)

    def _views_resampled(
        self, resampling: Resampling, labels: NDArray[np.int64], classes: Sequence[str]
    ) -> dict[str, Array]:
        """What is of views, the mean over them, and of few labels."""
        result: dict[str, Array] = {}
        views: dict[str, list[Array]] = {}
        for key, values in self.samples.items():
            kind, _, rest = key.partition("/")
            if kind == "few_labels_correct":
                result[few_label_metric(int(rest))] = resampling.mean_of_draws(values)
            elif kind == "score":
                view, _, metric = rest.rpartition("/")
                anomalous = labels != classes.index(view)
                views.setdefault(metric, []).append(resampling.auroc(values, anomalous))
                if metric == "auroc":
                    for name, of in (
                        ("average_precision", resampling.average_precision),
                        ("false_alarm_at_95", resampling.false_alarm_at_95),
                    ):
                        views.setdefault(name, []).append(of(values, anomalous))
            elif kind == "false_alarm":
                views.setdefault("false_alarm_rate", []).append(resampling.mean(values))
        result.update({metric: np.asarray(np.mean(each, axis=0)) for metric, each in views.items()})
        return result

    def stamps_resampled(self, resampling: Resampling, marked: NDArray[np.bool_]) -> dict[str, Array]:
        """Likewise of every metric of time stamps, some of which are `marked` `[T]`."""
        views: dict[str, list[Array]] = {}
        for key, values in self.samples.items():
            kind = key.partition("/")[0]
            if kind == "stamp_score":
                views.setdefault("timestamp_auroc", []).append(resampling.auroc(values, marked))
            elif kind in _STAMPED:
                views.setdefault(_STAMPED[kind], []).append(resampling.mean(values))
        return {metric: np.asarray(np.mean(each, axis=0)) for metric, each in views.items()}


_MEANS = {
    "probe_log_loss": "probe_log_loss",
    "reconstruction_error": "reconstruction_error",
    "mae": "absolute_error",
}
"""Metrics that are means over items, by what they are the means of."""

_EXPLAINED = {"r2": "unexplained", "knn_r2": "knn_unexplained"}
"""Those that are the share of the targets' variance that is explained, by what isn't."""

_STAMPED = {"stamp_hit": "marks_hit", "stamp_alarm": "false_alarms_per_day"}


@dataclass(frozen=True)
class Stamps:
    """The time stamps `[T]` of the test: which are `marked`, and the `units` that are drawn together."""

    marked: NDArray[np.bool_]
    units: NDArray[np.int64]


def compare(
    rows: Sequence[Row],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    primary: str,
    alive: Mapping[str, bool],
    settings: Comparison,
    retention: float,
    stamps: Stamps | None = None,
    targets: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Everything `compare` writes about one dataset but its name.

    `labels` `[test]` are the test items' classes; `alive` says of each variant whether it passed its checks.
    Of long series there are `stamps` as well, of a label that is a number the items' `targets` `[test]`.
    Without a primary metric, as without labels, or without one on the stop rows, nothing is chosen, and there
    are no gates to pass. Raises `DataError` where it has no value on the test rows.
    """
    variants = [row for row in rows if row.role == "variant"]
    if primary != "none" and any(primary not in row.values for row in variants):
        takes = "labels that differ" if primary == "r2" else "both normal rows and anomalies"
        raise DataError(
            f"the test rows have no {primary}: it takes {takes}; give `split.test` a larger share, or move "
            "`split.cuts`"
        )
    replicates = _replicates(
        rows,
        Resampling.draw(labels, settings.resamples, settings.seed),
        lambda row, resampling: row.resampled(resampling, labels, classes, targets),
    )
    if stamps is not None:
        marked = stamps.marked
        found = _replicates(
            rows,
            Resampling.draw(marked, settings.resamples, settings.seed, units=stamps.units),
            lambda row, resampling: row.stamps_resampled(resampling, marked),
        )
        replicates = {name: each | found[name] for name, each in replicates.items()}
    paired = comparisons(rows, replicates, settings.confidence)
    pairs = among_variants(rows, replicates, settings.confidence)
    board = {
        "primary": primary,
        "rows": [board_row(row, replicates[row.name], settings.confidence) for row in rows],
        "comparisons": paired,
        "among_variants": pairs,
    }
    if primary == "none" or any(f"stop_{primary}" not in row.values for row in variants):
        nothing = {"not_told_apart": [], "gates": [], "passed": False, "error_rank_correlation": None}
        return {**board, "chosen": None, **nothing, "error_rank_interval": None}
    chosen = choose(rows, primary)
    verdicts = [
        *rival_gates(chosen, primary, paired),
        retention_gate(chosen, rows, primary, retention),
        alive_gate(chosen, alive),
    ]
    errors, metrics = (
        [replicates[row.name][metric] for row in variants] for metric in ("reconstruction_error", primary)
    )
    return {
        **board,
        "chosen": {"variant": chosen.name, "seed": best_seed(chosen, primary)},
        "not_told_apart": not_told_apart(chosen.name, primary, pairs),
        "gates": verdicts,
        "passed": all(verdict["passed"] for verdict in verdicts),
        "error_rank_correlation": spearman(
            [float(each.values.mean()) for each in errors], [float(each.values.mean()) for each in metrics]
        ),
        "error_rank_interval": rank_correlation_interval(errors, metrics, settings.confidence, settings.seed),
    }


def _replicates(
    rows: Sequence[Row],
    resamplings: Iterable[Resampling],
    of: Callable[[Row, Resampling], dict[str, Array]],
) -> dict[str, dict[str, Replicates]]:
    """Of each row what `of` makes of all parts of a draw, end to end, beside what was measured."""
    parts: dict[str, list[dict[str, Array]]] = {row.name: [] for row in rows}
    for resampling in resamplings:
        drawn, freedom = resampling.drawn, resampling.freedom
        for row in rows:
            parts[row.name].append(of(row, resampling))
    return {
        row.name: {
            metric: Replicates(
                np.array(row.values[metric]),
                np.concatenate([part[metric] for part in parts[row.name]]),
                drawn,
                freedom,
            )
            for metric in parts[row.name][0]
        }
        for row in rows
    }


def choose(rows: Sequence[Row], primary: str) -> Row:
    """The variant that leads its best rival by most on `stop`, by the mean primary metric.

    Between codes of one size that is the best variant. A larger code has stronger rivals, and no merit in
    what they reach untrained. The test rows have no say.
    """
    variants = [row for row in rows if row.role == "variant"]
    if not variants:
        raise DataError("no variant was evaluated; is run.variants empty?")

    def on_stop(row: Row) -> float:
        return float(np.mean(row.values[f"stop_{primary}"]))

    return max(variants, key=lambda row: on_stop(row) - max(map(on_stop, rivals_of(row, rows))))


def best_seed(row: Row, primary: str) -> int:
    """The seed with the best primary metric on `stop`."""
    return row.seeds[int(np.argmax(row.values[f"stop_{primary}"]))]


def board_row(row: Row, replicates: Mapping[str, Replicates], confidence: float) -> dict[str, Any]:
    """A leaderboard row: mean over seeds, interval over seeds and test items, and the seeds' own values."""
    metrics = {}
    for metric, each in sorted(replicates.items()):
        found = each.estimate()
        low, high = found.interval(confidence, share=each.is_share)
        metrics[metric] = {"mean": found.mean, "low": low, "high": high, "values": row.values[metric]}
    return {
        "name": row.name,
        "role": row.role,
        "latent_dim": row.latent_dim,
        "members": len(row.seeds),
        "metrics": metrics,
    }


def reconstruction_costs(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Of each variant its `reconstruction_cost` against the plain one, a number a seed.

    Nothing where that one isn't run. NaN for a seed that it wasn't trained with.
    """
    variants = {row.name: row for row in rows if row.role == "variant"}
    if PLAIN not in variants:
        return {}
    plain = dict(zip(variants[PLAIN].seeds, variants[PLAIN].values["reconstruction_error"], strict=True))
    return {
        name: reconstruction_cost(
            row.values["reconstruction_error"], [plain.get(seed, math.nan) for seed in row.seeds]
        )
        for name, row in variants.items()
    }


def reconstruction_cost(errors: Sequence[float], plain: Sequence[float]) -> list[float]:
    """What a demand on the code costs in reconstruction, seed by seed: its error over a plain model's.

    NaN where the plain model has none.
    """
    return [error / other if other else math.nan for error, other in zip(errors, plain, strict=True)]


def health(diagnosis: Mapping[str, Sequence[float]], confidence: float) -> dict[str, Any]:
    """Health numbers as a row's metrics are written: mean over seeds with Student's t interval over them.

    A number that isn't finite for some seed has neither.
    """
    result = {}
    for name, values in sorted(diagnosis.items()):
        mean, low, high = _over_seeds(values, confidence)
        finite = [float(each) if np.isfinite(each) else None for each in values]
        result[name] = {"mean": mean, "low": low, "high": high, "values": finite}
    return result


def along(profiles: Mapping[str, Mapping[str, Any]], confidence: float) -> dict[str, Any]:
    """Profiles with `mean`, `low` and `high` at each place, as `health` has them of a number."""
    result = {}
    for name, profile in sorted(profiles.items()):
        places = zip(*profile["values"], strict=True)
        spans = [_over_seeds([math.nan if v is None else v for v in seeds], confidence) for seeds in places]
        mean, low, high = zip(*spans, strict=True)
        result[name] = {**profile, "mean": list(mean), "low": list(low), "high": list(high)}
    return result


def _over_seeds(
    values: Sequence[float], confidence: float
) -> tuple[float | None, float | None, float | None]:
    """Mean, and the ends of Student's interval where there are several; neither where one isn't finite."""
    if not np.isfinite(values).all():
        return None, None, None
    low, high = student_interval(values, confidence) if len(values) > 1 else (None, None)
    return float(np.mean(values)), low, high


def rivals_of(variant: Row, rows: Sequence[Row]) -> list[Row]:
    """Codes of the same size that nobody trained, and the variant's own encoder at its initial weights."""
    return [
        row
        for row in rows
        if row.role == "rival"
        and (row.name == f"untrained {variant.name}" or not row.name.startswith("untrained "))
        and row.latent_dim == variant.latent_dim
    ]


def comparisons(
    rows: Sequence[Row], replicates: Mapping[str, Mapping[str, Replicates]], confidence: float
) -> list[dict[str, Any]]:
    """Every variant against every rival of its own, paired; Holm-corrected over all of one metric."""
    pairs = [
        (variant.name, rival.name)
        for variant in rows
        if variant.role == "variant"
        for rival in rivals_of(variant, rows)
    ]
    return [entry for metric in COMPARED for entry in _paired(pairs, metric, replicates, confidence)]


def among_variants(
    rows: Sequence[Row], replicates: Mapping[str, Mapping[str, Replicates]], confidence: float
) -> list[dict[str, Any]]:
    """Every pair of variants likewise, with a verdict by the corrected p-value: nobody chose these pairs."""
    pairs = list(combinations([row.name for row in rows if row.role == "variant"], 2))
    found = [entry for metric in COMPARED for entry in _paired(pairs, metric, replicates, confidence)]
    return [{**entry, "verdict": _verdict(entry, confidence)} for entry in found]


def difference(
    one: Row,
    other: Row,
    metric: str,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    settings: Comparison,
    targets: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """The lead of `one` over `other` in `metric`, both of the same test rows, as `comparisons` has it."""
    pair = [replace(one, name="one"), replace(other, name="other")]
    replicates = _replicates(
        pair,
        Resampling.draw(labels, settings.resamples, settings.seed),
        lambda row, resampling: row.resampled(resampling, labels, classes, targets),
    )
    [found] = _paired([("one", "other")], metric, replicates, settings.confidence)
    return found


def _verdict(entry: Mapping[str, Any], confidence: float) -> str:
    if entry["p_holm"] > 1 - confidence:
        return "no difference shown"
    return "better" if entry["difference"] > 0 else "worse"


def not_told_apart(name: str, metric: str, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The variants that `pairs` show no difference of from the one called `name`."""
    return [
        entry["against"] if entry["variant"] == name else entry["variant"]
        for entry in pairs
        if entry["metric"] == metric
        and name in (entry["variant"], entry["against"])
        and entry["verdict"] == "no difference shown"
    ]


def _paired(
    pairs: Sequence[tuple[str, str]],
    metric: str,
    replicates: Mapping[str, Mapping[str, Replicates]],
    confidence: float,
) -> list[dict[str, Any]]:
    """The difference in `metric` of each pair that has it, with interval and p-values."""
    entries: list[dict[str, Any]] = []
    for one, other in pairs:
        if metric not in replicates[one] or metric not in replicates[other]:
            continue
        found = (replicates[one][metric] - replicates[other][metric]).estimate()
        low, high = found.interval(confidence)
        entries.append(
            {
                "variant": one,
                "against": other,
                "metric": metric,
                "difference": found.mean,
                "low": low,
                "high": high,
                "p_value": found.p_value(),
            }
        )
    corrected = holm([entry["p_value"] for entry in entries])
    return [{**entry, "p_holm": p} for entry, p in zip(entries, corrected, strict=True)]


def rival_gates(chosen: Row, primary: str, paired: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One gate a rival: the paired interval of the primary metric's difference lies above zero."""
    return [
        {
            "gate": f"beats {entry['against']}",
            "value": entry["low"],
            "limit": 0.0,
            "passed": entry["low"] > 0,
            "text": f"{TITLES[primary]} {entry['difference']:+.4f} "
            f"[{entry['low']:+.4f}, {entry['high']:+.4f}]",
        }
        for entry in paired
        if entry["variant"] == chosen.name and entry["metric"] == primary
    ]


def retention_gate(chosen: Row, rows: Sequence[Row], primary: str, limit: float) -> dict[str, Any]:
    """The chosen variant keeps at least `limit` of the best reference's primary metric.

    Where that is no better than the mean of all rows, R² 0, there is no share to keep: to be better will do.
    """
    references = [row for row in rows if row.role == "reference" and primary in row.values]
    best = max(references, key=lambda row: float(np.mean(row.values[primary])))
    ours, theirs = float(np.mean(chosen.values[primary])), float(np.mean(best.values[primary]))
    share = ours / theirs if theirs > 0 else float(ours > 0)
    return {
        "gate": f"keeps its share of {best.name}",
        "value": share,
        "limit": limit,
        "passed": share >= limit,
        "text": f"{TITLES[primary]} {ours:.4f} of {theirs:.4f}",
    }


def alive_gate(chosen: Row, alive: Mapping[str, bool]) -> dict[str, Any]:
    """Training and evaluation found the variant alive."""
    passed = alive[chosen.name]
    return {
        "gate": "alive",
        "value": float(passed),
        "limit": 1.0,
        "passed": passed,
        "text": "weights moved, scores differ, no dead code, no NaN" if passed else "an alive check failed",
    }
