"""kNN probe: the class that most of a row's nearest training codes are of (Fix & Hodges 1951), or the mean of
their numbers.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentops.evaluation.neighbours import nearest

SPARE = 4
"""Candidates beyond the neighbours, so that what float32 takes for one another is ordered in float64."""


def knn_classes(
    reference: NDArray[np.floating],
    labels: NDArray[np.integer],
    queries: NDArray[np.floating],
    neighbours: int,
) -> NDArray[np.int64]:
    """Classes `[k]` of `queries` `[k, d]`, by codes `reference` `[n, d]` of classes `labels` `[n]`.

    By Euclidean distance, all neighbours alike. Of classes with as many votes the first wins; of rows
    that are equally far, any.
    """
    known = torch.from_numpy(labels.astype(np.int64))
    classes = int(known.max()) + 1
    found = [torch.empty(0, dtype=torch.int64)]
    for kept in _neighbours(reference, queries, neighbours):
        votes = torch.zeros(len(kept), classes).scatter_add_(1, known[kept], torch.ones(kept.shape))
        found.append(votes.argmax(1))
    return torch.cat(found).numpy()


def knn_means(
    reference: NDArray[np.floating],
    targets: NDArray[np.float64],
    queries: NDArray[np.floating],
    neighbours: int,
) -> NDArray[np.float64]:
    """Likewise the mean `[k]` of the numbers `targets` `[n]` that the nearest codes have."""
    known = torch.from_numpy(np.array(targets, dtype=np.float64))
    found = [torch.empty(0, dtype=torch.float64)]
    found += [known[kept].mean(1) for kept in _neighbours(reference, queries, neighbours)]
    return torch.cat(found).numpy()


def _neighbours(
    reference: NDArray[np.floating], queries: NDArray[np.floating], neighbours: int
) -> Iterator[Tensor]:
    """Of blocks of `queries` in turn, the rows `[block, neighbours]` of `reference` that are nearest."""
    count = min(neighbours, len(reference))
    candidates = nearest(reference, queries, min(count + SPARE, len(reference)), torch.float32)
    for rows, distances in candidates:
        yield rows.gather(1, distances.topk(count, largest=False).indices)
