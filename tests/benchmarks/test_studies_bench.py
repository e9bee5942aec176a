"""The arithmetic of single studies, on numbers whose answer is known."""

import operator
from typing import Any

import numpy as np
import pytest

from benchmarks.remedies import denoising, undercomplete
from benchmarks.remedies.study import SEEDS
from latentops.data.prepared import Samples
from latentops.errors import LatentOpsError
from latentops.evaluation.denoising import Met, Withstood
from latentops.sweep import Row

ON, OFF, CLEAN, MIXED = 1.0, 5.0, 100.0, 3.0


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix of two levels and two seeds: `ON` its diagonal, `OFF` it, `MIXED` for the mixture."""
    every = [Met("gaussian", 0.0), *(Met(kind, level) for kind in denoising.KINDS for level in (0.2, 0.4))]

    def row(corruption: str) -> list[Withstood]:
        def value(met: Met) -> float:
            if not met.level:
                return CLEAN
            if corruption == "mixed":
                return MIXED
            return ON if met.corruption == corruption else OFF

        return [
            Withstood(met, [value(met), value(met) + 1], None, None, [value(met)] * 2, [0.5, 0.5])
            for met in every
        ]

    monkeypatch.setattr(denoising, "row", row)


@pytest.mark.usefixtures("rows")
def test_the_diagonal_and_what_is_off_it_are_told_apart_and_clean_rows_left_out() -> None:
    own = {kind: kind for kind in denoising.KINDS}
    assert denoising.mean("error", operator.eq, own) == [ON, ON + 1]
    assert denoising.mean("error", operator.ne, own) == [OFF, OFF + 1]
    assert denoising.mean("error", operator.ne, dict.fromkeys(own, "mixed")) == [MIXED, MIXED + 1]


@pytest.mark.usefixtures("rows")
def test_the_matrix_has_a_finding_for_each_corruption_trained_on_and_met() -> None:
    found = [(each.number, each.remedy) for each in denoising.matrix()]
    assert len(found) == len(set(found)) == 2 * 7 * 4
    errors = {
        (each.number, each.remedy): list(each.remedied)
        for each in denoising.matrix()
        if each.number.startswith("error")
    }
    assert errors["error, met with masking 0.4 (digits)", "masking"] == [ON, ON + 1]
    assert errors["error, met with masking 0.4 (digits)", "gaussian"] == [OFF, OFF + 1]


def test_agreement_is_1_in_the_same_order_and_below_it_in_another_seed_by_seed() -> None:
    ranked = {"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0, 1.0], "c": [3.0, 3.0, 1.0]}
    outcome = {"a": [0.1, 0.9, 0.1], "b": [0.2, 0.8, 0.2], "c": [0.9, 0.1, 0.3]}
    assert undercomplete.agreement(ranked, outcome) == pytest.approx([1.0, -1.0, 0.0])


class Coded:
    """A made-up stack: its codes are the first value of each row, times what it keeps, beside noise."""

    def __init__(self, keeps: float, error: float) -> None:
        self.keeps, self.error = keeps, error

    def encode(self, rows: Samples) -> np.ndarray:
        noise = np.random.default_rng(0).normal(size=(len(rows), 1))
        codes = self.keeps * rows.values[:, :1] + (1 - self.keeps) * noise
        return np.repeat(codes[None].astype(np.float32), len(SEEDS), axis=0)

    def residuals(self, rows: Samples) -> np.ndarray:
        return np.full((len(SEEDS), len(rows), 1), self.error)


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes that the first value tells apart."""
    labels = np.arange(80) % 4 // 2
    values = np.where(labels, 3.0, -3.0).astype(np.float32)[:, None]
    found = Samples(values, None, labels, np.zeros((80, 32), np.uint8))
    monkeypatch.setattr(undercomplete, "samples", lambda dataset, split: found)


@pytest.mark.usefixtures("classes")
def test_a_code_that_tells_classes_is_chosen_by_its_probe_and_not_by_its_error() -> None:
    stacks: Any = {"copies": Coded(0.0, 0.1), "between": Coded(0.25, 0.5), "reads": Coded(1.0, 0.9)}
    ranks, choice = undercomplete.ranking("digits", stacks)
    assert "(digits: copies)" in choice.number
    assert "(reads)" in choice.remedy
    assert list(choice.remedied) == [1.0] * len(SEEDS)
    assert max(choice.without) < 0.8
    assert list(ranks.without) == pytest.approx([-1.0] * len(SEEDS))
    assert list(ranks.remedied) == pytest.approx([1.0] * len(SEEDS))


def sizes(*errors: float) -> list[Row]:
    return [
        Row(2**at, 10, 0, {name: [error, error / 2] for name in undercomplete.METRICS})
        for at, error in enumerate(errors)
    ]


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy scores that are the size itself."""
    monkeypatch.setattr(undercomplete, "copied_by", lambda dataset, size: [float(size)] * 2)


@pytest.mark.usefixtures("copied")
def test_both_ends_of_the_sizes_are_held_against_the_knee() -> None:
    found = list(undercomplete.bottleneck("digits", sizes(1.0, 0.2, 0.1, 0.0)))
    narrow = [each for each in found if "narrow" in each.warning]
    wide = [each for each in found if "wide" in each.warning]
    assert {each.remedy for each in narrow} == {"size 2, the knee, not 1"}
    assert {each.remedy for each in wide} == {"size 2, the knee, not 8"}
    assert [list(each.without) for each in narrow] == [[1.0, 0.5]] * 3
    assert (list(wide[0].without), list(wide[0].remedied)) == ([8.0, 8.0], [2.0, 2.0])
    assert all(list(each.remedied) == [0.2, 0.1] for each in (*narrow, *wide[1:]))


@pytest.mark.usefixtures("copied")
def test_a_curve_without_a_knee_is_told() -> None:
    with pytest.raises(LatentOpsError, match=r"undercomplete on digits: .* has no knee"):
        list(undercomplete.bottleneck("digits", sizes(0.3, 0.2, 0.1)))
