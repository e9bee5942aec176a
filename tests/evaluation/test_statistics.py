import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_curve

from latentops.evaluation.statistics import (
    Estimate,
    Replicates,
    Resampling,
    auroc,
    average_precision,
    false_alarm_at_95,
    holm,
    rank_correlation_interval,
    spearman,
    student_interval,
)
from latentops.evaluation.structure import effective_rank

LABELS = np.arange(60) % 3


def test_replicates_centre_on_the_estimate() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(4, 60)) + (LABELS == 0)
    correct = (random.random((4, 60)) < 0.8).astype(np.float32)
    (resampling,) = Resampling.draw(LABELS, 4000, seed=0)
    means = np.mean([auroc(seed, LABELS == 0) for seed in scores])
    assert resampling.auroc(scores, LABELS == 0).mean() == pytest.approx(means, abs=0.005)
    assert resampling.mean(correct).mean() == pytest.approx(correct.mean(), abs=0.005)


def test_an_unresampled_auroc_is_the_plain_one() -> None:
    scores = np.random.default_rng(0).normal(size=(1, 60))
    whole = Resampling(np.ones((60, 1), dtype=np.float32), 60, 57, (1,))
    assert whole.auroc(scores, LABELS == 1)[0, 0] == pytest.approx(auroc(scores[0], LABELS == 1), abs=1e-6)


def test_draws_of_labels_are_resampled_too() -> None:
    """Alike for all that is compared; where draws don't differ, they add nothing."""
    random = np.random.default_rng(0)
    easy = random.normal(size=20)[:, None]
    correct = (random.normal(size=(4, 20, 60)) < easy).astype(np.uint8)
    (resampling,) = Resampling.draw(LABELS, 4000, seed=0)
    replicates = resampling.mean_of_draws(correct)
    assert replicates.mean() == pytest.approx(correct.mean(), abs=0.01)
    assert replicates.mean(axis=1).std() > 2 * resampling.mean(correct.mean(axis=1)).mean(axis=1).std()
    same = np.repeat(correct[:, :1], 20, axis=1)
    assert resampling.mean_of_draws(same) == pytest.approx(resampling.mean(same[:, 0]), abs=1e-6)
    assert (resampling.mean_of_draws(correct.copy()) == replicates).all()


def test_other_blocks_draw_other_draws() -> None:
    values = np.arange(20.0)[None, :, None].repeat(60, axis=2)
    blocks = [each.mean_of_draws(values) for each in Resampling.draw(LABELS, 40, seed=0, block=20 * 60)]
    assert len(np.unique(np.concatenate(blocks))) > 25


def test_classes_keep_their_size_in_every_resample() -> None:
    (resampling,) = Resampling.draw(LABELS, 50, seed=0)
    for label in range(3):
        assert (resampling.items[label == LABELS].sum(axis=0) == 20).all()


def test_a_draw_in_blocks_is_bounded_and_whole() -> None:
    """No block holds more than it may, and all resamples are there: different ones, of the right sizes."""
    blocks = list(Resampling.draw(LABELS, 50, seed=0, block=7 * len(LABELS)))
    assert [part.items.shape[1] for part in blocks] == [7] * 7 + [1]
    items = np.concatenate([part.items for part in blocks], axis=1)
    assert len(np.unique(items, axis=1).T) == 50
    assert (items[LABELS == 0].sum(axis=0) == 20).all()
    assert {(part.drawn, part.freedom) for part in blocks} == {(60, 57)}


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
    found = Resampling(items, len(scores), len(scores) - 2, (1,)).auroc(values, anomalous)[:, 0]
    assert found == pytest.approx(expected, abs=1e-6)
    assert auroc(values[0], anomalous) == pytest.approx(wins.mean(), abs=1e-12)


def replicates(values: np.ndarray, resamples: int = 20_000, seed: int = 0) -> Replicates:
    """Of the mean of `values` `[seeds, items]` of one class."""
    (drawn,) = Resampling.draw(np.zeros(values.shape[1], dtype=np.int64), resamples, seed)
    return Replicates(values.mean(axis=1), drawn.mean(values), drawn.drawn, drawn.freedom)


def test_without_seeds_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).exponential(size=(1, 12))
    found = replicates(values).estimate()
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values[0]))
    assert found.interval(0.95) == pytest.approx(expected, abs=0.02 * np.ptp(expected))
    assert found.p_value() == pytest.approx(stats.ttest_1samp(values[0], 0).pvalue, rel=0.2)


def test_where_items_do_not_vary_the_interval_is_students_over_the_seeds() -> None:
    seeds = np.array([0.1, 0.4, 0.35, 0.8, 0.5])
    found = replicates(np.repeat(seeds[:, None], 40, axis=1), resamples=50).estimate()
    assert found.interval(0.9) == pytest.approx(student_interval(seeds, 0.9), abs=1e-6)
    assert found.p_value() == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue, rel=1e-4)


