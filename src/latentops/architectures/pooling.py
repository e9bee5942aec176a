"""One vector of a sequence's valid steps."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from latentops.architectures.stack import uniform
from latentops.config import PoolingName


class Pooling(nn.Module):
    """The `mean` over steps, the `last` step, or their mean weighted by `attention`.

    Attention weighs steps by the softmax of their products with a learned query (Lin et al. 2017, "A
    structured self-attentive sentence embedding", eq. 5, with one hop and no layer of its own).
    """

    def __init__(self, name: PoolingName, width: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.name = name
        if name == "attention":
            self.query = uniform((1, width), math.sqrt(3 / width), generators)

    def forward(
        self,
        steps: Float[Tensor, "members batch steps width"],
        valid: Bool[Tensor, "members batch steps"] | None = None,
    ) -> Float[Tensor, "members batch width"]:
        """Pool the steps that are `valid` (None: all)."""
        if valid is None and self.name == "last":
            return steps[:, :, -1]
        if valid is None and self.name == "mean":
            return steps.mean(2)
        return (steps * self._weights(steps, valid).unsqueeze(-1)).sum(2)

    def _weights(self, steps: Tensor, valid: Tensor | None) -> Float[Tensor, "members batch steps"]:
        """Of each step; they sum to 1 over the valid ones and are 0 elsewhere."""
        if self.name == "attention":
            asked = self.query.unsqueeze(1) * (1 / math.sqrt(steps.shape[-1]))
            scores = (steps * asked).sum(-1)  # a product with one column is rounded otherwise in a stack
            if valid is not None:
                scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
            return torch.softmax(scores, -1)
        if valid is None:
            raise AssertionError("without padding neither mean nor last takes weights")
        if self.name == "mean":
            return valid / valid.sum(-1, keepdim=True).to(steps.dtype)
        position = torch.arange(steps.shape[2], device=steps.device)
        return (position == valid.sum(-1, keepdim=True) - 1).to(steps.dtype)
