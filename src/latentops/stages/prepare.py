"""prepare: clean rows as arrays, split and transformed, ready to train on."""

from pathlib import Path

from latentops import atomic
from latentops.config import load_params
from latentops.data import preparation
from latentops.data.table import Stored


def run(dataset: str) -> None:
    """Write `data/prepared/<dataset>`, each row's split, and what the splits hold."""
    settings = load_params().dataset(dataset)
    clean = Stored(Path("data/clean", f"{dataset}.parquet"), f"validate@{dataset}")
    report = preparation.prepare(
        clean, settings, dataset, Path("data/prepared", dataset), Path("data/splits", f"{dataset}.parquet")
    )
    atomic.write_json(Path("results/prepare", f"{dataset}.json"), report)
