"""Priors by their moments, the discriminator's remedies by their definitions, the guard by what it stops."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from latentops.config import Budget
from latentops.errors import ConfigError
from latentops.training.loop import Look, Outcome, fit
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants import variant_settings
from latentops.variants.adversarial import Variant
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.discriminator import Discriminator
from latentops.variants.parts.prior_match import mmd, two_sample, wilson
from latentops.variants.parts.priors import Categorical, build_prior
from tests.toy import TRAINING, agree, batch_of, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
OPTIONS: list[dict[str, object]] = [
    {"prior": "mixture", "components": 3},
    {"prior": "uniform"},
    {"prior": "swiss_roll"},
    {"prior": "categorical", "components": 2, "latent": 3},
    {"spectral_norm": True},
    {"gradient_penalty": 1.0},
    {"label_smoothing": 0.1},
    {"instance_noise": 0.5},
    {"discriminator_rate": 0.3},
    {"spectral_norm": True, "gradient_penalty": 1.0, "discriminator_rate": 2.0, "strain_limit": 20.0},
]
every_option = pytest.mark.parametrize("option", OPTIONS, ids=str)


def noise(members: int) -> Noise:
    return Noise([torch.Generator().manual_seed(i) for i in range(members)])


def built(**section: object) -> Variant:
    model = recipe("adversarial", "tabular", **section).build(MEMBERS)  # type: ignore[arg-type]
    assert isinstance(model, Variant)
    return model


PRIORS = ["gaussian", "mixture", "uniform", "swiss_roll"]


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("latent", [2, 5])
def test_every_unit_of_a_prior_has_mean_zero_and_variance_one(name: str, latent: int) -> None:
    codes = build_prior(name, latent, 7).draw(noise(2), 100_000)  # type: ignore[arg-type]
    assert codes.shape == (2, 100_000, latent)
    assert codes.mean(1).abs().max().item() < 0.02
    assert (codes.var(1) - 1).abs().max().item() < 0.02
    assert not torch.equal(codes[0], codes[1])


def test_two_components_lie_on_a_line_that_is_one_unit() -> None:
    codes = build_prior("mixture", 2, 2).draw(noise(1), 100_000)[0]
    assert (codes.var(0) - 1).abs().max().item() < 0.02
    assert codes[:, 0].abs().min().item() > 0.05
    assert (codes[:, 0] > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "kurtosis"),
    [("gaussian", 3.0), ("uniform", 9 / 5), ("mixture", 1.5 * 0.96**2 + 6 * 0.96 * 0.04 + 3 * 0.04**2)],
)
def test_a_priors_fourth_moment_is_its_own(name: str, kurtosis: float) -> None:
    """Of a circle's coordinate of variance v = 0.96, many components: 3/2 v²; of a sum with N(0, 0.04) so."""
    first = build_prior(name, 2, 100).draw(noise(1), 200_000)[0, :, 0]  # type: ignore[arg-type]
    assert float((first**4).mean()) == pytest.approx(kurtosis, rel=0.02)


def test_the_uniform_prior_ends_at_root_three_and_the_mixture_has_its_components() -> None:
    uniform = build_prior("uniform", 3, 2).draw(noise(1), 50_000)
    assert uniform.abs().max().item() == pytest.approx(math.sqrt(3), abs=0.001)
    assert stats.kstest(uniform[0, :, 0], stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)).cdf).pvalue > 0.001
    plane = build_prior("mixture", 3, 4).draw(noise(1), 40_000)[0, :, :2]
    angle = torch.atan2(plane[:, 1], plane[:, 0])
    counts = torch.bincount((angle / (math.pi / 2)).round().long() % 4)
    assert counts.shape == (4,)
    assert (counts - 10_000).abs().max().item() < 400
    radius = math.sqrt(2 * 0.96)
    assert float(plane[angle.abs() < 0.5].mean(0)[0]) == pytest.approx(radius, abs=0.02)


