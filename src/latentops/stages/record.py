"""Stage `record`: write the results of a dataset into MLflow; the out lists content hashes, never run ids."""

from pathlib import Path

from latentops.atomic import write_json
from latentops.config import load_params
from latentops.registry.tracking import record
from latentops.reporting.profiles import drawings


def run(dataset: str) -> None:
    """Record every variant of `dataset` and write `results/record/<dataset>.json`."""
    hashes = record(dataset, load_params(), drawings)
    write_json(Path("results/record") / f"{dataset}.json", {"runs": hashes})
