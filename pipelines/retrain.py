"""Take in new rows, reproduce, and promote or hold; every decision goes into `ledger/decisions.jsonl`.

New files lie in `data/incoming/<dataset>/` and stay there, whatever becomes of them. A file counts as new
until a decision names its SHA-256. `python -m pipelines.retrain [--dataset D]`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pyarrow as pa
import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from latentops import atomic, targets
from latentops.cli import guard
from latentops.config import Dataset, load_params
from latentops.data import forgotten, sources, table
from latentops.errors import LatentOpsError
from latentops.reporting import results
from pipelines import reproduce as reproduction
from pipelines.reproduce import run_name, stream

LEDGER = Path("ledger/decisions.jsonl")
INCOMING = Path("data/incoming")
ACCEPTED = Path("data/accepted")
SET_ASIDE = Path("var/retrain")  # bad rows of incoming files, with the reasons

Verdict = Literal["promoted", "held", "failed", "rejected", "waiting", "no new rows"]
SETTLED = {"promoted", "held", "failed", "rejected", "no new rows"}  # after these a file is new no more


@dataclass(frozen=True)
class Incoming:
    """A file as it lay in `data/incoming`: its path, and the SHA-256 it is known by."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Rows:
    """What a file brought: rows in it, those as expected (and a table of them), and why others are not."""

    file: Incoming
    clean: pa.Table
    bad: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Decision:
    """One line of the ledger."""

    dataset: str
    decision: Verdict
    reason: str
    files: tuple[dict[str, str], ...] = ()
    rows: dict[str, int] = field(default_factory=lambda: {"new": 0, "clean": 0, "bad": 0})
    bad_reasons: dict[str, int] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    gates: tuple[dict[str, Any], ...] = ()
    version: int | None = None

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.dataset}: {self.decision}: {self.reason}"


def decisions(dataset: str) -> list[dict[str, Any]]:
    """What was decided about `dataset` so far, the oldest first; `LatentOpsError` names a broken line."""
    entries = []
    for number, line in enumerate(_lines(), start=1):
        try:
            entries.append(dict(json.loads(line)))
        except ValueError as error:
            raise LatentOpsError(f"{LEDGER}: line {number} is not JSON ({error})") from None
    return [entry for entry in entries if entry.get("dataset") == dataset]


def append(decision: Decision) -> None:
    """Add `decision` to the ledger, with the time."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"when": when, **asdict(decision)}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    atomic.write_text(LEDGER, "".join(f"{each}\n" for each in [*_lines(), line]))


def _lines() -> list[str]:
    return LEDGER.read_text(encoding="utf-8").splitlines() if LEDGER.exists() else []


def new_files(dataset: str, kind: str, past: Iterable[Mapping[str, Any]]) -> list[Incoming]:
    """Files in `data/incoming/<dataset>` that no settled decision of `past` names, by name.

    Half-written ones (`*.part`, hidden files) are left alone, and of two with the same bytes one is enough.
    """
    seen = {file["sha256"] for entry in past if entry["decision"] in SETTLED for file in entry["files"]}
    suffixes = {".parquet", ".csv"} if kind in ("tabular", "text") else {".parquet"}
    found = []
    folder = INCOMING / dataset
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix in suffixes and path.is_file() and not path.name.startswith("."):
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            if sha256 not in seen:
                seen.add(sha256)
                found.append(Incoming(path, sha256))
    return found


def examine(file: Incoming, dataset: str, settings: Dataset, earlier: Sequence[pa.Table] = ()) -> Rows:
    """Read and validate `file`: row by row, and together with all rows there are and the `earlier` new ones.

    Bad rows go to `var/retrain/<dataset>/<file>.rejected.parquet` with their reasons. Raises `DataError`
    where the file can't be read, its columns are wrong, or the dataset with it would break a limit (and so
    stop the pipeline).
    """
    from latentops.data.expectations.acceptance import accepted
    from latentops.data.expectations.validation import validate

    read = sources.read_rows(file.path, settings.source)
    layout = table.layout_of(read, settings.source.label)
    (new,) = forgotten.without([read], layout, forgotten.read(ACCEPTED / dataset))
    rows = validate(new, dataset, settings.source, settings.expectations, limits="rows")
    present = sources.ingest(settings.source, ACCEPTED / dataset).whole()
    together = pa.concat_tables([present, *earlier, new])
    validate(together, dataset, settings.source, settings.expectations, accepted=accepted(dataset))
    if rows.quarantined.num_rows:
        table.write(SET_ASIDE / dataset / f"{file.path.stem}.rejected.parquet", rows.quarantined)
    return Rows(file, rows.clean, rows.quarantined.num_rows, rows.summary["reasons"])


def summary(found: Iterable[Rows]) -> dict[str, Any]:
    """The fields of a decision that say which files it is about and what was in them."""
    found = list(found)
    clean, bad = sum(each.clean.num_rows for each in found), sum(each.bad for each in found)
    reasons: Counter[str] = Counter()
    for each in found:
        reasons.update(each.reasons)
    return {
        "files": tuple(named(each.file) for each in found),
        "rows": {"new": clean + bad, "clean": clean, "bad": bad},
        "bad_reasons": dict(reasons),
    }


def named(file: Incoming) -> dict[str, str]:
    """How the ledger names a file."""
    return {"name": file.path.name, "sha256": file.sha256}


def unfinished(past: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the last run that took rows in, or tried to go on with them, failed."""
    verdicts = [entry["decision"] for entry in past if entry["decision"] != "rejected"]
    return verdicts[-1:] == ["failed"]


