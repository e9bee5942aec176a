"""A finished project in miniature: the result files of three datasets, made up but in the stages' form."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from latentops.atomic import write_json, write_text
from latentops.config import Params, load_params
from latentops.data import prepared
from latentops.data.prepared import SPLITS, Description, Samples, SplitName
from latentops.data.transforms import Transform
from latentops.training.members import stack_members
from latentops.training.trained import Recipe, Trained

VARIANTS = (
    "undercomplete",
    "overcomplete",
    "sparse",
    "denoising",
    "contractive",
    "variational",
    "convolutional",
    "sequence",
    "adversarial",
)
DATASETS = {
    "digits": ("image", "probe_accuracy", "denoising"),
    "breast_cancer": ("tabular", "auroc", "sparse"),
    "digit_columns": ("sequence", "probe_accuracy", "sequence"),
}
# probe accuracy, AUROC, reconstruction error
FLOORS = {
    "raw": ("reference", None, 0.964, None, None),
    "isolation forest": ("reference", None, None, 0.961, None),
    "kNN": ("reference", None, None, 0.975, None),
    "PCA-8": ("rival", 8, 0.889, 0.941, 0.0221),
    "PCA-16": ("rival", 16, 0.938, 0.955, 0.0112),
    "random projection-8": ("rival", 8, 0.781, 0.872, None),
    "random projection-16": ("rival", 16, 0.874, 0.911, None),
}


def estimate(mean: float, spread: float, seeds: int, random: np.random.Generator) -> dict[str, Any]:
    values = [float(v) for v in mean + spread * random.standard_normal(seeds) / 3]
    mean = float(np.mean(values))
    return {"mean": mean, "low": mean - spread, "high": min(mean + spread, max(mean, 1.0)), "values": values}


def health(name: str, seeds: int) -> dict[str, Any]:
    """A number that all variants have, one that only the sparse one has, and one that isn't finite."""
    found = {"effective_rank": [6.5] * seeds} | ({"dead_units": [1.0] * seeds} if name == "sparse" else {})
    shown: dict[str, Any] = {
        key: {"mean": v[0], "low": v[0] - 0.5, "high": v[0] + 0.5, "values": v} for key, v in found.items()
    }
    if name == "variational":
        shown["kl"] = {"mean": None, "low": None, "high": None, "values": [None] * seeds}
    return shown


MET = ("clean", "gaussian 0.4", "gaussian 0.8", "masking 0.3", "salt_and_pepper 0.2")


def profile(
    x: Sequence[float | str], mean: Sequence[float | None], seeds: int, **titles: str
) -> dict[str, Any]:
    return {
        "x": list(x),
        "x_title": "where",
        "y_title": "what",
        "mean": list(mean),
        "low": [None if each is None else each - 0.01 for each in mean],
        "high": [None if each is None else each + 0.01 for each in mean],
        "values": [list(mean)] * seeds,
    } | titles


def profiles(name: str, seeds: int) -> dict[str, Any]:
    """What all variants have of corruptions met, with the denoising one best, and two that are one's own.

    Under the corruption that it is trained with the denoising one's error is half of the others', under other
    ones three quarters of it.
    """
    errors = (0.01, 0.02, 0.03, 0.015, 0.021) if name == "denoising" else (0.01, 0.03, 0.06, 0.02, 0.028)
    accuracies = (0.93, 0.9, 0.88, 0.7, 0.8) if name == "denoising" else (0.93, 0.85, 0.8, 0.68, 0.72)
    found = {
        "withstood_error": profile(MET, errors, seeds),
        "withstood_probe_accuracy": profile(MET, accuracies, seeds),
    }
    if name == "contractive":
        found["contraction_ratio"] = profile((0.03, 0.1, 1.0), (0.2, 0.3, None), seeds)
    if name == "variational":
        found["kl_by_unit"] = profile(("1", "2"), (2.0, 0.1), seeds, x_title="unit", y_title="<nats>")
    return found


