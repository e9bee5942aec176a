"""Whether classes are clusters of a code, which nobody told it of."""

import warnings

import numpy as np
from numpy.typing import NDArray

from latentops.evaluation.contingency import Array, Contingency


def clusters(codes: NDArray[np.floating], count: int, starts: int) -> NDArray[np.int64]:
    """Cluster `[n]` of each of `codes` `[n, d]`, by k-means with k-means++ (Arthur & Vassilvitskii 2007).

    The best of so many `starts`, all of them fixed. Codes of fewer distinct values have fewer clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # Threads would add up in another order, and so give other bytes.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(min(count, len(codes)), n_init=starts, random_state=0).fit_predict(codes)
    return np.asarray(found, dtype=np.int64)


def nmi(table: Contingency) -> Array:
    """Mutual information of classes and clusters over the mean of their entropies, `[draws]`.

    0 where they have nothing to do with one another, 1 where they are the same (Strehl & Ghosh 2002, with
    the arithmetic mean).
    """
    total = table.counts.sum(axis=0)
    entropies = [_entropy(each / total) for each in (table.by_truth(), table.by_found())]
    joint = _entropy(table.counts / total)
    mean = sum(entropies) / 2
    return np.asarray(np.where(mean > 0, (sum(entropies) - joint) / np.where(mean > 0, mean, 1), 1.0))


def ari(table: Contingency) -> Array:
    """Adjusted Rand index `[draws]` (Hubert & Arabie 1985): agreement on pairs of items.

    0 is what chance reaches, 1 the same partition. An item that was drawn twice makes no pair with itself,
    or resamples would agree better than the items they are drawn from.
    """
    pairs = (table.counts.sum(axis=0) ** 2 - table.squares) / 2
    together, classes, places = (
        ((each**2).sum(axis=0) - table.squares) / 2
        for each in (table.counts, table.by_truth(), table.by_found())
    )
    expected = classes * places / pairs
    most = (classes + places) / 2
    apart = most > expected
    return np.asarray(np.where(apart, (together - expected) / np.where(apart, most - expected, 1), 1.0))


def _entropy(shares: Array) -> Array:
    """Of shares `[parts, draws]`, in nats."""
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=0))


CLUSTERED = {"nmi": nmi, "ari": ari}
"""What is counted from the clusters, by the metric's name."""
