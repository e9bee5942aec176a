"""Affine layers of a stack, and the perceptron they make, differentiated as one node.

A small model spends most of a step on the bookkeeping of automatic differentiation, a large one on copying
gradients to where the optimiser reads them. So a perceptron is one node whatever its depth, and its weights'
gradients are accumulated in place by the matrix product that makes them, as Megatron-LM does (Shoeybi et al.
2019, "gradient accumulation fusion").
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable

from latentops.architectures.activations import ACTIVATIONS, ELU, Activation
from latentops.architectures.stack import uniform
from latentops.config import ActivationName


class Linear(nn.Module):
    """An affine layer a member: `[members, batch, inputs]` to `[members, batch, outputs]`."""

    def __init__(self, inputs: int, outputs: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = uniform((inputs, outputs), math.sqrt(3) * bound, generators)
        self.bias = uniform((1, outputs), bound, generators)

    def forward(
        self, inputs: Float[Tensor, "members batch inputs"]
    ) -> Float[Tensor, "members batch outputs"]:
        """Batched matrix product over the member axis."""
        return _apply(inputs, (self.weight, self.bias))


class Projection(nn.Module):
    """A linear layer a member, without bias: `[members, batch, inputs]` to `[members, batch, outputs]`."""

    def __init__(self, inputs: int, outputs: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.weight = uniform((inputs, outputs), math.sqrt(3 / inputs), generators)

    def forward(
        self, inputs: Float[Tensor, "members batch inputs"]
    ) -> Float[Tensor, "members batch outputs"]:
        """Batched matrix product over the member axis."""
        return torch.bmm(inputs, self.weight)


class Perceptron(nn.ModuleList):
    """Affine layers of the given `widths` with an activation between them."""

    def __init__(
        self, widths: Sequence[int], generators: Sequence[Generator], activation: ActivationName = "elu"
    ) -> None:
        super().__init__(Linear(before, after, generators) for before, after in pairwise(widths))
        self.activation = ACTIVATIONS[activation]

    def forward(
        self, inputs: Float[Tensor, "members batch inputs"]
    ) -> Float[Tensor, "members batch outputs"]:
        """Every member's own perceptron on its own rows."""
        return _apply(inputs, self._own(), self.activation)

    def pull(
        self,
        inputs: Float[Tensor, "members batch inputs"],
        directions: Float[Tensor, "members batch outputs"],
    ) -> tuple[Float[Tensor, "members batch outputs"], Float[Tensor, "members batch inputs"]]:
        """The outputs, and ``Jᵀ v`` for each row's own direction v, J the derivative of outputs by inputs.

        Both can be differentiated once, by the parameters and the inputs. One pass forth serves both, and on
        the way back the weights of either.
        """
        if self.activation is not ELU:
            with torch.enable_grad():
                given = followed(inputs)
                outputs = self(given)
                (pulled,) = torch.autograd.grad(outputs, given, directions, create_graph=True)
            return outputs, pulled
        outputs, pulled = _Pulled.apply(inputs, directions, *self._own())  # type: ignore[no-untyped-call]
        return outputs, pulled

    @property
    def weights(self) -> list[Tensor]:
        """Each layer's, the first to be applied first."""
        return list(self._own()[::2])

    def _own(self) -> tuple[Tensor, ...]:
        """Weight and bias of each layer; `parameters()` takes as long as a small layer."""
        return tuple(each for layer in self._modules.values() for each in layer._parameters.values())  # type: ignore[misc]


_where_positive = torch.ops.aten.threshold_backward.default


def _plain(inputs: Tensor, parameters: Sequence[Tensor], activation: type[Activation]) -> Tensor:
    """The perceptron in operations that can be differentiated any number of times."""
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in layers[:-1]:
        inputs = activation.plain(torch.baddbmm(bias, inputs, weight))
    return torch.baddbmm(layers[-1][1], inputs, layers[-1][0])


def _apply(inputs: Tensor, parameters: tuple[Tensor, ...], activation: type[Activation] = ELU) -> Tensor:
    """One node. Where parameters have gradients to add to, one of them stands for all in the graph."""
    if torch.is_grad_enabled() and all(each.grad is not None for each in parameters):
        outputs: Tensor = _Perceptron.apply(activation, parameters, inputs, parameters[0])  # type: ignore[no-untyped-call]
    else:
        outputs = _Perceptron.apply(activation, parameters, inputs, *parameters)  # type: ignore[no-untyped-call]
    return outputs


def followed(inputs: Tensor) -> Tensor:
    """The same numbers, so that what is made of them can be differentiated by them."""
    return inputs if inputs.requires_grad else inputs.detach().requires_grad_()


