"""Units of the DAG on other machines, which share the git repository and the DVC remote and nothing else.

A unit is handed over as a git commit and comes back as one: `dvc.lock` and the small outs, those that DVC
leaves to git. What DVC caches goes through its remote. Both commits are refs below `refs/latentops/`, no
branches, and are gone when the flow ends. Whoever has them runs the unit: a worker of a Dask cluster, or
one of a Prefect work pool. `docs/scale.md` has the commands.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from latentops import atomic, costs
from latentops.errors import LatentOpsError
from pipelines import repository
from pipelines.graph import Graph, Unit
from pipelines.repository import git
from pipelines.reproduce import complaint, has_server, stream

_LOCK = "dvc.lock"
_LEDGER = "ledger"  # what promotions write, and no stage reads
_CLONE = "LATENTOPS_CLONE"
"""Names the working copy of a work pool's worker."""
_TRIES = 2  # of a unit in a work pool whose worker is lost


def publish(ref: str, paths: Collection[str], ignored: Collection[str] = ()) -> None:
    """Push HEAD as `ref`, with `paths` as they are in the working copy; index and branch stay as they are.

    `ignored` are paths too, of files that git ignores.
    """
    commit = repository.commit(repository.tree(paths, ignored), ["HEAD"], ref)
    git("push", "--quiet", "--no-verify", "origin", f"+{commit}:{ref}")


def fetch(ref: str) -> None:
    """Have `ref` of the shared repository here, under the same name."""
    git("fetch", "--quiet", "--no-tags", "origin", f"+{ref}:{ref}")


def work(ref: str, unit: Unit, needs: Collection[str], say: Callable[[str], None]) -> str | None:
    """Run `unit` in the working copy that is the current folder; what went wrong, or None.

    Begins with the commit `ref/given` and ends with pushing `ref/made`, so that a unit which is cut short
    leaves nothing that anyone would take for done. `needs` are the stages it depends on.
    """
    with atomic.alone(Path(".dvc")):  # one unit at a time in a working copy
        fetch(f"{ref}/given")
        git("checkout", "--quiet", "--force", "--detach", f"{ref}/given")
        git("clean", "--quiet", "--force", "-d")
        calls = [
            ["repro", "--single-item", "--pull", *unit.stages],
            ["push", "--run-cache", *unit.stages],
        ]
        if needs:  # without a name DVC would pull everything
            calls.insert(0, ["pull", "--force", *needs])
        for arguments in calls:
            code, lines = stream(["--wait-for-lock", *arguments], say)
            if code:
                return complaint(unit, lines)
        publish(f"{ref}/made", ["."], [str(costs.path(stage)) for stage in unit.stages])
    return None


@task(task_run_name="{unit.name}", cache_policy=NO_CACHE, retries=0)
def run_there(ref: str, unit: Unit, needs: list[str]) -> State[Any]:
    """`work` as a task, on a worker of a Dask cluster."""
    return _reported(ref, unit, needs)


@flow(name="unit")
def run_pulled(ref: str, unit: Unit, needs: list[str]) -> State[Any]:
    """`work` as a flow, on a worker of a work pool."""
    return _reported(ref, unit, needs)


def _reported(ref: str, unit: Unit, needs: list[str]) -> State[Any]:
    logger = get_run_logger()
    logger.info("%s: %s; in %s", " and ".join(unit.stages), unit.why, Path.cwd())
    try:
        wrong = work(ref, unit, needs, logger.info)
    except LatentOpsError as error:
        wrong = f"{unit.name}: {error}"
    return Failed(message=wrong) if wrong else Completed(message=f"{unit.name} ran: {unit.why}")


@task(task_run_name="{unit.name}", cache_policy=NO_CACHE, retries=0)
def run_in_pool(deployment: str, ref: str, unit: Unit, needs: list[str]) -> State[Any]:
    """Hand `unit` to the work pool of `deployment` and wait for it; again where its worker is lost."""
    parameters = {"ref": ref, "unit": _plain(unit), "needs": needs}
    for _ in range(_TRIES):
        run = run_deployment(deployment, parameters=parameters, flow_run_name=unit.name, poll_interval=1)
        state = cast(FlowRun, run).state  # awaited by Prefect, as this is no coroutine
        if state is None or not state.is_crashed():
            break
    if state is not None and state.is_completed():
        return Completed(message=state.message)
    said = (state and state.message) or "its worker was lost"
    return Failed(message=said if said.startswith(f"{unit.name}: ") else f"{unit.name}: {said}")


def _plain(unit: Unit) -> dict[str, Any]:
    return {**vars(unit), "stages": list(unit.stages), "upstream": sorted(unit.upstream)}


