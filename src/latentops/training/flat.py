"""All parameters of a group in one buffer, so that the optimiser is one fused call."""

from collections.abc import Iterable

import torch
from torch import nn

from latentops.training.members import WHOLE_VECTORS


class Flat:
    """A buffer `[members, numbers]` of which the given stacked parameters `[members, …]` become views.

    Every parameter starts at a whole vector, and so does every member: the fused optimiser rounds a vector's
    tail otherwise than the rest, and a member's numbers must not depend on where in the stack it lies.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        sizes = [parameter[0].numel() for parameter in self.parameters]
        padded = [WHOLE_VECTORS * -(-size // WHOLE_VECTORS) for size in sizes]
        first = self.parameters[0]
        self.buffer = first.new_zeros(len(first), sum(padded))
        self.buffer.grad = torch.zeros_like(self.buffer)
        self.gradients = []
        start = 0
        for parameter, size, width in zip(self.parameters, sizes, padded, strict=True):
            place = slice(start, start + size)
            view = self.buffer[:, place].view(parameter.shape)
            view.copy_(parameter.detach())
            parameter.data = view
            self.gradients.append(self.buffer.grad[:, place].view(parameter.shape))
            start += width

    def collect(self) -> None:
        """Move what a backward pass left in the parameters' gradients into the buffer's."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            if parameter.grad is not None:
                gradient.copy_(parameter.grad)
                parameter.grad = None