def test_the_swiss_roll_lies_along_its_sheet() -> None:
    """Between its turns there is nothing: a Gaussian of the same moments would be there."""
    prior = build_prior("swiss_roll", 2, 2)
    sheet = prior._sheet(torch.linspace(0, 1, 4000)[:, None])  # type: ignore[attr-defined]
    sheet = (sheet - torch.tensor(prior.centre)) * torch.tensor(prior.scale)  # type: ignore[attr-defined]
    codes = prior.draw(noise(1), 5000)[0]
    distance = torch.cdist(codes, sheet).amin(-1)
    assert float(distance.square().mean()) == pytest.approx(0.2**2, rel=0.2)
    normal = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    assert float(torch.cdist(normal, sheet).amin(-1).mean()) > 1.3 * float(distance.mean())


def test_a_categorical_code_is_a_category_and_a_style() -> None:
    prior = build_prior("categorical", 5, 3)
    codes = prior.draw(noise(2), 30_000)
    assert bool((codes[..., :3].sum(-1) == 1).all())
    assert set(codes[..., :3].unique().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(codes[..., :3].mean(1), 1 / 3, atol=0.01)
    np.testing.assert_allclose(codes[..., 3:].var(1), 1, atol=0.03)
    assert isinstance(prior, Categorical)
    outputs = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior.code(outputs)[..., :3].sum(-1), torch.ones(2, 4))
    torch.testing.assert_close(prior.code(outputs)[..., 3:], outputs[..., 3:])


@pytest.mark.parametrize(
    ("name", "latent", "message"),
    [("categorical", 4, "lower components or raise"), ("mixture", 1, "raise it to 2"),
     ("swiss_roll", 1, "raise it to 2")],
)  # fmt: skip
def test_a_prior_without_room_is_refused(name: str, latent: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe("adversarial", "tabular", latent=latent, prior=name, components=4).build(MEMBERS)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"label_smoothing": 0.5}, "less than 0.5"),
        ({"discriminator_rate": 0.0}, "greater than 0"),
        ({"components": 1}, "greater than 1"),
        ({"prior": "laplace"}, "'gaussian', 'mixture'"),
    ],
)
def test_what_makes_no_sense_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variant_settings("adversarial", {"weight": 1.0, "hidden": 8} | section)


def test_samples_are_decoded_from_the_chosen_prior() -> None:
    model = built(prior="categorical", components=2, latent=3)
    expected = model.decode(model.prior.draw(noise(3), 4))
    torch.testing.assert_close(model.sample(4, noise(3)).values, expected)


# --- the discriminator


def discriminator(rate: float = 1.0, spectral: bool = False) -> Discriminator:
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    return Discriminator(4, 16, generators, rate, spectral)


CODES = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))


def test_spectral_normalisation_divides_by_the_largest_singular_value() -> None:
    normal = discriminator(spectral=True)
    for layer in normal.layers:
        assert isinstance(layer.weight, torch.Tensor)
        largest = torch.linalg.svdvals(layer.weight.detach())[:, 0]
        torch.testing.assert_close(layer.largest().flatten(), largest, rtol=0.02, atol=0)  # type: ignore[operator]
    for _ in range(200):
        normal.iterate()
    for layer in normal.layers:
        largest = torch.linalg.svdvals(layer.weight.detach())[:, 0]  # type: ignore[arg-type, union-attr]
        torch.testing.assert_close(layer.largest().flatten(), largest)  # type: ignore[operator]
        unit = layer.weight / layer.largest()  # type: ignore[operator]
        own = torch.baddbmm(layer.bias, torch.ones(3, 1, unit.shape[1]), unit)  # type: ignore[arg-type]
        torch.testing.assert_close(layer(torch.ones(3, 1, unit.shape[1])), own)
    further = CODES + 0.5 * torch.randn(CODES.shape, generator=torch.Generator().manual_seed(1))
    steepest = (normal(further) - normal(CODES)).abs() / (further - CODES).norm(dim=-1)
    assert steepest.max().item() <= 1 + 1e-5