@dataclass(frozen=True)
class Workers:
    """Other machines that run units, for as long as one flow runs."""

    graph: Graph
    small: Mapping[str, list[str]]
    """The outs of each stage that DVC leaves to git."""
    hand: Callable[[str, Unit, list[str]], PrefectFuture[Any]]
    root: str
    """The refs of this flow are below it."""
    release: Callable[[Any], None] = lambda _: None
    """Give up a future that has ended: Dask runs a task again if what it returned is lost with its worker."""

    def submit(self, unit: Unit) -> PrefectFuture[Any]:
        """Hand over `unit` with all that it needs."""
        ref, needs = f"{self.root}/{unit.name}", self.needs(unit)
        with _dvc_at_rest():
            publish(f"{ref}/given", [_LOCK, *(path for stage in needs for path in self.small[stage])])
        return self.hand(ref, unit, needs)

    def take(self, unit: Unit) -> None:
        """Have here what `unit` made: its small outs, then its entries in `dvc.lock`."""
        from dvc.utils.serialize import dumps_yaml, parse_yaml

        ref = f"{self.root}/{unit.name}/made"
        fetch(ref)
        made = parse_yaml(git("show", f"{ref}:{_LOCK}"), _LOCK)["stages"]
        outs = [out["path"] for stage in unit.stages for out in made[stage].get("outs", ())]
        taken = [str(costs.path(stage)) for stage in unit.stages]
        listed = git("ls-tree", "-r", "-z", "--name-only", ref, "--", *outs, *taken)
        if paths := list(filter(None, listed.split("\0"))):
            git("restore", "--source", ref, "--worktree", "--", *paths)
        with _dvc_at_rest():
            path = Path(_LOCK)
            empty: dict[str, Any] = {"schema": "2.0", "stages": {}}
            lock: dict[str, Any] = parse_yaml(path.read_text(), path) if path.exists() else empty
            lock["stages"].update({stage: made[stage] for stage in unit.stages})
            atomic.write_text(path, dumps_yaml(lock))

    def needs(self, unit: Unit) -> list[str]:
        """The stages that `unit` directly depends on, in no other unit's hands any more."""
        return sorted({each for stage in unit.stages for each in self.graph[stage]} - set(unit.stages))


@contextmanager
def workers(cluster: str | None, pool: str | None, graph: Graph) -> Iterator[Workers]:
    """The machines behind a Dask scheduler's address or in a Prefect work pool; one of the two is named.

    Raises `LatentOpsError` where the working copy, the DVC remote, the server or the pool isn't ready.
    """
    if cluster and pool:
        raise LatentOpsError("name a cluster or a work pool, not both")
    if not has_server():
        raise LatentOpsError(
            "other machines need a Prefect server (PREFECT_API_URL is not set): run `make services`"
        )
    small = _ready()
    root = f"refs/latentops/{flow_run.id}"
    try:
        if cluster:
            with _dask(cluster) as runner:
                _connect(runner)

                def hand(ref: str, unit: Unit, needs: list[str]) -> PrefectFuture[Any]:
                    given = {"ref": ref, "unit": unit, "needs": needs}
                    future: PrefectFuture[Any] = runner.submit(run_there, given)
                    return future

                yield Workers(graph, small, hand, root, lambda future: future.wrapped_future.release())
        else:
            deployment = deploy(pool or "")
            yield Workers(graph, small, lambda *given: run_in_pool.submit(deployment, *given), root)
    finally:
        _forget(root)


def _dask(address: str) -> Any:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise LatentOpsError("a Dask cluster needs an extra: pip install -e '.[cluster]'") from None
    return DaskTaskRunner(address=address)


def _connect(runner: Any) -> None:
    try:
        found = runner.client.nthreads()
    except OSError as error:
        raise LatentOpsError(f"no Dask scheduler answers at {runner.address}: {error}") from None
    get_run_logger().info("%d workers at %s", len(found), runner.address)


def deploy(pool: str) -> str:
    """Make `run_pulled` known to the work pool, also where it is already; the deployment's name.

    Its runs work in the folder that the worker's `LATENTOPS_CLONE` names.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            raise LatentOpsError(
                f"no work pool {pool!r}: prefect work-pool create {pool} --type process"
            ) from None
        from prefect.utilities.callables import parameter_schema

        client.create_deployment(
            client.create_flow(run_pulled),
            pool,
            work_pool_name=pool,
            entrypoint="pipelines/remote.py:run_pulled",
            parameter_openapi_schema=parameter_schema(run_pulled).model_dump(),
            pull_steps=[
                {"prefect.deployments.steps.set_working_directory": {"directory": f"{{{{ ${_CLONE} }}}}"}}
            ],
        )
    return f"{run_pulled.name}/{pool}"


def _ready() -> dict[str, list[str]]:
    """The outs of each stage that DVC leaves to git.

    `LatentOpsError` where workers could not see what the stages read.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        small = {
            stage.addressing: [
                Path(out.fs_path).relative_to(repo.root_dir).as_posix()
                for out in stage.outs
                if not out.use_cache
            ]
            for stage in repo.index.stages
        }
        if not repo.config["core"].get("remote"):
            raise LatentOpsError(
                "no DVC remote that workers could share: dvc remote add --default NAME ADDRESS, and commit it"
            )
    made = [f":(exclude){path}" for path in (_LOCK, _LEDGER, *chain(*small.values()))]
    if changed := git("status", "--porcelain", "--", ".", *made).splitlines():
        more = f" and {len(changed) - 3} more" if changed[3:] else ""
        names = ", ".join(line[2:].strip() for line in changed[:3])
        raise LatentOpsError(f"workers run what is committed; commit or stash first: {names}{more}")
    code, lines = stream(["--wait-for-lock", "push", "--run-cache"], lambda _: None)
    if code:
        raise LatentOpsError(f"dvc push: {' '.join(lines[-1:])}")
    return small


@contextmanager
def _dvc_at_rest() -> Iterator[None]:
    """While no other process of DVC writes `dvc.lock`."""
    from dvc.repo import Repo

    with Repo(_wait_for_lock=True) as repo, repo.lock:
        yield


def _forget(root: str) -> None:
    """Remove the refs of a flow, here and in the shared repository."""
    listed = git("ls-remote", "--refs", "origin", f"{root}/*")
    if there := [line.split("\t")[1] for line in listed.splitlines()]:
        git("push", "--quiet", "--no-verify", "origin", "--delete", *there)
    for ref in git("for-each-ref", "--format=%(refname)", root).splitlines():
        git("update-ref", "-d", ref)
