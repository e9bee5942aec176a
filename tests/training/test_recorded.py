from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional

from latentops.architectures.stack import generator
from latentops.training import recorded
from latentops.training.recorded import Program, Recorded

CPU = torch.device("cpu")


def steps(body: Callable[[], None], count: int, draws: Sequence[Generator] = ()) -> Recorded:
    made = Recorded(body, 1, draws, CPU)
    with torch.no_grad():
        for _ in range(count):
            made()
    return made


def test_a_replay_reads_and_writes_the_same_memory_anew() -> None:
    given, result = torch.zeros(3), torch.zeros(3)
    made = steps(lambda: result.copy_((given * 2 + 1).square()), 1)  # type: ignore[arg-type,return-value]
    for value in (1.0, -2.0):
        given.fill_(value)
        with torch.no_grad():
            made()
        assert result.tolist() == [(2 * value + 1) ** 2] * 3


def test_the_body_runs_once() -> None:
    calls = []
    steps(lambda: calls.append(torch.ones(2) + 1), 4)
    assert len(calls) == 1


def test_what_is_taken_a_few_times_is_taken_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "WORTH", 2)
    given = torch.zeros(3)

    def body() -> None:
        for _ in range(6):
            given.add_(1)

    for times, replayed in ((2, False), (3, True)):
        made = Recorded(body, times, (), CPU)
        made()
        assert (made.replay is not None) is replayed


def test_results_that_move_take_their_views_along() -> None:
    image, kernel, result = torch.zeros(2, 1, 5, 5), torch.ones(3, 1, 3, 3), torch.zeros(2, 27)

    def body() -> None:
        result.copy_(functional.conv2d(image, kernel).flatten(1).neg())

    made = steps(body, 1)
    image.copy_(torch.arange(50.0).view(2, 1, 5, 5))
    with torch.no_grad():
        made()
        made()
    assert torch.equal(result, -functional.conv2d(image, kernel).flatten(1))


def test_draws_go_on_where_the_last_step_left_the_generator() -> None:
    draws, result, seen = generator("draws"), torch.zeros(4), []

    def body() -> None:
        result.copy_(torch.empty(4).normal_(generator=draws))

    made = Recorded(body, 1, [draws], CPU)
    for _ in range(3):
        with torch.no_grad():
            made()
        seen.append(result.clone())
    assert torch.equal(torch.stack(seen), torch.empty(3, 4).normal_(generator=generator("draws")))


@pytest.mark.parametrize("twice", [False, True])
def test_gradients_are_written_over_those_of_the_step_before(twice: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(1, 3, 2))
    weight.grad = torch.zeros_like(weight)
    rows = torch.zeros(1, 4, 3)

    def body() -> None:
        assert weight.grad is not None
        weight.grad.zero_()
        weight.grad.baddbmm_(rows.transpose(1, 2), torch.ones(1, 4, 2))
        if twice:
            weight.grad.add_(weight.detach())

    made = steps(body, 1)
    for value in (1.0, 3.0):
        rows.fill_(value)
        with torch.no_grad():
            made()
        assert torch.equal(weight.grad, torch.full((1, 3, 2), 4 * value + twice))


def product(place: Tensor, other: Tensor, given: Tensor) -> None:
    other.baddbmm_(place, given)
    place.baddbmm_(given, given)


def product_of_itself(place: Tensor, other: Tensor, given: Tensor) -> None:
    place.baddbmm_(place, given)
    other.copy_(place)


def sum_with_itself(place: Tensor, other: Tensor, given: Tensor) -> None:
    place.add_(place)
    other.copy_(given)


def sum_elsewhere(place: Tensor, other: Tensor, given: Tensor) -> None:
    other.add_(place)
    place.add_(given)


def sum_beside(place: Tensor, other: Tensor, given: Tensor) -> None:
    BESIDE.add_(given)
    other.copy_(place)


def one_of_two_results(place: Tensor, other: Tensor, given: Tensor) -> None:
    least, most = torch.aminmax(torch.stack([given, given.square()]), dim=0)
    place.add_(most)
    other.copy_(least)


def in_another_type(place: Tensor, other: Tensor, given: Tensor) -> None:
    WIDE.fill_(1)
    place.add_(given)
    other.copy_(given)


MEMORY = torch.zeros(4, 4, 4)
PLACE, BESIDE = MEMORY[2:4], MEMORY[1:3]
WIDE = MEMORY.view(torch.float64)[2:4]


