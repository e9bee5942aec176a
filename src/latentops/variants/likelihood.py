"""How likely the data is under a reconstruction, in nats."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from latentops.architectures import Shape
from latentops.architectures.columns import Columns
from latentops.architectures.stack import Batch
from latentops.config import LikelihoodName, LikelihoodSettings
from latentops.errors import LikelihoodError

VARIANCE_RATE = 10.0
"""The variance has one number to learn and far to go: it moves this many times as fast as the weights."""

HUBER_THRESHOLD = 1.345
"""Deviations from which on a residual counts by its size alone; 95 % as efficient where all is normal."""


class Likelihood(nn.Module):
    """What a decoder's outputs say of values: how probable these are, and which were to be expected.

    Of a table that isn't all numbers `table` says which entries belong together.
    """

    table: Columns | None = None

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected values: the decoder's outputs themselves."""
        return outputs

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        raise NotImplementedError

    def residuals(self, batch: Batch, outputs: Tensor) -> Float[Tensor, "members batch ..."]:
        """By how much the outputs miss each value; what is in padding means nothing."""
        return self.errors(batch.values, self.mean(outputs))

    def errors(self, values: Tensor, others: Tensor) -> Tensor:
        """How unlike two values of a kind are: the square of their difference."""
        return (values - others) ** 2

    def weights(self, batch: Batch) -> Float[Tensor, "members batch ..."]:
        """1 for each value that is there to be held to, 0 in padding and where one is missing."""
        return batch.mask.expand_as(batch.values)

    def centre(self, batch: Batch) -> Float[Tensor, "members 1 ..."]:
        """The value of each column that has the least error over the batch's valid ones: their mean."""
        mask = self.weights(batch)
        return (batch.values * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)

    def mean_error(self, batch: Batch, others: Tensor) -> Float[Tensor, "members batch"]:
        """Mean over each sample's valid values of how unlike `others` they are; 0 where there are none."""
        mask = self.weights(batch)
        errors = (self.errors(batch.values, others) * mask).flatten(2).sum(-1)
        return errors / mask.flatten(2).sum(-1).clamp_min(1)


class GaussianLikelihood(Likelihood):
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

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        mask = None if batch.lengths is None else batch.mask
        nats: Tensor = _GaussianNats.apply(  # type: ignore[no-untyped-call]
            outputs, self.scaled_log_variance, batch.values, mask, batch.valid
        )
        return nats


