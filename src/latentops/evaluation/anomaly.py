"""Anomaly scores from reconstruction, from the code, and from both; higher is more anomalous.

A residual counts by how large it usually is: each value's squared residual is divided by that value's mean
over the training fold, as in the likelihood of a Gaussian with a variance for each value.

The combined score has one rule for all data, fixed beforehand. A row is where its code says it is, and as far
off that as its residual is large: the code in the inputs' units and the size of the residual are one place,
and the score is the distance to the nearest places of the training fold. Far along what the model knows, far
off it, or off it where others are not: each is far from all of them. `docs/anomaly.md` reasons and measures.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.evaluation.neighbours import nearest

SCORES = ("auroc", "auroc_reconstruction", "auroc_latent")
"""The combined score, then its two parts, under the name of the metric that each is judged by."""

SMALLEST = 1e-12

NARROWEST = 1e-6
"""Least variance of a direction of the code over the largest, in the Mahalanobis distance."""

LARGEST_WEIGHT = 20.0
"""How many times the average value's weight any one value may have in the reconstruction score."""

VALUES = 2**22
"""Residuals that are worked on at once, 32 MB of them."""

EMPHASIS = 4.0
"""How many times a residual of usual size counts what the same distance along the code does."""

CALIBRATED_BY = 4096
"""Training rows that codes are brought into the inputs' units by."""


def reference_rows(rows: NDArray[Any], most: int | None) -> NDArray[Any]:
    """All of `rows` `[n, d]`, or a fixed random draw of `most` of them, in their order."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]


def neighbour_distance(
    reference: NDArray[np.floating],
    queries: NDArray[np.floating],
    neighbours: int,
    itself: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Mean Euclidean distance of each query `[k, d]` to its nearest `neighbours` in `reference` `[n, d]`.

    `itself` `[k]` says which row of the reference each query is: a row isn't its own neighbour.
    """
    skip = int(itself is not None)
    count = min(max(1, min(neighbours, len(reference) - skip)), len(reference) - skip)
    if not count:
        return np.zeros(len(queries))
    found, start = [torch.empty(0, dtype=torch.float64)], 0
    for near, squares in nearest(reference, queries, count + skip):
        if itself is not None:
            own = torch.from_numpy(itself[start : start + len(near)])
            squares[near == own[:, None]] = torch.inf
        found.append(squares.topk(count, largest=False).values.sqrt_().mean(1))
        start += len(near)
    return torch.cat(found).numpy()


