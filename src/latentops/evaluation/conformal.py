"""Split-conformal p-values: a threshold with a promise.

If a normal sample is exchangeable with the calibration normals, its p-value is at most α with probability at
most α, whatever the score (Vovk et al. 2005; Bates et al. 2023, eq. 3). p-values set thresholds and never
rank: they tie at 1 / (n + 1). One row is held against a threshold at α; of a batch the share of false flags
among all can be kept low instead.
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


def needed(alpha: float) -> int:
    """The fewest calibration normals for which a p-value can be as small as `alpha`."""
    return math.ceil(1 / alpha - 1 - 1e-9)


def threshold(calibration: NDArray[np.floating], alpha: float) -> float:
    """The score above which a sample's p-value is at most `alpha`.

    Raises `LatentOpsError` where the calibration normals `[n]` are too few to promise `alpha`: n ≥ 1/α − 1.
    """
    if len(calibration) < (least := needed(alpha)):
        raise LatentOpsError(
            f"alpha {alpha} needs at least {least} calibration normals, there are {len(calibration)}: "
            "raise the split's calibration share or evaluation.anomaly.alpha"
        )
    exceeding = math.floor(alpha * (len(calibration) + 1) + 1e-9) - 1
    return float(np.sort(calibration)[len(calibration) - 1 - exceeding])


def discoveries(p: NDArray[np.floating], rate: float) -> NDArray[np.bool_]:
    """Which rows of a batch to flag, so that on average at most the share `rate` of them are false.

    Benjamini & Hochberg 1995 on the batch's p-values `[k]`: of the ordered ones the last that is at most
    ``rate · place / k``, and all before it. Conformal p-values that share their calibration are positively
    dependent, which keeps the promise (Bates et al. 2023, theorem 2); it is of `rate` times the share of
    normals in the batch. A small batch of few anomalies needs more calibration normals than one decision at
    `rate` does: no p-value is below 1 / (n + 1).
    """
    order = np.argsort(p, kind="stable")
    limits = rate * np.arange(1, len(p) + 1) / max(1, len(p))
    below = np.flatnonzero(np.asarray(p)[order] <= limits * (1 + 1e-12))
    flagged = np.zeros(len(p), dtype=bool)
    flagged[order[: below[-1] + 1 if len(below) else 0]] = True
    return flagged
