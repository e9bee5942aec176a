"""Health of a code, on codes whose health is known."""

import numpy as np
import pytest

from latentops.errors import DataError
from latentops.evaluation.structure import (
    active_share,
    best_unit_auroc,
    checkerboard,
    checkerboard_energy,
    effective_rank,
    intrinsic_dimension,
    sparseness,
    with_irrelevant,
)
from tests.toy import draw

LABELS = np.arange(90) % 3
GRID = np.arange(8.0)
BOARD = (-1.0) ** np.indices((8, 8)).sum(axis=0)


def test_a_unit_a_class_is_perfectly_interpretable() -> None:
    best, units = best_unit_auroc(np.eye(3)[LABELS][:, [2, 0, 1]], LABELS)
    assert best.tolist() == [1, 1, 1]
    assert units.tolist() == [1, 2, 0]


def test_a_unit_that_turns_off_for_a_class_tells_it_as_well() -> None:
    best, units = best_unit_auroc(-np.eye(3)[LABELS], LABELS)
    assert best.tolist() == [1, 1, 1]
    assert units.tolist() == [0, 1, 2]


def test_a_constant_code_tells_nothing() -> None:
    assert best_unit_auroc(np.ones((90, 4)), LABELS)[0].tolist() == [0.5, 0.5, 0.5]


def test_a_duplicated_unit_changes_nothing() -> None:
    codes = np.random.default_rng(0).normal(size=(90, 4)) + LABELS[:, None]
    assert np.array_equal(best_unit_auroc(codes, LABELS)[0], best_unit_auroc(np.tile(codes, 2), LABELS)[0])


def test_a_class_without_rows_has_no_number() -> None:
    best, _ = best_unit_auroc(np.eye(3)[LABELS], np.where(LABELS == 1, 2, LABELS))
    assert np.isnan(best).tolist() == [False, True, False]


def test_irrelevant_columns_are_added_and_know_nothing() -> None:
    samples = draw("tabular", 2000)
    more = with_irrelevant(samples, 5, seed=0)
    assert np.array_equal(more.values[:, :7], samples.values)
    assert more.values.shape == (2000, 12)
    assert more.values.dtype == np.float32
    assert abs(np.corrcoef(more.values.T)[7:, :7]).max() < 0.1
    assert more.values[:, 7:].std(axis=0) == pytest.approx(np.ones(5), abs=0.1)
    assert np.array_equal(more.values, with_irrelevant(samples, 5, seed=0).values)
    assert not np.array_equal(more.values, with_irrelevant(samples, 5, seed=1).values)


def test_irrelevant_columns_are_for_tables() -> None:
    with pytest.raises(DataError, match="added to tables"):
        with_irrelevant(draw("image", 4), 2, seed=0)


def normal(rows: int, units: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, units)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 8])
def test_a_gaussian_in_more_units_than_it_has_dimensions_has_its_own(dimensions: int) -> None:
    turned = np.linalg.qr(normal(20, dimensions, 1))[0].T
    codes = normal(2000, dimensions) @ turned + 3
    assert codes.shape[1] == 20
    assert intrinsic_dimension(codes) == pytest.approx(dimensions, rel=0.1)
    assert intrinsic_dimension(1000 * codes) == pytest.approx(intrinsic_dimension(codes), rel=1e-2)


def test_a_curve_that_fills_no_plane_has_one_dimension_though_its_rank_is_higher() -> None:
    turn = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    assert intrinsic_dimension(circle) == pytest.approx(1, abs=0.1)
    assert effective_rank(circle) == pytest.approx(2, abs=0.01)


def test_repeated_codes_and_duplicated_units_change_no_intrinsic_dimension() -> None:
    codes = normal(1000, 3)
    once = intrinsic_dimension(codes)
    assert intrinsic_dimension(np.tile(codes, (3, 1))) == once
    assert intrinsic_dimension(np.tile(codes, 2)) == pytest.approx(once)


def test_a_constant_code_has_no_dimension_and_a_grid_no_number() -> None:
    assert intrinsic_dimension(np.ones((50, 4), dtype=np.float32)) == 0
    assert np.isnan(intrinsic_dimension(np.arange(50.0)[:, None]))


def test_of_many_codes_some_tell_as_much() -> None:
    assert intrinsic_dimension(normal(6000, 3)) == pytest.approx(3, rel=0.1)


def test_units_that_do_not_vary_are_not_active() -> None:
    codes = normal(500, 8)
    assert active_share(codes) == 1
    assert active_share(np.tile(codes, 2)) == 1
    assert active_share(np.ones((500, 8))) == 0
    codes[:, :2] *= 0.01
    assert active_share(codes) == 0.75
    assert active_share(100 * codes) == 0.75


def test_under_a_prior_units_are_active_by_its_scale() -> None:
    collapsed = 0.01 * normal(500, 8)
    assert active_share(collapsed) == 1
    assert active_share(collapsed, 1.0) == 0


def test_the_hoyer_index_is_one_of_a_unit_a_sample_and_nothing_of_equal_ones() -> None:
    found = sparseness(np.stack([np.eye(6), np.ones((6, 6)), 5 * np.eye(6)]))
    assert found == pytest.approx([1, 0, 1], abs=1e-6)


def test_energy_at_the_strides_frequency_is_all_of_a_checkerboard_s_and_none_of_a_slow_wave_s() -> None:
    stripes = np.broadcast_to((-1) ** GRID, (8, 8))
    wave = np.broadcast_to(np.cos(2 * np.pi * GRID / 8), (8, 8))
    for image, expected in ((BOARD, 1), (stripes, 1), (wave, 0), (BOARD + wave * 2**0.5, 0.5)):
        assert checkerboard_energy(image[None, None] + 3) == pytest.approx(expected, abs=1e-9)
    images = np.random.default_rng(0).random((6, 2, 8, 8))
    assert checkerboard_energy(images[..., :7, :7]) == pytest.approx(checkerboard_energy(images[..., :6, :6]))


def test_one_pixel_along_an_axis_has_no_stride_and_constant_images_no_energy() -> None:
    stripes = ((-1.0) ** GRID)[None, None, None] + 3
    assert checkerboard_energy(stripes) == pytest.approx(1)
    assert checkerboard_energy(stripes.swapaxes(2, 3)) == pytest.approx(1)
    for constant in (np.full((4, 1, 8, 8), 0.3), np.ones((4, 1, 1, 1))):
        assert np.isnan(checkerboard_energy(constant))


def test_noise_has_its_share_of_the_frequencies() -> None:
    noise = np.random.default_rng(0).standard_normal((4000, 1, 8, 8))
    assert abs(checkerboard_energy(noise) - 15 / 63) < 0.01


def test_a_checkerboard_is_told_over_that_of_the_images() -> None:
    images = np.random.default_rng(0).random((6, 2, 8, 8)).astype(np.float32)
    same, boarded = checkerboard(np.stack([images, images + BOARD]), images)
    assert same == pytest.approx(1)
    assert boarded > 2
    assert np.isnan(checkerboard(images[None], np.ones((6, 2, 8, 8)))).all()
