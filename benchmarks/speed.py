"""How fast we train, against pythae, PyOD, Lightning and plain torch on the same work.

    python -m benchmarks.speed [--rounds 5] [--only CASE]

The peers are installed, once, into an environment of their own. In each case everybody trains the same
network on the same data with the same batch, steps, threads, optimiser and rate, in processes that stay alive
and are warm; rounds alternate between them. A ratio is taken within a round against the fastest peer in it.
Writes `benchmarks/speed.json` and says what has fallen behind the committed one by more than a tenth.
"""

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import workers
from benchmarks.contestants import gemm
from benchmarks.contestants.protocol import Job
from benchmarks.figures import ROOT, Better, Row, Spread, git, keeps, machine, table, warn_if_busy
from latentops import atomic
from latentops.cli import guard
from latentops.config import nearest
from latentops.errors import LatentOpsError
from latentops.progress import bar

RESULT = ROOT / "benchmarks/speed.json"
PEERS = ("pythae", "PyOD", "Lightning")
ALIKE = 0.05
"""Share by which final losses may differ, beside their spread over seeds, for a row to count."""
FALLEN = 0.1
"""Share of a committed ratio that may be lost before it is said."""
CEILING_STEPS = 8


@dataclass(frozen=True)
class Contestant:
    """Who trains: a module of `benchmarks.contestants`, and in what its job differs from the case's."""

    name: str
    module: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def job(self, case: Job) -> Job:
        """What this contestant trains."""
        return replace(case, **self.changes)


@dataclass(frozen=True)
class Wanted:
    """A row to make of a case's runs: `ours` over the fastest of `against`, or under where lower is better.

    Where `against` is another objective than `ours`, the losses aren't held `alike`.
    """

    name: str
    ours: str
    target: float | None
    against: tuple[str, ...] = PEERS
    better: Better = "higher"
    alike: bool = True


@dataclass(frozen=True)
class Case:
    """What is trained in one session, by whom, for how many steps a round: whole epochs."""

    name: str
    job: Job
    steps: int
    contestants: tuple[Contestant, ...]
    rows: tuple[Wanted, ...]


@dataclass(frozen=True)
class Run:
    """One contestant's training in one round."""

    samples_per_second: float
    loss: float
    peak_bytes: int


@dataclass(frozen=True)
class SpeedRow:
    """A ratio, the median of those `ratios` that the rounds gave, and what it is made of, by contestant.

    `gemm_share` is what the model's own operations take of the measured peak of matrix products. A row
    `counts` where the final losses are equal within noise, and only one that counts can be `met`.
    """

    name: str
    ratio: float
    target: float | None
    better: Better
    met: bool | None
    best_peer: str
    ratios: tuple[float, ...]
    samples_per_second: dict[str, Spread]
    losses: dict[str, Spread]
    peak_bytes: dict[str, int]
    gemm_share: float | None
    counts: bool

    def figure(self) -> Row:
        """The same as a line of a table."""
        name = self.name if self.counts else f"{self.name} (losses differ)"
        return Row(name, self.ratio, "×", self.target, self.met, self.ratios, self.better)


OURS = Contestant("LatentOps", "ours")
BF16 = Contestant("LatentOps bf16", "ours", {"precision": "bf16"})
PLAIN = Contestant("plain loop", "plain")
FRAMEWORKS = (
    Contestant("pythae", "pythae"),
    Contestant("PyOD", "pyod"),
    Contestant("Lightning", "lightning"),
)


def large(batch: int, steps: int, target: float) -> Case:
    """The large perceptron on two threads, in both precisions."""
    name = f"784-512-256-32, batch {batch}"
    rows = (
        Wanted(name, OURS.name, target),
        Wanted(f"{name}, bf16", BF16.name, 2.5),
    )
    job = Job("mlp", (784,), (512, 256), 32, batch, rows=8192, threads=2)
    return Case(name, job, steps, (OURS, BF16, PLAIN, *FRAMEWORKS), rows)


