"""Score a file with the champion: Parquet in, Parquet out, bad rows set aside; no label is needed.

`python -m pipelines.score DATASET rows.parquet scores.parquet`. The output holds each row's number in the
input beside its scores, and its `time` where there are times (of a window that of its first step); rows that
break an expectation go to `scores.rejected.parquet` with the reasons. With `--false-discovery-rate 0.1` a
column `flagged` marks rows of the file of which on average at most a tenth are normal; with `--explain` each
row also says where its score comes from, in the columns of `Package.explain`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import typer
from numpy.typing import NDArray
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

import latentops
from latentops.cli import guard
from latentops.config import load_params
from latentops.data import sources
from latentops.data import table as tables
from latentops.data.table import Layout
from latentops.errors import LatentOpsError
from latentops.registry import versions
from latentops.registry.package import Input


@dataclass(frozen=True)
class Scored:
    """How many rows were scored, found anomalous, and set aside, and where these lie.

    `flagged` is how many were at the false-discovery rate, where one was asked for.
    """

    scored: int
    anomalies: int
    flagged: int | None
    rejected: int
    out: Path
    rejected_out: Path | None

    def __str__(self) -> str:
        """One line for a person."""
        aside = f"; {self.rejected} bad rows in {self.rejected_out}" if self.rejected_out else ""
        flagged = "" if self.flagged is None else f", {self.flagged} flagged"
        return f"{self.scored} rows scored, {self.anomalies} anomalous{flagged}: {self.out}{aside}"


def score_file(
    dataset: str, rows: Path, out: Path, rate: float | None = None, explain: bool = False
) -> Scored:
    """Score the rows of `rows` with the champion of `dataset` and write `out`.

    Flag them at the false-discovery `rate`, if one is given, and `explain` them, if asked to.

    Raises `LatentOpsError` where there is no champion, the file isn't of this dataset's columns, or the
    false-discovery `rate` can't be kept.
    """
    from latentops.data.expectations.validation import validate

    settings = load_params().dataset(dataset)
    model = latentops.load(f"{dataset}@champion")
    table = sources.read_samples(rows, settings.source)
    validated = validate(table, dataset, settings.source, settings.expectations, limits="samples")
    clean = validated.clean
    layout = tables.layout_of(clean, None)
    raw = _raw(clean, layout)
    scores = model.score(raw, rate)
    if explain:
        scores = scores.join(model.explain(raw))
    scores.insert(0, "row", clean.column(tables.POSITION).to_numpy())
    if "time" in layout.extras and clean.column(".time").null_count < clean.num_rows:
        scores.insert(1, "time", iso(clean.column(".time").to_numpy()))
    tables.write(out, pa.Table.from_pandas(scores, preserve_index=False))
    rejected_out = out.with_suffix(".rejected.parquet")
    if validated.quarantined.num_rows:
        tables.write(rejected_out, validated.quarantined)
    else:
        rejected_out.unlink(missing_ok=True)  # of an earlier run with the same name
    return Scored(
        len(scores),
        int(scores["is_anomaly"].sum()),
        None if rate is None else int(scores["flagged"].sum()),
        validated.quarantined.num_rows,
        out,
        rejected_out if validated.quarantined.num_rows else None,
    )


def _raw(clean: pa.Table, layout: Layout) -> Input:
    """The rows of a table as a package takes them."""
    if layout.kind == "sequence":
        flat, sizes = tables.ragged(clean)
        sequences = np.split(flat, np.cumsum(sizes)[:-1]) if len(sizes) else []
        return [each.reshape(-1, *layout.shape) for each in sequences]
    if layout.kind == "text":
        return tables.texts(clean)
    if layout.kind == "tabular":
        return pd.DataFrame(tables.columns(clean, layout))
    return tables.dense(clean, layout)


def iso(times: NDArray[np.float64]) -> list[str | None]:
    """Seconds since 1970 as ISO 8601, to the millisecond; None where there is no time."""
    known = np.isfinite(times)
    moments = np.where(known, np.round(times * 1000), 0).astype("datetime64[ms]")
    texts = np.datetime_as_string(moments, timezone="UTC").tolist()
    return [text if there else None for text, there in zip(texts, known, strict=True)]


@task(task_run_name="score {rows.name}", cache_policy=NO_CACHE)
def score_task(dataset: str, rows: Path, out: Path, rate: float | None, explain: bool) -> State[Scored]:
    """`score_file`, as a task."""
    try:
        return Completed(data=score_file(dataset, rows, out, rate, explain))
    except LatentOpsError as error:
        return Failed(message=str(error))


@flow(name="score", flow_run_name="score {dataset}")
def score(
    dataset: str, rows: Path, out: Path, rate: float | None = None, explain: bool = False
) -> State[Scored]:
    """Score the rows of a Parquet file with the champion of `dataset`; flag at the false-discovery `rate`."""
    state = score_task(dataset, rows, out, rate, explain, return_state=True)
    if not state.is_completed():
        return Failed(message=state.message)
    scored = state.result()
    get_run_logger().info(str(scored))
    return Completed(message=str(scored), data=scored)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="Parquet; for tables and text CSV too.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Parquet.")],
    false_discovery_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Flag rows of which at most that share are normal.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say where each score comes from.")] = False,
) -> None:
    """Score the rows of a file with the champion."""
    load_params().dataset(dataset)
    if not rows.is_file():
        raise LatentOpsError(f"{rows}: not found")
    versions.resolve(f"{dataset}@champion")  # before Prefect starts, which logs what fails a run twice
    state = score(dataset, rows, out, false_discovery_rate, explain, return_state=True)
    if not state.is_completed():
        raise LatentOpsError(state.message or f"the flow ended as {state.name}")


if __name__ == "__main__":
    guard(app)
