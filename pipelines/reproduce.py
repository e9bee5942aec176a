"""`dvc repro` in parallel: a task a stage, started as soon as what it depends on is done.

The graph and what is stale both come from DVC. `python -m pipelines.reproduce [--dataset D] [--variant V]`.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run, task_run
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed

from latentops import locks, targets
from latentops.cli import guard, write_report
from latentops.config import Params, load_params
from latentops.errors import LatentOpsError
from pipelines import graph, running, summary
from pipelines.children import Children, TimeLimitError, dvc
from pipelines.graph import Unit
from pipelines.summary import Recorder, Summary

if TYPE_CHECKING:
    from pipelines.remote import Workers

# Of DVC's output, what is advice for a person at a prompt or goes without saying; a log is better without.
_LEFT_OUT = (
    "Updating lock file",
    "Generating lock file",
    "Use `dvc push`",
    "To track the changes",
    "To enable auto staging",
    "git add",
    "dvc config core.autostage",
)


@dataclass(frozen=True)
class Plan:
    """What there is to do: the units to launch, and how many stages DVC has cached."""

    work: list[Unit]
    cached: int
    graph: graph.Graph

    def __str__(self) -> str:
        """One line, such as `73 stages: 70 cached by DVC, 3 to look at`."""
        stale = sum(len(unit.stages) for unit in self.work)
        rest = f"{stale} stale or after a stale one" if stale else "nothing to run"
        return f"{stale + self.cached} stages: {self.cached} cached by DVC, {rest}"


def make_plan(wanted: Iterable[str], say: Callable[[str], object] = print) -> Plan:
    """Ask DVC what of the stages `wanted`, and all they depend on, is stale.

    What processes of DVC that were killed have locked is released before; `say` is told.
    """
    for line in locks.release():
        say(line)
    stages = graph.read_graph()
    selected = graph.closure(stages, wanted)
    why = graph.reasons(stages, graph.read_status(say), selected)
    return Plan(graph.units(stages, why), len(selected) - len(why), stages)


RETRY_AFTER = (5, 30)
"""Seconds to wait before a stage that was interrupted is tried again, once for each."""

INTERRUPTED = "Interrupted"
"""The name of the state of a failure that may pass."""

_MAY_PASS = (
    "Unable to acquire lock",
    "Connection refused",
    "Connection reset",
    "Connection aborted",
    "Cannot connect to host",
    "Temporary failure in name resolution",
    "timed out",
)
"""What DVC says where it gave up waiting for its lock, or a remote can't be reached now."""


def retriable(task: object, task_run: object, state: State[Any]) -> bool:
    """Whether the failure in `state` may pass."""
    return state.name == INTERRUPTED


@task(
    task_run_name="{unit.name}",
    cache_policy=NO_CACHE,
    retries=len(RETRY_AFTER),
    retry_delay_seconds=list(RETRY_AFTER),
    retry_condition_fn=retriable,
)
def run_unit(unit: Unit, children: Children, stage_hours: float, missing: Sequence[str] = ()) -> State[Any]:
    """Run one unit through DVC; what the stages print goes to the log as it comes.

    What the stages `missing` made elsewhere is pulled first. Its data are the stages that ran. A failure that
    may pass is tried again, as `RETRY_AFTER` says.
    """
    logger = get_run_logger()
    logger.info("%s: %s", " and ".join(unit.stages), unit.why)
    arguments = ["--wait-for-lock", "repro", "--single-item", *unit.stages]
    try:
        code, lines = pull(missing, logger.info, children) if missing else (0, [])
        if not code:
            code, lines = stream(arguments, logger.info, children, stage_hours * 3600)
    except TimeLimitError:
        said = f"took longer than stage_hours={stage_hours:g}, and was ended with all that it had started"
        return Failed(message=f"{unit.name}: {said}")
    if children.stopped:
        return Failed(message=f"{unit.name}: ended with the flow")
    if code:
        tries = task_run.run_count or 1
        again = f" ({tries} tries)" if tries > 1 else ""
        name = INTERRUPTED if may_pass(code, lines) else None
        return Failed(name=name, message=f"{complaint(unit, lines)}{again}")
    cached = [stage for line in lines if (stage := graph.had_cached(line))]
    ran = [stage for stage in unit.stages if stage not in cached]
    told = [f"{' and '.join(ran)} ran: {unit.why}"] if ran else []
    told += [f"DVC had {' and '.join(cached)} cached"] if cached else []
    return Completed(message="; ".join(told), data=ran)


