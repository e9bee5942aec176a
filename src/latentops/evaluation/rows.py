"""Which rows a number is taken on, where all of them would cost more than they tell."""

import numpy as np
from numpy.typing import NDArray

ROWS = 4096
"""Rows that are looked at, at most: evenly spaced ones."""

ROWS_OF_TOKENS = 512
"""Likewise, where each step of a row has logits of a whole vocabulary."""


def evenly(rows: int, most: int = ROWS) -> NDArray[np.int64]:
    """Positions of all rows, or of `most` evenly spaced ones."""
    return np.arange(rows) if rows <= most else np.arange(most) * rows // most
