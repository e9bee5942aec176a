"""DVC's graph, cut down to what has to run, and the order in which to start it. Knows no Prefect.

A graph maps the name of each stage to the names of those it directly depends on.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from latentops import costs
from latentops.errors import LatentOpsError

Graph = Mapping[str, frozenset[str]]
Status = Mapping[str, list[object]]  # stage → what `dvc status --json` says of it

_GUESS = 3.0  # seconds, for a stage that has never run here
_NEW = ("params.yaml", "new")  # how DVC says that it has no record of the stage
_LONG = ("overcomplete", "sequence", "contractive", "convolutional")  # dear, until it is known how dear


@dataclass(frozen=True)
class Unit:
    """Stages that one DVC call runs in order, and why they run."""

    name: str
    stages: tuple[str, ...]
    upstream: frozenset[str]  # names of units
    why: str
    cost: float = _GUESS  # seconds


def read_graph() -> dict[str, frozenset[str]]:
    """The graph of the project in the current folder, from DVC's own index; frozen stages hang free."""
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph

    with Repo() as repo:
        graph = get_active_graph(repo.index.graph)
        return {
            stage.addressing: frozenset(each.addressing for each in graph.successors(stage))
            for stage in graph
        }


def read_status(say: Callable[[str], object] = print) -> dict[str, list[object]]:
    """What DVC finds stale in the current folder, and why; `LatentOpsError` where DVC can't say.

    Waits while another process of DVC's has locked what it would look at, of which `say` is told.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "status", "--json"]
    for pause in pauses():
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if not result.returncode:
            break
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        if (holders := blocked_by(lines)) is None:
            raise LatentOpsError(f"dvc status: {lines[0].removeprefix('ERROR: ')}")
        say(f"waiting for {holders} to end")
        time.sleep(pause)
    status: dict[str, list[object]] = json.loads(result.stdout)
    return status


def blocked_by(lines: Sequence[str]) -> str | None:
    """The processes whose locks DVC couldn't have, by its output; None where it said no such thing."""
    at = next((at for at, line in enumerate(lines) if _BUSY in line), None)
    if at is None:
        return None
    holders = [line.strip() for line in lines[at + 1 :] if _HOLDER.match(line)]
    return " and ".join(dict.fromkeys(holders)) or "another process of DVC"


_BUSY = "is busy, it is being blocked by:"
_HOLDER = re.compile(r"\s*\(PID \d+\): ")


def pauses() -> Iterator[float]:
    """Seconds to wait before each try to have what another process has locked."""
    return chain((2.0, 4.0, 8.0, 16.0, 32.0), repeat(60.0))


def closure(graph: Graph, targets: Iterable[str]) -> set[str]:
    """`targets` and everything they depend on; all stages where there is no target.

    Raises `LatentOpsError` for a target that is no stage.
    """
    waiting = list(targets)
    if not waiting:
        return set(graph)
    found: set[str] = set()
    while waiting:
        stage = waiting.pop()
        if stage not in graph:
            raise LatentOpsError(f"dvc.yaml has no stage {stage!r}")
        if stage not in found:
            found.add(stage)
            waiting += graph[stage]
    return found


def reasons(graph: Graph, status: Status, selected: Collection[str]) -> dict[str, str]:
    """Each stage of `selected` that may have to run, with why: what changed, or which stage comes before it.

    Upstream first. A stage below a stale one is among them: whether it runs is for DVC to see then.
    """
    found: dict[str, str] = {}
    for stage in order(graph):
        if stage not in selected:
            continue
        before = sorted(graph[stage] & found.keys())
        if stage in status:
            found[stage] = explain(status[stage])
        elif before:
            found[stage] = f"after {before[0]}" + (f" and {len(before) - 1} more" if before[1:] else "")
    return found


def explain(entries: list[object], shown: int = 3) -> str:
    """DVC's reasons as a phrase: `variants.sparse.l1 modified, src/latentops/config/data.py modified`."""
    if any(isinstance(entry, dict) and _NEW in entry.get("changed deps", {}).items() for entry in entries):
        return "never ran before"
    changes: list[str] = []

    def collect(where: str, change: object) -> None:
        if isinstance(change, dict):
            for inner, value in change.items():
                collect(inner, value)
        else:
            changes.append(f"{where} {change}")

    for entry in entries:
        if isinstance(entry, dict):
            for changed in entry.values():
                collect("", changed)
        else:
            changes.append(str(entry))
    more = f" and {len(changes) - shown} more" if len(changes) > shown else ""
    return ", ".join(changes[:shown]) + more


def order(graph: Graph) -> list[str]:
    """Every stage after those it depends on; otherwise as in `graph`."""
    done: dict[str, None] = {}

    def visit(stage: str) -> None:
        if stage not in done:
            for each in sorted(graph[stage]):
                visit(each)
            done[stage] = None

    for stage in graph:
        visit(stage)
    return list(done)