def test_power_iterations_follow_the_weights_in_training_alone() -> None:
    model = built(spectral_norm=True)
    batch = batch_of(draw("tabular", 16), 3)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.eval()
    model.loss_terms(batch, noise(3))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model.train()
    model.loss_terms(batch, noise(3))
    for name in ("discriminator.layers.0.direction", "discriminator.layers.1.direction"):
        assert not torch.equal(model.get_buffer(name), before[name])


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_slope_is_autograds_and_can_be_differentiated(rate: float, spectral: bool) -> None:
    made = discriminator(rate, spectral)
    codes = CODES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(made(codes).sum(), codes, create_graph=True)
    torch.testing.assert_close(made.squared_slope(CODES), gradient.square().sum(-1))
    weights = [layer.weight for layer in made.layers]
    ours = torch.autograd.grad(made.squared_slope(CODES).sum(), weights)  # type: ignore[arg-type]
    theirs = torch.autograd.grad(gradient.square().sum(), weights)  # type: ignore[arg-type]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_rate_of_its_own_changes_the_steps_and_not_the_start() -> None:
    """Adam's first step is the learning rate for every parameter; here for its share of the weight."""
    torch.testing.assert_close(discriminator(rate=0.25)(CODES), discriminator()(CODES))
    moved = {}
    for rate in (1.0, 0.25):
        made = recipe("adversarial", "tabular", discriminator_rate=rate)
        before = made.build(MEMBERS[:1]).get_parameter("discriminator.layers.1.weight").detach()
        model, _ = train(made, MEMBERS[:1], draw("tabular", 32), steps=1, check_every=1)
        moved[rate] = rate * (model.get_parameter("discriminator.layers.1.weight").detach() - before)
    assert float(moved[1.0].abs().median()) == pytest.approx(4 * float(moved[0.25].abs().median()), rel=1e-3)


def test_the_discriminators_loss_is_cross_entropy_with_smoothed_labels() -> None:
    batch = batch_of(draw("tabular", 16), 3)
    for smoothing in (0.0, 0.2):
        model = built(label_smoothing=smoothing)
        terms = model.loss_terms(batch, noise(3))
        drawn = model.prior.draw(noise(3), 16)
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        on_prior, on_codes = model.discriminator(drawn), model.discriminator(model.encode(batch))
        real = entropy(on_prior, torch.full_like(on_prior, 1 - smoothing), reduction="none")
        fake = entropy(on_codes, torch.zeros_like(on_codes), reduction="none")
        torch.testing.assert_close(terms["discrimination"], (real + fake).mean(-1))
        right = torch.cat([on_prior > 0, on_codes <= 0], dim=1).float().mean(-1)
        torch.testing.assert_close(terms["discriminator_accuracy"], right)


def test_instance_noise_falls_to_zero_and_is_seen_by_the_discriminator_alone() -> None:
    batch = batch_of(draw("tabular", 16), 3)
    model, plain = built(instance_noise=2.0), built()
    assert [model.schedules(p)["instance_noise"] for p in (0.0, 0.5, 1.0)] == [2.0, 1.0, 0.0]
    at_the_end, without = model.loss_terms(batch, noise(3)), plain.loss_terms(batch, noise(3))
    for name, value in without.items():
        torch.testing.assert_close(at_the_end[name], value)
    model.now = {"instance_noise": torch.tensor(2.0)}
    early = model.loss_terms(batch, noise(3))
    torch.testing.assert_close(early["reconstruction"], without["reconstruction"])
    assert not torch.allclose(early["discrimination"], without["discrimination"])
    assert not torch.allclose(early["deception"], without["deception"])


