"""Ridge regression on standardised codes (Hoerl & Kennard 1970): a number read from a code.

Minimises ``mean squared error + strength · ‖w‖²`` of the target, standardised as codes are; the bias is free.
One eigendecomposition of the Gram matrix, of the columns or of the rows, whichever are fewer, solves it for
every strength. Sums are float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from latentops.evaluation.probe import BLOCK, Standard


@dataclass(frozen=True)
class Ridge:
    """What a code is read by: the strength chosen, weights, and how codes and target were standardised."""

    strength: float
    weights: Float[Tensor, " latent"]
    standard: Standard
    mean: float
    scale: float

    def predict(self, codes: Float[Tensor, "rows latent"]) -> NDArray[np.float64]:
        """The target of each row `[rows]`, in its own units."""
        told = self.standard.apply(codes).double() @ self.weights
        return np.asarray(self.mean + self.scale * told.numpy())


def fit_ridge(
    train: Float[Tensor, "train latent"],
    train_targets: NDArray[np.float64],
    stop: Float[Tensor, "stop latent"],
    stop_targets: NDArray[np.float64],
    strengths: Sequence[float],
) -> Ridge:
    """Fit on `train` for every strength, choose by squared error on `stop` (ties: the stronger).

    Codes and targets are standardised with the training rows' mean and deviation, 1 in place of 0.
    """
    standard = Standard.of(train)
    mean, scale = float(train_targets.mean()), float(train_targets.std()) or 1.0
    best, error = None, np.inf
    targets = torch.from_numpy((train_targets - mean) / scale)
    for strength, weights in ridge_regression(standard.apply(train), targets, strengths):
        fitted = Ridge(strength, weights, standard, mean, scale)
        missed = float(((stop_targets - fitted.predict(stop)) ** 2).mean())
        if best is None or missed < error:
            best, error = fitted, missed
    if best is None:
        raise ValueError("ridge regression needs a strength")
    return best


def ridge_regression(
    inputs: Float[Tensor, "rows features"], targets: Float[Tensor, " rows"], strengths: Sequence[float]
) -> list[tuple[float, Float[Tensor, " features"]]]:
    """Each strength, the strongest first, with the weights of its fit; `inputs` and `targets` are centred."""
    rows, features = inputs.shape
    if features <= rows:
        gram = torch.zeros(features, features, dtype=torch.float64)
        told = torch.zeros(features, dtype=torch.float64)
        for block, own in zip(torch.split(inputs, BLOCK), torch.split(targets, BLOCK), strict=True):
            gram += block.T.double() @ block.double()
            told += block.T.double() @ own
    else:
        gram, told = inputs.double() @ inputs.T.double(), targets
    values, vectors = torch.linalg.eigh(gram / rows)
    turned = vectors.T @ told / rows
    found = []
    for strength in sorted(strengths, reverse=True):
        weights = vectors @ (turned / (values.clamp_min(0) + strength))
        found.append((strength, weights if features <= rows else inputs.T.double() @ weights))
    return found


def unexplained(predicted: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row of `predicted` `[…, rows]` ``(y − ŷ)² / var(y)``; R² is what their mean is short of 1."""
    return np.asarray((targets - predicted) ** 2 / targets.var())
