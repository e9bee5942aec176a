"""Models and terms whose right answer is known."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.config import MLP, Architectures
from latentops.errors import LikelihoodError
from latentops.training.loop import Look
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Noise
from latentops.variants.contractive import Variant as Contractive
from latentops.variants.likelihood import BernoulliLikelihood, GaussianLikelihood
from latentops.variants.parts.sparsity import hoyer, normalised_l1
from latentops.variants.variational import Variant as Variational
from latentops.variants.variational import kl_to_standard_normal
from tests.toy import SECTIONS, SMALL, batch_of, describe, draw, recipe, train

LINEAR = Architectures.model_validate(
    {"mlp": {"hidden": []}, "convolutional": {"channels": [2]}, "recurrent": {"hidden": 2}}
)
ALL = [Member(0, "all")]


def low_rank(rows: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows `[rows, 7]` near a plane, and the sample's two principal axes `[2, 7]`."""
    random = np.random.default_rng(1)
    axes = np.linalg.qr(random.normal(size=(7, 2)))[0].T
    values = random.normal(size=(rows, 2)) * [3.0, 1.5] @ axes + noise * random.normal(size=(rows, 7))
    values -= values.mean(axis=0)
    return values, np.linalg.svd(values, full_matrices=False)[2][:2]


def smallest_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of the largest principal angle between two row spaces; 1 where they are the same."""
    bases = [np.linalg.qr(rows.T)[0] for rows in (first, second)]
    return float(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).min())


def linear_stack(variant: str, values: np.ndarray, steps: int, **section: object) -> Trained:
    samples = draw("tabular", len(values))
    samples.values[:] = values
    made = Recipe.resolve(variant, section, "mlp", LINEAR, 2, describe("tabular"))
    model, _ = train(made, ALL, samples, steps=steps, rate=0.05, batch_size=64, check_every=100)
    return Trained(model, ALL, made)


def decoder_axes(trained: Trained) -> np.ndarray:
    """Rows of the linear decoder `[2, 7]`."""
    return trained.model.state_dict()["decoder.layers.0.weight"][0].numpy()


def test_a_linear_undercomplete_autoencoder_spans_the_principal_subspace() -> None:
    values, principal = low_rank(256, noise=0.3)
    trained = linear_stack("undercomplete", values, steps=1500)
    assert smallest_cosine(decoder_axes(trained), principal) > 0.999


def test_a_linear_variational_autoencoder_recovers_probabilistic_pca() -> None:
    """Tipping & Bishop 1999: σ² is the mean of the discarded eigenvalues, the decoder spans the kept axes."""
    values, principal = low_rank(512, noise=0.5)
    trained = linear_stack("variational", values, steps=2000, beta=1.0)
    eigenvalues = np.sort(np.linalg.eigvalsh(values.T @ values / len(values)))[::-1]
    learned = float(trained.model.likelihood.log_variance.exp())
    assert learned == pytest.approx(eigenvalues[2:].mean(), rel=0.05)
    assert smallest_cosine(decoder_axes(trained), principal) > 0.999


@pytest.mark.parametrize("architecture", ["mlp", "convolutional", "recurrent", "transformer"])
@pytest.mark.parametrize("kind", ["image", "tabular", "sequence"])
def test_the_contractive_term_is_autograds_jacobian_norm(architecture: str, kind: str) -> None:
    model = recipe("contractive", kind, architecture).build([Member(0, "all"), Member(1, "all")]).double()
    assert isinstance(model, Contractive)
    batch = batch_of(draw(kind, 4), 2, torch.float64)
    batch = batch.with_values(batch.values * batch.mask)
    norms = model.squared_jacobian_norm(batch)
    for member in range(2):
        for row in range(4):

            def code(values: torch.Tensor, member: int = member, row: int = row) -> torch.Tensor:
                changed = batch.values.clone()
                changed[member, row] = values
                return model.encode(batch.with_values(changed))[member, row]

            jacobian = torch.autograd.functional.jacobian(code, batch.values[member, row])
            valid = jacobian * batch.mask.expand_as(batch.values)[member, row]
            assert norms[member, row].item() == pytest.approx(valid.pow(2).sum().item(), rel=1e-9)


class Signs(Noise):
    """The same signs for every row."""

    def __init__(self, signs: tuple[int, ...]) -> None:
        super().__init__([])
        self.signs = torch.tensor(signs, dtype=torch.float32)

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        return self.signs.expand(*shape)


@pytest.mark.parametrize("architecture", ["mlp", "convolutional", "recurrent", "transformer"])
@pytest.mark.parametrize("kind", ["image", "tabular", "sequence"])
def test_the_contraction_s_estimate_is_the_exact_norm_over_all_signs(architecture: str, kind: str) -> None:
    model = recipe("contractive", kind, architecture).build([Member(0, "all"), Member(1, "all")]).double()
    assert isinstance(model, Contractive)
    batch = batch_of(draw(kind, 4), 2, torch.float64)
    found = [model.codes_and_estimate(batch, Signs(signs)) for signs in product((-1, 1), repeat=2)]
    torch.testing.assert_close(
        torch.stack([norms for _, norms in found]).mean(0), model.squared_jacobian_norm(batch)
    )
    torch.testing.assert_close(found[0][0], model.encode(batch))


@pytest.mark.parametrize(
    ("kind", "rows", "draws", "within"),
    [("image", 512, 1, 0.01), ("image", 64, 4, 0.01), ("tabular", 64, 1, 0.04), ("tabular", 64, 32, 0.01)],
)
def test_an_estimate_is_near_the_exact_norm_over_a_batch(
    kind: str, rows: int, draws: int, within: float
) -> None:
    """As near as the design asks, as root mean square over 20 times that it is taken, and as is diagnosed."""
    shape = (1, 28, 28) if kind == "image" else (30,)
    hidden = [512, 256] if kind == "image" else [64]
    made = Recipe(
        "contractive",
        variant_settings("contractive", SECTIONS["contractive"] | {"draws": draws}),
        "mlp",
        SMALL.model_copy(update={"mlp": MLP(hidden=hidden)}),
        32 if kind == "image" else 8,
        replace(describe(kind), shape=shape),
    )
    model = made.build([Member(0, "all")])
    assert isinstance(model, Contractive)
    random = np.random.default_rng(0)
    values = np.tanh(random.normal(size=(rows, 6)) @ random.normal(size=(6, int(np.prod(shape)))))
    batch = Batch(torch.from_numpy(values.astype(np.float32).reshape(1, rows, *shape)))
    noise = Noise([Member(0, "all").generator("signs")])
    with torch.no_grad():
        exact = model.squared_jacobian_norm(batch).mean()
        estimates = [model.codes_and_estimate(batch, noise)[1].mean() for _ in range(20)]
        off = torch.stack(estimates) / exact - 1
        diagnosed = model.diagnose(batch)["estimate_error"].item()
    error = off.square().mean().sqrt().item()
    assert error < within
    assert error == pytest.approx(diagnosed * (64 / rows) ** 0.5, rel=0.5)


def test_the_kl_term_is_what_monte_carlo_says() -> None:
    mean, log_variance = torch.tensor([[[0.7, -1.2]]]), torch.tensor([[[0.4, -1.5]]])
    deviation = torch.exp(0.5 * log_variance)
    draws = mean + deviation * torch.randn(200_000, 1, 2, generator=torch.Generator().manual_seed(0))
    posterior = torch.distributions.Normal(mean, deviation).log_prob(draws)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(draws)
    estimate = (posterior - prior).mean(0)
    assert torch.allclose(kl_to_standard_normal(mean, log_variance)[0], estimate, atol=0.01)


def test_the_likelihood_is_the_normal_density_over_valid_values() -> None:
    batch = batch_of(draw("sequence", 6), 2)
    reconstruction = torch.randn(batch.values.shape, generator=torch.Generator().manual_seed(0))
    likelihood = GaussianLikelihood(2, spread=1.7)
    density = torch.distributions.Normal(reconstruction, 1.7).log_prob(batch.values)
    expected = -(density * batch.mask).flatten(2).sum(-1).mean(-1)
    assert torch.allclose(likelihood.negative_log_likelihood(batch, reconstruction), expected, rtol=1e-5)


def test_the_bernoulli_likelihood_is_the_probability_of_what_is_on() -> None:
    batch = batch_of(draw("sequence", 6), 2)
    binary = batch.with_values((batch.values > 0).float() * batch.mask)
    logits = torch.randn(batch.values.shape, generator=torch.Generator().manual_seed(0))
    probability = torch.distributions.Bernoulli(logits=logits).log_prob(binary.values)
    expected = -(probability * batch.mask).flatten(2).sum(-1).mean(-1)
    likelihood = BernoulliLikelihood()
    assert torch.allclose(likelihood.negative_log_likelihood(binary, logits), expected, rtol=1e-5)
    assert torch.allclose(likelihood.mean(logits), torch.sigmoid(logits))


def test_a_bernoulli_autoencoder_reconstructs_within_its_range() -> None:
    samples = draw("image", 64)
    samples.values[:] = (samples.values > 0) * 1.0
    described = replace(describe("image"), likelihood_range=(0.0, 1.0))
    made = Recipe.resolve("variational", {"beta": 1.0}, "mlp", LINEAR, 2, described, "bernoulli")
    looks: list[Look] = []
    model, _ = train(made, ALL, samples, steps=200, on_look=looks.append)
    assert bool((looks[-1].stop < looks[0].stop).all())
    trained = Trained(model, ALL, made)
    for values in (trained.reconstruct(samples), trained.sample(5, seed=0)[0]):
        assert 0 <= values.min() < values.max() <= 1
    assert Recipe.from_json(made.to_json()) == made


@pytest.mark.parametrize("bounds", [None, (-1.0, 1.0), (0.0, 16.0)])
def test_a_bernoulli_likelihood_is_refused_outside_zero_to_one(bounds: tuple[float, float] | None) -> None:
    described = replace(describe("tabular"), likelihood_range=bounds)
    with pytest.raises(LikelihoodError, match=r"takes values in \[0, 1\].*use likelihood: gaussian"):
        Recipe.resolve("undercomplete", {}, "mlp", LINEAR, 2, described, "bernoulli")


def test_the_evidence_bound_is_below_the_true_likelihood() -> None:
    """For a linear model the marginal is known: x ~ N(b, WWᵀ + σ²I)."""
    values, _ = low_rank(256, noise=0.5)
    trained = linear_stack("variational", values, steps=1500, beta=1.0)
    model = trained.model.double()
    assert isinstance(model, Variational)
    weights = model.state_dict()
    decoder, bias = weights["decoder.layers.0.weight"][0], weights["decoder.layers.0.bias"][0, 0]
    covariance = decoder.T @ decoder + trained.model.likelihood.log_variance.exp() * torch.eye(7)
    marginal = torch.distributions.MultivariateNormal(bias, covariance)
    rows = torch.from_numpy(values)
    terms = model.loss_terms(Batch(rows[None].float().double()), Noise([torch.Generator().manual_seed(0)]))
    bound = -(terms["reconstruction"] + terms["kl"]).item()
    truth = marginal.log_prob(rows).mean().item()
    assert bound <= truth + 0.05
    assert bound == pytest.approx(truth, abs=0.1)


def test_the_sparsity_penalty_cannot_be_lowered_by_scaling() -> None:
    codes = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0)).relu()
    scales = torch.logspace(-3, 3, 6)
    assert torch.allclose(normalised_l1(codes), normalised_l1(scales * codes), rtol=1e-4)
    one_active = torch.nn.functional.one_hot(torch.arange(50) % 6).float().expand(2, 50, 6)
    assert bool((normalised_l1(one_active) < normalised_l1(torch.ones(2, 50, 6))).all())
    assert torch.allclose(hoyer(one_active), torch.ones(2))
    assert torch.allclose(hoyer(torch.ones(2, 50, 6)), torch.zeros(2), atol=1e-6)
