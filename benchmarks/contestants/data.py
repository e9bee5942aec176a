"""What contestants train on: a few waves in random mixtures, and noise, so that there is something to learn.

The same description gives the same bytes to every contestant.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants.protocol import Job

WAVES = 12
HELD_OUT = 512
"""Rows that are drawn beside those trained on; the loss that is compared is taken on them."""


@dataclass(frozen=True)
class Rows:
    """`values` `[rows, *shape]`, zero in padding; `lengths` `[rows]` are the valid steps of sequences."""

    values: NDArray[np.float32]
    lengths: NDArray[np.int64] | None

    def mean_squared_error(self, reconstruction: NDArray[np.float32]) -> float:
        """Over all valid values; `reconstruction` is `[rows, *shape]`."""
        squares = (self.values.astype(np.float64) - reconstruction) ** 2
        if self.lengths is None:
            return float(squares.mean())
        valid = np.arange(self.values.shape[1]) < self.lengths[:, None]
        return float(squares[valid].mean())


def draw(job: Job) -> tuple[Rows, Rows]:
    """The rows to train on and those held out."""
    random = np.random.default_rng(job.seed)
    places, channels = job.shape if job.lengths else (math.prod(job.shape), 1)
    pace = random.uniform(0, 0.5, size=(WAVES, 1, 1))
    phase = random.uniform(0, 2 * np.pi, size=(WAVES, 1, channels))
    waves = np.cos(pace * np.arange(places)[:, None] + phase).reshape(WAVES, -1)
    rows = job.rows + HELD_OUT
    mixture = random.normal(size=(rows, WAVES)) * job.signal / math.sqrt(WAVES / 2)
    values = mixture @ waves + random.normal(scale=job.noise, size=(rows, places * channels))
    shaped = values.astype(np.float32).reshape(rows, *job.shape)
    lengths = None
    if job.lengths:
        lengths = random.integers(job.lengths[0], job.lengths[1] + 1, size=rows)
        shaped[np.arange(places) >= lengths[:, None]] = 0

    def part(where: slice) -> Rows:
        return Rows(shaped[where], None if lengths is None else lengths[where])

    return part(slice(job.rows)), part(slice(job.rows, None))
