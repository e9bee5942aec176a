"""Ten million rows and 200,000 pictures from file to training, 60,000 pictures judged, and what it takes.

    python -m benchmarks.large [table|images|judge] [--rows 10000000] [--images 200000] [--judged 60000]

Draws a table of 30 columns as CSV and pictures of 3×64×64 bytes as `.npy`, writes a project around each in a
temporary folder under `var/bench`, and runs its stages as DVC does, each in a process of its own. What is
judged are pictures of 8×8 bytes in ten classes, as `digits` has them: of all variants, trained for a few
steps with the seeds of `params.yaml`, codes of 32 numbers (80 of the overcomplete one) and those of three
one-class views, two processes at once, as `make flow` has them on two cores. So are pictures of 28×28 bytes,
but for the overcomplete variant, whose code has 980 numbers there. Memory is that of the processes, without
what they map from files, which the kernel takes back when it likes; what is mapped is told beside it. Writes
`benchmarks/large.json`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import typer
import yaml

from benchmarks.figures import ROOT, Row, git, machine, row, table, warn_if_busy
from benchmarks.workers import LOGS, THREADS
from latentops import atomic
from latentops.cli import guard
from latentops.data.fetch import digest
from latentops.errors import LatentOpsError
from latentops.progress import bar
from latentops.variants import NAMES

RESULT = ROOT / "benchmarks/large.json"
COLUMNS = 30
SHAPE = (3, 64, 64)
CHUNK = 100_000
LIMIT_GB = 2.0
PREPARED = (("ingest",), ("validate",), ("prepare",))
STAGES = (*PREPARED, ("train", "undercomplete"))
STEPS = 100
EVERY = 0.02  # seconds between looks at a process's memory

JUDGED_SIDES = (8, 28)
TILES = 4
"""Across and down in a picture that is judged, so that a tile has a side's quarter of pixels."""
CLASSES = [str(each) for each in range(10)]
LATENT = 32
SHARES = {"stop": 0.1, "calibration": 0.05, "test": 0.1}
WORKERS = 2
JUDGE_GB = 3.0
JUDGE_SECONDS = 180.0

Task = Literal["table", "images", "judge"]