class Mirrored(nn.Module):
    """A perceptron back to front: its weights transposed, without the rows that `values` leaves out of the
    first and `codes` of the last; the biases are its own.

    (Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", fig. 1.)
    """

    def __init__(self, mirrors: Perceptron, values: int, codes: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.mirrors = (mirrors,)  # in a tuple it isn't part of this module: its weights are saved once
        self.values, self.codes = values, codes
        inner = [weight.shape[1] for weight in reversed(mirrors.weights[1:])]
        self.biases = nn.ParameterList(
            uniform((1, after), 1 / math.sqrt(before), generators)
            for before, after in pairwise([codes, *inner, values])
        )

    def forward(self, codes: Float[Tensor, "members batch codes"]) -> Float[Tensor, "members batch values"]:
        """From codes to values."""
        (mirrors,) = self.mirrors
        weights = mirrors.weights
        weights[-1] = weights[-1][:, :, : self.codes]
        weights[0] = weights[0][:, : self.values]
        pairs = zip((weight.transpose(1, 2) for weight in reversed(weights)), self.biases, strict=True)
        return _plain(codes, [each for pair in pairs for each in pair], mirrors.activation)


class _Perceptron(torch.autograd.Function):
    """`forward(activation, (weight, bias, weight, bias, …), inputs, *those that the graph is to know)`."""

    @staticmethod
    def forward(
        ctx: Any,
        activation: type[Activation],
        parameters: tuple[Tensor, ...],
        inputs: Tensor,
        *known: Tensor,
    ) -> Tensor:
        del known
        hidden, bent = [inputs], [inputs]
        for at in range(0, len(parameters) - 2, 2):
            after, kept = activation.onto(torch.baddbmm(parameters[at + 1], hidden[-1], parameters[at]))
            hidden.append(after)
            bent.append(kept)
        ctx.activation, ctx.bent = activation, bent
        ctx.hidden, ctx.parameters = hidden, parameters  # none of them is what this node gives: no cycle
        return torch.baddbmm(parameters[-1], hidden[-1], parameters[-2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        hidden, parameters = ctx.hidden, ctx.parameters
        _, _, wants_inputs, *wants = ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            known = [hidden[0], *parameters][: 1 + len(wants)]
            wanted = [each for each in known if each.requires_grad]
            plain = _plain(hidden[0], parameters, ctx.activation)
            found = iter(torch.autograd.grad(plain, wanted, gradient, create_graph=True))
            return None, None, *(next(found) if each.requires_grad else None for each in known)
        result: list[Tensor | None] = [None] * (3 + len(parameters))
        for at in range(len(parameters) - 2, -1, -2):
            weight, before = parameters[at], hidden[at // 2]
            if weight.requires_grad:
                result[at + 3] = add_product(weight, before, gradient)
                result[at + 4] = add_sum(parameters[at + 1], gradient)
            if at > 0:
                gradient = torch.bmm(gradient, weight.transpose(1, 2))
                gradient = ctx.activation.back(gradient, ctx.bent[at // 2])
            elif wants_inputs:
                result[2] = torch.bmm(gradient, weight.transpose(1, 2))
        return tuple(result[: 3 + len(wants)])


class _Pulled(torch.autograd.Function):
    """`forward(inputs, directions, weight, bias, …)`: outputs, and directions pulled back, of an ELU's.

    With slopes s of the hidden layers, ``c = v`` at the outputs, and from layer to layer ``p = c Wᵀ`` and
    ``c = p s``; the last p is what was asked for.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, directions: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights, biases = parameters[::2], parameters[1::2]
        hidden = [inputs]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden.append(ELU.onto(torch.baddbmm(bias, hidden[-1], weight))[0])
        outputs = torch.baddbmm(biases[-1], hidden[-1], weights[-1])
        slopes = [(1 + after).clamp_(max=1) for after in hidden[1:]]
        scaled, pulled = [directions], []
        for weight, slope in zip(reversed(weights[1:]), reversed(slopes), strict=True):
            pulled.append(torch.bmm(scaled[-1], weight.transpose(1, 2)))
            scaled.append(pulled[-1] * slope)
        ctx.kept = parameters, hidden, slopes, scaled[::-1], pulled[::-1]
        return outputs, torch.bmm(scaled[-1], weights[0].transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Tensor, of_pulled: Tensor) -> tuple[Tensor | None, ...]:
        parameters, hidden, slopes, scaled, pulled = ctx.kept
        weights, biases = parameters[::2], parameters[1::2]
        result: list[Tensor | None] = [None] * (2 + len(parameters))
        of_hidden = [hidden[0]]  # pulled depends on the inputs by the slopes alone
        gradient = of_pulled
        for at, weight in enumerate(weights):
            result[2 + 2 * at] = add_product(weight, gradient, scaled[at])
            if at + 1 < len(weights):
                of_scaled = torch.bmm(gradient, weight)
                gradient = of_scaled * slopes[at]
                of_slopes = of_scaled * pulled[at]
                of_hidden.append(_where_positive(of_slopes, 1 - slopes[at], 0))  # where ELU bends
        gradient = of_outputs
        for at in reversed(range(len(weights))):
            first, second = result[2 + 2 * at], add_product(weights[at], hidden[at], gradient)
            if first is not None and second is not None:
                result[2 + 2 * at] = first + second
            result[3 + 2 * at] = add_sum(biases[at], gradient)
            if at > 0:
                gradient = torch.baddbmm(of_hidden[at], gradient, weights[at].transpose(1, 2))
                gradient = ELU.back(gradient, hidden[at])
            elif ctx.needs_input_grad[0]:
                result[0] = torch.bmm(gradient, weights[0].transpose(1, 2))
        return tuple(result)


def add_product(
    weight: Tensor,
    inputs: Float[Tensor, "members rows inputs"],
    gradient: Float[Tensor, "members rows outputs"],
) -> Tensor | None:
    """``inputsᵀ gradient``: added to the weight's own gradient where it has one, else returned."""
    if weight.grad is None:
        return torch.bmm(inputs.transpose(1, 2), gradient)
    weight.grad.baddbmm_(inputs.transpose(1, 2), gradient)
    return None


def add_sum(bias: Tensor, gradient: Float[Tensor, "members rows outputs"]) -> Tensor | None:
    """The sum over rows: added to the bias's own gradient where it has one, else returned."""
    total = gradient.sum(1, keepdim=True)
    if bias.grad is None:
        return total
    bias.grad.add_(total)
    return None
