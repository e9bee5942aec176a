"""What an autoregressive decoder is told of the step before the one that it writes.

In training that is the true one, so that all steps are written at once (teacher forcing; Williams & Zipser
1989, "A learning algorithm for continually running fully recurrent neural networks"). Without a truth it is
what the decoder itself expects of that step.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Projection
from latentops.architectures.stack import Batch, uniform
from latentops.architectures.steps import Steps

Expected = Callable[[Tensor], Tensor]
"""From what the likelihood takes for some values to their expected ones, value by value."""


class Feedback(nn.Module):
    """The steps before, as the encoder reads them; a learned one before the first. Mapped to `outputs`."""

    def __init__(
        self, steps: Steps, outputs: int, expected: Expected, generators: Sequence[Generator]
    ) -> None:
        super().__init__()
        self.steps, self.expected = steps, expected
        self.start = uniform((1, steps.width), 1.0, generators)
        self.inlet = Projection(steps.width, outputs, generators)

    def forward(self, before: Float[Tensor, "members *rows width"]) -> Float[Tensor, "members *rows outputs"]:
        """What each of the steps before adds to the one after it."""
        added: Tensor = self.inlet(before.flatten(1, -2))
        return added.view(*before.shape[:-1], -1)

    def first(self, samples: int) -> Float[Tensor, "members batch width"]:
        """What stands before the first step."""
        return self.start.expand(-1, samples, -1)

    def true(self, told: Batch) -> Float[Tensor, "members batch steps width"]:
        """What stands before each step of `told`."""
        values = self.steps.read(told)
        return torch.cat([self.first(values.shape[1]).unsqueeze(2), values[:, :, :-1]], dim=2)

    def own(self, outputs: Float[Tensor, "members batch width"], step: int) -> Tensor:
        """What is expected of a step by what was written for it, as it would be read."""
        return self.expected(outputs) * self.steps.real(step, outputs)
