"""What starting a stage or a command takes, which libraries it loads, and whether a stage works for longer.

    python -m benchmarks.startup [--rounds 5]

Everything is imported in fresh processes, in turns; the first round warms the file cache and doesn't count.
Then every stage is run on the embedded data sets, in a temporary folder and with one variant: what it takes
there to import, also what it imports only once it runs, against the rest. Writes `benchmarks/startup.json`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from benchmarks.figures import ROOT, Spread, git, machine, warn_if_busy
from benchmarks.pipeline import OUTSIDE
from benchmarks.workers import THREADS
from latentops import atomic
from latentops.cli import guard
from latentops.config import load_params
from latentops.errors import LatentOpsError
from latentops.progress import bar
from latentops.stages.__main__ import stage_names

RESULT = ROOT / "benchmarks/startup.json"
VARIANT = "undercomplete"
ORDER = ("ingest", "validate", "prepare", "train", "evaluate", "floors", "compare", "record", "report")
HELD = ("train", "evaluate")
"""Stages that run once a variant, and are held to start no longer than they work."""

QUIET = {"DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True)
class Cost:
    """What one process took: CPU seconds until all was imported, those of the rest, the most memory."""

    start: float
    work: float
    peak_bytes: int
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class StageRun:
    """A stage on one dataset; `libraries` are those it loads only once it runs."""

    arguments: tuple[str, ...]
    start: float
    work: float
    peak_bytes: int
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class StartRow:
    """What importing `name` takes; for a stage also its `runs`, and the largest share of start over work.

    `met` where that is at most `target`, if there is one.
    """

    name: str
    seconds: Spread
    peak_bytes: int
    libraries: tuple[str, ...]
    runs: tuple[StageRun, ...]
    start_over_work: float | None
    target: float | None
    met: bool | None


Started = Callable[[Sequence[str], Path], Cost]


def things() -> dict[str, tuple[str, ...]]:
    """What is started, by its name: the words that `benchmarks.starting` takes."""
    return {
        "Python alone": ("nothing",),
        "import latentops": ("import", "latentops"),
        "latentops --help": ("command", "--help"),
        "latentops check": ("command", "check"),
        **{stage: ("import", f"latentops.stages.{stage}") for stage in ORDER},
    }


def started(words: Sequence[str], folder: Path) -> Cost:
    """What `benchmarks.starting` says in `folder`; `LatentOpsError` with its last words where it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in OUTSIDE} | QUIET
    environment |= dict.fromkeys(THREADS, "1") | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.starting", *words]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise LatentOpsError(f"{' '.join(words)}: ended with status {ended.returncode}: {said}")
    told = json.loads(ended.stdout)
    return Cost(told["start"], told["work"], told["peak_bytes"], tuple(told["libraries"]))


def imports(
    rounds: int, of: Started = started, on_start: Callable[[int], None] = lambda done: None
) -> dict[str, list[Cost]]:
    """Start everything once a round, and once before that doesn't count."""
    costs: dict[str, list[Cost]] = {name: [] for name in things()}
    done = 0
    for number in range(rounds + 1):
        for name, words in things().items():
            cost = of(words, ROOT)
            if number:
                costs[name].append(cost)
            done += 1
            on_start(done)
    return costs


def stages(datasets: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every stage with its arguments, in an order in which each finds what it needs."""
    for stage in ORDER:
        if stage == "report":
            yield (stage,)
        else:
            yield from ((stage, name, *([VARIANT] if stage in HELD else [])) for name in datasets)


def project(folder: Path) -> None:
    """Make `folder` one in which stages run with one variant."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["run"]["variants"] = [VARIANT]
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copyfile(ROOT / "dvc.lock", folder / "dvc.lock")  # `record` tells its runs' lineage from it


def row(name: str, costs: Sequence[Cost], runs: Sequence[tuple[tuple[str, ...], Cost]]) -> StartRow:
    """The row of something started several times, and of its runs, by their arguments, if it is a stage."""
    libraries = costs[-1].libraries
    made = tuple(
        StageRun(
            arguments,
            round(cost.start, 3),
            round(cost.work, 3),
            cost.peak_bytes,
            tuple(library for library in cost.libraries if library not in libraries),
        )
        for arguments, cost in runs
    )
    worst = max((round(cost.start / max(cost.work, 1e-3), 2) for _, cost in runs), default=None)
    target = 1.0 if name in HELD else None
    return StartRow(
        name,
        Spread.of([cost.start for cost in costs], digits=3),
        max(cost.peak_bytes for cost in costs),
        libraries,
        made,
        worst,
        target,
        None if target is None or worst is None else worst <= target,
    )


def line(row: StartRow) -> str:
    """The row as a line of text."""
    text = f"{row.name:<18}{row.seconds.median:>6.2f} s {row.peak_bytes / 1e6:>5.0f} MB  "
    if row.start_over_work is not None:
        verdict = {None: "", True: ", met", False: ", MISSED"}[row.met]
        runs = ", ".join(f"{run.start:.2f}/{run.work:.2f}" for run in row.runs)
        text += f"start/work {runs} (at most {row.start_over_work:.1f}{verdict})  "
    return text + " ".join(row.libraries)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is started and counted.")] = 5,
) -> None:
    """Measure what starting takes, and write it."""
    if missing := set(stage_names()) ^ set(ORDER):
        raise LatentOpsError(f"benchmarks/startup.py: its ORDER isn't the stages there are: {missing}")
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    taken_on = machine("torch", "mlflow", "great_expectations", "scikit-learn")
    warn_if_busy(taken_on)
    with bar("starts", (rounds + 1) * len(things())) as progress:
        costs = imports(rounds, on_start=progress)
    runs: dict[str, list[tuple[tuple[str, ...], Cost]]] = {name: [] for name in costs}
    planned = list(stages(load_params(ROOT / "params.yaml").run.datasets))
    with (
        tempfile.TemporaryDirectory(prefix="latentops-startup-") as folder,
        bar("stages", len(planned)) as on,
    ):
        project(Path(folder))
        for number, (stage, *arguments) in enumerate(planned, 1):
            cost = started(["stage", stage, *arguments], Path(folder))
            runs[stage].append((tuple(arguments), cost))
            on(number)
    rows = [row(name, each, runs[name]) for name, each in costs.items()]
    atomic.write_json(RESULT, {"machine": taken_on, "commit": commit, "rows": [asdict(one) for one in rows]})
    print(*map(line, rows), RESULT, sep="\n")
    slow = [one.name for one in rows if one.start_over_work is not None and one.start_over_work > 1]
    if slow:
        print(f"slower to start than to work on some data set: {', '.join(slow)}")


if __name__ == "__main__":
    guard(app)
