"""The ceiling: products of two square matrices, as fast as torch is at a job's threads and precision.

With the variant `copy` it is a copy from memory to memory instead.
"""

import math
import time

import torch

from benchmarks.contestants.protocol import Job, Train, finish, serve

SIZE = 2048
FLOPS = 2 * SIZE**3
"""Operations of one product."""

COPIED = 2 * 4 * 2**26
"""Bytes read and written by one copy."""


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    kind = torch.bfloat16 if job.precision == "bf16" else torch.float32
    left, right = (torch.randn(SIZE, SIZE).to(job.device, kind) for _ in range(2))
    product = torch.empty_like(left)
    if job.variant == "copy":
        source = torch.zeros(COPIED // 8, device=job.device)
        target = torch.empty_like(source)

    def once() -> None:
        if job.variant == "copy":
            target.copy_(source)
        else:
            torch.mm(left, right, out=product)

    def train(steps: int, seed: int) -> tuple[float, float]:
        del seed
        best = math.inf
        for _ in range(steps):
            began = time.perf_counter()
            once()
            finish(job)
            best = min(best, time.perf_counter() - began)
        return best * steps, 0.0

    return train


if __name__ == "__main__":
    serve(prepare)
