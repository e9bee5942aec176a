"""Sequences of tokens: how they are read, written, judged, and what is refused of them."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from latentops.architectures import Shape
from latentops.architectures.embedding import Embedding
from latentops.architectures.stack import Batch, generator
from latentops.config import ArchitectureName, Architectures, parse
from latentops.data.prepared import Samples
from latentops.data.tokenizer import PADDING, UNKNOWN
from latentops.errors import ConfigError, LikelihoodError
from latentops.evaluation.floors import flatten
from latentops.evaluation.structure import wrong_tokens
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.contractive import Variant as Contractive
from latentops.variants.likelihood import CategoricalLikelihood
from latentops.variants.parts.copying import explained
from tests.toy import SMALL, VOCABULARY, batch_of, describe, draw, recipe, train

ARCHITECTURES: tuple[ArchitectureName, ...] = get_args(ArchitectureName)
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
LIKELIHOOD = CategoricalLikelihood()


def logits(batch: Batch) -> torch.Tensor:
    shape = (*batch.values.shape[:3], VOCABULARY)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_nats_are_the_cross_entropy_over_valid_steps_and_so_is_their_gradient() -> None:
    batch = batch_of(draw("tokens", 8), 2)
    outputs = logits(batch).requires_grad_()
    chosen = torch.distributions.Categorical(logits=outputs).log_prob(batch.values.squeeze(-1))
    expected = -(chosen * batch.mask.squeeze(-1)).sum(-1).mean(-1)
    nats = LIKELIHOOD.negative_log_likelihood(batch, outputs)
    torch.testing.assert_close(nats, expected)
    found, right = (torch.autograd.grad(each.sum(), outputs)[0] for each in (nats, expected))
    torch.testing.assert_close(found, right)
    assert bool((found * (1 - batch.mask) == 0).all())


def test_padding_costs_nothing_whatever_is_in_it_and_however_long_it_is() -> None:
    batch = batch_of(draw("tokens", 8), 2)
    outputs = logits(batch)
    nats = LIKELIHOOD.negative_log_likelihood(batch, outputs)
    dirty = batch.with_values(batch.values + 5.0 * (1 - batch.mask))
    other = outputs + 7 * (1 - batch.mask)
    torch.testing.assert_close(LIKELIHOOD.negative_log_likelihood(dirty, other), nats)
    longer = Batch(torch.nn.functional.pad(batch.values, (0, 0, 0, 4)), batch.lengths)
    padded = torch.nn.functional.pad(outputs, (0, 0, 0, 4), value=3.0)
    torch.testing.assert_close(LIKELIHOOD.negative_log_likelihood(longer, padded), nats)


def test_a_reconstruction_is_the_most_probable_token() -> None:
    batch = batch_of(draw("tokens", 8), 2)
    sure = 9.0 * torch.nn.functional.one_hot(batch.values.squeeze(-1).long(), VOCABULARY)
    assert torch.equal(LIKELIHOOD.mean(sure + logits(batch).clamp(-1, 1)), batch.values)


def test_vectors_are_looked_up_normalised_and_zero_in_padding() -> None:
    embedding = Embedding(VOCABULARY, 5, [generator(0), generator(1)])
    batch = batch_of(draw("tokens", 8), 2)
    read = embedding.read(batch)
    assert read.lengths is batch.lengths
    assert read.values.shape == (2, 8, 6, 5)
    assert bool((read.values * (1 - batch.mask) == 0).all())
    table = embedding.table.detach()
    table = (table - table.mean(-1, keepdim=True)) / (table.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    hot = torch.nn.functional.one_hot(batch.values.squeeze(-1).long(), VOCABULARY).float()
    expected = torch.einsum("mbsv,mve->mbse", hot, table) * batch.mask
    torch.testing.assert_close(read.values, expected)


def test_the_tables_gradient_is_that_of_a_product_with_indicators() -> None:
    embedding = Embedding(VOCABULARY, 5, [generator(0), generator(1)])
    batch = batch_of(draw("tokens", 8), 2)
    towards = torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((embedding.read(batch).values * towards).sum(), embedding.table)
    hot = torch.nn.functional.one_hot(batch.values.squeeze(-1).long(), VOCABULARY).float() * batch.mask
    product = torch.einsum("mbsv,mve->mbse", hot, torch.nn.functional.layer_norm(embedding.table, (5,)))
    (expected,) = torch.autograd.grad((product * towards).sum(), embedding.table)
    torch.testing.assert_close(found, expected)
    assert bool((found[:, PADDING] == 0).all())


@pytest.mark.parametrize("norm", ["exact", "estimate"])
@every_architecture
def test_the_contraction_is_over_vectors_and_every_gradient_is_autograds(
    architecture: ArchitectureName, norm: str
) -> None:
    model = recipe("contractive", "tokens", architecture, norm=norm).build(MEMBERS).double()
    assert isinstance(model, Contractive)
    batch = batch_of(draw("tokens", 16), 3, torch.float64)

    def terms() -> torch.Tensor:
        noise = Noise([torch.Generator().manual_seed(at) for at in range(3)])
        return torch.stack(list(model.loss_terms(batch, noise).values())).sum()

    terms().backward()
    seen = model.embed(batch)
    assert seen.values.requires_grad
    codes = model.code(seen)
    whole = [
        torch.autograd.grad(codes[..., unit].sum(), seen.values, retain_graph=True)[0].flatten(2)
        for unit in range(model.latent_dim)
    ]
    torch.testing.assert_close(model.jacobian(batch).detach(), torch.stack(whole, 2), rtol=1e-5, atol=1e-7)
    assert model.embedding is not None
    table, gradient = model.embedding.table, model.embedding.table.grad
    assert gradient is not None
    direction = torch.randn(table.shape, generator=torch.Generator().manual_seed(3), dtype=table.dtype)
    step, ends = 1e-6, []
    for sign in (1, -1):
        table.data.add_(direction, alpha=sign * step)
        ends.append(float(terms().detach()))
        table.data.add_(direction, alpha=-sign * step)
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_longer_vectors_do_not_lower_the_contraction() -> None:
    model = recipe("contractive", "tokens").build(MEMBERS)
    assert isinstance(model, Contractive)
    assert model.embedding is not None
    batch = batch_of(draw("tokens", 8), 3)
    before = model.squared_jacobian_norm(batch)
    model.embedding.table.data.mul_(30)
    torch.testing.assert_close(model.squared_jacobian_norm(batch), before, rtol=1e-3, atol=0)


def copied(rows: int = 48) -> Samples:
    """Sentences of up to four of four tokens."""
    random = np.random.default_rng(0)
    values = random.integers(UNKNOWN + 1, UNKNOWN + 5, size=(rows, 6, 1)).astype(np.float32)
    lengths = random.integers(1, 5, size=rows)
    values[np.arange(6) >= lengths[:, None]] = PADDING
    return replace(draw("tokens", rows), values=values, lengths=lengths)


LARGER = parse(
    Architectures,
    {
        "embedding": 8,
        "mlp": {"hidden": [48]},
        "convolutional": {"channels": [16, 24]},
        "recurrent": {"hidden": 32},
        "transformer": {"width": 32, "layers": 1},
    },
    "architectures",
)


@every_architecture
def test_a_few_tokens_are_learned_by_heart(architecture: ArchitectureName) -> None:
    samples, members = copied(), MEMBERS[:1]
    described = describe("tokens")
    made = Recipe.resolve("undercomplete", {}, architecture, LARGER, 8, described, "categorical")
    model, _ = train(made, members, samples, steps=500, rate=0.02, patience=100, batch_size=64)
    trained = Trained(model, members, made)  # type: ignore[arg-type]
    assert wrong_tokens(trained.untrained(), samples)[0] > 0.5
    assert wrong_tokens(trained, samples)[0] < 0.02


def test_residuals_are_the_nats_of_each_token() -> None:
    made = recipe("undercomplete", "tokens")
    trained, samples = Trained(made.build(MEMBERS), MEMBERS, made), draw("tokens", 9)
    residuals = trained.residuals(samples)
    assert residuals.shape == (3, 9, 6)
    assert samples.lengths is not None
    assert np.array_equal(np.isfinite(residuals).sum(-1), np.broadcast_to(samples.lengths, (3, 9)))
    batch = batch_of(samples, 3)
    nats = trained.model.nats(batch, trained.model.encode(batch)).numpy()
    assert np.nansum(residuals, axis=-1).mean(-1) == pytest.approx(nats, rel=1e-5)


def test_what_is_explained_is_the_share_of_errors_that_are_avoided() -> None:
    batch = batch_of(copied(200), 2)
    torch.testing.assert_close(explained(LIKELIHOOD, batch, batch.values), torch.ones(2))
    most = LIKELIHOOD.centre(batch).expand_as(batch.values)
    torch.testing.assert_close(explained(LIKELIHOOD, batch, most), torch.zeros(2))
    for step in range(4):
        there = batch.values[0, batch.lengths[0] > step, step, 0]  # type: ignore[index]
        assert int((there == most[0, 0, step]).sum()) == int(there.long().bincount().max())
    assert bool((explained(LIKELIHOOD, batch, batch.values + 1) < 0).all())


def test_draws_from_a_prior_are_tokens() -> None:
    made = recipe("variational", "tokens")
    drawn, lengths = Trained(made.build(MEMBERS), MEMBERS, made).sample(20, seed=0)
    assert lengths is None
    assert drawn.shape == (3, 20, 6, 1)
    assert set(np.unique(drawn)) <= set(range(VOCABULARY))


def test_floors_see_how_many_there_are_of_each_token() -> None:
    samples = draw("tokens", 12)
    assert samples.lengths is not None
    rows = flatten(samples, VOCABULARY)
    assert rows.shape == (12, VOCABULARY - 1)
    assert np.array_equal(rows.sum(1), samples.lengths)
    for at, steps in enumerate(samples.lengths):
        for token in range(1, VOCABULARY):
            assert rows[at, token - 1] == (samples.values[at, :steps] == token).sum()


def test_the_width_of_a_vector_is_saved_and_changes_what_is_built() -> None:
    sizes = parse(Architectures, SMALL.model_dump() | {"embedding": 9}, "architectures")
    made = Recipe.resolve("undercomplete", {}, "recurrent", sizes, 2, describe("tokens"), "categorical")
    assert Recipe.from_json(made.to_json()) == made
    embedding = made.build(MEMBERS).embedding
    assert embedding is not None
    assert embedding.table.shape == (3, VOCABULARY, 9)
    with pytest.raises(ConfigError, match=r"embedding: .*greater than or equal to 4"):
        parse(Architectures, SMALL.model_dump() | {"embedding": 2}, "architectures")


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        (
            "tokens",
            "gaussian",
            "gaussian is of real values, .* ids of 12 tokens; use .*: categorical",
        ),
        ("tokens", "mixed", "mixed is of real values"),
        ("sequence", "categorical", "categorical is of tokens, .* real values; use likelihood: gaussian"),
        ("tabular", "categorical", "or mixed for a table"),
    ],
)
def test_a_likelihood_of_other_data_is_refused(kind: str, name: str, says: str) -> None:
    with pytest.raises(LikelihoodError, match=says):
        Recipe.resolve("undercomplete", {}, "mlp", SMALL, 2, describe(kind), name)  # type: ignore[arg-type]


def test_noise_of_an_overcomplete_code_is_added_to_vectors() -> None:
    batch = batch_of(draw("tokens", 32), 3)

    def gradient(strength: float) -> torch.Tensor:
        made = recipe("overcomplete", "tokens", regulariser="noise", noise=strength)
        model = made.build(MEMBERS)
        noise = Noise([torch.Generator().manual_seed(at) for at in range(3)])
        model.loss_terms(batch, noise)["reconstruction"].sum().backward()
        assert model.embedding is not None
        assert model.embedding.table.grad is not None
        return model.embedding.table.grad

    assert not torch.allclose(gradient(0.0), gradient(1.0))


def test_a_shape_is_read_as_vectors_only_where_it_holds_tokens() -> None:
    assert Shape((6, 1), True, vocabulary=9).read_as(4).sizes == (6, 4)
    assert Shape((6, 1), True).read_as(4).sizes == (6, 1)


def test_of_tokens_late_errors_are_told_and_frequencies_are_not() -> None:
    for architecture in ("recurrent", "transformer"):
        made = recipe("sequence", "tokens", architecture)  # type: ignore[arg-type]
        found = Trained(made.build(MEMBERS), MEMBERS, made).diagnose(draw("tokens", 9))
        assert set(found) == {"late_error"}
        assert all(math.isfinite(each) for each in found["late_error"])


def test_a_large_vocabulary_goes_through_in_smaller_parts_with_the_same_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = recipe("undercomplete", "tokens")
    trained, samples = Trained(made.build(MEMBERS), MEMBERS, made), draw("tokens", 40)
    sizes: list[int] = []
    reconstruct = trained.model.reconstruct

    def counted(batch: Batch) -> torch.Tensor:
        sizes.append(batch.values.shape[1])
        return reconstruct(batch)

    monkeypatch.setattr(trained.model, "reconstruct", counted)
    whole = trained.reconstruct(samples)
    monkeypatch.setattr("latentops.training.trained.CHUNK", 64)
    monkeypatch.setattr("latentops.training.trained.TOKENS", VOCABULARY // 4)
    assert np.array_equal(trained.reconstruct(samples), whole)
    assert sizes == [40, 16, 16, 8]
