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
    """Limits that a challenger passes before it may become champion.

    `retention`: share of the best reference's primary metric that it keeps;
    `margin`: how far below the champion's that metric may be, on the same test rows;
    `parity`: how far package and pipeline may differ, over the largest code or score;
    `latency`: seconds that it may take to score one row;
    `size`: megabytes that its files may have.
    """

    retention: Fraction
    margin: Annotated[float, Field(ge=0)]
    parity: Annotated[float, Field(gt=0)]
    latency: Annotated[float, Field(gt=0)]
    size: Annotated[float, Field(gt=0)]
