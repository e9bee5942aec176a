"""kNN probe: the class that most of a row's nearest training codes are of (Fix & Hodges 1951)."""

import numpy as np
import torch
from numpy.typing import NDArray

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
    count = min(neighbours, len(reference))
    known = torch.from_numpy(labels.astype(np.int64))
    classes = int(known.max()) + 1
    candidates = nearest(reference, queries, min(count + SPARE, len(reference)), torch.float32)
    found = [torch.empty(0, dtype=torch.int64)]
    for rows, distances in candidates:
        kept = rows.gather(1, distances.topk(count, largest=False).indices)
        votes = torch.zeros(len(kept), classes).scatter_add_(1, known[kept], torch.ones(kept.shape))
        found.append(votes.argmax(1))
    return torch.cat(found).numpy()
