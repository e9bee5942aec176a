"""The contraction's norm is the Jacobian's, however it is found, and its diagnosis says what it is called."""

from typing import get_args

import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.config import MLP, ActivationName, Architectures
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Noise
from latentops.variants.contractive import Variant
from latentops.variants.parts.jacobian import contraction_ratio, exact_way, jacobian, singular_values
from tests.toy import SECTIONS, SMALL, agree, batch_of, describe, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


def noise(members: int = 3) -> Noise:
    return Noise([torch.Generator().manual_seed(i) for i in range(members)])


def layered(
    kind: str, hidden: list[int], latent: int = 3, sizes: Architectures = SMALL, **section: object
) -> Variant:
    sizes = sizes.model_copy(update={"mlp": MLP(hidden=hidden)})
    chosen = SECTIONS["contractive"] | section
    model = Recipe.resolve("contractive", chosen, "mlp", sizes, latent, describe(kind)).build(MEMBERS)
    assert isinstance(model, Variant)
    return model


@pytest.mark.parametrize("activation", get_args(ActivationName))
@pytest.mark.parametrize("hidden", [[9], [9, 8]])
def test_an_exact_norm_goes_by_the_activation_s_own_slope(
    activation: ActivationName, hidden: list[int]
) -> None:
    sizes = SMALL.model_copy(update={"mlp": MLP(hidden=hidden, activation=activation)})
    made = Recipe.resolve("contractive", SECTIONS["contractive"], "mlp", sizes, 3, describe("tabular"))
    model = made.build(MEMBERS).double()
    assert isinstance(model, Variant)
    batch = batch_of(draw("tabular", 4), 3, torch.float64)
    expected = by_autograd(model, batch).square().sum((2, 3))
    torch.testing.assert_close(model.squared_jacobian_norm(batch), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_attention_is_differentiated_as_autograd_does(kind: str) -> None:
    convolutional = SMALL.convolutional.model_copy(update={"attention": True, "normalisation": "layer"})
    sizes = SMALL.model_copy(update={"convolutional": convolutional})
    section = SECTIONS["contractive"]
    made = Recipe.resolve("contractive", section, "convolutional", sizes, 2, describe(kind))
    model = made.build(MEMBERS).double()
    assert isinstance(model, Variant)
    batch = batch_of(draw(kind, 3), 3, torch.float64)
    valid = batch.mask.expand_as(batch.values).flatten(2).unsqueeze(2)
    expected = (by_autograd(model, batch) * valid).square().sum((2, 3))
    norms = model.squared_jacobian_norm(batch)
    torch.testing.assert_close(norms, expected, rtol=1e-6, atol=0)
    norms.sum().backward()
    found = [each.grad for each in model.encoder.parameters()]
    assert all(each is None or bool(torch.isfinite(each).all()) for each in found)


def by_autograd(model: Variant, batch: Batch) -> torch.Tensor:
    """`[members, batch, latent, values]`, from torch's own."""
    found = []
    for member in range(len(batch.values)):
        for row in range(batch.values.shape[1]):

            def code(values: torch.Tensor, member: int = member, row: int = row) -> torch.Tensor:
                changed = batch.values.clone()
                changed[member, row] = values
                return model.encode(batch.with_values(changed))[member, row]

            found.append(torch.autograd.functional.jacobian(code, batch.values[member, row]).flatten(1))
    return torch.stack(found).view(*batch.values.shape[:2], *found[0].shape)


@pytest.mark.parametrize("code", ["linear", "sigmoid"])
@pytest.mark.parametrize("hidden", [[], [9], [9, 8]])
def test_a_closed_form_is_the_chain_s_and_autograd_s(hidden: list[int], code: str) -> None:
    model = layered("tabular", hidden, code=code).double()
    batch = batch_of(draw("tabular", 4), 3, torch.float64)
    closed = len(hidden) == 0 or (len(hidden) == 1 and code == "linear")
    assert model.way == ("closed" if closed else "chain")
    norms = model.squared_jacobian_norm(batch)
    chained = model.jacobian(batch).square().sum((2, 3))
    torch.testing.assert_close(norms, chained, rtol=1e-12, atol=0)
    torch.testing.assert_close(norms, by_autograd(model, batch).square().sum((2, 3)), rtol=1e-9, atol=0)
    weights = list(model.encoder.parameters())
    pairs = [torch.autograd.grad(each.sum(), weights, allow_unused=True) for each in (norms, chained)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(
            *(torch.zeros(()) if each is None else each for each in (one, other)), check_dtype=False
        )


def test_a_scale_free_contraction_cannot_be_lowered_by_shrinking_the_code() -> None:
    batch = batch_of(draw("tabular", 32), 3)
    found: dict[str, list[torch.Tensor]] = {"as_is": [], "free": []}
    for scale, terms in found.items():
        for factor in (1.0, 0.1):
            model = layered("tabular", [9], scale=scale)
            head = dict(model.encoder.named_parameters())["layers.1.weight"]
            head.data *= factor
            terms.append(model.loss_terms(batch, noise())["contraction"])
    torch.testing.assert_close(found["free"][1], found["free"][0])
    torch.testing.assert_close(found["as_is"][1], 0.01 * found["as_is"][0])


def test_a_linear_encoder_of_white_data_has_a_scale_free_contraction_of_one() -> None:
    model = layered("tabular", [], scale="free")
    rows = torch.linalg.qr(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)))[0]
    white = torch.linalg.qr(rows - rows.mean(0))[0][:, :7] * 8
    terms = model.loss_terms(Batch(white.expand(3, 64, 7)), noise())
    torch.testing.assert_close(terms["contraction"], torch.ones(3), rtol=1e-3, atol=0)


