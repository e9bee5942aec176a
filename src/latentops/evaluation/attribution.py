"""Why a row has its score: how far each value is missed, and what each adds to the score.

Two answers, for each column of a table, each pixel of an image, each value of a sequence:

- its *residual*: its part in the weighted reconstruction error whose logarithm is scored;
- its *attribution*: the gradient of the combined score with respect to the input, integrated along the
  straight way from a reference to the row (integrated gradients: Sundararajan et al. 2017, "Axiomatic
  attribution for deep networks"). Unlike a residual it also says what moved the code, it blames the value
  that is odd and not those that are reconstructed badly because of it, and it is complete: the attributions
  add up to the difference between the row's score and the reference's.

The reference is the nearest training row as the model decodes it: what this row would be if it were like the
nearest normal one.

Between tokens there is no way, and their residuals are nats; they have these alone.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.data.prepared import Description, Samples
from latentops.evaluation.anomaly import SMALLEST, Scorer
from latentops.training.members import Resident
from latentops.training.trained import Trained

NODES = 64
"""Places at which the gradient is taken, those of the Gauss-Legendre quadrature."""

ROWS = 256
PAIRS = 2**22
"""Rows that are worked on at once, and their pairs with the codes of the scorer, 32 MB of distances."""


@dataclass(frozen=True)
class Attribution:
    """Of n rows where their scores come from.

    `residual` and `attribution` are `[n, *places]`, a place for each column of a table, pixel of an image
    (the sum over its channels) or value of a sequence, 0 in padding and where a value is missing. Residuals
    are those of the reconstruction, squared (of tokens in nats), over their usual size and the number of
    valid values: they add up to the weighted reconstruction error, which is about 1 of training rows.
    Attributions add up to `score` less `start` `[n]`, the score at the reference; of tokens there are none.
    `nearest` are the nearest training rows as they are decoded, in prepared units: with a value for what is
    missing too.
    """

    score: NDArray[np.float64]
    start: NDArray[np.float64]
    residual: NDArray[np.float64]
    attribution: NDArray[np.float64] | None
    nearest: Samples


def places(description: Description) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """The place of each of a prepared row's values, and the shape of all places.

    A category's indicators, and a number and its flag, have one place, that of their column.
    """
    shape = description.shape
    if description.columns:
        columns = np.repeat(np.arange(len(description.columns)), description.columns)
        return np.concatenate([columns, np.array(description.optional, np.int64)]), (
            len(description.columns),
        )
    if description.kind == "image":
        return np.tile(np.arange(shape[1] * shape[2]), shape[0]), shape[1:]
    return np.arange(int(np.prod(shape))), shape


def attribute(member: Trained, scorer: Scorer, samples: Samples) -> Attribution:
    """Where the combined score of each row of `samples` comes from, as `member`, a stack of one, has it."""
    place, shape = places(member.description)
    scored = Scored(member, scorer, torch.from_numpy(place))
    resident = Resident.put(samples, torch.device("cpu"))
    size = max(1, min(ROWS, PAIRS // len(scorer.codes)))
    found = [
        scored.explained(resident.shared(1, slice(first, first + size)))
        for first in range(0, max(len(samples), 1), size)
    ]
    score, start, residual, attribution, nearest = (
        torch.cat(each).numpy() for each in zip(*found, strict=True)
    )
    return Attribution(
        score,
        start,
        residual.reshape(-1, *shape),
        None if member.description.vocabulary else attribution.reshape(-1, *shape),
        replace(samples, values=nearest),
    )


class Scored:
    """`Scorer.score` of one member in torch: the combined score of inputs, with its gradient.

    `place` says which of the places each value has.
    """

    def __init__(self, member: Trained, scorer: Scorer, place: Int[Tensor, " values"]) -> None:
        self.model, self.scorer, self.place = member.model, scorer, place
        self.axes = torch.from_numpy(scorer.axes)
        known = np.column_stack([np.asarray(scorer.codes, np.float64) @ scorer.axes, scorer.sizes])
        self.centre = torch.from_numpy(known.mean(axis=0))
        self.kept = torch.from_numpy(known) - self.centre
        self.weights = torch.from_numpy(1 / scorer.usual)

    def residuals(self, batch: Batch) -> Float[Tensor, "batch values"]:
        """Each value's part in the weighted mean of squared residuals."""
        squares = self.model.residuals(batch)[0].double()
        counted = ~squares.isnan()
        parts = squares.nan_to_num(nan=0.0) * self.weights
        return parts / counted.sum(1, keepdim=True).clamp_min(1)

    def near(self, at: Float[Tensor, "batch place"], count: int) -> Int[Tensor, "batch count"]:
        """Which training rows lie nearest to each place."""
        with torch.no_grad():
            return torch.cdist(at, self.kept).topk(count, largest=False).indices

    def at(self, batch: Batch) -> Float[Tensor, "batch place"]:
        """Where each row lies: its code in the inputs' units, and the size of its residual."""
        sizes = self.scorer.unit * self.residuals(batch).sum(1, keepdim=True).clamp_min(SMALLEST**2).sqrt()
        return torch.cat([self.model.encode(batch)[0].double() @ self.axes, sizes], dim=1) - self.centre

    def score(self, batch: Batch) -> Float[Tensor, " batch"]:
        """The combined score of each row."""
        at = self.at(batch)
        near = self.kept[self.near(at, max(1, min(self.scorer.neighbours, len(self.kept))))]
        return (at.unsqueeze(1) - near).square().sum(2).clamp_min(SMALLEST**2).sqrt().mean(1)

    def decoded(self, batch: Batch) -> Float[Tensor, "1 batch ..."]:
        """The training row that is nearest to each by its code, as it is decoded, zero in padding.

        Where each step has a code of its own all have that of the row.
        """
        code = torch.from_numpy(self.scorer.codes)[
            torch.cdist(self.at(batch)[:, :-1], self.kept[:, :-1]).argmin(dim=1)
        ]
        like = self.model.latent(batch)
        code = code.to(like.dtype).view(1, len(code), *(1,) * (like.ndim - 3), like.shape[-1]).expand_as(like)
        return self.model.likelihood.mean(self.model.decode(code, batch.padded)) * batch.mask

    def explained(self, batch: Batch) -> tuple[Tensor, ...]:
        """Of each row the score, that of the reference, residuals, attributions and the nearest row."""
        with torch.no_grad():
            score, nearest, parts = self.score(batch), self.decoded(batch), self.residuals(batch)
        count = int(self.place.max()) + 1
        residual = parts.new_zeros(len(parts), count).index_add_(1, self.place, parts)
        if self.model.embedding is not None:
            return score, score, residual, torch.zeros_like(residual), nearest[0]

        there = self.model.likelihood.weights(batch) != 0  # what is missing is missing all the way
        begin = torch.where(there, nearest, batch.values)

        def along(way: Float[Tensor, "batch places"]) -> Float[Tensor, " batch"]:
            share = way[:, self.place].view(batch.values.shape).to(batch.values.dtype)
            return self.score(batch.with_values(begin + share * (batch.values - begin)))

        with torch.no_grad():
            start = along(torch.zeros_like(residual))
        attribution = torch.zeros_like(residual)
        for node, weight in zip(*np.polynomial.legendre.leggauss(NODES), strict=True):
            way = torch.full_like(residual, (node + 1) / 2, requires_grad=True)
            (gradient,) = torch.autograd.grad(along(way).sum(), way)
            attribution += weight / 2 * gradient
        return score, start, residual, attribution, nearest[0]
