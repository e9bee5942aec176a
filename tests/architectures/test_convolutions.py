import pytest
import torch
from torch import Tensor

from latentops.architectures.convolutions import (
    Convolution,
    Normalisation,
    ResizeConvolution,
    TransposedConvolution,
    loops,
    pool,
)
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


@pytest.mark.parametrize("size", [(7, 6), (8, 8), (1, 5), (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_sizes_are_halved_and_restored_and_dilation_keeps_them(size: tuple[int, int], dilation: int) -> None:
    rows = torch.randn(3, 5, 2, *size, generator=generator("rows"))
    small = Convolution(2, 4, size, GENERATORS)(rows)
    assert small.shape[3:] == tuple((n + 1) // 2 for n in size)
    assert pool(rows).shape[3:] == small.shape[3:]
    assert TransposedConvolution(4, 2, size, GENERATORS)(small).shape == rows.shape
    assert ResizeConvolution(4, 2, size, GENERATORS, dilation)(small).shape == rows.shape
    same = Convolution(2, 4, size, GENERATORS, stride=1, dilation=dilation)(rows)
    assert same.shape[3:] == size


def test_pooling_takes_the_largest_of_four() -> None:
    values = torch.arange(9.0).view(1, 1, 1, 3, 3)
    assert pool(values).flatten().tolist() == [4, 5, 7, 8]


def test_a_resized_kernel_falls_on_all_positions_alike_and_a_transposed_one_does_not() -> None:
    """What a constant map becomes, away from the border."""
    constant, size = torch.ones(1, 1, 1, 8, 8), (16, 16)
    inner = slice(4, 12)
    resize, transposed = (
        up(1, 1, size, [generator(0)])(constant)[..., inner, inner]
        for up in (ResizeConvolution, TransposedConvolution)
    )
    assert resize.std() < 1e-6 < transposed.std()


@pytest.mark.parametrize("groups", [1, 2])
def test_normalisation_is_torchs_and_knows_no_other_sample(groups: int) -> None:
    layer, maps = Normalisation(4, groups, 3), torch.randn(3, 5, 4, 3, 2, generator=generator("maps"))
    layer.scale.data = torch.randn(3, 4, generator=generator("scale"))
    layer.shift.data = torch.randn(3, 4, generator=generator("shift"))
    for member in range(3):
        own = torch.nn.functional.group_norm(maps[member], groups, layer.scale[member], layer.shift[member])
        torch.testing.assert_close(layer(maps)[member], own)
    torch.testing.assert_close(layer(maps[:, :1]), layer(maps)[:, :1])


@pytest.mark.parametrize("size", [(7, 6), (1, 9), (28, 28)])
@pytest.mark.parametrize("form", ["strided", "plain", "dilated", "transposed"])
def test_a_gpus_batched_product_is_the_convolution_to_its_second_derivative(
    form: str, size: tuple[int, int]
) -> None:
    """A contraction differentiates twice; the product itself needs no GPU."""
    options = {"strided": {}, "plain": {"stride": 1}, "dilated": {"stride": 1, "dilation": 2}}
    shape = tuple(-(-side // 2) for side in size) if form == "transposed" else size
    layer: Convolution | TransposedConvolution = (
        TransposedConvolution(2, 4, size, GENERATORS)
        if form == "transposed"
        else Convolution(2, 4, size, GENERATORS, **options[form])
    )
    layer.double()
    rows = torch.randn(3, 32, 2, *shape, dtype=torch.float64, generator=generator("rows"), requires_grad=True)
    found = []
    for convolve in (layer, layer._batched):
        outputs = convolve(rows)
        weights = list(layer.parameters())
        first = torch.autograd.grad(outputs.square().sum(), [rows, *weights], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [rows, layer.weight])
        found.append((outputs, *first, *second))
    torch.testing.assert_close(found[0], found[1])


def test_a_batched_product_has_the_number_format_that_is_asked_for() -> None:
    layer = Convolution(2, 4, SIZE, GENERATORS)
    layer.products = torch.bfloat16
    rows = torch.randn(3, 32, 2, *SIZE, generator=generator("rows"))
    coarse = layer._batched(rows)
    assert coarse.dtype == torch.bfloat16
    layer.products = None
    torch.testing.assert_close(coarse.float(), layer._batched(rows), atol=0.05, rtol=0.05)
