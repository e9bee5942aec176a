"""The ceiling: products of two square matrices, as fast as torch is at a job's threads and precision."""

import math
import time

import torch

from benchmarks.contestants.protocol import Job, Train, serve

SIZE = 2048
FLOPS = 2 * SIZE**3
"""Operations of one step."""


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    kind = torch.bfloat16 if job.precision == "bf16" else torch.float32
    left, right = torch.randn(SIZE, SIZE).to(kind), torch.randn(SIZE, SIZE).to(kind)
    product = torch.empty(SIZE, SIZE, dtype=kind)

    def train(steps: int, seed: int) -> tuple[float, float]:
        del seed
        best = math.inf
        for _ in range(steps):
            began = time.perf_counter()
            torch.mm(left, right, out=product)
            best = min(best, time.perf_counter() - began)
        return best * steps, 0.0

    return train


if __name__ == "__main__":
    serve(prepare)
