"""Each likelihood against its definition, in nats, and what it is told of the data."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.config import LikelihoodName, LikelihoodSettings, parse
from latentops.errors import ConfigError, LikelihoodError
from latentops.training.members import Member
from latentops.training.trained import Recipe
from latentops.variants.likelihood import (
    HUBER_THRESHOLD,
    FixedGaussianLikelihood,
    GaussianLikelihood,
    HuberLikelihood,
    Likelihood,
    MixedLikelihood,
    build_likelihood,
)
from tests.toy import SMALL, agree, batch_of, describe, draw, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
COLUMNS = (1, 3, 1, 2)
"""Of seven values: two numbers, one of three categories and one of two."""


def random(shape: torch.Size, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def indicators(batch: Batch) -> Batch:
    """The same rows, their categories one-hot."""
    parts = []
    for width, part in zip(COLUMNS, batch.values.split(COLUMNS, dim=-1), strict=True):
        hot = torch.nn.functional.one_hot(part.argmax(-1), width).to(part.dtype)
        parts.append(part if width == 1 else hot)
    return batch.with_values(torch.cat(parts, -1))


def test_a_fixed_variance_gives_the_normal_density_over_valid_values() -> None:
    batch = batch_of(draw("sequence", 6), 2)
    outputs = random(batch.values.shape).requires_grad_()
    nats = FixedGaussianLikelihood(0.7).negative_log_likelihood(batch, outputs)
    density = torch.distributions.Normal(outputs, math.sqrt(0.7)).log_prob(batch.values)
    expected = -(density * batch.mask).flatten(2).sum(-1).mean(-1)
    torch.testing.assert_close(nats, expected)
    found, right = (torch.autograd.grad(each.sum(), outputs)[0] for each in (nats, expected))
    torch.testing.assert_close(found, right)


def test_at_variance_one_half_it_is_the_squared_error() -> None:
    batch = batch_of(draw("image", 6), 2)
    outputs = random(batch.values.shape)
    nats = FixedGaussianLikelihood(0.5).negative_log_likelihood(batch, outputs)
    squares = ((batch.values - outputs) ** 2).flatten(2).sum(-1).mean(-1)
    torch.testing.assert_close(nats - squares, torch.full((2,), 15 * math.log(math.pi)))


@pytest.mark.parametrize("threshold", [0.5, HUBER_THRESHOLD, 3.0])
def test_hubers_density_integrates_to_one_and_is_his(threshold: float) -> None:
    likelihood = HuberLikelihood(1, spread=0.8, threshold=threshold).double()

    def nats(residual: float) -> float:
        batch = Batch(torch.tensor([[[residual]]], dtype=torch.float64))
        return float(likelihood.negative_log_likelihood(batch, torch.zeros_like(batch.values)).detach())

    edge = 0.8 * threshold
    pieces = [(-60.0, -edge), (-edge, edge), (edge, 60.0)]
    assert sum(quad(lambda r: math.exp(-nats(r)), *ends)[0] for ends in pieces) == pytest.approx(1, abs=1e-6)
    for residual in (-3.0, -0.1, 0.3, 2.0):
        scaled = torch.tensor(residual / 0.8, dtype=torch.float64)
        loss = torch.nn.functional.huber_loss(scaled, torch.zeros_like(scaled), delta=threshold)
        assert nats(residual) - nats(0.0) == pytest.approx(float(loss))


def test_a_wide_threshold_makes_huber_the_normal_density() -> None:
    batch = batch_of(draw("sequence", 6), 2)
    outputs = random(batch.values.shape)
    wide, normal = HuberLikelihood(2, 1.3, threshold=30.0), GaussianLikelihood(2, 1.3)
    torch.testing.assert_close(
        wide.negative_log_likelihood(batch, outputs), normal.negative_log_likelihood(batch, outputs)
    )


def test_hubers_gradient_is_bounded_where_the_normal_one_grows() -> None:
    batch = Batch(torch.tensor([[[1.0, 100.0]]]))

    def pulls(likelihood: Likelihood) -> list[float]:
        outputs = torch.zeros_like(batch.values).requires_grad_()
        likelihood.negative_log_likelihood(batch, outputs).sum().backward()
        assert outputs.grad is not None
        return (-outputs.grad).flatten().tolist()

    assert pulls(GaussianLikelihood(1, 1.0)) == pytest.approx([1, 100])
    assert pulls(HuberLikelihood(1, 1.0)) == pytest.approx([1, HUBER_THRESHOLD])


def test_a_mixed_table_is_a_normal_density_and_a_cross_entropy_for_each_category() -> None:
    batch = indicators(batch_of(draw("tabular", 6), 2))
    outputs = random(batch.values.shape)
    likelihood = MixedLikelihood(2, 1.3, COLUMNS)
    (x, first, y, second), (m, logits, n, odds) = (
        each.split(COLUMNS, dim=-1) for each in (batch.values, outputs)
    )
    normal = torch.distributions.Normal(torch.cat([m, n], -1), 1.3).log_prob(torch.cat([x, y], -1)).sum(-1)
    chosen = [
        torch.distributions.Categorical(logits=each).log_prob(hot.argmax(-1))
        for each, hot in ((logits, first), (odds, second))
    ]
    expected = -(normal + chosen[0] + chosen[1]).mean(-1)
    torch.testing.assert_close(likelihood.negative_log_likelihood(batch, outputs), expected)
    _, shares, _, others = likelihood.mean(outputs).split(COLUMNS, dim=-1)
    torch.testing.assert_close(shares, logits.softmax(-1))
    torch.testing.assert_close(others, odds.softmax(-1))


def test_a_missing_category_costs_nothing_and_pulls_nowhere() -> None:
    batch = indicators(batch_of(draw("tabular", 6)))
    missing = batch.with_values(batch.values * torch.tensor([1.0, 0, 0, 0, 1, 1, 1]))
    outputs = random(batch.values.shape).requires_grad_()
    likelihood = MixedLikelihood(1, 1.0, COLUMNS)
    likelihood.negative_log_likelihood(missing, outputs).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad[..., 1:4].eq(0).all()
    assert outputs.grad[..., 5:].ne(0).all()


@pytest.mark.parametrize("chosen", ["gaussian", {"name": "gaussian", "variance": 0.5}, "huber", "bernoulli"])
def test_padding_contributes_nothing(chosen: object) -> None:
    batch = batch_of(draw("sequence", 8), 2)
    batch = batch.with_values((batch.values > 0).float() * batch.mask)
    likelihood = build_likelihood(LikelihoodSettings.model_validate(chosen), 2, Shape((5, 3), True))
    outputs = random(batch.values.shape)
    other = outputs + 7 * (1 - batch.mask)
    dirty = batch.with_values(batch.values + 0.5 * (1 - batch.mask))
    nats = likelihood.negative_log_likelihood(batch, outputs)
    torch.testing.assert_close(likelihood.negative_log_likelihood(dirty, other), nats)
    longer = Batch(torch.nn.functional.pad(batch.values, (0, 0, 0, 4)), batch.lengths)
    padded = torch.nn.functional.pad(outputs, (0, 0, 0, 4), value=3.0)
    torch.testing.assert_close(likelihood.negative_log_likelihood(longer, padded), nats)


def made(chosen: object, variant: str = "undercomplete") -> Recipe:
    described = replace(describe("tabular"), columns=COLUMNS)
    section = {"variational": {"beta": 1.0}}.get(variant, {})
    settings = LikelihoodSettings.model_validate(chosen)
    return Recipe.resolve(variant, section, "mlp", SMALL, 2, described, settings)


CHOICES = ["huber", {"name": "huber", "threshold": 0.5}, {"name": "gaussian", "variance": 0.5}, "mixed"]


@pytest.mark.parametrize("chosen", CHOICES)
def test_a_member_in_a_stack_equals_the_same_member_alone(chosen: object) -> None:
    samples = draw("tabular", 24)
    samples.values[:] = indicators(batch_of(samples)).values[0].numpy()
    together, outcome = train(made(chosen, "variational"), MEMBERS, samples, steps=20)
    assert all(outcome.moved)
    for index, member in enumerate(MEMBERS):
        alone, _ = train(made(chosen, "variational"), [member], samples, steps=20)
        for name, value in alone.state_dict().items():
            assert agree(value[0], together.state_dict()[name][index]), (member, name)


@pytest.mark.parametrize("chosen", CHOICES)
def test_what_is_chosen_is_saved_and_changes_the_gradients(chosen: object) -> None:
    recipe = made(chosen)
    assert Recipe.from_json(recipe.to_json()) == recipe
    batch = indicators(batch_of(draw("tabular", 8), 3))

    def gradients(recipe: Recipe) -> torch.Tensor:
        model = recipe.build(MEMBERS)
        model.nats(batch, model.encode(batch)).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.decoder.parameters() if p.grad is not None])

    assert not torch.allclose(gradients(recipe), gradients(made("gaussian")))


def test_a_config_saved_before_there_were_options_loads() -> None:
    value = made("gaussian").to_json()
    del value["description"]["columns"]
    assert value["likelihood"] == "gaussian"
    loaded = Recipe.from_json(value)
    assert loaded.likelihood == LikelihoodSettings(name="gaussian")
    assert loaded.description.columns == ()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"name": "huber", "variance": 1.0}, "variance is fixed of a gaussian alone"),
        ({"name": "gaussian", "threshold": 1.0}, "threshold belongs to huber"),
        ({"name": "gaussian", "variance": 0.0}, "variance: .*greater than 0"),
        ({"name": "gaussian", "varance": 1.0}, "did you mean 'variance'"),
        ("gausian", "name: .*'gaussian'"),
    ],
)
def test_what_does_not_go_together_is_refused(chosen: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(LikelihoodSettings, chosen, "params.yaml: likelihood")


@pytest.mark.parametrize(
    ("columns", "message"),
    [((), "names no categorical column; use likelihood: gaussian"), ((1, 3), "don't make up rows")],
)
def test_mixed_needs_columns_that_make_up_the_rows(columns: tuple[int, ...], message: str) -> None:
    described = replace(describe("tabular"), columns=columns)
    name: LikelihoodName = "mixed"
    with pytest.raises(LikelihoodError, match=message):
        Recipe.resolve("undercomplete", {}, "mlp", SMALL, 2, described, name)
