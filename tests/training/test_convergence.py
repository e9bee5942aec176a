"""Training until convergence: schedules, patience with a minimum of steps, and clipping member by member."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector

from latentops.config import Budget, Training
from latentops.training.flat import Flat
from latentops.training.loop import Look, learning_rate
from latentops.training.members import Member
from tests.toy import TRAINING, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
BUDGET = Budget(steps=200, learning_rate=1.0)


def rates(schedule: str, warmup: float) -> list[float]:
    training = TRAINING.model_copy(update={"schedule": schedule, "warmup": warmup})
    return [learning_rate(step, BUDGET, training) for step in range(BUDGET.steps)]


def test_one_cycle_rises_falls_for_as_long_and_then_to_nothing() -> None:
    found = rates("one_cycle", 0.4)
    assert found[0] == pytest.approx(0.1)
    assert found[:81] == sorted(found[:81])
    assert found[80] == max(found) == 1.0
    assert found[80:] == sorted(found[80:], reverse=True)
    assert found[:80] == pytest.approx(found[160:80:-1])
    assert found[160] == pytest.approx(0.1)
    assert 0 < found[-1] <= 0.1 / 40


@given(st.floats(0.001, 0.5))
def test_no_cycle_leaves_its_bounds(warmup: float) -> None:
    assert all(0 < rate <= 1 for rate in rates("one_cycle", warmup))


@pytest.mark.parametrize("warmup", [0.0, 0.6])
def test_a_cycle_needs_room_to_rise_and_to_fall(warmup: float) -> None:
    section = TRAINING.model_dump() | {"schedule": "one_cycle", "warmup": warmup}
    with pytest.raises(ValueError, match=r"set warmup above 0 and up to 0\.5"):
        Training.model_validate(section)


def test_a_schedule_changes_what_is_learned() -> None:
    made, samples = recipe("undercomplete", "tabular"), draw("tabular", 32)
    learned = [
        parameters_to_vector(train(made, MEMBERS, samples, schedule=schedule, warmup=0.4)[0].parameters())
        for schedule in ("cosine", "constant", "one_cycle")
    ]
    assert not torch.equal(learned[0], learned[1])
    assert not torch.equal(learned[0], learned[2])
    assert not torch.equal(learned[1], learned[2])


def test_looks_before_the_minimum_of_steps_use_up_no_patience() -> None:
    made, samples = recipe("undercomplete", "tabular"), draw("tabular", 8)
    ends = {}
    for least in (0, 900, 10_000):
        looks: list[Look] = []
        train(made, MEMBERS, samples, 2000, 0.05, looks.append, patience=3, min_steps=least)
        ends[least] = [max(look.step for look in looks if at in look.members) for at in range(3)]
    assert max(ends[0]) < 900
    assert min(ends[900]) >= 900 + 3 * TRAINING.check_every
    assert ends[10_000] == [2000] * 3


def gradients(members: int, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(members, *shape, generator=random) for shape in ((5, 3), (37,), (), (130, 70))]


def clipped(given_: list[torch.Tensor], longest: float) -> list[torch.Tensor]:
    flat = Flat([nn.Parameter(torch.zeros_like(each)) for each in given_])
    for place, each in zip(flat.gradients, given_, strict=True):
        place.copy_(each)
    flat.clip(longest)
    return flat.gradients


def norms(of: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([each.reshape(len(each), -1) for each in of], 1).norm(dim=1)


def test_a_long_gradient_keeps_its_direction_and_a_short_one_is_left_alone() -> None:
    given_ = gradients(3)
    for each in given_:
        each[1] *= 1e-4
    after = clipped(given_, 2.0)
    assert norms(after)[[0, 2]].tolist() == pytest.approx([2.0, 2.0], rel=1e-5)
    for before, now in zip(given_, after, strict=True):
        assert torch.equal(before[1], now[1])
        assert torch.allclose(now[0] / 2.0, before[0] / norms(given_)[0], rtol=1e-5)


def test_the_norm_is_that_of_torch_for_a_member_alone() -> None:
    given_ = gradients(1)
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in given_]
    for parameter, each in zip(parameters, given_, strict=True):
        parameter.grad = each.clone()
    clip_grad_norm_(parameters, 0.7)
    for ours, theirs in zip(clipped(given_, 0.7), parameters, strict=True):
        assert theirs.grad is not None
        assert torch.allclose(ours, theirs.grad, rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_touches_no_other_member(value: float) -> None:
    healthy, sick = gradients(3), gradients(3)
    sick[0][1] = value
    for before, after in zip(clipped(healthy, 0.5), clipped(sick, 0.5), strict=True):
        assert torch.equal(before[[0, 2]], after[[0, 2]])


def test_members_are_clipped_to_the_same_bits_alone_and_together() -> None:
    given_ = gradients(7)
    together = clipped(given_, 0.5)
    for member in range(7):
        alone = clipped([each[member : member + 1] for each in given_], 0.5)
        assert all(torch.equal(one[0], each[member]) for one, each in zip(alone, together, strict=True))


@pytest.mark.parametrize("variant", ["adversarial", "variational"])
def test_a_clipped_training_differs_and_is_the_same_alone_as_in_a_stack(variant: str) -> None:
    made, samples = recipe(variant, "tabular"), draw("tabular", 32)
    free, _ = train(made, MEMBERS, samples)
    together, _ = train(made, MEMBERS, samples, clip=0.05)
    loose, _ = train(made, MEMBERS, samples, clip=1e9)
    for name in together.state_dict():
        assert torch.equal(loose.state_dict()[name], free.state_dict()[name])
    for index, member in enumerate(MEMBERS):
        alone, _ = train(made, [member], samples, clip=0.05)
        for name, value in alone.state_dict().items():
            assert torch.equal(value[0], together.state_dict()[name][index]), (member, name)
    name = "encoder.layers.0.weight"
    assert not torch.equal(together.state_dict()[name], free.state_dict()[name])


def test_a_member_that_diverges_leaves_clipped_neighbours_alone() -> None:
    samples, poisoned = draw("tabular", 32), draw("tabular", 32)
    poisoned.values[samples.labels == 0] = np.float32("inf")
    members = [Member(0, "b"), Member(1, "b"), Member(0, "a")]
    made = recipe("undercomplete", "tabular")
    healthy, _ = train(made, members, samples, clip=0.1)
    model, outcome = train(made, members, poisoned, clip=0.1)
    assert [failure is None for failure in outcome.failures] == [True, True, False]
    for name, value in model.state_dict().items():
        assert torch.equal(value[:2], healthy.state_dict()[name][:2])