@task(task_run_name="validate {file.path.name}", cache_policy=NO_CACHE)
def validate_file(file: Incoming, dataset: str, earlier: list[pa.Table]) -> State[Any]:
    """The rows of one incoming file; a file that can't be taken in fails by name."""
    try:
        return Completed(data=examine(file, dataset, load_params().dataset(dataset), earlier))
    except LatentOpsError as error:
        return Failed(message=str(error))


@task(task_run_name="accept {rows.file.path.name}", cache_policy=NO_CACHE)
def accept(rows: Rows, dataset: str) -> str | None:
    """Keep the clean rows of a file for good, under DVC; the name they got, or None if all were known."""
    path = sources.accept(ACCEPTED / dataset, rows.clean, load_params().dataset(dataset).source)
    if path is None:
        return None
    code, lines = stream(["--wait-for-lock", "add", "--quiet", str(path)], get_run_logger().info)
    if code:
        raise LatentOpsError(f"dvc add {path}: {' '.join(lines[-1:]) or 'failed without a word'}")
    return path.name


@flow(name="retrain", flow_run_name=lambda: run_name("retrain", flow_run.parameters))
def retrain(dataset: str | None = None, workers: int | None = None, gpu_slots: int = 1) -> State[Any]:
    """Retrain `dataset`, or every dataset of the DAG, on what has come in since; decide and record it."""
    logger = get_run_logger()
    made = []
    for name in targets.datasets(load_params(), [dataset] if dataset else []):
        for decision in retrain_one(name, workers, gpu_slots):
            append(decision)
            made.append(decision)
            logger.info(str(decision))
    failed = [str(each) for each in made if each.decision == "failed"]
    return Failed(message="\n".join(failed)) if failed else Completed(message="; ".join(map(str, made)))


def retrain_one(dataset: str, workers: int | None, gpu_slots: int) -> Iterable[Decision]:
    """The decisions about `dataset`: one for each rejected file, then the one about the others."""
    params = load_params()
    past = decisions(dataset)
    found: list[Rows] = []
    for file in new_files(dataset, params.dataset(dataset).source.kind, past):
        state = validate_file(file, dataset, [each.clean for each in found], return_state=True)
        if state.is_completed():
            found.append(cast(Rows, state.result()))
        else:
            yield Decision(dataset, "rejected", state.message or "not readable", (named(file),))

    told = summary(found)
    clean, least = told["rows"]["clean"], params.retrain.min_new_rows
    if found and clean >= least:
        accepted = tuple(filter(None, [accept(rows, dataset) for rows in found]))
        if accepted:
            yield conclude(dataset, accepted, told, workers, gpu_slots)
            return
        yield Decision(dataset, "no new rows", "every row was known already", **told)
    elif found:
        reason = f"{clean} clean new rows, fewer than retrain.min_new_rows = {least}"
        yield Decision(dataset, "waiting", reason, **told)
    elif not unfinished(past):
        yield Decision(dataset, "no new rows", "no new file", **told)
    if unfinished(past):
        yield conclude(dataset, (), summary([]), workers, gpu_slots)


def conclude(
    dataset: str, accepted: tuple[str, ...], told: dict[str, Any], workers: int | None, gpu_slots: int
) -> Decision:
    """Reproduce, then let the gates decide."""
    from latentops.registry.champion import Decision as Outcome

    state = reproduction.reproduce(dataset, None, workers, gpu_slots, promoting=False, return_state=True)
    if not state.is_completed():
        return Decision(dataset, "failed", state.message or str(state.type), accepted=accepted, **told)
    if set(targets.datasets(load_params())) <= set(results.compared()):  # the board spans all datasets
        stream(["--wait-for-lock", "repro", "--single-item", "report"], get_run_logger().info)
    state = reproduction.promote(
        dataset, f"retrained on {', '.join(accepted) or 'rows accepted before'}", return_state=True
    )
    if not state.is_completed():
        return Decision(dataset, "failed", f"promotion: {state.message}", accepted=accepted, **told)
    outcome = cast(Outcome, state.result())
    return Decision(
        dataset,
        "promoted" if outcome.promoted else "held",
        outcome.text.removeprefix(f"{dataset}: "),
        accepted=accepted,
        gates=tuple(asdict(gate) for gate in outcome.gates),
        version=outcome.version,
        **told,
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    workers: Annotated[int | None, typer.Option(help="Stages at once; one a core, unless given.")] = None,
    gpu_slots: Annotated[int, typer.Option(help="Training stages at once on a GPU.")] = 1,
) -> None:
    """Take in new rows and retrain, once, now."""
    targets.datasets(load_params(), [dataset] if dataset else [])
    state = retrain(dataset, workers, gpu_slots, return_state=True)
    if not state.is_completed():
        raise LatentOpsError(state.message or f"the flow ended as {state.name}")


if __name__ == "__main__":
    guard(app)
