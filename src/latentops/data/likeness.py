"""Pictures that look alike: 64 bits of perceptual hash, and the pairs of which few bits differ.

The hash is the sign of a picture's lowest frequencies about their median (Zauner 2010, "Implementation and
benchmarking of perceptual image hash functions", §3.2.1): it survives another size, exposure or compression.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIDE = 8


def perceptual_hashes(images: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Of `images` [n, C, H, W] the 64 bits [n] of each; those of a smaller picture are filled up with 0."""
    from scipy.fft import dctn

    grey = np.nan_to_num(images).mean(axis=1, dtype=np.float64)
    lowest = dctn(grey, axes=(1, 2), norm="ortho")[:, :SIDE, :SIDE]
    flat = lowest.reshape(len(images), -1)
    # The very lowest is the picture's brightness, not its looks.
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    padded = np.zeros((len(images), SIDE * SIDE), dtype=bool)
    padded[:, : bits.shape[1]] = bits
    hashes: NDArray[np.uint64] = np.packbits(padded, axis=1).view(">u8").ravel().astype(np.uint64)
    return hashes


def alike(hashes: NDArray[np.uint64], distance: int) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose `hashes` [n] differ in no more than `distance` bits, or enough of them to join all.

    Two hashes that differ in at most d bits agree in one of d + 1 parts of them: only those are compared.
    """
    kept, first, back = np.unique(hashes, return_index=True, return_inverse=True)
    for row, at in enumerate(back.ravel().tolist()):
        if first[at] != row:
            yield int(first[at]), row
    edges = np.linspace(0, 64, distance + 2).astype(int)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = (kept >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order], prepend=part[order][:1] + np.uint64(1)))
        for bucket in np.split(order, starts[1:]) if len(order) else []:
            for one, other in _close(bucket, kept, distance):
                yield int(first[one]), int(first[other])


def _close(bucket: NDArray[np.int64], hashes: NDArray[np.uint64], distance: int) -> Iterator[tuple[int, int]]:
    """The pairs of a `bucket` that are close, a row of them at a time."""
    found = hashes[bucket]
    for at, row in enumerate(bucket[:-1].tolist()):
        near = np.bitwise_count(found[at + 1 :] ^ found[at]) <= distance
        for other in bucket[at + 1 :][near].tolist():
            yield row, other
