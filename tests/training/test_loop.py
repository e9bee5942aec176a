import numpy as np
import pytest
import torch

from latentops.config import Budget
from latentops.errors import DataError
from latentops.training.loop import Look, learning_rate
from latentops.training.members import Buckets, Member, Order, looked_at, stack_members, view_rows
from latentops.training.trained import Trained
from tests.toy import TRAINING, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


def test_training_lowers_the_objective() -> None:
    looks: list[Look] = []
    samples = draw("tabular", 64)
    samples.values[:, 2:] = samples.values[:, :1]
    train(recipe("undercomplete", "tabular"), MEMBERS, samples, steps=200, on_look=looks.append)
    assert bool((looks[-1].stop < looks[0].stop).all())


def test_two_trainings_give_the_same_bytes() -> None:
    samples = draw("sequence", 32)
    made = recipe("denoising", "sequence", "recurrent")
    first, second = (train(made, MEMBERS, samples)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seeds_and_views_give_different_members() -> None:
    model, _ = train(recipe("undercomplete", "tabular"), MEMBERS, draw("tabular", 32))
    weight = model.state_dict()["encoder.layers.0.weight"]
    assert not torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])


def test_a_member_that_diverges_is_reported_and_leaves_the_others_alone() -> None:
    samples = draw("tabular", 32)
    poisoned = draw("tabular", 32)
    poisoned.values[samples.labels == 0] = np.float32(
        "inf"
    )  # rows of class a, which only the third member needs
    made = recipe("undercomplete", "tabular")
    members = [Member(0, "b"), Member(1, "b"), Member(0, "a")]
    healthy, _ = train(made, members, samples)
    model, outcome = train(made, members, poisoned)
    assert [failure is None for failure in outcome.failures] == [True, True, False]
    failure = outcome.failures[2]
    assert failure is not None
    assert (failure.step, failure.term) == (1, "reconstruction")
    assert set(samples.labels[failure.rows]) == {0}
    for name, value in model.state_dict().items():
        assert torch.equal(value[:2], healthy.state_dict()[name][:2])
        assert torch.isfinite(value).all()


def test_the_best_weights_are_kept_not_the_last() -> None:
    looks: list[Look] = []
    samples = draw("tabular", 12)
    made = recipe("undercomplete", "tabular")
    model, outcome = train(
        made, MEMBERS[:1], samples, steps=400, on_look=looks.append, rate=0.05, patience=1000
    )
    best = min(looks, key=lambda look: float(look.stop[0]))
    assert outcome.best_step[0] == best.step
    assert outcome.best_objective[0] == pytest.approx(float(best.stop[0]))
    stop = samples.select(slice(0, 4))
    trained = Trained(model, MEMBERS[:1], made)
    variance = float(model.likelihood.log_variance.exp())
    error = float(trained.residuals(stop).sum(axis=2).mean())
    objective = 0.5 * (7 * np.log(2 * np.pi * variance) + error / variance)
    assert objective == pytest.approx(outcome.best_objective[0], rel=1e-4)


def test_patience_ends_a_training_that_does_not_improve() -> None:
    _, outcome = train(
        recipe("undercomplete", "tabular"), MEMBERS, draw("tabular", 8), steps=5000, patience=3, rate=0.05
    )
    assert outcome.steps < 5000
    assert all(outcome.stopped_early)


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, Budget(steps=100, learning_rate=1.0), TRAINING) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.001


def test_a_constant_schedule_stays_where_it_rose_to() -> None:
    training = TRAINING.model_copy(update={"schedule": "constant"})
    rates = [learning_rate(step, Budget(steps=100, learning_rate=1.0), training) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert set(rates[10:]) == {1.0}


def test_an_order_shows_every_row_of_its_view_once_an_epoch() -> None:
    order = Order(np.array([3, 5, 8, 9]), torch.Generator().manual_seed(0))
    taken = torch.cat([order.take(3) for _ in range(4)])
    for epoch in taken.split(4):
        assert sorted(epoch.tolist()) == [3, 5, 8, 9]


def test_members_are_seeds_times_views() -> None:
    members = stack_members([4, 7], ["a"])
    assert members == (Member(4, "all"), Member(7, "all"), Member(4, "a"), Member(7, "a"))


def test_an_empty_view_is_an_error_that_names_it() -> None:
    samples = draw("tabular", 6).select(np.array([0, 2]))
    with pytest.raises(DataError, match="'b'"):
        view_rows(samples, "b", ("a", "b"))


def test_small_views_are_cycled_evenly() -> None:
    assert looked_at(np.array([1, 2, 3]), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]


def test_of_large_views_evenly_spaced_rows_are_looked_at() -> None:
    assert looked_at(np.arange(100, 110), 4).tolist() == [100, 102, 105, 107]


def test_members_that_have_left_the_stack_change_nothing_for_the_others() -> None:
    samples = draw("tabular", 64)
    samples.values[samples.labels == 0] *= 0.01  # soon learned by the members that see these alone
    made = recipe("variational", "tabular")
    members = [Member(0, "all"), Member(0, "a"), Member(1, "all"), Member(1, "a")]
    looks: list[Look] = []
    together, outcome = train(made, members, samples, 400, 0.02, looks.append, patience=3)
    assert len({len(look.members) for look in looks}) > 1
    for index, member in enumerate(members):
        alone, its = train(made, [member], samples, 400, 0.02, patience=3)
        assert its.best_step[0] == outcome.best_step[index]
        assert its.stopped_early[0] == outcome.stopped_early[index]
        for name, value in alone.state_dict().items():
            assert torch.equal(value[0], together.state_dict()[name][index]), (member, name)


def test_buckets_hold_every_row_once_shortest_first() -> None:
    samples = draw("sequence", 40)
    buckets = Buckets.of(samples, 3)
    rows = view_rows(samples, "a", ("a", "b"))
    parts = buckets.split(rows)
    assert sorted(np.concatenate(parts)) == sorted(rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for bucket, part in enumerate(parts):
        assert samples.lengths[part].max() <= buckets.padded(bucket)
    assert [samples.lengths[part].mean() for part in parts] == sorted(
        samples.lengths[part].mean() for part in parts
    )


def test_every_bucket_has_its_turn_in_an_order_that_depends_on_the_step_alone() -> None:
    first, again = Buckets.of(draw("sequence", 40), 3), Buckets.of(draw("sequence", 60, seed=1), 3)
    turns = [[first.at(step) for step in range(start, start + 3)] for start in range(0, 60, 3)]
    assert all(sorted(turn) == [0, 1, 2] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert [again.at(step) for step in range(60)] == [bucket for turn in turns for bucket in turn]


def test_a_class_with_few_rows_makes_fewer_buckets() -> None:
    samples = draw("sequence", 40)
    samples.labels[:] = 0
    samples.labels[:2] = 1
    assert len(Buckets.of(samples, 8).steps) == 2


def test_bucketed_training_lowers_the_objective_on_all_lengths() -> None:
    looks: list[Look] = []
    made = recipe("undercomplete", "sequence", "recurrent")
    train(made, MEMBERS, draw("sequence", 64), 200, 0.02, looks.append, buckets=3)
    assert bool((looks[-1].stop < looks[0].stop).all())
