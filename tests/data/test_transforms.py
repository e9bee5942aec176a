import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentops.data.transforms import Transform

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
