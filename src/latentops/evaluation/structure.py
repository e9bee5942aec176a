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


def high_frequency_energy(
    values: NDArray[np.floating], axes: tuple[int, ...], lengths: NDArray[np.integer] | None = None
) -> float:
    """Energy of a sample, on average, at or above half the highest frequency that its grid can hold.

    `values` are `[n, …]`, transformed over `axes`, e.g. (-2, -1) for images and (1,) for the steps of
    sequences; frequencies of several axes are taken by their length (a radial spectrum). A sequence is
    centred over its `lengths` `[n]` valid steps, so that where it ends is no edge.
    """
    signal = np.asarray(values, dtype=np.float64)
    if lengths is not None:
        valid = np.arange(signal.shape[1])[None, :, None] < np.asarray(lengths)[:, None, None]
        centre = (signal * valid).sum(axis=1, keepdims=True) / np.asarray(lengths)[:, None, None]
        signal = (signal - centre) * valid
    power = np.abs(np.fft.fftn(signal, axes=axes)) ** 2
    squares = np.zeros(())
    for axis in axes:
        frequency = np.fft.fftfreq(signal.shape[axis])
        squares = squares + (frequency**2).reshape(-1, *(1,) * (signal.ndim - 1 - axis % signal.ndim))
    high = np.broadcast_to(squares >= 0.25**2, power.shape)
    return float(power[high].sum() / len(signal) / np.prod([signal.shape[axis] for axis in axes]))


def sharpness_kept(
    made: NDArray[np.floating],
    real: NDArray[np.floating],
    axes: tuple[int, ...],
    lengths: NDArray[np.integer] | None = None,
) -> float:
    """High-frequency energy of what was `made` over that of `real` data: below 1 is blurred.

    Reconstructions `[n, …]` of the real rows, or drawn samples, of which there may be another number if they
    have no `lengths`. (A spectrum ratio, as in Durall et al. 2020, §3.)
    """
    energy = high_frequency_energy(real, axes, lengths)
    return high_frequency_energy(made, axes, lengths) / max(energy, 1e-12)