def small() -> Case:
    """The small perceptron on one thread: stacks of members against one model after another."""
    name = "64-32-16-8, batch 64"
    counts = {1: 5.0, 20: 15.0, 50: 25.0}
    stacks = {count: Contestant(f"LatentOps ×{count}", "ours", {"members": count}) for count in counts}
    rows = [
        Wanted(f"{name}, {count} member{'s' if count > 1 else ''}", stacks[count].name, target)
        for count, target in counts.items()
    ]
    job = Job("mlp", (64,), (32, 16), 8, 64, rows=8192, threads=1)
    return Case(name, job, 1024, (*stacks.values(), PLAIN, *FRAMEWORKS), tuple(rows))


def convolutional() -> Case:
    """Three halving convolutions on 28 × 28; PyOD has none."""
    name = "convolutional 32-64-128, batch 256"
    able = tuple(one for one in FRAMEWORKS if one.name != "PyOD")
    names = tuple(one.name for one in able)
    rows = (
        Wanted(name, OURS.name, 1.15, names),
        Wanted(f"{name}, bf16", BF16.name, 2.0, names),
    )
    job = Job("convolutional", (1, 28, 28), (32, 64, 128), 32, 256, rows=2048, threads=2)
    return Case(name, job, 40, (OURS, BF16, PLAIN, *able), rows)


def recurrent(kind: str) -> Case:
    """A recurrent autoencoder on ragged sequences; none of the peers has one, torch does."""
    name = f"ragged {kind.upper()} 64, batch 64"
    others = (
        Contestant("packed torch", "packed"),
        Contestant("padded torch", "packed", {"variant": "padded"}),
    )
    job = Job(
        "lstm" if kind == "lstm" else "gru",
        (100, 8),
        (64,),
        16,
        64,
        rows=1024,
        threads=2,
        learning_rate=0.01,
        lengths=(5, 100),
    )
    row = Wanted(name, OURS.name, 3.0, ("packed torch",))
    return Case(name, job, 64, (OURS, *others), (row,))


def contractive() -> Case:
    """What the penalty costs: our own step with it over our own step without."""
    name = "contractive step over plain step"
    ours = Contestant("contractive", "ours", {"variant": "contractive"})
    plain = Contestant("plain step", "ours")
    row = Wanted(name, ours.name, 1.6, (plain.name,), "lower", alike=False)
    job = Job("mlp", (784,), (512, 256), 32, 128, rows=8192, threads=2)
    return Case(name, job, 192, (ours, plain), (row,))


def variational() -> Case:
    """The variational one; all add the KL term to half the squared error, at a variance of 1."""
    name = "variational 784-512-256-32, batch 128"
    job = Job(
        "mlp",
        (784,),
        (512, 256),
        32,
        128,
        rows=8192,
        threads=2,
        variant="variational",
        signal=3.0,
        noise=1.0,
    )
    return Case(name, job, 256, (OURS, PLAIN, *FRAMEWORKS), (Wanted(name, OURS.name, None),))


def cases() -> dict[str, Case]:
    """Every case, by the name that `--only` takes."""
    return {
        "large-128": large(128, 256, 1.6),
        "large-256": large(256, 160, 1.5),
        "large-512": large(512, 96, 1.3),
        "small": small(),
        "convolutional": convolutional(),
        "gru": recurrent("gru"),
        "lstm": recurrent("lstm"),
        "contractive": contractive(),
        "variational": variational(),
    }


