"""kNN probe: the class that most of a row's nearest training codes are of (Fix & Hodges 1951), or the mean of
their numbers.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.evaluation.neighbours import nearest


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
    for kept, _ in nearest(reference, queries, min(neighbours, len(reference))):
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
    count = min(neighbours, len(reference))
    found += [known[kept].mean(1) for kept, _ in nearest(reference, queries, count)]
    return torch.cat(found).numpy()