def stream(
    arguments: list[str],
    say: Callable[[str], None],
    children: Children | None = None,
    seconds: float | None = None,
) -> tuple[int, list[str]]:
    """Run `dvc`, telling each line of its output as it comes; its exit status and the lines.

    What another process of DVC's has locked is waited for. Each stage may take `seconds`; raises
    `TimeLimitError` where one took longer.
    """
    lines: list[str] = []

    def hear(line: str) -> None:
        text = line.strip()
        if text and not text.startswith(_LEFT_OUT):
            lines.append(text)
            say(text)

    command, environment = dvc(arguments)
    with nullcontext(children) if children else Children() as group:
        for pause in graph.pauses():
            lines.clear()
            code = group.run(command, hear, environment, seconds, renews=graph.starts)
            if not code or graph.blocked_by(lines) is None or group.ended_within(pause):
                break
    return code, lines


def may_pass(code: int, lines: list[str]) -> bool:
    """Whether a failure of `dvc` may pass: a signal ended a process, a lock was held, a remote was away.

    Never where the stage itself has said what is wrong, nor after SIGINT, by which people end a run.
    """
    if any(line.startswith("error: ") for line in lines):
        return False
    if code < 0 or any(graph.killed(line) for line in lines):
        return code != -signal.SIGINT
    return any(line.startswith("ERROR: ") and any(sign in line for sign in _MAY_PASS) for line in lines)


def pull(
    stages: Sequence[str], say: Callable[[str], None], children: Children | None = None
) -> tuple[int, list[str]]:
    """Have the outs of `stages` from the DVC remote, as `dvc.lock` names them; as `stream`."""
    return stream(["--wait-for-lock", "pull", "--force", *stages], say, children)


def complaint(unit: Unit, lines: list[str]) -> str:
    """What went wrong, in the words of the stage where it has any, else in DVC's."""
    said = [line for line in lines if line.startswith("error: ")]
    said = said or [line for line in lines if line.startswith("ERROR: ")] or lines[-1:]
    what = said[0].partition(": ")[2] if said and said[0].lower().startswith("error: ") else " ".join(said)
    return f"{unit.name}: {what or 'dvc repro failed without a word'}"


@task(task_run_name="promote {dataset}", cache_policy=NO_CACHE)
def promote(dataset: str, reason: str = "", *, approved: bool = True) -> State[Any]:
    """Make what passes its gates, and is approved, the champion; the decision, also where a gate holds."""
    from latentops import promotion

    try:
        decision = promotion.promote(dataset, reason, approved=approved)
    except LatentOpsError as error:
        return Failed(message=str(error))
    return Completed(message=decision.text, data=decision)


