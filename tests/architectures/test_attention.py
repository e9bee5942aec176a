import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentops.architectures.attention import SelfAttention, attend, rotate, sinusoids
from latentops.architectures.stack import generator

ROWS, STEPS, SIZE = 6, 7, 4
HIDDEN = torch.arange(STEPS) >= torch.tensor([1, 3, 7, 7, 2, 5]).unsqueeze(-1)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator("drawn", shape))


def three() -> list[Tensor]:
    return [each.requires_grad_() for each in drawn(3, ROWS, STEPS, SIZE).unbind()]


def torchs(queries: Tensor, keys: Tensor, values: Tensor, hidden: bool, causal: bool) -> Tensor:
    seen = torch.ones(ROWS, STEPS, STEPS, dtype=torch.bool)
    if hidden:
        seen &= ~HIDDEN.unsqueeze(1)
    if causal:
        seen &= torch.ones(STEPS, STEPS).tril().bool()
    return functional.scaled_dot_product_attention(queries, keys, values, seen)


every_mask = pytest.mark.parametrize(
    ("hidden", "causal"), [(False, False), (True, False), (False, True), (True, True)]
)


@every_mask
@pytest.mark.parametrize("at_once", [STEPS, 3, 1])
def test_attention_and_its_gradients_are_torchs(hidden: bool, causal: bool, at_once: int) -> None:
    inputs, weights = three(), drawn(ROWS, STEPS, SIZE)
    veil = HIDDEN.unsqueeze(1) if hidden else None
    ours = attend(*inputs, veil, causal, at_once)
    theirs = torchs(*inputs, hidden, causal)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@every_mask
@pytest.mark.parametrize("at_once", [STEPS, 3])
def test_attention_can_be_differentiated_twice(hidden: bool, causal: bool, at_once: int) -> None:
    inputs = [each[:, :5].detach().requires_grad_() for each in three()]
    veil = HIDDEN[:, None, :5] if hidden else None
    assert torch.autograd.gradcheck(lambda *each: attend(*each, veil, causal, at_once), inputs)
    assert torch.autograd.gradgradcheck(lambda *each: attend(*each, veil, causal, at_once), inputs)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor held."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(result) if isinstance(each, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return result


def largest(steps: int, at_once: int) -> int:
    layer = SelfAttention(8, 2, [generator(0)], queries=at_once)
    with Largest() as seen:
        layer(torch.randn(1, 2, steps, 8, generator=generator("long"))).sum().backward()
    return seen.numbers


def test_memory_grows_with_length_and_not_with_its_square() -> None:
    assert largest(400, at_once=400) == 4 * largest(200, at_once=200)  # the table of all pairs
    assert largest(400, at_once=20) == 2 * largest(200, at_once=20)
    assert 10 * largest(400, at_once=20) <= largest(400, at_once=400)


def test_rotary_scores_depend_on_distance_alone() -> None:
    query, key = drawn(2, 1, 1, SIZE).unbind()
    scores = rotate(query.expand(1, STEPS, SIZE)) @ rotate(key.expand(1, STEPS, SIZE)).transpose(1, 2)
    for distance in range(-STEPS + 1, STEPS):
        along = scores[0].diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    assert not torch.allclose(scores[0, 0, :1], scores[0, 0, 1:])


def test_positions_are_unlike_one_another() -> None:
    positions = sinusoids(50, 8, torch.empty(0, dtype=torch.float64))
    assert positions.shape == (50, 8)
    assert torch.cdist(positions, positions).fill_diagonal_(1).min() > 0.1


def test_without_positions_attention_takes_steps_in_any_order() -> None:
    layer = SelfAttention(8, 2, [generator(k) for k in range(3)])
    tokens = torch.randn(3, 4, 5, 8, generator=generator("tokens"))
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(layer(tokens[:, :, order]), layer(tokens)[:, :, order])
    rotary = SelfAttention(8, 2, [generator(k) for k in range(3)], rotary=True)
    assert not torch.allclose(rotary(tokens[:, :, order]), rotary(tokens)[:, :, order], atol=1e-3)
