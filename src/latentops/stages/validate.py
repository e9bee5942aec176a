"""validate: rows that break an expectation are set aside with the reasons; a broken table stops here."""

from pathlib import Path

from latentops import atomic
from latentops.config import load_params
from latentops.data import expectations, table


def run(dataset: str) -> None:
    """Write clean and quarantined rows, `results/validate/<dataset>.json` and the data docs."""
    settings = load_params().dataset(dataset)
    raw = table.read(Path("data/raw", f"{dataset}.parquet"), f"ingest@{dataset}")
    validated = expectations.validate(
        raw, dataset, settings.source, settings.expectations, docs=Path("var/data_docs", dataset)
    )
    for folder, rows in ("clean", validated.clean), ("quarantine", validated.quarantined):
        table.write(Path("data", folder, f"{dataset}.parquet"), rows)
    atomic.write_json(Path("results/validate", f"{dataset}.json"), validated.summary)
