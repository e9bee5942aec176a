"""Processes that train the same members, each on its share of every batch (torch.distributed)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """This process is the `rank`-th of `count`, which all have the same weights at every step."""

    rank: int = 0
    count: int = 1

    @contextmanager
    def joined(self, meeting: Path, device: torch.device) -> Iterator[None]:
        """Meet the others by way of the file `meeting`, which must not exist yet for a new group."""
        if self.count == 1:
            yield
            return
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: its host name needn't resolve
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=distributed.FileStore(str(meeting), self.count),  # type: ignore[attr-defined]
            rank=self.rank,
            world_size=self.count,
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def average(self, tensor: Tensor) -> None:
        """Put the mean over all processes in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
            tensor.div_(self.count)

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Take what the first process has."""
        if self.count > 1:
            for each in tensors:
                distributed.broadcast(each, src=0)

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of `[…, rows]`, which are as many for each."""
        return rows.chunk(self.count, -1)[self.rank]


ALONE = Ranks()
