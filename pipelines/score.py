"""Score a file with the champion: Parquet in, Parquet out, bad rows set aside; no label is needed.

`python -m pipelines.score DATASET rows.parquet scores.parquet`. The output holds each row's number in the
input beside its scores, the columns of a Parquet file that `--key` names, and its `time` where there are
times (of a window that of its first step); rows that can't be read or break an expectation go to
`scores.rejected.parquet` with the reasons. With `--false-discovery-rate 0.1` a column `flagged` marks rows of
the file of which on average at most a tenth are normal; with `--explain` each row also says where its score
comes from, in the columns of `Package.explain`.

A file may be larger than memory: rows are read, validated and scored `ROWS` at a time. Each part is kept in
`scores.parquet.part/` until all are there, so that the same command goes on where one before was ended.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

import latentops
from latentops import atomic
from latentops.cli import guard
from latentops.config import Dataset, load_params
from latentops.data import sources
from latentops.data import table as tables
from latentops.data.expectations.sifting import with_reasons
from latentops.data.expectations.validation import Validated, validate
from latentops.errors import LatentOpsError
from latentops.registry import drift, versions
from latentops.registry.candidate import PACKAGE
from latentops.registry.package import Package
from pipelines import running
from pipelines.rows import as_input
from pipelines.watching import look_at, watch

ROWS = 20_000
"""How many rows become a part, if no fewer fill `tables.PART_BYTES`."""

_NONE = pa.schema(
    {"row": pa.int64(), "score": pa.float64(), "p_value": pa.float64(), "is_anomaly": pa.bool_()}
).empty_table()


@dataclass(frozen=True)
class Scored:
    """How many rows were scored, found anomalous, and set aside, and where these lie.

    `flagged` is how many were at the false-discovery rate, where one was asked for; `resumed` how many of the
    rows an earlier run had dealt with.
    """

    scored: int
    anomalies: int
    flagged: int | None
    rejected: int
    out: Path
    rejected_out: Path | None
    resumed: int = 0

    def __str__(self) -> str:
        """One line for a person."""
        aside = f"; {self.rejected} bad rows in {self.rejected_out}" if self.rejected_out else ""
        flagged = "" if self.flagged is None else f", {self.flagged} flagged"
        resumed = f" ({self.resumed} rows from an earlier run)" if self.resumed else ""
        return f"{self.scored} rows scored, {self.anomalies} anomalous{flagged}: {self.out}{aside}{resumed}"


@dataclass(frozen=True)
class Work:
    """What a part is of: two runs that differ in any of this have no part in common."""

    rows_sha256: str
    version: str
    settings_sha256: str
    keys: list[str]
    explain: bool
    part_rows: int


class Parts:
    """The parts of an output that are done, each of its rows in one of two files, in a folder beside it."""

    def __init__(self, out: Path, work: Work, say: Callable[[str], object]) -> None:
        """Open the folder of `out`; it is emptied where its parts are of other `work`, and `say` told so."""
        self.folder = out.with_name(f"{out.name}.part")
        told, record = asdict(work), self.folder / "work.json"
        if self.folder.exists():
            try:
                found = json.loads(record.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                found = {}
            other = sorted(name for name in told if found.get(name) != told[name])
            if other:
                say(f"{self.folder}: of an earlier run with other {', '.join(other)}; starting anew")
                shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(record, told)
        self.done = 0
        while self._scores(self.done).exists():
            self.done += 1

    def _scores(self, at: int) -> Path:
        return self.folder / f"{at:06}.parquet"

    def _rejected(self, at: int) -> Path:
        return self.folder / f"{at:06}.rejected.parquet"

    def add(self, scores: pa.Table, rejected: pa.Table) -> None:
        """Keep one more part; it counts once its scores are there."""
        tables.write(self._rejected(self.done), rejected)
        tables.write(self._scores(self.done), scores)
        self.done += 1

    def scores(self) -> Iterator[pa.Table]:
        """The scores of each part."""
        return (pq.read_table(self._scores(at)) for at in range(self.done))

    def scores_schema(self) -> pa.Schema:
        """The columns that scores have in any part; `time` only where a row has one."""
        each = [pq.read_schema(self._scores(at)) for at in range(self.done)]
        filled = [schema for schema in dict.fromkeys(each) if not schema.equals(_NONE.schema)]
        schema = pa.unify_schemas([*filled, _NONE.schema], promote_options="permissive")
        at = schema.get_field_index("time")
        return schema.remove(at) if at >= 0 and pa.types.is_null(schema.field(at).type) else schema

    def chances(self) -> NDArray[np.float64]:
        """The p-values of all rows, [n]."""
        each = (pq.read_table(self._scores(at), columns=["p_value"]) for at in range(self.done))
        return np.concatenate([part.column("p_value").to_numpy() for part in each] or [np.zeros(0)])

    def rejected(self) -> Iterator[tables.Stored]:
        """The rejected rows of each part."""
        return (tables.Stored(self._rejected(at), "") for at in range(self.done))

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder)


def score_file(
    dataset: str,
    rows: Path,
    out: Path,
    rate: float | None = None,
    explain: bool = False,
    keys: Sequence[str] = (),
    say: Callable[[str], object] = print,
) -> Scored:
    """Score the rows of `rows` with the champion of `dataset` and write `out`, with the columns `keys`.

    Flag them at the false-discovery `rate`, if one is given, and `explain` them, if asked to. Parts that a
    run before left are taken up where it was the same work; `say` is told what became of them.

    Raises `LatentOpsError` where there is no champion, the file isn't of this dataset's columns, or the
    false-discovery `rate` can't be kept.
    """
    settings = load_params().dataset(dataset)
    champion = versions.resolve(f"{dataset}@champion")
    model = latentops.load(f"{dataset}/{champion.number}")
    if rate is not None:
        model.discoveries(np.zeros(0), rate)  # raises before hours of scoring, not after
    if taken := {*keys} & {*_NONE.column_names, "time", "flagged"}:
        raise LatentOpsError(f"--key {min(taken)}: the output has a column of that name")
    found = sources.read_samples(rows, settings.source, ROWS, keys)
    size = min(ROWS, found.layout.part_rows())
    told = f"{settings.source.model_dump_json()}{settings.expectations.model_dump_json()}"
    work = Work(
        rows_sha256=_sha256(rows),
        version=f"{champion.model}/{champion.number} {champion.tags.get(PACKAGE)}",
        settings_sha256=hashlib.sha256(told.encode()).hexdigest(),
        keys=list(keys),
        explain=explain,
        part_rows=size,
    )
    parts = Parts(out, work, say)
    resumed = 0
    whole = parts.done
    cut = (part.slice(at, size) for part in found.parts for at in range(0, part.num_rows, size))
    for number, part in enumerate(cut):
        if number < whole:
            resumed += part.num_rows
        else:
            if resumed and number == whole:
                say(f"{parts.folder}: {resumed} rows are done; going on from there")
            scores, rejected = _part(part, model, dataset, settings, explain)
            parts.add(_with_keys(scores, rows, keys), rejected)
    schema = with_reasons(found.layout.schema())
    return _finish(parts, schema, model, out, rate, resumed)


def _part(
    part: pa.Table, model: Package, dataset: str, settings: Dataset, explain: bool
) -> tuple[pa.Table, pa.Table]:
    """The scores of the clean rows of a part, and its other rows with the reasons."""
    validated = _validated(part, dataset, settings)
    clean = validated.clean
    if not clean.num_rows:
        return _NONE, validated.quarantined
    raw = as_input(clean, tables.layout_of(clean, None))
    scores = model.score(raw)
    if explain:
        scores = scores.join(model.explain(raw))
    scores.insert(0, "row", clean.column(tables.POSITION).to_numpy())
    if ".time" in clean.column_names:
        times = clean.column(".time").to_numpy(zero_copy_only=False)
        scores.insert(1, "time", pd.Series(iso(times), dtype="object"))
    return pa.Table.from_pandas(scores, preserve_index=False).replace_schema_metadata(
        None
    ), validated.quarantined


def _with_keys(scores: pa.Table, rows: Path, keys: Sequence[str]) -> pa.Table:
    """Scores with the `keys` of their rows after the rows' numbers; a row group is read at a time."""
    if not keys or not scores.num_rows:
        return scores
    wanted = scores.column("row").to_numpy()
    file, start, found = pq.ParquetFile(rows), 0, []
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        here = wanted[(wanted >= start) & (wanted < start + count)] - start
        if len(here):
            found.append(file.read_row_group(group, columns=list(keys)).take(here))
        start += count
    given = pa.concat_tables(found)
    for at, name in enumerate(keys, start=1):
        scores = scores.add_column(at, given.schema.field(name), given.column(name))
    return scores


