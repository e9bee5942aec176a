"""What is faster: convolutions grouped over a stack's members or looped, and stacks at once or in parts.

    python -m benchmarks.rules [convolutions|members]

*Convolutions* are timed both ways, forth and back on one thread, for stacks of 1, 5 and 20 members; the
geometric mean of grouped over looped time of each layer goes to `src/latentops/architectures/rules.json`. A
new table may change convolutional models' bytes: run the pipeline again.

*Members*, five of them, are trained at once, in turns, and in two processes, on one thread each; times over
that of the stack go to `src/latentops/training/rules.json`. A new table changes no byte of a model.

A layer or a model takes the rule of the nearest one that was measured.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.contestants.data import draw
from benchmarks.contestants.ours import recipe_of, samples
from benchmarks.contestants.protocol import Job
from benchmarks.figures import git, machine, warn_if_busy
from latentops import atomic
from latentops.architectures import convolutions
from latentops.architectures.convolutions import Convolution
from latentops.architectures.stack import generator
from latentops.cli import guard
from latentops.config import Budget, load_params
from latentops.data import prepared
from latentops.errors import UnknownNameError
from latentops.progress import bar
from latentops.training import ways
from latentops.training.loop import fit
from latentops.training.members import VIEW_ALL, Member
from latentops.training.processes import fit_in_turns, fit_shared

BATCH = 64
MEMBERS = (1, 5, 20)
SIZES = (4, 8, 16, 28)
CHANNELS = ((1, 8), (1, 32), (8, 16), (16, 32), (32, 64), (64, 128))
ROUNDS = 5
LARGEST = 3 * 10**7
"""Input values of a stack beyond which a layer isn't timed."""

MODELS = (
    (Job("mlp", (64,), (32, 16), 8, 64, rows=2048, threads=1), 2000),
    (Job("mlp", (64,), (128, 64), 8, 64, rows=2048, threads=1), 900),
    (Job("mlp", (784,), (512, 256), 32, 128, rows=2048, threads=1), 34),
    (Job("convolutional", (1, 8, 8), (8, 16), 8, 64, rows=2048, threads=1), 330),
    (Job("convolutional", (1, 28, 28), (32, 64, 128), 32, 64, rows=1024, threads=1), 8),
    (Job("gru", (8, 8), (48,), 8, 64, rows=1024, threads=1, lengths=(1, 8)), 230),
    (Job("gru", (100, 8), (64,), 16, 64, rows=512, threads=1, lengths=(5, 100)), 4),
    (Job("transformer", (8, 8), (32,), 8, 64, rows=1024, threads=1, lengths=(1, 8)), 130),
    (Job("transformer", (100, 8), (64,), 16, 64, rows=512, threads=1, lengths=(5, 100)), 4),
)
"""Whom stacks are trained of, and for how many steps; and for three times as many, to leave out the start."""

STACKED, PROCESSES = 5, 2


def seconds(run: Callable[[], object]) -> float:
    """The best of a few rounds, in CPU time of this process."""
    run()
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken)


def grouped_over_looped(size: int, inputs: int, outputs: int, members: int) -> float:
    """Time of one way over the other for a stack's layer, forth and back."""
    layer = Convolution(inputs, outputs, (size, size), [generator(at) for at in range(members)])
    rows = torch.randn(members, BATCH, inputs, size, size, generator=generator("rows"), requires_grad=True)
    taken = []
    for looped in (False, True):
        layer.looped = looped
        taken.append(seconds(lambda: layer(rows).sum().backward()))
    return taken[0] / taken[1]


def measure_convolutions() -> dict[str, Any]:
    """The table of `architectures/rules.json`."""
    rows = []
    layers = list(product(SIZES, CHANNELS))
    with bar("convolutions", len(layers)) as progress:
        for at, (size, (inputs, outputs)) in enumerate(layers, start=1):
            stacks = [members for members in MEMBERS if members * BATCH * inputs * size**2 <= LARGEST]
            ratios = [grouped_over_looped(size, inputs, outputs, members) for members in stacks]
            mean = round(statistics.geometric_mean(ratios), 2)
            layer = {"pixels": size**2, "inputs": inputs, "outputs": outputs}
            by_members = {
                str(members): round(ratio, 2) for members, ratio in zip(stacks, ratios, strict=True)
            }
            rows.append({**layer, "grouped_over_looped": mean, "by_members": by_members})
            progress(at)
    return {"rows": rows}


