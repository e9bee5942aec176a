import pytest
import torch

from latentops.architectures.pooling import Pooling
from latentops.architectures.stack import Batch, generator
from latentops.architectures.steps import Steps

STEPS = torch.randn(2, 3, 5, 4, generator=generator("steps"))
LENGTHS = torch.tensor([[1, 3, 5], [5, 2, 4]])
VALID = torch.arange(5) < LENGTHS.unsqueeze(-1)


def pooled(name: str, padded: bool = True) -> torch.Tensor:
    pooling = Pooling(name, 4, [generator(k) for k in range(2)])  # type: ignore[arg-type]
    return pooling(STEPS, VALID if padded else None)


def test_mean_and_last_are_those_of_the_valid_steps() -> None:
    for member in range(2):
        for row in range(3):
            own = STEPS[member, row, : LENGTHS[member, row]]
            torch.testing.assert_close(pooled("mean")[member, row], own.mean(0))
            assert torch.equal(pooled("last")[member, row], own[-1])


def test_attention_weighs_valid_steps_by_their_product_with_a_query() -> None:
    pooling = Pooling("attention", 4, [generator(k) for k in range(2)])
    for member in range(2):
        for row in range(3):
            own = STEPS[member, row, : LENGTHS[member, row]]
            weights = torch.softmax(own @ pooling.query[member].T / 2, 0)
            torch.testing.assert_close(pooling(STEPS, VALID)[member, row], (weights * own).sum(0))


@pytest.mark.parametrize("name", ["mean", "last", "attention"])
def test_without_padding_all_steps_are_valid(name: str) -> None:
    pooling = Pooling(name, 4, [generator(k) for k in range(2)])  # type: ignore[arg-type]
    torch.testing.assert_close(pooling(STEPS), pooling(STEPS, torch.ones_like(VALID)))


@pytest.mark.parametrize(
    ("shape", "patch", "steps", "width"),
    [((2, 6, 5), None, 6, 10), ((2, 6, 5), 2, 9, 8), ((2, 6, 5), 4, 4, 32), ((7,), None, 2, 5)],
)
def test_what_is_read_as_steps_is_written_back(
    shape: tuple[int, ...], patch: int | None, steps: int, width: int
) -> None:
    values = torch.randn(2, 3, *shape, generator=generator("values"))
    reading = Steps(shape, False, patch)
    read = reading.read(Batch(values))
    assert read.shape == (2, 3, steps, width) == (2, 3, reading.steps, reading.width)
    assert torch.equal(reading.write(read), values)


def test_an_image_is_read_row_by_row_or_patch_by_patch() -> None:
    values = torch.arange(16.0).view(1, 1, 1, 4, 4)
    assert Steps((1, 4, 4), False).read(Batch(values))[0, 0, 1].tolist() == [4, 5, 6, 7]
    assert Steps((1, 4, 4), False, 2).read(Batch(values))[0, 0, 1].tolist() == [2, 3, 6, 7]
