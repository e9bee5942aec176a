"""An autoregressive decoder is told no more than it may know, and goes on alone where it is told nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, Dataset, load_params, parse
from latentops.data.prepared import Samples
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants.autoencoder import Autoencoder, Noise
from latentops.variants.likelihood import LikelihoodName
from tests.toy import (
    KINDS,
    SECTIONS,
    SMALL,
    VARIANTS,
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
    "lstm": ("recurrent", {"cell": "lstm", "chunk": 2}),
    "layers": ("recurrent", {"cell": "lstm", "layers": 2}),
    "sinusoidal": ("transformer", {"layers": 2}),
    "rotary": ("transformer", {"positions": "rotary", "layers": 2, "checkpoint": True}),
}
every_form = pytest.mark.parametrize("form", list(FORMS))
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def recipe(
    form: str,
    kind: str = "sequence",
    variant: str = "undercomplete",
    likelihood: LikelihoodName = "gaussian",
    **options: object,
) -> Recipe:
    name, own = FORMS[form]
    sizes = SMALL.model_dump()
    sizes[name] |= {"decoder": "autoregressive"} | own | options
    section = SECTIONS[variant] | ({"architecture": name} if variant == "sequence" else {})
    architectures = Architectures.model_validate(sizes)
    likelihood = "categorical" if kind == "tokens" else likelihood
    return Recipe.resolve(variant, section, name, architectures, 2, describe(kind), likelihood)


def built(form: str, kind: str = "sequence", likelihood: LikelihoodName = "gaussian") -> Autoencoder:
    return recipe(form, kind, likelihood=likelihood).build(MEMBERS)


def full(kind: str, rows: int = 6) -> Batch:
    """Rows of which every step is valid."""
    batch = batch_of(draw(kind, rows), 2)
    draws = torch.randn(batch.values.shape, generator=torch.Generator().manual_seed(1))
    values = 2 + draws.abs().floor() if kind == "tokens" else draws
    return Batch(values, None if batch.lengths is None else torch.full_like(batch.lengths, KINDS[kind][0]))


@every_form
@pytest.mark.parametrize(
    ("kind", "likelihood"),
    [
        ("tokens", "categorical"),
        *((k, like) for k in KINDS if k != "tokens" for like in ("gaussian", "huber")),
    ],
)
def test_told_what_it_expects_it_writes_what_it_writes_alone(
    form: str, kind: str, likelihood: LikelihoodName
) -> None:
    """Where the truth is what is reconstructed, teacher forcing and free running are the same."""
    model = built(form, kind, likelihood)
    batch = full(kind)
    codes = model.encode(batch)
    alone = model.decode(codes, batch.padded)
    told = model.decode_told(codes, batch.with_values(model.likelihood.mean(alone)))
    torch.testing.assert_close(told, alone)
    assert not torch.allclose(model.decode_told(codes, batch), alone, atol=1e-3)


@every_form
def test_of_logits_it_is_told_the_probabilities(form: str) -> None:
    made = recipe(form)
    generators = [member.generator("initialisation") for member in MEMBERS]
    sizes = made.architecture, made.architectures, made.build(MEMBERS).shape, made.latent_dim
    model = Autoencoder(made.settings, *sizes, generators, "bernoulli")
    batch = full("sequence")
    codes = model.encode(batch)
    alone = model.decode(codes)
    told = model.decode_told(codes, batch.with_values(torch.sigmoid(alone)))
    torch.testing.assert_close(told, alone)


@every_form
@pytest.mark.parametrize("kind", ["sequence", "image"])
def test_no_step_is_told_of_itself_or_of_later_ones(form: str, kind: str) -> None:
    """By the gradient of each step's values by the true ones; a row of an image is a step."""
    model = built(form, kind)
    batch = full(kind, 3)
    codes = model.encode(batch).detach()
    values = batch.values.clone().requires_grad_()
    outputs = model.decode_told(codes, batch.with_values(values))
    rows = 2 if kind == "sequence" else 3
    for step in range(outputs.shape[rows]):
        (slope,) = torch.autograd.grad(outputs.select(rows, step).square().sum(), values, retain_graph=True)
        reached = slope.abs().transpose(rows, 0).flatten(1).sum(1) > 0
        assert reached.tolist() == [at < step for at in range(outputs.shape[rows])], step


@every_form
def test_a_reconstruction_goes_by_the_code_alone(form: str) -> None:
    """The loss is told the true steps; what is judged isn't."""
    model, batch, other = built(form), full("sequence"), full("sequence")
    other = other.with_values(other.values.flip(1))
    codes = model.encode(batch)
    model.encode = lambda batch: codes  # type: ignore[method-assign]
    assert torch.equal(model.reconstruct(batch), model.reconstruct(other))
    assert not torch.equal(model.nats(batch, codes), model.nats(other, codes))


