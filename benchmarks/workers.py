"""Processes that a benchmark talks to, and the environment that its peers are installed into."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.figures import ROOT
from latentops import atomic
from latentops.errors import LatentOpsError

PINS = ROOT / "benchmarks/peers.txt"
LOGS = ROOT / "var/bench"
PEERS = LOGS / "peers"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Worker:
    """A process that answers a line of JSON with a line of JSON, until it is closed."""

    def __init__(self, name: str, command: Sequence[str], threads: int, log: Path) -> None:
        """Start `command`, whose libraries may use `threads`; what it says on stderr goes to `log`."""
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | dict.fromkeys(THREADS, str(threads))
        path = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(path), "TQDM_DISABLE": "1"}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )

    def ask(self, command: Mapping[str, object]) -> dict[str, Any]:
        """The answer to `command`; `LatentOpsError` where it is an error, or the process has ended."""
        stdin, stdout = self._pipes()
        try:
            stdin.write(json.dumps(command) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise LatentOpsError(f"{self.name}: ended with status {self.process.wait()}; see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LatentOpsError(f"{self.name}: {answer['error']}; see {self.log}")
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()
        for pipe in self._pipes():
            with suppress(BrokenPipeError):  # what the process never read
                pipe.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout


def pinned() -> dict[str, str]:
    """The version of each package in `peers.txt`."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return {name: release for name, mark, release in (line.partition("==") for line in lines) if mark}


def versions(python: Path, *packages: str) -> dict[str, str]:
    """The versions of `packages` that `python` has."""
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    command = [str(python), "-c", code, *packages]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(packages, said.split(), strict=True))


def peers_python(torch_index: str = "", ready: Path | None = None) -> Path:
    """The Python of the peers' environment, which is made where it isn't what `peers.txt` says.

    Where a Python that has them is `ready`, nothing is made. `torch_index` is one more package index to take
    torch from. Raises `LatentOpsError` that names the log where something can't be installed.
    """
    if ready is not None:
        return ready
    python = PEERS / "bin/python"
    stamp = PEERS / "installed.txt"
    wanted = PINS.read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing the peers into {PEERS}", flush=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    index = ["--extra-index-url", torch_index] if torch_index else []
    log = LOGS / "peers.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(PEERS)],
            [*pip, *index, "--constraint", str(PINS), f"torch=={pinned()['torch']}"],
            [*pip, "--requirement", str(PINS)],
        ):
            if subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode:
                raise LatentOpsError(f"the peers can't be installed into {PEERS}; see {log}")
    atomic.write_text(stamp, wanted)
    return python
