"""How the benchmark talks to a contestant: one line of JSON a command on stdin, one an answer on stdout.

    {"prepare": {job}}            {"ready": true}
    {"train": steps, "seed": s}   {"seconds": …, "loss": …, "peak_bytes": …}

`prepare` draws the data, imports and warms up; none of it is timed. `train` starts from new weights every
time. A command that fails is answered by `{"error": "why"}`, with the traceback on stderr. This runs in the
peers' environment too, where there is none of our code but this folder.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["mlp", "convolutional", "gru", "lstm", "transformer"]


@dataclass(frozen=True)
class Job:
    """What all contestants of a case train, on the same data, with Adam at the same constant rate.

    `shape` is `[columns]`, `[channels, height, width]` or `[steps, channels]`, the last with `lengths` the
    shortest and longest sequence. `hidden` are the encoder's widths, channels, or its one state's width; the
    decoder mirrors it. `rows` is a multiple of `batch`, so that an epoch has no rest. `signal` and `noise`
    are standard deviations of the data's structure and of what is added to it.
    """

    kind: Kind
    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    latent: int
    batch: int
    rows: int
    threads: int
    learning_rate: float = 1e-3
    lengths: tuple[int, int] | None = None
    variant: str = "undercomplete"
    members: int = 1
    precision: str = "float32"
    device: str = "cpu"
    signal: float = 1.0
    noise: float = 0.1
    seed: int = 0

    @property
    def epoch(self) -> int:
        """Steps in which every row is seen once."""
        return self.rows // self.batch


Train = Callable[[int, int], tuple[float, float]]
"""Trains for so many steps from so seeded weights: the seconds that took, and the loss it ends with."""


def serve(prepare: Callable[[Job], Train]) -> None:
    """Answer commands until stdin ends. What libraries print goes to stderr: stdout is for answers alone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    train: Train | None = None
    for line in sys.stdin:
        try:
            command = json.loads(line)
            if "prepare" in command:
                job = Job(**command["prepare"])
                train = prepare(job)
                train(job.epoch, 0)
                answer: dict[str, object] = {"ready": True}
            elif train is None:
                answer = {"error": "nothing is prepared"}
            else:
                seconds, loss = train(command["train"], command["seed"])
                answer = {"seconds": seconds, "loss": loss, "peak_bytes": peak_bytes()}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers)


def finish(job: Job) -> None:
    """Wait until the job's device has done all that it was asked to."""
    if job.device != "cpu":
        import torch

        torch.cuda.synchronize()


def peak_bytes() -> int:
    """The most memory this process has held.

    Linux counts what the parent held at the start into `ru_maxrss`, so the kernel's own mark is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        marks = [line.split() for line in lines if line.startswith("VmHWM:")]
        if marks:
            return 1024 * int(marks[0][1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
