"""The drift monitor: rows of a flow, held against what the champion knows, and every look kept."""

from collections.abc import Sequence

import pyarrow as pa
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

import latentops
from latentops.config import load_params
from latentops.data import table
from latentops.registry import drift, ledger, looks
from latentops.registry.drift import Drift
from latentops.registry.looks import Look, Origin
from pipelines.rows import as_input


@task(task_run_name="drift of {dataset}", cache_policy=NO_CACHE)
def look_at(dataset: str, rows: pa.Table) -> Drift | None:
    """How validated rows differ from what the champion knows, not yet corrected; None without a champion."""
    if not ledger.moves(dataset):
        return None
    champion = latentops.load(f"{dataset}@champion")
    found = drift.look(dataset, champion, as_input(rows, table.layout_of(rows, None)))
    told = (dataset, found.rows, found.known, len(found.findings))
    get_run_logger().info("%s: %s rows against %s, %s tests", *told)
    return found


def watch(found: Drift, origin: Origin, files: Sequence[str]) -> None:
    """Keep a corrected look for the report's page of drift."""
    champion = int(ledger.moves(found.dataset)[-1]["version"])
    alpha = load_params().retrain.drift_alpha or 0.0
    looks.keep(Look(found.dataset, origin, files, champion, found.to_json(alpha)))
