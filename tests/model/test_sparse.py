"""Penalties against their definitions, what the controller holds, and what revival changes."""

import pytest
import torch

from latentops.config import ArchitectureName
from latentops.errors import ConfigError
from latentops.training import recorded
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.revival import drawn, read
from latentops.variants.parts.sparsity import active_means, dictionary, hoyer, keep_largest, kl_to_activity
from latentops.variants.sparse import Variant
from tests.toy import KINDS, agree, batch_of, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
ARCHITECTURES: tuple[ArchitectureName, ...] = ("mlp", "convolutional", "recurrent")
FORMS: dict[str, dict[str, object]] = {
    "l1": {"controller": True, "revive": "resample", "dead_after": 5},
    "kl": {"penalty": "kl", "activity": 0.2, "controller": True, "revive": "bias", "dead_after": 5},
    "top_k": {"penalty": "top_k", "activity": 0.3, "revive": "resample", "dead_after": 5},
}
every_form = pytest.mark.parametrize("form", FORMS)


def noise(members: int) -> Noise:
    return Noise([torch.Generator().manual_seed(i) for i in range(members)])


def built(
    kind: str = "tabular", architecture: ArchitectureName = "mlp", latent: int = 6, **section: object
) -> Variant:
    model = recipe("sparse", kind, architecture, latent, **section).build(MEMBERS)
    assert isinstance(model, Variant)
    return model


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"penalty": "kl", "activation": "relu"}, "penalty: kl needs activation: sigmoid"),
        ({"penalty": "l1", "activation": "sigmoid"}, "penalty: l1 needs activation: relu"),
        ({"penalty": "top_k", "activation": "sigmoid"}, "penalty: top_k needs activation: relu"),
        ({"penalty": "top_k", "controller": True}, "no weight to control: set controller: false"),
        ({"l1": 0.0, "controller": True}, "set l1 above 0, or controller: false"),
        ({"activity": 1.0}, "activity: .*less than 1"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(section: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        variant_settings("sparse", section)


def test_a_section_with_a_weight_alone_is_the_fixed_penalty() -> None:
    model = built(l1=0.1)
    assert dict(model.named_buffers()) == {}
    assert model.coefficients() == {"reconstruction": 1.0, "l1": 0.1}
    assert model.coefficients(0.25) == {"reconstruction": 1.0, "l1": 0.05}


def test_the_divergence_is_torchs_between_bernoulli_variables() -> None:
    codes = torch.rand(2, 40, 5, generator=torch.Generator().manual_seed(0))
    target, mean = torch.tensor(0.2), codes.mean(1)
    bernoulli = torch.distributions.Bernoulli
    expected = torch.distributions.kl_divergence(bernoulli(target.expand_as(mean)), bernoulli(mean)).sum(-1)
    torch.testing.assert_close(kl_to_activity(codes, 0.2), expected)
    held = torch.full((2, 40, 5), 0.2)
    torch.testing.assert_close(kl_to_activity(held, 0.2), torch.zeros(2), atol=1e-6, rtol=0)


def test_the_largest_units_are_kept_and_learn() -> None:
    codes = torch.rand(2, 9, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept = keep_largest(codes, 2)
    assert torch.equal(kept.sort(-1).values[..., -2:], codes.sort(-1).values[..., -2:])
    assert bool(((kept > 0).sum(-1) == 2).all())
    kept.sum().backward()
    assert torch.equal(codes.grad, (kept > 0).float())


@pytest.mark.parametrize(("activity", "units"), [(0.01, 1), (0.5, 3), (0.99, 6)])
def test_no_more_units_are_active_than_top_k_keeps(activity: float, units: int) -> None:
    model = built(penalty="top_k", activity=activity)
    codes = model.encode(batch_of(draw("tabular", 32), 3))
    assert int((codes > 0).sum(-1).max()) == units


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"penalty": "kl", "kl": 0.0}, {"penalty": "kl", "kl": 1.0}),
        ({"penalty": "kl", "activity": 0.1}, {"penalty": "kl", "activity": 0.4}),
        ({"penalty": "top_k", "activity": 0.2}, {"penalty": "top_k", "activity": 0.8}),
        ({"penalty": "l1"}, {"penalty": "kl"}),
        ({"penalty": "l1"}, {"penalty": "top_k"}),
        ({"controller": True, "l1": 0.1}, {"controller": True, "l1": 1.0}),
    ],
)
def test_a_knob_changes_the_gradients(one: dict[str, object], other: dict[str, object]) -> None:
    def gradients(section: dict[str, object]) -> torch.Tensor:
        model = built(**section)
        weights = model.coefficients()
        terms = model.loss_terms(batch_of(draw("tabular", 32), 3), noise(3))
        assert set(terms) == set(weights)
        sum(weights[name] * term.sum() for name, term in terms.items()).backward()  # type: ignore[union-attr]
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    assert not torch.allclose(gradients(one), gradients(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"controller": False}, {}),
        ({"activity": 0.1}, {"activity": 0.3}),
        ({"revive": "none"}, {"revive": "bias"}),
        ({"revive": "bias"}, {"revive": "resample"}),
        ({"dead_after": 2}, {"dead_after": 20}),
    ],
)
def test_what_acts_as_training_goes_on_changes_the_weights(
    one: dict[str, object], other: dict[str, object]
) -> None:
    samples = draw("tabular", 64)
    same = {"controller": True, "activity": 0.1, "l1": 20.0, "revive": "resample", "dead_after": 2}
    results = []
    for section in (same | one, same | other):
        made = recipe("sparse", "tabular", latent=6, **section)
        model, _ = train(made, MEMBERS, samples, steps=200, patience=99)
        results.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert not torch.equal(*results)


