"""The judge's benchmark: whether it compares like with like."""

import numpy as np
import pytest

from benchmarks import judge


@pytest.mark.parametrize("decay", [judge.TOGETHER, 1.0])
def test_codes_are_standardised_and_their_features_depend_as_asked(decay: float) -> None:
    rows, labels = judge.codes(20_000, 0, decay)
    assert np.abs(rows.mean(axis=0)).max() < 0.05
    assert np.abs(rows.std(axis=0) - 1).max() < 0.05
    assert len(np.unique(labels)) == judge.CLASSES
    spread = np.linalg.eigvalsh(np.corrcoef(rows.T))
    assert (spread[-1] / spread[0] > 1000) == (decay < 1)


def test_both_fits_are_of_the_same_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "STRENGTHS", (0.1, 1.0))
    rows, labels = judge.codes(2000, 0, 1.0)
    ours, theirs = judge.probe(rows, labels), judge.lbfgs(rows, labels)
    for strength in judge.STRENGTHS:
        assert ours[strength] == pytest.approx(theirs[strength], abs=0.01)
        assert judge.objective(ours[strength], rows, labels, strength) == pytest.approx(
            judge.objective(theirs[strength], rows, labels, strength), abs=1e-6
        )


def test_distances_are_the_peers() -> None:
    reference, queries = judge.codes(300, 0, 1.0)[0], judge.codes(50, 1, 1.0)[0]
    assert np.allclose(judge.cdist(reference, queries), judge.neighbour_distance(reference, queries, 5))


def test_every_reading_of_a_code_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TRAIN", 1200), ("TEST", 200), ("RESAMPLES", 20)):
        monkeypatch.setattr(judge, name, value)
    found = {each.name: each.value for each in judge.probing_rows(1)}
    assert found["kNN probe: classes are scikit-learn's"] == 100
    assert any(name.startswith("few labels, 5 and 50 a class") for name in found)
    assert any(name.startswith("clusters") for name in found)
