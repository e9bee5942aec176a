"""How likely the data is under a reconstruction, in nats."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from latentops.architectures.stack import Batch
from latentops.config import LikelihoodName
from latentops.errors import LikelihoodError

VARIANCE_RATE = 10.0
"""The variance has one number to learn and far to go: it moves this many times as fast as the weights."""


class GaussianLikelihood(nn.Module):
    """A normal density around the decoder's output, with one learned variance a member.

    It starts at the data's own (`spread` squared), where a reconstruction explains nothing yet. The negative
    log-likelihood of a sample is the sum over its valid values of ``(log(2πσ²) + (x - x̂)² / σ²) / 2``, so
    that a penalty of one nat weighs what the books say (Rybkin et al. 2021, "Simple and effective VAE
    training with calibrated decoders").

    The parameter is ``log σ² / VARIANCE_RATE``: Adam's steps are of the same size for every parameter.
    """

    def __init__(self, members: int, spread: float) -> None:
        super().__init__()
        self.scaled_log_variance = nn.Parameter(torch.full((members,), 2 * math.log(spread) / VARIANCE_RATE))

    @property
    def log_variance(self) -> Float[Tensor, " members"]:
        """``log σ²``, learned."""
        return VARIANCE_RATE * self.scaled_log_variance

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected values: the decoder's outputs themselves."""
        return outputs

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        mask = None if batch.lengths is None else batch.mask
        nats: Tensor = _GaussianNats.apply(  # type: ignore[no-untyped-call]
            outputs, self.scaled_log_variance, batch.values, mask, batch.valid
        )
        return nats


class _GaussianNats(torch.autograd.Function):
    """`forward(outputs, scaled_log_variance, values, mask, valid)`: `[members]`, as one node.

    `valid` is how many valid values a sample has on average.
    """

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        scaled_log_variance: Tensor,
        values: Tensor,
        mask: Tensor | None,
        valid: Tensor | float,
    ) -> Tensor:
        difference = values - outputs  # laid out as the values are, whatever the number of members
        if mask is not None:
            difference.mul_(mask)
        weight = (scaled_log_variance * -VARIANCE_RATE).exp_().mul_(0.5 / outputs.shape[1])
        squares = torch.linalg.vector_norm(difference.flatten(1), dim=1).square_().mul_(weight)
        ctx.save_for_backward(difference, weight, squares)
        ctx.valid = valid
        constant = 0.5 * math.log(2 * math.pi) * valid
        return scaled_log_variance * (0.5 * VARIANCE_RATE * valid) + squares + constant

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        difference, weight, squares = ctx.saved_tensors
        factor = (gradient * weight).mul_(-2).view(-1, *(1,) * (difference.ndim - 1))
        by_variance = None
        if ctx.needs_input_grad[1]:
            by_variance = VARIANCE_RATE * gradient * (0.5 * ctx.valid - squares)
        return difference * factor, by_variance, None, None, None


class BernoulliLikelihood(nn.Module):
    """Binary cross-entropy: the decoder's outputs are logits of values in [0, 1].

    The negative log-likelihood of a sample is the sum over its valid values of
    ``-x log p - (1 - x) log(1 - p)`` (Kingma & Welling 2014, appendix C.1).
    """

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected values: the logits' probabilities."""
        return torch.sigmoid(outputs)

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        nats = functional.binary_cross_entropy_with_logits(outputs, batch.values, reduction="none")
        return (nats * batch.mask).flatten(2).sum(-1).mean(-1)


Likelihood = GaussianLikelihood | BernoulliLikelihood


def build_likelihood(name: LikelihoodName, members: int, spread: float) -> Likelihood:
    """The likelihood called `name` for a stack of `members` on data of standard deviation `spread`."""
    return GaussianLikelihood(members, spread) if name == "gaussian" else BernoulliLikelihood()


def check_range(name: LikelihoodName, bounds: tuple[float, float] | None) -> None:
    """Raise `LikelihoodError` where `name` can't take prepared values within `bounds` (None: anywhere)."""
    if name == "bernoulli" and (bounds is None or bounds[0] < 0 or bounds[1] > 1):
        found = "unbounded values" if bounds is None else f"values in [{bounds[0]:g}, {bounds[1]:g}]"
        raise LikelihoodError(
            f"likelihood: bernoulli takes values in [0, 1], but the prepared data has {found}; "
            "use likelihood: gaussian, or scaling: range with a source.value_range"
        )


def squared_residuals(batch: Batch, reconstruction: Tensor) -> Float[Tensor, "members batch values"]:
    """Squared difference of each value, NaN where it is padding."""
    residuals = (batch.values - reconstruction) ** 2
    return residuals.masked_fill(batch.mask == 0, math.nan).flatten(2)


def mean_squared_error(batch: Batch, reconstruction: Tensor) -> Float[Tensor, "members batch"]:
    """Mean over each sample's valid values of the squared difference."""
    mask = batch.mask.expand_as(batch.values)
    squares = ((batch.values - reconstruction) ** 2 * mask).flatten(2).sum(-1)
    return squares / mask.flatten(2).sum(-1)
