"""`retrain:`, when the retraining flow trains, and what it does with the outcome."""

from typing import Annotated

from pydantic import Field

from latentops.config.settings import Count, Positive, Settings, Share


class Retrain(Settings):
    """Policy of the retraining flow.

    With new rows any of `min_new_rows`, `drift_alpha` and `max_age_days` is reason enough to retrain; one
    that is null never is. Within `cooldown_hours` of the last retraining there is none. `approval` leaves the
    last word to a person, whom a scheduled run waits `approval_hours` for. `notify` names Prefect's
    notification blocks, as `type/name`.
    """

    cron: Annotated[str, Field(pattern=r"^\s*(\S+\s+){4}\S+\s*$")]
    min_new_rows: Count | None
    drift_alpha: Share | None
    max_age_days: Positive | None
    cooldown_hours: Annotated[float, Field(ge=0)]
    approval: bool
    approval_hours: Positive
    notify: list[Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]]
