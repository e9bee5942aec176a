"""validate: rows that break an expectation are set aside with the reasons; a broken table stops here."""

from pathlib import Path

from latentops import atomic
from latentops.config import load_params
from latentops.data import profile, table
from latentops.data.expectations import acceptance, pages, validation


def run(dataset: str) -> None:
    """Write clean and quarantined rows, `results/validate/<dataset>*.json` and the data docs."""
    settings = load_params().dataset(dataset)
    path = Path("data/raw", f"{dataset}.parquet")
    raw = table.Stored(path, f"ingest@{dataset}")
    try:
        found = validation.validate_stored(
            raw,
            dataset,
            settings.source,
            settings.expectations,
            clean=Path("data/clean", f"{dataset}.parquet"),
            quarantined=Path("data/quarantine", f"{dataset}.parquet"),
            accepted=acceptance.accepted(dataset),
            docs=pages.docs_of(dataset, path),
        )
    finally:
        pages.list_docs(dataset)
    for flag in found.summary["flags"]:
        print(f"{dataset}: look at {flag}")
    profile.write(Path("results/validate", f"{dataset}.profile.json"), found.profile)
    atomic.write_json(Path("results/validate", f"{dataset}.json"), found.summary)
