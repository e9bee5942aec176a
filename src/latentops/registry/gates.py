"""What a version has to pass before it may be champion.

The comparison's gates say whether the code is any good; they are read from its result. Those here are of the
version itself: how it does against the champion on the same test rows, whether its package answers as the
pipeline does, keeps its promise of few false alarms, is small and fast enough, and of valid data.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from latentops.config import Comparison, Gates
from latentops.data.prepared import Samples
from latentops.errors import LatentOpsError, RegistryError
from latentops.evaluation.comparison import TITLES, Row, difference
from latentops.evaluation.judge import Field
from latentops.registry.package import Package, combined_score
from latentops.registry.rejudged import rejudged, seen_by
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

PARITY_ROWS = 64
TIMED, WARM = 21, 3
IMPLAUSIBLE = 1e-3
"""The odds of so many false alarms below which a promise counts as broken."""


@dataclass(frozen=True)
class Gate:
    """One condition of promotion: what was measured, what it was held to, and the verdict."""

    gate: str
    value: float | None
    limit: float | None
    passed: bool
    text: str


Card = Callable[[str, Sequence[Gate]], str]
"""Writes a version's description, from what it is loaded as and what its gates say."""


def of_comparison(compared: Mapping[str, Any]) -> list[Gate]:
    """The gates that the comparison held the variant to."""
    found = [
        Gate(str(g["gate"]), g.get("value"), g.get("limit"), bool(g["passed"]), str(g.get("text", "")))
        for g in compared["gates"]
    ]
    if not compared["passed"] and all(gate.passed for gate in found):
        found.append(Gate("comparison", None, None, False, "the comparison as a whole did not pass"))
    return found


def against_champion(
    row: Row,
    field: Field,
    package: Package,
    champion: Callable[[], Package] | None,
    name: str,
    primary: str,
    gates: Gates,
    settings: Comparison,
) -> Gate:
    """The lead of `row`, the `package`'s figures, over the `champion` called `name` on the same test rows.

    It holds where that is below `-gates.margin`, or the paired interval shows it below zero. A champion that
    can't be opened, nor judged on these rows, or by this metric, holds nothing back.
    """
    if champion is None:
        return Gate("champion", None, None, True, "there is no champion to compare with")
    try:
        live = champion()
        theirs = rejudged(live, seen_by(live, field, package))
    except LatentOpsError as error:
        return Gate("champion", None, None, True, f"{name} can't be judged on these rows: {error}")
    if primary not in theirs.values:
        return Gate("champion", None, None, True, f"{name} has no {TITLES[primary]} on these rows")
    targets = field.targets("test") if field.targeted else None
    found = difference(row, theirs, primary, field.labels("test"), field.classes, settings, targets)
    lead, low, high = found["difference"], found["low"], found["high"]
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return Gate(
        "champion",
        lead,
        -gates.margin,
        lead >= -gates.margin and high >= 0,
        f"{TITLES[primary]} {lead:+.4f} [{low:+.4f}, {high:+.4f}] against {name} on the same test rows: "
        f"{verdict}; {gates.margin:g} less is allowed, shown to be worse is not",
    )


def of_package(
    folder: Path, trained: Trained, rows: Samples, flagged: Mapping[str, NDArray[Any]], gates: Gates
) -> list[Gate]:
    """Parity, false alarms, latency and size of the model that MLflow keeps in `folder`.

    `trained` is the variant as the pipeline has it, `rows` are prepared, and `flagged` says of each normal
    view which of its normal test rows `[n]` the promised threshold took for anomalies, NaN for other rows.
    """
    package = Package.open(folder / "artifacts" / "package")
    some = rows.select(slice(0, PARITY_ROWS))
    found = [parity(folder, package, trained, some, gates.parity)]
    if promised := [
        view for view, reference in package.references.items() if reference.threshold is not None
    ]:
        alarms = {view: flagged[view] for view in promised if view in flagged}
        sizes = {view: len(package.references[view].calibration) for view in alarms}
        if alarms:
            kept = false_alarms(alarms, sizes, package.facts.alpha)
            limits = {view: package.references[view].threshold for view in promised}
            told = ", ".join(f"{limit:.4g} ({view})" for view, limit in limits.items())
            found.append(replace(kept, text=f"{kept.text}; flagged is a score above {told}"))
    return [*found, latency(package, some, gates.latency), size(folder, gates.size)]