@every_form
def test_neither_padding_nor_what_lies_in_it_changes_anything(form: str) -> None:
    model = built(form)
    batch = batch_of(draw("sequence", 8), 2)
    assert batch.padded is not None
    codes, nats = model.encode(batch), model.nats(batch, model.encode(batch))
    dirty = batch.with_values(batch.values + 9.0 * (1 - batch.mask))
    longer = Batch(nn.functional.pad(dirty.values, (0, 0, 0, 4), value=3.0), batch.lengths)
    for each in (dirty, longer):
        torch.testing.assert_close(model.nats(each, codes), nats)
        torch.testing.assert_close(
            model.reconstruct(each)[:, :, : batch.padded], model.reconstruct(batch), atol=1e-5, rtol=1e-5
        )


@every_form
@every_kind
def test_a_reconstruction_does_not_depend_on_what_else_is_in_the_batch(form: str, kind: str) -> None:
    made = recipe(form, kind)
    trained, samples = Trained(made.build(MEMBERS), MEMBERS, made), draw(kind, 9)
    order = np.random.default_rng(0).permutation(9)
    whole = trained.reconstruct(samples)
    np.testing.assert_allclose(trained.reconstruct(samples.select(order)), whole[:, order], atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(samples.select(slice(3, 4))), whole[:, 3:4], atol=1e-5)


@pytest.mark.parametrize("kind", ["sequence", "image"])
@pytest.mark.parametrize("form", ["gru", "lstm", "rotary"])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "convolutional"])
def test_every_variant_trains_it_alone_as_in_a_stack_and_from_a_record(
    variant: str, form: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = draw(kind, 24), recipe(form, kind, variant)
    model = made.build(MEMBERS)
    noise = Noise([torch.Generator().manual_seed(i) for i in range(2)])
    terms = model.loss_terms(batch_of(draw(kind, 16), 2), noise)
    sum(term.sum() for term in terms.values()).backward()  # type: ignore[union-attr]
    assert_every_parameter_learns(model)
    together = assert_alone_as_in_a_stack_and_from_a_record(made, MEMBERS, samples, monkeypatch)
    diagnosed = Trained(together, MEMBERS, made).diagnose(samples)  # type: ignore[arg-type]
    assert all(np.isfinite(values).all() for values in diagnosed.values())


def test_a_denoising_decoder_is_told_the_clean_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = recipe("gru", variant="denoising").build(MEMBERS)
    batch, told = batch_of(draw("sequence", 8), 2), list[Tensor]()

    def listen(codes: Tensor, steps: int, batch: Batch) -> Tensor:
        told.append(batch.values)
        return torch.zeros_like(batch.values)

    monkeypatch.setattr(model.decoder, "forward", listen)
    model.loss_terms(batch, Noise([torch.Generator().manual_seed(i) for i in range(2)]))
    assert len(told) == 1
    assert torch.equal(told[0], batch.values)


def walks(rows: int) -> Samples:
    """Random walks: a step is best told by the one before it."""
    values = np.random.default_rng(0).normal(scale=0.5, size=(rows, *KINDS["sequence"])).cumsum(1)
    lengths = np.full(rows, KINDS["sequence"][0])
    return Samples(
        values.astype(np.float32), lengths, np.arange(rows) % 2, np.zeros((rows, 32), dtype=np.uint8)
    )


@pytest.mark.parametrize("form", ["gru", "sinusoidal"])
def test_a_decoder_that_is_told_the_past_leaves_less_to_the_code(form: str) -> None:
    """Bowman et al. 2016, "Generating sentences from a continuous space", §3.1."""
    found = {}
    for decoder in ("conditioned", "autoregressive"):
        made = recipe(form, variant="variational", decoder=decoder)
        model, _ = train(made, MEMBERS, walks(128), steps=250, patience=100, buckets=1)
        found[decoder] = np.mean(Trained(model, MEMBERS, made).diagnose(walks(128))["kl"])  # type: ignore[arg-type]
    assert found["autoregressive"] < 0.7 * found["conditioned"]


@pytest.mark.parametrize("name", ["recurrent", "transformer"])
def test_a_table_of_categories_is_refused(name: str) -> None:
    entry = load_params().dataset("breast_cancer").model_dump(mode="json") | {"likelihood": "mixed"}
    parse(Dataset, entry, "params.yaml: datasets.breast_cancer")
    entry["architectures"][name]["decoder"] = "autoregressive"
    with pytest.raises(ConfigError, match=rf"architectures\.{name}\.decoder.*use decoder: conditioned"):
        parse(Dataset, entry, "params.yaml: datasets.breast_cancer")
