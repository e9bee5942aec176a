"""ingest: the rows of a dataset's source, and of the files accepted since, as one Parquet table."""

from pathlib import Path

from latentops.config import load_params
from latentops.data import sources, table


def run(dataset: str) -> None:
    """Write `data/raw/<dataset>.parquet`."""
    rows = sources.ingest(load_params().dataset(dataset).source, Path("data/accepted", dataset))
    table.write_parts(Path("data/raw", f"{dataset}.parquet"), rows.parts, rows.layout.schema())
