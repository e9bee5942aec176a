"""A part of a pass that keeps nothing for its way back but its inputs, and is taken again there.

(Griewank & Walther 2000, "Revolve"; Chen et al. 2016, "Training deep nets with sublinear memory cost".) Of n
parts of k steps each, what is kept is n inputs and the intermediates of one part.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Part = Callable[..., tuple[Tensor, ...]]


def recomputed(part: Part, parameters: Iterable[Tensor], *inputs: Any) -> tuple[Tensor, ...]:
    """``part(*inputs)``, whose intermediates aren't kept. It may depend on `parameters` beside its inputs.

    It can be differentiated as often as the part itself, and has to give the same when it is taken again.
    """
    outputs: tuple[Tensor, ...] = _Recomputed.apply(part, len(inputs), *inputs, *parameters)  # type: ignore[no-untyped-call]
    return outputs


class _Recomputed(torch.autograd.Function):
    """`forward(part, how many inputs, *inputs, *parameters)`.

    Torch's own checkpoints look for what is kept where autograd keeps it, which nodes that are written out
    as `_Unrolled` is don't use.
    """

    @staticmethod
    def forward(ctx: Any, part: Part, count: int, *given: Any) -> tuple[Tensor, ...]:
        ctx.part, ctx.inputs, ctx.parameters = part, given[:count], given[count:]
        return part(*ctx.inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        twice = torch.is_grad_enabled()  # the gradient is to be differentiated again
        inputs = ctx.inputs if twice else tuple(map(_leaf, ctx.inputs))
        with torch.enable_grad():
            outputs = ctx.part(*inputs)
            given = (*inputs, *ctx.parameters)
            wanted = [each for each in given if isinstance(each, Tensor) and each.requires_grad]
            # A parameter that has a gradient to add to has it added to there, and is given none here.
            found = iter(
                torch.autograd.grad(outputs, wanted, gradients, create_graph=twice, allow_unused=True)
            )
        own = (next(found) if isinstance(each, Tensor) and each.requires_grad else None for each in given)
        return None, None, *own


def _leaf(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value
