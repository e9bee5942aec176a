"""How fast a GPU trains our stacks, against a plain loop, pythae and Lightning on it, and its own ceilings.

    python -m benchmarks.gpu [--rounds 5] [--only CASE] [--peers PYTHON]

The contestants, their turns and what counts are those of `benchmarks.speed`; here every one has the GPU.
Writes `benchmarks/gpu-<name>.json`, named after the device, with its driver, and the products and copies that
it is capable of, after each case. Where torch sees no GPU there is nothing to measure.
"""

import re
import shutil
import subprocess
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import speed, workers
from benchmarks.contestants import gemm
from benchmarks.contestants.protocol import Job
from benchmarks.figures import ROOT, Row, git, machine, row, table
from benchmarks.speed import BF16, FRAMEWORKS, OURS, PLAIN, Case, Contestant, SpeedRow, Wanted
from latentops import atomic
from latentops.cli import guard
from latentops.config import nearest
from latentops.errors import LatentOpsError
from latentops.progress import bar

MEMBERS = 32
TRAINERS = tuple(one for one in FRAMEWORKS if one.name != "PyOD")
CEILING = 0.4
"""Share of the measured products that a convolutional stack should reach."""


def cases(device: str = "cuda") -> dict[str, Case]:
    """Every case by its short name."""
    large = Job("mlp", (784,), (512, 256), 32, 128, rows=8192, threads=2, device=device)
    small = Job("mlp", (64,), (32, 16), 8, 64, rows=8192, threads=2, device=device)
    images = Job("convolutional", (1, 28, 28), (32, 64, 128), 32, 256, rows=8192, threads=2, device=device)
    stack = Contestant(f"LatentOps ×{MEMBERS}", "ours", {"members": MEMBERS})
    stack_bf16 = Contestant(f"LatentOps ×{MEMBERS} bf16", "ours", {"members": MEMBERS, "precision": "bf16"})
    others = tuple(one.name for one in TRAINERS)
    made = {}
    for short, name, job, steps in (
        ("large", "784-512-256-32, batch 128", large, 1024),
        ("small", "64-32-16-8, batch 64", small, 1024),
    ):
        rows = (
            Wanted(f"{name}, 1 member", OURS.name, 10.0, (PLAIN.name,)),
            Wanted(f"{name}, 1 member, TF32", BF16.name, None, (PLAIN.name,)),
            Wanted(f"{name}, {MEMBERS} members", stack.name, 100.0, others),
            Wanted(f"{name}, {MEMBERS} members, TF32", stack_bf16.name, None, others),
        )
        made[short] = Case(name, job, steps, (OURS, BF16, stack, stack_bf16, PLAIN, *TRAINERS), rows)
    name = "convolutional 32-64-128, batch 256"
    stacks = (
        Wanted(f"{name}, {MEMBERS} members", stack.name, None, others),
        Wanted(f"{name}, {MEMBERS} members, bf16", stack_bf16.name, None, others),
    )
    made["convolutional"] = Case(name, images, 128, (stack, stack_bf16, PLAIN, *TRAINERS), stacks)
    return made


def utilisation(rows: list[SpeedRow]) -> list[Row]:
    """Of each convolutional stack the share of the products that the device was measured to be capable of."""
    return [
        row(f"{each.name}: share of the matmul ceiling", [each.gemm_share], "", CEILING, "higher")
        for each in rows
        if each.name.startswith("convolutional") and each.gemm_share is not None
    ]


def device() -> dict[str, str | int | float]:
    """What the GPU is; `LatentOpsError` where torch sees none."""
    import torch

    if not torch.cuda.is_available():
        raise LatentOpsError("torch sees no GPU: there is nothing to measure; install a CUDA build of torch")
    properties = torch.cuda.get_device_properties(0)
    driver = "unknown"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
        driver = said[0] if said else driver
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "driver": driver,
        "cuda": str(torch.version.cuda),
    }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each contestant trains, in turns.")] = 5,
    only: Annotated[str, typer.Option(help="Measure this case alone, and write nothing.")] = "",
    torch_index: Annotated[str, typer.Option(help="A further index to take the peers' torch from.")] = "",
    peers: Annotated[Path | None, typer.Option(help="A Python that has the peers already.")] = None,
) -> None:
    """Train the same networks on a GPU with us and with others in alternating rounds."""
    known = cases()
    if only and only not in known:
        raise LatentOpsError(f"unknown case {only!r}{nearest(only, known)}; there are {', '.join(known)}")
    found = device()
    python = workers.peers_python(torch_index, peers)
    start = speed.starting(python, "gpu")

    copy = Contestant("copy", "gemm", {"variant": "copy"})
    with closing(start(copy, known["large"].job)) as worker:
        worker.ask({"prepare": asdict(copy.job(known["large"].job))})
        took = worker.ask({"train": speed.CEILING_STEPS, "seed": 0})["seconds"]
    copied = row("copy ceiling", [speed.CEILING_STEPS * gemm.COPIED / took / 1e9], "GB/s", better="higher")
    short = re.sub(r"[^a-z0-9]+", "-", str(found["name"]).lower()).strip("-")
    result = ROOT / f"benchmarks/gpu-{short}.json"
    heading = {
        "device": found,
        "machine": machine("torch"),
        "peers": workers.versions(python, "pythae", "lightning", "torch"),
        "commit": git("rev-parse", "HEAD"),
    }
    rows: list[SpeedRow] = []
    excuses: list[str] = []
    for name, case in known.items():
        if only not in {"", name}:
            continue
        with bar(name, rounds * len(case.contestants)) as progress:
            made, missing = speed.measure(case, rounds, start, progress)
        print(*table([each.figure() for each in made]), *missing, sep="\n", flush=True)
        rows += made
        excuses += missing
        if not only:  # after each case: such a machine may be lent for minutes
            figures = [copied, *utilisation(rows)]
            written = {
                "rows": [asdict(each) for each in rows],
                "figures": [asdict(each) for each in figures],
            }
            atomic.write_json(result, heading | written)
    print(*table([copied, *utilisation(rows)]), result if not only else "", sep="\n")
    if excuses:
        raise LatentOpsError(f"contestants that could not run: {len(excuses)}; they are named above")


if __name__ == "__main__":
    guard(app)
