import weakref

import pytest
import torch
from torch import Tensor, nn

from latentops.architectures.attention import SelfAttention
from latentops.architectures.cells import CELLS, Cell
from latentops.architectures.recomputed import recomputed
from latentops.architectures.stack import generator

INPUTS, HIDDEN, STEPS, ROWS = 3, 5, 4, 3


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator("drawn", shape))


@pytest.mark.parametrize("again", [False, True])
def test_what_lies_between_is_not_kept(again: bool) -> None:
    weight = nn.Parameter(drawn(3, 3))
    between: list[weakref.ref[Tensor]] = []

    def part(rows: Tensor) -> tuple[Tensor]:
        inner = torch.exp(rows @ weight)
        between.append(weakref.ref(inner))
        return (inner.square(),)

    rows = drawn(2, 3).requires_grad_()
    (outputs,) = recomputed(part, [weight], rows) if again else part(rows)
    inner = between[0]()
    assert (inner is None or inner.grad_fn is None) == again
    outputs.sum().backward()
    assert len(between) == 1 + again
    torch.testing.assert_close(weight.grad, 2 * rows.detach().T @ torch.exp(2 * rows @ weight).detach())


@pytest.mark.parametrize("name", list(CELLS))
def test_the_way_back_through_a_cell_is_the_chain_rule(name: str) -> None:
    """Once and twice, whatever the state to go on from."""
    cell: Cell = CELLS[name](INPUTS, HIDDEN, [generator(k) for k in range(2)]).double()
    drive = drawn(2, STEPS, ROWS, cell.gates * HIDDEN).requires_grad_()
    state = [drawn(2, ROWS, HIDDEN).requires_grad_() for _ in range(cell.parts)]
    valid = (torch.arange(STEPS) < torch.tensor([1, 3, 4]).unsqueeze(-1)).expand(2, -1, -1)

    def part(drive: Tensor, valid: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        states, state = cell.go_on(drive, state, STEPS, valid)
        return states, *state

    def through(drive: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return recomputed(part, cell.parameters(), drive, valid, *state)

    for each in (through, lambda drive, *state: part(drive, valid, *state)):
        assert torch.autograd.gradcheck(each, (drive, *state))
        assert torch.autograd.gradgradcheck(each, (drive, *state), fast_mode=True)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", list(CELLS))
def test_a_cell_that_is_gone_through_in_chunks_ends_where_it_would_have(name: str, layers: int) -> None:
    cell: Cell = CELLS[name](INPUTS, HIDDEN, [generator(k) for k in range(2)], layers).double()
    drive = drawn(2, STEPS, ROWS, cell.gates * HIDDEN)
    begin = cell.begin(drawn(2, ROWS, HIDDEN))
    whole, end = cell.go_on(drive, begin, STEPS)
    first, state = cell.go_on(drive[:, :1], begin, 1)
    rest, state = cell.go_on(drive[:, 1:], state, STEPS - 1)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole)
    one = begin
    for step in range(STEPS):
        one = cell.go_one(drive[:, step], one)
    for reached in (state, one):
        torch.testing.assert_close(reached, end)


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_that_goes_on_step_by_step_is_that_of_the_whole(rotary: bool) -> None:
    attention = SelfAttention(8, 2, [generator(k) for k in range(2)], rotary, causal=True).double()
    tokens = drawn(2, ROWS, STEPS, 8)
    past, gathered = None, list[Tensor]()
    for step in range(STEPS):
        one, past = attention.go_on(tokens[:, :, step : step + 1], past)
        gathered.append(one)
    torch.testing.assert_close(torch.cat(gathered, dim=2), attention(tokens))


def test_a_gradient_is_added_to_the_one_there_is() -> None:
    """As the loop has it: parameters whose gradients lie in one buffer."""
    cell = CELLS["gru"](INPUTS, HIDDEN, [generator(k) for k in range(2)]).double()
    values, state = drawn(2, 1, ROWS, INPUTS), drawn(2, ROWS, HIDDEN)

    def part(values: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        drive = cell.inlet(values.flatten(1, 2)).view(2, 1, ROWS, -1)
        return cell.go_on(drive, (state,), 1)[1]

    found = []
    for again in (False, True):
        for parameter in cell.parameters():
            parameter.grad = torch.ones_like(parameter)
        inputs = values, state.clone().requires_grad_()
        (after,) = recomputed(part, cell.parameters(), *inputs) if again else part(*inputs)
        after.square().sum().backward()
        found.append([inputs[1].grad, *(parameter.grad for parameter in cell.parameters())])
    for plain, other in zip(*found, strict=True):
        assert plain is not None
        assert other is not None
        assert torch.equal(plain, other)
