"""What the DAG left behind about one variant on one dataset, and the one hash that names it all."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from latentops.atomic import canonical
from latentops.errors import RegistryError
from latentops.evaluation.comparison import Row

CONTENT = "latentops.content_hash"
"""The tag that a run in MLflow has its content hash under."""


@dataclass(frozen=True)
class Result:
    """A variant's results on one dataset.

    `files` are what a run shows, by the name of the artifact. `content_hash` is the sha256 over those
    files, the row of the comparison and the weights: equal hash, equal model and equal figures.
    """

    dataset: str
    variant: str
    config: dict[str, Any]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    row: dict[str, Any]
    files: dict[str, Path]
    content_hash: str

    @property
    def judged(self) -> Row:
        """What `evaluate` found, test row by test row; `RegistryError` where that isn't here."""
        path = Path("results/evaluate") / self.dataset / self.variant / "samples.safetensors"
        row = next(row for row in self.evaluation["rows"] if row["name"] == self.variant)
        try:
            return Row.read(row, load_file(path))
        except FileNotFoundError:
            raise RegistryError(f"{path}: not found; run `dvc repro`, or `dvc pull` to fetch it") from None
        except SafetensorError as error:
            raise RegistryError(f"{path}: not whole ({error}); `dvc checkout --force` restores it") from None

    @property
    def curves(self) -> Path:
        """The training curves, one line a look and seed."""
        return self.files["train/curves.csv"]


def comparison(dataset: str) -> dict[str, Any]:
    """The comparison of everything on `dataset`: rows, gates and what was chosen."""
    return _json(Path("results/compare") / f"{dataset}.json")


def model_directory(dataset: str, variant: str) -> Path:
    """Where the trained stack of `variant` lies."""
    return Path("models") / dataset / variant


def read(dataset: str, variant: str, compared: dict[str, Any]) -> Result:
    """Gather the results of `variant`; `RegistryError` names the first file that is missing."""
    model = model_directory(dataset, variant)
    trained = Path("results/train") / dataset / variant
    evaluated = Path("results/evaluate") / dataset / variant
    files = {
        "config.json": model / "config.json",
        "train/metrics.json": trained / "metrics.json",
        "train/curves.csv": trained / "curves.csv",
        "evaluate/metrics.json": evaluated / "metrics.json",
    }
    row = _row(dataset, variant, compared)
    return Result(
        dataset=dataset,
        variant=variant,
        config=_json(files["config.json"]),
        training=_json(files["train/metrics.json"]),
        evaluation=_json(files["evaluate/metrics.json"]),
        row=row,
        files=files,
        content_hash=_content_hash({**files, "weights": model / "weights.safetensors"}, row),
    )


def _row(dataset: str, variant: str, compared: dict[str, Any]) -> dict[str, Any]:
    for row in compared["rows"]:
        if row["role"] == "variant" and row["name"] == variant:
            return dict(row)
    raise RegistryError(
        f"results/compare/{dataset}.json: no row for variant {variant!r}; run `dvc repro compare@{dataset}`"
    )


def _content_hash(files: dict[str, Path], row: dict[str, Any]) -> str:
    parts = {name: hashlib.sha256(_bytes(path)).hexdigest() for name, path in files.items()}
    return hashlib.sha256(canonical({"files": parts, "row": row}).encode()).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RegistryError(f"{path}: not found; run `dvc repro`, or `dvc pull` to fetch it") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_bytes(path)))
    except ValueError as error:
        raise RegistryError(f"{path}: not valid JSON: {error}") from None
