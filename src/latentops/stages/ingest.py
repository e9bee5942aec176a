"""ingest: the rows of a dataset's source, and of the files accepted since, as one Parquet table."""

from pathlib import Path

from latentops.config import load_params
from latentops.data import forgotten, sources, table


def run(dataset: str) -> None:
    """Write `data/raw/<dataset>.parquet`."""
    accepted = Path("data/accepted", dataset)
    left_out: list[int] = []
    rows = sources.ingest(load_params().dataset(dataset).source, accepted, left_out.append)
    table.write_parts(Path("data/raw", f"{dataset}.parquet"), rows.parts, rows.layout.schema())
    if left_out:
        print(
            f"{dataset}: {sum(left_out):,} rows left out, which are forgotten ({accepted / forgotten.FILE})"
        )
