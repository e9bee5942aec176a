"""Few-label probes: what a classifier makes of a code that has learned it from a few rows of each class.

Regularised linear discriminants (Friedman 1989, "Regularized discriminant analysis", with one covariance for
all classes): the covariance within the classes plus `strength` on its diagonal, all classes equally likely.
With more strength they turn into the nearest class mean. Each is a closed form, so that hundreds of them, for
every draw, fold and strength, cost what one logistic regression on all rows does.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

FOLDS = 5
"""Parts of a draw that a strength is tried on in turn, at most; each has the same share of every class."""


def draw(
    labels: NDArray[np.integer], classes: int, count: int, draws: int, seed: int
) -> NDArray[np.int64] | None:
    """`count` rows of each class, `[draws, classes, count]`; None where any has fewer among `labels` `[n]`.

    They depend on nothing but the labels and the seed: whoever is compared learns from the same rows.
    """
    random = np.random.default_rng([seed, count])
    rows = [np.flatnonzero(labels == each) for each in range(classes)]
    if min(map(len, rows)) < count:
        return None
    return np.stack(
        [np.stack([random.choice(each, count, replace=False) for each in rows]) for _ in range(draws)]
    )


def few_label_classes(
    train: NDArray[np.floating],
    drawn: NDArray[np.int64],
    test: NDArray[np.floating],
    strengths: Sequence[float],
) -> NDArray[np.int64]:
    """Classes `[draws, k]` of standardised codes `test` `[k, d]`, as each draw of `train` `[n, d]` has them.

    `drawn` `[draws, classes, count]` are rows of `train`. The strength is the one that is right most often on
    the draw's rows by cross-validation, the stronger where they tie.
    """
    asked = torch.from_numpy(test).float()
    found = []
    for rows in drawn:
        weights, bias = _fit(torch.from_numpy(train[rows]).double(), sorted(strengths, reverse=True))
        found.append(torch.addmm(bias.float(), asked, weights.float().T).argmax(1))
    return torch.stack(found).numpy()


def _fit(
    rows: Float[Tensor, "classes count d"], strengths: Sequence[float]
) -> tuple[Float[Tensor, "classes d"], Float[Tensor, " classes"]]:
    """One draw's discriminants, with the strength that cross-validation chooses; the first where they tie."""
    classes, count, wide = rows.shape
    basis = None
    if wide > classes * count:
        # All that the rows span: beyond it the covariance is the strength alone, and the means have no part.
        basis = torch.linalg.qr(rows.flatten(0, 1).T).Q
        rows = rows @ basis
    folds = torch.arange(count) % min(FOLDS, count)
    kept = torch.stack([folds != fold for fold in range(min(FOLDS, count))])
    weights, bias = _discriminants(rows, torch.cat([kept, torch.ones(1, count, dtype=torch.bool)]), strengths)
    truth = torch.arange(classes)[:, None]
    hits = torch.zeros(len(strengths), dtype=torch.int64)
    for fold, known in enumerate(kept):
        scores = torch.einsum("cnd,skd->scnk", rows[:, ~known], weights[:, fold]) + bias[:, fold, None, None]
        hits += (scores.argmax(-1) == truth).sum((1, 2))
    chosen = int(hits.argmax())
    final = weights[chosen, -1]
    return final if basis is None else final @ basis.T, bias[chosen, -1]


def _discriminants(
    rows: Float[Tensor, "classes count d"], kept: Bool[Tensor, "sets count"], strengths: Sequence[float]
) -> tuple[Float[Tensor, "strengths sets classes d"], Float[Tensor, "strengths sets classes"]]:
    """For each strength and each of the sets of rows that are `kept` of every class."""
    share = kept.double() / kept.sum(1, keepdim=True)
    means = torch.einsum("sn,cnd->scd", share, rows)
    centred = (rows - means[:, :, None]) * share.sqrt()[:, None, :, None]
    flat = centred.flatten(1, 2)
    within = flat.mT @ flat / len(rows)
    ridge = torch.tensor(strengths, dtype=torch.float64)[:, None, None, None] * torch.eye(rows.shape[-1])
    factors = torch.linalg.cholesky(within + ridge)
    weights = torch.cholesky_solve(means.mT.expand(len(strengths), -1, -1, -1), factors).mT
    return weights, -(weights * means).sum(-1) / 2
