import pytest
import torch
from torch import Tensor

from latentops.architectures.convolutions import Convolution, TransposedConvolution, loops
from latentops.architectures.stack import generator

SIZE = (7, 6)
GENERATORS = [generator(k) for k in range(3)]


def layer_of(kind: str) -> Convolution | TransposedConvolution:
    made = (
        Convolution(2, 4, SIZE, GENERATORS)
        if kind == "down"
        else TransposedConvolution(2, 4, SIZE, GENERATORS)
    )
    return made.double()


def rows_of(kind: str) -> Tensor:
    size = SIZE if kind == "down" else (4, 3)
    return torch.randn(3, 5, 2, *size, dtype=torch.float64, generator=generator("rows"))


@pytest.mark.parametrize("kind", ["down", "up"])
def test_grouped_and_looped_are_the_same(kind: str) -> None:
    layer, rows = layer_of(kind), rows_of(kind)
    found = []
    for layer.looped in (False, True):
        outputs = layer(rows)
        found.append((outputs, torch.autograd.grad(outputs.square().sum(), list(layer.parameters()))))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][0].shape[3:] == ((4, 3) if kind == "down" else SIZE)


@pytest.mark.parametrize("kind", ["down", "up"])
@pytest.mark.parametrize("looped", [False, True])
def test_products_in_bfloat16_are_near_and_not_the_same(kind: str, looped: bool) -> None:
    layer, rows = layer_of(kind).float(), rows_of(kind).float()
    layer.looped = looped
    whole = layer(rows)
    layer.products = torch.bfloat16
    coarse = layer(rows)
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.float(), whole, rtol=0.05, atol=0.05)
    assert not torch.equal(coarse.float(), whole)


def test_few_channels_are_grouped_and_many_looped() -> None:
    assert not loops(64, 1, 8)
    assert loops(784, 64, 128)
