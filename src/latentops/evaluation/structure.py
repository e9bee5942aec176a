"""Health of a code, whatever made it."""

import numpy as np
from numpy.typing import NDArray


def effective_rank(codes: NDArray[np.floating]) -> float:
    """Exponential of the entropy of the covariance's normalised singular values (Roy & Vetterli 2007, eq. 2).

    For codes `[n, d]`: between 1 and d; 0 where the code is constant.
    """
    centred = np.asarray(codes, dtype=np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    total = values.sum()
    if total <= 1e-12:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
