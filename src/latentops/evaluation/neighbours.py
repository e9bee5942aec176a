"""Exact nearest neighbours, in blocks that fit the processor's cache.

Products of blocks in float32 say which rows are near, and of those the distances are taken from differences
in float64, because ``‖a‖² + ‖b‖² − 2ab`` has few digits left where two rows are nearly the same. Where the
bound on its rounding can't rule out that a nearer row was passed over, the products are taken in float64.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GROUP = 16
REFERENCES = 16384
PRODUCTS = 2**21
QUERIES = 1024
"""Rows of a group; the most rows, products (8 MB) and queries of the block that is in memory at a time."""

SPARE = 4
"""Candidates beyond those asked for: the farther the last of them, the more rounding it makes up for."""

UNIT = 2.0**-24
LARGEST = 1e18
"""What float32 rounds by, and the length of a row whose products with others it can hold."""


def nearest(
    reference: NDArray[np.floating], queries: NDArray[np.floating], count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The `count` rows of `reference` `[n, d]` nearest to each of `queries` `[k, d]`, and how far they are.

    Of each block of queries in turn: which rows, and their squared distances in float64, both
    `[block, count]`, nearest first.
    """
    centre = np.mean(reference, axis=0, dtype=np.float64)
    asked = torch.from_numpy(queries - centre)
    # Whole groups: the rows that fill up the last one are infinitely far from everything. In place, because
    # 60,000 images are hundreds of megabytes.
    rows, filled = len(reference), -len(reference) % GROUP
    known = torch.zeros(rows + filled, reference.shape[1] + 1, dtype=torch.float64)
    places, halves = known[:, :-1], known[:, -1]
    np.subtract(reference, centre, out=places.numpy()[:rows])
    halves.copy_((places**2).sum(1) / 2)
    halves[rows:] = torch.inf
    searched, candidates = known.float(), min(count + SPARE, rows)
    if not torch.isfinite(searched[:rows]).all():
        searched = known
    size = min(QUERIES, PRODUCTS // min(len(known), REFERENCES))
    for start in range(0, len(asked), size):
        block = asked[start : start + size]
        near, farthest = _nearest(searched, block.to(searched.dtype), candidates)
        near, squares = _ordered(places, block, near, count)
        if candidates < rows:
            unsure = ~_certain(block, squares[:, -1], farthest.double())
            if unsure.any():
                again, _ = _nearest(known, block[unsure], candidates)
                near[unsure], squares[unsure] = _ordered(places, block[unsure], again, count)
        yield near, squares


def _ordered(places: Tensor, block: Tensor, near: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` nearest of the candidates `near` `[k, c]`, and their squared distances from `block`."""
    squares, order = (places[near] - block[:, None]).square_().sum(2).topk(count, largest=False)
    return near.gather(1, order), squares


def _certain(block: Tensor, squares: Tensor, farthest: Tensor) -> Tensor:
    """Of which rows of `block` `[k, d]` no nearer row can have been passed over: `[k]`.

    Those found lie within `squares` `[k]`, and of every other one the product came out at `farthest` `[k]` or
    more. A nearer row is at most as long as that distance and the block's row together, which bounds what
    float32 does to its product (Higham 2002, eq. 3.5), and that would still have come out below.
    """
    lengths = block.norm(dim=1)
    longest = lengths + squares.sqrt()
    rounding = (block.shape[1] + 4) * UNIT * longest * (lengths + longest / 2)
    return (squares == 0) | (longest < LARGEST) & (farthest >= (squares - lengths**2) / 2 + rounding)


def _nearest(known: Tensor, block: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The rows `[k, count]` of `known` nearest to each of `block` `[k, d]`, by ``‖b‖² / 2 − ab``.

    And that of the farthest of them `[k]`. `known` `[n, d + 1]` are rows b and their ``‖b‖² / 2``. Of every
    group of rows the smallest is far cheaper to get than an order of all, and the `count` groups with the
    smallest ones hold the `count` smallest of all.
    """
    factors = torch.nn.functional.pad(-block, (0, 1), value=1.0).T
    least = block.new_empty(len(block), 0)
    rows = torch.empty(len(block), 0, dtype=torch.int64)
    each = torch.arange(len(block))[:, None]
    for start in range(0, len(known), REFERENCES):
        groups = (known[start : start + REFERENCES] @ factors).view(-1, GROUP, len(block))
        minima = groups.amin(1).T
        kept = minima.topk(min(count, minima.shape[1]), largest=False).indices
        members = start + kept[:, :, None] * GROUP + torch.arange(GROUP)
        least = torch.cat([least, groups[kept, :, each].flatten(1)], dim=1)
        rows = torch.cat([rows, members.flatten(1)], dim=1)
        least, kept = least.topk(min(count, least.shape[1]), largest=False)
        rows = rows.gather(1, kept)
    return rows, least[:, -1]
