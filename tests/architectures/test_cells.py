import pytest
import torch
from torch import Tensor

from latentops.architectures.cells import CELLS, Cell
from latentops.architectures.stack import generator

INPUTS, HIDDEN, STEPS, ROWS = 3, 5, 4, 6
TORCHS = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator("drawn", shape))


@pytest.fixture(params=list(CELLS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 3])
def layers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def cell_of(name: str, layers: int = 1) -> Cell:
    return CELLS[name](INPUTS, HIDDEN, [generator(k) for k in range(2)], layers).double()


def torchs(name: str, cell: Cell, member: int, layers: int) -> torch.nn.RNNBase:
    """The same cells as torch has them; it lays the LSTM's gates out in another order."""
    other = TORCHS[name](INPUTS, HIDDEN, layers, batch_first=True).double()
    order = [0, 1, 2] if name == "gru" else [0, 1, 3, 2]
    at: Cell | None = cell
    for layer in range(layers):
        assert at is not None
        for affine, suffix in ((at.inlet, f"ih_l{layer}"), (at.recurrent, f"hh_l{layer}")):
            for ours, kind in ((affine.weight, "weight"), (affine.bias, "bias")):
                parts = ours.detach()[member].T.chunk(len(order))
                value = torch.cat([parts[gate] for gate in order])
                getattr(other, f"{kind}_{suffix}").data = value if kind == "weight" else value.flatten()
        at = at.above
    assert at is None
    return other


def driven(cell: Cell, values: Tensor) -> Tensor:
    members, steps, rows, _ = values.shape
    return cell.inlet(values.flatten(1, 2)).view(members, steps, rows, -1)


def test_states_are_torchs(name: str, layers: int) -> None:
    cell, values = cell_of(name, layers), drawn(2, STEPS, ROWS, INPUTS)
    states = cell(driven(cell, values), torch.zeros(2, ROWS, HIDDEN, dtype=torch.float64), STEPS)
    for member in range(2):
        theirs, _ = torchs(name, cell, member, layers)(values[member].transpose(0, 1))
        torch.testing.assert_close(states[member].transpose(0, 1), theirs)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("driven_once", [False, True])
def test_the_way_back_is_the_chain_rule(name: str, masked: bool, driven_once: bool) -> None:
    cell = cell_of(name)
    entries = 1 if driven_once else STEPS
    drive = drawn(2, entries, ROWS, cell.gates * HIDDEN).requires_grad_()
    start = drawn(2, ROWS, HIDDEN).requires_grad_()
    valid = torch.arange(STEPS) < torch.tensor([[1, 2, 3, 4, 4, 2]] * 2).unsqueeze(-1) if masked else None

    def states(drive: Tensor, start: Tensor, *_: Tensor) -> Tensor:
        return cell(drive, start, STEPS, valid)

    inputs = (drive, start, cell.recurrent.weight, cell.recurrent.bias)
    assert torch.autograd.gradcheck(states, inputs)
    assert torch.autograd.gradgradcheck(states, inputs, fast_mode=True)


def test_a_state_stays_where_a_step_is_not_valid(name: str, layers: int) -> None:
    cell, start = cell_of(name, layers), drawn(2, ROWS, HIDDEN)
    drive = driven(cell, drawn(2, STEPS, ROWS, INPUTS))
    lengths = torch.tensor([[1, 2, 3, 4, 4, 2]] * 2)
    valid = torch.arange(STEPS) < lengths.unsqueeze(-1)
    masked, whole = cell(drive, start, STEPS, valid), cell(drive, start, STEPS)
    for row, length in enumerate(lengths[0].tolist()):
        assert torch.equal(masked[:, -1, row], whole[:, length - 1, row])
