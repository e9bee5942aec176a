"""Each option of an architecture does something, and the architectures that it makes are sound."""

import gc
from typing import get_args

import pytest
import torch
from torch import nn

from latentops.architectures import Shape, build
from latentops.architectures.stack import Batch, generator
from latentops.config import ArchitectureName, Architectures, parse
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Noise
from tests.toy import KINDS, SECTIONS, SMALL, agree, batch_of, describe, draw, likelihood_of, train

MEMBERS = [Member(0, "all"), Member(1, "all")]

OPTIONS: list[tuple[ArchitectureName, dict[str, object]]] = [
    ("mlp", {"hidden": [16]}),
    ("mlp", {"activation": "relu"}),
    ("mlp", {"activation": "tanh"}),
    ("mlp", {"activation": "gelu"}),
    ("mlp", {"activation": "sigmoid"}),
    ("mlp", {"tied": True}),
    ("convolutional", {"down": "pooled"}),
    ("convolutional", {"up": "resize"}),
    ("convolutional", {"residual": 1}),
    ("convolutional", {"normalisation": "layer"}),
    ("convolutional", {"normalisation": "group"}),
    ("convolutional", {"dilation": 2, "up": "resize"}),
    ("convolutional", {"dilation": 2, "down": "pooled"}),
    ("convolutional", {"attention": True}),
    ("convolutional", {"residual": 2, "normalisation": "group", "attention": True, "up": "resize"}),
    ("recurrent", {"cell": "lstm"}),
    ("recurrent", {"pooling": "mean"}),
    ("recurrent", {"pooling": "attention"}),
    ("recurrent", {"decoder": "autoregressive"}),
    ("recurrent", {"chunk": 2}),
    ("recurrent", {"layers": 2}),
    ("recurrent", {"layers": 2, "cell": "lstm", "decoder": "autoregressive", "pooling": "mean"}),
    ("recurrent", {"cell": "lstm", "decoder": "autoregressive", "pooling": "mean", "chunk": 2}),
    ("transformer", {"heads": 4}),
    ("transformer", {"layers": 2}),
    ("transformer", {"expansion": 3}),
    ("transformer", {"positions": "rotary"}),
    ("transformer", {"pooling": "mean"}),
    ("transformer", {"pooling": "last"}),
    ("transformer", {"patch": 2}),
    ("transformer", {"queries": 2}),
    ("transformer", {"decoder": "autoregressive"}),
    ("transformer", {"checkpoint": True}),
    ("transformer", {"decoder": "autoregressive", "positions": "rotary", "checkpoint": True}),
]
every_option = pytest.mark.parametrize(
    ("architecture", "options"), OPTIONS, ids=[f"{name}-{options}" for name, options in OPTIONS]
)


def recipe_of(kind: str, architecture: ArchitectureName, options: dict[str, object]) -> Recipe:
    changed = SMALL.model_dump()
    changed[architecture] |= options
    sizes = parse(Architectures, changed, "architectures")
    section, likelihood = SECTIONS["contractive"], likelihood_of(kind)
    return Recipe.resolve("contractive", section, architecture, sizes, 2, describe(kind), likelihood)