def _validated(part: pa.Table, dataset: str, settings: Dataset) -> Validated:
    # A row is scored as often as it is there.
    expectations = settings.expectations.model_copy(update={"unique": []})
    return validate(part, dataset, settings.source, expectations, limits="samples")


def first_rows(dataset: str, rows: Path) -> pa.Table | None:
    """The clean rows of the first part of a file; None where there are none."""
    settings = load_params().dataset(dataset)
    first = next(iter(sources.read_samples(rows, settings.source, ROWS).parts), None)
    clean = None if first is None else _validated(first, dataset, settings).clean
    return clean if clean is not None and clean.num_rows else None


def _finish(
    parts: Parts, rejected: pa.Schema, model: Package, out: Path, rate: float | None, resumed: int
) -> Scored:
    """Put the parts together: first what was set aside, last the scores."""
    rejected_out = out.with_suffix(".rejected.parquet")
    bad = 0
    with tables.writing(rejected_out, rejected) as writer:
        for stored in parts.rejected():
            if stored.num_rows:
                bad += stored.num_rows
                writer.write_table(stored.read())
    if not bad:
        rejected_out.unlink()
    schema = parts.scores_schema()
    flags = None
    if rate is not None:
        flags = model.discoveries(parts.chances(), rate)
        schema = schema.insert(schema.get_field_index("is_anomaly") + 1, pa.field("flagged", pa.bool_()))
    scored = anomalies = 0
    with tables.writing(out, schema) as writer:
        for part in parts.scores():
            columns = {name: part.column(name) for name in part.column_names}
            if flags is not None:
                columns["flagged"] = pa.array(flags[scored : scored + part.num_rows])
            each = [_cast(columns.get(field.name), field.type, part.num_rows) for field in schema]
            writer.write_table(pa.Table.from_arrays(each, schema=schema))
            scored += part.num_rows
            anomalies += pc.sum(each[schema.get_field_index("is_anomaly")]).as_py() or 0
    parts.remove()
    flagged = None if flags is None else int(flags.sum())
    return Scored(scored, anomalies, flagged, bad, out, rejected_out if bad else None, resumed)