def some_rows(count: int) -> NDArray[np.int64]:
    """Places of at most `CALIBRATED_BY` of `count` rows, evenly spaced."""
    most = min(CALIBRATED_BY, count)
    return np.asarray(np.arange(most) * count // max(1, most), dtype=np.int64)


def input_axes(codes: NDArray[np.floating], inputs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Axes `[d, d]` that bring codes into the inputs' units: a distance along them is one between inputs.

    It is that of the inputs which linear regression tells from the codes; from codes `[m, d]` and what they
    are of, `[m, values]`. So any other coordinates of the same code give the same distances, and what of a
    code says nothing of its input counts for nothing.
    """
    centred = np.asarray(codes, dtype=np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    told = np.nan_to_num(np.asarray(inputs, dtype=np.float64))
    inverse = np.linalg.pinv(centred.T @ centred / len(centred), rcond=NARROWEST, hermitian=True)
    slopes = inverse @ (centred.T @ (told - told.mean(axis=0)) / len(centred))
    squares, axes = np.linalg.eigh(slopes @ slopes.T)
    return np.asarray(axes * np.sqrt(np.maximum(squares, 0)))


def usual_residuals(residuals: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean squared residual `[values]` over the training fold `[n, values]`.

    No value counts more than `LARGEST_WEIGHT` times the average one: a pixel that is always blank has next to
    no residual, and any ink there would outweigh all else.
    """
    sums, counts = np.zeros(residuals.shape[1]), np.zeros(residuals.shape[1], dtype=np.int64)
    for block in _blocks(residuals):
        counted = np.isfinite(block)
        sums += np.where(counted, block, 0.0).sum(axis=0, dtype=np.float64)
        counts += counted.sum(axis=0)
    usual = sums / np.maximum(counts, 1)
    return np.maximum(usual, max(float(usual.mean()) / LARGEST_WEIGHT, SMALLEST))


def weighted(residuals: NDArray[np.floating], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each row's valid values of its squared residuals `[k, values]` over the usual ones: `[k]`."""
    means = [mean_error(block.astype(np.float64) / usual) for block in _blocks(residuals)]
    return np.concatenate([np.empty(0), *means])


def mean_error(residuals: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over each row's valid values of `[k, values]`, NaN apart: `[k]`; 0 where a row has none."""
    means = residuals.mean(axis=1)
    partly = np.flatnonzero(np.isnan(means))
    if len(partly):
        known = partly[~np.isnan(residuals[partly]).all(axis=1)]
        means[partly] = 0
        means[known] = np.nanmean(residuals[known], axis=1)
    return means


def _blocks(rows: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """`rows` `[n, values]` in parts of at most `VALUES` values each, so that no copy of them all is made."""
    most = max(1, VALUES // rows.shape[1])
    return (rows[start : start + most] for start in range(0, len(rows), most))


@dataclass(frozen=True)
class Spread:
    """Where the codes of the training fold lie: their `centre` `[d]`, and a `whitening` `[d, d]` of them."""

    centre: NDArray[np.float64]
    whitening: NDArray[np.float64]

    @classmethod
    def fit(cls, codes: NDArray[np.floating]) -> "Spread":
        """From codes `[n, d]`.

        A direction in which they hardly vary counts as one with a `NARROWEST` share of the largest variance:
        that leaves rounding without weight, while a row that leaves their subspace stands out.
        """
        centre = np.asarray(np.mean(codes, axis=0, dtype=np.float64))
        centred = np.asarray(codes, dtype=np.float64) - centre
        variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        return cls(centre, axes / np.sqrt(np.maximum(variances, max(NARROWEST * variances[-1], SMALLEST))))

    def distance(self, codes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distance of codes `[k, d]` from the centre (Mahalanobis 1936): `[k]`."""
        white = (np.asarray(codes, dtype=np.float64) - self.centre) @ self.whitening
        return np.asarray(np.linalg.norm(white, axis=1))


@dataclass(frozen=True)
class Scorer:
    """Scores fitted on the training fold of one view.

    Codes kept `[n, d]`, the `sizes` `[n]` of their rows' residuals, the `axes` `[d, d]` that bring codes into
    the inputs' units, usual residuals, and the `unit` of a size: that of a row with usual residuals.
    """

    codes: NDArray[np.float32]
    sizes: NDArray[np.float32]
    axes: NDArray[np.float64]
    usual: NDArray[np.float64]
    unit: float
    neighbours: int

    @classmethod
    def fit(
        cls,
        residuals: NDArray[np.floating],
        codes: NDArray[np.floating],
        inputs: NDArray[np.floating],
        neighbours: int,
        reference: int | None = None,
    ) -> "Scorer":
        """From the training fold's squared residuals `[n, values]` (NaN in padding) and codes `[n, d]`.

        `inputs` `[m, …]` are those of the `some_rows` of them. Of the codes at most `reference` are kept, all
        of them by default.
        """
        usual = usual_residuals(residuals)
        total = float(np.mean(np.concatenate([np.nansum(each, axis=1) for each in _blocks(residuals)])))
        unit = EMPHASIS * max(total, SMALLEST) ** 0.5
        sizes = (unit * np.sqrt(weighted(residuals, usual))).astype(np.float32)
        rows = some_rows(len(codes))
        return cls(
            np.asarray(reference_rows(codes, reference), dtype=np.float32),
            reference_rows(sizes, reference),
            input_axes(codes[rows], inputs.reshape(len(rows), -1)),
            usual,
            unit,
            neighbours,
        )

    def score(
        self, residuals: NDArray[np.floating], codes: NDArray[np.floating]
    ) -> dict[str, NDArray[np.float64]]:
        """Scores `[k]`, by their `SCORES` name, for squared residuals `[k, values]` and codes `[k, d]`."""
        return {
            "auroc": self.combined(residuals, codes),
            "auroc_reconstruction": self._relative(residuals),
            "auroc_latent": neighbour_distance(self.codes, codes, self.neighbours),
        }

    def combined(self, residuals: NDArray[np.floating], codes: NDArray[np.floating]) -> NDArray[np.float64]:
        """The score of both together alone, `[k]`."""
        asked = self._places(codes, self.unit * self._relative(residuals))
        return neighbour_distance(self._places(self.codes, self.sizes), asked, self.neighbours)

    def _relative(self, residuals: NDArray[np.floating]) -> NDArray[np.float64]:
        """The size of residuals `[k, values]`, of which usual ones have about 1: `[k]`."""
        return np.asarray(np.sqrt(weighted(residuals, self.usual)))

    def _places(self, codes: NDArray[np.floating], sizes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Codes in the inputs' units, and the sizes of residuals beside them: `[n, d + 1]`."""
        return np.column_stack([np.asarray(codes, dtype=np.float64) @ self.axes, sizes])

    def state(self) -> dict[str, NDArray[Any]]:
        """Plain arrays, from which `from_state` makes the same scorer again."""
        return {
            "codes": self.codes,
            "sizes": self.sizes,
            "axes": self.axes,
            "usual": self.usual,
            "unit": np.array([self.unit], dtype=np.float64),
            "neighbours": np.array([self.neighbours], dtype=np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Scorer":
        """The scorer whose `state` this is."""
        return cls(
            state["codes"],
            state["sizes"],
            state["axes"],
            state["usual"],
            float(state["unit"][0]),
            int(state["neighbours"][0]),
        )