def test_the_controller_presses_the_members_above_the_target_and_relieves_those_below() -> None:
    model = built(controller=True, activity=0.5).train()
    codes = torch.stack(
        [torch.ones(8, 6), torch.zeros(8, 6), torch.tensor([1.0, 0, 1, 0, 1, 0]).expand(8, 6)]
    )
    model.encode = lambda batch: codes  # type: ignore[method-assign,assignment]
    terms = model.loss_terms(batch_of(draw("tabular", 8), 3), noise(3))
    above, below, at = model.get_buffer("pressure").tolist()
    assert above > 1 > below
    assert at == 1
    assert terms["excess"].tolist() == pytest.approx([0.9, 0, 0])
    before = model.get_buffer("pressure").clone()
    model.eval().loss_terms(batch_of(draw("tabular", 8), 3), noise(3))
    assert torch.equal(model.get_buffer("pressure"), before)


@pytest.mark.parametrize("start", [0.01, 1.0])
@pytest.mark.parametrize("activity", [0.4, 0.7])
def test_the_controller_holds_the_target_wherever_it_starts(start: float, activity: float) -> None:
    samples = draw("tabular", 128)
    made = recipe(
        "sparse", "tabular", latent=10, controller=True, activity=activity, l1=start, revive="resample"
    )
    model, _ = train(made, MEMBERS[:2], samples, steps=800, patience=99, batch_size=64, check_every=50)
    found = Trained(model, MEMBERS[:2], made).diagnose(samples)
    assert all(0.6 * activity < units / 10 < 1.25 * activity for units in found["active_units"])


def test_a_code_of_zeros_is_as_sparse_as_one_unit() -> None:
    assert torch.equal(hoyer(torch.zeros(1, 4, 5)), torch.ones(1))


def killed(model: Variant, units: list[int]) -> None:
    """Turn `units` of every member off for good."""
    layers = [each for name, each in model.encoder.named_parameters() if name.endswith("bias")]
    layers[-1].data[..., units] = -50.0
    model.get_buffer("quiet")[:, units] = 99


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["bias", "resample"])
def test_dead_units_come_back_without_changing_a_reconstruction(
    how: str, kind: str, architecture: ArchitectureName
) -> None:
    model = built(kind, architecture, latent=8, revive=how)
    killed(model, [1, 4])
    batch = batch_of(draw(kind, 32), 3)
    codes, reconstruction = model.encode(batch), model.reconstruct(batch)
    with torch.no_grad():
        model.mend(batch, noise(3))
    revived = model.encode(batch)
    assert not bool(codes[..., [1, 4]].any())
    assert bool((revived[..., [1, 4]] > 0).any(1).all())
    living = [0, 2, 3, 5, 6, 7]
    torch.testing.assert_close(revived[..., living], codes[..., living])
    torch.testing.assert_close(model.reconstruct(batch), reconstruction)
    assert not bool(model.get_buffer("quiet").any())


def test_a_revived_unit_learns_again() -> None:
    model = built(latent=6, revive="resample")
    killed(model, [2])
    batch = batch_of(draw("tabular", 32), 3)
    with torch.no_grad():
        model.mend(batch, noise(3))
    model.loss_terms(batch, noise(3))["reconstruction"].sum().backward()
    (first, *_) = model.readers
    assert bool(first.grad[:, 2].any())


