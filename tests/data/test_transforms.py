import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentops.data.transforms import Transform, edges

tables_of = arrays(np.float64, (12, 3), elements=st.floats(-1e6, 1e6))


@given(rows=tables_of)
def test_standardised_rows_come_back_in_raw_units(rows: np.ndarray) -> None:
    transform = Transform.fit(rows)
    back = transform.invert(transform.apply(rows))
    # float32 keeps 24 bits of what lies between the column's mean and its farthest value.
    reach = np.abs(rows - rows.mean(axis=0)).max(axis=0)
    assert (np.abs(back - rows) <= 1e-6 * (reach + np.abs(rows)) + 1e-30).all()


@given(
    low=st.floats(-100, 100),
    width=st.floats(0.1, 1000),
    rows=arrays(np.float64, 20, elements=st.floats(0, 1)),
)
def test_a_known_range_becomes_zero_to_one(low: float, width: float, rows: np.ndarray) -> None:
    transform = Transform.from_range(low, low + width)
    raw = low + rows * width
    prepared = transform.apply(raw)
    assert prepared.min() >= -1e-6
    assert prepared.max() <= 1 + 1e-6
    assert np.allclose(transform.invert(prepared), raw, atol=1e-4 * (width + abs(low)))


@given(rows=tables_of)
def test_it_survives_json(rows: np.ndarray) -> None:
    transform = Transform.fit(rows)
    assert Transform.from_json(json.loads(json.dumps(transform.to_json()))) == transform


def test_columns_have_mean_zero_and_deviation_one() -> None:
    rows = np.random.default_rng(0).normal([5, -300, 1e-5], [2, 40, 1e-7], (500, 3))
    prepared = Transform.fit(rows).apply(rows)
    assert np.allclose(prepared.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(prepared.std(axis=0), 1, atol=1e-5)


def test_a_constant_column_is_centred_and_keeps_its_unit() -> None:
    rows = np.array([[0.1 + 0.2, 1.0], [0.3, 2.0], [0.3, 3.0]])  # the first differs by rounding alone
    transform = Transform.fit(rows)
    assert transform.scale[0] == 1
    assert np.allclose(transform.apply(rows)[:, 0], 0)
    assert np.isclose(transform.apply(np.array([[7.3, 2.0]]))[0, 0], 7)


images_of = arrays(np.float32, (2, 2, 6, 5), elements=st.floats(0, 1, width=32))


@given(images=images_of)
def test_edges_of_values_from_zero_to_one_are_so_too_and_turn_with_the_image(images: np.ndarray) -> None:
    found = edges(images, 4)
    assert found.shape == (2, 8, 6, 5)
    assert found.min() >= 0
    assert found.max() <= 1
    turned = edges(np.rot90(images, axes=(2, 3)).copy(), 4)
    quarter = found.reshape(2, 2, 4, 6, 5)[:, :, [2, 3, 0, 1]].reshape(2, 8, 6, 5)
    assert turned == pytest.approx(np.rot90(quarter, axes=(2, 3)), abs=2e-3)


def test_an_edge_lies_in_the_channel_of_its_direction_and_a_plain_image_has_none() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 11, dtype=np.float32), (1, 11, 11))
    for image, there in ((ramp, 0), (ramp.swapaxes(1, 2), 2), ((ramp + ramp.swapaxes(1, 2)) / 2, 1)):
        inner = edges(image, 4)[:, 2:-2, 2:-2]
        assert inner[there] == pytest.approx(np.sqrt(np.hypot(*np.gradient(image[0])))[2:-2, 2:-2], rel=1e-3)
        assert np.delete(inner, there, axis=0) == pytest.approx(0, abs=2e-3)
    between = edges(np.cos(np.pi / 8) * ramp + np.sin(np.pi / 8) * ramp.swapaxes(1, 2), 4)[:, 5, 5]
    assert between[:2] == pytest.approx(np.sqrt([0.05, 0.05]), rel=1e-3)
    assert not edges(np.full((3, 1, 4, 4), 0.7, np.float32), 3).any()
    assert not edges(np.ones((3, 1, 1, 1), np.float32), 2).any()


def test_images_are_given_channels_of_edges_and_come_back_without() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (3, 2, 6, 5))
    plain = Transform.from_range(0, 255)
    transform = Transform(plain.shift, plain.scale, orientations=3)
    prepared = transform.apply(raw)
    assert prepared.shape == (3, *transform.shape((2, 6, 5))) == (3, 8, 6, 5)
    assert transform.raw_shape((8, 6, 5)) == (2, 6, 5)
    assert (prepared[:, :2] == plain.apply(raw)).all()
    assert (prepared[:, 2:] == edges(plain.apply(raw), 3)).all()
    assert transform.invert(prepared) == pytest.approx(raw, abs=1e-3)
    assert Transform.from_json(json.loads(json.dumps(transform.to_json()))) == transform
