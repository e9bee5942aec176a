"""Profiles of codes and models of which it is known how they fare at each place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentops.config import Evaluation
from latentops.evaluation.comparison import along
from latentops.evaluation.judge import Field
from latentops.evaluation.probe import Probe, fit_probe
from latentops.evaluation.profiles import probe_by_depth, profiles, to_json
from latentops.evaluation.structure import hidden_error
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Profile
from latentops.variants.sequence import nats_by_step
from tests.toy import KINDS, VARIANTS, batch_of, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]


def settings(**levels: list[float]) -> Evaluation:
    met = {
        "gaussian": [0.5],
        "masking": [0.2, 0.5],
        "salt_and_pepper": [0.5],
        "replace": [0.5],
        "drop": [0.5],
    } | levels
    anomaly = {"neighbours": 3, "reference": 1000, "alpha": 0.1}
    probes = {
        "probe": {"strengths": [0.1]},
        "knn": {"neighbours": 3, "reference": 1000},
        "few_labels": {"labels": [], "draws": 1, "seed": 0},
        "clustering": {"starts": 1},
    }
    return Evaluation.model_validate({**probes, "anomaly": anomaly, "denoising": met})


def field(kind: str, rows: int = 60, **levels: list[float]) -> Field:
    samples = {split: draw(kind, rows, seed) for seed, split in enumerate(("train", "stop", "test"))}
    return Field(samples, ("a", "b"), ("a",), settings(**levels))  # type: ignore[arg-type]


def stack(variant: str, kind: str, architecture: str = "mlp") -> Trained:
    made = recipe(variant, kind, architecture)  # type: ignore[arg-type]
    return Trained(made.build(MEMBERS), MEMBERS, made)


def read(trained: Trained, given: Field) -> Probe:
    codes = [torch.from_numpy(trained.encode(given.samples[each])) for each in ("train", "stop")]  # type: ignore[index]
    labels = [torch.from_numpy(given.labels(each)) for each in ("train", "stop")]  # type: ignore[arg-type]
    return fit_probe(codes[0], labels[0], codes[1], labels[1], [0.1])


def found(trained: Trained, given: Field) -> dict[str, Profile]:
    return profiles(trained, given, trained.encode(given.samples["test"]), read(trained, given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_profile_has_a_value_a_member_at_each_of_its_places(variant: str, kind: str) -> None:
    some = found(stack(variant, kind), field(kind))
    shared = {"withstood_error", "withstood_probe_accuracy", "unit_auroc"}
    own = {"image": {"hidden_error"}, "tabular": {"imputation_error"}, "sequence": set(), "tokens": set()}[
        kind
    ]
    assert shared | own <= set(some)
    for each in some.values():
        assert each.values.shape == (len(MEMBERS), len(each.x))
        assert each.x_title
        assert each.y_title


def test_what_has_bounds_has_a_psnr_and_images_an_ssim_at_each_corruption() -> None:
    for kind, told in (("image", {"withstood_psnr", "withstood_ssim"}), ("sequence", {"withstood_psnr"})):
        made = recipe("undercomplete", kind)
        bounded = replace(made, description=replace(made.description, likelihood_range=(0.0, 1.0)))
        some = found(Trained(bounded.build(MEMBERS), MEMBERS, bounded), field(kind))
        assert set(some) - set(found(stack("undercomplete", kind), field(kind))) == told
        for name in told:
            assert some[name].x == some["withstood_error"].x
        error, psnr = (some[name].values for name in ("withstood_error", "withstood_psnr"))
        torch.testing.assert_close(psnr, -10 * error.log10())


def test_another_level_is_another_place() -> None:
    trained = stack("undercomplete", "tabular")
    once, more = (found(trained, field("tabular", masking=[share])) for share in (0.2, 0.4))
    assert list(once["withstood_error"].x) == ["clean", "gaussian 0.5", "masking 0.2", "salt_and_pepper 0.5"]
    assert list(more["imputation_error"].x) == ["40%"]
    assert bool((more["withstood_error"].values[:, 2] != once["withstood_error"].values[:, 2]).all())


def test_a_unit_planted_for_a_class_has_an_auroc_of_one() -> None:
    trained, given = stack("undercomplete", "tabular"), field("tabular")
    codes = np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32)
    before = profiles(trained, given, codes, read(trained, given))["unit_auroc"].values
    codes[1, :, 2] = given.labels("test")
    after = profiles(trained, given, codes, read(trained, given))["unit_auroc"].values
    assert after[1].tolist() == [1.0, 1.0]
    assert torch.equal(after[0], before[0])
    assert float(before.max()) < 1


def test_depth_changes_nothing_where_layers_pass_on_what_they_get(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, given = stack("convolutional", "image", "convolutional"), field("image")
    for samples in given.samples.values():
        samples.values[:, 0, 0] += 3 * samples.labels[:, None]
        np.abs(samples.values, out=samples.values)  # of positive values rectifiers change nothing
    encoder = trained.model.encoder
    monkeypatch.setattr(encoder, "maps", lambda batch: [batch.values] * len(encoder.layers))
    monkeypatch.setattr(trained.model, "encode", lambda batch: batch.values.flatten(2))
    depth = probe_by_depth(trained, given)
    assert list(depth.x) == ["input", "layer 1", "layer 2", "code"]
    assert bool((depth.values == depth.values[:, :1]).all())
    assert float(depth.values[0, 0]) > 0.8


def test_a_layer_that_forgets_is_where_the_probe_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, given = stack("convolutional", "image", "convolutional"), field("image")
    for samples in given.samples.values():
        samples.values[:, 0, 0] = samples.labels[:, None]
    encoder = trained.model.encoder
    monkeypatch.setattr(encoder, "maps", lambda batch: [batch.values, 0 * batch.values])
    monkeypatch.setattr(trained.model, "encode", lambda batch: 0 * batch.values.flatten(2))
    depth = probe_by_depth(trained, given)
    assert depth.values[:, 1].tolist() == [1.0, 1.0]
    assert depth.values[:, 2].tolist() == [0.5, 0.5]


def test_the_error_of_what_is_hidden_is_by_its_distance() -> None:
    trained, images = stack("undercomplete", "image"), draw("image", 20)
    truth = torch.from_numpy(images.values).expand(2, *images.values.shape)

    def near_sighted(batch: object) -> torch.Tensor:
        """Right about all but the last column, and blind to what it is given."""
        made = truth.clone()
        made[..., -1] += 2
        return made

    trained.model.reconstruct = near_sighted  # type: ignore[method-assign, assignment]
    assert hidden_error(trained, images) == pytest.approx(np.array([[0, 0, 4.0]] * 2), abs=1e-5)


def test_what_the_encoder_is_shown_of_the_hidden_half_is_nothing() -> None:
    trained, images = stack("undercomplete", "image"), draw("image", 20)
    trained.model.reconstruct = lambda batch: batch.values  # type: ignore[method-assign]
    squares = (images.values[..., 2:].astype(np.float64) ** 2).mean(axis=(0, 1, 2))
    assert hidden_error(trained, images)[1] == pytest.approx(squares)


def test_a_profile_that_is_nowhere_defined_is_left_out() -> None:
    trained, given = stack("undercomplete", "image"), field("image")
    given.samples["test"] = replace(given.samples["test"], values=np.ones((60, 1, 6, 5), dtype=np.float32))
    assert "hidden_error" not in found(trained, given)


def test_intervals_are_over_seeds_place_by_place_and_none_where_a_seed_has_no_number() -> None:
    values = torch.tensor([[1.0, 2.0, torch.nan], [3.0, 2.0, 1.0]])
    written = to_json({"p": Profile([0.0, 0.5, 1.0], values, "x", "y")})
    assert written["p"]["values"] == [[1.0, 2.0, None], [3.0, 2.0, 1.0]]  # type: ignore[index]
    summary = along(written, 0.95)["p"]  # type: ignore[arg-type]
    assert summary["mean"] == [2.0, 2.0, None]
    assert summary["low"][0] < 1 < 3 < summary["high"][0]
    assert (summary["low"][1:], summary["high"][1:]) == ([2.0, None], [2.0, None])
    assert summary["x_title"] == "x"


def test_tokens_cost_nats_by_their_place_and_padding_none() -> None:
    lengths = torch.tensor([[3, 2, 1]])
    nats = torch.tensor([[[1.0, 2.0, 6.0], [3.0, 4.0, torch.nan], [5.0, torch.nan, torch.nan]]])
    places, found = nats_by_step(nats, lengths)
    assert places == [0.0, 0.5, 1.0]
    assert found.tolist() == [[3.0, 2.0, 5.0]]


@pytest.mark.parametrize("architecture", ["recurrent", "transformer"])
def test_a_sequence_of_tokens_has_its_error_by_step(architecture: str) -> None:
    trained, samples = stack("sequence", "tokens", architecture), draw("tokens", 40)
    profile = trained.profiles(samples)["error_by_step"]
    assert profile.y_title == "nats a token"
    assert profile.values.shape == (len(MEMBERS), 6)
    whole = replace(samples, lengths=np.full(40, 6), values=np.maximum(samples.values, 1))
    with torch.no_grad():
        nats = trained.model.residuals(batch_of(whole, len(MEMBERS)))
    by_step = trained.profiles(whole)["error_by_step"].values
    torch.testing.assert_close(by_step, nats.mean(1))
    assert set(trained.profiles(whole)) == {"error_by_step"}
