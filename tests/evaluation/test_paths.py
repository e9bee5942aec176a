"""Sharpness on signals whose spectrum is known; walks through codes whose decoder is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentops.evaluation.paths import (
    Walk,
    distance_to_data,
    interpolations,
    smoothness,
    stretch,
    traversals,
    unevenness,
)
from latentops.evaluation.structure import high_frequency_energy, sharpness_kept
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from tests.toy import KINDS, SMALL, describe, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]


def wave(frequency: float, steps: int = 32) -> np.ndarray:
    return np.cos(2 * np.pi * frequency * np.arange(steps) + 0.3)


def test_a_slow_wave_has_no_high_frequencies_and_a_fast_one_all_its_energy() -> None:
    slow, fast = wave(2 / 32)[None, :, None], wave(12 / 32)[None, :, None]
    assert high_frequency_energy(slow, (1,)) == pytest.approx(0, abs=1e-20)
    assert high_frequency_energy(fast, (1,)) == pytest.approx((fast**2).sum())
    assert sharpness_kept(slow + 0.5 * fast, slow + fast, (1,)) == pytest.approx(0.25)


def test_the_spectrum_of_images_is_radial() -> None:
    """A diagonal wave of 0.2 cycles along either axis has 0.28 of its own."""
    along = np.tile(wave(0.1875), (32, 1))[None, None]
    rows, columns = np.indices((32, 32))
    diagonal = np.cos(2 * np.pi * 0.1875 * (rows + columns))[None, None]
    assert high_frequency_energy(along, (-2, -1)) == pytest.approx(0, abs=1e-18)
    assert high_frequency_energy(diagonal, (-2, -1)) == pytest.approx((diagonal**2).sum())


def test_a_blurred_image_is_less_sharp_and_the_same_image_as_sharp() -> None:
    images = np.random.default_rng(0).normal(size=(20, 2, 8, 8))
    blurred = (images + np.roll(images, 1, -1) + np.roll(images, 1, -2)) / 3
    assert sharpness_kept(images, images, (-2, -1)) == pytest.approx(1)
    assert sharpness_kept(blurred, images, (-2, -1)) < 0.5
    assert sharpness_kept(images[:5], images, (-2, -1)) == pytest.approx(1, abs=0.2)


def test_where_a_constant_sequence_ends_is_no_edge() -> None:
    values = np.ones((3, 8, 2))
    lengths = np.array([3, 5, 8])
    values[np.arange(8) >= lengths[:, None]] = 0
    assert high_frequency_energy(values, (1,)) > 0.1
    assert high_frequency_energy(values, (1,), lengths) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_interpolation_begins_and_ends_at_the_samples_own_codes(kind: str) -> None:
    made = recipe("variational", kind)
    stack = Trained(made.build(MEMBERS), MEMBERS, made)
    samples = draw(kind, 6)
    start, end = samples.select(slice(0, 3)), samples.select(slice(3, 6))
    walk = interpolations(stack, start, end, points=5)
    assert walk.values.shape == (2, 3, 5, *KINDS[kind])
    assert walk.codes[:, :, 0] == pytest.approx(stack.encode(start), abs=1e-6)
    assert walk.codes[:, :, -1] == pytest.approx(stack.encode(end), abs=1e-6)
    assert walk.codes[:, :, 2] == pytest.approx((walk.codes[:, :, 0] + walk.codes[:, :, -1]) / 2, abs=1e-6)


def test_a_traversal_moves_one_unit_alone_by_its_own_deviation() -> None:
    made = recipe("undercomplete", "tabular", latent=3)
    stack = Trained(made.build(MEMBERS), MEMBERS, made)
    samples = draw("tabular", 50)
    codes, walk = stack.encode(samples), traversals(stack, samples, points=3, reach=2.0)
    assert walk.values.shape == (2, 3, 3, 7)
    moved = walk.codes[:, :, 2] - walk.codes[:, :, 0]
    expected = 4 * np.std(codes, axis=1, ddof=1)[:, None] * np.eye(3)
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    np.testing.assert_allclose(walk.codes[:, 0, 1], codes.mean(axis=1), atol=1e-5)


def test_a_straight_walk_is_even_and_a_jump_is_not() -> None:
    straight = np.linspace(0, 1, 5, dtype=np.float32).reshape(1, 1, 5, 1) * np.ones(4, np.float32)
    jump = (np.arange(5) > 2).astype(np.float32).reshape(1, 1, 5, 1)
    assert unevenness(Walk(straight, straight)) == pytest.approx(1)
    assert unevenness(Walk(jump, jump)) == pytest.approx(4)
    assert unevenness(Walk(jump, jump * 0)) == pytest.approx(1)


def test_a_straight_way_is_as_long_as_the_line_and_a_detour_longer() -> None:
    straight = np.linspace(0, 3, 5, dtype=np.float32).reshape(1, 1, 5, 1) * np.ones(4, np.float32)
    corner = np.array([[[[0, 0], [3, 0], [3, 4]]]], dtype=np.float32)
    assert stretch(Walk(straight, straight)) == pytest.approx(1)
    assert stretch(Walk(corner, corner)) == pytest.approx(7 / 5)
    both = np.concatenate([corner, corner + 0 * corner], axis=1)
    both[0, 1] = np.linspace(0, 1, 3)[:, None]
    assert stretch(Walk(both, both)) == pytest.approx((7 + 2**0.5) / (5 + 2**0.5))
    assert np.isnan(stretch(Walk(straight, 0 * straight))).all()


def test_a_linear_decoder_s_interpolations_are_straight_and_even(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe("undercomplete", "image")
    stack, samples = Trained(made.build(MEMBERS), MEMBERS, made), draw("image", 40)
    bent = smoothness(stack, samples)
    assert min(bent["path_stretch"]) > 1 + 1e-4
    weights = torch.randn(2, 30)
    monkeypatch.setattr(stack.model, "decode", lambda codes: (codes @ weights).unflatten(2, (1, 6, 5)))
    assert smoothness(stack, samples)["path_stretch"] == pytest.approx([1, 1], abs=1e-4)
    assert smoothness(stack, samples)["path_unevenness"] == pytest.approx([1, 1], abs=1e-3)


def test_what_lies_beyond_the_shorter_sequence_is_no_part_of_the_way() -> None:
    made = recipe("undercomplete", "sequence")
    stack, samples = Trained(made.build(MEMBERS), MEMBERS, made), draw("sequence", 40)
    decode = stack.model.decode

    def wild(codes: torch.Tensor) -> torch.Tensor:
        values = decode(codes)
        values[:, :, int(samples.lengths.max()) - 1 :] = torch.randn(1)  # type: ignore[union-attr]
        return values

    short = replace(samples, lengths=np.minimum(samples.lengths, samples.lengths.max() - 1))  # type: ignore[type-var, union-attr]
    before = smoothness(stack, short)
    stack.model.decode = wild  # type: ignore[method-assign, assignment]
    assert smoothness(stack, short) == before


def test_tokens_and_a_code_of_each_step_have_no_ways_between_them() -> None:
    per_step = Recipe.resolve(
        "sequence", {"latent": "per_step"}, "recurrent", SMALL, 2, describe("sequence"), "gaussian"
    )
    for made, kind in ((recipe("undercomplete", "tokens"), "tokens"), (per_step, "sequence")):
        assert smoothness(Trained(made.build(MEMBERS), MEMBERS, made), draw(kind, 10)) == {}


def test_a_middle_point_on_the_data_is_at_no_distance() -> None:
    walk = Walk(np.zeros((1, 1, 3, 1), np.float32), np.array([[[[0, 0], [3, 4], [6, 8]]]], np.float32))
    assert distance_to_data(walk, np.array([[3.0, 4.0], [9.0, 9.0]])) == pytest.approx(0)
    assert distance_to_data(walk, np.array([[0.0, 0.0]])) == pytest.approx(5)
