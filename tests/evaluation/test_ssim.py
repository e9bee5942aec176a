"""Structural similarity is what its formula gives, window by window."""

import numpy as np
import pytest

from latentops.evaluation.ssim import structural_similarity

RANDOM = np.random.default_rng(0)


def images(*shape: int) -> np.ndarray:
    return RANDOM.random(shape).astype(np.float32)


def by_hand(made: np.ndarray, real: np.ndarray, side: int, deviation: float, peak: float) -> float:
    """Wang et al. 2004, equations 13 to 17, of one plane."""
    place = np.arange(side) - side // 2
    weights = np.exp(-(place[:, None] ** 2 + place**2) / (2 * deviation**2))
    weights /= weights.sum()
    first, second = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    found = []
    for row in range(made.shape[0] - side + 1):
        for column in range(made.shape[1] - side + 1):
            x, y = (plane[row : row + side, column : column + side].astype(float) for plane in (made, real))
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            both = (weights * (x - mx) * (y - my)).sum()
            found.append(
                (2 * mx * my + first) * (2 * both + second) / ((mx**2 + my**2 + first) * (vx + vy + second))
            )
    return float(np.mean(found))


@pytest.mark.parametrize(("size", "side", "deviation"), [(8, 7, 7 * 1.5 / 11), (28, 11, 1.5), (11, 11, 1.5)])
def test_it_is_the_formula_s_mean_over_channels_and_windows_that_fit(
    size: int, side: int, deviation: float
) -> None:
    made, real = images(3, 2, size, size), images(3, 2, size, size)
    for peak in (1.0, 255.0):
        expected = [
            np.mean([by_hand(peak * a, peak * b, side, deviation, peak) for a, b in zip(x, y, strict=True)])
            for x, y in zip(made, real, strict=True)
        ]
        found = structural_similarity(peak * made, peak * real, peak)
        assert found == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (6, 5), (1, 12), (3, 40)])
def test_an_image_is_as_similar_to_itself_as_can_be_and_to_another_less(shape: tuple[int, int]) -> None:
    real = images(4, 1, *shape)
    assert structural_similarity(real, real, 1.0).tolist() == [1.0] * 4
    other = images(4, 1, *shape)
    found = structural_similarity(other, real, 1.0)
    assert (found < 1).all()
    assert found == pytest.approx(structural_similarity(real, other, 1.0), rel=1e-5)


def test_of_constant_images_the_luminance_alone_tells() -> None:
    one, other = np.full((1, 1, 8, 8), 0.5, np.float32), np.full((1, 1, 8, 8), 0.25, np.float32)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert structural_similarity(one, other, 1.0)[0] == pytest.approx(expected, rel=1e-4)


def test_more_noise_is_less_similar_and_a_negative_is_the_opposite() -> None:
    real = images(20, 1, 16, 16)
    levels = [
        structural_similarity(real + level * images(20, 1, 16, 16), real, 1.0).mean()
        for level in (0.1, 0.4, 1)
    ]
    assert 1 > levels[0] > levels[1] > levels[2] > 0
    assert structural_similarity(1 - real, real, 1.0).mean() < 0