class FixedGaussianLikelihood(Likelihood):
    """A normal density of known `variance`: squared error over ``2σ²`` and a constant.

    At variance 1/2 it is the sum of squares, but for the constant; the smaller it is, the less a penalty in
    nats weighs beside it.
    """

    def __init__(self, variance: float) -> None:
        super().__init__()
        self.scaled_log_variance = math.log(variance) / VARIANCE_RATE

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        fixed = outputs.new_full((len(outputs),), self.scaled_log_variance)
        mask = None if batch.lengths is None else batch.mask
        nats: Tensor = _GaussianNats.apply(  # type: ignore[no-untyped-call]
            outputs, fixed, batch.values, mask, batch.valid
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


class BernoulliLikelihood(Likelihood):
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


class HuberLikelihood(GaussianLikelihood):
    """Normal in the middle, exponential in the tails: large residuals count by their size, not its square.

    With ``u = (x - x̂) / σ`` the density is ``exp(-ρ(u)) / (σ Z)``, ``ρ(u) = u²/2`` up to the threshold k and
    ``k|u| - k²/2`` beyond, ``Z = √(2π) (2Φ(k) - 1) + 2 exp(-k²/2) / k``: the least favourable one to a normal
    with some of its mass displaced (Huber 1964, "Robust estimation of a location parameter", §5). Its
    normaliser makes it nats, and lets σ be learned as the Gaussian's is, one a member.
    """

    def __init__(self, members: int, spread: float, threshold: float = HUBER_THRESHOLD) -> None:
        super().__init__(members, spread)
        self.threshold = threshold
        normal = math.sqrt(2 * math.pi) * math.erf(threshold / math.sqrt(2))
        self.log_normaliser = math.log(normal + 2 * math.exp(-(threshold**2) / 2) / threshold)

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid values and averaged over the batch."""
        precision = torch.exp(-0.5 * self.log_variance).view(-1, *(1,) * (outputs.ndim - 1))
        sizes = ((batch.values - outputs) * batch.mask).abs() * precision
        inner = sizes.clamp(max=self.threshold)
        losses = (inner * (sizes - 0.5 * inner)).flatten(2).sum(-1).mean(-1)
        return losses + batch.valid * (0.5 * self.log_variance + self.log_normaliser)


class MixedLikelihood(Likelihood):
    """A table of numbers and categories: a normal density for the numbers, a softmax for each category.

    `columns` are the columns' widths and `optional` which have flags, as `Columns` has them. The decoder's
    outputs are means of the numbers and logits of the categories; the negative log-likelihood of a sample is
    the Gaussian's of its numbers plus ``-Σ_c x_c log p_c`` of each category's indicators x. A value that is
    missing costs nothing, and so does the flag that says so: it is told, not reconstructed.
    """

    def __init__(
        self, members: int, spread: float, columns: Sequence[int], optional: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.table: Columns = Columns(tuple(columns), tuple(optional))
        self.numbers = GaussianLikelihood(members, spread) if 1 in columns else None

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected values, those of missing ones too: of categories the probabilities, of flags 1."""
        parts, flags = self.table.split(outputs)
        expected = [part if part.shape[-1] == 1 else torch.softmax(part, -1) for part in parts]
        return self.table.join(expected, {at: torch.ones_like(flag) for at, flag in flags.items()})

    def weights(self, batch: Batch) -> Float[Tensor, "members batch entries"]:
        """1 for each entry of a value that is there; of those of a category all, of flags none."""
        return self.table.present(batch.values)

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over columns and averaged over the batch."""
        nats = outputs.new_zeros(len(outputs))
        (made, _), (given, flags) = self.table.split(outputs), self.table.split(batch.values)
        means, numbers, there = [], [], []
        for at, (part, values) in enumerate(zip(made, given, strict=True)):
            if part.shape[-1] == 1:
                means.append(part)
                numbers.append(values)
                there.append(flags.get(at, torch.ones_like(values)))
            else:
                nats = nats - (values * torch.log_softmax(part, -1)).sum(-1).mean(-1)
        if self.numbers is None:
            return nats
        only, expected = batch.with_values(torch.cat(numbers, dim=-1)), torch.cat(means, dim=-1)
        if not flags:
            return nats + self.numbers.negative_log_likelihood(only, expected)
        mask = torch.cat(there, dim=-1)
        gaussian: Tensor = _GaussianNats.apply(  # type: ignore[no-untyped-call]
            expected, self.numbers.scaled_log_variance, only.values, mask, mask.sum(-1).mean(-1)
        )
        return nats + gaussian


class CategoricalLikelihood(Likelihood):
    """A softmax over the vocabulary at each step: outputs are the logits of all tokens, values their ids.

    The negative log-likelihood of a sample is ``-Σ_t log p_t(x_t)`` over its valid steps.
    """

    def mean(self, outputs: Tensor) -> Tensor:
        """The most probable token of each step: its id, as the values have it."""
        return outputs.argmax(-1, keepdim=True).to(outputs.dtype)

    def negative_log_likelihood(self, batch: Batch, outputs: Tensor) -> Float[Tensor, " members"]:
        """Nats a sample, summed over valid steps and averaged over the batch."""
        return (self.residuals(batch, outputs) * batch.mask).flatten(2).sum(-1).mean(-1)

    def residuals(self, batch: Batch, outputs: Tensor) -> Float[Tensor, "members batch steps 1"]:
        """The nats of each token."""
        ids = (batch.values * batch.mask).long()
        nats: Tensor = _TokenNats.apply(outputs, ids)  # type: ignore[no-untyped-call]
        return nats

    def errors(self, values: Tensor, others: Tensor) -> Tensor:
        """1 where they are different tokens, else 0."""
        return (values != others).to(values.dtype)

    def centre(self, batch: Batch) -> Float[Tensor, "members 1 steps 1"]:
        """The most frequent token of each step."""
        ids = (batch.values * batch.mask).long()
        members, _, steps, _ = ids.shape
        counts = batch.values.new_zeros(members, int(ids.max()) + 1, steps, 1)
        counts.scatter_add_(1, ids, batch.mask)
        return counts.argmax(1, keepdim=True).to(batch.values.dtype)


class _TokenNats(torch.autograd.Function):
    """`forward(logits, ids)`: ``-log p`` of each token `[…, 1]`, as one node.

    Logits of a whole vocabulary are large: on the way back there is one more tensor of their size, not two.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> Tensor:
        logs = torch.log_softmax(logits, -1)
        ctx.save_for_backward(logs, ids)
        return -logs.gather(-1, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        logs, ids = ctx.saved_tensors
        return logs.exp().mul_(gradient).scatter_add_(-1, ids, -gradient), None


def build_likelihood(chosen: LikelihoodSettings | LikelihoodName, members: int, shape: Shape) -> Likelihood:
    """The likelihood that was chosen for a stack of `members` on data of that shape and spread."""
    settings = LikelihoodSettings.model_validate(chosen)
    if settings.name == "bernoulli":
        return BernoulliLikelihood()
    if settings.name == "huber":
        return HuberLikelihood(members, shape.spread, settings.threshold or HUBER_THRESHOLD)
    if settings.name == "categorical":
        return CategoricalLikelihood()
    if settings.name == "mixed":
        return MixedLikelihood(members, shape.spread, shape.columns, shape.optional)
    if settings.variance is not None:
        return FixedGaussianLikelihood(settings.variance)
    return GaussianLikelihood(members, shape.spread)


def check_likelihood(name: LikelihoodName, shape: Shape) -> None:
    """Raise `LikelihoodError` where prepared data of that `shape` isn't what `name` is the density of."""
    bounds, columns = shape.bounds, shape.columns
    if shape.vocabulary is not None and name != "categorical":
        raise LikelihoodError(
            f"likelihood: {name} is of real values, but the prepared data holds ids of {shape.vocabulary} "
            "tokens; use likelihood: categorical"
        )
    if shape.vocabulary is None and name == "categorical":
        raise LikelihoodError(
            "likelihood: categorical is of tokens, but the prepared data holds real values; use likelihood: "
            "gaussian, or mixed for a table with categories"
        )
    if shape.optional and name != "mixed":
        raise LikelihoodError(
            f"likelihood: {name} is of values that are all there, but {len(shape.optional)} of the prepared "
            "data's columns may be missing; use likelihood: mixed"
        )
    if name == "bernoulli" and (bounds is None or bounds[0] < 0 or bounds[1] > 1):
        found = "unbounded values" if bounds is None else f"values in [{bounds[0]:g}, {bounds[1]:g}]"
        raise LikelihoodError(
            f"likelihood: bernoulli takes values in [0, 1], but the prepared data has {found}; "
            "use likelihood: gaussian, or scaling: range with a source.value_range"
        )
    if name != "mixed":
        return
    if not columns:
        raise LikelihoodError(
            "likelihood: mixed is for tables of numbers and categories, but the prepared data names no "
            "categorical column; use likelihood: gaussian"
        )
    if shape.sizes != (Columns(columns, shape.optional).entries,) or min(columns) < 1:
        raise LikelihoodError(
            f"likelihood: mixed: columns of widths {', '.join(map(str, columns))} don't make up rows of "
            f"shape {list(shape.sizes)}; prepare the data again"
        )
