"""What bends between affine layers, each with its derivative, for layers that are differentiated by hand."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from latentops.config import ActivationName


class Activation:
    """An element-wise function; `onto` and `back` are its fast forms, which nothing differentiates."""

    @staticmethod
    @abstractmethod
    def plain(values: Tensor) -> Tensor:
        """The function, in operations that can be differentiated any number of times."""

    @staticmethod
    @abstractmethod
    def slope(values: Tensor) -> Tensor:
        """Its derivative at `values`, differentiable in turn."""

    @staticmethod
    @abstractmethod
    def onto(values: Tensor) -> tuple[Tensor, Tensor]:
        """The function of `values`, which may be overwritten, and what `back` needs to know of them."""

    @staticmethod
    @abstractmethod
    def back(gradient: Tensor, known: Tensor) -> Tensor:
        """The gradient of what `onto` was given."""


class ELU(Activation):
    """``x`` where x > 0, else ``exp(x) - 1`` (Clevert et al. 2016)."""

    @staticmethod
    def plain(values: Tensor) -> Tensor:
        """Three times as fast as torch's, which takes expm1."""
        return torch.maximum(values, torch.exp(values.clamp(max=0)) - 1)

    @staticmethod
    def slope(values: Tensor) -> Tensor:
        """``min(exp(x), 1)``."""
        return torch.exp(values.clamp(max=0))

    @staticmethod
    def onto(values: Tensor) -> tuple[Tensor, Tensor]:
        """In place; the result says enough. On a GPU expm1 costs nothing, four kernels do."""
        if values.is_cuda:
            return torch.nn.functional.elu_(values), values
        below = values.clamp(max=0).exp_().sub_(1)
        torch.maximum(values, below, out=values)
        return values, values

    @staticmethod
    def back(gradient: Tensor, known: Tensor) -> Tensor:
        """From the result."""
        return _elu_backward(gradient, 1.0, 1.0, 1.0, True, known)


class ReLU(Activation):
    """``max(x, 0)`` (Nair & Hinton 2010)."""

    @staticmethod
    def plain(values: Tensor) -> Tensor:
        """As torch has it."""
        return torch.relu(values)

    @staticmethod
    def slope(values: Tensor) -> Tensor:
        """1 where x > 0, else 0."""
        return (values > 0).to(values.dtype)

    @staticmethod
    def onto(values: Tensor) -> tuple[Tensor, Tensor]:
        """In place; the result says enough."""
        values.clamp_(min=0)
        return values, values

    @staticmethod
    def back(gradient: Tensor, known: Tensor) -> Tensor:
        """From the result."""
        return _threshold_backward(gradient, known, 0)


class Tanh(Activation):
    """The hyperbolic tangent."""

    @staticmethod
    def plain(values: Tensor) -> Tensor:
        """As torch has it."""
        return torch.tanh(values)

    @staticmethod
    def slope(values: Tensor) -> Tensor:
        """``1 - tanh² x``."""
        return 1 - torch.tanh(values) ** 2

    @staticmethod
    def onto(values: Tensor) -> tuple[Tensor, Tensor]:
        """In place; the result says enough."""
        values.tanh_()
        return values, values

    @staticmethod
    def back(gradient: Tensor, known: Tensor) -> Tensor:
        """From the result."""
        return _tanh_backward(gradient, known)


class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``."""

    @staticmethod
    def plain(values: Tensor) -> Tensor:
        """As torch has it."""
        return torch.sigmoid(values)

    @staticmethod
    def slope(values: Tensor) -> Tensor:
        """``s (1 - s)``."""
        share = torch.sigmoid(values)
        return share * (1 - share)

    @staticmethod
    def onto(values: Tensor) -> tuple[Tensor, Tensor]:
        """In place; the result says enough."""
        values.sigmoid_()
        return values, values

    @staticmethod
    def back(gradient: Tensor, known: Tensor) -> Tensor:
        """From the result."""
        return _sigmoid_backward(gradient, known)


class GELU(Activation):
    """``x Φ(x)`` with Φ the normal distribution's (Hendrycks & Gimpel 2016)."""

    @staticmethod
    def plain(values: Tensor) -> Tensor:
        """As torch has it."""
        return torch.nn.functional.gelu(values)

    @staticmethod
    def slope(values: Tensor) -> Tensor:
        """``Φ(x) + x φ(x)``."""
        below = 0.5 * (1 + torch.erf(values * math.sqrt(0.5)))
        return below + values * torch.exp(-0.5 * values**2) / math.sqrt(2 * math.pi)

    @staticmethod
    def onto(values: Tensor) -> tuple[Tensor, Tensor]:
        """Beside them: two values may have the same result."""
        return torch.nn.functional.gelu(values), values

    @staticmethod
    def back(gradient: Tensor, known: Tensor) -> Tensor:
        """From the values."""
        return _gelu_backward(gradient, known)


_elu_backward = torch.ops.aten.elu_backward.default
_threshold_backward = torch.ops.aten.threshold_backward.default
_tanh_backward = torch.ops.aten.tanh_backward.default
_sigmoid_backward = torch.ops.aten.sigmoid_backward.default
_gelu_backward = torch.ops.aten.gelu_backward.default

ACTIVATIONS: dict[ActivationName, type[Activation]] = {
    "elu": ELU,
    "relu": ReLU,
    "tanh": Tanh,
    "gelu": GELU,
    "sigmoid": Sigmoid,
}
