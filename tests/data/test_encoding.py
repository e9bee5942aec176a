"""What a table's columns become, and that they come back."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.architectures.columns import Columns
from latentops.data.encoding import OTHER, Column, Encoding
from latentops.data.prepared import Description
from latentops.data.transforms import NORMAL_RANGE, Transform
from tests.data.tables import TYPES, drawn

FITS = {
    "standard": Transform.fit,
    "robust": Transform.fit_robust,
    "power": Transform.fit_power,
    "quantile": Transform.fit_quantile,
}


def encoding(
    columns: Mapping[str, Column] | None = None, fit: str = "standard", categories: int = 8, buckets: int = 1
) -> Encoding:
    missing = ("job", "income")
    known = columns or drawn(200)
    return Encoding.fit(known, TYPES, missing, FITS[fit], categories=categories, buckets=buckets)


numbers = st.floats(-1e4, 1e4).map(lambda value: round(value, 3))
rows = st.lists(
    st.tuples(
        numbers,
        st.none() | st.sampled_from(["smith", "clerk", "baker"]),
        st.none() | st.floats(1, 1e5),
        st.sampled_from(["yes", "no"]),
        st.floats(1e9, 2e9),
    ),
    min_size=2,
    max_size=12,
)


@settings(deadline=None)
@given(rows=rows, fit=st.sampled_from(sorted(FITS)))
def test_rows_come_back_in_raw_units(rows: list[tuple[object, ...]], fit: str) -> None:
    columns = dict(zip(TYPES, map(list, zip(*rows, strict=True)), strict=True))
    columns["income"] = [np.nan if each is None else each for each in columns["income"]]
    made = encoding(fit=fit)
    prepared = made.apply(columns)  # type: ignore[arg-type]
    assert prepared.dtype == np.float32
    assert prepared.shape == (len(rows), made.entries)
    assert np.isfinite(prepared).all()
    back = made.invert(prepared)
    assert list(back["job"]) == columns["job"]
    assert list(back["member"]) == columns["member"]
    assert np.array_equal(np.isnan(back["income"]), np.isnan(columns["income"]))  # type: ignore[call-overload]
    if fit != "power":  # whose inverse is bounded
        for name, reach in (("age", 1e4), ("income", 1e5), ("since", 1e9)):
            raw, found = (np.asarray(each[name], float) for each in (columns, back))  # type: ignore[index]
            assert np.allclose(found, raw, atol=1e-4 * reach, equal_nan=True), name


@pytest.mark.parametrize("buckets", [1, 3])
def test_a_category_that_was_not_met_has_the_place_of_the_rare_ones(buckets: int) -> None:
    made = encoding(categories=2, buckets=buckets)
    assert made.kept["job"] == ("smith", "clerk")
    told = {name: each[:40] for name, each in drawn(200).items()}
    told["job"] = [f"job {at}" for at in range(40)]
    start = 1
    prepared = made.apply(told)[:, start : start + 2 + buckets]
    assert (prepared.sum(axis=1) == 1).all()
    assert (prepared[:, :2] == 0).all()
    assert (prepared[:, 2:].sum(axis=0) > 0).all()  # by their hash they spread over all places
    assert set(made.invert(made.apply(told))["job"]) == {OTHER}


def test_it_is_fitted_on_what_is_there_and_survives_json() -> None:
    columns = drawn(200)
    made = encoding(columns, "quantile")
    assert Encoding.from_json(json.loads(json.dumps(made.to_json()))) == made
    there = {
        name: each if name != "income" else np.nan_to_num(np.asarray(each, float), nan=np.inf)
        for name, each in columns.items()
    }
    assert np.array_equal(made.apply(columns), made.apply(there))  # an infinite number is no number


def test_a_column_without_any_value_is_prepared_as_missing() -> None:
    columns = drawn(50) | {"income": np.full(50, np.nan), "job": [None] * 50}
    for fit in FITS:
        made = encoding(columns, fit)
        prepared = made.apply(columns)
        assert np.isfinite(prepared).all()
        assert np.isnan(made.invert(prepared)["income"]).all()
        assert made.invert(prepared)["job"] == [None] * 50
        assert np.isfinite(made.spread(prepared))


@given(st.lists(numbers, min_size=1, max_size=60), st.lists(numbers, min_size=2, max_size=20))
def test_normal_scores_rise_and_come_back(known: list[float], others: list[float]) -> None:
    transform = Transform.fit_quantile(np.array(known)[:, None])
    assert Transform.from_json(json.loads(json.dumps(transform.to_json()))) == transform
    raw = np.unique([*others, *known])[:, None]
    prepared = transform.apply(raw)
    assert (np.diff(prepared[:, 0]) >= 0).all()
    apart = np.diff(raw[:, 0]) > 1e-3 * np.ptp(np.concatenate([raw[:, 0], known]))
    assert (np.diff(prepared[:, 0])[apart] > 0).all()


def test_normal_scores_make_a_skewed_column_normal() -> None:
    raw = np.exp(np.random.default_rng(0).normal(size=(5000, 1)))
    prepared = Transform.fit_quantile(raw).apply(raw)[:, 0]
    assert abs(float((prepared**3).mean())) < 0.1
    assert float(prepared.std()) == pytest.approx(1, abs=1e-3)


def test_an_outlier_moves_all_others_of_a_standard_column_and_none_of_a_robust_one() -> None:
    raw = np.random.default_rng(0).normal(size=(400, 1))
    wild = np.concatenate([raw, [[1e6]]])
    for fit, moves in ((Transform.fit, True), (Transform.fit_robust, False)):
        before, after = (fit(each).apply(raw) for each in (raw, wild))
        assert bool(np.abs(before - after).max() > 0.1) == moves
    robust = Transform.fit_robust(raw).apply(raw)
    low, high = np.quantile(robust, [0.25, 0.75])
    assert high - low == pytest.approx(NORMAL_RANGE, rel=1e-3)


def test_a_mostly_constant_column_is_scaled_by_its_deviation() -> None:
    raw = np.array([[0.0]] * 90 + [[5.0]] * 10)
    assert Transform.fit_robust(raw).scale == Transform.fit(raw).scale
    assert Transform.fit_robust(np.ones((9, 1))).scale == (1.0,)


def test_which_entries_are_there_is_the_same_in_numpy_and_in_torch() -> None:
    made = encoding()
    values = made.apply(drawn(60, seed=1))
    described = Description(
        "tabular", (made.entries,), tuple(TYPES), ("a", "b"), Transform.identity(), 1.0,
        columns=made.widths, optional=made.flagged,
    )  # fmt: skip
    columns = Columns(made.widths, made.flagged)
    assert columns.entries == made.entries
    there = columns.present(torch.from_numpy(values)).numpy() > 0
    assert np.array_equal(described.present(values), there)
    assert 0 < there.mean() < 1
