"""Members of a stack: one seed on one view of the data each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from latentops.architectures.stack import Batch, generator
from latentops.data.prepared import Samples
from latentops.errors import DataError

WHOLE_VECTORS = 32
"""Rows come in multiples of this: the CPU rounds a vector's tail otherwise than the rest, and where the tail
lies depends on how many members there are."""

VIEW_ALL = "all"
"""The view of every row; the other views are named after the one class they hold."""


@dataclass(frozen=True)
class Member:
    """One trained model: a seed, and the view it is trained on."""

    seed: int
    view: str

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> Generator:
        """Random numbers that depend on this member and `purpose` alone, not on its neighbours."""
        return generator(self.seed, self.view, purpose, device=device)


def stack_members(seeds: Sequence[int], normal: Sequence[str]) -> tuple[Member, ...]:
    """Every seed on every view: all rows first, then one view for each class in `normal`."""
    return tuple(Member(seed, view) for view in (VIEW_ALL, *normal) for seed in seeds)


def view_rows(samples: Samples, view: str, classes: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the rows that `view` holds; `DataError` where it holds none."""
    if view == VIEW_ALL:
        return np.arange(len(samples))
    rows = np.flatnonzero(samples.labels == classes.index(view))
    if not len(rows):
        raise DataError(f"view {view!r} holds no row of a split: lower its other shares or add rows")
    return rows


@dataclass(frozen=True)
class Resident:
    """Samples as tensors on the device, from which batches are gathered by row."""

    values: Float[Tensor, "rows ..."]
    lengths: Int[Tensor, " rows"] | None

    @classmethod
    def put(cls, samples: Samples, device: torch.device) -> "Resident":
        """`samples` on `device`; on the CPU they stay in the file that they are mapped from."""
        lengths = None if samples.lengths is None else torch.from_numpy(np.array(samples.lengths)).to(device)
        return cls(torch.from_numpy(samples.values).to(device), lengths)

    def gather(self, rows: Int[Tensor, "members batch"], steps: int | None = None) -> Batch:
        """The rows of each member as one batch; of sequences the first `steps`, if given."""
        values = self.values if steps is None else self.values[:, :steps]
        chosen = values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])
        if self.lengths is None:
            return Batch(chosen)
        return Batch(chosen, self.lengths.index_select(0, rows.flatten()).view(rows.shape))

    def shared(self, members: int, part: slice = slice(None)) -> Batch:
        """The same rows for all members, without a copy."""
        values = self.values[part]
        lengths = None if self.lengths is None else self.lengths[part].expand(members, -1)
        return Batch(values.expand(members, *values.shape), lengths)


@dataclass(frozen=True)
class Buckets:
    """Rows by length, so that a batch of sequences is padded no further than it has to be.

    Every view is cut into equally many rows a bucket, its shortest sequences first; a step is padded to the
    longest that any view has in its bucket. What a bucket is thus depends on the dataset alone.
    """

    steps: tuple[int, ...] | None
    """What each bucket is padded to; None for data without lengths."""

    lengths: NDArray[np.int64] | None

    @classmethod
    def of(cls, samples: Samples, wanted: int) -> "Buckets":
        """At most `wanted` buckets of the training rows; fewer where a class has fewer rows.

        A single one has everything, padded as it is.
        """
        if samples.lengths is None or wanted == 1:
            return cls(None, None)
        lengths = np.asarray(samples.lengths)
        views = [lengths, *(lengths[samples.labels == label] for label in np.unique(samples.labels))]
        count = min(wanted, *map(len, views))
        parts = [np.array_split(np.sort(view), count) for view in views]
        return cls(tuple(int(max(part[at][-1] for part in parts)) for at in range(count)), lengths)

    def split(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The rows of a view, bucket by bucket."""
        if self.steps is None or self.lengths is None:
            return [rows]
        return np.array_split(rows[np.argsort(self.lengths[rows], kind="stable")], len(self.steps))

    def at(self, step: int) -> int:
        """The bucket of a step: all of them in turn, in a new order each time."""
        count = self.count
        turn = generator("buckets", step // count)
        return int(torch.randperm(count, generator=turn)[step % count])

    @property
    def count(self) -> int:
        """How many there are; 1 for data without lengths."""
        return 1 if self.steps is None else len(self.steps)

    def padded(self, bucket: int) -> int | None:
        """How many steps sequences of `bucket` are padded to; None for data without lengths."""
        return None if self.steps is None else self.steps[bucket]


class Order:
    """The endless stream of rows that a member sees: one permutation of them after another."""

    def __init__(self, rows: NDArray[np.int64], member_generator: Generator) -> None:
        self.rows = torch.from_numpy(rows)
        self.generator = member_generator
        self.rest = self.rows[:0]

    def state(self) -> dict[str, Tensor]:
        """What the rows to come depend on."""
        return {"rest": self.rest, "generator": self.generator.get_state()}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.rest = state["rest"]
        self.generator.set_state(state["generator"])

    def take(self, count: int) -> Int[Tensor, " count"]:
        """The next `count` rows."""
        parts = [self.rest]
        available = len(self.rest)
        while available < count:
            parts.append(self.rows[torch.randperm(len(self.rows), generator=self.generator)])
            available += len(self.rows)
        stream = torch.cat(parts)
        self.rest = stream[count:]
        return stream[:count]


def sendable(rows: Tensor, device: torch.device) -> Tensor:
    """`rows` where a GPU can fetch them by itself, while this process goes on."""
    return rows.pin_memory() if device.type == "cuda" else rows


def looked_at(rows: NDArray[np.int64], count: int) -> Int[Tensor, " count"]:
    """`count` of `rows`, evenly spaced; over and over where there are fewer, so that views stack."""
    if len(rows) > count:
        rows = rows[np.arange(count) * len(rows) // count]
    return torch.from_numpy(np.resize(rows, count))


def whole_vectors(count: int) -> int:
    """`count` rounded up to whole vectors."""
    return WHOLE_VECTORS * -(-count // WHOLE_VECTORS)