def flops(job: Job) -> float | None:
    """Operations that the network of `job` asks for, forward and back, a sample; None where a penalty adds.

    A product takes two operations forward and, for the gradients of its weights and its inputs, four back.
    """
    if job.variant == "contractive":
        return None
    outputs = job.latent * (2 if job.variant == "variational" else 1)
    if job.lengths:
        gates, width = 4 if job.kind == "lstm" else 3, job.hidden[0]
        steps = sum(job.lengths) / 2
        reader = steps * gates * width * (job.shape[1] + width)
        writer = gates * width * (job.latent + steps * width) + steps * width * job.shape[1]
        return 6 * (reader + 2 * width * job.latent + writer)
    if job.kind == "mlp":
        inputs = math.prod(job.shape)
        encoder = sum(before * after for before, after in pairwise([inputs, *job.hidden, outputs]))
        decoder = sum(before * after for before, after in pairwise([inputs, *job.hidden, job.latent]))
        return 6 * (encoder + decoder)
    total, (height, width) = 0, job.shape[1:]
    for before, after in pairwise([job.shape[0], *job.hidden]):
        height, width = -(-height // 2), -(-width // 2)
        total += 2 * 9 * before * after * height * width  # the mirrored layer does as many
    return 6 * (total + job.hidden[-1] * height * width * (outputs + job.latent))


def judge(wanted: Wanted, runs: Mapping[str, Sequence[Run]], gemm_share: float | None) -> SpeedRow:
    """The row that `runs` give: one list of rounds a contestant, ours under our name."""
    rates = {name: [run.samples_per_second for run in each] for name, each in runs.items()}
    ratios = []
    for number, ours in enumerate(rates[OURS.name]):
        ratio = ours / max(rates[name][number] for name in wanted.against)
        ratios.append(round(ratio if wanted.better == "higher" else 1 / ratio, 3))
    ratio = round(statistics.median(ratios), 3)
    best = max(wanted.against, key=lambda name: statistics.median(rates[name]))
    losses = {name: Spread.of([run.loss for run in each]) for name, each in runs.items()}
    counts = not wanted.alike or alike(losses[OURS.name], losses[best])
    met = None if wanted.target is None else counts and keeps(ratio, wanted.target, wanted.better)
    return SpeedRow(
        name=wanted.name,
        ratio=ratio,
        target=wanted.target,
        better=wanted.better,
        met=met,
        best_peer=best,
        ratios=tuple(ratios),
        samples_per_second={name: Spread.of(each, digits=0) for name, each in rates.items()},
        losses=losses,
        peak_bytes={name: max(run.peak_bytes for run in each) for name, each in runs.items()},
        gemm_share=None if gemm_share is None else round(gemm_share, 3),
        counts=counts,
    )


def alike(ours: Spread, theirs: Spread) -> bool:
    """Whether final losses are equal within noise.

    Medians may differ by `ALIKE` of theirs, and by as much as the wider of both ranges over the seeds.
    """
    spread = max(ours.high - ours.low, theirs.high - theirs.low)
    return abs(ours.median - theirs.median) <= ALIKE * theirs.median + spread


def fallen(rows: Iterable[SpeedRow], committed: Mapping[str, float]) -> list[str]:
    """A line for each row whose ratio is worse than the committed one, by name, by more than `FALLEN`."""
    lines = []
    for row in rows:
        before = committed.get(row.name)
        if before is None:
            continue
        worse = (
            row.ratio < before * (1 - FALLEN) if row.better == "higher" else row.ratio > before * (1 + FALLEN)
        )
        if worse:
            lines.append(f"{row.name}: fell from {before:g} to {row.ratio:g}")
    return lines


def committed_ratios() -> dict[str, float]:
    """The ratios of the committed figures, by row; none where there are none yet."""
    try:
        text = git("show", f"HEAD:{RESULT.relative_to(ROOT).as_posix()}")
    except LatentOpsError:
        return {}
    return {row["name"]: row["ratio"] for row in json.loads(text)["rows"]}


def measure(
    case: Case,
    rounds: int,
    start: Callable[[Contestant, Job], workers.Worker],
    on_run: Callable[[int], None] = lambda done: None,
) -> tuple[list[SpeedRow], list[str]]:
    """Time `rounds` of a case, its contestants in turns; its rows, and a line for each who couldn't run.

    A row is made where ours and everybody it is against could run.
    """
    excuses: list[str] = []
    runs: dict[str, list[Run]] = {}
    with ExitStack() as stack:

        def prepared(contestant: Contestant) -> workers.Worker:
            worker = stack.enter_context(closing(start(contestant, case.job)))
            worker.ask({"prepare": asdict(contestant.job(case.job))})
            return worker

        ready = {}
        for contestant in case.contestants:
            try:
                ready[contestant.name] = prepared(contestant), contestant.job(case.job)
            except LatentOpsError as error:
                excuses.append(f"{case.name}: {error}")
        precisions = {job.precision for _, job in ready.values()}
        ceilings = {
            each: prepared(Contestant(f"GEMM {each}", "gemm", {"precision": each})) for each in precisions
        }
        peak = dict.fromkeys(precisions, 0.0)
        names = list(ready)
        for number in range(rounds):
            for precision, worker in ceilings.items():
                took = worker.ask({"train": CEILING_STEPS, "seed": number})["seconds"]
                peak[precision] = max(peak[precision], CEILING_STEPS * gemm.FLOPS / took)
            turn = number % max(1, len(names))
            for name in names[turn:] + names[:turn]:
                worker, job = ready[name]
                told = worker.ask({"train": case.steps, "seed": number + 1})
                rate = case.steps * job.batch * job.members / told["seconds"]
                runs.setdefault(name, []).append(Run(rate, told["loss"], told["peak_bytes"]))
                on_run(sum(map(len, runs.values())))
    rows = []
    for wanted in case.rows:
        if not {wanted.ours, *wanted.against} <= runs.keys():
            continue
        _, job = ready[wanted.ours]
        work = flops(job)
        rate = statistics.median(run.samples_per_second for run in runs[wanted.ours])
        others = [one.name for one in case.contestants if one.name in wanted.against or one.module != "ours"]
        shown = {OURS.name: runs[wanted.ours]} | {name: runs[name] for name in others if name in runs}
        rows.append(judge(wanted, shown, None if work is None else work * rate / peak[job.precision]))
    return rows, excuses


def starting(peers: Path, name: str) -> Callable[[Contestant, Job], workers.Worker]:
    """Starts contestants, the peers with the Python of theirs; what they say goes to logs of that `name`."""

    def start(contestant: Contestant, job: Job) -> workers.Worker:
        python = sys.executable if contestant.module in {"ours", "gemm"} else str(peers)
        command = [python, "-m", f"benchmarks.contestants.{contestant.module}"]
        log = workers.LOGS / f"{name}-{contestant.name.replace(' ', '-')}.log"
        return workers.Worker(contestant.name, command, job.threads, log)

    return start


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each contestant trains, in turns.")] = 5,
    only: Annotated[str, typer.Option(help="Measure this case alone, and write nothing.")] = "",
    torch_index: Annotated[str, typer.Option(help="A further index to take the peers' torch from.")] = "",
) -> None:
    """Train the same networks with us and with the peers in alternating rounds."""
    known = cases()
    if only and only not in known:
        raise LatentOpsError(f"unknown case {only!r}{nearest(only, known)}; there are {', '.join(known)}")
    committed = committed_ratios()
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    releases = workers.pinned()
    taken_on = machine("torch") | {name: releases[name] for name in ("pythae", "pyod", "lightning")}
    warn_if_busy(taken_on)
    start = starting(workers.peers_python(torch_index), "speed")

    rows: list[SpeedRow] = []
    excuses: list[str] = []
    for name, case in known.items():
        if only in {"", name}:
            with bar(name, rounds * len(case.contestants)) as progress:
                made, missing = measure(case, rounds, start, progress)
            print(*table([row.figure() for row in made]), *missing, sep="\n", flush=True)
            rows += made
            excuses += missing
    if not only:
        written = [asdict(row) for row in rows]
        atomic.write_json(RESULT, {"machine": taken_on, "commit": commit, "rows": written})
        print(RESULT)
    behind = fallen(rows, committed)
    for line in behind:
        print(line)
    if behind or excuses:
        parts = [f"behind the committed figures: {len(behind)}"] if behind else []
        parts += [f"contestants that could not run: {len(excuses)}"] if excuses else []
        raise LatentOpsError(f"{'; '.join(parts)}; they are named above")


if __name__ == "__main__":
    guard(app)
