"""Whether a model copies: what it reconstructs of rows that keep nothing of the data but its columns."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latentops.architectures.columns import Columns
from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder
from latentops.variants.likelihood import Likelihood

ROWS = 2048
"""Rows that the copy score is taken on, at most."""


def permuted(batch: Batch, generator: Generator, table: Columns | None = None) -> Batch:
    """Each column (pixel, or one value of one time step) permuted over the samples that have it.

    Columns keep their distribution and lose one another. Padding and lengths stay; all members' rows are
    permuted alike, and in a `table` the entries of a column.
    """
    values = batch.values.flatten(2)
    valid = batch.mask.expand_as(batch.values).flatten(2)
    keys = torch.rand(values.shape[1:], generator=generator, device=values.device)
    keys = keys if table is None else table.shared(keys)
    order = torch.where(valid > 0, keys, 2.0).argsort(1)
    place = (valid.cumsum(1).long() - 1).clamp_min(0)
    moved = values.gather(1, order.gather(1, place))
    return batch.with_values(torch.where(valid > 0, moved, values).view_as(batch.values))


def explained(
    likelihood: Likelihood, batch: Batch, reconstruction: Float[Tensor, "members batch ..."]
) -> Float[Tensor, " members"]:
    """R² of the reconstruction over all valid values: 1 is exact, 0 no better than each column's mean.

    Of tokens λ, the share of the errors of naming each step's most frequent token that it avoids (Goodman &
    Kruskal 1954, "Measures of association for cross classifications", §5.1).
    NaN where no column varies: there is nothing to explain.
    """
    mask = likelihood.weights(batch)
    residual = (likelihood.errors(batch.values, reconstruction) * mask).flatten(1).sum(1)
    total = (likelihood.errors(batch.values, likelihood.centre(batch)) * mask).flatten(1).sum(1)
    squares = (batch.values**2 * mask).flatten(1).sum(1)
    return 1 - residual / total.masked_fill(total <= 1e-12 * squares, torch.nan)


def copying(model: Autoencoder, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
    """`copy_score`, and beside it `explained` of the data itself, on at most the first `ROWS` rows.

    The copy score is the R² of the reconstruction of rows whose columns are permuted independently, clipped
    at 0: a model that copies has 1 of anything, one that knows the data and nothing else has 0.
    """
    lengths = None if batch.lengths is None else batch.lengths[:, :ROWS]
    rows = Batch(batch.values[:, :ROWS], lengths)
    noise = permuted(rows, Generator(rows.values.device).manual_seed(0), model.likelihood.table)
    return {
        "copy_score": explained(model.likelihood, noise, model.reconstruct(noise)).clamp_min(0),
        "explained": explained(model.likelihood, rows, model.reconstruct(rows)),
    }
