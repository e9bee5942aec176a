"""Tokens as vectors of numbers: the table that they are read by, and the layer that writes their logits.

An architecture between the two reads and writes steps of real values, whatever they stand for.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.affine import Linear
from latentops.architectures.attention import norm
from latentops.architectures.stack import Batch, uniform


class Embedding(nn.Module):
    """A vector of `width` numbers for each token of a vocabulary, and back from such vectors to logits.

    A vector's numbers have mean 0 and variance 1. Else what is asked of a move of the input, or a noise in
    it, would be met by longer vectors (Miyato et al. 2017, "Adversarial training methods for semi-supervised
    text classification", §3, who normalise over the tokens).
    """

    def __init__(self, vocabulary: int, width: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.table = uniform((vocabulary, width), math.sqrt(3), generators)
        self.outlet = Linear(width, vocabulary, generators)

    def read(self, batch: Batch) -> Batch:
        """Ids `[members, batch, steps, 1]` as vectors `[members, batch, steps, width]`, zero in padding."""
        members, vocabulary, _ = self.table.shape
        first = torch.arange(members, device=batch.values.device).view(-1, 1, 1) * vocabulary
        rows = (batch.values * batch.mask).squeeze(-1).long() + first
        vectors = functional.embedding(rows, norm(self.table).flatten(0, 1))
        return batch.with_values(vectors * batch.mask)

    def write(
        self, vectors: Float[Tensor, "members batch steps width"]
    ) -> Float[Tensor, "members batch steps vocabulary"]:
        """The logits of every token at every step."""
        logits: Tensor = self.outlet(vectors.flatten(1, 2))
        return logits.view(*vectors.shape[:3], logits.shape[-1])
