"""The child processes of a flow run: none outlives its time limit, or the flow. Knows no Prefect.

Each is the head of a process group of its own, so that what it has started ends with it. A guard, a process
that does nothing else, ends them where the flow can't do so any more.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Timer
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from latentops.errors import LatentOpsError

GRACE = 10.0
"""Seconds that a process which is asked to end has for it."""

LOOK_EVERY = 0.05
"""Seconds between two looks whether it has."""


class TimeLimitError(LatentOpsError):
    """A child took longer than it may, and was ended."""


class Children:
    """Runs commands, and ends those that still run on leaving the context; after that it starts no more.

    Where this process is killed, and so never leaves it, they are ended all the same.
    """

    def __init__(self) -> None:
        self._running: set[psutil.Process] = set()
        self._lock = Lock()
        self._left = Event()

    @property
    def stopped(self) -> bool:
        """Whether the context was left."""
        return self._left.is_set()

    def ended_within(self, seconds: float) -> bool:
        """Wait so long, or until the context is left; whether it was."""
        return self._left.wait(seconds)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs."""
        with self._lock:
            self._left.set()
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
            _GUARD.start()
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
            head = psutil.Process(process.pid)
            self._running.add(head)
            _GUARD.watch(head)
        limit = _Limit(head, seconds)
        try:
            for line in process.stdout or ():
                if renews(line):
                    limit.renew()
                say(line.rstrip("\n"))
            process.wait()
        finally:
            limit.stop()
            end({head})
            process.wait()
            if process.stdout:
                process.stdout.close()
            with self._lock:
                self._running.discard(head)
            _GUARD.forget(head)
        if limit.reached:
            raise TimeLimitError("it took longer than it may, and was ended with all that it had started")
        return process.returncode


class _Guard:
    """A process that waits for the end of this one, and then ends what it watches.

    That is also what this one had started by itself before, such as Prefect's temporary server.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Be there before there is anything to watch, so that no moment is left between the two."""
        with self._lock:
            if self._process is None:
                before = psutil.Process().children()
                # Nobody else has the other end of its standard input, which so ends with us however we end.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", __file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,
                )
                self._tell(*(f"+{each.pid}" for each in before))

    def watch(self, process: psutil.Process) -> None:
        with self._lock:
            self._tell(f"+{process.pid}")

    def forget(self, process: psutil.Process) -> None:
        with self._lock:
            self._tell(f"-{process.pid}")

    def _tell(self, *lines: str) -> None:
        with suppress(BrokenPipeError):  # without a guard the rest still goes its way
            if lines and self._process:
                print(*lines, sep="\n", file=self._process.stdin, flush=True)


_GUARD = _Guard()


class _Limit:
    """Ends a process once `seconds` have passed since `renew`; never where they are None."""

    def __init__(self, process: psutil.Process, seconds: float | None) -> None:
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
        if not _over(self._process):
            self.reached = True
            end({self._process})


def end(processes: Collection[psutil.Process]) -> None:
    """End `processes`, heads of their groups, with all they have started; what stays after `GRACE` is killed.

    They are asked by SIGINT, which Python programs clean up on.
    """
    family = [process for process in processes if not _over(process)]
    for process in family.copy():
        with suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
        _send(process, signal.SIGINT)
    deadline = time.monotonic() + GRACE
    while (family := [each for each in family if not _over(each)]) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    for process in family:
        _send(process, signal.SIGKILL)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    """Signal a process, and its group where it is the head of one."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _over(process: psutil.Process) -> bool:
    """Whether it has ended; whoever started it may not have looked yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def dvc(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs DVC with `arguments`, and its environment.

    Nothing of Prefect's is handed down: a child with an ephemeral server's settings would start its own.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return [sys.executable, "-m", "dvc", *arguments], environment


def guard(told: Iterable[str]) -> None:
    """Keep the process ids of `+ID`, drop those of `-ID`; where there are no more lines, end what is kept."""
    watched: dict[int, psutil.Process] = {}
    for line in told:
        pid = int(line[1:])
        if line.startswith("-"):
            watched.pop(pid, None)
        else:
            with suppress(psutil.NoSuchProcess):
                watched[pid] = psutil.Process(pid)
    end(watched.values())


if __name__ == "__main__":
    guard(sys.stdin)
