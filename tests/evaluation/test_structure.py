"""Health of a code, on codes whose health is known."""

import numpy as np
import pytest

from latentops.errors import DataError
from latentops.evaluation.structure import best_unit_auroc, with_irrelevant
from tests.toy import draw

LABELS = np.arange(90) % 3


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
