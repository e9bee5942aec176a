"""Every knob does something, in the direction its name says."""

import numpy as np
import pytest
import torch

from latentops.errors import ConfigError, UnknownNameError
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants import variant_class, variant_settings
from latentops.variants.autoencoder import Noise
from tests.toy import batch_of, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all")]


def gradients(variant: str, **section: object) -> torch.Tensor:
    """Of encoder, decoder and likelihood: what a variant has beside them may change its size."""
    made = recipe(variant, "tabular", **section)
    model = made.build(MEMBERS)
    noise = Noise([torch.Generator().manual_seed(i) for i in range(2)])
    weights = model.coefficients()
    terms = model.loss_terms(batch_of(draw("tabular", 32), 2), noise)
    sum(weights[name] * term.sum() for name, term in terms.items()).backward()  # type: ignore[union-attr]
    parts = model.encoder, model.decoder, model.likelihood
    found = [parameter.grad for part in parts for parameter in part.parameters()]
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


@pytest.mark.parametrize(
    ("variant", "low", "high"),
    [
        ("overcomplete", {"weight_decay": 0.0}, {"weight_decay": 1.0}),
        ("sparse", {"l1": 0.0}, {"l1": 1.0}),
        ("denoising", {"level": 0.0}, {"level": 1.0}),
        ("contractive", {"weight": 0.0}, {"weight": 1.0}),
        ("contractive", {"weight": 1.0, "samples": 16}, {"weight": 1.0, "samples": 32}),
        ("contractive", {"weight": 1.0, "norm": "exact"}, {"weight": 1.0, "norm": "estimate"}),
        ("contractive", {"norm": "estimate", "draws": 1}, {"norm": "estimate", "draws": 2}),
        ("contractive", {"scale": "as_is"}, {"scale": "free"}),
        ("variational", {"beta": 0.0}, {"beta": 4.0}),
        ("adversarial", {"weight": 0.0}, {"weight": 5.0}),
        ("adversarial", {"hidden": 8}, {"hidden": 16}),
    ],
)
def test_a_knob_changes_the_gradients(variant: str, low: dict[str, object], high: dict[str, object]) -> None:
    assert not torch.allclose(gradients(variant, **low), gradients(variant, **high))


@pytest.mark.parametrize(
    ("variant", "low", "high"),
    [
        ("adversarial", {"prior": "mixture", "components": 2}, {"prior": "mixture", "components": 5}),
        ("variational", {"warmup": "cyclic", "cycles": 2}, {"warmup": "cyclic", "cycles": 4}),
    ],
)
def test_a_knob_changes_what_is_learned(
    variant: str, low: dict[str, object], high: dict[str, object]
) -> None:
    """What acts in other steps than the first, or through the discriminator."""
    samples = draw("tabular", 64)
    one, other = (train(recipe(variant, "tabular", **each), MEMBERS, samples)[0] for each in (low, high))
    pairs = zip(one.encoder.parameters(), other.encoder.parameters(), strict=True)
    assert not all(torch.allclose(*pair) for pair in pairs)


def diagnosis(variant: str, name: str, **section: object) -> float:
    samples = draw("tabular", 128)
    mixing = np.random.default_rng(3).normal(size=(7, 7)).astype(np.float32)
    samples.values[:] = np.tanh(samples.values @ mixing)
    made = recipe(variant, "tabular", **section)
    model, _ = train(made, MEMBERS, samples, steps=300, batch_size=32, patience=100)
    return float(np.mean(Trained(model, MEMBERS, made).diagnose(samples)[name]))


@pytest.mark.parametrize(
    ("variant", "number", "low", "high"),
    [
        ("variational", "kl", {"beta": 8.0}, {"beta": 0.5}),
        ("contractive", "jacobian_norm", {"weight": 20.0}, {"weight": 0.0}),
        ("sparse", "hoyer", {"l1": 0.0, "latent": 6}, {"l1": 8.0, "latent": 6}),
    ],
)
def test_a_knob_moves_its_diagnosis_as_the_books_say(
    variant: str, number: str, low: dict[str, object], high: dict[str, object]
) -> None:
    assert diagnosis(variant, number, **low) < diagnosis(variant, number, **high)


def test_an_overcomplete_code_is_larger_than_the_input() -> None:
    assert recipe("overcomplete", "tabular", expansion=3).latent_dim == 21


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"variants\.sparse.*l1_weight.*l1"):
        variant_settings("sparse", {"l1_weight": 0.1})


def test_an_unknown_variant_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="variational"):
        variant_class("variatonal")


def test_the_two_architecture_variants_refuse_another_architecture() -> None:
    with pytest.raises(ConfigError, match="architecture"):
        variant_settings("convolutional", {"architecture": "mlp"})