def test_the_error_is_that_of_crossed_random_effects() -> None:
    """Seeds, items and the two together, against the mean squares of an analysis of variance."""
    random = np.random.default_rng(0)
    seeds, items = 5, 80
    values = (
        random.normal(size=(seeds, 1)) + 3 * random.normal(size=items) + random.normal(size=(seeds, items))
    )
    row, column = values.mean(axis=1), values.mean(axis=0)
    rest = values - row[:, None] - column + values.mean()
    of_seeds, of_items = items * row.var(ddof=1), seeds * column.var(ddof=1)
    of_both = (rest**2).sum() / ((seeds - 1) * (items - 1))
    expected = (of_seeds + of_items - of_both) / (seeds * items)
    assert replicates(values).estimate().error ** 2 == pytest.approx(expected, rel=0.05)


def test_seeds_that_differ_by_chance_alone_add_nothing() -> None:
    """What seeds differ by because items are few is in the variance by items already."""
    values = np.random.default_rng(4).normal(size=(5, 200))
    one = replicates(values)
    assert one.values.var(ddof=1) < np.trace(np.cov(one.resampled, rowvar=False)) / 5
    assert one.estimate().error == pytest.approx(values.std() / np.sqrt(values.size), rel=0.1)


@pytest.mark.parametrize("mean", [0.001, 0.3, 0.995])
def test_the_interval_of_a_share_is_one_of_shares(mean: float) -> None:
    found = Estimate(mean, 0.02, 30)
    low, high = found.interval(0.95, share=True)
    assert 0 < low < mean < high < 1
    narrow = Estimate(mean, 1e-6, 30)
    assert narrow.interval(0.95, share=True) == pytest.approx(narrow.interval(0.95), abs=1e-8)


def test_what_is_always_right_has_no_width() -> None:
    found = replicates(np.ones((5, 30)), resamples=20)
    assert found.is_share
    assert found.estimate().interval(0.95, share=True) == (1.0, 1.0)
    assert (found - found).estimate().p_value() == 1.0


def test_a_paired_difference_is_tighter_than_an_unpaired_one() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(size=60)
    ours, theirs = (
        (hard + 0.3 * random.normal(size=(4, 60)) < limit).astype(np.float32) for limit in (0.5, 0.3)
    )
    paired = replicates(ours, seed=0) - replicates(theirs, seed=0)
    unpaired = replicates(ours, seed=0) - replicates(theirs, seed=1)
    assert paired.estimate().error < 0.7 * unpaired.estimate().error


def test_what_seeds_share_drops_out_of_a_difference() -> None:
    """A seed that is better in both metrics says nothing of their difference."""
    values = np.random.default_rng(0).normal(size=(5, 1)) + np.zeros(30)
    found = (replicates(values + 1, resamples=20) - replicates(values, resamples=20)).estimate()
    assert found.mean == pytest.approx(1)
    assert found.error == pytest.approx(0, abs=1e-6)


def test_a_difference_from_a_deterministic_row_has_all_seeds() -> None:
    random = np.random.default_rng(0)
    difference = replicates(random.normal(size=(5, 30))) - replicates(random.normal(size=(1, 30)))
    assert difference.values.shape == (5,)
    assert difference.resampled.shape[1] == 5


def test_p_value_and_interval_say_the_same() -> None:
    for mean in np.linspace(-3, 3, 25):
        found = Estimate(float(mean), 1.0, 7)
        low, high = found.interval(0.95)
        assert (low <= 0 <= high) == (found.p_value() >= 0.05)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_rank_correlation_by_hand() -> None:
    assert spearman([1, 2, 3], [10, 20, 900]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_a_rank_correlation_that_nothing_shakes_has_no_width() -> None:
    steps = [replicates(np.full((5, 20), level), resamples=20) for level in (1.0, 2.0, 3.0, 4.0)]
    assert rank_correlation_interval(steps, steps, 0.95, 0) == pytest.approx((1.0, 1.0))
    assert rank_correlation_interval(steps, steps[::-1], 0.95, 0) == pytest.approx((-1.0, -1.0))
    assert rank_correlation_interval(steps[:2], steps[:2], 0.95, 0) is None
    assert rank_correlation_interval(steps, [steps[0]] * 4, 0.95, 0) is None


def test_a_rank_correlation_of_what_is_all_chance_could_be_any() -> None:
    random = np.random.default_rng(0)
    x, y = ([replicates(random.normal(size=(5, 20)), 500) for _ in range(6)] for _ in range(2))
    low, high = rank_correlation_interval(x, y, 0.95, 0) or (0.0, 0.0)
    assert low < 0 < high


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
    (resampling,) = Resampling.draw(anomalous, 4, seed=seed)
    drawn = [np.repeat(np.arange(len(values)), column.astype(int)) for column in resampling.items.T]
    for metric, peer in (
        (resampling.average_precision, average_precision_score),
        (resampling.false_alarm_at_95, first_at_95),
    ):
        expected = [peer(anomalous[rows], values[rows]) for rows in drawn]
        assert np.allclose(metric(values[None], anomalous)[:, 0], expected, atol=1e-6)


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
