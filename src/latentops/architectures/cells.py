"""Recurrent cells of a stack, unrolled over all steps as one node of the graph.

A step of a small cell is a dozen small operations, and automatic differentiation costs more than they do. So
both passes over the steps are written out; the weights' gradient is one product over all steps at the end.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from latentops.architectures.affine import Linear, add_product, add_sum

State = tuple[Tensor, ...]
"""What a cell hands on, each `[members, batch, hidden]`, the top layer's first; the first is what is seen."""

Valid = Bool[Tensor, "members batch steps"] | None


class Cell(nn.Module):
    """A recurrent cell a member, batched over the member axis.

    `inlet` maps a step's inputs to a drive of its gates, `recurrent` the state to what is added to it. Of
    more `layers` the cell `above` is driven by the states of this one.
    """

    gates: ClassVar[int]
    parts: ClassVar[int] = 1
    """Tensors that a layer's state consists of."""

    adds: ClassVar[bool]
    """Whether drive and recurrent gates are only added, so that they have one gradient."""

    def __init__(self, inputs: int, hidden: int, generators: Sequence[Generator], layers: int = 1) -> None:
        super().__init__()
        self.hidden = hidden
        self.inlet = Linear(inputs, self.gates * hidden, generators)
        self.recurrent = Linear(hidden, self.gates * hidden, generators)
        self.above = type(self)(hidden, hidden, generators, layers - 1) if layers > 1 else None

    def forward(
        self,
        drive: Float[Tensor, "members driven batch gates"],
        start: Float[Tensor, "members batch hidden"],
        steps: int,
        valid: Valid = None,
    ) -> Float[Tensor, "members steps batch hidden"]:
        """The top layer's states after each of `steps`.

        `drive` has an entry a step, or one for all of them. Where a step is not `valid` the state stays.
        """
        return self.go_on(drive, self.begin(start), steps, valid)[0]

    def begin(self, start: Float[Tensor, "members batch hidden"]) -> State:
        """The state that shows `start` in each layer; what else it consists of is zero."""
        own = (start, *(torch.zeros_like(start) for _ in range(self.parts - 1)))
        return own if self.above is None else (*self.above.begin(start), *own)

    def go_on(
        self,
        drive: Float[Tensor, "members driven batch gates"],
        state: State,
        steps: int,
        valid: Valid = None,
    ) -> tuple[Float[Tensor, "members steps batch hidden"], State]:
        """What `forward` gives, from any state, and the state after the last of `steps`."""
        upper, own = state[: -self.parts], state[-self.parts :]
        states, *others = _Unrolled.apply(  # type: ignore[no-untyped-call]
            self, steps, valid, drive, self.recurrent.weight, self.recurrent.bias, *own
        )
        own = (states[:, -1], *others)
        if self.above is None:
            return states, own
        driven = self.above.inlet(states.flatten(1, 2)).view(*states.shape[:3], -1)
        shown, upper = self.above.go_on(driven, upper, steps, valid)
        return shown, (*upper, *own)

    def go_one(self, drive: Float[Tensor, "members batch gates"], state: State) -> State:
        """The state after one step more."""
        upper, own = state[: -self.parts], state[-self.parts :]
        own = self.step(drive, own, self.recurrent.weight, self.recurrent.bias)[0]
        if self.above is None:
            return own
        return (*self.above.go_one(self.above.inlet(own[0]), upper), *own)

    @staticmethod
    @abstractmethod
    def step(drive: Tensor, state: State, weight: Tensor, bias: Tensor) -> tuple[State, State]:
        """The next state, and what `unstep` needs to go back."""

    @staticmethod
    @abstractmethod
    def unstep(gradient: State, kept: State, state: State, of_drive: Tensor, of_recurrent: Tensor) -> State:
        """From the next state's gradient that of `state`, without what reaches it through `recurrent`.

        The gradients of the drive and of what `recurrent` gave go into `of_drive` and `of_recurrent`,
        each `[members, batch, gates]`; they are one tensor where the two are only added.
        """


class GRU(Cell):
    """A gated recurrent unit (Cho et al. 2014)."""

    gates = 3
    adds = False

    @staticmethod
    def step(drive: Tensor, state: State, weight: Tensor, bias: Tensor) -> tuple[State, State]:
        """Reset and update gates, then a candidate, of which the update gate takes its share."""
        (hidden,) = state
        size = hidden.shape[-1]
        recurrent = torch.baddbmm(bias, hidden, weight)
        gates = torch.sigmoid(drive[..., : 2 * size] + recurrent[..., : 2 * size])
        reset, update = gates[..., :size], gates[..., size:]
        inner = recurrent[..., 2 * size :]
        candidate = torch.tanh(torch.addcmul(drive[..., 2 * size :], reset, inner))
        return (torch.lerp(candidate, hidden, update),), (reset, update, inner, candidate)

    @staticmethod
    def unstep(gradient: State, kept: State, state: State, of_drive: Tensor, of_recurrent: Tensor) -> State:
        """The chain rule through `step`."""
        (of_hidden,), (hidden,) = gradient, state
        reset, update, inner, candidate = kept
        size = hidden.shape[-1]
        past = of_hidden * update
        of_reset, of_update, of_candidate = of_drive.chunk(3, -1)
        _tanh_backward(of_hidden - past, candidate, grad_input=of_candidate)
        _sigmoid_backward(of_hidden * (hidden - candidate), update, grad_input=of_update)
        _sigmoid_backward(of_candidate * inner, reset, grad_input=of_reset)
        of_recurrent[..., : 2 * size] = of_drive[..., : 2 * size]
        torch.mul(of_candidate, reset, out=of_recurrent[..., 2 * size :])
        return (past,)