def trained(job: Job, way: ways.Way, steps: int, folder: Path) -> float:
    """Wall seconds that a stack takes for so many steps."""
    recipe, (rows, held_out) = recipe_of(job), draw(job)
    train, stop = samples(rows), samples(held_out)
    prepared.write(folder, recipe.description, {"train": train, "stop": stop})
    members = [Member(seed, VIEW_ALL) for seed in range(STACKED)]
    changes = {
        "batch_size": job.batch,
        "check_every": steps,
        "look_rows": 32,
        "threads": 1,
        "processes": PROCESSES if way == "processes" else 1,
        "device": "cpu",
    }
    training = load_params().training.model_copy(update=changes)
    budget = Budget(steps=steps, learning_rate=job.learning_rate)
    model, cpu = recipe.build(members), torch.device("cpu")
    data = train, stop, recipe.description.classes
    began = time.perf_counter()
    if way == "processes":
        fit_shared(model, recipe, members, folder, training, budget, lambda look: None)
    elif way == "in turns":
        fit_in_turns(model, recipe, members, *data, training, budget, cpu, lambda look: None)
    else:
        fit(model, members, *data, training, budget, cpu, lambda look: None)
    return time.perf_counter() - began


def measure_members(rounds: int = 2) -> dict[str, Any]:
    """The table of `training/rules.json`; what it takes to start doesn't count into a step."""
    rows, starts = [], []
    every: tuple[ways.Way, ...] = ("stack", "in turns", "processes")
    with bar("members", len(MODELS)) as progress, tempfile.TemporaryDirectory() as name:
        for at, (job, steps) in enumerate(MODELS, start=1):
            taken: dict[ways.Way, list[tuple[float, float]]] = {way: [] for way in every}
            for _ in range(rounds):
                for way in every:
                    few, many = (trained(job, way, count, Path(name, "data")) for count in (steps, 3 * steps))
                    taken[way].append(((many - few) / (2 * steps), few))
            step = {way: statistics.median(each for each, _ in found) for way, found in taken.items()}
            first = {way: statistics.median(few for _, few in found) for way, found in taken.items()}
            starts.append(first["processes"] - first["stack"] - steps * (step["processes"] - step["stack"]))
            recipe = recipe_of(job)
            model = recipe.build([Member(0, VIEW_ALL)])
            rows.append(
                {
                    "architecture": recipe.architecture,
                    "parameters": sum(each.numel() for each in model.parameters()),
                    "values": math.prod(recipe.description.shape),
                    "step_seconds": round(step["stack"], 6),
                    "turns_over_stack": round(step["in turns"] / step["stack"], 2),
                    "processes_over_stack": round(step["processes"] / step["stack"], 2),
                }
            )
            progress(at)
    start = round(statistics.median(starts), 2)
    return {"members": STACKED, "processes": PROCESSES, "start_seconds": start, "rows": rows}


TABLES = {
    "convolutions": (measure_convolutions, convolutions.RULES),
    "members": (measure_members, ways.RULES),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(table: Annotated[str, typer.Argument(help="convolutions or members")]) -> None:
    """Measure, and write the table."""
    if table not in TABLES:
        raise UnknownNameError(f"no table {table!r}; there are {', '.join(TABLES)}")
    torch.set_num_threads(1)
    taken_on = machine("torch")
    warn_if_busy(taken_on)
    measure, path = TABLES[table]
    found = measure()
    atomic.write_json(path, {"machine": taken_on, "commit": git("rev-parse", "HEAD"), **found})
    for row in found["rows"]:
        print(row)


if __name__ == "__main__":
    guard(app)
