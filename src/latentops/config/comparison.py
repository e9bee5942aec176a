"""`comparison:` and `gates:`, how the judged are held against each other."""

from typing import Annotated

from pydantic import Field

from latentops.config.settings import Count, Fraction, Seed, Settings


class Comparison(Settings):
    """Intervals and paired tests."""

    resamples: Count
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    seed: Seed


class Gates(Settings):
    """Limits that a challenger passes before it may become champion."""

    retention: Fraction
    margin: Annotated[float, Field(ge=0)]
