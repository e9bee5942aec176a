"""How time and memory grow with members, samples, features, length and rows: an exponent for each.

    python -m benchmarks.growth [--rounds 3]

Every point is a process of its own, so that its peak memory is its own, and on one thread, so that its CPU
time is what it would take on an idle machine. Rounds go through all points; a point is the median of them.
Writes `benchmarks/growth.json`.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import typer

from benchmarks.figures import ROOT, git, machine, warn_if_busy
from benchmarks.workers import THREADS
from latentops import atomic
from latentops.cli import guard
from latentops.errors import LatentOpsError
from latentops.progress import bar

RESULT = ROOT / "benchmarks/growth.json"
LINEAR = 1.0
TOLERANCE = 0.1
"""By how much an exponent may be above its target: caches that no longer hold the data, and noise."""

LEAST_BYTES = 10**5
"""Memory that can be told from none; what is below counts as this."""

KEPT_BYTES = 2**18
"""Buffers above this are taken from the system at every size. Left to itself, the C library keeps those up to
32 MB for the next one, so that the large ones alone would pay for their pages."""

Quantity = Literal["time", "memory"]
Point = tuple[int, float]


@dataclass(frozen=True)
class Sweep:
    """A task of `benchmarks.growing`, and the sizes that it is done at: of its `against`."""

    task: str
    name: str
    against: str
    sizes: tuple[int, ...]
    time: float = LINEAR
    """Most that the exponent of time may be, before its tolerance; memory's is linear always."""


@dataclass(frozen=True)
class GrowthRow:
    """How a figure grows: `points` are a size and seconds, or bytes; `exponent` is fitted to the upper ones.

    `met` where the exponent is at most `target` and `tolerance`.
    """

    name: str
    against: str
    figure: Quantity
    exponent: float
    target: float
    tolerance: float
    met: bool
    points: tuple[Point, ...]


SWEEPS = (
    Sweep("members", "training, MLP", "members", (1, 2, 5, 10, 20, 50, 100)),
    Sweep(
        "samples",
        "training, MLP",
        "samples",
        (1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    ),
    Sweep("features", "training, MLP", "features", (10, 32, 100, 316, 1_000, 3_162, 10_000)),
    Sweep("length", "training, GRU", "length", (10, 32, 100, 316, 1_000, 3_162, 10_000)),
    Sweep("chunks", "training, GRU in chunks", "length", (10, 32, 100, 316, 1_000, 3_162, 10_000)),
    Sweep("attention", "training, Transformer", "length", (10, 32, 100, 316, 1_000, 3_162), 2.0),
    Sweep("depth", "training, Transformer", "blocks", (1, 2, 4, 8, 16, 32)),
    Sweep("checkpoints", "training, checkpoints", "blocks", (1, 2, 4, 8, 16, 32)),
    Sweep("probe", "probe", "rows", (1_000, 10_000, 30_000, 100_000, 300_000)),
    Sweep("scoring", "kNN score", "reference rows", (1_000, 10_000, 30_000, 100_000, 300_000)),
    Sweep("reference", "kNN score's fit", "reference rows", (1_000, 3_000, 10_000, 30_000, 100_000)),
)


def exponent(points: Sequence[Point]) -> float:
    """The slope of log figure over log size, by least squares, over the upper half of the sizes' range.

    That is from the geometric mean of the smallest and the largest size on: below it, costs that are the same
    at every size still hide the growth.
    """
    middle = math.sqrt(points[0][0] * points[-1][0]) * (1 - 1e-9)
    upper = [(math.log(size), math.log(value)) for size, value in points if size >= middle]
    return statistics.linear_regression(*zip(*upper, strict=True)).slope


def judge(sweep: Sweep, figure: Quantity, values: Mapping[int, Sequence[float]]) -> GrowthRow:
    """The row of a sweep's measurements by size, the smallest first."""
    medians = {size: statistics.median(each) for size, each in values.items()}
    if figure == "memory":
        points = tuple((size, float(round(max(value, LEAST_BYTES)))) for size, value in medians.items())
    else:
        points = tuple((size, round(value, 6)) for size, value in medians.items())
    slope = round(exponent(points), 3)
    target = sweep.time if figure == "time" else LINEAR
    met = slope <= target + TOLERANCE
    return GrowthRow(sweep.name, sweep.against, figure, slope, target, TOLERANCE, met, points)


def measured(task: str, smallest: int, size: int) -> dict[str, float]:
    """What `benchmarks.growing` says of one point; `LatentOpsError` with its last words where it can't."""
    command = [sys.executable, "-m", "benchmarks.growing", task, str(smallest), str(size)]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    environment |= {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES),
    }
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise LatentOpsError(f"{task} at {size:,} ended with status {ended.returncode}: {said}")
    point: dict[str, float] = json.loads(ended.stdout)
    return point


def measure(
    sweeps: Sequence[Sweep],
    rounds: int,
    of: Callable[[str, int, int], Mapping[str, float]] = measured,
    on_point: Callable[[int], None] = lambda done: None,
) -> list[GrowthRow]:
    """Take every point of `sweeps` once a round; two rows a sweep, time and memory."""
    taken: dict[tuple[str, int], list[Mapping[str, float]]] = {}
    for _ in range(rounds):
        for sweep in sweeps:
            for size in sweep.sizes:
                taken.setdefault((sweep.task, size), []).append(of(sweep.task, sweep.sizes[0], size))
                on_point(sum(map(len, taken.values())))
    quantities: tuple[tuple[Quantity, str], ...] = (("time", "seconds"), ("memory", "bytes"))
    return [
        judge(
            sweep,
            figure,
            {size: [one[key] for one in taken[sweep.task, size]] for size in sweep.sizes},
        )
        for sweep in sweeps
        for figure, key in quantities
    ]


def line(row: GrowthRow) -> str:
    """The row as a line of text."""
    size, value = row.points[-1]
    told = f"{value:.3g} s" if row.figure == "time" else f"{value / 1e6:.3g} MB"
    wanted = f"≤ {row.target + row.tolerance:g}"
    name = f"{row.name}, {row.figure} by {row.against}"
    verdict = "met" if row.met else "MISSED"
    return f"{name:<46}{row.exponent:>6.2f}  {wanted:<7}{verdict:<8}{told} at {size:,}"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each point is taken.")] = 3,
) -> None:
    """Measure how training and judging grow, and write the exponents."""
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    taken_on = machine("torch")
    warn_if_busy(taken_on)
    with bar("growth", rounds * sum(len(sweep.sizes) for sweep in SWEEPS)) as progress:
        rows = measure(SWEEPS, rounds, on_point=progress)
    atomic.write_json(RESULT, {"machine": taken_on, "commit": commit, "rows": [asdict(row) for row in rows]})
    print(*map(line, rows), RESULT, sep="\n")


if __name__ == "__main__":
    guard(app)
