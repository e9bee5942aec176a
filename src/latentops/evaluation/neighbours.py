"""Exact nearest neighbours, in blocks that fit the processor's cache.

Products of blocks say which rows are near, and of those the distances are taken from differences, because
``‖a‖² + ‖b‖² − 2ab`` has no digits left where two rows are nearly the same.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GROUP = 16
QUERIES = 128
REFERENCES = 8192
"""Rows of a group, and the two sides of the block of distances that is in memory at a time, 8 MB."""


def nearest(
    reference: NDArray[np.floating],
    queries: NDArray[np.floating],
    count: int,
    products: torch.dtype = torch.float64,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The `count` rows of `reference` `[n, d]` nearest to each of `queries` `[k, d]`, and how far they are.

    Of each block of queries in turn: which rows, and their squared distances, both `[block, count]` and in no
    order. With `products` in float32 it takes half the time, and rows whose distances agree to six digits may
    be taken for one another.
    """
    centre = np.mean(reference, axis=0, dtype=np.float64)
    asked = torch.from_numpy(queries - centre)
    # Whole groups: the rows that fill up the last one are infinitely far from everything. In place, because
    # 60,000 images are hundreds of megabytes.
    rows, filled = len(reference), -len(reference) % GROUP
    known = torch.zeros(rows + filled, reference.shape[1], dtype=torch.float64)
    np.subtract(reference, centre, out=known.numpy()[:rows])
    halves = torch.nn.functional.pad((known[:rows] ** 2).sum(1) / 2, (0, filled), value=torch.inf).to(
        products
    )
    searched = known.to(products)
    for start in range(0, len(asked), QUERIES):
        block = asked[start : start + QUERIES]
        near = _nearest(searched, halves, block.to(products), count)
        yield near, (known[near] - block[:, None]).square_().sum(2)


def _nearest(known: Tensor, halves: Tensor, block: Tensor, count: int) -> Tensor:
    """The rows `[k, count]` of `known` `[n, d]` nearest to each of `block` `[k, d]`, by ``‖b‖² / 2 − ab``.

    Of every group of rows the smallest is far cheaper to get than an order of all, and the `count` groups
    with the smallest ones hold the `count` smallest of all.
    """
    least = block.new_empty(len(block), 0)
    rows = torch.empty(len(block), 0, dtype=torch.int64)
    each = torch.arange(len(block))[:, None]
    for start in range(0, len(known), REFERENCES):
        part = slice(start, start + REFERENCES)
        distances = torch.addmm(halves[part, None], known[part], block.T, alpha=-1)
        groups = distances.view(-1, GROUP, len(block))
        minima = groups.amin(1).T
        kept = minima.topk(min(count, minima.shape[1]), largest=False).indices
        members = start + kept[:, :, None] * GROUP + torch.arange(GROUP)
        least = torch.cat([least, groups[kept, :, each].flatten(1)], dim=1)
        rows = torch.cat([rows, members.flatten(1)], dim=1)
        least, kept = least.topk(min(count, least.shape[1]), largest=False)
        rows = rows.gather(1, kept)
    return rows
