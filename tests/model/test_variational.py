"""Posterior collapse and its remedies, and what the evidence's numbers are held against."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from latentops.architectures.stack import Batch
from latentops.config import MLP, Architectures
from latentops.data.prepared import Samples
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Noise
from latentops.variants.parts import evidence
from latentops.variants.variational import Variant, risen
from tests.toy import SMALL, agree, batch_of, describe, draw, recipe, train

LINEAR = Architectures.model_validate(
    {"mlp": {"hidden": []}, "convolutional": {"channels": [2]}, "recurrent": {"hidden": 2}}
)
MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
OPTIONS: list[dict[str, object]] = [
    {"warmup": "linear"},
    {"warmup": "cyclic", "cycles": 2},
    {"free_bits": 0.2},
    {"capacity": 3.0},
]


def noise(members: int) -> Noise:
    return Noise([torch.Generator().manual_seed(i) for i in range(members)])


def plane(rows: int = 256) -> np.ndarray:
    """Rows near a plane in seven dimensions, with variances 9 and 2.25 in it and 0.25 outside."""
    random = np.random.default_rng(1)
    axes = np.linalg.qr(random.normal(size=(7, 2)))[0].T
    values = random.normal(size=(rows, 2)) * [3.0, 1.5] @ axes + 0.5 * random.normal(size=(rows, 7))
    return (values - values.mean(axis=0)).astype(np.float32)


@cache
def health(**section: object) -> dict[str, float]:
    """Of a model of the digits after 700 steps."""
    values = (load_digits().images / 16).astype(np.float32)[:, None]
    digits = Samples(values, None, np.zeros(len(values), np.int64), np.zeros((len(values), 32), np.uint8))
    described = replace(describe("image"), shape=(1, 8, 8), classes=("all",), spread=0.3)
    sizes = SMALL.model_copy(update={"mlp": MLP(hidden=[64, 32])})
    made = Recipe.resolve("variational", {"beta": 8.0} | section, "mlp", sizes, 8, described)
    members = MEMBERS[:2]
    model, _ = train(
        made, members, digits, steps=700, rate=0.009, batch_size=64, check_every=50, patience=100
    )
    found = Trained(model, members, made).diagnose(digits)
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_a_posterior_collapses_where_beta_is_high() -> None:
    collapsed = health()
    assert collapsed["kl_unit_most"] < 0.1
    assert collapsed["kl"] < 0.2
    assert collapsed["mutual_information"] < 0.2


@pytest.mark.parametrize(
    "remedy",
    [
        {"beta": 1.0},
        {"warmup": "linear", "ramp": 1.0},
        {"warmup": "cyclic", "cycles": 2, "ramp": 1.0},
        {"free_bits": 0.5},
        {"capacity": 8.0},
    ],
    ids=str,
)
def test_each_remedy_undoes_it(remedy: dict[str, object]) -> None:
    found = health(**remedy)
    assert found["kl_unit_most"] > 0.1
    assert found["kl"] > 0.5
    assert found["mutual_information"] > 0.5


def test_capacity_holds_the_kl_and_free_bits_hold_every_unit() -> None:
    assert health(capacity=8.0)["kl"] == pytest.approx(8.0, abs=0.4)
    assert health(capacity=4.0)["kl"] == pytest.approx(4.0, abs=0.4)
    assert health(free_bits=0.5)["kl_unit_least"] == pytest.approx(0.5, abs=0.1)


def test_the_bounds_are_in_order() -> None:
    """ELBO ≤ importance-weighted; I(x; z) ≤ KL, of which it is a part; the least unit is below the mean."""
    found = health(beta=1.0)
    assert found["elbo"] < found["importance_weighted"]
    assert found["mutual_information"] <= found["kl"]
    assert found["kl_unit_least"] <= found["kl"] / 8 <= found["kl_unit_most"]


@pytest.mark.parametrize(
    ("progress", "ramp", "cycles", "expected"),
    [(0.0, 0.5, 1, 0.0), (0.25, 0.5, 1, 0.5), (0.5, 0.5, 1, 1.0), (1.0, 1.0, 1, 1.0), (0.125, 0.5, 4, 1.0),
     (0.0625, 0.5, 4, 0.5), (0.3125, 0.5, 4, 0.5), (1.0, 0.5, 4, 1.0), (0.26, 1.0, 4, 0.04)],
)  # fmt: skip
def test_beta_rises_once_or_in_cycles(progress: float, ramp: float, cycles: int, expected: float) -> None:
    assert risen(progress, ramp, cycles) == pytest.approx(expected)


def test_the_warm_up_weights_the_kl_and_ends_at_beta() -> None:
    linear = recipe("variational", "tabular", beta=3.0, warmup="linear", ramp=0.5).build(MEMBERS)
    cyclic = recipe("variational", "tabular", beta=3.0, warmup="cyclic", cycles=2).build(MEMBERS)
    assert [linear.coefficients(p)["kl"] for p in (0.25, 0.5, 0.6)] == pytest.approx([1.5, 3.0, 3.0])
    assert [cyclic.coefficients(p)["kl"] for p in (0.25, 0.5, 0.625)] == pytest.approx([3.0, 3.0, 1.5])
    assert linear.coefficients()["kl"] == cyclic.coefficients()["kl"] == 3.0


def test_each_count_of_the_kl_is_by_its_definition() -> None:
    batch = batch_of(draw("tabular", 32), 3)
    plain = recipe("variational", "tabular").build(MEMBERS)
    assert isinstance(plain, Variant)
    mean, log_variance = plain.posterior(batch)
    by_unit = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(1)
    floor = by_unit.median().item()
    free = recipe("variational", "tabular", free_bits=floor).build(MEMBERS)
    expected = torch.maximum(by_unit, torch.tensor(floor)).sum(-1) - 2 * floor
    term = free.loss_terms(batch, noise(3))["kl_above_free_bits"]
    torch.testing.assert_close(term, expected)
    held = recipe("variational", "tabular", capacity=3.0).build(MEMBERS)
    torch.testing.assert_close(
        held.loss_terms(batch, noise(3))["capacity_gap"], (by_unit.sum(-1) - 3.0).abs()
    )
    assert held.schedules(0.25) == {"capacity": 1.5}


@pytest.mark.parametrize("option", [*OPTIONS, {"warmup": "linear", "ramp": 1.0}], ids=str)
def test_every_option_changes_what_is_learned(option: dict[str, object]) -> None:
    samples = draw("tabular", 24)
    base = {"warmup": option["warmup"]} if "ramp" in option else {}
    plain, _ = train(recipe("variational", "tabular", **base), MEMBERS[:1], samples, steps=20)
    other, _ = train(recipe("variational", "tabular", **option), MEMBERS[:1], samples, steps=20)
    assert not torch.equal(next(plain.parameters()), next(other.parameters()))


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_member_in_a_stack_equals_itself_alone_under_every_option(option: dict[str, object]) -> None:
    samples, made = draw("sequence", 24), recipe("variational", "sequence", **option)
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"capacity": 1.0, "free_bits": 0.1}, "set free_bits: 0"),
        ({"capacity": 1.0, "warmup": "linear"}, "set warmup: none"),
        ({"beta": 0.0, "free_bits": 0.1}, "need a beta above 0"),
        ({"free_bits": -0.1}, "greater than or equal to 0"),
        ({"ramp": 0.0}, "greater than 0"),
        ({"warmup": "cosine"}, "'none', 'linear' or 'cyclic'"),
    ],
)
def test_what_contradicts_itself_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variant_settings("variational", {"beta": 1.0} | section)


@pytest.mark.parametrize("kind", ["image", "tabular", "sequence"])
def test_samples_nats_average_to_the_likelihoods(kind: str) -> None:
    model = recipe("variational", kind).build(MEMBERS)
    batch = batch_of(draw(kind, 9), 3)
    outputs = model.decode(model.encode(batch), batch.padded)
    each = evidence.sample_nats(model.likelihood, batch, outputs)
    assert each.shape == (3, 9)
    torch.testing.assert_close(each.mean(-1), model.likelihood.negative_log_likelihood(batch, outputs))


def test_the_importance_weighted_bound_reaches_the_true_likelihood() -> None:
    """For a linear model the marginal is known: x ~ N(b, WWᵀ + σ²I)."""
    model = Recipe.resolve("variational", {"beta": 1.0}, "mlp", LINEAR, 2, describe("tabular")).build(
        MEMBERS[:1]
    )
    assert isinstance(model, Variant)
    weights = model.state_dict()
    decoder, bias = weights["decoder.layers.0.weight"][0], weights["decoder.layers.0.bias"][0, 0]
    marginal = torch.distributions.MultivariateNormal(bias, decoder.T @ decoder + torch.eye(7))
    batch = Batch(torch.from_numpy(plane(64))[None] * 0.3)
    with torch.no_grad():
        found = evidence.log_weights(model, batch, *model.posterior(batch), noise(1), draws=4000)
    truth = marginal.log_prob(batch.values[0]).mean().item()
    bounds = [evidence.importance_weighted(found, draws).item() for draws in (1, 10, 100, 4000)]
    assert bounds == sorted(bounds)
    assert bounds[0] < truth - 0.1
    assert bounds[-1] == pytest.approx(truth, abs=0.02)


def test_a_code_knows_nothing_everything_or_half_of_its_sample() -> None:
    far = torch.arange(16.0).view(1, 16, 1) * 100
    sharp, blunt = torch.zeros(1, 16, 1), torch.zeros(1, 16, 1)
    assert evidence.mutual_information(blunt, blunt, noise(1)).item() == pytest.approx(0, abs=1e-6)
    assert evidence.mutual_information(far, sharp, noise(1)).item() == pytest.approx(math.log(16))
    paired = (torch.arange(16.0) // 2).view(1, 16, 1) * 100
    assert evidence.mutual_information(paired, sharp, noise(1)).item() == pytest.approx(math.log(8))


def test_the_diagnosis_is_the_same_every_time() -> None:
    made = recipe("variational", "sequence")
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    samples = draw("sequence", 20)
    first = trained.diagnose(samples)
    assert first == trained.diagnose(samples)
    assert all(len(values) == 3 and np.isfinite(values).all() for values in first.values())


def test_both_gradients_are_right_and_the_reparameterised_one_varies_less() -> None:
    """Of a linear model they are known: ``W(x - b - Wᵀμ)`` by μ, ``-σ_j² |w_j|² / 2`` by log σ_j²."""
    model = Recipe.resolve("variational", {"beta": 1.0}, "mlp", LINEAR, 2, describe("tabular")).build(
        MEMBERS[:2]
    )
    batch = batch_of(draw("tabular", 16), 2)
    assert isinstance(model, Variant)
    with torch.no_grad():
        mean, log_variance = model.posterior(batch)
        weight = model.state_dict()["decoder.layers.0.weight"]
        by_mean = (batch.values - model.decode(mean)) @ weight.mT
        by_log_variance = -0.5 * log_variance.exp() * weight.square().sum(-1).unsqueeze(1)
    truth = torch.cat([by_mean, by_log_variance], dim=-1)
    estimates = evidence.gradients(model, batch, mean, log_variance, noise(2), draws=2000)
    for estimate in estimates:
        error = (estimate.mean(0) - truth).abs() / (estimate.std(0) / math.sqrt(2000))
        assert float(error.mean()) < 1.2
        assert float(error.max()) < 5
    pathwise, score = map(evidence.gradient_variance, estimates)
    assert pathwise.shape == score.shape == (2,)
    assert bool((score > 10 * pathwise).all())


def test_kl_by_unit_falls_and_sums_to_the_kl() -> None:
    model = recipe("variational", "tabular").build(MEMBERS)
    batch = batch_of(draw("tabular", 30), 3)
    by_unit = model.profiles(batch)["kl_by_unit"].values
    assert bool((by_unit.diff(dim=-1) <= 0).all())
    torch.testing.assert_close(by_unit.sum(-1), model.diagnose(batch)["kl"])
