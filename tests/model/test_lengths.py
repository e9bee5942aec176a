"""A length that is modelled is a distribution that the code tells of, and samples end by it."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from latentops.architectures.stack import Batch, generator
from latentops.config import ArchitectureName, Dataset, LikelihoodSettings, load_params, parse
from latentops.errors import ConfigError, LikelihoodError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.evidence import nats_given, sample_nats
from latentops.variants.parts.lengths import Lengths
from tests.toy import KINDS, SECTIONS, SMALL, VARIANTS, agree, batch_of, describe, draw, train

MEMBERS = [Member(0, "all"), Member(1, "all")]
LENGTH = LikelihoodSettings(name="gaussian", length=True)
LONGEST = KINDS["sequence"][0]


def recipe(variant: str, architecture: ArchitectureName = "recurrent", latent: int = 2) -> Recipe:
    section = SECTIONS[variant] | ({"architecture": architecture} if variant == "sequence" else {})
    return Recipe.resolve(variant, section, architecture, SMALL, latent, describe("sequence"), LENGTH)


def noise() -> Noise:
    return Noise([generator("noise", at) for at in range(2)])


def test_the_lengths_of_a_code_are_a_distribution() -> None:
    lengths = Lengths(3, LONGEST, [generator(0), generator(1)])
    codes = torch.randn(2, 4, 3, generator=generator("codes"))
    nats = torch.stack([lengths.nats(codes, torch.full((2, 4), each + 1)) for each in range(LONGEST)])
    torch.testing.assert_close(torch.exp(-nats).sum(0), torch.ones(2, 4))
    assert torch.equal(lengths.likeliest(codes), nats.argmin(0) + 1)
    assert torch.equal(lengths.nats(codes, torch.full((2, 4), LONGEST + 3)), nats[-1])
    many = codes[:, :1].expand(-1, 20_000, -1)
    drawn = lengths.drawn(many, torch.randn(2, 20_000, generator=generator("normal")))
    shares = torch.stack([(drawn == each + 1).double().mean(1) for each in range(LONGEST)])
    torch.testing.assert_close(shares, torch.exp(-nats[:, :, 0]).double(), atol=0.015, rtol=0)
    extreme = torch.tensor([[-40.0], [40.0]])
    assert lengths.drawn(codes[:, :1], extreme).flatten().tolist() == [1, LONGEST]


@pytest.mark.parametrize("architecture", get_args(ArchitectureName))
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_term_and_trains_it(variant: str, architecture: ArchitectureName) -> None:
    if variant == "convolutional" or (variant == "sequence" and architecture in ("mlp", "convolutional")):
        architecture = "convolutional" if variant == "convolutional" else "recurrent"
    samples, made = draw("sequence", 24), recipe(variant, architecture)
    model = made.build(MEMBERS)
    batch = batch_of(draw("sequence", 16), 2)
    terms, weights = model.loss_terms(batch, noise()), model.coefficients()
    assert set(terms) == set(weights)
    assert weights["length"] == 1
    assert {"reconstruction", "length"} <= set(model.monitored())
    sum(weights[name] * term.sum() for name, term in terms.items()).backward()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all() & parameter.grad.view(2, -1).any(1).all()), name
    assert model.reconstruct(batch).shape == batch.values.shape
    together, _ = train(made, MEMBERS, samples, steps=12)
    alone, _ = train(made, MEMBERS[1:], samples, steps=12)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


def test_the_term_moves_the_encoder_and_nothing_else_is_changed_by_it() -> None:
    model = recipe("undercomplete").build(MEMBERS)
    plain = Recipe.resolve("undercomplete", {}, "recurrent", SMALL, 2, describe("sequence")).build(MEMBERS)
    batch = batch_of(draw("sequence", 16), 2)
    terms = model.loss_terms(batch, noise())
    assert torch.equal(terms["reconstruction"], plain.loss_terms(batch, noise())["reconstruction"])
    terms["length"].sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in model.encoder.parameters())
    assert all(each.grad is None for each in model.decoder.parameters())


def test_a_code_learns_to_tell_how_long_its_sequence_is() -> None:
    samples, made = draw("sequence", 256), recipe("undercomplete", latent=8)
    model, outcome = train(made, MEMBERS, samples, steps=600, patience=100, buckets=1)
    assert max(outcome.terms["length"]) < 0.5 * math.log(LONGEST)
    batch = batch_of(samples, 2)
    assert model.lengths is not None
    likeliest = model.lengths.likeliest(model.encode(batch))  # type: ignore[operator,union-attr]
    assert (likeliest == batch.lengths).float().mean() > 0.7


def test_padding_changes_no_nats_of_a_length() -> None:
    model = recipe("undercomplete").build(MEMBERS)
    batch = batch_of(draw("sequence", 8), 2)
    longer = Batch(nn.functional.pad(batch.values, (0, 0, 0, 4), value=2.0), batch.lengths)
    for name, term in model.loss_terms(batch, noise()).items():
        torch.testing.assert_close(model.loss_terms(longer, noise())[name], term)


@pytest.mark.parametrize("variant", ["variational", "adversarial"])
def test_a_sample_ends_where_its_length_says(variant: str) -> None:
    made = recipe(variant)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    values, lengths = trained.sample(40, seed=0)
    assert lengths is not None
    assert values.shape == (2, 40, *KINDS["sequence"])
    assert lengths.shape == (2, 40)
    assert set(lengths.flatten()) <= set(range(1, LONGEST + 1))
    assert len(np.unique(lengths)) > 1
    beyond = np.arange(LONGEST) >= lengths[..., None]
    assert not values[beyond].any()
    assert values[~beyond].all()
    again = trained.sample(40, seed=0)
    assert np.array_equal(again[0], values)
    assert again[1] is not None
    assert np.array_equal(again[1], lengths)


def test_evidence_counts_the_length() -> None:
    model = recipe("variational").build(MEMBERS).requires_grad_(False)
    batch = batch_of(draw("sequence", 6), 2)
    codes = model.encode(batch)
    assert model.lengths is not None
    assert batch.lengths is not None
    of_values = sample_nats(model.likelihood, batch, model.decode_told(codes, batch))
    of_length = model.lengths.nats(codes, batch.lengths)
    assert bool((of_length > 0).all())
    torch.testing.assert_close(nats_given(model, batch, codes), of_values + of_length)


def test_lengths_of_what_has_none_are_refused() -> None:
    entry = load_params().dataset("digits").model_dump(mode="json")
    entry["likelihood"] = {"name": "gaussian", "length": True}
    with pytest.raises(ConfigError, match=r"length is modelled of sequences alone.*source\.kind is image"):
        parse(Dataset, entry, "params.yaml: datasets.digits")
    made = Recipe.resolve("undercomplete", {}, "mlp", SMALL, 2, describe("tabular"), LENGTH)
    with pytest.raises(LikelihoodError, match="drop length"):
        made.build(MEMBERS)


def test_a_likelihood_with_lengths_is_saved_as_such() -> None:
    assert LENGTH.to_json() == {"name": "gaussian", "length": True}
    assert LikelihoodSettings.model_validate(LENGTH.to_json()) == LENGTH
    assert LikelihoodSettings(name="huber").to_json() == "huber"
