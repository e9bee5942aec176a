"""What a run of a flow came to: what ran and why, what it cost, and what changed on the leaderboard.

One `Summary` is told twice, as a text for a person and as JSON in `var/runs`. Knows no Prefect.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from latentops import atomic, costs
from latentops.errors import DataError, LatentOpsError
from latentops.reporting import leaderboard, provenance, results
from pipelines.decisions import Decision
from pipelines.graph import Unit

FOLDER = Path("var/runs")
KEPT = 1000  # runs
SCHEMA = 1
"""Goes up where a field changes its meaning or goes; a field more leaves it."""
SHOWN = 10
"""Stages that the text has a line for; the others share one."""

Outcome = Literal["ran", "cached", "failed", "interrupted", "not started"]


@dataclass(frozen=True)
class StageRun:
    """A stage that was stale, or after a stale one: what became of it, why, and what it took, if it ran."""

    stage: str
    outcome: Outcome
    why: str
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Place:
    """A variant on the board, or the champion, with its primary metric; None where it isn't known here."""

    name: str
    value: float | None


@dataclass(frozen=True)
class Standing:
    """The best variant of a dataset (the chosen one, if one was) and its champion, by its primary metric."""

    metric: str | None
    best: Place | None
    champion: Place | None


@dataclass(frozen=True)
class Summary:
    """A run of a flow; `run` and `parent` are Prefect's ids of it and of the flow run that it is part of."""

    flow: str
    name: str
    run: str | None
    parent: str | None
    began: str
    wall_seconds: float
    outcome: Literal["completed", "failed", "interrupted"]
    failures: tuple[str, ...]
    decisions: tuple[str, ...]
    cached: int
    stages: tuple[StageRun, ...]
    before: dict[str, Standing]
    after: dict[str, Standing]

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all stages that ran."""
        return sum(each.cpu_seconds or 0.0 for each in self.stages)

    @property
    def peak_bytes(self) -> int:
        """The most memory that one stage took."""
        return max((each.peak_bytes or 0 for each in self.stages), default=0)

    def count(self, outcome: Outcome) -> int:
        """How many stages came to `outcome`; the cached ones with those that weren't looked at."""
        found = sum(each.outcome == outcome for each in self.stages)
        return found + (self.cached if outcome == "cached" else 0)

    def to_json(self) -> dict[str, Any]:
        """As `var/runs` has it; docs/flows.md describes the fields."""
        told = asdict(self)
        before, after = told.pop("before"), told.pop("after")
        return {
            "schema": SCHEMA,
            **told,
            "cached": self.count("cached"),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_bytes": self.peak_bytes,
            "datasets": {name: {"before": before[name], "after": after[name]} for name in after},
        }

    def __str__(self) -> str:
        """The text, in Markdown that is as plain in a terminal."""
        counts = [f"{self.count(each)} {each}" for each in ("ran", "cached", "failed", "interrupted")]
        counts += [f"{self.count('not started')} not started"]
        said = ", ".join(
            each for each in counts if not each.startswith("0 ") or each.endswith((" ran", " cached"))
        )
        cost = f"{_seconds(self.cpu_seconds)} of CPU, at most {_memory(self.peak_bytes)}"
        parts = [f"**{self.name}** {self.outcome} in {_seconds(self.wall_seconds)}: {said}; {cost}"]
        parts += [_bullets(self.failures), _bullets(self.decisions)]
        parts += [_table(("stage", "why", "wall", "CPU", "memory"), _stage_rows(self.stages))]
        parts += [_table(("dataset", "by", "", "before", "after"), _board_rows(self.before, self.after))]
        return "\n\n".join(filter(None, parts))