def test_one_sigmoid_layer_has_rifais_norm() -> None:
    """Rifai et al. 2011, eq. 6: ``Σ_j (h_j (1 - h_j))² Σ_i W_ij²``."""
    model = layered("tabular", [], code="sigmoid")
    batch = batch_of(draw("tabular", 5), 3)
    weight = dict(model.encoder.named_parameters())["layers.0.weight"]
    codes = model.encode(batch)
    expected = torch.einsum("mbj,mij->mb", (codes * (1 - codes)) ** 2, weight**2)
    torch.testing.assert_close(model.squared_jacobian_norm(batch), expected)


@pytest.mark.parametrize("architecture", ["mlp", "convolutional", "recurrent"])
@pytest.mark.parametrize("kind", ["image", "tabular", "sequence"])
@pytest.mark.parametrize("code", ["linear", "sigmoid"])
def test_singular_values_and_norm_are_those_of_autograds_jacobian(
    architecture: str, kind: str, code: str
) -> None:
    model = recipe("contractive", kind, architecture, code=code).build(MEMBERS).double()
    assert isinstance(model, Variant)
    batch = batch_of(draw(kind, 3), 3, torch.float64)
    valid = batch.mask.expand_as(batch.values).flatten(2).unsqueeze(2)
    whole = by_autograd(model, batch) * valid
    values = singular_values(model.jacobian(batch))
    torch.testing.assert_close(values, torch.linalg.svdvals(whole), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(model.squared_jacobian_norm(batch), values.square().sum(-1))


@pytest.mark.parametrize("architecture", ["mlp", "convolutional", "recurrent"])
def test_a_chain_is_what_going_back_row_by_row_gives(architecture: str) -> None:
    model = recipe("contractive", "sequence", architecture).build(MEMBERS).double()
    assert isinstance(model, Variant)
    batch = batch_of(draw("sequence", 6), 3, torch.float64)
    encoder = model.encoder

    class Opaque(torch.nn.Module):
        def forward(self, batch: Batch) -> torch.Tensor:
            return torch.as_tensor(encoder(batch))

    back = jacobian(Opaque(), batch, None)
    torch.testing.assert_close(model.jacobian(batch), back)
    assert exact_way(model.encoder, True, True) == ("chain" if architecture == "mlp" else "rows")


@pytest.mark.parametrize(
    ("architecture", "code"), [("mlp", "linear"), ("convolutional", "sigmoid"), ("recurrent", "linear")]
)
def test_an_estimate_is_off_by_as_much_as_its_draws_allow(architecture: str, code: str) -> None:
    """Its variance is Hutchinson's, and falls with the draws."""
    batch = batch_of(draw("sequence", 64), 3)
    found = {}
    for draws in (1, 4):
        made = recipe("contractive", "sequence", architecture, latent=4, draws=draws, code=code)
        model = made.build(MEMBERS)
        assert isinstance(model, Variant)
        exact = model.squared_jacobian_norm(batch).mean(-1)
        source = noise()
        taken = torch.stack([model.codes_and_estimate(batch, source)[1].mean(-1) for _ in range(60)])
        found[draws] = model.diagnose(batch)["estimate_error"]
        error = (taken / exact - 1).square().mean(0).sqrt().detach()
        torch.testing.assert_close(error, found[draws], rtol=0.3, atol=0)
    torch.testing.assert_close(found[4], found[1] / 2)


@pytest.mark.parametrize("architecture", ["mlp", "convolutional"])
def test_draws_keep_a_member_what_it_is_alone(architecture: str) -> None:
    samples, made = draw("image", 24), recipe("contractive", "image", architecture, norm="estimate", draws=3)
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


def test_a_sigmoid_codes_estimate_is_right_on_average() -> None:
    model = layered("tabular", [9, 8], code="sigmoid")
    batch = batch_of(draw("tabular", 4), 3)
    source = noise()
    with torch.no_grad():
        drawn = torch.stack([model.codes_and_estimate(batch, source)[1] for _ in range(4000)]).mean(0)
    torch.testing.assert_close(drawn, model.squared_jacobian_norm(batch).detach(), rtol=0.06, atol=0)


@pytest.mark.parametrize(
    ("hidden", "latent", "samples", "way"),
    [
        ([], 3, 16, "closed"),
        ([9], 3, 16, "closed"),
        ([512], 3, 16, "estimate"),
        ([9, 8], 3, 16, "chain"),
        ([9, 8], 3, 128, "estimate"),
        ([9, 8], 6, 48, "estimate"),
    ],
)
def test_auto_takes_the_exact_norm_where_it_is_cheap(
    hidden: list[int], latent: int, samples: int, way: str
) -> None:
    model = layered("tabular", hidden, latent=latent, norm="auto", samples=samples)
    assert model.way == way
    diagnosis = model.diagnose(batch_of(draw("tabular", 8), 3))
    assert diagnosis["estimated"].tolist() == [float(way == "estimate")] * 3


@pytest.mark.parametrize(
    ("latent", "draws", "way"), [(2, 1, "rows"), (8, 1, "estimate"), (8, 2, "rows"), (16, 2, "estimate")]
)
def test_so_it_does_with_other_encoders(latent: int, draws: int, way: str) -> None:
    section = {"norm": "auto", "draws": draws}
    model = recipe("contractive", "image", "convolutional", latent=latent, **section).build(MEMBERS)
    assert isinstance(model, Variant)
    assert model.way == way


@pytest.mark.parametrize("code", ["linear", "sigmoid"])
@pytest.mark.parametrize("hidden", [[], [9], [9, 8]])
@pytest.mark.parametrize("norm", ["exact", "estimate", "auto"])
def test_a_member_in_a_stack_equals_the_same_member_alone(norm: str, hidden: list[int], code: str) -> None:
    sizes = SMALL.model_copy(update={"mlp": MLP(hidden=hidden)})
    section = SECTIONS["contractive"] | {"norm": norm, "code": code, "warmup": 0.5, "scale": "free"}
    made = Recipe.resolve("contractive", section, "mlp", sizes, 3, describe("tabular"))
    samples = draw("tabular", 24)
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


@pytest.mark.parametrize("architecture", ["convolutional", "recurrent"])
def test_so_it_is_with_a_sigmoid_code_of_other_encoders(architecture: str) -> None:
    samples, made = draw("sequence", 24), recipe("contractive", "sequence", architecture, code="sigmoid")
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


def test_a_sigmoid_code_lies_between_zero_and_one_and_has_gradients_of_its_own() -> None:
    batch = batch_of(draw("tabular", 32), 3)
    gradients = {}
    for code in ("linear", "sigmoid"):
        model = layered("tabular", [9, 8], code=code)
        terms = model.loss_terms(batch, noise())
        sum(terms.values()).sum().backward()
        gradients[code] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        codes = model.encode(batch)
        assert bool((codes >= 0).all() and (codes <= 1).all()) == (code == "sigmoid")
    assert not torch.allclose(*gradients.values())


def test_the_weight_rises_while_it_warms_up() -> None:
    model = layered("tabular", [9], weight=2.0, warmup=0.4)
    at = [model.coefficients(progress)["contraction"] for progress in (0.0, 0.1, 0.4, 1.0)]
    assert at == pytest.approx([0, 0.5, 2, 2])
    assert layered("tabular", [9], weight=2.0).coefficients(0.0)["contraction"] == 2
    samples = draw("tabular", 24)
    made = [recipe("contractive", "tabular", weight=20.0, warmup=share) for share in (0.0, 1.0)]
    one, other = (train(each, MEMBERS, samples)[0].state_dict() for each in made)
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("key", ["weight", "warmup"])
def test_a_negative_knob_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"variants\.contractive: {key}: .*greater than or equal to 0"):
        variant_settings("contractive", SECTIONS["contractive"] | {key: -0.1})


