"""How many items of each class were put where: what accuracies by class and agreements are counted from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contingency:
    """`counts` `[cells, draws]` of the items of class `truth` that were put in `found`, both `[cells]`.

    Cells that no item is in are left out, so there are never more of them than items. `squares` `[draws]` are
    the sums over all items of the square of how often each counts.
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
        counted = np.ones((len(truth), 1)) if weights is None else weights
        places = int(found.max()) + 1
        cells, which = np.unique(truth.astype(np.int64) * places + found, return_inverse=True)
        # Whole numbers, far below the 2^24 up to which float32 is exact.
        counts = _summed(which, counted, len(cells))
        squares = np.einsum("nd,nd->d", counted, counted).astype(np.float64)
        return cls(cells // places, cells % places, counts, squares)

    def by_truth(self) -> Array:
        """How many items are of each class: `[places, draws]`."""
        return _summed(self.truth, self.counts, self._places)

    def by_found(self) -> Array:
        """How many items were put in each place: `[places, draws]`."""
        return _summed(self.found, self.counts, self._places)

    def hits(self) -> Array:
        """How many items of each class were put in the place of that number: `[places, draws]`."""
        hit = self.truth == self.found
        return _summed(self.truth[hit], self.counts[hit], self._places)

    @property
    def _places(self) -> int:
        return int(max(self.truth.max(), self.found.max())) + 1


def _summed(which: NDArray[np.integer], rows: NDArray[np.floating], places: int) -> Array:
    """Sums of the `rows` `[n, draws]` of each place, `[places, draws]`."""
    from scipy.sparse import csr_array

    each = np.arange(len(which))
    chosen = csr_array((np.ones(len(each), rows.dtype), (which, each)), shape=(places, len(each)))
    return np.asarray(chosen @ rows, dtype=np.float64)


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


def few_label_metric(count: int) -> str:
    """The name of the accuracy of probes that have `count` labels of each class."""
    return f"accuracy_with_{count}_labels"