@dataclass
class Recorder:
    """Takes down what the flow run called `name` does; `datasets` are those whose board it may change."""

    name: str
    datasets: Sequence[str]
    run: str | None = None
    parent: str | None = None
    cached: int = 0
    failures: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    _stages: dict[str, StageRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The run begins."""
        self._began = datetime.now(UTC)
        self._before = {dataset: standing(dataset) for dataset in self.datasets}

    def plan(self, work: Iterable[Unit], cached: int) -> None:
        """There is this work, and `cached` stages beside it."""
        self.cached = cached
        for unit in work:
            self._set(unit, "not started")

    def start(self, unit: Unit) -> None:
        """`unit` runs from here on."""
        self._set(unit, "interrupted")

    def finish(self, unit: Unit, ran: Collection[str]) -> None:
        """`unit` has ended well; of its stages those of `ran` did run, the others were cached."""
        for stage in unit.stages:
            self._stages[stage] = self._costed(stage, "ran" if stage in ran else "cached", unit.why)

    def fail(self, unit: Unit, complaint: str) -> None:
        """`unit` has failed: at the first of its stages that left no cost."""
        self.failures.append(complaint)
        at: Outcome = "failed"
        for stage in unit.stages:
            found = self._costed(stage, "ran", unit.why)
            if found.wall_seconds is None:
                found, at = replace(found, outcome=at), "not started"
            self._stages[stage] = found

    def decided(self, decision: Decision) -> None:
        """A retraining has decided."""
        (self.failures if decision.decision == "failed" else self.decisions).append(str(decision))

    def end(self, error: BaseException | None = None) -> Summary:
        """The run has ended, by `error` if by one; with what the runs that are part of it have written."""
        failures = [*self.failures]
        if error is not None:
            failures.append(str(error) if isinstance(error, LatentOpsError) else repr(error))
        stages, cached = list(self._stages.values()), self.cached
        for part in _parts(self.run, self._began):
            stages += [StageRun(**each) for each in part["stages"]]
            cached += part["cached"] - sum(each["outcome"] == "cached" for each in part["stages"])
        after = {dataset: standing(dataset) for dataset in self.datasets}
        interrupted = error is not None and not isinstance(error, Exception)
        return Summary(
            flow=self.name.split()[0],
            name=self.name,
            run=self.run,
            parent=self.parent,
            began=self._began.isoformat(timespec="milliseconds"),
            wall_seconds=round((datetime.now(UTC) - self._began).total_seconds(), 3),
            outcome="interrupted" if interrupted else "failed" if failures else "completed",
            failures=tuple(failures),
            decisions=tuple(self.decisions),
            cached=cached,
            stages=tuple(stages),
            before=self._before,
            after={name: _remembered(self._before[name], found) for name, found in after.items()},
        )

    def _set(self, unit: Unit, outcome: Outcome) -> None:
        self._stages |= {stage: StageRun(stage, outcome, unit.why) for stage in unit.stages}

    def _costed(self, stage: str, outcome: Outcome, why: str) -> StageRun:
        """With what `stage` took, if it has run since this run began."""
        cost = costs.last(stage)
        if outcome != "ran" or cost is None or not cost.when:
            return StageRun(stage, outcome, why)
        if datetime.fromisoformat(cost.when) < self._began.replace(microsecond=0):
            return StageRun(stage, outcome, why)
        return StageRun(stage, outcome, why, cost.wall_seconds, cost.cpu_seconds, cost.peak_bytes)


def standing(dataset: str) -> Standing:
    """How `dataset` stands, as far as its results are there.

    The champion's value is known where the present results are of its content.
    """
    try:
        compared = results.comparison(dataset)
    except DataError:
        compared = None
    live = provenance.champion(dataset)
    best = champion = None
    if compared is not None:
        ranked = [
            row for row in leaderboard.ordered(compared.rows, compared.ranked_by) if row.role == "variant"
        ]
        first = compared.row(compared.chosen.variant) if compared.chosen else next(iter(ranked), None)
        best = Place(first.name, first.mean(compared.ranked_by)) if first else None
    if live is not None:
        recorded = provenance.run(dataset, live.variant)
        row = compared.row(live.variant) if compared else None
        same = compared and row and recorded and recorded.content_hash == live.content_hash
        value = row.mean(compared.ranked_by) if compared and row and same else None
        champion = Place(f"version {live.version}, {live.variant}", value)
    return Standing(compared.ranked_by if compared else None, best, champion)


_UNKNOWN = Standing(None, None, None)


def _remembered(before: Standing, after: Standing) -> Standing:
    """`after`, where the same champion keeps the value that it had before."""
    was, now = before.champion, after.champion
    if was and now and was.name == now.name and now.value is None and before.metric == after.metric:
        return replace(after, champion=was)
    return after


def write(summary: Summary) -> Path:
    """Keep `summary` as JSON, under the time at which its run began, and the last `KEPT`; the path."""
    began = datetime.fromisoformat(summary.began)
    path = FOLDER / f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03}Z-{summary.flow}.json"
    atomic.write_json(path, summary.to_json())
    for old in sorted(FOLDER.glob("*.json"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _parts(run: str | None, began: datetime) -> list[dict[str, Any]]:
    """The summaries of the runs that are part of `run`, which began at `began`, in their order."""
    if run is None:
        return []
    earliest = f"{began:%Y%m%dT%H%M%S}"
    paths = sorted(path for path in FOLDER.glob("*.json") if path.name >= earliest)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [each for each in found if each.get("parent") == run]


def _stage_rows(stages: Iterable[StageRun]) -> list[tuple[str, ...]]:
    """A line for each of the first stages (what went wrong, then the dearest), and one for the others."""
    wrong = ("failed", "interrupted")
    told = [each for each in stages if each.outcome in ("ran", *wrong)]
    told.sort(key=lambda each: (each.outcome not in wrong, -(each.wall_seconds or 0.0)))
    alone = SHOWN if len(told) > SHOWN + 1 else len(told)
    rows = [_stage_row(each) for each in told[:alone]]
    if rest := told[alone:]:
        wall, cpu = (
            sum(getattr(each, name) or 0.0 for each in rest) for name in ("wall_seconds", "cpu_seconds")
        )
        peak = max(each.peak_bytes or 0 for each in rest)
        rows.append((f"{len(rest)} more", "", _seconds(wall), _seconds(cpu), _memory(peak)))
    return rows


def _stage_row(one: StageRun) -> tuple[str, ...]:
    name = one.stage if one.outcome == "ran" else f"{one.stage} ({one.outcome})"
    return name, one.why, _seconds(one.wall_seconds), _seconds(one.cpu_seconds), _memory(one.peak_bytes)


def _board_rows(before: dict[str, Standing], after: dict[str, Standing]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for dataset, now in after.items():
        was = before[dataset]
        if was == now == _UNKNOWN:
            continue
        by = results.title(now.metric) if now.metric else "–"
        for what, old, new in (("best", was.best, now.best), ("champion", was.champion, now.champion)):
            rows.append((dataset, by, what, _place(old), "the same" if old == new and old else _place(new)))
    return rows


def _place(one: Place | None) -> str:
    return f"{one.name}: {leaderboard.number(one.value)}" if one else "none"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table whose columns line up in plain text too; empty without rows."""
    if not rows:
        return ""
    cells = [head, *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"


def _memory(value: int | None) -> str:
    return f"{value / 2**20:.0f} MiB" if value else "–"