def parity(folder: Path, package: Package, trained: Trained, rows: Samples, limit: float) -> Gate:
    """The largest deviation of codes and scores, pipeline from package and from MLflow's way to call it.

    It is relative to the largest code or score. The pipeline has the prepared rows, the others raw ones.
    """
    member = trained.select(seed=package.facts.seed)
    raw = package.raw(rows)
    served = mlflow.pyfunc.load_model(str(folder))
    frame = package.frame(raw)

    def answers(task: str) -> NDArray[np.float64]:
        return np.asarray(served.predict(frame, params={"task": task}).iloc[:, :].to_numpy(dtype=np.float64))

    codes = member.select(view=VIEW_ALL).encode(rows)[0]
    deviations = {
        "codes by the package": deviation(codes, package.encode(raw)),
        "codes by MLflow": deviation(codes, answers("encode")),
    }
    if package.references:
        scores = {
            view: combined_score(reference.scorer, member.select(view=view), rows)
            for view, reference in package.references.items()
        }
        least = np.min(list(scores.values()), axis=0)
        deviations["scores by the package"] = deviation(least, package.score(raw)["score"].to_numpy())
        served_scores = served.predict(frame, params={"task": "score"})["score"].to_numpy(dtype=np.float64)
        deviations["scores by MLflow"] = deviation(least, served_scores)
    worst = max(deviations, key=lambda name: deviations[name])
    text = f"{worst} are off by {deviations[worst]:.1e}, {limit:g} is allowed; {len(rows)} rows"
    return Gate("parity", deviations[worst], limit, deviations[worst] <= limit, text)


def deviation(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """The largest difference over the largest expected value; of what isn't a number infinite."""
    largest = float(np.abs(expected).max(initial=0))
    furthest = float(np.abs(np.asarray(expected, np.float64) - found).max(initial=0))
    if not np.isfinite(furthest):
        return float("inf")
    return furthest / largest if largest else furthest


def false_alarms(flagged: Mapping[str, NDArray[Any]], calibration: Mapping[str, int], alpha: float) -> Gate:
    """The odds of as many false alarms on the test normals as there were, if the promise of `alpha` is kept.

    Of n normals a threshold from m calibration rows flags a beta-binomial number (Vovk 2012, "Conditional
    validity of inductive conformal predictors", §3). Of several views the least odds, times their number.
    """
    odds, count, rows = [], 0, 0
    for view, each in flagged.items():
        normal = each[np.isfinite(each)]
        above = int(np.floor(alpha * (calibration[view] + 1) + 1e-9))
        told = betabinom(len(normal), above, calibration[view] + 1 - above)
        odds.append(float(told.sf(normal.sum() - 1)))
        count, rows = count + int(normal.sum()), rows + len(normal)
    value = min(1.0, min(odds) * len(odds))
    text = (
        f"{count} of {rows} normal test rows flagged where {alpha:.0%} were promised; "
        f"odds {value:.2g} of as many"
    )
    return Gate("false alarms", value, IMPLAUSIBLE, value >= IMPLAUSIBLE, text)


def latency(package: Package, rows: Samples, limit: float) -> Gate:
    """The median of the seconds that the package takes to score one row, or to encode it if it can't."""
    one = package.raw(rows.select(slice(0, 1)))
    task: Callable[..., object] = package.score if package.references else package.encode
    taken = []
    for _ in range(WARM + TIMED):
        start = time.perf_counter()
        task(one)
        taken.append(time.perf_counter() - start)
    median = float(np.median(taken[WARM:]))
    text = f"{median * 1000:.1f} ms to {task.__name__} one row, {limit * 1000:g} ms are allowed"
    return Gate("latency", median, limit, median <= limit, text)


def size(folder: Path, limit: float) -> Gate:
    """The megabytes of all files in `folder`."""
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    text = f"{megabytes:.1f} MB, {limit:g} MB are allowed"
    return Gate("size", megabytes, limit, megabytes <= limit, text)


def of_data(path: Path) -> Gate:
    """The expectations of a whole table that its validation found unmet: none may be."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegistryError(f"{path}: not found; run `dvc repro`, or `dvc pull` to fetch it") from None
    unmet = [
        each["means"] for each in told["expectations"] if each["level"] == "table" and not each["success"]
    ]
    clean = f"{told['clean']:,} of {told['rows']:,} rows are clean"
    text = f"unmet: {'; '.join(unmet)}" if unmet else f"every expectation of the table is met; {clean}"
    return Gate("data", float(len(unmet)), 0.0, not unmet, text)


def plain(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """As the ledger has them."""
    return [gate.__dict__ | {} for gate in gates]


def table(gates: Sequence[Gate]) -> dict[str, Any]:
    """As MLflow shows tables: columns, and a row each, its numbers of four digits."""
    columns = ["gate", "verdict", "value", "limit", "text"]
    rows = [[gate.gate, verdict(gate), _short(gate.value), _short(gate.limit), gate.text] for gate in gates]
    return {"columns": columns, "data": rows}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def verdict(gate: Gate) -> str:
    """In a word."""
    return "passed" if gate.passed else "held"