def comparison(dataset: str) -> dict[str, Any]:
    kind, primary, chosen = DATASETS[dataset]
    random = np.random.default_rng(sum(map(ord, dataset)))
    rows = []

    def add(name: str, role: str, size: int | None, seeds: int, **means: float | None) -> None:
        metrics = {
            metric: estimate(mean, 0.0004 if metric == "reconstruction_error" else 0.011, seeds, random)
            for metric, mean in means.items()
            if mean is not None
        }
        rows.append(
            {
                "dataset": dataset,
                "kind": kind,
                "name": name,
                "role": role,
                "latent_dim": size,
                "members": seeds,
                "metrics": metrics,
                "corruption": "gaussian 0.8" if name == "denoising" else None,
                "diagnosis": health(name, seeds) if role == "variant" else {},
                "profiles": profiles(name, seeds) if role == "variant" else {},
            }
        )

    for k, name in enumerate(VARIANTS):
        probe, auroc = 0.885 + 0.006 * k, 0.962 - 0.005 * k
        if name == chosen:
            probe, auroc = 0.951, 0.979
        size = 128 if name == "overcomplete" and kind == "image" else 8
        error = 0.02 + 0.004 * math.cos(k) + (0.03 if name == "adversarial" else 0)
        add(
            name,
            "variant",
            size,
            5,
            probe_accuracy=probe,
            auroc=auroc,
            auroc_reconstruction=auroc - 0.02,
            auroc_latent=auroc - 0.03,
            reconstruction_error=error,
        )
        add(f"untrained {name}", "rival", size, 5, probe_accuracy=probe - 0.12, auroc=auroc - 0.07)
    for name, (role, dim, probe_, auroc_, error_) in FLOORS.items():
        add(
            name,
            role,
            dim,
            5 if name.startswith(("random", "isolation")) else 1,
            probe_accuracy=probe_,
            auroc=auroc_,
            reconstruction_error=error_,
        )
    passed = dataset != "digit_columns"
    comparisons = [
        compared(variant, row, metric)
        for metric in ("probe_accuracy", "auroc")
        for variant in rows
        if variant["role"] == "variant"
        for row in rows
        if row["role"] == "rival"
        and row["latent_dim"] == variant["latent_dim"]
        and row["name"].removeprefix("untrained ") in (variant["name"], row["name"])
    ]
    gates = [
        {
            "gate": f"beats {one['against']}",
            "value": one["low"],
            "limit": 0.0,
            "passed": passed or not one["against"].startswith("PCA"),
            "text": f"{primary} {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]",
        }
        for one in comparisons
        if one["variant"] == chosen and one["metric"] == primary
    ]
    gates += [
        {
            "gate": "keeps its share of raw",
            "value": 0.987,
            "limit": 0.9,
            "passed": True,
            "text": "0.951 of 0.964",
        },
        {"gate": "alive", "value": 1.0, "limit": 1.0, "passed": True, "text": "every check holds"},
    ]
    return {
        "dataset": dataset,
        "kind": kind,
        "primary": primary,
        "chosen": {"variant": chosen, "seed": 3},
        "rows": rows,
        "comparisons": comparisons,
        "gates": gates,
        "passed": passed,
        "error_rank_correlation": -0.27,
    }


def compared(variant: dict[str, Any], rival: dict[str, Any], metric: str) -> dict[str, Any]:
    gap = variant["metrics"][metric]["mean"] - rival["metrics"][metric]["mean"]
    clear = abs(gap) > 0.014
    return {
        "variant": variant["name"],
        "against": rival["name"],
        "metric": metric,
        "difference": gap,
        "low": gap - 0.014,
        "high": gap + 0.014,
        "p_value": 0.0005 if clear else 0.09,
        "p_holm": 0.0009 if clear else 0.18,
    }


def steady(variant: str, step: int) -> float:
    """A term that falls, or, of the sparse variant, one that stays."""
    return 0.5 + 20 / step if variant == "adversarial" else 0.0


def train_results(root: Path, dataset: str, variant: str) -> None:
    folder = root / "results" / "train" / dataset / variant
    members = [
        {"seed": s, "view": "all", "best_step": 900, "objective": 0.1, "failed": None} for s in range(5)
    ]
    if variant == "adversarial":
        why = "ceased to be a number or was over strain_limit (20)"
        members[4]["failed"] = {"step": 310, "term": "deception", "why": why, "rows": [1, 2]}
    write_json(
        folder / "metrics.json",
        {
            "dataset": dataset,
            "variant": variant,
            "architecture": "mlp",
            "latent_dim": 8,
            "parameters": 18_760,
            "steps": 1000,
            "members": members,
        },
    )
    term = {"adversarial": ",discriminator_accuracy", "sparse": ",excess"}.get(variant, "")
    lines = [f"step,seed,objective,stop,reconstruction{term}"]
    for seed in range(5):
        for step in range(50, 1001, 50):
            value = 20 + 30 * math.exp(-step / 150) + 0.4 * math.sin(seed + step / 60)
            own = f",{steady(variant, step)}" if term else ""
            lines.append(f"{step},{seed},{value:.6g},{value * 1.06 + seed / 10:.6g},{value:.6g}{own}")
    write_text(folder / "curves.csv", "\n".join(lines) + "\n")


VIEWS = {"digits": ("0", "1"), "breast_cancer": ("benign",), "digit_columns": ()}
CLASSES = {"digits": ("0", "1", "2"), "breast_cancer": ("benign", "malignant"), "digit_columns": ("0", "1")}


