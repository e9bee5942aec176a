"""What every variant under every architecture on every kind of data must do."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName
from latentops.training import recorded
from latentops.training.members import Member
from latentops.training.recorded import Program
from latentops.training.trained import Trained
from latentops.variants import NAMES
from latentops.variants.autoencoder import Noise
from tests.toy import EVERY, FIXED, INTEL, RAGGED, SECTIONS, VARIANTS, agree, batch_of, draw, recipe, train

ARCHITECTURES: tuple[ArchitectureName, ...] = get_args(ArchitectureName)
COMBINATIONS = [
    pytest.param(variant, architecture, kind, id=f"{variant}-{architecture}-{kind}")
    for variant in VARIANTS
    for architecture in FIXED.get(variant, ARCHITECTURES)
    for kind in EVERY
]
every_combination = pytest.mark.parametrize(("variant", "architecture", "kind"), COMBINATIONS)
MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


def noise(members: int) -> Noise:
    return Noise([torch.Generator().manual_seed(i) for i in range(members)])


@every_combination
def test_a_reconstruction_has_the_inputs_shape_and_is_zero_in_padding(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    samples = draw(kind, 5)
    made = recipe(variant, kind, architecture)
    model = made.build(MEMBERS)
    batch = batch_of(samples, 3)
    assert model.encode(batch).shape == (3, 5, made.latent_dim)
    reconstruction = model.reconstruct(batch)
    assert reconstruction.shape == batch.values.shape
    assert bool((reconstruction * (1 - batch.mask) == 0).all())


@every_combination
def test_every_parameter_gets_a_finite_gradient(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    model = recipe(variant, kind, architecture).build(MEMBERS)
    weights = model.coefficients()
    terms = model.loss_terms(batch_of(draw(kind, 16), 3), noise(3))
    assert set(terms) == set(weights)
    assert all(term.shape == (3,) for term in terms.values())
    sum(weights[name] * term.sum() for name, term in terms.items()).backward()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert bool(
            (parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]).any(1).all()
        ), name


@every_combination
def test_a_replayed_step_gives_the_bytes_of_one_that_is_written_out(
    variant: str, architecture: ArchitectureName, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = draw(kind, 24)
    made = recipe(variant, kind, architecture)
    programs: list[Program] = []
    monkeypatch.setattr(recorded, "Program", lambda calls: programs.append(Program(calls)) or programs[-1])
    replayed, _ = train(made, MEMBERS, samples, steps=20)
    buckets = 2 if kind in RAGGED and made.build(MEMBERS[:1]).takes_fewer_steps else 1
    assert len(programs) == buckets
    monkeypatch.setattr(recorded, "LONGEST", 0)
    written, _ = train(made, MEMBERS, samples, steps=20)
    for name, value in replayed.state_dict().items():
        assert torch.equal(value, written.state_dict()[name]), name


@every_combination
def test_a_member_in_a_stack_equals_the_same_member_alone(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    samples = draw(kind, 24)
    made = recipe(variant, kind, architecture)
    together, _ = train(made, MEMBERS, samples, steps=20)
    for index, member in enumerate(MEMBERS):
        alone, _ = train(made, [member], samples, steps=20)
        for name, value in alone.state_dict().items():
            assert agree(value[0], together.state_dict()[name][index]), (member, name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", list(EVERY))
def test_so_it_is_with_an_estimated_contraction(architecture: ArchitectureName, kind: str) -> None:
    samples, made = draw(kind, 24), recipe("contractive", kind, architecture, norm="estimate")
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


@every_combination
def test_a_saved_stack_is_the_same_when_loaded_and_selects_its_members(
    variant: str, architecture: ArchitectureName, kind: str, tmp_path: Path
) -> None:
    made = recipe(variant, kind, architecture)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    trained.save(tmp_path / "model")
    samples = draw(kind, 6)
    loaded = Trained.load(tmp_path / "model")
    assert np.array_equal(loaded.encode(samples), trained.encode(samples))
    one = loaded.select(seed=1, view="all")
    assert np.allclose(one.reconstruct(samples)[0], trained.reconstruct(samples)[1], atol=1e-6)
    assert np.array_equal(loaded.untrained().encode(samples), trained.encode(samples))


@every_combination
def test_neither_codes_nor_scores_depend_on_what_else_is_in_the_batch(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    made = recipe(variant, kind, architecture)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    samples = draw(kind, 9)
    whole = trained.encode(samples)
    order = np.random.default_rng(0).permutation(9)
    assert np.allclose(trained.encode(samples.select(order)), whole[:, order], atol=1e-5)
    assert np.allclose(trained.encode(samples.select(slice(3, 4))), whole[:, 3:4], atol=1e-5)
    residuals = trained.residuals(samples)
    assert np.allclose(
        trained.residuals(samples.select(order)), residuals[:, order], atol=1e-5, equal_nan=True
    )
    alone = trained.residuals(samples.select(slice(3, 4)))
    assert np.allclose(alone, residuals[:, 3:4], atol=1e-5, equal_nan=True)


@every_combination
def test_products_in_bfloat16_train_as_well(variant: str, architecture: ArchitectureName, kind: str) -> None:
    samples, made = draw(kind, 24), recipe(variant, kind, architecture)
    coarse, outcome = train(made, MEMBERS, samples, steps=10, precision="bf16")
    assert outcome.failures == [None] * len(MEMBERS)
    assert all(torch.isfinite(value).all() for value in coarse.state_dict().values())
    if torch.ops.mkldnn._is_mkldnn_bf16_supported() and INTEL:
        fine, _ = train(made, MEMBERS, samples, steps=10)
        assert any(
            not torch.equal(value, fine.state_dict()[name]) for name, value in coarse.state_dict().items()
        )


@pytest.mark.parametrize(
    ("variant", "architecture", "kind"),
    [pytest.param(*each.values, id=each.id) for each in COMBINATIONS if each.values[2] in RAGGED],
)
def test_what_lies_in_padding_changes_nothing(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    model = recipe(variant, kind, architecture).build(MEMBERS)
    batch = batch_of(draw(kind, 8), 3)
    dirty = batch.with_values(batch.values + 9.0 * (1 - batch.mask))
    assert torch.allclose(model.encode(dirty), model.encode(batch), atol=1e-6)


@pytest.mark.parametrize("architecture", ["recurrent", "transformer"])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in FIXED])
@pytest.mark.parametrize("kind", RAGGED)
def test_a_sequence_padded_further_has_the_same_code_and_reconstruction(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    model = recipe(variant, kind, architecture).build(MEMBERS)
    batch = batch_of(draw(kind, 8), 3)
    longer = Batch(torch.nn.functional.pad(batch.values, (0, 0, 0, 4)), batch.lengths)
    assert torch.allclose(model.encode(longer), model.encode(batch), atol=1e-6)
    of_longer = model.reconstruct(longer)[:, :, : batch.values.shape[2]]
    assert torch.allclose(of_longer, model.reconstruct(batch), atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_variants_with_a_prior_sample(variant: str) -> None:
    made = recipe(variant, "tabular", FIXED.get(variant, ("mlp",))[0])
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    if not trained.model.has_prior:
        with pytest.raises(Exception, match="no prior"):
            trained.sample(3, seed=0)
        return
    drawn, _ = trained.sample(3, seed=0)
    assert drawn.shape == (3, 3, *EVERY["tabular"])
    assert np.array_equal(drawn, trained.sample(3, seed=0)[0])
    assert not np.array_equal(drawn, trained.sample(3, seed=1)[0])


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("rows", [0, 1, 17])
def test_what_is_mapped_in_a_scratch_folder_is_the_same_and_leaves_nothing_there(
    kind: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("undercomplete", kind)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    monkeypatch.setattr("latentops.training.trained.CHUNK", 8)
    samples = draw(kind, rows)
    for of in (trained.encode, trained.residuals):
        assert np.array_equal(of(samples), of(samples, tmp_path), equal_nan=True)
        assert isinstance(of(samples, tmp_path), np.memmap) == (rows > 0)
    assert list(tmp_path.iterdir()) == []


def test_the_suite_covers_every_variant() -> None:
    assert set(SECTIONS) >= {*NAMES, *VARIANTS}
