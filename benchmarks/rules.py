"""Which convolutions are faster grouped over a stack's members, and which looped over them.

    python -m benchmarks.rules

Times both ways, forth and back on one thread, for stacks of 1, 5 and 20 members, and writes the geometric
mean of grouped over looped time for each layer to `src/latentops/architectures/rules.json`. A layer takes the
rule of the nearest one there. A new table may change convolutional models' bytes: run the pipeline again.
"""

import statistics
import time
from collections.abc import Callable
from itertools import product

import torch

from benchmarks.figures import git, machine, warn_if_busy
from latentops import atomic
from latentops.architectures.convolutions import RULES, Convolution
from latentops.architectures.stack import generator
from latentops.cli import guard
from latentops.progress import bar

BATCH = 64
MEMBERS = (1, 5, 20)
SIZES = (4, 8, 16, 28)
CHANNELS = ((1, 8), (1, 32), (8, 16), (16, 32), (32, 64), (64, 128))
ROUNDS = 5
LARGEST = 3 * 10**7
"""Input values of a stack beyond which a layer isn't timed."""


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


def main() -> None:
    """Measure, and write the table."""
    torch.set_num_threads(1)
    taken_on = machine()
    warn_if_busy(taken_on)
    rows = []
    layers = list(product(SIZES, CHANNELS))
    with bar("rules", len(layers)) as progress:
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
    atomic.write_json(RULES, {"machine": taken_on, "commit": git("rev-parse", "HEAD"), "rows": rows})
    for row in rows:
        print(row)


if __name__ == "__main__":
    guard(main)