def test_only_units_quiet_for_so_long_are_dead() -> None:
    model = built(revive="bias", dead_after=3).train()
    model.now = {"reviving": torch.tensor(1.0)}
    layers = [each for name, each in model.encoder.named_parameters() if name.endswith("bias")]
    layers[-1].data[..., 2] = -50.0
    for _ in range(3):
        before = layers[-1].clone()
        with torch.no_grad():
            model.mend(batch_of(draw("tabular", 32), 3), noise(3))
        assert torch.equal(layers[-1], before)
        model.loss_terms(batch_of(draw("tabular", 32), 3), noise(3))
    assert model.get_buffer("quiet")[:, 2].tolist() == [3, 3, 3]
    assert model.get_buffer("quiet").sum() == 9
    with torch.no_grad():
        model.mend(batch_of(draw("tabular", 32), 3), noise(3))
    assert bool((layers[-1][..., 2] > -50).all())


def test_nobody_is_revived_in_the_last_quarter() -> None:
    model = built(revive="bias")
    assert [model.schedules(at)["reviving"] for at in (0.1, 0.7, 0.8, 1.0)] == [1, 1, 0, 0]


def test_a_resampled_unit_leans_towards_rows_with_large_errors() -> None:
    odds = torch.tensor([[1.0, 0, 0, 3.0], [0, 1, 0, 0]])
    rows = drawn(odds, 4000, noise(2))
    assert torch.equal(rows.sum(1), torch.ones(2, 4000))
    torch.testing.assert_close(
        rows.mean(2), torch.tensor([[0.25, 0, 0, 0.75], [0, 1, 0, 0]]), atol=0.03, rtol=0
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_the_last_layer_reads_gives_its_outputs(architecture: ArchitectureName) -> None:
    model = built("image", architecture)
    batch = batch_of(draw("image", 6), 3)
    row = torch.zeros(3, 6, 6)
    row[:, 4] = 1.0
    values = read(model.encoder, batch, row)
    weight, bias = [each for _, each in model.encoder.named_parameters()][-2:]
    torch.testing.assert_close((values * weight).sum(1) + bias[:, 0], model.encoder(batch)[:, 4])


@pytest.mark.parametrize("kind", KINDS)
@every_form
def test_a_member_in_a_stack_equals_the_same_member_alone(form: str, kind: str) -> None:
    samples, made = draw(kind, 24), recipe("sparse", kind, latent=6, **FORMS[form])
    together, _ = train(made, MEMBERS, samples, steps=40, rate=0.05)
    for index, member in enumerate(MEMBERS):
        alone, _ = train(made, [member], samples, steps=40, rate=0.05)
        for name, value in alone.state_dict().items():
            assert agree(value[0], together.state_dict()[name][index]), (member, name)


@every_form
def test_a_replayed_step_gives_the_bytes_of_one_that_is_written_out(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = draw("tabular", 24), recipe("sparse", "tabular", latent=6, **FORMS[form])
    replayed, _ = train(made, MEMBERS, samples, steps=40, rate=0.05)
    monkeypatch.setattr(recorded, "LONGEST", 0)
    written, _ = train(made, MEMBERS, samples, steps=40, rate=0.05)
    for name, value in replayed.state_dict().items():
        assert torch.equal(value, written.state_dict()[name]), name


@every_form
def test_every_form_gives_its_diagnosis(form: str) -> None:
    found = built(**FORMS[form]).diagnose(batch_of(draw("tabular", 32), 3))
    assert {"active_units", "dead_units", "hoyer"} <= set(found)
    assert all(value.shape == (3,) and bool(torch.isfinite(value).all()) for value in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_dictionary_is_what_each_unit_adds(kind: str) -> None:
    model = built(kind)
    batch = batch_of(draw(kind, 16), 3)
    codes = model.encode(batch)
    sizes = active_means(codes, model.active(codes))
    atoms = dictionary(model, sizes)
    assert atoms.shape == (3, 6, *model.decode(codes).shape[2:])
    one = torch.zeros(3, 1, 6)
    one[..., 2] = sizes[:, None, 2]
    expected = model.decode(one) - model.decode(torch.zeros(3, 1, 6))
    torch.testing.assert_close(atoms[:, 2:3], expected)


def test_the_mean_of_an_active_unit_leaves_out_where_it_is_off() -> None:
    codes = torch.tensor([[[0.0, 2.0], [0.0, 0.0], [0.0, 4.0]]])
    assert active_means(codes, codes > 0).tolist() == [[0.0, 3.0]]