@flow(name="reproduce", flow_run_name=lambda: run_name("reproduce", flow_run.parameters))
def reproduce(
    dataset: str | None = None,
    variant: str | None = None,
    workers: int | None = None,
    gpu_slots: int = 1,
    promoting: bool = True,
    stage_hours: float = 24.0,
    cluster: str | None = None,
    pool: str | None = None,
) -> State[Any]:
    """Run what is stale of the DAG (or of one dataset's or variant's part), then promote.

    `workers` stages run at once (default: one a core), `gpu_slots` of them training where training uses a
    GPU. A stage that takes longer than `stage_hours` is ended. A failed stage stops only what depends on it;
    the flow then fails with every failure in its message, and the next run takes up where this one ended.

    With a `cluster` (the address of a Dask scheduler) or a `pool` (a Prefect work pool) its workers run the
    stages, as many at once as there are to run, unless `workers` says otherwise; `gpu_slots` is then theirs.
    """
    params = load_params()
    wanted = targets.targets(params, dataset, variant)
    spanned = targets.datasets(params, [dataset] if dataset else [])
    with summarised(run_name("reproduce", {"dataset": dataset, "variant": variant}), spanned) as run:
        plan = make_plan(wanted, get_run_logger().warning)
        get_run_logger().info(str(plan))
        run.plan(plan.work, plan.cached)
        on_gpu, elsewhere = uses_gpu(params), bool(cluster or pool)
        at_once = workers or (max(1, len(plan.work)) if elsewhere else free_workers(params))
        slots = gpu_slots if on_gpu and not elsewhere else None
        schedule = graph.Schedule(plan.work, at_once, slots)
        if elsewhere:
            from pipelines import remote

            with remote.workers(cluster, pool, plan.graph) as others:
                run_all(schedule, run, stage_hours, on_gpu, others)
            made = [stage for unit in plan.work if unit.name in schedule.done for stage in unit.stages]
            code, lines = pull(made, get_run_logger().info) if made else (0, [])
            run.failures += [f"dvc pull: {' '.join(lines[-1:])}"] if code else []
        else:
            run_all(schedule, run, stage_hours, on_gpu)
        stopped = {
            stage
            for unit in plan.work
            if unit.name in schedule.failed | schedule.skipped
            for stage in unit.stages
        }
        if promoting and not variant:
            for name in spanned:
                if f"record@{name}" not in stopped:
                    state = promote.with_options(tags={"promote", name})(name, return_state=True)
                    if state.is_completed():
                        run.decisions.append(str(state.message))
                    else:
                        run.failures.append(f"promote {name}: {state.message}")
        try:
            if plan.work:  # else it has been shown already
                show(params)
        except (LatentOpsError, OSError) as error:
            run.failures.append(f"report: {error}")
    if run.failures:
        return Failed(message=failures(run.failures, sorted(schedule.skipped)))
    return Completed(message=str(plan))


def run_all(
    schedule: graph.Schedule,
    run: Recorder,
    stage_hours: float,
    on_gpu: bool,
    others: "Workers | None" = None,
) -> None:
    """Run what `schedule` has, by `others` where they are given, and take it down.

    Where the flow ends before that, so do the stages that run here.
    """
    futures: dict[PrefectFuture[Any], Unit] = {}
    told = cast(UUID, create_progress_artifact(0.0, key="progress", description=str(schedule)))
    with Children() as children:
        while True:
            for unit in schedule.start():
                run.start(unit)
                if others is None or graph.stays(unit.name):
                    missing = others.needs(unit) if others else ()
                    tagged = run_unit.with_options(tags=graph.tags(unit, on_gpu=on_gpu))
                    futures[tagged.submit(unit, children, stage_hours, missing)] = unit
                else:
                    futures[others.submit(unit)] = unit
            if not futures:
                break
            future = next(as_completed(list(futures)))
            future.wait()  # settles its state
            unit = futures.pop(future)
            failed = not future.state.is_completed()
            away = None if graph.stays(unit.name) else others
            if away is not None:
                away.release(future)
            if failed:
                run.fail(unit, future.state.message or f"{unit.name}: {future.state.name}")
            elif away is not None:
                away.take(unit)
                run.finish(unit, unit.stages)
            else:
                run.finish(unit, future.result())
            schedule.finish(unit.name, failed=failed)
            update_progress_artifact(told, schedule.ended(), str(schedule))


