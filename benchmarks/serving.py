"""What the served champion bears, beside the same model called directly, and where the time goes.

    python -m benchmarks.serving [DATASET] [--seconds 60] [--clients 32] [--workers N]

Starts `latentops serve` on a free port, sends a batch of 1,000 rows in one request, then has clients, each
with a connection of its own, ask for the score of one row again and again. The rows are prepared test rows
in raw units. A batch is also taken apart in this process, through the steps of MLflow's server one by one.
Writes `benchmarks/serving.json`.
"""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil  # type: ignore[import-untyped]
import typer
from mlflow.pyfunc import load_model, scoring_server

import latentops
from benchmarks.figures import ROOT, Row, git, machine, row, table, warn_if_busy
from latentops import atomic
from latentops.cli import guard
from latentops.data import prepared
from latentops.errors import LatentOpsError
from latentops.registry import serving
from latentops.registry.package import Package

RESULT = ROOT / "benchmarks/serving.json"
BATCH = 1000
REPEATS = 9
STARTS_WITHIN = 300.0
PATIENCE = 60.0
"""Seconds that a client waits for an answer before it counts as an error."""


@dataclass
class Load:
    """What clients met: the seconds each answered request took, and what became of the others."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def served(dataset: str, workers: int | None) -> Iterator[tuple[int, psutil.Process]]:
    """The port and the process of a server of the champion, which ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "latentops.cli", "serve", dataset, "--port", str(port)]
    if workers is not None:
        command += ["--workers", str(workers)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(process, port)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        if process.poll() is not None:
            raise LatentOpsError(f"the server ended with status {process.returncode} before it answered")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise LatentOpsError(f"the server didn't answer within {STARTS_WITHIN:g} s")


def ask(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    """The answer to one request; `LatentOpsError` with what it says where it is no 200."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = answer.read()
    if answer.status != http.client.OK:
        raise LatentOpsError(f"{answer.status}: {told[:200].decode(errors='replace')}")
    return told


def load(port: int, body: bytes, clients: int, seconds: float) -> tuple[Load, float]:
    """Have `clients` ask as fast as they are answered for `seconds`; what they met, and seconds it took."""
    met, begin = Load(), time.perf_counter()
    end = begin + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while (start := time.perf_counter()) < end:
            try:
                ask(connection, body)
                met.seconds.append(time.perf_counter() - start)
            except (OSError, http.client.HTTPException, LatentOpsError) as error:
                met.errors.append(str(error) or type(error).__name__)
                connection.close()
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return met, time.perf_counter() - begin


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and all below it that are running."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        total += times.user + times.system
    return total


def timed(do: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Milliseconds that `do` takes, each time, after one that doesn't count."""
    do()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        do()
        taken.append(1000 * (time.perf_counter() - begin))
    return taken


def steps(folder: Path, body: bytes) -> list[Row]:
    """What each step of MLflow's server takes of one request, without HTTP."""
    model = load_model(str(folder))
    schema = model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
    decoded = json.loads(body)
    data = {"dataframe_split": decoded["dataframe_split"]}
    frame = scoring_server.infer_and_parse_data(data, schema)
    answer = model.predict(frame, params=decoded["params"])
    package = Package.open(folder / "artifacts" / "package")
    ours = timed(lambda: package.predict(frame, **decoded["params"]))
    whole = timed(lambda: model.predict(frame, params=decoded["params"]))
    checks = [max(0.0, one - other) for one, other in zip(whole, ours, strict=True)]
    told = timed(lambda: scoring_server.predictions_to_json(answer, StringIO()))  # type: ignore[no-untyped-call]
    return [
        row("its JSON read", timed(lambda: json.loads(body)), "ms"),
        row("a DataFrame of it", timed(lambda: scoring_server.infer_and_parse_data(data, schema)), "ms"),
        row("its cells held to the signature", checks, "ms"),
        row("the model", ours, "ms"),
        row("the answer as JSON", told, "ms"),
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Argument(metavar="[DATASET]")] = "digits",
    seconds: Annotated[float, typer.Option(min=1, help="How long clients ask.")] = 60.0,
    clients: Annotated[int, typer.Option(min=1, help="How many ask at once.")] = 32,
    workers: Annotated[int | None, typer.Option(min=1, help="As `latentops serve` takes them.")] = None,
) -> None:
    """Measure the server, and write it."""
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print(f"note: with uncommitted edits on {commit[:10]}")
    taken_on = machine("mlflow", "uvicorn", "torch")
    warn_if_busy(taken_on)
    folder = serving.champion(dataset)
    model = latentops.load(f"{dataset}@champion")
    samples = prepared.load(Path("data/prepared", dataset), "test")
    rows = model.frame(model.raw(samples.select(np.arange(BATCH) % len(samples))))
    batch, one = (json.dumps(model.request(rows[:count], "score")).encode() for count in (BATCH, 1))
    direct = timed(lambda: model.predict(rows, "score"))
    first = rows[:1]
    begun = time.process_time()
    alone = timed(lambda: model.predict(first, "score"), 100)
    model_seconds = (time.process_time() - begun) / 101
    taken_apart = steps(folder, batch)
    with served(dataset, workers) as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        asked = timed(lambda: ask(connection, batch))
        connection.close()
        ours, theirs = time.process_time(), cpu(process)
        met, wall = load(port, one, clients, seconds)
        ours, theirs = time.process_time() - ours, cpu(process) - theirs
        processes = max(
            1, len([child for child in process.children() if "spawn_main" in str(child.cmdline())])
        )
    if not met.seconds:
        raise LatentOpsError(f"no request was answered: {met.errors[0]}")
    latencies = 1000 * np.array(met.seconds)
    model_share = min(theirs, model_seconds * len(latencies))
    shares = {"clients": ours, "the model": model_share, "the rest of the server": theirs - model_share}
    lone = f"{clients} clients for {seconds:g} s, one row a request"
    measured = [
        row(f"{BATCH:,} rows in one request", asked, "ms"),
        row(f"{BATCH:,} rows directly", direct, "ms"),
        *(
            Row(f"of the request: {each.name}", each.value, each.unit, None, None, each.values)
            for each in taken_apart
        ),
        row(f"{lone}: errors", [len(met.errors)], "", 0.0),
        row(f"{lone}: throughput", [len(latencies) / wall], "requests/s", better="higher"),
        row(f"{lone}: p50", [float(np.quantile(latencies, 0.5))], "ms"),
        row(f"{lone}: p99", [float(np.quantile(latencies, 0.99))], "ms"),
        row("one row directly", alone, "ms"),
        row("one row directly: p99", [float(np.quantile(alone, 0.99))], "ms"),
        row("rows/s in batches over HTTP", [1000 * BATCH / one for one in asked], "rows/s", better="higher"),
        row("rows/s in batches directly", [1000 * BATCH / one for one in direct], "rows/s", better="higher"),
        *(row(f"CPU time of {who}", [100 * each / (ours + theirs)], "%") for who, each in shares.items()),
    ]
    taken_on |= {"dataset": dataset, "workers": processes}
    atomic.write_json(
        RESULT,
        {"machine": taken_on, "commit": commit, "rows": [asdict(each) for each in measured]},
    )
    print(*table(measured), RESULT, sep="\n")
    if met.errors:
        raise LatentOpsError(f"{len(met.errors)} requests failed, the first with {met.errors[0]}")


if __name__ == "__main__":
    guard(app)
