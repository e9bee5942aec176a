"""Take in new rows, decide whether they are worth a retraining, and promote or hold what comes of it.

Every decision goes into `ledger/decisions.jsonl`, a "no" too. A file of `data/incoming/<dataset>/` counts as
new until a decision names its SHA-256. `python -m pipelines.retrain [--dataset D]`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Annotated, Any, cast

import pyarrow as pa
import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from latentops import targets
from latentops.cli import guard
from latentops.config import load_params
from latentops.data import sources
from latentops.errors import LatentOpsError
from latentops.registry import drift, ledger, store
from latentops.registry.champion import APPROVAL
from latentops.registry.drift import Drift
from latentops.reporting import results
from pipelines import notices, policy, publish, running
from pipelines import reproduce as reproduction
from pipelines import workspace as workspaces
from pipelines.decisions import Decision, append, decisions, unfinished
from pipelines.incoming import ACCEPTED, Incoming, Rows, examine, named, new_files, summary
from pipelines.reproduce import has_server, run_name, stream, summarised
from pipelines.watching import look_at, watch

HOLDER = "another retraining"
ASK_EVERY = 10
LATE = 600
"""Seconds between two looks whether a person has answered, and those that the answer may be late."""


Limits = dict[str, Any]
"""Arguments of `reproduce`: how many stages at once, and for how long."""


@dataclass(frozen=True)
class Arrival:
    """What has come in for a dataset: the rows of its new files, and a decision for each that is rejected."""

    dataset: str
    past: list[dict[str, Any]]
    found: list[Rows]
    rejected: list[Decision]


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
def retrain(
    dataset: str | None = None,
    workers: int | None = None,
    gpu_slots: int = 1,
    stage_hours: float = 24.0,
    workspace: Path | None = None,
) -> State[Any]:
    """Retrain `dataset`, or every dataset of the DAG, on what has come in since; decide and record it.

    `workers`, `gpu_slots` and `stage_hours` are those of `reproduce`. What waits for nothing but a person's
    approval is asked for where there is a server to answer at. In a `workspace`, a folder of the flow's own,
    the checkout is left as it is; see `pipelines.workspace`.
    """
    notices.blocks()  # one that isn't there is an error now, not after hours
    limits = {"workers": workers, "gpu_slots": gpu_slots, "stage_hours": stage_hours}
    if workspace is not None:
        return elsewhere(workspace, dataset, limits)
    names = targets.datasets(load_params(), [dataset] if dataset else [])
    made: list[Decision] = []

    def settle(decision: Decision) -> None:
        record(decision)
        run.decided(decision)
        made.append(decision)

    with summarised(run_name("retrain", {"dataset": dataset}), names) as run:
        with store.locked("retrain", HOLDER):
            arrivals = [take_in(name) for name in names]
            for arrival, found in zip(arrivals, looked_at(arrivals), strict=True):
                for decision in decide(arrival, found, limits):
                    settle(decision)
        run.failures += hand_on(made)
        for decision in made:
            notices.tell(decision)
        for waiting in [each for each in made if awaits_approval(each)] if has_server() else []:
            answered = ask(waiting)
            if answered is not None:
                settle(answered)
                run.failures += hand_on([answered])
                notices.tell(answered)
    if run.failures:
        return Failed(message="\n".join(run.failures))
    return Completed(message="; ".join(map(str, made)))


def elsewhere(place: Path, dataset: str | None, limits: Limits) -> State[Any]:
    """`retrain` in a working copy at `place`, whose branch goes back to the checkout's repository."""
    options = {"dataset": dataset, **limits}
    given = {name: str(value) for name, value in options.items() if value is not None}
    arguments = [word for name in given for word in (f"--{name.replace('_', '-')}", given[name])]
    with store.locked("workspace", HOLDER):
        try:
            branch = prepare_workspace(place)
            code = workspaces.run(place, arguments, get_run_logger().info)
            workspaces.hand_back(place, branch)
        except LatentOpsError as error:
            return Failed(message=str(error))
    if code:
        return Failed(message=f"the retraining in {place} failed; its own run says why")
    return Completed(message=f"{branch}: `git merge {branch} && dvc checkout` takes it over")


