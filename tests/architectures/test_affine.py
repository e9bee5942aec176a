import pytest
import torch
from torch import Tensor

from latentops.architectures.affine import Linear, Perceptron, elu
from latentops.architectures.stack import generator
from latentops.training.flat import Flat

WIDTHS = [5, 7, 4, 3]


def perceptron(members: int = 2) -> Perceptron:
    return Perceptron(WIDTHS, [generator(k) for k in range(members)]).double()


def layered(stack: Perceptron, inputs: Tensor) -> Tensor:
    """The same in torch's own operations."""
    for at, layer in enumerate(stack):
        inputs = torch.baddbmm(layer.bias, inputs, layer.weight)
        if at + 1 < len(stack):
            inputs = torch.nn.functional.elu(inputs)
    return inputs


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(2, 6, 5, dtype=torch.float64, generator=generator("inputs"), requires_grad=True)


def test_elu_is_torchs() -> None:
    values = torch.linspace(-9, 9, 400, dtype=torch.float64)
    torch.testing.assert_close(elu(values), torch.nn.functional.elu(values))


def test_one_node_has_the_gradients_of_its_layers(inputs: Tensor) -> None:
    stack = perceptron()
    wanted = [inputs, *stack.parameters()]
    weights = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator("weights"))
    ours = torch.autograd.grad((stack(inputs) * weights).sum(), wanted)
    theirs = torch.autograd.grad((layered(stack, inputs) * weights).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_added_to_those_that_are_there(inputs: Tensor) -> None:
    stack = perceptron()
    theirs = torch.autograd.grad(layered(stack, inputs).square().sum(), list(stack.parameters()))
    flat = Flat(list(stack.parameters()))
    for _ in range(2):
        stack(inputs).square().sum().backward()
    for parameter, gradient in zip(stack.parameters(), theirs, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)
    assert not flat.gradient.eq(0).all()


def test_second_derivatives_are_those_of_its_layers(inputs: Tensor) -> None:
    stack = perceptron()

    def twice(outputs: Tensor) -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [inputs, *stack.parameters()], allow_unused=True)

    for one, other in zip(twice(stack(inputs)), twice(layered(stack, inputs)), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_frozen_weights_get_no_gradient(inputs: Tensor) -> None:
    layer = Linear(5, 3, [generator(k) for k in range(2)]).double().requires_grad_(False)
    layer(inputs).sum().backward()
    assert layer.weight.grad is None
    assert inputs.grad is not None


@pytest.mark.parametrize("in_place", [False, True])
def test_pulled_directions_are_the_jacobians_and_so_are_their_gradients(
    inputs: Tensor, in_place: bool
) -> None:
    stack = perceptron()
    directions = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator("directions"))
    outputs = layered(stack, inputs)
    (theirs,) = torch.autograd.grad(outputs, inputs, directions, create_graph=True)
    mixed = torch.randn(5, dtype=torch.float64, generator=generator("mixed"))
    gradients = torch.autograd.grad(
        outputs.square().sum() + (theirs.square() * mixed).sum(), list(stack.parameters()), allow_unused=True
    )
    if in_place:
        Flat(list(stack.parameters()))
    ours, pulled = stack.pull(inputs.detach(), directions)
    torch.testing.assert_close(ours, outputs)
    torch.testing.assert_close(pulled, theirs)
    (ours.square().sum() + (pulled.square() * mixed).sum()).backward()
    for parameter, gradient in zip(stack.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