@contextmanager
def summarised(name: str, datasets: Sequence[str]) -> Iterator[Recorder]:
    """Take down what the flow run does, and tell it as the last thing, however the run ends."""
    parent = flow_run.parent_flow_run_id
    run = Recorder(name, datasets, flow_run.id, parent)
    try:
        yield run
    except BaseException as error:
        tell(run.end(error))
        raise
    told = tell(run.end())
    create_markdown_artifact(told, key="summary", description="What the run did, what it cost, what changed")


def tell(ended: Summary) -> str:
    """Keep a summary as JSON and log its text; the text."""
    text = str(ended)
    try:
        where = str(summary.write(ended))
    except OSError as error:
        where = f"not kept: {error}"
    get_run_logger().info("%s\n\n%s", text, where)
    return text


def failures(complaints: list[str], skipped: list[str]) -> str:
    """Every failure in one message, and how to go on."""
    count = f"{len(complaints)} failed" + (f", {len(skipped)} not started for it" if skipped else "")
    return "\n  ".join([f"{count}; the next run takes up from here", *complaints])


def free_workers(params: Params) -> int:
    """How many stages at once this machine's cores take."""
    return max(1, len(os.sched_getaffinity(0)) // params.training.threads)


def uses_gpu(params: Params) -> bool:
    """Whether training goes to a GPU, which fewer stages at once can share than cores."""
    return params.training.device == "cuda" or (
        params.training.device == "auto" and shutil.which("nvidia-smi") is not None
    )


def show(params: Params) -> None:
    """As artifacts of the flow run: where MLflow is, the leaderboard and the report of what is compared."""
    from latentops.registry import store
    from latentops.reporting import leaderboard, results

    uri = store.tracking_uri()
    if store.is_server(uri):
        create_link_artifact(store.shown(uri), link_text="MLflow", key="mlflow")
    else:
        create_markdown_artifact(f"`make ui` opens MLflow on {store.shown(uri)}", key="mlflow")

    compared = [results.comparison(name) for name in params.run.datasets if name in results.compared()]
    if not compared:
        return
    lines = ["| dataset | name | role | metric | mean | 95 % interval |", "|---|---|---|---|---|---|"]
    for one in compared:
        for row in leaderboard.ordered(one.rows, one.ranked_by):
            estimate = row.metrics.get(one.ranked_by)
            cells = (one.dataset, row.name, row.role, results.title(one.ranked_by))
            numbers = (leaderboard.number(row.mean(one.ranked_by)), leaderboard.interval(estimate))
            lines.append(f"| {' | '.join((*cells, *numbers))} |")
    create_markdown_artifact(
        "\n".join(lines), key="leaderboard", description="Every variant beside its floors"
    )
    report = write_report().absolute()
    create_link_artifact(report.as_uri(), link_text=str(report), key="report", description="The HTML report")


def run_name(flow_name: str, parameters: dict[str, Any]) -> str:
    """Such as `reproduce digits sparse`, by what the run is narrowed to."""
    return " ".join(filter(None, [flow_name, parameters.get("dataset"), parameters.get("variant")]))


def has_server() -> bool:
    """Whether a Prefect server is named; without one a flow brings up its own, which takes seconds."""
    return bool(get_current_settings().api.url)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only this variant.")] = None,
    workers: Annotated[int | None, typer.Option(help="Stages at once; one a core, unless given.")] = None,
    gpu_slots: Annotated[int, typer.Option(help="Training stages at once on a GPU.")] = 1,
    stage_hours: Annotated[float, typer.Option(help="Hours after which a stage is ended.")] = 24.0,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose workers run the stages.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="A Prefect work pool whose workers run the stages.")
    ] = None,
) -> None:
    """Reproduce what is stale in parallel, then promote what passes its gates."""
    params = load_params()
    plan = make_plan(targets.targets(params, dataset, variant))
    if not plan.work and not has_server():
        print(plan)
        return
    told = {"stage_hours": stage_hours, "cluster": cluster, "pool": pool}
    running.run(reproduce, dataset, variant, workers, gpu_slots, **told)


if __name__ == "__main__":
    guard(app)