@task(task_run_name="prepare {place}", cache_policy=NO_CACHE, retries=1, retry_delay_seconds=30)
def prepare_workspace(place: Path) -> str:
    """The workspace's branch, with its data."""
    return workspaces.prepare(place, Path.cwd(), datetime.now(UTC).date())


def record(decision: Decision) -> None:
    """Into the ledger, and into the log."""
    append(decision)
    get_run_logger().info(str(decision))


def hand_on(made: list[Decision]) -> list[str]:
    """Push the data, then commit beside the checkout what git keeps; what went wrong.

    A commit that names data which the remote hasn't got would be of no use to anybody else, so without the
    one there is not the other; the next run makes up for both.
    """
    try:
        push_data()
        commit_results(publish.branch_now(), "\n".join(map(str, made)))
    except LatentOpsError as error:
        return [str(error)]
    return []


@task(task_run_name="dvc push", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[10, 60])
def push_data() -> None:
    """Data to the DVC remote, if there is one."""
    publish.push(get_run_logger().info)


@task(task_run_name="commit on {branch}", cache_policy=NO_CACHE)
def commit_results(branch: str, message: str) -> None:
    """`dvc.lock`, ledgers and results to a branch of their own."""
    made = publish.commit(branch, f"Retrain\n\n{message}")
    if made:
        get_run_logger().info("%s: %s; merge it to take the results over", branch, made[:12])


class Answer(RunInput):
    """What a person says of a new model that waits for them; without a word it goes on waiting."""

    approve: bool | None = None
    reason: str = ""


def awaits_approval(decision: Decision) -> bool:
    """Whether nothing but a person's word holds the new model."""
    return [each["gate"] for each in decision.gates if not each["passed"]] == [APPROVAL]


def ask(waiting: Decision) -> Decision | None:
    """Pause until somebody resumes the run with an `Answer`; what it comes to, or None without one."""
    from latentops.registry import champion

    dataset, hours = waiting.dataset, load_params().retrain.approval_hours
    # A run whose pause has timed out can't be completed any more, so before that it is resumed unanswered.
    nobody = Timer(3600 * hours, resume_flow_run, [flow_run.id, Answer().model_dump()])
    nobody.daemon = True
    nobody.start()
    answer = pause_flow_run(
        wait_for_input=Answer.with_initial_data(description=str(waiting)),
        timeout=round(3600 * hours) + LATE,
        poll_interval=ASK_EVERY,
    )
    nobody.cancel()
    if answer.approve is None:
        get_run_logger().warning("%s: no answer; `latentops promote %s` still promotes it", dataset, dataset)
        return None
    why = answer.reason or "in Prefect"
    if not answer.approve:
        turned_down = champion.reject(dataset, reason=f"turned down: {why}")
        return Decision(
            dataset, "held", turned_down.text.removeprefix(f"{dataset}: "), version=turned_down.version
        )
    state = reproduction.promote(dataset, f"approved: {why}", return_state=True)
    return outcome(dataset, state, {})


def take_in(dataset: str) -> Arrival:
    """Read and validate the new files of `dataset`."""
    past = decisions(dataset)
    found: list[Rows] = []
    rejected = []
    for file in new_files(dataset, load_params().dataset(dataset).source.kind, past):
        state = validate_file(file, dataset, [each.clean for each in found], return_state=True)
        if not file.unchanged():
            get_run_logger().warning("%s: changed while it was read; left for the next run", file.path)
        elif state.is_completed():
            found.append(cast(Rows, state.result()))
        else:
            rejected.append(Decision(dataset, "rejected", state.message or "not readable", (named(file),)))
    return Arrival(dataset, past, found, rejected)


