"""A code for each step: the mean of those of a sequence's own steps is the code that is judged."""

import numpy as np
import pytest
import torch
from torch import nn

from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants.autoencoder import Noise
from tests.toy import (
    KINDS,
    SMALL,
    assert_alone_as_in_a_stack_and_from_a_record,
    assert_every_parameter_learns,
    batch_of,
    describe,
    draw,
    train,
)

MEMBERS = [Member(0, "all"), Member(1, "all")]
FORMS: dict[str, tuple[ArchitectureName, dict[str, object]]] = {
    "gru": ("recurrent", {}),
    "lstm": ("recurrent", {"cell": "lstm", "chunk": 2, "decoder": "autoregressive"}),
    "transformer": ("transformer", {}),
    "checkpointed": ("transformer", {"checkpoint": True, "decoder": "autoregressive"}),
}
every_form = pytest.mark.parametrize("form", list(FORMS))
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def recipe(
    form: str,
    kind: str = "sequence",
    latent: str = "per_step",
    likelihood: LikelihoodName | LikelihoodSettings = "gaussian",
) -> Recipe:
    name, options = FORMS[form]
    sizes = SMALL.model_dump()
    sizes[name] |= options
    section: dict[str, object] = {"architecture": name, "latent": latent}
    architectures = Architectures.model_validate(sizes)
    likelihood = "categorical" if kind == "tokens" else likelihood
    return Recipe.resolve("sequence", section, name, architectures, 2, describe(kind), likelihood)


@every_form
@every_kind
def test_the_code_that_is_judged_is_the_mean_over_valid_steps(form: str, kind: str) -> None:
    model = recipe(form, kind).build(MEMBERS)
    batch = batch_of(draw(kind, 7), 2)
    codes, apart = model.encode(batch), model.latent(batch)
    assert codes.shape == (2, 7, 2)
    assert apart.ndim == 4
    valid = torch.ones(apart.shape[:3]) if batch.steps is None else batch.steps.float()
    mean = (apart * valid.unsqueeze(-1)).sum(2) / valid.sum(2, keepdim=True)
    torch.testing.assert_close(codes, mean, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(apart[:, :, 0], apart[:, :, -1])


@every_form
@every_kind
def test_one_code_at_every_step_is_decoded_as_that_code(form: str, kind: str) -> None:
    model = recipe(form, kind).build(MEMBERS)
    batch = batch_of(draw(kind, 7), 2)
    steps = model.latent(batch).shape[2]
    codes = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(0))
    again = codes.unsqueeze(2).expand(-1, -1, steps, -1)
    torch.testing.assert_close(model.decode(again, batch.padded), model.decode(codes, batch.padded))
    torch.testing.assert_close(model.decode_told(again, batch), model.decode_told(codes, batch))


@every_form
def test_a_step_is_written_by_its_own_code(form: str) -> None:
    """By the gradient of what is written by the codes, of which later ones have no say."""
    model = recipe(form).build(MEMBERS)
    batch = batch_of(draw("sequence", 3), 2)
    codes = model.latent(batch).detach().requires_grad_()
    outputs = model.decode_told(codes, batch)
    for step in range(codes.shape[2]):
        (slope,) = torch.autograd.grad(outputs[:, :, step].square().sum(), codes, retain_graph=True)
        reached = slope.abs().sum((0, 1, 3)) > 0
        assert reached.tolist() == [at <= step for at in range(codes.shape[2])]


@every_form
def test_neither_padding_nor_what_lies_in_it_changes_anything(form: str) -> None:
    model = recipe(form).build(MEMBERS)
    batch = batch_of(draw("sequence", 8), 2)
    assert batch.padded is not None
    longer = Batch(nn.functional.pad(batch.values, (0, 0, 0, 4)), batch.lengths)
    longer = longer.with_values(longer.values + 9.0 * (1 - longer.mask))
    torch.testing.assert_close(model.encode(longer), model.encode(batch), atol=1e-5, rtol=1e-5)
    of_longer = model.reconstruct(longer)[:, :, : batch.padded]
    torch.testing.assert_close(of_longer, model.reconstruct(batch), atol=1e-5, rtol=1e-5)


@every_form
@every_kind
def test_a_reconstruction_does_not_depend_on_what_else_is_in_the_batch(form: str, kind: str) -> None:
    made = recipe(form, kind)
    trained, samples = Trained(made.build(MEMBERS), MEMBERS, made), draw(kind, 9)
    order = np.random.default_rng(0).permutation(9)
    for of in (trained.encode, trained.reconstruct):
        whole = of(samples)
        np.testing.assert_allclose(of(samples.select(order)), whole[:, order], atol=1e-5)
        np.testing.assert_allclose(of(samples.select(slice(3, 4))), whole[:, 3:4], atol=1e-5)


@every_form
@every_kind
def test_it_trains_alone_as_in_a_stack_and_from_a_record(
    form: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = draw(kind, 24), recipe(form, kind)
    model = made.build(MEMBERS)
    model.loss_terms(batch_of(draw(kind, 16), 2), Noise([]))["reconstruction"].sum().backward()
    assert_every_parameter_learns(model)
    assert_alone_as_in_a_stack_and_from_a_record(made, MEMBERS, samples, monkeypatch)


@pytest.mark.parametrize("form", ["gru", "transformer"])
def test_a_code_a_step_carries_more_than_one_of_all(form: str) -> None:
    samples, errors = draw("sequence", 128), {}
    for latent in ("pooled", "per_step"):
        made = recipe(form, latent=latent)
        model, _ = train(made, MEMBERS, samples, steps=200, patience=100, buckets=1)
        errors[latent] = np.nanmean(Trained(model, MEMBERS, made).residuals(samples))  # type: ignore[arg-type]
    assert errors["per_step"] < 0.8 * errors["pooled"]


def test_there_is_no_length_to_model() -> None:
    length = LikelihoodSettings(name="gaussian", length=True)
    with pytest.raises(ConfigError, match=r"latent: per_step.*drop length"):
        recipe("gru", likelihood=length).build(MEMBERS)
