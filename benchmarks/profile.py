"""Where our time goes in the cases of `benchmarks.speed`: products, other kernels, optimiser, bookkeeping.

    python -m benchmarks.profile

A case is trained once as it is timed there, and once under torch's profiler. Kernels' own CPU time is the
profiler's; bookkeeping is what is left of an unprofiled run on one thread: Python, the graph, dispatch.
Writes `benchmarks/profile.json`.
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants.ours import prepare
from benchmarks.contestants.protocol import Job
from benchmarks.figures import ROOT, git, machine, warn_if_busy
from benchmarks.speed import Case, cases
from latentops import atomic
from latentops.cli import guard
from latentops.progress import bar

RESULT = ROOT / "benchmarks/profile.json"
PRODUCTS = {"bmm", "baddbmm", "baddbmm_", "mm", "addmm", "_convolution", "mkldnn_convolution"}
BACKWARD = "convolution_backward"
OPTIMISER = "_fused_adam_"
ROUNDS = 3


@dataclass(frozen=True)
class Share:
    """A step of `microseconds` on one thread, and what part of it each sort of work takes."""

    name: str
    microseconds: float
    products: float
    other_kernels: float
    optimiser: float
    bookkeeping: float


def shares(name: str, step: float, kernels: Iterable[tuple[str, float]]) -> Share:
    """From a step's seconds and each kernel's own seconds in it, by its name in torch."""
    sums = {"products": 0.0, "other_kernels": 0.0, "optimiser": 0.0}
    for kernel, seconds in kernels:
        short = kernel.removeprefix("aten::")
        if short in PRODUCTS or short == BACKWARD:
            sums["products"] += seconds
        elif short == OPTIMISER:
            sums["optimiser"] += seconds
        elif kernel.startswith("aten::"):
            sums["other_kernels"] += seconds
    parts = {sort: round(min(1.0, seconds / step), 3) for sort, seconds in sums.items()}
    left = round(max(0.0, 1 - sum(parts.values())), 3)
    return Share(name, round(step * 1e6, 1), **parts, bookkeeping=left)


def measure(name: str, job: Job, steps: int) -> Share:
    """Train `job` for `steps` with and without the profiler."""
    train = prepare(replace(job, threads=1))
    train(steps, 0)
    taken = []
    for seed in range(ROUNDS):
        began = time.process_time()
        train(steps, seed)
        taken.append(time.process_time() - began)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        train(steps, 0)
    kernels = [(one.key, one.self_cpu_time_total / 1e6 / steps) for one in seen.key_averages()]
    return shares(name, min(taken) / steps, kernels)


def wanted(every: Iterable[Case]) -> list[tuple[str, Job, int]]:
    """What we train in those cases, and for how many steps."""
    return [
        (f"{case.name}: {one.name}", one.job(case.job), max(8, case.steps // 4))
        for case in every
        for one in case.contestants
        if one.module == "ours"
    ]


def main() -> None:
    """Profile every case, and write the table."""
    taken_on = machine("torch")
    warn_if_busy(taken_on)
    jobs = wanted(cases().values())
    rows = []
    with bar("profile", len(jobs)) as progress:
        for at, (name, job, steps) in enumerate(jobs, start=1):
            rows.append(measure(name, job, steps))
            progress(at)
    commit = git("rev-parse", "HEAD")
    atomic.write_json(RESULT, {"machine": taken_on, "commit": commit, "rows": [asdict(one) for one in rows]})
    for one in rows:
        print(one)


if __name__ == "__main__":
    guard(main)
