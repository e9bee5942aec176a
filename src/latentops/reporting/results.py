"""The result files of the stages, read and checked: one model a file, one line an error.

Keys that a report has no use for are passed over, so that a stage may write more than is shown here.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from latentops.errors import DataError

Role = Literal["variant", "rival", "reference"]

# Metrics where less is more; everything else is better when higher.
LOWER_IS_BETTER = frozenset(
    {
        "probe_log_loss",
        "reconstruction_error",
        "mae",
        "false_alarm_at_95",
        "false_alarm_rate",
        "false_alarms_per_day",
        "withstood_error",
        "imputation_error",
        "hidden_error",
    }
)
TITLES = {
    "probe_accuracy": "probe accuracy",
    "probe_log_loss": "probe log-loss",
    "probe_macro_f1": "probe macro-F1",
    "knn_accuracy": "kNN accuracy",
    "r2": "R²",
    "mae": "mean absolute error",
    "knn_r2": "kNN R²",
    "nmi": "NMI of clusters",
    "ari": "ARI of clusters",
    "auroc": "AUROC",
    "auroc_reconstruction": "AUROC, reconstruction",
    "auroc_latent": "AUROC, code",
    "auroc_likelihood": "AUROC, likelihood",
    "auroc_mahalanobis": "AUROC, Mahalanobis",
    "auroc_prior": "AUROC, prior",
    "false_alarm_at_95": "false alarms at 95 % detection",
    "reconstruction_error": "reconstruction error",
    "false_alarm_rate": "false-alarm rate",
    "false_alarms_per_day": "false alarms a day",
    "marks_hit": "marks hit",
    "timestamp_auroc": "AUROC by time stamp",
    "l1": "L1",
    "best_unit_auroc": "best unit's AUROC",
    "elbo": "ELBO",
    "hoyer": "Hoyer index",
    "importance_weighted": "importance-weighted bound",
    "jacobian_norm": "Jacobian norm",
    "jacobian_rank": "Jacobian rank",
    "jacobian_top": "Jacobian top share",
    "kl": "KL",
    "kl_above_free_bits": "KL above free bits",
    "kl_by_unit": "KL by unit",
    "kl_unit_least": "least unit's KL",
    "kl_unit_most": "most unit's KL",
    "prior_mmd": "prior MMD²",
    "two_sample_accuracy": "two-sample accuracy",
    "two_sample_low": "its low",
    "two_sample_high": "its high",
    "kid": "KID",
    "kid_real": "KID of real rows",
    "generated_two_sample_accuracy": "two-sample accuracy of samples",
    "jacobian_spectrum": "Jacobian spectrum",
    "singular_values": "singular values of the Jacobian",
    "contraction_ratio": "contraction ratio by distance",
}


def title(metric: str) -> str:
    """The metric's name as a person writes it."""
    return TITLES.get(metric, metric.replace("_", " "))


class Result(BaseModel):
    """A part of a result file."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(Result):
    """A mean over seeds with its interval; `values` holds one number a seed."""

    mean: float
    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] = ()


class Health(Result):
    """A health number of a code, one a seed; None where it isn't finite."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    values: tuple[float | None, ...] = ()


class Profile(Result):
    """A health number at each of the places `x`, as `Health` has a single one; `values` are by seed."""

    x: tuple[float | str, ...]
    x_title: str
    y_title: str
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    values: tuple[tuple[float | None, ...], ...] = ()


class Row(Result):
    """One line of the leaderboard."""

    dataset: str
    kind: str
    name: str
    role: Role
    latent_dim: int | None
    members: int
    metrics: dict[str, Estimate]
    corruption: str | None = None
    diagnosis: dict[str, Health] = {}
    profiles: dict[str, Profile] = {}

    def mean(self, metric: str) -> float | None:
        """The mean of `metric`, where this row has it."""
        return self.metrics[metric].mean if metric in self.metrics else None


class Chosen(Result):
    """The variant and the seed that the stop rows chose."""

    variant: str
    seed: int