def test_r1_is_half_the_squared_slope_on_prior_draws() -> None:
    model = built(gradient_penalty=3.0)
    term = model.loss_terms(batch_of(draw("tabular", 16), 3), noise(3))["slope"]
    drawn = model.prior.draw(noise(3), 16)
    torch.testing.assert_close(term, 0.5 * model.discriminator.squared_slope(drawn).mean(-1))
    assert model.coefficients()["slope"] == 3.0


# --- every option in a stack


@every_option
def test_every_option_changes_what_is_learned_in_every_parameter(option: dict[str, object]) -> None:
    samples = draw("tabular", 24)
    base = {key: option[key] for key in ("latent",) if key in option}
    plain, _ = train(recipe("adversarial", "tabular", **base), MEMBERS[:1], samples, steps=20)  # type: ignore[arg-type]
    other, outcome = train(recipe("adversarial", "tabular", **option), MEMBERS[:1], samples, steps=20)  # type: ignore[arg-type]
    assert outcome.moved == [True]
    assert not torch.equal(
        plain.get_parameter("encoder.layers.0.weight"), other.get_parameter("encoder.layers.0.weight")
    )


@every_option
def test_a_member_in_a_stack_equals_itself_alone_under_every_option(option: dict[str, object]) -> None:
    samples, made = draw("sequence", 24), recipe("adversarial", "sequence", **option)  # type: ignore[arg-type]
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