def _cast(column: pa.ChunkedArray | pa.Array | None, type_: pa.DataType, rows: int) -> pa.Array:
    return pa.nulls(rows, type_) if column is None else tables.whole(column).cast(type_)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def iso(times: NDArray[np.float64]) -> list[str | None]:
    """Seconds since 1970 as ISO 8601, to the millisecond; None where there is no time."""
    known = np.isfinite(times)
    moments = np.where(known, np.round(times * 1000), 0).astype("datetime64[ms]")
    texts = np.datetime_as_string(moments, timezone="UTC").tolist()
    return [text if there else None for text, there in zip(texts, known, strict=True)]


@task(task_run_name="score {rows.name}", cache_policy=NO_CACHE)
def score_task(
    dataset: str, rows: Path, out: Path, rate: float | None, explain: bool, keys: Sequence[str]
) -> State[Scored]:
    """`score_file`, as a task."""
    try:
        return Completed(data=score_file(dataset, rows, out, rate, explain, keys, get_run_logger().info))
    except LatentOpsError as error:
        return Failed(message=str(error))


@flow(name="score", flow_run_name="score {dataset}")
def score(
    dataset: str,
    rows: Path,
    out: Path,
    rate: float | None = None,
    explain: bool = False,
    keys: Sequence[str] = (),
) -> State[Scored]:
    """Score the rows of a file with the champion of `dataset`; flag at the false-discovery `rate`.

    The columns `keys` are passed on.
    """
    state = score_task(dataset, rows, out, rate, explain, keys, return_state=True)
    if not state.is_completed():
        return Failed(message=state.message)
    scored = state.result()
    get_run_logger().info(str(scored))
    monitor(dataset, rows)
    return Completed(message=str(scored), data=scored)


def monitor(dataset: str, rows: Path) -> None:
    """Have the drift monitor look at the first rows of a file; where it can't, a line of the log says so."""
    try:
        first = first_rows(dataset, rows)
        found = None if first is None else look_at(dataset, first)
        if found is not None:
            watch(drift.corrected([found])[0], "score", [rows.name])
    except LatentOpsError as error:
        get_run_logger().warning("%s: not looked at for drift: %s", rows.name, error)


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
    key: Annotated[
        list[str] | None, typer.Option(help="A column of a Parquet file to pass on; may be repeated.")
    ] = None,
) -> None:
    """Score the rows of a file with the champion."""
    load_params().dataset(dataset)
    if not rows.is_file():
        raise LatentOpsError(f"{rows}: not found")
    versions.resolve(f"{dataset}@champion")  # before Prefect starts, which logs what fails a run twice
    running.run(score, dataset, rows, out, false_discovery_rate, explain, key or [])


if __name__ == "__main__":
    guard(app)
