"""Hold the variants of one dataset against the floors and each other; choose one; put it to the gates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from latentops import atomic
from latentops.config import load_params
from latentops.errors import DataError
from latentops.evaluation.comparison import Row, Stamps, along, compare, health, reconstruction_costs


def run(dataset_name: str) -> None:
    """Write `results/compare/<dataset>.json`."""
    params = load_params()
    dataset = params.dataset(dataset_name)
    floors = Path("results/floors", dataset_name)
    evaluated = [Path("results/evaluate", dataset_name, variant) for variant in params.run.variants]
    rows = [row for folder in (*evaluated, floors) for row in _rows(folder)]
    found = {
        variant: _json(folder / "metrics.json")
        for variant, folder in zip(params.run.variants, evaluated, strict=True)
    }
    alive = {
        variant: all(each["alive"].values())
        and all(_json(Path("results/train", dataset_name, variant, "metrics.json"))["alive"].values())
        for variant, each in found.items()
    }
    field = _json(floors / "metrics.json")
    shared = load_file(floors / "samples.safetensors")
    stamps = (
        Stamps(shared["stamps/marked"] > 0, shared["stamps/units"]) if "stamps/marked" in shared else None
    )
    confidence = params.comparison.confidence
    costs = {name: {"reconstruction_cost": each} for name, each in reconstruction_costs(rows).items()}
    looked_into = {
        variant: {
            "corruption": each["corruption"],
            "diagnosis": health(each["diagnosis"] | costs.get(variant, {}), confidence),
            "profiles": along(each["profiles"], confidence),
        }
        for variant, each in found.items()
    }
    result = compare(
        rows,
        shared["labels"],
        field["classes"],
        dataset.primary,
        alive,
        params.comparison,
        params.gates.retention,
        stamps,
        shared.get("targets"),
    )
    atomic.write_json(
        Path("results/compare", f"{dataset_name}.json"),
        {
            "dataset": dataset_name,
            "kind": field["kind"],
            **result,
            "rows": [
                {
                    "dataset": dataset_name,
                    "kind": field["kind"],
                    **row,
                    **looked_into.get(row["name"], {"corruption": None, "diagnosis": {}, "profiles": {}}),
                }
                for row in result["rows"]
            ],
        },
    )


def _rows(folder: Path) -> Iterator[Row]:
    try:
        tensors = load_file(folder / "samples.safetensors")
    except FileNotFoundError:
        raise DataError(f"{folder / 'samples.safetensors'}: not found; `dvc repro` makes it") from None
    except SafetensorError as error:
        raise DataError(
            f"{folder / 'samples.safetensors'}: not whole ({error}); delete it and `dvc repro` makes it anew"
        ) from None
    for row in _json(folder / "metrics.json")["rows"]:
        yield Row.read(row, tensors)


def _json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: not found; `dvc repro` makes it") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); delete it and `dvc repro` makes it anew") from None
    return value
