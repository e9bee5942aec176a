"""What each likelihood puts first: fine detail, or the values that are far off.

Not a warning of its own but a choice; `without` is the learned Gaussian, `remedied` another.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Better
from benchmarks.remedies.study import Finding, samples, trained
from latentops.training.trained import Trained

LOSSES: dict[str, object] = {
    "gaussian, variance 1/2 (MSE)": {"name": "gaussian", "variance": 0.5},
    "huber": "huber",
    "huber, threshold 0.5": {"name": "huber", "threshold": 0.5},
    "bernoulli": "bernoulli",
}


@cache
def model(loss: str) -> Trained:
    """A plain autoencoder of digits."""
    return trained("undercomplete", likelihood=LOSSES.get(loss, "gaussian"))


@cache
def residuals(loss: str) -> NDArray[np.float64]:
    """Reconstruction less data `[seeds, rows, 8, 8]` on the stop rows."""
    stop = samples("digits", "stop")
    made: NDArray[np.float64] = model(loss).reconstruct(stop)[:, :, 0].astype(np.float64)
    return made - stop.values[:, 0]


def spectrum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power of each spatial frequency `[..., 8, 8]`."""
    power: NDArray[np.float64] = np.abs(np.fft.fft2(values, norm="ortho")) ** 2
    return power


def high() -> NDArray[np.bool_]:
    """Which frequencies are high: half of the greatest one or above, in either direction."""
    size = np.abs(np.fft.fftfreq(8))
    return np.maximum.outer(size, size) >= 0.25


def numbers(loss: str) -> dict[str, tuple[list[float], Better]]:
    """What is compared, one number a seed."""
    off, stop = residuals(loss), samples("digits", "stop").values[:, 0].astype(np.float64)
    mean = stop - stop.mean(0)
    fine, coarse = high(), ~high()
    size = np.abs(off)
    large = np.quantile(size, 0.99, axis=(1, 2, 3))
    edges = (stop == 0) | (stop == 1)
    return {
        "error at high frequencies over the data's power there": (
            (spectrum(off)[..., fine].sum((1, 2)) / spectrum(mean)[..., fine].sum()).tolist(), "lower",
        ),
        "error at low frequencies over the data's power there": (
            (spectrum(off)[..., coarse].sum((1, 2)) / spectrum(mean)[..., coarse].sum()).tolist(), "lower",
        ),
        "mean squared error": ((size**2).mean((1, 2, 3)).tolist(), "lower"),
        "median absolute residual": (np.median(size, axis=(1, 2, 3)).tolist(), "lower"),
        "99th percentile of absolute residuals": (large.tolist(), "lower"),
        "mean absolute residual where the data is 0 or 1": (size[:, edges].mean(1).tolist(), "lower"),
    }  # fmt: skip


def findings() -> Iterator[Finding]:
    """Each loss against the learned Gaussian, on digits."""
    plain = numbers("gaussian")
    for loss in LOSSES:
        for name, (values, better) in numbers(loss).items():
            yield Finding(f"what {loss} puts first", name, loss, plain[name][0], values, better)
