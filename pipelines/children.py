"""The child processes of a flow run: none outlives its time limit, or the flow. Knows no Prefect.

Each is the head of a process group of its own, so that what it has started ends with it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from latentops.errors import LatentOpsError

GRACE = 10.0
"""Seconds that a process which is asked to end has for it."""


class TimeLimitError(LatentOpsError):
    """A child took longer than it may, and was ended."""


class Children:
    """Runs commands, and ends those that still run on leaving the context; after that it starts no more."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self.stopped = False

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs."""
        with self._lock:
            self.stopped = True
        end(self._running.copy())

    def run(
        self,
        command: Sequence[str],
        say: Callable[[str], object],
        environment: Mapping[str, str] | None = None,
        seconds: float | None = None,
        renews: Callable[[str], bool] = lambda line: False,
        at: Path | None = None,
    ) -> int:
        """Run `command` in the folder `at`, telling each line of its output as it comes.

        The exit status, -N for signal N. It may take `seconds`, anew from each line that `renews`;
        `TimeLimitError` where it took longer. May be called from several threads at once.
        """
        with self._lock:
            if self.stopped:
                return -signal.SIGINT
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                cwd=at,
                start_new_session=True,
            )
            self._running.add(process)
        limit = _Limit(process, seconds)
        try:
            for line in process.stdout or ():
                if renews(line):
                    limit.renew()
                say(line.rstrip("\n"))
            process.wait()
        finally:
            limit.stop()
            end({process})
            if process.stdout:
                process.stdout.close()
            with self._lock:
                self._running.discard(process)
        if limit.reached:
            raise TimeLimitError("it took longer than it may, and was ended with all that it had started")
        return process.returncode


class _Limit:
    """Ends a process once `seconds` have passed since `renew`; never where they are None."""

    def __init__(self, process: subprocess.Popen[str], seconds: float | None) -> None:
        self._process, self._seconds = process, seconds
        self._timer: Timer | None = None
        self.reached = False
        self.renew()

    def renew(self) -> None:
        self.stop()
        if self._seconds is not None:
            self._timer = Timer(self._seconds, self._reach)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _reach(self) -> None:
        if self._process.poll() is None:
            self.reached = True
            end({self._process})


def end(processes: Collection[subprocess.Popen[str]]) -> None:
    """End `processes`, heads of their groups, with all they have started; what stays after `GRACE` is killed.

    They are asked by SIGINT, which Python programs clean up on.
    """
    running = [process for process in processes if process.poll() is None]
    descendants: list[psutil.Process] = []
    for process in running:
        with suppress(psutil.NoSuchProcess):
            descendants += psutil.Process(process.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + GRACE
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    _, left = psutil.wait_procs(descendants, timeout=max(0.0, deadline - time.monotonic()))
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def dvc(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs DVC with `arguments`, and its environment.

    Nothing of Prefect's is handed down: a child with an ephemeral server's settings would start its own.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return [sys.executable, "-m", "dvc", *arguments], environment
