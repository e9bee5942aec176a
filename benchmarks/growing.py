"""One point of `benchmarks.growth`: `python -m benchmarks.growing TASK SMALLEST SIZE`, one line of JSON.

Does the task once at its smallest size, so that libraries are loaded and warm, and then once at `SIZE`: the
CPU seconds of that, and by how many bytes it raised the most memory that this process has held. Drawing the
data isn't timed, but the data is in the memory. All on one thread.
"""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contestants.ours import recipe_of
from benchmarks.contestants.protocol import Job, Kind, peak_bytes
from latentops.config import Architectures, Budget, load_params
from latentops.data.prepared import Samples
from latentops.evaluation.anomaly import Scorer, some_rows
from latentops.evaluation.probe import linear_probe
from latentops.training.loop import fit
from latentops.training.members import VIEW_ALL, Member

WIDTH = 8
"""Columns of codes, and of rows whose number grows."""

DEEP_STEPS = 256
"""Of the sequences that a Transformer of many blocks reads."""

QUERIES = 64
CLASSES = 5
NEIGHBOURS = 10
STRENGTH = 1e-3

Task = Callable[[int], Callable[[], object]]
"""Draws the data of a size, and gives what is to be timed."""


def members(count: int) -> Callable[[], object]:
    """A small perceptron in a stack of `count`."""
    return training(Job("mlp", (64,), (32, 16), 8, batch=64, rows=4096, threads=1, members=count), steps=10)


def samples(count: int) -> Callable[[], object]:
    """One small perceptron on `count` rows, of which a few steps see few: what is left is the rows' own."""
    return training(Job("mlp", (WIDTH,), (16,), 4, batch=64, rows=count, threads=1), steps=10)


def features(count: int) -> Callable[[], object]:
    """One perceptron on `count` columns."""
    return training(Job("mlp", (count,), (32,), 8, batch=64, rows=512, threads=1), steps=10)


def length(steps: int) -> Callable[[], object]:
    """One recurrent autoencoder on a batch of sequences that all have `steps`."""
    return training(of_length("gru", steps), steps=2)


def chunks(steps: int) -> Callable[[], object]:
    """The same, a chunk of steps at a time: as many as there are chunks."""
    return training(of_length("gru", steps), steps=2, recurrent={"chunk": math.isqrt(steps)})


def attention(steps: int) -> Callable[[], object]:
    """One Transformer of a block on such a batch."""
    return training(of_length("transformer", steps), steps=2)


def depth(blocks: int) -> Callable[[], object]:
    """One Transformer of so many blocks on a batch of sequences of `DEEP_STEPS`."""
    return training(of_length("transformer", DEEP_STEPS), steps=2, transformer={"layers": blocks})


def checkpoints(blocks: int) -> Callable[[], object]:
    """The same, where each block is taken again on the way back."""
    knobs = {"layers": blocks, "checkpoint": True}
    return training(of_length("transformer", DEEP_STEPS), steps=2, transformer=knobs)


def of_length(kind: Kind, steps: int) -> Job:
    """Sequences that all have so many steps."""
    return Job(kind, (steps, 4), (8,), 4, batch=32, rows=32, threads=1, lengths=(steps, steps))


def training(job: Job, steps: int, **sizes: Mapping[str, object]) -> Callable[[], object]:
    """`fit` for so many steps, with one look at an eighth as many stop rows as there are rows.

    `sizes` are changes of the job's architectures.
    """
    train, stop = (drawn(job, count) for count in (job.rows, max(1, job.rows // 8)))
    stack = [Member(seed, VIEW_ALL) for seed in range(job.members)]
    recipe = recipe_of(job)
    whole = recipe.architectures.model_dump()
    changed = {name: {**whole[name], **part} for name, part in sizes.items()}
    architectures = Architectures.model_validate(whole | changed)
    model = dataclasses.replace(recipe, architectures=architectures).build(stack)
    settings = load_params().training.model_copy(update={"batch_size": job.batch, "check_every": steps})
    budget = Budget(steps=steps, learning_rate=job.learning_rate)
    device = torch.device("cpu")
    return lambda: fit(model, stack, train, stop, (VIEW_ALL,), settings, budget, device, lambda look: None)


def drawn(job: Job, rows: int) -> Samples:
    """Noise of the job's shape; what `fit` doesn't read takes no memory."""
    values = np.random.default_rng(job.seed).standard_normal((rows, *job.shape), dtype=np.float32)
    lengths = np.full(rows, job.lengths[1]) if job.lengths else None
    return Samples(values, lengths, np.zeros(rows, np.int64), np.zeros((rows, 32), np.uint8))


def codes(rows: int) -> NDArray[np.float32]:
    """Noise `[rows, WIDTH]`."""
    return np.random.default_rng(0).standard_normal((rows, WIDTH), dtype=np.float32)


def scoring(rows: int) -> Callable[[], object]:
    """Anomaly scores of `QUERIES` codes against `rows` of reference."""
    reference = codes(rows)
    scorer = Scorer.fit(np.abs(reference), reference, reference[some_rows(rows)], NEIGHBOURS)
    return lambda: scorer.score(np.abs(reference[:QUERIES]), reference[:QUERIES])


def reference(rows: int) -> Callable[[], object]:
    """The scorer's fit on `rows`."""
    values = codes(rows)
    return lambda: Scorer.fit(np.abs(values), values, values[some_rows(rows)], NEIGHBOURS)


def probe(rows: int) -> Callable[[], object]:
    """A linear probe of one strength, trained on `rows` to its end."""
    values = codes(rows)
    random = np.random.default_rng(1)
    noisy = values @ random.standard_normal((WIDTH, CLASSES), dtype=np.float32)
    noisy += random.standard_normal(noisy.shape, dtype=np.float32)
    train, labels = torch.from_numpy(values).unsqueeze(0), torch.from_numpy(noisy.argmax(1))
    few, known = train[:, :QUERIES], labels[:QUERIES]
    return lambda: linear_probe(train, labels, few, known, few, known, [STRENGTH])


TASKS: Mapping[str, Task] = {
    "members": members,
    "samples": samples,
    "features": features,
    "length": length,
    "chunks": chunks,
    "attention": attention,
    "depth": depth,
    "checkpoints": checkpoints,
    "scoring": scoring,
    "reference": reference,
    "probe": probe,
}


def measure(task: Task, smallest: int, size: int) -> dict[str, float]:
    """CPU seconds and bytes of `task` at `size` in this process, beyond what `smallest` has made it hold."""
    task(smallest)()
    held = peak_bytes()
    work = task(size)
    began = time.process_time()
    work()
    return {"seconds": time.process_time() - began, "bytes": peak_bytes() - held}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(TASKS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3]))))
