"""What the pipeline takes, serially and as a flow: both from clean checkouts, and what a flow itself costs.

    python -m benchmarks.pipeline [--rounds 1] [--tests] [--keep DIR]

Clones the commit that is checked out into temporary folders, each with its own empty DVC cache and `var/`,
and runs there what a person types, in the environment of the Python that runs this, without the results and
the `dvc.lock` that git has, so that every stage runs. Uncommitted edits are not measured. Writes
`benchmarks/flows.json`; what the commands say goes to `var/bench/`.

What Prefect adds to a stage is taken from the dataset `ONE_AT_A_TIME`, of which a flow with one worker has to
do what `dvc repro` does. A flow that finds no server brings up one of its own, which is
why each start is timed without services and with those of `make services`.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.figures import ROOT, Row, Spread, git, machine, row, table, warn_if_busy
from latentops import atomic
from latentops.cli import guard
from latentops.errors import LatentOpsError
from latentops.progress import bar

RESULT = ROOT / "benchmarks/flows.json"
LOGS = ROOT / "var/bench"
VENV = Path(sys.prefix)
OUTS = (
    "data/raw",
    "data/clean",
    "data/quarantine",
    "data/prepared",
    "models",
    "results",
    "reports/leaderboard.json",
    "reports/over_datasets.json",
)
STARTS = 5
ONE_AT_A_TIME = "breast_cancer"
SHORT = "reports/leaderboard.json"
"""The out of a stage that takes a second, which git keeps, so that it runs again where that is gone."""
POLL = 0.5  # seconds between looks at how many stages are done
# What a shell, or the make that called this, may say of another checkout's code, stores and servers.
OUTSIDE = (
    "DATASET",
    "GPU_SLOTS",
    "LATENTOPS_DEBUG",
    "LATENTOPS_PARAMS",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "PREFECT_HOME",
    "PREFECT_PROFILE",
    "VARIANT",
    "WORKERS",
)


@dataclass(frozen=True)
class Checkout:
    """A fresh clone of the commit, in which commands are timed."""

    path: Path
    environment: Mapping[str, str]

    @classmethod
    def clone(cls, path: Path) -> "Checkout":
        """Clone into `path`; the code that is run there is the clone's own, the DVC cache is empty."""
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)
        environment = {key: value for key, value in os.environ.items() if key not in OUTSIDE} | {
            "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{path / 'src'}{os.pathsep}{path}",
            "OMP_NUM_THREADS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(path / ".dvc/tmp/no-config"),
            "DVC_SITE_CACHE_DIR": str(path / ".dvc/tmp/site-cache"),
        }
        made = cls(path, environment)
        where = made.say("python", "-c", "import latentops; print(latentops.__file__)")
        if not Path(where).is_relative_to(path):
            raise LatentOpsError(f"{path}: runs the code of {where}, not its own; check PYTHONPATH")
        return made

    def forget(self) -> None:
        """Take away what git has of earlier runs, so that every stage runs."""
        (self.path / "dvc.lock").unlink(missing_ok=True)
        for results in ("results", "reports"):
            shutil.rmtree(self.path / results, ignore_errors=True)

    def say(self, *command: str) -> str:
        """What a short command prints."""
        return subprocess.run(
            command, cwd=self.path, env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def make(self, target: str, step: str, *given: str, stages: int = 0) -> float:
        """Seconds that `make TARGET` takes here, where the environment is set up already."""
        if not sys.stderr.isatty():
            print(f"{step}: started", flush=True)
        stamp = VENV / ".latentops-setup"  # newer files of a fresh clone are no reason to set up again
        return self.time(step, ["make", target, *given, f"VENV={VENV}", f"--old-file={stamp}"], stages)

    def time(self, step: str, command: Sequence[str], stages: int = 0) -> float:
        """Seconds that a command takes; with a bar over `stages` where it is long.

        Raises `LatentOpsError` that names the log where the command fails.
        """
        log = LOGS / f"{step.replace(' ', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        costs = self.path / "var/costs"
        with log.open("w") as stream, bar(step, stages) as progress:
            began = time.perf_counter()
            with subprocess.Popen(
                command,
                cwd=self.path,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            ) as process:
                try:
                    while stages:
                        try:
                            process.wait(POLL)
                            break
                        except subprocess.TimeoutExpired:
                            progress(sum(1 for _ in costs.glob("*.json")))
                    code = process.wait()
                    took = time.perf_counter() - began
                except BaseException:
                    process.terminate()
                    raise
            if code:
                said = " ".join(command[:2])
                raise LatentOpsError(f"{step}: `{said}` ended with status {code}; see {log}")
        return took

    def costs(self) -> dict[str, dict[str, float]]:
        """What each stage that ran here took: wall and CPU seconds, peak bytes."""
        return {path.stem: json.loads(path.read_text()) for path in (self.path / "var/costs").glob("*.json")}


def digests(folder: Path, outs: Iterable[str] = OUTS) -> dict[str, str]:
    """SHA-256 of every file below `outs`, and what `dvc.lock` says of each stage, whatever its order."""
    found = {}
    for out in outs:
        top = folder / out
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in files:
            name = path.relative_to(folder).as_posix()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    for stage, recorded in locked(folder).items():
        found[f"dvc.lock: {stage}"] = hashlib.sha256(atomic.canonical(recorded).encode()).hexdigest()
    return found


def locked(folder: Path) -> dict[str, Any]:
    """The stages that `dvc.lock` in `folder` records, by name; none where there is no such file."""
    path = folder / "dvc.lock"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    recorded: dict[str, Any] = (yaml.safe_load(text) or {}).get("stages", {})
    return recorded


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Names of what only one side has, or both have with different content."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def by_verb(costs: Mapping[str, Mapping[str, float]], figure: str) -> dict[str, float]:
    """A figure of the stages' costs summed by verb, the dearest first."""
    sums: dict[str, float] = {}
    for stage, cost in costs.items():
        verb = stage.partition("-")[0]
        sums[verb] = sums.get(verb, 0.0) + cost[figure]
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def measure(folder: Path, rounds: int, tests: bool) -> tuple[list[Row], dict[str, Spread]]:
    """Run everything in clones below `folder`; all rows, those with a target first, and those about flows."""
    serial, parallel, same, boards = [], [], [], []
    costs: list[dict[str, dict[str, float]]] = []
    for number in range(1, rounds + 1):
        repro = Checkout.clone(folder / f"repro-{number}")
        flow = Checkout.clone(folder / f"flow-{number}")
        stages = len(locked(repro.path))
        repro.forget()
        flow.forget()
        for target in ("repro", "flow") if number % 2 else ("flow", "repro"):
            step = f"round {number} of {rounds} make {target}"
            if target == "repro":
                serial.append(repro.make(target, step, stages=stages))
            else:
                parallel.append(flow.make(target, step, stages=stages))
        differ = differences(digests(repro.path), digests(flow.path))
        if differ:
            log = LOGS / f"round-{number}-differences.txt"
            atomic.write_text(log, "\n".join(differ) + "\n")
            print(f"{len(differ)} outs differ between serial and flow, first {differ[0]}: {log}")
        same.append(not differ)
        boards.append("reports/leaderboard.json" not in differ)
        costs += [repro.costs(), flow.costs()]
    over = [f / s for f, s in zip(parallel, serial, strict=True)]
    added = [added_to_a_stage(folder, number) for number in range(1, rounds + 1)]
    nothing = [repro.time(f"idle dvc repro {k + 1}", ["dvc", "repro"]) for k in range(STARTS)]
    idle, one, services = starts(flow)
    cached = [a - b for a, b in zip(idle["make flow with services"], idle["make repro"], strict=True)]
    peaks = [stage["peak_bytes"] / 1e9 for run in costs for stage in run.values()]
    rows = [
        row("make repro without any results", serial, "s", 360),
        row("make flow without any results", parallel, "s", 270),
        row("flow over serial", over, "share", 0.75),
        row("Prefect adds to a stage that runs", added, "s", 1.5),
        row("Prefect adds where everything is cached", cached, "s", 5),
        row("dvc repro with nothing to do", nothing, "s", 3),
        row("peak memory of any stage", [max(peaks, default=0.0)], "GB", 1.5),
        row("outs of serial and flow are byte-identical", same, "yes/no", True),
        row("leaderboards of serial and flow are equal", boards, "yes/no", True),
    ]
    if tests:
        rows.append(row("make test", [Checkout.clone(folder / "tests").make("test", "make test")], "s", 360))
    rows += [row(f"{way} with nothing to do", idle[way], "s") for way in idle]
    rows += [row(f"{way} with one short stage to run", one[way], "s") for way in one]
    rows += [row(f"make {target}", services[target], "s") for target in services]
    rows += [
        row("stages that serial ran", [len(one) for one in costs[::2]], "stages"),
        row("stages that flow ran", [len(one) for one in costs[1::2]], "stages"),
    ]
    for figure, word in (("wall_seconds", "wall"), ("cpu_seconds", "CPU")):
        sums = [by_verb(one, figure) for one in costs[::2]]
        rows += [row(f"{verb}, {word}", [one.get(verb, 0.0) for one in sums], "s") for verb in sums[0]]
    told = {"flow_over_serial": over, "seconds_added_to_a_stage": added, "seconds_added_when_cached": cached}
    return rows, {name: Spread.of(values, 3) for name, values in told.items()}


def added_to_a_stage(folder: Path, number: int) -> float:
    """Seconds that a stage takes longer in a flow with one worker than without a flow."""
    took: dict[str, float] = {}
    ways = {"repro": (), "flow": ("WORKERS=1",)}
    for way in ways if number % 2 else reversed(ways):
        checkout = Checkout.clone(folder / f"one-{way}-{number}")
        stages = len(locked(checkout.path))
        checkout.forget()
        given = (f"DATASET={ONE_AT_A_TIME}", *ways[way])
        took[way] = checkout.make(way, f"one at a time make {way} {number}", *given, stages=stages)
        ran = len(checkout.costs())
    return (took["flow"] - took["repro"]) / ran


Times = dict[str, list[float]]


def starts(checkout: Checkout) -> tuple[Times, Times, Times]:
    """Seconds with nothing to do and with one short stage, by how it is started, and of the services."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        prefect, mlflow = (each.getsockname()[1] for each in (first, second))
    api = {"PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api"}
    served = replace(checkout, environment={**checkout.environment, **api})
    ways = {
        "make repro": (checkout, "repro"),
        "make flow": (checkout, "flow"),
        "make flow with services": (served, "flow"),
    }
    idle: Times = {way: [] for way in ways}
    one: Times = {way: [] for way in ways}
    services: Times = {"services": [], "services-stop": []}
    for number in range(1, STARTS + 1):
        ports = (f"PREFECT_PORT={prefect}", f"MLFLOW_PORT={mlflow}")
        services["services"].append(checkout.make("services", f"services {number}", *ports))
        try:
            for way, (at, target) in ways.items():
                idle[way].append(at.make(target, f"idle {way} {number}"))
                (checkout.path / SHORT).unlink()
                one[way].append(at.make(target, f"one stage {way} {number}"))
        finally:
            services["services-stop"].append(checkout.make("services-stop", f"services-stop {number}"))
    return idle, one, services


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed, in turns.")] = 1,
    tests: Annotated[bool, typer.Option("--tests", help="Time `make test` in a clone too.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Leave the clones in this folder.")] = None,
) -> None:
    """Time the pipeline in fresh clones of the commit that is checked out, and compare their outs."""
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: uncommitted edits are left out; measuring {commit[:10]}")
    if not (VENV / ".latentops-setup").exists():
        raise LatentOpsError(f"{VENV}: not set up; run `make setup`, then this with its Python")
    taken_on = machine("torch", "dvc", "prefect", "mlflow")
    warn_if_busy(taken_on)
    folder = Path(tempfile.mkdtemp(prefix="latentops-bench-")) if keep is None else keep.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise LatentOpsError(f"{folder}: not empty; name a new folder with --keep")
    try:
        rows, told = measure(folder, rounds, tests)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    taken = {"machine": taken_on, "commit": commit, "rows": [asdict(one) for one in rows]}
    atomic.write_json(RESULT, taken | {name: asdict(spread) for name, spread in told.items()})
    print(*table(rows), RESULT, sep="\n")


if __name__ == "__main__":
    guard(app)
