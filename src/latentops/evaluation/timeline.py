"""From scores of overlapping windows to scores of time stamps, judged against the marked ones.

A stamp's score is the mean over the windows that cover it. Every row of the board has a score a window, but
only those with a decoder have an error a step, so that nothing else puts variants and floors on one footing.
Each of those windows is one reading of the stamp: their mean has the least variance of what weighs them
alike, while their largest would smear each odd window over its whole length.

There is no point adjustment. It counts a whole marked stretch as found once any stamp of it is flagged;
scores drawn at random then look better than most methods (Kim et al. 2022, "Towards a rigorous evaluation of
time-series anomaly detection", AAAI 36). Here each stamp counts by itself, and how many of the marked
stretches were hit is a number of its own, which never stands alone: beside it are the false alarms a day.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import Samples

Array = NDArray[np.float64]

DAY = 86400.0


@dataclass(frozen=True)
class Timeline:
    """The time stamps that windows cover: by series, and in order.

    `times` [T] are seconds since 1970, `series` [T] whose they are; `every` is the seconds between two.
    `marked` [T] are those marked in a window, none where no marks are known. `at` [n, steps] says for each
    step of each window which stamp it is of, -1 where it is padding or the window lies nowhere.
    """

    times: Array
    series: NDArray[np.int64]
    marked: NDArray[np.bool_]
    every: float
    at: NDArray[np.int64]

    @classmethod
    def of(cls, samples: Samples, every: float) -> "Timeline":
        """The stamps of `samples`, which are windows with steps `every` seconds apart."""
        if samples.windows is None or samples.lengths is None:
            raise ValueError("a timeline is of windows")
        windows = samples.windows
        there = np.arange(samples.values.shape[1]) < np.asarray(samples.lengths)[:, None]
        there &= np.isfinite(windows.times)[:, None]
        at = np.full(there.shape, -1, dtype=np.int64)
        if not there.any():
            return cls(np.empty(0), np.empty(0, np.int64), np.empty(0, bool), every, at)
        begin = float(np.nanmin(windows.times))
        first = np.nan_to_num(np.round((windows.times - begin) / every)).astype(np.int64)

        def each(of_windows: NDArray[Any]) -> NDArray[Any]:
            return np.broadcast_to(of_windows[:, None], there.shape)[there]

        steps = (first[:, None] + np.arange(there.shape[1]))[there]
        span = int(steps.max()) + 1
        found, inverse = np.unique(each(windows.series) * span + steps, return_inverse=True)
        at[there] = inverse
        marked = np.zeros(len(found), dtype=bool)
        if windows.marks is not None:
            marked[inverse[np.asarray(windows.marks)[there] > 0]] = True
        # Series need not begin on one grid: each keeps its own windows' fraction of a step.
        offset = np.zeros(len(found))
        offset[inverse] = each(windows.times - begin - first * every)
        return cls(begin + found % span * every + offset, found // span, marked, every, at)

    def __len__(self) -> int:
        """How many stamps there are."""
        return len(self.times)

    def mean(self, windows: NDArray[np.floating]) -> Array:
        """Scores of windows `[n]` as scores of stamps `[T]`."""
        covered = self.at >= 0
        places = self.at[covered]
        each = np.broadcast_to(np.asarray(windows, dtype=np.float64)[:, None], self.at.shape)[covered]
        sums = np.bincount(places, weights=each, minlength=len(self))
        return np.asarray(sums / np.bincount(places, minlength=len(self)))

    def runs(self, stamps: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Which run of consecutive `stamps` `[T]` each is of, from 0; -1 for those that aren't any's."""
        follows = np.zeros(len(self), dtype=bool)
        follows[1:] = (np.diff(self.times) < 1.5 * self.every) & (np.diff(self.series) == 0)
        begins = stamps & ~(follows & np.append(False, stamps[:-1]))
        return np.where(stamps, np.cumsum(begins) - 1, -1)

    def units(self) -> NDArray[np.int64]:
        """What of the stamps `[T]` is resampled together: each marked run, and the others by blocks.

        Scores that share windows go together, and a block is as long as a window (Künsch 1989, block
        bootstrap).
        """
        marked = self.runs(self.marked)
        others = np.cumsum(~self.marked) - 1
        block = others // self.at.shape[1] + int(marked.max(initial=-1)) + 1
        return np.where(self.marked, marked, block)


@dataclass(frozen=True)
class Alarms:
    """What flagged stamps amount to, `[T]` each, NaN where a stamp has no part in it.

    `hit`, at the first stamp of each marked run: 1 if any of it is flagged, else 0. `false`, at each stamp
    that isn't marked: an alarm's first one has the stamps of a day, all others 0, so that the mean is the
    false alarms a day. An alarm is a run of flagged stamps, false if none of them is marked.
    """

    hit: Array
    false: Array

    @classmethod
    def of(cls, timeline: Timeline, flagged: NDArray[np.bool_]) -> "Alarms":
        """From the stamps that are `flagged` `[T]`."""
        hit = np.full(len(timeline), np.nan)
        marked = timeline.runs(timeline.marked)
        _, firsts = np.unique(marked[timeline.marked], return_index=True)
        firsts = np.flatnonzero(timeline.marked)[firsts]
        hit[firsts] = np.isin(marked[firsts], marked[flagged & timeline.marked])
        false = np.where(timeline.marked, np.nan, 0.0)
        alarm = timeline.runs(flagged)
        numbers, begins = np.unique(alarm[flagged], return_index=True)
        true = np.isin(numbers, alarm[flagged & timeline.marked])
        false[np.flatnonzero(flagged)[begins[~true]]] = DAY / timeline.every
        return cls(hit, false)
