"""When retraining is worth it, by the numbers alone."""

from datetime import UTC, datetime, timedelta

import pytest

from latentops.config import Retrain
from latentops.registry.drift import Drift, Finding
from pipelines import policy
from pipelines.policy import decide, last_retrained

NOW = datetime(2026, 6, 8, 3, tzinfo=UTC)
RULES = Retrain(
    cron="0 3 * * *",
    min_new_rows=50,
    drift_alpha=0.01,
    max_age_days=30,
    cooldown_hours=0,
    approval=False,
    approval_hours=1,
    notify=[],
)


def drift(p_value: float) -> Drift:
    return Drift("digits", 20, 200, (Finding("codes", "kernel", 0.1, p_value / 8, p_value),))


def ask(
    clean: int = 10,
    p_value: float | None = 0.4,
    live: float | None = 3,
    last: float | None = None,
    **rules: object,
) -> policy.Verdict:
    return decide(
        RULES.model_copy(update=rules),
        clean,
        None if p_value is None else drift(p_value),
        None if live is None else NOW - timedelta(days=live),
        None if last is None else NOW - timedelta(hours=last),
        NOW,
    )


def test_without_a_reason_nothing_is_retrained_and_every_number_is_said() -> None:
    found = ask()
    assert not found.retrain
    assert found.reason == (
        "10 clean new rows, fewer than retrain.min_new_rows = 50; no drift (p = 0.4); "
        "the champion is 3.0 days old, retrain.max_age_days = 30"
    )
    assert [(each.asked, each.value, each.limit, each.met) for each in found.questions] == [
        ("new rows", 10, 50, False),
        ("drift", 0.4, 0.01, False),
        ("age, days", 3, 30, False),
        ("cooldown, hours", None, 0, False),
    ]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"clean": 50}, "50 clean new rows"),
        ({"p_value": 0.01}, "drift: codes (kernel, p = 0.01)"),
        ({"live": 30}, "the champion is 30.0 days old"),
        ({"clean": 60, "live": 31}, "60 clean new rows; the champion is 31.0 days old"),
    ],
)
def test_each_reason_is_enough(changed: dict[str, float], reason: str) -> None:
    assert ask(**changed) == decide_as(True, reason, ask(**changed))


def decide_as(retrain: bool, reason: str, found: policy.Verdict) -> policy.Verdict:
    return policy.Verdict(retrain, reason, found.questions)


@pytest.mark.parametrize(
    ("knob", "changed"),
    [("min_new_rows", {"clean": 50}), ("drift_alpha", {"p_value": 0.001}), ("max_age_days", {"live": 99})],
)
def test_a_reason_that_is_null_is_none(knob: str, changed: dict[str, float]) -> None:
    assert ask(**changed).retrain
    assert not ask(**changed, **{knob: None}).retrain


def test_within_the_cooldown_there_is_no_reason_that_counts() -> None:
    waits = ask(clean=80, last=5, cooldown_hours=6)
    assert not waits.retrain
    assert waits.reason == (
        "80 clean new rows; but only 5.0 hours after the last retraining, retrain.cooldown_hours = 6"
    )
    assert ask(clean=80, last=6, cooldown_hours=6).retrain
    assert ask(clean=80, last=None, cooldown_hours=6).retrain


def test_a_first_model_has_no_champion_to_drift_from_and_no_age() -> None:
    assert ask(clean=60, p_value=None, live=None).retrain
    assert ask(p_value=None, live=None).reason == (
        "10 clean new rows, fewer than retrain.min_new_rows = 50; too few to see drift"
    )


def test_a_retraining_is_one_that_failed_too() -> None:
    said = [
        {"decision": each, "when": f"2026-06-0{day}T03:00:00+00:00"}
        for day, each in enumerate(("promoted", "waiting", "failed", "rejected", "no new rows"), start=1)
    ]
    assert last_retrained(said) == datetime(2026, 6, 3, 3, tzinfo=UTC)
    assert last_retrained(said[1:2]) is None


def test_a_clock_that_was_set_back_stops_no_retraining() -> None:
    """What has yet to happen says nothing of how long ago it was."""
    assert ask(clean=80, last=-9000, cooldown_hours=6).retrain
    assert not ask(live=-9000).retrain
