"""Health of a code, whatever made it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.data.prepared import Samples
from latentops.errors import DataError
from latentops.evaluation.statistics import auroc
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.copying import copying


def effective_rank(codes: NDArray[np.floating]) -> float:
    """Exponential of the entropy of the covariance's normalised singular values (Roy & Vetterli 2007, eq. 2).

    For codes `[n, d]`: between 1 and d; 0 where the code is constant.
    """
    centred = np.asarray(codes, dtype=np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    total = values.sum()
    if total <= 1e-12:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def copy_score(trained: Trained, samples: Samples) -> dict[str, list[float]]:
    """How much a model of any variant copies, one number a member (`latentops.variants.copying`).

    `copy_score` is the R² of its reconstruction of `samples` with each column permuted over them, clipped at
    0; `explained` is the R² on `samples` themselves.
    """
    resident = Resident.put(samples, torch.device("cpu"))
    with torch.no_grad():
        found = copying(trained.model, resident.shared(len(trained.members)))
    return {name: numbers.tolist() for name, numbers in found.items()}


def reconstruction_cost(errors: Sequence[float], plain: Sequence[float]) -> list[float]:
    """What a demand on the code costs in reconstruction, seed by seed: its error over a plain model's."""
    return [error / other for error, other in zip(errors, plain, strict=True)]


def best_unit_auroc(
    codes: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How well a single unit tells a class from the others, at best: is a unit interpretable?

    For codes `[n, units]` and class indices `[n]`: of each class the highest AUROC of a unit, or of its
    negative, 0.5 to 1, and which unit that is. NaN for a class without rows; its unit is 0.
    """
    classes = range(int(labels.max()) + 1)
    table = np.array([[auroc(unit, labels == label) for unit in codes.T] for label in classes])
    either = np.maximum(table, 1 - table)
    units = np.nan_to_num(either).argmax(axis=1)
    return np.take_along_axis(either, units[:, None], axis=1)[:, 0], units


def with_irrelevant(samples: Samples, columns: int, seed: int) -> Samples:
    """A table with so many more columns, of standard normal numbers that have nothing to do with its rows.

    Prepared columns have about that spread. Every split needs a `seed` of its own. Raises `DataError` where
    the samples aren't a table.
    """
    if samples.values.ndim != 2:
        raise DataError("irrelevant columns are added to tables; these samples are images or sequences")
    noise = np.random.default_rng(seed).normal(size=(len(samples), columns)).astype(np.float32)
    return replace(samples, values=np.concatenate([samples.values, noise], axis=1))