@every_option
def test_what_a_step_kept_goes_with_it(architecture: ArchitectureName, options: dict[str, object]) -> None:
    """At once, not when garbage is next collected: no node keeps what it gave."""
    model = recipe_of("image", architecture, options).build(MEMBERS)
    batch = batch_of(draw("image", 8), 2)
    gc.collect()
    gc.disable()
    try:
        terms = model.loss_terms(batch, Noise([]))
        sum(term.sum() for term in terms.values()).backward()  # type: ignore[union-attr]
        del terms
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kept = [each for each in gc.garbage if isinstance(each, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kept == []


def gradients(architecture: ArchitectureName, options: dict[str, object], kind: str) -> torch.Tensor:
    model = recipe_of(kind, architecture, options).build(MEMBERS)
    terms = model.loss_terms(batch_of(draw(kind, 32), 2), Noise([]))
    sum(term.sum() for term in terms.values()).backward()  # type: ignore[union-attr]
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, gradient in found.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        assert bool(gradient.view(2, -1).any(1).all()), name
    return torch.cat([gradient.flatten() for gradient in found.values() if gradient is not None])


@every_option
def test_an_option_changes_the_gradients(architecture: ArchitectureName, options: dict[str, object]) -> None:
    """But for what saves memory, which changes nothing but rounding."""
    plain = gradients(architecture, {}, "image")
    changed = gradients(architecture, options, "image")
    same = plain.shape == changed.shape and torch.allclose(plain, changed, atol=1e-4)
    assert same == (options.keys() <= {"queries", "chunk", "checkpoint"})


@every_option
@pytest.mark.parametrize("kind", list(KINDS))
def test_under_every_option_a_member_in_a_stack_equals_the_same_alone(
    architecture: ArchitectureName, options: dict[str, object], kind: str
) -> None:
    samples, made = draw(kind, 24), recipe_of(kind, architecture, options)
    together, _ = train(made, MEMBERS, samples, steps=12)
    alone, _ = train(made, MEMBERS[1:], samples, steps=12)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


@pytest.mark.parametrize("sizes", [(3, 28, 28), (4, 5, 9), (2, 1, 7)])
@pytest.mark.parametrize("architecture", get_args(ArchitectureName))
def test_an_image_may_have_any_size_and_channels(
    architecture: ArchitectureName, sizes: tuple[int, int, int]
) -> None:
    """Every value of it is read and written."""
    encoder, decoder = parts(architecture, Shape(sizes, False))
    values = torch.randn(1, 64, *sizes, generator=generator("images"), requires_grad=True)
    codes = encoder(Batch(values))
    assert codes.shape == (1, 64, 4)
    (reached,) = torch.autograd.grad(codes.sum(), values)
    assert bool((reached[0].abs().amax(0) > 0).all())
    rebuilt = decoder(codes.detach())
    assert rebuilt.shape == values.shape
    assert bool((rebuilt[0].std(0) > 0).all())


@pytest.mark.parametrize(
    "options", [{"down": "pooled"}, {"up": "resize"}, {"residual": 1, "attention": True}]
)
@pytest.mark.parametrize("sizes", [(3, 28, 28), (4, 5, 9)])
def test_so_it_is_with_other_convolutions(sizes: tuple[int, int, int], options: dict[str, object]) -> None:
    encoder, decoder = parts("convolutional", Shape(sizes, False), **options)
    values = torch.randn(1, 64, *sizes, generator=generator("images"))
    assert decoder(encoder(Batch(values))).shape == values.shape


@pytest.mark.parametrize(
    ("options", "says"),
    [({"heads": 3}, "make it a multiple"), ({"positions": "rotary", "heads": 8}, "make width / heads even")],
)
def test_heads_that_cannot_share_a_width_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        recipe_of("image", "transformer", options)


def test_dilation_without_a_kernel_to_dilate_is_refused() -> None:
    with pytest.raises(ConfigError, match="add residual: 1"):
        recipe_of("image", "convolutional", {"dilation": 2})


@pytest.mark.parametrize(
    "options",
    [
        {"residual": 1, "dilation": 2},
        {"down": "pooled", "dilation": 2},
        {"up": "resize", "dilation": 2},
        {"attention": True},
    ],
)
def test_no_pixel_is_left_out(options: dict[str, object]) -> None:
    """Each is read by the encoder and written by the decoder."""
    shape = Shape((1, 8, 8), False)
    encoder, decoder = parts("convolutional", shape, channels=[4, 6], **options)
    values = torch.randn(1, 16, 1, 8, 8, generator=generator("images"), requires_grad=True)
    codes = encoder(Batch(values))
    (reached,) = torch.autograd.grad(codes.sum(), values)
    assert bool((reached[0].abs().amax(0) > 0).all())
    rebuilt = decoder(codes.detach())
    assert bool((rebuilt[0].std(0) > 0).all())


def test_a_config_that_knows_of_no_transformer_still_loads() -> None:
    value = {"mlp": {"hidden": [4]}, "convolutional": {"channels": [2]}, "recurrent": {"hidden": 2}}
    assert parse(Architectures, value, "config.json").transformer.layers == 2


def parts(architecture: ArchitectureName, shape: Shape, **options: object) -> tuple[nn.Module, nn.Module]:
    changed = SMALL.model_dump()
    changed[architecture] |= options
    return build(architecture, Architectures.model_validate(changed), shape, 4, 4, [generator(0)])


def test_a_transformer_learns_long_sequences_a_few_queries_at_a_time() -> None:
    encoder, decoder = parts("transformer", Shape((40, 3), True), queries=8)
    whole, _ = parts("transformer", Shape((40, 3), True), queries=40)
    samples = torch.randn(1, 4, 40, 3, generator=generator("long"))
    batch = Batch(samples, torch.tensor([[40, 11, 25, 3]]))
    torch.testing.assert_close(encoder(batch), whole(batch))
    assert decoder(encoder(batch), 40).shape == samples.shape


def test_attention_on_a_map_of_one_position_is_refused() -> None:
    with pytest.raises(ConfigError, match="has one position"):
        parts("convolutional", Shape((1, 8, 8), False), channels=[2, 2, 2], attention=True)


def test_tied_decoders_have_biases_alone_of_their_own() -> None:
    for kind in KINDS:
        made = recipe_of(kind, "mlp", {"tied": True})
        variational = Recipe(
            "variational",
            variant_settings("variational", SECTIONS["variational"]),
            *(made.architecture, made.architectures, made.latent_dim, made.description, made.likelihood),
        )
        for each in (made, variational):
            model = each.build(MEMBERS)
            assert all("bias" in name for name, _ in model.decoder.named_parameters())
            assert model.reconstruct(batch_of(draw(kind, 4), 2)).isfinite().all()
