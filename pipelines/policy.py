"""Whether new rows are worth a retraining. Knows no Prefect, no files and no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from latentops.config import Retrain
from latentops.registry.drift import Drift

RETRAINED = ("promoted", "held", "failed")
"""Decisions after which a dataset has been retrained, or tried to be."""


@dataclass(frozen=True)
class Question:
    """One thing that the policy asks: the number found, what it is held to, and whether that is met.

    `value` and `limit` are None where there is nothing to count, or the question isn't asked.
    """

    asked: str
    value: float | None
    limit: float | None
    met: bool


@dataclass(frozen=True)
class Verdict:
    """Whether to retrain, why in one line, and every question with its numbers."""

    retrain: bool
    reason: str
    questions: tuple[Question, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """As the ledger keeps it."""
        return [asdict(each) for each in self.questions]


def decide(
    policy: Retrain,
    clean: int,
    drift: Drift | None,
    live_since: datetime | None,
    last: datetime | None,
    now: datetime,
) -> Verdict:
    """With `clean` new rows, at least one, that show so much `drift` from what the champion knows.

    `live_since` is when the champion became it, None where there is none, and `last` when there was a
    retraining last.
    """
    surest = min((each.corrected for each in drift.findings), default=None) if drift else None
    age = _since(live_since, now, timedelta(days=1))
    rest = _since(last, now, timedelta(hours=1))
    rows = _reached("new rows", clean, policy.min_new_rows)
    drifted = _reached("drift", surest, policy.drift_alpha, falling=True)
    aged = _reached("age, days", age, policy.max_age_days)
    rested = _reached("cooldown, hours", rest, policy.cooldown_hours)
    questions = (rows, drifted, aged, rested)
    why = [
        text
        for question, text in (
            (rows, f"{clean} clean new rows"),
            (drifted, f"drift: {described(drift, policy.drift_alpha or 0)}" if drift else ""),
            (aged, f"the champion is {age:.1f} days old" if age is not None else ""),
        )
        if question.met
    ]
    if not why:
        return Verdict(False, _unmet(clean, surest, age, policy), questions)
    if rest is not None and not rested.met:
        early = f"{rest:.1f} hours after the last retraining"
        waits = f"but only {early}, retrain.cooldown_hours = {policy.cooldown_hours:g}"
        return Verdict(False, f"{'; '.join(why)}; {waits}", questions)
    return Verdict(True, "; ".join(why), questions)


def described(drift: Drift, alpha: float, shown: int = 3) -> str:
    """What moved, the surest first: `codes (classifier, p = 0.0008)`."""
    moved = drift.beyond(alpha)
    texts = [f"{each.of} ({each.test}, p = {each.corrected:.2g})" for each in moved[:shown]]
    more = f" and {len(moved) - shown} more" if len(moved) > shown else ""
    return ", ".join(texts) + more


def last_retrained(past: Sequence[Mapping[str, Any]]) -> datetime | None:
    """When the decisions of `past`, the oldest first, say that there was a retraining last."""
    whens = [entry["when"] for entry in past if entry["decision"] in RETRAINED]
    return datetime.fromisoformat(whens[-1]) if whens else None


def _since(when: datetime | None, now: datetime, unit: timedelta) -> float | None:
    """The time since `when`; None without it, and where it is yet to come because a clock was set back."""
    return None if when is None or when > now else (now - when) / unit


def _unmet(clean: int, surest: float | None, age: float | None, policy: Retrain) -> str:
    """Why there is no reason to retrain, each with its number."""
    parts = []
    if policy.min_new_rows is not None:
        parts.append(f"{clean} clean new rows, fewer than retrain.min_new_rows = {policy.min_new_rows}")
    else:
        parts.append(f"{clean} clean new rows")
    if policy.drift_alpha is not None:
        parts.append("too few to see drift" if surest is None else f"no drift (p = {surest:.2g})")
    if policy.max_age_days is not None and age is not None:
        parts.append(f"the champion is {age:.1f} days old, retrain.max_age_days = {policy.max_age_days:g}")
    return "; ".join(parts)


def _reached(asked: str, value: float | None, limit: float | None, *, falling: bool = False) -> Question:
    """Whether `value` has come to `limit`, from below or, if `falling`, from above; without either never."""
    met = value is not None and limit is not None and (value <= limit if falling else value >= limit)
    return Question(asked, value if value is None or falling else round(value, 3), limit, met)