def test_a_linear_encoder_contracts_alike_at_any_distance() -> None:
    """And the mean of its squared ratio over directions is ``‖J‖² / n``."""
    model = layered("image", [])
    batch = batch_of(draw("image", 400), 3)
    near, far = (contraction_ratio(model.encode, batch, r, noise()).detach() for r in (0.1, 5.0))
    torch.testing.assert_close(near, far, rtol=1e-3, atol=0)
    expected = model.squared_jacobian_norm(batch)[:, 0] / 30
    torch.testing.assert_close(near.square().mean(-1), expected.detach(), rtol=0.15, atol=0)


def test_a_contraction_ratio_leaves_padding_alone() -> None:
    model = recipe("contractive", "sequence", "recurrent").build(MEMBERS)
    batch = batch_of(draw("sequence", 6), 3)
    longer = Batch(torch.nn.functional.pad(batch.values, (0, 0, 0, 3)), batch.lengths)

    class Longer(Noise):
        def normal(self, shape: object) -> torch.Tensor:
            short = noise().normal(tuple(batch.values.shape))
            return torch.nn.functional.pad(short, (0, 0, 0, 3), value=9.0)

    torch.testing.assert_close(
        contraction_ratio(model.encode, longer, 0.5, Longer([])),
        contraction_ratio(model.encode, batch, 0.5, noise()),
    )


