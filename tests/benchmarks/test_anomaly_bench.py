"""The benchmark of anomaly scores: what it splits, and what it makes of areas."""

import os

import numpy as np
import pytest

from benchmarks import anomaly

MIRROR = pytest.mark.skipif(
    not os.environ.get("LATENTOPS_MIRROR"), reason="LATENTOPS_MIRROR names no mirror of the public sets"
)


def test_a_mean_over_sets_is_met_where_its_whole_interval_is() -> None:
    same = anomaly.mean_over_sets("x", np.full(9, 2.0), target=2.0)
    assert (same.value, same.low, same.high, same.met) == (2.0, 2.0, 2.0, True)
    spread = anomaly.mean_over_sets("x", np.linspace(-6, 10, 11), target=0.0)
    assert spread.low < 0 < spread.value == 2.0 < spread.high
    assert spread.met is False
    assert anomaly.mean_over_sets("x", np.arange(3.0)).met is None


def test_leads_are_paired_by_set_and_the_stack_of_the_combined_score_has_the_target() -> None:
    stack = f"combined, {anomaly.MEMBERS} members"
    areas = {f"set {at}": {"kNN": 60.0 + 10 * at, stack: 61.0 + 10 * at} for at in range(4)}
    rows = {row.name: row for row in anomaly.rows_of(areas)}
    lead = rows[f"{stack}, over kNN"]
    assert (lead.value, lead.low, lead.high) == (1.0, 1.0, 1.0)
    assert (lead.target, lead.met) == (anomaly.TARGET, True)
    assert rows["kNN"].low < rows["kNN"].high
    assert [row.name for row in rows.values() if row.target is not None] == [lead.name]


@MIRROR
def test_half_of_the_normals_are_known_and_no_anomaly_is() -> None:
    found, other = (anomaly.split("adbench_glass", seed) for seed in (0, 1))
    assert found.anomalous.sum() == 9
    assert len(found.known) == (214 - 9) // 2
    assert len(found.asked) == 214 - len(found.known)
    assert np.allclose(found.known.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(found.known.std(axis=0), 1, atol=1e-4)
    assert not np.array_equal(found.known, other.known)
    large = anomaly.split("adbench_shuttle", 0)
    assert len(large.known) + len(large.asked) == anomaly.LARGEST
