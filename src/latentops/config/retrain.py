"""`retrain:`, when the retraining flow trains."""

from typing import Annotated

from pydantic import Field

from latentops.config.settings import Count, Settings


class Retrain(Settings):
    """Policy of the retraining flow."""

    min_new_rows: Count
    cron: Annotated[str, Field(pattern=r"^\s*(\S+\s+){4}\S+\s*$")]
