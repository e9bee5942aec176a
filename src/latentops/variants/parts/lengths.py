"""How many steps a sequence has, given its code: a softmax over all lengths up to the longest.

With it the likelihood is that of the whole sample, ``p(T | z) p(x | T, z)``. A length that is drawn, or the
likeliest, says where a decoded sequence ends.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.affine import Linear


class Lengths(nn.Module):
    """An affine layer from the code to a logit for each of the lengths 1 to `longest`."""

    def __init__(self, latent_dim: int, longest: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.longest = longest
        self.head = Linear(latent_dim, longest, generators)

    def nats(
        self, codes: Float[Tensor, "members batch latent"], lengths: Int[Tensor, "members batch"]
    ) -> Float[Tensor, "members batch"]:
        """``-log p(T | z)`` of each sample; what is longer than the longest counts as that."""
        logits = self.head(codes).flatten(0, 1)
        places = (lengths.clamp(max=self.longest) - 1).reshape(-1)
        return functional.cross_entropy(logits, places, reduction="none").view(lengths.shape)

    def likeliest(self, codes: Float[Tensor, "members batch latent"]) -> Int[Tensor, "members batch"]:
        """The length with the highest probability."""
        likeliest: Tensor = self.head(codes).argmax(-1) + 1
        return likeliest

    def drawn(
        self, codes: Float[Tensor, "members batch latent"], normal: Float[Tensor, "members batch"]
    ) -> Int[Tensor, "members batch"]:
        """A draw of each by inversion of the distribution, from a standard normal number."""
        below = torch.softmax(self.head(codes), -1).cumsum(-1) < torch.special.ndtr(normal).unsqueeze(-1)
        return (below.sum(-1) + 1).clamp(max=self.longest)