@pytest.mark.parametrize(
    "after",
    [
        product,
        product_of_itself,
        sum_with_itself,
        sum_elsewhere,
        sum_beside,
        one_of_two_results,
        in_another_type,
    ],
)
def test_what_else_is_done_with_a_place_that_was_zeroed_is_done(
    after: Callable[[Tensor, Tensor, Tensor], None],
) -> None:
    other, given = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)

    def body() -> None:
        PLACE.copy_(given)
        PLACE.zero_()
        after(PLACE, other, given)

    def found(step: Callable[[], None]) -> list[Tensor]:
        MEMORY.fill_(1)
        other.fill_(1)
        seen = []
        for seed in range(3):
            given.copy_(torch.rand(given.shape, generator=generator("given", seed)))
            with torch.no_grad():
                step()
            seen += [MEMORY.clone(), other.clone()]
        return seen

    assert all(map(torch.equal, found(Recorded(body, 1, (), CPU)), found(body)))


@pytest.mark.parametrize("also_read", [False, True])
def test_a_sum_that_is_added_to_nothing_is_written_in_place(also_read: bool) -> None:
    rows, total, copy = torch.ones(1, 4, 3), torch.ones(1, 1, 3), torch.zeros(1, 1, 3)

    def body() -> None:
        total.zero_()
        summed = rows.sum(1, keepdim=True)
        total.add_(summed)
        if also_read:
            copy.copy_(summed)

    made = steps(body, 3)
    assert total.tolist() == [[[4.0] * 3]]
    assert bool(copy.eq(4).all()) is also_read
    assert isinstance(made.replay, Program)
    assert len(made.replay.steps) == (3 if also_read else 1)


def test_a_step_that_depends_on_what_it_finds_is_taken_as_it_is_written() -> None:
    given, result = torch.tensor([1.0, -1.0]), torch.zeros(())

    def body() -> None:
        result.copy_(given[given > 0].sum())

    made = steps(body, 1)
    given.fill_(2.0)
    with torch.no_grad():
        made()
    assert made.replay is None
    assert float(result) == 4


@pytest.mark.parametrize(("limit", "value"), [("LONGEST", 3), ("LARGEST", {"cpu": 12})])
def test_so_is_one_that_is_too_long_or_too_large(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, limit, value)
    result = torch.zeros(())

    def body() -> None:
        for _ in range(4):
            result.add_(torch.ones(()))

    assert steps(body, 2).replay is None
    assert float(result) == 8


@pytest.mark.parametrize(("operation", "places"), [("number by number", 1), ("product", 2)])
def test_what_is_no_longer_needed_leaves_its_memory_to_what_comes(operation: str, places: int) -> None:
    given, result = torch.arange(16.0).view(1, 4, 4), torch.zeros(1, 4, 4)
    identity = torch.eye(4).unsqueeze(0)

    def body() -> None:
        value = given
        for _ in range(10):
            value = value * 1 if operation == "number by number" else torch.bmm(value, identity)
        result.copy_(value)

    made = steps(body, 2)
    assert isinstance(made.replay, Program)
    written = {each.data_ptr() for _, _, named in made.replay.steps for each in named.values()}
    assert len(written) == places
    assert torch.equal(result, given)


def constant_written_to(given: Tensor) -> Tensor:
    return torch.tensor([1.0, 2.0, 3.0]).add_(given)


def shape_changed_in_place(given: Tensor) -> Tensor:
    return (given * 2).unsqueeze_(0).exp()[0]


def memory_exchanged(given: Tensor) -> Tensor:
    twice = given * 2
    other = twice.detach()
    other.data = given + 5
    return other * twice


def conjugate(given: Tensor) -> Tensor:
    return (torch.fft.fft(given).conj() * 1j).real


def half(given: Tensor) -> Tensor:
    return ((given.bfloat16() * 0.1 + 0.3) / 7.7).float()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "function", [constant_written_to, shape_changed_in_place, memory_exchanged, conjugate, half]
)
def test_any_function_is_replayed_as_it_is_written(function: Callable[[Tensor], Tensor]) -> None:
    given, result = torch.zeros(3), torch.zeros(3)
    made = Recorded(lambda: result.copy_(function(given)), 1, (), CPU)  # type: ignore[arg-type,return-value]
    for seed in range(3):
        given.copy_(torch.randn(3, generator=generator("given", seed)))
        with torch.no_grad():
            made()
            assert torch.equal(result, function(given))


def test_layouts_are_those_of_the_first_step() -> None:
    given, result = torch.arange(6.0).view(2, 3), torch.zeros(3, 2)

    def body() -> None:
        moved: Tensor = given.t().clone(memory_format=torch.preserve_format) * given.t()
        result.copy_(moved)

    steps(body, 2)
    assert torch.equal(result, given.t().square())
