"""Scaled dot-product self-attention of a stack (Vaswani et al. 2017, §3.2), as one node of the graph.

The table of all pairs of steps grows with the square of their number. So long sequences are attended a few
queries at a time, and what the way back needs of the table is made again there (Rabe & Staats 2021,
"Self-attention does not need O(n²) memory"): memory grows with the number of steps alone.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures.affine import Linear, Projection
from latentops.architectures.steps import parts

BASE = 10_000.0
"""Longest wavelength of positions over 2π, in steps (Vaswani et al. 2017, §3.5)."""

QUERIES = 256
"""Steps that are attended from at once."""

Past = tuple[Tensor, Tensor] | None
"""Keys and values of the steps so far, each `[members batch heads, steps, size]`."""


class SelfAttention(nn.Module):
    """Each step looks at all valid steps, where it is `causal` at no later ones, by `heads` of their own.

    Queries and keys have no bias: one of the keys' would add the same to all scores of a query. With `rotary`
    they are turned by angles that grow with their position, so that scores depend on distances (Su et al.
    2021, "RoFormer", eq. 34).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        generators: Sequence[Generator],
        rotary: bool = False,
        causal: bool = False,
        queries: int = QUERIES,
    ) -> None:
        super().__init__()
        self.heads, self.rotary, self.causal, self.queries = heads, rotary, causal, queries
        self.inlet = Projection(width, 3 * width, generators)
        self.outlet = Linear(width, width, generators)

    def forward(
        self,
        tokens: Float[Tensor, "members batch steps width"],
        valid: Bool[Tensor, "members batch steps"] | None = None,
    ) -> Float[Tensor, "members batch steps width"]:
        """What each step gathers from those that are `valid` (None: all)."""
        queries, keys, values = self._three(tokens)
        hidden = None
        if valid is not None:
            hidden = (~valid).unsqueeze(2).expand(-1, -1, self.heads, -1).reshape(-1, 1, tokens.shape[2])
        return self._out(attend(queries, keys, values, hidden, self.causal, self.queries), tokens)

    def go_on(
        self, token: Float[Tensor, "members batch 1 width"], past: Past = None
    ) -> tuple[Float[Tensor, "members batch 1 width"], Past]:
        """What one step more gathers from itself and the `past` steps, and they with it."""
        queries, keys, values = self._three(token, 0 if past is None else past[0].shape[1])
        if past is not None:
            keys, values = (torch.cat(each, dim=1) for each in zip(past, (keys, values), strict=True))
        return self._out(attend(queries, keys, values), token), (keys, values)

    def _three(self, tokens: Tensor, first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[members batch heads, steps, size]` of steps from the `first` on."""
        members, batch, steps, width = tokens.shape
        apart = (members, batch, steps, 3, self.heads, width // self.heads)
        three = self.inlet(tokens.flatten(1, 2)).view(apart).permute(3, 0, 1, 4, 2, 5)
        queries, keys, values = three.reshape(3, -1, steps, width // self.heads).unbind()
        if self.rotary:
            queries, keys = rotate(queries, first), rotate(keys, first)
        return queries, keys, values

    def _out(self, gathered: Tensor, tokens: Tensor) -> Tensor:
        members, batch, steps, width = tokens.shape
        together = gathered.view(members, batch, self.heads, steps, -1).transpose(2, 3)
        outputs: Tensor = self.outlet(together.reshape(members, batch * steps, width))
        return outputs.view(tokens.shape)


def norm(tokens: Float[Tensor, "*tokens width"]) -> Float[Tensor, "*tokens width"]:
    """Each token's numbers at mean 0 and variance 1 (Ba et al. 2016, "Layer normalization", eq. 3)."""
    return functional.layer_norm(tokens, tokens.shape[-1:])


def attend(
    queries: Float[Tensor, "rows steps size"],
    keys: Float[Tensor, "rows steps size"],
    values: Float[Tensor, "rows steps size"],
    hidden: Bool[Tensor, "rows 1 steps"] | None = None,
    causal: bool = False,
    at_once: int = QUERIES,
) -> Float[Tensor, "rows steps size"]:
    """``softmax(Q Kᵀ / √size) V`` of each row, over the keys that aren't `hidden`.

    It can be differentiated twice. Where it is `causal`, a query sees no later key. No more than `at_once`
    queries are held against the keys at a time.
    """
    scaled = queries * (1 / math.sqrt(queries.shape[-1]))
    gathered: Tensor = _Attention.apply(scaled, keys, values, hidden, causal, at_once)  # type: ignore[no-untyped-call]
    return gathered


def sinusoids(steps: int, width: int, like: Tensor) -> Float[Tensor, "steps width"]:
    """Positions as sines, then cosines, of wavelengths from 2π to `BASE` times that (Vaswani et al. 2017)."""
    angles = _angles(steps, math.ceil(width / 2), like)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)[:, :width]


def rotate(rows: Float[Tensor, "rows steps size"], first: int = 0) -> Float[Tensor, "rows steps size"]:
    """Each pair of numbers, one of the first half and one of the second, turned by its step's angle."""
    one, other = rows.chunk(2, -1)
    angles = _angles(first + rows.shape[1], one.shape[-1], rows)[first:]
    cosine, sine = torch.cos(angles), torch.sin(angles)
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)


def _angles(steps: int, waves: int, like: Tensor) -> Float[Tensor, "steps waves"]:
    position = torch.arange(steps, device=like.device, dtype=like.dtype)
    wave = torch.arange(waves, device=like.device, dtype=like.dtype)
    return position.unsqueeze(-1) * torch.exp(wave * (-math.log(BASE) / waves))


def _seen(part: slice, keys: Tensor, hidden: Tensor | None, causal: bool) -> tuple[slice, Tensor | None]:
    """Which keys the queries of `part` may see, and which of them are hidden from which query."""
    if not causal:
        return slice(None), hidden
    position = torch.arange(part.stop, device=keys.device)
    later = (position > position[part].unsqueeze(-1)).unsqueeze(0)
    return slice(part.stop), later if hidden is None else later | hidden[:, :, : part.stop]


def _weights(queries: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    """Softmax of the scores, in place. Torch's own takes five times as long where there are few steps."""
    scores = torch.bmm(queries, keys.transpose(1, 2))
    if hidden is not None:
        scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


def _plain(queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None, causal: bool) -> Tensor:
    """The same in operations that can be differentiated any number of times."""
    scores = torch.bmm(queries, keys.transpose(1, 2))
    _, hidden = _seen(slice(0, keys.shape[1]), keys, hidden, causal)
    if hidden is not None:
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return torch.bmm(torch.softmax(scores, -1), values)


class _Attention(torch.autograd.Function):
    """`forward(queries, keys, values, hidden, causal, at_once)`; a table of weights is kept where it is the
    only one.

    With weights W and a gradient G of what was gathered, ``dV = Wᵀ G``, and of the scores
    ``W (G Vᵀ - rows' sums of W G Vᵀ)``.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        queries, keys, values, hidden, causal, at_once = inputs
        ctx.inputs, ctx.weights = inputs, None
        gathered = []
        for part in parts(queries.shape[1], at_once):
            seen, veiled = _seen(part, keys, hidden, causal)
            weights = _weights(queries[:, part], keys[:, seen], veiled)
            gathered.append(torch.bmm(weights, values[:, seen]))
        if len(gathered) > 1:
            return torch.cat(gathered, dim=1)
        ctx.weights = weights
        return gathered[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        queries, keys, values, hidden, causal, at_once = ctx.inputs
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            every = (queries, keys, values)
            wanted = [each for each in every if each.requires_grad]
            plain = _plain(*every, hidden, causal)
            found = iter(torch.autograd.grad(plain, wanted, gradient, create_graph=True))
            return *(next(found) if each.requires_grad else None for each in every), None, None, None
        of_queries, of_keys, of_values = [], torch.zeros_like(keys), torch.zeros_like(values)
        for part in parts(queries.shape[1], at_once):
            own, weights = gradient[:, part], ctx.weights
            seen, veiled = _seen(part, keys, hidden, causal)
            if weights is None:
                weights = _weights(queries[:, part], keys[:, seen], veiled)
            of_values[:, seen].baddbmm_(weights.transpose(1, 2), own)
            of_scores = torch.bmm(own, values[:, seen].transpose(1, 2)).mul_(weights)
            of_scores.addcmul_(weights, of_scores.sum(-1, keepdim=True), value=-1)
            of_queries.append(torch.bmm(of_scores, keys[:, seen]))
            of_keys[:, seen].baddbmm_(of_scores.transpose(1, 2), queries[:, part])
        together = of_queries[0] if len(of_queries) == 1 else torch.cat(of_queries, dim=1)
        return together, of_keys, of_values, None, None, None
