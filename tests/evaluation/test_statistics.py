import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_curve

from latentops.evaluation.statistics import (
    Resampling,
    auroc,
    average_precision,
    false_alarm_at_95,
    holm,
    interval,
    p_value,
    spearman,
    student_interval,
)
from latentops.evaluation.structure import effective_rank

LABELS = np.arange(60) % 3


def test_replicates_centre_on_the_estimate() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(4, 60)) + (LABELS == 0)
    correct = (random.random((4, 60)) < 0.8).astype(np.float32)
    (resampling,) = Resampling.draw(LABELS, 4, 4000, seed=0)
    means = np.mean([auroc(seed, LABELS == 0) for seed in scores])
    assert resampling.auroc(scores, LABELS == 0).mean() == pytest.approx(means, abs=0.005)
    assert resampling.mean(correct).mean() == pytest.approx(correct.mean(), abs=0.005)


def test_an_unresampled_auroc_is_the_plain_one() -> None:
    scores = np.random.default_rng(0).normal(size=(1, 60))
    whole = Resampling(np.ones((60, 1), dtype=np.float32), np.ones((1, 1)))
    assert whole.auroc(scores, LABELS == 1)[0] == pytest.approx(auroc(scores[0], LABELS == 1), abs=1e-6)


def test_classes_keep_their_size_in_every_resample() -> None:
    (resampling,) = Resampling.draw(LABELS, 3, 50, seed=0)
    for label in range(3):
        assert (resampling.items[label == LABELS].sum(axis=0) == 20).all()


def test_a_draw_in_blocks_is_bounded_and_whole() -> None:
    """No block holds more than it may, and all resamples are there: different ones, of the right sizes."""
    blocks = list(Resampling.draw(LABELS, 3, 50, seed=0, block=7 * len(LABELS)))
    assert [part.items.shape[1] for part in blocks] == [7] * 7 + [1]
    items = np.concatenate([part.items for part in blocks], axis=1)
    assert len(np.unique(items, axis=1).T) == 50
    assert (items[LABELS == 0].sum(axis=0) == 20).all()
    assert all(part.seeds.shape == (part.items.shape[1], 3) for part in blocks)


@given(
    scores=st.lists(st.integers(-3, 3) | st.floats(-3, 3, width=32), min_size=2, max_size=40),
    seed=st.integers(0, 2**30),
)
def test_a_resampled_auroc_is_that_of_the_pairs(scores: list[float], seed: int) -> None:
    """Every pair of an anomaly and a normal counts as often as both were drawn, half where they tie."""
    random = np.random.default_rng(seed)
    values = np.array([scores], dtype=np.float32)
    anomalous = random.random(len(scores)) < random.random()
    anomalous[:2] = [True, False]
    items = random.integers(0, 4, size=(len(scores), 5)).astype(np.float32)
    items[:2] += 1
    high, low = values[0][anomalous][:, None], values[0][~anomalous][None, :]
    wins = (high > low) + 0.5 * (high == low)
    pairs = items[anomalous].T[:, :, None] * items[~anomalous].T[:, None, :]
    expected = (pairs * wins).sum(axis=(1, 2)) / pairs.sum(axis=(1, 2))
    found = Resampling(items, np.ones((5, 1))).auroc(values, anomalous)
    assert found == pytest.approx(expected, abs=1e-6)
    assert auroc(values[0], anomalous) == pytest.approx(wins.mean(), abs=1e-12)


def test_intervals_of_a_mean_cover_it_as_often_as_they_say() -> None:
    """Items and seeds both vary: a seed shifts all of its items."""
    covered = 0
    for trial in range(200):
        random = np.random.default_rng(trial)
        values = random.normal(size=60) + random.normal(size=(10, 1)) * 0.05
        (resampling,) = Resampling.draw(np.zeros(60, dtype=np.int64), 10, 500, seed=trial)
        low, high = interval(resampling.mean(values), 0.95)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.985