def draw_table(path: Path, rows: int) -> None:
    """A CSV file of `COLUMNS` correlated numbers and a label of two classes."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(4, COLUMNS))
    names = [f"x{at}" for at in range(COLUMNS)]
    schema = pa.schema([*((name, pa.float64()) for name in names), ("label", pa.string())])
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            values = random.normal(size=(count, 4)) @ mixing + 0.1 * random.normal(size=(count, COLUMNS))
            labels = np.where(random.random(count) < 0.1, "odd", "usual")
            columns = [*np.round(values, 4).T, labels]
            writer.write_table(pa.Table.from_arrays([pa.array(each) for each in columns], schema=schema))


def draw_images(path: Path, count: int) -> None:
    """A `.npy` file of pictures in bytes: smooth gradients with some noise."""
    random = np.random.default_rng(0)
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *SHAPE))
    across = np.linspace(0, 1, SHAPE[2])
    for start in range(0, count, 1000):
        some = min(1000, count - start)
        slopes = random.normal(size=(some, 3, 2))
        plane = slopes[..., 0, None, None] * across[:, None] + slopes[..., 1, None, None] * across
        noisy = 128 + 40 * plane + 4 * random.normal(size=(some, *SHAPE))
        made[start : start + some] = np.clip(noisy, 0, 255).astype(np.uint8)
    made.flush()


def draw_classes(path: Path, count: int, side: int) -> None:
    """An `.npz` file of pictures in bytes, each near that of its class, and the classes."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % len(CLASSES)
    tiles = random.uniform(size=(len(CLASSES), 8, TILES, TILES))
    mixed = random.dirichlet(np.ones(8), size=count)
    coarse = np.einsum("nk,nkhw->nhw", mixed, tiles[labels])
    pictures = coarse.repeat(side // TILES, axis=1).repeat(side // TILES, axis=2)
    noisy = 255 * pictures + 8 * random.normal(size=pictures.shape)
    np.savez(path, X=np.clip(noisy, 0, 255).astype(np.uint8)[:, None], y=labels)


def entry(task: Task, path: Path, size: int) -> dict[str, Any]:
    """The dataset's section of params.yaml."""
    file = {"path": path.name, "sha256": digest(path)}
    shared: dict[str, Any] = {
        "expectations": {"min_rows": size // 2, "max_quarantined": 0.01, "classes": ["odd", "usual"]},
        "scaling": "standard",
        "likelihood": "gaussian",
        "split": {"seed": 0, "stop": 0.1, "calibration": 0.1, "test": 0.2, "by": "hash"},
        "normal": ["usual"],
        "primary": "auroc",
        "architecture": "mlp",
        "architectures": {
            "mlp": {"hidden": [64]},
            "convolutional": {"channels": [8, 16]},
            "recurrent": {"hidden": 32},
        },
        "latent_dim": 8,
    }
    if task == "table":
        columns = {f"x{at}": "numeric" for at in range(COLUMNS)}
        source: dict[str, Any] = {
            "kind": "tabular",
            "label": "label",
            "columns": columns,
            "read": {"format": "csv"},
        }
        shared["expectations"] |= {"columns": {name: [-60, 60] for name in columns}}
    elif task == "judge":
        source = {"kind": "image", "label": "class", "channels": 1, "value_range": [0, 255]}
        source |= {"read": {"format": "array", "values": "X", "labels": "y"}}
        shared |= {"scaling": "range", "normal": CLASSES[:3], "primary": "probe_accuracy"}
        shared["latent_dim"], shared["split"] = LATENT, {"seed": 0, **SHARES}
        shared["expectations"] |= {"classes": CLASSES}
    else:
        source = {"kind": "image", "label": None, "channels": 3, "value_range": [0, 255]}
        source |= {"read": {"format": "array", "labels": None}}
        shared |= {"scaling": "range", "normal": [], "primary": "none", "architecture": "convolutional"}
        shared["expectations"] = {"min_rows": size // 2, "max_quarantined": 0.01, "classes": []}
    return {"source": {"name": "file", "files": [file], **source}, **shared}


def project(folder: Path, task: Task, path: Path, size: int) -> None:
    """A folder to run stages in."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["datasets"] = {"large": entry(task, path, size)}
    if task == "judge":
        params["run"] = {"datasets": ["large"], "variants": list(NAMES)}
        steps = STEPS // 5
    else:
        params["run"] = {"datasets": ["large"], "variants": ["undercomplete"]}
        params["training"]["seeds"] = [0, 1]
        steps = STEPS
    params["training"] |= {"check_every": 50, "look_rows": 512}
    for budget in params["training"]["budget"].values():
        budget["steps"] = steps
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for each in ("accepted", "profiles"):
        (folder / "data" / each / "large").mkdir(parents=True)


def run(folder: Path, stage: str, *arguments: str) -> tuple[float, float, float]:
    """Seconds of a stage, the most GB of its own memory, and the most with what it maps from files."""
    environment = os.environ | dict.fromkeys(THREADS, "1")
    environment |= {"PYTHONPATH": str(ROOT / "src"), "GX_ANALYTICS_ENABLED": "false", "TQDM_DISABLE": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "latentops.stages", stage, "large", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    own = whole = 0.0
    while process.poll() is None:
        found = memory(process.pid)
        own = max(own, found.get("RssAnon", 0.0))
        whole = max(whole, sum(found.values()))
        time.sleep(EVERY)
    if process.returncode:
        raise LatentOpsError(f"stage {stage} failed with status {process.returncode}")
    return time.perf_counter() - began, own, whole


def memory(process: int) -> Mapping[str, float]:
    """GB that a process holds: of its own, of files, and shared."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    wanted = ("RssAnon", "RssFile", "RssShmem")
    pairs = (line.split(":") for line in lines if line.startswith(wanted))
    return {name: int(value.split()[0]) * 1024 / 1e9 for name, value in pairs}


def measure_judge(train: int, side: int) -> list[Row]:
    """Seconds and memory of judging the variants on so many training rows."""
    LOGS.mkdir(parents=True, exist_ok=True)
    size = round(train / (1 - sum(SHARES.values())))
    judged = [name for name in NAMES if side == min(JUDGED_SIDES) or name != "overcomplete"]
    stages = [*PREPARED, *(("train", name) for name in judged)]
    with (
        tempfile.TemporaryDirectory(prefix="large-", dir=LOGS) as scratch,
        bar(f"large judge {side}×{side}", len(stages) + 2) as progress,
    ):
        folder = Path(scratch)
        draw_classes(folder / "images.npz", size, side)
        project(folder, "judge", folder / "images.npz", size)
        progress(1)
        for number, stage in enumerate(stages, 2):
            run(folder, *stage)
            progress(number)
        began = time.perf_counter()
        with ThreadPoolExecutor(WORKERS) as workers:
            found = list(workers.map(lambda name: run(folder, "evaluate", name), judged))
        seconds = time.perf_counter() - began
        seeds = len(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["training"]["seeds"])
    what = f"judge {train:,} × {LATENT} of {side}×{side}"
    name = f"{what}: {len(judged)} variants × {seeds} seeds"
    largest = [sum(sorted(each)[-WORKERS:]) for each in list(zip(*found, strict=True))[1:]]
    held = side == min(JUDGED_SIDES)
    return [
        row(f"{name}, memory of the largest two", [largest[0]], "GB", JUDGE_GB),
        row(f"{name}, with mapped files", [largest[1]], "GB"),
        row(f"{name}, time", [seconds], "s", JUDGE_SECONDS if held else None),
        *(row(f"{what}: {each}, time", [took], "s") for each, (took, *_) in zip(judged, found, strict=True)),
    ]


def measure(task: Task, size: int) -> list[Row]:
    """Seconds and memory of each stage on one data set of that size."""
    if task == "judge":
        return [each for side in JUDGED_SIDES for each in measure_judge(size, side)]
    draw: Callable[[Path, int], None] = draw_table if task == "table" else draw_images
    LOGS.mkdir(parents=True, exist_ok=True)
    what = f"{size:,} × {COLUMNS}" if task == "table" else f"{size:,} × {'×'.join(map(str, SHAPE))}"
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="large-", dir=LOGS) as scratch,
        bar(f"large {task}", len(STAGES) + 1) as progress,
    ):
        folder = Path(scratch)
        path = folder / ("table.csv" if task == "table" else "images.npy")
        draw(path, size)
        project(folder, task, path, size)
        progress(1)
        for number, (stage, *arguments) in enumerate(STAGES, 2):
            seconds, own, whole = run(folder, stage, *arguments)
            name = f"{task} {what}: {stage}"
            rows += [
                row(f"{name}, memory", [own], "GB", LIMIT_GB),
                row(f"{name}, with mapped files", [whole], "GB"),
                row(f"{name}, time", [seconds], "s"),
            ]
            if stage == "prepare":
                shutil.rmtree(folder / "data/raw")
            progress(number)
        described = json.loads((folder / "data/prepared/large/dataset.json").read_text(encoding="utf-8"))
        if sum(described["rows"].values()) != size:
            raise LatentOpsError(f"{size} rows went in, {described['rows']} came out")
    return rows


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[
        str | None, typer.Argument(metavar="table|images|judge", help="All, unless named.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1000, help="Of the table.")] = 10_000_000,
    images: Annotated[int, typer.Option(min=1000, help="Pictures.")] = 200_000,
    judged: Annotated[int, typer.Option(min=5000, help="Training rows of what is judged.")] = 60_000,
) -> None:
    """Measure what large data takes, and write it."""
    commit = git("rev-parse", "HEAD")
    taken_on = machine("pyarrow", "great_expectations", "torch")
    warn_if_busy(taken_on)
    sizes: dict[Task, int] = {"table": rows, "images": images, "judge": judged}
    if only is not None and only not in sizes:
        raise LatentOpsError(f"{only!r} is none of {', '.join(sizes)}")
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() and only else []
    tasks = [task for task in sizes if only in (None, task)]
    made = [each for task in tasks for each in measure(task, sizes[task])]
    found = [each for each in kept if not each["name"].startswith(f"{only} ")]
    found += [asdict(each) for each in made]
    atomic.write_json(RESULT, {"machine": taken_on, "commit": commit, "rows": found})
    print(*table(made), RESULT, sep="\n")


if __name__ == "__main__":
    guard(app)