class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""

    gates = 4
    parts = 2
    adds = True

    @staticmethod
    def step(drive: Tensor, state: State, weight: Tensor, bias: Tensor) -> tuple[State, State]:
        """Input, forget and output gates, then a candidate for the memory."""
        hidden, memory = state
        size = hidden.shape[-1]
        raw = torch.baddbmm(bias, hidden, weight) + drive
        enter, forget, leave = torch.sigmoid(raw[..., : 3 * size]).chunk(3, -1)
        candidate = torch.tanh(raw[..., 3 * size :])
        after = torch.addcmul(forget * memory, enter, candidate)
        shown = torch.tanh(after)
        return (leave * shown, after), (enter, forget, leave, candidate, shown)

    @staticmethod
    def unstep(gradient: State, kept: State, state: State, of_drive: Tensor, of_recurrent: Tensor) -> State:
        """The chain rule through `step`."""
        (of_hidden, of_memory), (_, memory) = gradient, state
        enter, forget, leave, candidate, shown = kept
        of_enter, of_forget, of_leave, of_candidate = of_drive.chunk(4, -1)
        of_memory = of_memory + torch.ops.aten.tanh_backward(of_hidden * leave, shown)
        _sigmoid_backward(of_memory * candidate, enter, grad_input=of_enter)
        _sigmoid_backward(of_memory * memory, forget, grad_input=of_forget)
        _sigmoid_backward(of_hidden * shown, leave, grad_input=of_leave)
        _tanh_backward(of_memory * enter, candidate, grad_input=of_candidate)
        return torch.zeros_like(of_hidden), of_memory * forget


CELLS: dict[str, type[Cell]] = {"gru": GRU, "lstm": LSTM}

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


def _unroll(
    cell: Cell, steps: int, valid: Valid, drive: Tensor, weight: Tensor, bias: Tensor, *start: Tensor
) -> tuple[list[State], list[State]]:
    """The start and the state after each step, and what each step keeps for its way back."""
    states: list[State] = [start]
    kept = []
    for at in range(steps):
        after, needs = cell.step(drive[:, _entry(drive, at)], states[-1], weight, bias)
        if valid is not None:
            here = valid[:, :, at : at + 1]
            after = tuple(torch.where(here, new, old) for new, old in zip(after, states[-1], strict=True))
        states.append(after)
        kept.append(needs)
    return states, kept


def _entry(drive: Tensor, step: int) -> int:
    return 0 if drive.shape[1] == 1 else step


class _Unrolled(torch.autograd.Function):
    """`forward(cell, steps, valid, drive, weight, bias, *start)`: what others see of the states,
    `[members, steps, batch, hidden]`, and what else the last one consists of.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> State:
        ctx.inputs = inputs
        ctx.states, ctx.kept = _unroll(*inputs)
        return _shown(ctx.states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cell, steps, valid, drive, weight, bias, *begun = ctx.inputs
        of_states, *of_last = gradients
        start = begun[0]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            every = (drive, weight, bias, *begun)
            wanted = [each for each in every if each.requires_grad]
            plain = _shown(_unroll(*ctx.inputs)[0])
            found = iter(torch.autograd.grad(plain, wanted, gradients, create_graph=True))
            return None, None, None, *(next(found) if each.requires_grad else None for each in every)
        back = weight.transpose(1, 2)
        gradient: State = (torch.zeros_like(start), *of_last)
        of_drive = start.new_empty(len(start), steps, start.shape[1], weight.shape[2])
        of_recurrent = of_drive if cell.adds else torch.empty_like(of_drive)
        for at in reversed(range(steps)):
            gradient = (gradient[0] + of_states[:, at], *gradient[1:])
            here = None if valid is None else valid[:, :, at : at + 1]
            reaches = gradient if here is None else tuple(each * here for each in gradient)
            past = cell.unstep(reaches, ctx.kept[at], ctx.states[at], of_drive[:, at], of_recurrent[:, at])
            if here is not None:
                past = tuple(torch.where(here, p, g) for p, g in zip(past, gradient, strict=True))
            gradient = (torch.baddbmm(past[0], of_recurrent[:, at], back), *past[1:])
        if drive.shape[1] == 1:
            of_drive = of_drive.sum(1, keepdim=True)
        if not weight.requires_grad:
            return None, None, None, of_drive, None, None, *gradient
        of_gates = of_recurrent.flatten(1, 2)
        before = torch.stack([state[0] for state in ctx.states[:-1]], dim=1).flatten(1, 2)
        of_weight, of_bias = add_product(weight, before, of_gates), add_sum(bias, of_gates)
        return None, None, None, of_drive, of_weight, of_bias, *gradient


def _shown(states: Sequence[State]) -> State:
    """None of `states` itself: a node that kept what it gave would keep itself, and all its memory."""
    return (
        torch.stack([state[0] for state in states[1:]], dim=1),
        *(part.clone() for part in states[-1][1:]),
    )