def units(graph: Graph, why: Mapping[str, str]) -> list[Unit]:
    """The stages of `why` as units, upstream first: train and evaluate of a cell share one."""
    together = {stage: _train_of(stage) for stage in why if _train_of(stage) in why}
    unit_of = {stage: together.get(stage, stage) for stage in why}
    members: dict[str, list[str]] = {}
    for stage, unit in unit_of.items():
        members.setdefault(unit, []).append(stage)
    return [
        Unit(
            name,
            tuple(stages),
            frozenset(unit_of[each] for stage in stages for each in graph[stage] if each in why) - {name},
            why[name],
            sum(map(expected_cost, stages)),
        )
        for name, stages in members.items()
    ]


def _train_of(stage: str) -> str:
    verb, _, cell = stage.partition("@")
    return f"train@{cell}" if verb == "evaluate" else ""


def expected_cost(stage: str) -> float:
    """Seconds that `stage` took when it last ran here, or a guess."""
    known = costs.last(stage)
    if known is not None:
        return known.wall_seconds
    return _GUESS * (4 if stage.startswith("train@") and stage.endswith(_LONG) else 1)


def urgency(work: Iterable[Unit]) -> dict[str, float]:
    """Seconds from the start of each unit to the end of the longest chain that hangs on it."""
    work = list(work)
    longest = {unit.name: unit.cost for unit in work}
    for unit in reversed(work):
        for each in unit.upstream:
            cost = next(other.cost for other in work if other.name == each)
            longest[each] = max(longest[each], cost + longest[unit.name])
    return longest


@dataclass
class Schedule:
    """Which unit may start next, the most urgent first.

    At most `workers` run at once, and at most `gpu_slots` of those train. A failed unit takes with it what
    depends on it, and nothing else.
    """

    work: list[Unit]
    workers: int
    gpu_slots: int | None = None  # None: training doesn't use a GPU
    running: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Put the most urgent first."""
        longest = urgency(self.work)
        self._waiting = sorted(self.work, key=lambda unit: -longest[unit.name])

    def start(self) -> list[Unit]:
        """Units to start now; they count as running from here on."""
        started = []
        for unit in list(self._waiting):
            if len(self.running) >= self.workers:
                break
            if unit.upstream <= self.done and self._has_slot(unit):
                self._waiting.remove(unit)
                self.running.add(unit.name)
                started.append(unit)
        return started

    def finish(self, name: str, *, failed: bool = False) -> None:
        """Unit `name` has ended."""
        self.running.remove(name)
        (self.failed if failed else self.done).add(name)
        for unit in self.work if failed else ():  # upstream first, so one pass reaches all that follows
            if unit.upstream & (self.failed | self.skipped):
                self.skipped.add(unit.name)
        self._waiting = [unit for unit in self._waiting if unit.name not in self.skipped]

    def ended(self) -> float:
        """The percentage of units that have ended, or won't start."""
        return 100 * len(self.done | self.failed | self.skipped) / len(self.work)

    def __str__(self) -> str:
        """Such as `7 of 27 done, 2 running, 1 failed, 3 not started for it`."""
        counts = {"running": self.running, "failed": self.failed, "not started for it": self.skipped}
        rest = [f"{len(units)} {word}" for word, units in counts.items() if units]
        return ", ".join([f"{len(self.done)} of {len(self.work)} done", *rest])

    def _has_slot(self, unit: Unit) -> bool:
        if self.gpu_slots is None or not trains(unit.name):
            return True
        return sum(map(trains, self.running)) < self.gpu_slots


def trains(name: str) -> bool:
    """Whether the unit trains, the one thing that wants a GPU."""
    return name.startswith("train@")


def stays(name: str) -> bool:
    """Whether the unit runs where the flow does, whoever runs the others.

    `record` writes to the MLflow store that is known here; `report` reads all results, not only its deps'.
    """
    return name == "report" or name.startswith("record@")


_SEEN = re.compile(r"^(?:Stage '(?P<same>[^']+)' didn't change|Stage '(?P<restored>[^']+)' is cached)")


def had_cached(line: str) -> str | None:
    """The stage of which this line of DVC's output says that it needn't run."""
    match = _SEEN.match(line)
    return (match["same"] or match["restored"]) if match else None


def starts(line: str) -> bool:
    """Whether DVC says in this line of its output that it starts a stage."""
    return line.startswith("Running stage '")


_ENDED = re.compile(r"^ERROR: failed to reproduce .*, exited with (?P<status>-?\d+)$")


def killed(line: str) -> bool:
    """Whether DVC says in this line that a signal other than SIGINT ended the stage.

    It says -N where the command itself was ended by signal N, 128 + N where the shell saw it.
    """
    match = _ENDED.match(line)
    status = int(match["status"]) if match else 0
    by = -status if status < 0 else status - 128
    return 0 < by <= 64 and by != signal.SIGINT


def tags(unit: Unit, *, on_gpu: bool) -> set[str]:
    """What limits of concurrency go by: the verbs of a unit's stages, its dataset and variant, and `gpu`."""
    found = set()
    for stage in unit.stages:
        verb, _, cell = stage.partition("@")
        dataset, _, variant = cell.rpartition("-") if verb in ("train", "evaluate") else (cell, "", "")
        found |= {verb, dataset, variant}
    return found - {""} | ({"gpu"} if on_gpu and trains(unit.name) else set())
