import pytest
import torch
from torch import Tensor

from latentops.architectures.activations import ACTIVATIONS
from latentops.architectures.affine import Linear, Mirrored, Perceptron
from latentops.architectures.stack import generator
from latentops.config import ActivationName
from latentops.training.flat import Flat

WIDTHS = [5, 7, 4, 3]


ELU: ActivationName = "elu"


@pytest.fixture(params=list(ACTIVATIONS))
def activation(request: pytest.FixtureRequest) -> ActivationName:
    return request.param


def perceptron(members: int = 2, activation: ActivationName = ELU) -> Perceptron:
    return Perceptron(WIDTHS, [generator(k) for k in range(members)], activation).double()


def layered(stack: Perceptron, inputs: Tensor, activation: ActivationName = ELU) -> Tensor:
    """The same in torch's own operations."""
    for at, layer in enumerate(stack):
        inputs = torch.baddbmm(layer.bias, inputs, layer.weight)
        if at + 1 < len(stack):
            inputs = getattr(torch.nn.functional, activation)(inputs)
    return inputs


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(2, 6, 5, dtype=torch.float64, generator=generator("inputs"), requires_grad=True)


def test_an_activation_is_torchs_and_so_is_its_slope(activation: ActivationName) -> None:
    values = torch.linspace(-9, 9, 400, dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.nn.functional, activation)(values)
    (slope,) = torch.autograd.grad(theirs.sum(), values)
    torch.testing.assert_close(ACTIVATIONS[activation].plain(values), theirs)
    torch.testing.assert_close(ACTIVATIONS[activation].slope(values), slope)


def test_one_node_has_the_gradients_of_its_layers(inputs: Tensor, activation: ActivationName) -> None:
    stack = perceptron(activation=activation)
    wanted = [inputs, *stack.parameters()]
    weights = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator("weights"))
    ours = torch.autograd.grad((stack(inputs) * weights).sum(), wanted)
    theirs = torch.autograd.grad((layered(stack, inputs, activation) * weights).sum(), wanted)
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


def test_second_derivatives_are_those_of_its_layers(inputs: Tensor, activation: ActivationName) -> None:
    stack = perceptron(activation=activation)

    def twice(outputs: Tensor) -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [inputs, *stack.parameters()], allow_unused=True)

    for one, other in zip(twice(stack(inputs)), twice(layered(stack, inputs, activation)), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_frozen_weights_get_no_gradient(inputs: Tensor) -> None:
    layer = Linear(5, 3, [generator(k) for k in range(2)]).double().requires_grad_(False)
    layer(inputs).sum().backward()
    assert layer.weight.grad is None
    assert inputs.grad is not None


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("followed", [False, True])
def test_pulled_directions_are_the_jacobians_and_so_are_their_gradients(
    inputs: Tensor, activation: ActivationName, followed: bool, in_place: bool
) -> None:
    stack = perceptron(activation=activation)
    directions = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator("directions"))
    outputs = layered(stack, inputs, activation)
    (theirs,) = torch.autograd.grad(outputs, inputs, directions, create_graph=True)
    mixed = torch.randn(5, dtype=torch.float64, generator=generator("mixed"))
    objective = outputs.square().sum() + (theirs.square() * mixed).sum()
    by_inputs, *gradients = torch.autograd.grad(objective, [inputs, *stack.parameters()], allow_unused=True)
    if in_place:
        Flat(list(stack.parameters()))
    given = inputs.detach().requires_grad_(followed)
    ours, pulled = stack.pull(given, directions)
    torch.testing.assert_close(ours, outputs)
    torch.testing.assert_close(pulled, theirs)
    (ours.square().sum() + (pulled.square() * mixed).sum()).backward()
    for parameter, gradient in zip(stack.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    if followed:
        torch.testing.assert_close(given.grad, by_inputs)


def test_a_mirror_goes_back_by_the_transposed_weights(inputs: Tensor) -> None:
    stack = perceptron()
    mirror = Mirrored(stack, 4, 2, [generator(k) for k in range(2)]).double()
    codes = stack(inputs)[..., :2]
    hidden = codes
    weights = [stack[2].weight[:, :, :2], stack[1].weight, stack[0].weight[:, :4]]
    for at, (weight, bias) in enumerate(zip(weights, mirror.biases, strict=True)):
        hidden = torch.baddbmm(bias, hidden, weight.transpose(1, 2))
        if at < 2:
            hidden = torch.nn.functional.elu(hidden)
    torch.testing.assert_close(mirror(codes), hidden)
    assert [name for name, _ in mirror.named_parameters()] == ["biases.0", "biases.1", "biases.2"]