def looked_at(arrivals: list[Arrival]) -> list[Drift | None]:
    """The drift of each, all of them corrected together; None where nothing new is to be held against."""
    found: dict[str, Drift] = {}
    for each in arrivals:
        rows = [one.fresh for one in each.found if one.fresh.num_rows]
        moved = look_at(each.dataset, pa.concat_tables(rows)) if rows else None
        if moved is not None:
            found[each.dataset] = moved
    corrected = dict(zip(found, drift.corrected(found.values()), strict=True))
    for each in arrivals:
        if each.dataset in corrected:
            watch(corrected[each.dataset], "retrain", [one.file.path.name for one in each.found])
    return [corrected.get(each.dataset) for each in arrivals]


def decide(arrival: Arrival, found: Drift | None, limits: Limits) -> Iterator[Decision]:
    """The decisions about a dataset: one for each rejected file, then the one about the others."""
    yield from arrival.rejected
    dataset, past = arrival.dataset, arrival.past
    rules = load_params().retrain
    told = summary(arrival.found)
    if found is not None:
        told["drift"] = found.to_json(rules.drift_alpha or 0.0)
    fresh = sum(each.fresh.num_rows for each in arrival.found)
    if fresh:
        moves = ledger.moves(dataset)
        live_since = datetime.fromisoformat(moves[-1]["when"]) if moves else None
        verdict = policy.decide(
            rules, fresh, found, live_since, policy.last_retrained(past), datetime.now(UTC)
        )
        told["questions"] = verdict.to_json()
        if verdict.retrain:
            accepted = tuple(filter(None, [accept(rows, dataset) for rows in arrival.found]))
            yield conclude(dataset, accepted, verdict.reason, told, limits)
            return
        yield Decision(dataset, "waiting", verdict.reason, **told)
    elif arrival.found:
        reason = "every row was known already" if told["rows"]["clean"] else "no clean row"
        yield Decision(dataset, "no new rows", reason, **told)
    elif not unfinished(past):
        yield Decision(dataset, "no new rows", "no new file", **told)
    if unfinished(past):
        yield conclude(dataset, (), "taking up what failed before", summary([]), limits)


def conclude(
    dataset: str,
    accepted: tuple[str, ...],
    why: str,
    told: dict[str, Any],
    limits: Limits,
) -> Decision:
    """Reproduce, then let the gates decide."""
    state = reproduction.reproduce(dataset, promoting=False, return_state=True, **limits)
    if not state.is_completed():
        return Decision(dataset, "failed", state.message or str(state.type), accepted=accepted, **told)
    if set(targets.datasets(load_params())) <= set(results.compared()):  # the board spans all datasets
        stream(["--wait-for-lock", "repro", "--single-item", "report"], get_run_logger().info)
    state = reproduction.promote(
        dataset, f"retrained for {why}", approved=not load_params().retrain.approval, return_state=True
    )
    return outcome(dataset, state, {"accepted": accepted, **told})


def outcome(dataset: str, state: State[Any], told: dict[str, Any]) -> Decision:
    """What a promotion's task came to, as a decision."""
    from latentops.registry.champion import Decision as Outcome

    if not state.is_completed():
        return Decision(dataset, "failed", f"promotion: {state.message}", **told)
    found = cast(Outcome, state.result())
    return Decision(
        dataset,
        "promoted" if found.promoted else "held",
        found.text.removeprefix(f"{dataset}: "),
        gates=tuple(asdict(gate) for gate in found.gates),
        version=found.version,
        **told,
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    workers: Annotated[int | None, typer.Option(help="Stages at once; one a core, unless given.")] = None,
    gpu_slots: Annotated[int, typer.Option(help="Training stages at once on a GPU.")] = 1,
    stage_hours: Annotated[float, typer.Option(help="Hours after which a stage is ended.")] = 24.0,
    workspace: Annotated[
        Path | None, typer.Option(help="A folder for a working copy; this one is then left as it is.")
    ] = None,
) -> None:
    """Take in new rows and retrain, once, now."""
    targets.datasets(load_params(), [dataset] if dataset else [])
    running.run(retrain, dataset, workers, gpu_slots, stage_hours, workspace and workspace.absolute())


if __name__ == "__main__":
    guard(app)
