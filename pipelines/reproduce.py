"""`dvc repro` in parallel: a task a stage, started as soon as what it depends on is done.

The graph and what is stale both come from DVC. `python -m pipelines.reproduce [--dataset D] [--variant V]`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed

from latentops import targets
from latentops.cli import guard, write_report
from latentops.config import Params, load_params
from latentops.errors import LatentOpsError
from pipelines import graph
from pipelines.graph import Unit

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


def make_plan(wanted: Iterable[str]) -> Plan:
    """Ask DVC what of the stages `wanted`, and all they depend on, is stale."""
    stages = graph.read_graph()
    selected = graph.closure(stages, wanted)
    why = graph.reasons(stages, graph.read_status(), selected)
    return Plan(graph.units(stages, why), len(selected) - len(why), stages)


@task(task_run_name="{unit.name}", cache_policy=NO_CACHE, retries=0)
def run_unit(unit: Unit, missing: Sequence[str] = ()) -> State[Any]:
    """Run one unit through DVC; what the stages print goes to the log as it comes.

    What the stages `missing` made elsewhere is pulled first.
    """
    logger = get_run_logger()
    logger.info("%s: %s", " and ".join(unit.stages), unit.why)
    code, lines = pull(missing, logger.info) if missing else (0, [])
    if not code:
        code, lines = stream(["--wait-for-lock", "repro", "--single-item", *unit.stages], logger.info)
    cached = [stage for line in lines if (stage := graph.had_cached(line))]
    if code:
        return Failed(message=complaint(unit, lines))
    ran = [stage for stage in unit.stages if stage not in cached]
    said = [f"{' and '.join(ran)} ran: {unit.why}"] if ran else []
    said += [f"DVC had {' and '.join(cached)} cached"] if cached else []
    return Completed(message="; ".join(said), data=ran)


def stream(arguments: list[str], say: Callable[[str], None]) -> tuple[int, list[str]]:
    """Run `dvc`, telling each line of its output as it comes; its exit status and the lines.

    Nothing of Prefect's is handed down: a child with an ephemeral server's settings would start its own.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    command = [sys.executable, "-m", "dvc", *arguments]
    lines = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        try:
            for line in process.stdout or ():
                text = line.strip()
                if text and not text.startswith(_LEFT_OUT):
                    lines.append(text)
                    say(text)
        except BaseException:
            process.terminate()
            raise
    return process.returncode, lines


def pull(stages: Sequence[str], say: Callable[[str], None]) -> tuple[int, list[str]]:
    """Have the outs of `stages` from the DVC remote, as `dvc.lock` names them; as `stream`."""
    return stream(["--wait-for-lock", "pull", "--force", *stages], say)


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
    cluster: str | None = None,
    pool: str | None = None,
) -> State[Any]:
    """Run what is stale of the DAG (or of one dataset's or variant's part), then promote.

    `workers` stages run at once (default: one a core), `gpu_slots` of them training where training uses a
    GPU. A failed stage stops only what depends on it; the flow then fails with every failure in its message,
    and the next run takes up where this one ended.

    With a `cluster` (the address of a Dask scheduler) or a `pool` (a Prefect work pool) its workers run the
    stages, as many at once as there are to run, unless `workers` says otherwise; `gpu_slots` is then theirs.
    """
    params = load_params()
    logger = get_run_logger()
    plan = make_plan(targets.targets(params, dataset, variant))
    logger.info(str(plan))
    elsewhere = bool(cluster or pool)
    at_once = workers or (max(1, len(plan.work)) if elsewhere else free_workers(params))
    schedule = graph.Schedule(plan.work, at_once, gpu_slots if uses_gpu(params) and not elsewhere else None)
    if elsewhere:
        from pipelines import remote

        with remote.workers(cluster, pool, plan.graph) as others:
            complaints = follow(schedule, others)
        if made := [stage for unit in plan.work if unit.name in schedule.done for stage in unit.stages]:
            code, lines = pull(made, logger.info)
            complaints += [f"dvc pull: {' '.join(lines[-1:])}"] if code else []
    else:
        complaints = follow(schedule)

    stopped = {
        stage
        for unit in plan.work
        if unit.name in schedule.failed | schedule.skipped
        for stage in unit.stages
    }
    if promoting and not variant:
        for name in targets.datasets(params, [dataset] if dataset else []):
            if f"record@{name}" not in stopped:
                state = promote(name, return_state=True)
                if not state.is_completed():
                    complaints.append(f"promote {name}: {state.message}")
    try:
        show(params)
    except LatentOpsError as error:
        complaints.append(f"report: {error}")
    if complaints:
        return Failed(message=failures(complaints, sorted(schedule.skipped)))
    return Completed(message=str(plan))


def follow(schedule: graph.Schedule, others: "Workers | None" = None) -> list[str]:
    """Run what `schedule` has, by `others` where they are given, until nothing can start; what failed."""
    futures: dict[PrefectFuture[Any], Unit] = {}
    complaints: list[str] = []
    while True:
        for unit in schedule.start():
            if others is None:
                futures[run_unit.submit(unit)] = unit
            elif graph.stays(unit.name):
                futures[run_unit.submit(unit, others.needs(unit))] = unit
            else:
                futures[others.submit(unit)] = unit
        if not futures:
            return complaints
        future = next(as_completed(list(futures)))
        future.wait()  # settles its state
        unit = futures.pop(future)
        failed = not future.state.is_completed()
        if failed:
            complaints.append(future.state.message or f"{unit.name}: {future.state.name}")
        if others is not None and not graph.stays(unit.name):
            others.release(future)
            if not failed:
                others.take(unit)
        schedule.finish(unit.name, failed=failed)


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
    """The leaderboard and the report as artifacts of the flow run, of what has been compared so far."""
    from latentops.reporting import leaderboard, results

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
    state = reproduce(dataset, variant, workers, gpu_slots, cluster=cluster, pool=pool, return_state=True)
    if not state.is_completed():
        raise LatentOpsError(state.message or f"the flow ended as {state.name}")


if __name__ == "__main__":
    guard(app)
