"""From windows to time stamps: means by hand, invariances, and a planted burst that has to be found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentops.data.prepared import Samples, SplitName, Windows
from latentops.evaluation.comparison import Row
from latentops.evaluation.judge import Coder, Field, judge
from latentops.evaluation.statistics import Resampling, auroc
from latentops.evaluation.timeline import DAY, Alarms, Timeline
from tests.evaluation.test_judge import SETTINGS

EVERY = 60.0


def windows(
    first: list[int] | NDArray[np.int64],
    steps: int = 4,
    marked: NDArray[np.bool_] | None = None,
    series: int | list[int] = 0,
    values: NDArray[np.float32] | None = None,
) -> Samples:
    """Windows that begin at step `first` of a series; `marked` are steps of it."""
    first = np.array(first, dtype=np.int64)
    at = first[:, None] + np.arange(steps)
    marks = None if marked is None else marked[at].astype(np.uint8)
    labels = np.zeros(len(first), np.int64) if marks is None else marks.any(axis=1).astype(np.int64)
    return Samples(
        np.zeros((len(first), steps, 1), np.float32) if values is None else values[at][..., None],
        np.full(len(first), steps),
        labels,
        np.zeros((len(first), 32), np.uint8),
        Windows(1000.0 + EVERY * first, np.broadcast_to(np.array(series), first.shape), marks),
    )


def test_a_stamp_has_the_mean_of_the_windows_that_cover_it() -> None:
    line = Timeline.of(windows([0, 2, 3], marked=np.arange(10) == 5), EVERY)
    assert line.times.tolist() == [1000 + 60 * at for at in range(7)]
    assert line.mean(np.array([1.0, 4.0, 10.0])).tolist() == [1, 1, 2.5, 5, 7, 7, 10]
    assert np.flatnonzero(line.marked).tolist() == [5]


def test_series_at_the_same_time_and_windows_without_a_time_stay_apart() -> None:
    line = Timeline.of(windows([0, 0], series=[0, 1]), EVERY)
    assert line.series.tolist() == [0] * 4 + [1] * 4
    assert line.mean(np.array([1.0, 2.0])).tolist() == [1] * 4 + [2] * 4
    assert line.runs(np.ones(8, bool)).tolist() == [0] * 4 + [1] * 4
    lost = windows([0, 5])
    assert lost.windows is not None
    lost.windows.times[1] = np.nan
    assert Timeline.of(lost, EVERY).mean(np.array([3.0, np.inf])).tolist() == [3] * 4
    lost.windows.times[:] = np.nan
    assert len(Timeline.of(lost, EVERY)) == 0


@given(first=st.lists(st.integers(0, 40), min_size=1, max_size=20), data=st.data())
def test_the_order_of_windows_plays_no_part(first: list[int], data: st.DataObject) -> None:
    marked = np.arange(60) % 7 < 2
    order = np.array(data.draw(st.permutations(range(len(first)))))
    scores = np.random.default_rng(0).normal(size=len(first))
    samples = windows(first, marked=marked)
    before, after = Timeline.of(samples, EVERY), Timeline.of(samples.select(order), EVERY)
    for name in ("times", "series", "marked"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert np.allclose(before.mean(scores), after.mean(scores[order]))
    assert np.allclose(before.mean(np.full(len(first), 2.5)), 2.5), "a constant stays what it is"
    assert np.array_equal(before.marked, marked[np.round((before.times - 1000) / EVERY).astype(int)])
    units = before.units()
    assert set(units.tolist()) == set(range(int(units.max()) + 1))
    assert all(len(set(before.marked[units == unit])) == 1 for unit in set(units.tolist()))


def test_alarms_are_runs_and_none_that_touches_a_mark_is_false() -> None:
    marked = np.isin(np.arange(16), [4, 5, 6, 12, 13])
    line = Timeline.of(windows([0, 4, 8, 12], marked=marked), EVERY)
    flagged = np.isin(np.arange(16), [0, 1, 3, 4, 9, 15])
    alarms = Alarms.of(line, flagged)
    assert {at: alarms.hit[at] for at in np.flatnonzero(~np.isnan(alarms.hit))} == {4: 1, 12: 0}
    assert np.flatnonzero(alarms.false > 0).tolist() == [0, 9, 15]
    assert np.isnan(alarms.false).tolist() == marked.tolist()
    assert np.nanmean(alarms.false) == pytest.approx(3 / (11 * EVERY / DAY))
    gap = Timeline.of(windows([0, 5]), EVERY)
    assert gap.runs(np.ones(8, bool)).tolist() == [0] * 4 + [1] * 4, "a gap ends a run"


def test_what_is_drawn_together_has_one_weight() -> None:
    marked, units = np.array([0, 0, 1, 1, 0, 1]) > 0, np.array([2, 2, 0, 0, 3, 1])
    for part in Resampling.draw(marked, 50, 0, units=units):
        assert np.array_equal(part.items[0], part.items[1])
        assert np.array_equal(part.items[2], part.items[3])
        assert (part.items[[0, 4]].sum(axis=0) == 2).all()
        assert (part.items[[2, 5]].sum(axis=0) == 2).all()


def burst(deviation: float = 3.0) -> Field:
    """A sine that is learned as it is, with more noise planted in steps 700 to 720 of it."""
    random, steps = np.random.default_rng(0), np.arange(1000)
    marked = (steps >= 700) & (steps < 720)
    values = np.sin(steps / 3) + random.normal(size=1000) * np.where(marked, deviation, 0.1)
    ends: dict[SplitName, tuple[int, int]] = {
        "train": (0, 200),
        "stop": (208, 300),
        "calibration": (308, 500),
        "test": (508, 990),
    }
    parts = {
        split: windows(np.arange(*span, 2), 8, marked, values=values.astype(np.float32))
        for split, span in ends.items()
    }
    return Field(parts, ("normal", "anomaly"), ("normal",), SETTINGS, EVERY)


def perfect(field: Field) -> Coder:
    """Two seeds that know the sine: what is left of a step is its noise."""

    def residuals(view: str, split: SplitName) -> NDArray[np.float64]:
        samples = field.given(view, split)
        assert samples.windows is not None
        first = (samples.windows.times - 1000) / EVERY
        sine = np.sin((first[:, None] + np.arange(8)) / 3)
        return np.stack([(samples.values[..., 0] - sine) ** 2] * 2)

    def codes(view: str, split: SplitName) -> NDArray[np.float64]:
        return residuals(view, split)[..., :2]

    return Coder(codes, residuals)


def test_a_planted_burst_has_the_highest_scores() -> None:
    field = burst()
    verdict = judge(field, "perfect", "variant", 2, [0, 1], perfect(field))
    line = Timeline.of(field.samples["test"], EVERY)
    scores = verdict.samples["stamp_score/normal"]
    assert scores.shape == (2, len(line))
    assert scores[0][line.marked].min() > np.quantile(scores[0][~line.marked], 0.95)
    assert verdict.metrics["timestamp_auroc"] == [auroc(scores[0], line.marked)] * 2
    assert verdict.metrics["timestamp_auroc"][0] > 0.98
    assert verdict.metrics["marks_hit"] == [1, 1]
    assert 0 <= verdict.metrics["false_alarms_per_day"][0] < 0.1 * DAY / EVERY


def test_each_stamp_counts_by_itself() -> None:
    """One flagged stamp of a mark doesn't make the others found, as point adjustment would have it."""
    marked = np.isin(np.arange(40), range(10, 30))
    line = Timeline.of(windows(list(range(0, 40, 4)), marked=marked), EVERY)
    only = np.zeros(10)
    only[4] = 1.0
    assert auroc(line.mean(only), line.marked) == pytest.approx(0.5 + 4 / 40)
    assert np.nanmean(Alarms.of(line, line.mean(only) > 0.5).hit) == 1


def test_intervals_of_stamps_hold_what_was_measured() -> None:
    field = burst(deviation=0.12)
    verdict = judge(field, "perfect", "variant", 2, [0, 1], perfect(field))
    row = Row("perfect", "variant", 2, [0, 1], verdict.metrics, verdict.samples)
    line = Timeline.of(field.samples["test"], EVERY)
    (part,) = Resampling.draw(line.marked, 200, 0, units=line.units())
    found = row.stamps_resampled(part, line.marked)
    assert set(found) == {"timestamp_auroc", "marks_hit", "false_alarms_per_day"}
    for name, values in found.items():
        assert values.min() <= verdict.metrics[name][0] + 1e-9
        assert values.max() >= verdict.metrics[name][0] - 1e-9
    assert np.ptp(found["timestamp_auroc"]) > 0


def test_rows_that_are_no_windows_have_no_stamps() -> None:
    field = burst()
    plain = Field(field.samples, field.classes, field.normal, field.settings)
    verdict = judge(plain, "perfect", "variant", 2, [0, 1], perfect(field))
    assert not {name for name in (*verdict.metrics, *verdict.samples) if "stamp" in name or "mark" in name}
