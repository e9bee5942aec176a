"""Structural similarity of images: luminance, contrast and structure, window by window."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE, DEVIATION = 11, 1.5
"""Of the Gaussian window in pixels, as in the paper."""

LUMINANCE, CONTRAST = 0.01, 0.03
"""The paper's K₁ and K₂: shares of the peak that steady the ratios where an image is dark or flat."""


def structural_similarity(
    made: NDArray[np.floating], real: NDArray[np.floating], peak: float
) -> NDArray[np.floating]:
    """Mean SSIM `[n]` of images `[n, channels, height, width]` whose values span `peak`; 1 where they agree.

    ``(2 μ_x μ_y + C₁)(2 σ_xy + C₂) / ((μ_x² + μ_y² + C₁)(σ_x² + σ_y² + C₂))`` (Wang et al. 2004, eq. 13), its
    mean over the channels and the windows that lie within the image. A window is `SIDE` pixels wide, or along
    a shorter axis the largest odd number that fits, and its deviation shrinks with it.
    """
    luminance, contrast = (LUMINANCE * peak) ** 2, (CONTRAST * peak) ** 2
    windows = [_windows(size) for size in made.shape[-2:]]
    x, y = (_local(each, windows) for each in (made, real))
    xx, yy, xy = (_local(each, windows) for each in (made * made, real * real, made * real))
    means, deviations = x * x + y * y, (xx - x * x) + (yy - y * y)
    alike = (2 * x * y + luminance) * (2 * (xy - x * y) + contrast)
    similarity: NDArray[np.floating] = alike / ((means + luminance) * (deviations + contrast))
    return similarity.reshape(len(similarity), -1).mean(axis=1)


def _windows(size: int) -> NDArray[np.float32]:
    """The window at each of its positions along an axis of `size` pixels: `[size, positions]`."""
    side = min(SIDE, size - (size + 1) % 2)
    place = np.arange(side) - side // 2
    weights = np.exp(-0.5 * (place * SIDE / (side * DEVIATION)) ** 2)
    at = np.arange(size - side + 1)
    windows = np.zeros((size, len(at)), dtype=np.float32)
    for offset, weight in enumerate(weights / weights.sum()):
        windows[at + offset, at] = weight
    return windows


def _local(images: NDArray[Any], windows: Sequence[NDArray[np.float32]]) -> NDArray[Any]:
    """Weighted mean of each window."""
    high, wide = windows
    return np.asarray(high.T @ (images @ wide))
