"""How many items of each class were put where: what accuracies by class and agreements are counted from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contingency:
    """`counts` `[cells, draws]` of the items of class `truth` that were put in `found`, both `[cells]`.

    Cells that no item is in are left out, so there are never more of them than items. `squares` are sums of
    the squares of how often each item counts.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    counts: Array
    squares: Array

    @classmethod
    def of(
        cls,
        truth: NDArray[np.integer],
        found: NDArray[np.integer],
        weights: NDArray[np.floating] | None = None,
    ) -> "Contingency":
        """From items `[n]`, each of which counts as often as each column of `weights` `[n, draws]` says.

        Without weights there is one draw, in which every item counts once.
        """
        cells = np.stack([truth, found]).astype(np.int64)
        order = np.lexsort(cells[::-1])
        ordered = cells[:, order]
        first = np.flatnonzero(np.append(True, (np.diff(ordered) != 0).any(axis=0)))
        counted = np.ones((len(truth), 1)) if weights is None else weights
        # Whole numbers, far below the 2^24 up to which float32 is exact.
        sums = [np.add.reduceat(each, first, axis=0) for each in (counted[order], counted[order] ** 2)]
        return cls(ordered[0, first], ordered[1, first], *(each.astype(np.float64) for each in sums))

    def by_truth(self) -> Array:
        """How many items are of each class: `[classes, draws]`."""
        return self._summed(self.truth, self.counts)

    def by_found(self) -> Array:
        """How many items were put in each place: `[places, draws]`."""
        return self._summed(self.found, self.counts)

    def hits(self) -> Array:
        """How many items of each class were put in the place of that number: `[classes, draws]`."""
        return self._summed(self.truth, np.where((self.truth == self.found)[:, None], self.counts, 0))

    def _summed(self, which: NDArray[np.int64], counts: Array) -> Array:
        sums = np.zeros((int(max(self.truth.max(), self.found.max())) + 1, counts.shape[1]))
        np.add.at(sums, which, counts)
        return sums


def balanced_accuracy(table: Contingency) -> Array:
    """Mean recall `[draws]` over the classes that there are items of."""
    return _mean(table.hits(), table.by_truth())


def macro_f1(table: Contingency) -> Array:
    """Mean F1 `[draws]` over the classes that there are items of or that any was taken for."""
    return _mean(2 * table.hits(), table.by_truth() + table.by_found())


def _mean(parts: Array, of: Array) -> Array:
    """Mean over rows of `parts` over `of`, both `[rows, draws]`, without those where there is nothing."""
    known = of > 0
    return np.asarray((parts / np.where(known, of, 1)).sum(axis=0) / known.sum(axis=0))


CLASSIFIED = {"probe_balanced_accuracy": balanced_accuracy, "probe_macro_f1": macro_f1}
"""What is counted from the classes that the linear probe predicts, by the metric's name."""