def score_results(root: Path, dataset: str) -> None:
    """What the judge kept of each test row of the chosen variant and of two floors."""
    chosen, views, classes = DATASETS[dataset][2], VIEWS[dataset], CLASSES[dataset]
    random = np.random.default_rng(3)
    labels = np.arange(60) % len(classes)

    def scores(name: str, seeds: int, gap: float) -> dict[str, Any]:
        normals = {view: labels == classes.index(view) for view in views}
        found = {
            f"{name}/score/{view}/auroc": (random.normal(size=(seeds, 60)) + gap * ~normal).astype(np.float32)
            for view, normal in normals.items()
        }
        return found | {f"{name}/limit/{view}": np.full(seeds, 1.5, np.float32) for view in views}

    floors, evaluated = root / "results/floors" / dataset, root / "results/evaluate" / dataset / chosen
    write_json(floors / "metrics.json", {"dataset": dataset, "classes": list(classes)})
    evaluated.mkdir(parents=True, exist_ok=True)
    save_file(
        {"labels": labels, **scores("kNN", 1, 2.0), **scores("PCA-8", 1, 1.0)}, floors / "samples.safetensors"
    )
    save_file(scores(chosen, 5, 2.5), evaluated / "samples.safetensors")


def build(root: Path) -> Path:
    """Write the result files of every dataset below `root`; no data and no models."""
    for dataset in DATASETS:
        write_json(root / "results" / "compare" / f"{dataset}.json", comparison(dataset))
        write_json(
            root / "results" / "prepare" / f"{dataset}.json",
            {
                "rows": {split: {"a": 300, "b": at} for at, split in enumerate(SPLITS)},
                "units": 1790,
                "equal": 4,
                "related": 3,
            },
        )
        write_json(
            root / "results" / "validate" / f"{dataset}.json",
            {
                "rows": 1800,
                "clean": 1797,
                "quarantined": 3,
                "reasons": {"digit: not one of the classes": 3},
                "expectations": [
                    {
                        "name": "expect_table_row_count_to_be_between",
                        "column": None,
                        "level": "table",
                        "success": True,
                    },
                    {
                        "name": "expect_column_values_to_be_in_set",
                        "column": "digit",
                        "level": "row",
                        "success": False,
                    },
                ],
            },
        )
        score_results(root, dataset)
        runs = {variant: f"{k:064x}" for k, variant in enumerate(VARIANTS)}
        write_json(root / "results" / "record" / f"{dataset}.json", {"runs": runs})
        for variant in VARIANTS:
            train_results(root, dataset, variant)
    return root


@pytest.fixture(scope="session")
def params() -> Params:
    """The project's own settings, which say what the knobs of its datasets are set to."""
    return load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project that tests only read."""
    return build(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of one's own to change."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def edit(project: Path) -> Callable[[str, Callable[[dict[str, Any]], None]], None]:
    """Change the comparison of a dataset in place."""

    def change(dataset: str, how: Callable[[dict[str, Any]], None]) -> None:
        path = project / "results" / "compare" / f"{dataset}.json"
        value = json.loads(path.read_text(encoding="utf-8"))
        how(value)
        write_json(path, value)

    return change


SHAPES = {"digits": (1, 8, 8), "breast_cancer": (6,), "digit_columns": (8, 8)}
MODELS = {
    "digits": ("denoising", "variational", "adversarial", "sparse", "convolutional"),
    "breast_cancer": ("sparse", "variational"),
    "digit_columns": ("sequence", "variational"),
}
HOSTILE = "<b>odd</b>"


def prepare(root: Path, dataset: str, kind: str) -> Description:
    shape, random = SHAPES[dataset], np.random.default_rng(0)
    names = tuple(f"column {k}" for k in range(shape[0])) if kind == "tabular" else ()
    bounds = None if kind == "tabular" else (0.0, 1.0)
    classes = ("0", HOSTILE, "2")
    description = Description(
        kind=kind,  # type: ignore[arg-type]
        shape=shape,
        features=names,
        classes=classes,
        transform=Transform.from_range(0, 16),
        spread=0.3,
        likelihood_range=bounds,
    )
    lengths = random.integers(1, shape[0] + 1, 40) if kind == "sequence" else None
    values = random.random((40, *shape), dtype=np.float32)
    if lengths is not None:
        values[np.arange(shape[0]) >= lengths[:, None]] = 0
    samples = Samples(values, lengths, np.arange(40) % 3, np.zeros((40, 32), dtype=np.uint8))
    splits: dict[SplitName, Samples] = {"test": samples}
    prepared.write(root / "data" / "prepared" / dataset, description, splits)
    return description


def train(root: Path, params: Params) -> Path:
    """Put test rows and stacks at their initial weights into a finished project."""
    for dataset, variants in MODELS.items():
        description = prepare(root, dataset, params.dataset(dataset).source.kind)
        for variant in variants:
            architecture = params.dataset(dataset).architecture
            section = params.variant(variant)
            recipe = Recipe.resolve(
                variant, section, architecture, params.dataset(dataset).architectures, 4, description
            )
            members = stack_members([0, 3], ["0"])
            Trained(recipe.build(members), members, recipe).save(root / "models" / dataset / variant)
    return root


@pytest.fixture
def trained(project: Path, params: Params) -> Path:
    """A finished project of one's own with models."""
    return train(project, params)
