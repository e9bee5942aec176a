"""Split-conformal p-values: a threshold with a promise.

If a normal sample is exchangeable with the calibration normals, its p-value is at most α with probability at
most α, whatever the score (Vovk et al. 2005; Bates et al. 2023, eq. 3). p-values set thresholds and never
rank: they tie at 1 / (n + 1).
"""

import math

import numpy as np
from numpy.typing import NDArray

from latentops.errors import LatentOpsError


def p_values(calibration: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """``(1 + #{calibration ≥ score}) / (n + 1)`` for calibration scores `[n]` and each of `scores` `[k]`."""
    ordered = np.sort(calibration)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")
    result: NDArray[np.float64] = (1 + at_least) / (len(ordered) + 1)
    return result


def threshold(calibration: NDArray[np.floating], alpha: float) -> float:
    """The score above which a sample's p-value is at most `alpha`.

    Raises `LatentOpsError` where the calibration normals `[n]` are too few to promise `alpha`: n ≥ 1/α − 1.
    """
    needed = math.ceil(1 / alpha - 1 - 1e-9)
    if len(calibration) < needed:
        raise LatentOpsError(
            f"alpha {alpha} needs at least {needed} calibration normals, there are {len(calibration)}: "
            "raise the split's calibration share or evaluation.anomaly.alpha"
        )
    exceeding = math.floor(alpha * (len(calibration) + 1) + 1e-9) - 1
    return float(np.sort(calibration)[len(calibration) - 1 - exceeding])