class Difference(Result):
    """A paired comparison: `variant` less `against` in `metric`."""

    variant: str
    against: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no difference shown` where the interval holds zero."""
        if self.low <= 0 <= self.high:
            return "no difference shown"
        higher = self.low > 0
        return "worse" if higher == (self.metric in LOWER_IS_BETTER) else "better"


class Pair(Result):
    """Two variants compared: `variant` less `against` in `metric`, with what the corrected p-value says."""

    variant: str
    against: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    verdict: Literal["better", "worse", "no difference shown"]


class Gate(Result):
    """One condition of promotion, with what was measured and what was asked."""

    gate: str
    value: float | str | None = None
    limit: float | str | None = None
    passed: bool
    text: str = ""


class Comparison(Result):
    """`results/compare/<dataset>.json`."""

    dataset: str
    kind: str
    primary: str
    chosen: Chosen | None = None
    rows: tuple[Row, ...]
    comparisons: tuple[Difference, ...] = ()
    among_variants: tuple[Pair, ...] = ()
    not_told_apart: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    passed: bool
    error_rank_correlation: float | None = None
    error_rank_interval: tuple[float, float] | None = None

    @property
    def ranked_by(self) -> str:
        """The metric that rows are in the order of: the primary one, or for want of one their error."""
        return "reconstruction_error" if self.primary == "none" else self.primary

    @property
    def unchosen(self) -> str:
        """Why there is nothing to choose a variant by where the primary metric is none."""
        labelled = any("r2" in row.metrics for row in self.rows)
        return "the primary metric is none" if labelled else "the rows have no labels"

    def row(self, name: str) -> Row | None:
        """The row called `name`."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def held(self) -> list[Gate]:
        """The gates that were not passed."""
        return [gate for gate in self.gates if not gate.passed]


class Expectation(Result):
    """One expectation that the rows were held to."""

    name: str
    column: str | None = None
    level: str = "row"
    success: bool


class Looked(Result):
    """A column: the share that is missing, how well it predicts the label alone, how far it has moved."""

    name: str
    missing: float
    constant: bool
    predicts: float | None = None
    moved: float | None = None


class Validation(Result):
    """`results/validate/<dataset>.json`."""

    rows: int
    clean: int
    quarantined: int
    reasons: dict[str, int] = {}
    expectations: tuple[Expectation, ...] = ()
    columns: tuple[Looked, ...] = ()
    flags: tuple[str, ...] = ()


class Splits(Result):
    """`results/prepare/<dataset>.json`: rows of each class in each split, and how many were kept together."""

    rows: dict[str, dict[str, int]]
    units: int
    equal: int
    related: int
    purged: int = 0

    @property
    def classes(self) -> list[str]:
        """The classes, in their order."""
        return list(next(iter(self.rows.values()), {}))


class Failure(Result):
    """Why a member stopped: which term, what it did, when, and on which rows of the train split."""

    step: int
    term: str
    why: str = "ceased to be a number"
    rows: tuple[int, ...] = ()


class Member(Result):
    """One trained member."""

    seed: int
    view: str
    best_step: int | None = None
    failed: Failure | None = None


class Training(Result):
    """`results/train/<dataset>/<variant>/metrics.json`."""

    dataset: str
    variant: str
    architecture: str
    latent_dim: int
    parameters: int
    steps: int
    members: tuple[Member, ...] = ()


R = TypeVar("R", bound=Result)


def read(model: type[R], path: Path, command: str) -> R:
    """`path` as a `model`; `DataError` says what is wrong with it and that `command` makes it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return model.model_validate(value)
    except FileNotFoundError:
        raise DataError(f"{path}: not found; `{command}` makes it") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON (line {error.lineno}); `{command}` makes it anew") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise DataError(f"{path}: {where}: {problem['msg']}; `{command}` makes it anew") from None


def comparison(dataset: str, root: Path = Path()) -> Comparison:
    """What `compare` found out about `dataset`."""
    path = root / "results" / "compare" / f"{dataset}.json"
    return read(Comparison, path, f"dvc repro compare@{dataset}")


def validation(dataset: str, root: Path = Path()) -> Validation:
    """What `validate` found out about `dataset`."""
    path = root / "results" / "validate" / f"{dataset}.json"
    return read(Validation, path, f"dvc repro validate@{dataset}")


def splits(dataset: str, root: Path = Path()) -> Splits:
    """What `prepare` put into each split of `dataset`."""
    path = root / "results" / "prepare" / f"{dataset}.json"
    return read(Splits, path, f"dvc repro prepare@{dataset}")


def training(dataset: str, variant: str, root: Path = Path()) -> Training:
    """How `variant` was trained on `dataset`."""
    path = root / "results" / "train" / dataset / variant / "metrics.json"
    return read(Training, path, f"dvc repro train@{dataset}-{variant}")


Curves = dict[int, list[tuple[int, float | None, float | None]]]
"""By seed: (step, a number on the training rows, the same on the stop rows), in order of step."""


def curves(dataset: str, variant: str, root: Path = Path()) -> dict[str, Curves]:
    """The `objective` on training and stop rows, then each term on the stop rows, unweighted."""
    path = root / "results" / "train" / dataset / variant / "curves.csv"
    command = f"dvc repro train@{dataset}-{variant}"
    result: dict[str, Curves] = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                step, seed = int(line.pop("step")), int(line.pop("seed"))
                on_train, on_stop = float(line.pop("objective")), line.pop("stop", None)
                pairs = {
                    "objective": (on_train, float(on_stop) if on_stop else None),
                    **{term: (None, float(value)) for term, value in line.items() if value},
                }
                for name, pair in pairs.items():
                    result.setdefault(name, {}).setdefault(seed, []).append((step, *pair))
    except FileNotFoundError:
        raise DataError(f"{path}: not found; `{command}` makes it") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a table of curves ({error}); `{command}` makes it anew") from None
    return result


def compared(root: Path = Path()) -> Sequence[str]:
    """Names of the datasets that have been compared."""
    return sorted(path.stem for path in (root / "results" / "compare").glob("*.json"))