@every_option
def test_a_replayed_step_is_as_written_and_a_saved_stack_loads(
    option: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = draw("tabular", 24), recipe("adversarial", "tabular", **option)  # type: ignore[arg-type]
    replayed, _ = train(made, MEMBERS, samples, steps=20)
    monkeypatch.setattr("latentops.training.recorded.LONGEST", 0)
    written, _ = train(made, MEMBERS, samples, steps=20)
    for name, value in replayed.state_dict().items():
        assert torch.equal(value, written.state_dict()[name]), name
    trained = Trained(replayed, MEMBERS, made)  # type: ignore[arg-type]
    trained.save(tmp_path / "model")
    loaded = Trained.load(tmp_path / "model")
    assert loaded.diagnose(samples) == trained.diagnose(samples)
    np.testing.assert_array_equal(loaded.sample(3, 0)[0], trained.sample(3, 0)[0])


# --- the guard


def guarded(limit: float | None, spoil: Callable[[Variant], None]) -> tuple[Variant, Outcome]:
    made = recipe("adversarial", "tabular", strain_limit=limit)
    model, samples = made.build(MEMBERS), draw("tabular", 64)
    assert isinstance(model, Variant)
    spoil(model)

    def ignore(look: Look) -> None:
        del look

    budget, classes = Budget(steps=60, learning_rate=0.001), made.description.classes
    device = torch.device("cpu")
    return model, fit(model, MEMBERS, samples, samples, classes, TRAINING, budget, device, ignore)


def nothing(model: Variant) -> None:
    del model


def spoiled(model: Variant) -> None:
    """Member 1's discriminator is sure, and wrong, by 1,000 nats."""
    with torch.no_grad():
        model.get_parameter("discriminator.layers.2.bias")[1] = 1000.0


def test_a_member_whose_game_diverges_is_stopped_and_the_others_go_on() -> None:
    plain, before = guarded(20.0, nothing)
    model, outcome = guarded(20.0, spoiled)
    failure = outcome.failures[1]
    assert failure is not None
    assert failure.term == "discrimination"
    assert len(failure.rows) == TRAINING.batch_size
    assert [outcome.failures[at] for at in (0, 2)] == [None, None]
    assert before.failures == [None] * 3
    for name, value in model.state_dict().items():
        assert torch.isfinite(value).all(), name
        for other in (0, 2):
            assert torch.equal(value[other], plain.state_dict()[name][other]), name


def test_without_a_limit_it_goes_on() -> None:
    assert guarded(None, spoiled)[1].failures == [None] * 3
    assert "strain" not in built().state_dict()


def test_what_is_over_soon_is_not_divergence() -> None:
    """A strain is an average: one step above the limit is none, 60 of them are."""
    model = built(strain_limit=1.0).train()
    batch = batch_of(draw("tabular", 16), 3)
    first = model.loss_terms(batch, noise(3))
    assert bool((first["discrimination"] > 1).all())
    assert all(bool(torch.isfinite(term).all()) for term in first.values())
    for _ in range(60):
        last = model.loss_terms(batch, noise(3))
    assert bool(torch.isnan(last["discrimination"]).all())
    assert bool(torch.isfinite(last["deception"]).all())
    torch.testing.assert_close(model.strain, first["discrimination"].detach() * (1 - 0.98**61))


# --- does the code match the prior?


def normal(seed: int, shift: float = 0.0, members: int = 1) -> torch.Tensor:
    return shift + torch.randn(members, 300, 4, generator=torch.Generator().manual_seed(seed))


def test_the_discrepancy_is_nought_on_average_and_grows_with_the_shift() -> None:
    same = torch.cat([mmd(normal(2 * seed), normal(2 * seed + 1)) for seed in range(20)])
    assert abs(float(same.mean())) < 3 * float(same.std()) / math.sqrt(20)
    assert bool((same < 0).any())
    shifted = [float(mmd(normal(0), normal(1, shift))) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert shifted == sorted(shifted)
    assert shifted[1] > float(same.max())


def test_the_discrepancy_is_by_its_definition() -> None:
    x, y = normal(0)[0, :10].double(), normal(1, 0.5)[0, :10].double()
    both = torch.cat([x, y])
    distances = [float((both[i] - both[j]).norm()) for i in range(20) for j in range(i)]
    width = 2 * float(torch.tensor(distances).median()) ** 2

    def kernel(one: torch.Tensor, other: torch.Tensor) -> float:
        return math.exp(-float((one - other).square().sum()) / width)

    pairs = [(i, j) for i in range(10) for j in range(10)]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / 90
    across = sum(kernel(x[i], y[j]) for i, j in pairs) / 100
    assert float(mmd(x[None], y[None])) == pytest.approx(within - 2 * across)


def test_a_classifier_cannot_tell_the_same_and_tells_the_distant_apart() -> None:
    """At 95 %, 19 of 20 intervals of a fair coin hold 0.5; fewer than 15 would be odd at 1 in 10,000."""
    held = 0
    for seed in range(20):
        told = two_sample(normal(2 * seed), normal(2 * seed + 1))
        held += int(told.low.item() <= 0.5 <= told.high.item())
    assert held >= 15
    far = two_sample(normal(0, 5.0), normal(1))
    assert far.accuracy.item() == 1.0
    assert 0.95 < far.low.item() < far.high.item() <= 1.0


@pytest.mark.parametrize(("right", "trials"), [(5, 10), (81, 263), (0, 20), (20, 20)])
def test_the_interval_is_wilsons(right: int, trials: int) -> None:
    low, high = wilson(torch.tensor([right / trials], dtype=torch.float64), trials)
    expected = stats.binomtest(right, trials).proportion_ci(method="wilson")
    assert [low.item(), high.item()] == pytest.approx([expected.low, expected.high], abs=1e-5)


def test_a_code_that_is_its_prior_is_diagnosed_as_such_and_members_apart() -> None:
    """Member 1 alone encodes far away."""
    made = recipe("adversarial", "tabular")
    model = made.build(MEMBERS)
    with torch.no_grad():
        model.get_parameter("encoder.layers.2.bias")[1] += 50.0
    found = Trained(model, MEMBERS, made).diagnose(draw("tabular", 200))
    assert found["two_sample_accuracy"][1] == 1.0
    assert found["prior_mmd"][1] == max(found["prior_mmd"])
    for low, accuracy, high in zip(
        found["two_sample_low"], found["two_sample_accuracy"], found["two_sample_high"], strict=True
    ):
        assert low < accuracy <= high