def test_the_diagnosis_of_an_encoder_that_keeps_one_direction() -> None:
    model = layered("tabular", [])
    weight = dict(model.encoder.named_parameters())["layers.0.weight"]
    weight.data.zero_()
    weight.data[:, 0, 0] = 2.0
    found = model.diagnose(batch_of(draw("tabular", 50), 3))
    for name, value in {"jacobian_norm": 2.0, "jacobian_rank": 1.0, "jacobian_top": 1.0}.items():
        torch.testing.assert_close(found[name], torch.full((3,), value))
    torch.testing.assert_close(found["estimate_error"], torch.zeros(3))
    weight.data.zero_()
    weight.data[:, :3, :3] = torch.eye(3)
    found = model.diagnose(batch_of(draw("tabular", 50), 3))
    torch.testing.assert_close(found["jacobian_rank"], torch.full((3,), 3.0))
    torch.testing.assert_close(found["jacobian_top"], torch.full((3,), 1 / 3))


def test_a_constant_code_is_told_by_its_diagnosis() -> None:
    model = layered("tabular", [9])
    for parameter in model.encoder.parameters():
        parameter.data.zero_()
    found = model.diagnose(batch_of(draw("tabular", 20), 3))
    assert all(torch.isfinite(value).all() for value in found.values())
    for name in ("code_variance", "contraction_near", "jacobian_rank"):
        assert not found[name].any(), name


def test_contraction_lowers_the_ratio_and_the_codes_variance() -> None:
    samples = draw("tabular", 128)
    samples.values[:] = np.tanh(samples.values @ np.random.default_rng(3).normal(size=(7, 7)))

    def diagnosed(weight: float) -> dict[str, list[float]]:
        made = recipe("contractive", "tabular", weight=weight)
        model, _ = train(made, MEMBERS, samples, steps=300, patience=100)
        return Trained(model, MEMBERS, made).diagnose(samples)

    weak, strong = diagnosed(0.0), diagnosed(5.0)
    for name in ("jacobian_norm", "contraction_near", "contraction_far", "code_variance"):
        assert np.mean(strong[name]) < np.mean(weak[name]), name


def test_a_linear_map_contracts_alike_at_every_distance_by_its_norm() -> None:
    """An isometry of a plane, scaled by a third: ratio 1/3 along it, and singular values of a third."""
    model = layered("tabular", [], latent=7)
    with torch.no_grad():
        model.encoder.layers[0].weight.copy_(torch.eye(7).expand(3, 7, 7) / 3)
    found = model.profiles(batch_of(draw("tabular", 20), 3))
    ratio, values = found["contraction_ratio"], found["singular_values"]
    assert list(ratio.x) == sorted(ratio.x)
    torch.testing.assert_close(ratio.values, torch.full_like(ratio.values, 1 / 3), rtol=1e-3, atol=0)
    torch.testing.assert_close(values.values, torch.full((3, 7), 1 / 3))