def test_a_paired_difference_is_tighter_than_an_unpaired_one() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(size=60)
    ours, theirs = (
        (hard + 0.3 * random.normal(size=(4, 60)) < limit).astype(np.float32) for limit in (0.5, 0.3)
    )
    (shared,) = Resampling.draw(LABELS, 4, 2000, seed=0)
    (other,) = Resampling.draw(LABELS, 4, 2000, seed=1)
    paired = np.std(shared.mean(ours) - shared.mean(theirs))
    unpaired = np.std(shared.mean(ours) - other.mean(theirs))
    assert paired < 0.7 * unpaired


def test_p_values_are_small_for_a_clear_difference_and_large_for_none() -> None:
    random = np.random.default_rng(0)
    assert p_value(random.normal(5, 1, 1000)) < 0.01
    assert p_value(random.normal(0, 1, 1000)) > 0.5


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_rank_correlation_by_hand() -> None:
    assert spearman([1, 2, 3], [10, 20, 900]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_effective_rank_counts_directions() -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(500, 2)) @ np.array([[1.0, 0, 0, 1], [0, 1, 1, 0]])
    assert effective_rank(plane) == pytest.approx(2, abs=0.05)
    assert effective_rank(np.concatenate([plane, plane], axis=1)) == pytest.approx(2, abs=0.05)
    assert effective_rank(np.zeros((10, 3))) == 0.0


def test_students_interval_is_scipys() -> None:
    values = [0.1, 0.4, 0.35, 0.8, 0.5]
    expected = stats.t.interval(0.9, 4, np.mean(values), stats.sem(values))
    assert student_interval(values, 0.9) == pytest.approx(expected)


def kinds(scores: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and which of them are anomalies: some, not all."""
    anomalous = np.random.default_rng(seed).random(len(scores)) < 0.4
    anomalous[:2] = [True, False]
    return np.array(scores, dtype=np.float32), anomalous


def first_at_95(anomalous: np.ndarray, scores: np.ndarray) -> float:
    """The false-alarm rate of scikit-learn's first threshold that finds 95 % of the anomalies."""
    false_alarms, found, _ = roc_curve(anomalous, scores, drop_intermediate=False)
    return float(false_alarms[np.argmax(found >= 0.95 - 1e-12)])


SOME = st.lists(st.integers(-3, 3) | st.floats(-3, 3, width=32), min_size=3, max_size=40)


@settings(deadline=None)
@given(scores=SOME, seed=st.integers(0, 2**30))
def test_precision_and_false_alarms_are_scikit_learns(scores: list[float], seed: int) -> None:
    values, anomalous = kinds(scores, seed)
    expected = average_precision_score(anomalous, values)
    assert average_precision(values, anomalous) == pytest.approx(expected, abs=1e-6)
    assert false_alarm_at_95(values, anomalous) == pytest.approx(first_at_95(anomalous, values), abs=1e-9)


@settings(deadline=None)
@given(scores=SOME, seed=st.integers(0, 2**30))
def test_resampled_they_are_those_of_the_items_drawn(scores: list[float], seed: int) -> None:
    """An item counts as often as it was drawn: scikit-learn is shown it so many times."""
    values, anomalous = kinds(scores, seed)
    (resampling,) = Resampling.draw(anomalous, 1, 4, seed=seed)
    drawn = [np.repeat(np.arange(len(values)), column.astype(int)) for column in resampling.items.T]
    for metric, peer in (
        (resampling.average_precision, average_precision_score),
        (resampling.false_alarm_at_95, first_at_95),
    ):
        expected = [peer(anomalous[rows], values[rows]) for rows in drawn]
        assert np.allclose(metric(values[None], anomalous), expected, atol=1e-6)


def test_precision_and_false_alarms_of_a_perfect_a_constant_and_a_lost_score() -> None:
    anomalous = np.arange(40) % 4 == 0
    perfect = anomalous.astype(float)
    assert average_precision(perfect, anomalous) == 1.0
    assert false_alarm_at_95(perfect, anomalous) == 0.0
    assert average_precision(np.zeros(40), anomalous) == 0.25
    assert false_alarm_at_95(np.zeros(40), anomalous) == 1.0
    assert false_alarm_at_95(-perfect, anomalous) == 1.0
    for missing in (np.zeros(40, dtype=bool), np.ones(40, dtype=bool)):
        assert np.isnan(average_precision(perfect, missing))
        assert np.isnan(false_alarm_at_95(perfect, missing))
