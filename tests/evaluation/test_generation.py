"""Samples of which it is known how like the data they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentops.config import LikelihoodSettings
from latentops.data.prepared import Samples
from latentops.evaluation.classifier import Classifiers
from latentops.evaluation.generation import (
    FEWEST,
    NEIGHBOURS,
    density_and_coverage,
    draw,
    features,
    generation,
    inputs,
    kernel_distance,
    two_sample_accuracy,
)
from latentops.evaluation.judge import Field
from latentops.training.members import Member
from latentops.training.trained import Trained
from tests.evaluation.test_profiles import settings
from tests.toy import EVERY, SECTIONS, SMALL, VOCABULARY, Recipe, describe, likelihood_of, recipe
from tests.toy import draw as draw_rows

MEMBERS = [Member(0, "all"), Member(1, "all")]
NUMBERS = {"kid", "kid_real", "density", "coverage", "generated_two_sample_accuracy"}


def normal(rows: int, inputs: int = 4, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, inputs, generator=torch.Generator().manual_seed(seed)) + shift


def field(kind: str, rows: int = 60, classes: tuple[str, ...] = ("a", "b")) -> Field:
    samples = {split: draw_rows(kind, rows, seed) for seed, split in enumerate(("train", "stop", "test"))}
    for each in samples.values():
        if len(classes) == 1:
            each.labels[:] = 0
    return Field(samples, classes, (), settings())  # type: ignore[arg-type]


def stack(variant: str, kind: str) -> Trained:
    made = recipe(variant, kind)
    return Trained(made.build(MEMBERS), MEMBERS, made)


def test_a_kernel_distance_is_its_formula_over_all_pairs_of_two() -> None:
    made, real = normal(6).double(), normal(5, seed=1, shift=0.5).double()

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
        for rows in (made, real)
    ]
    across = np.mean([kernel(x, y) for x in made for y in real])
    assert kernel_distance(made, real) == pytest.approx(sum(within) - 2 * across)


def test_a_kernel_distance_is_nothing_on_average_for_rows_alike_and_grows_with_the_shift() -> None:
    alike = [kernel_distance(normal(200, seed=2 * k), normal(200, seed=2 * k + 1)) for k in range(40)]
    assert abs(np.mean(alike)) < 3 * np.std(alike) / 40**0.5
    assert min(alike) < 0 < max(alike)
    shifted = [kernel_distance(normal(200, shift=s), normal(200, seed=1)) for s in (0.0, 0.3, 0.6, 1.2)]
    assert shifted == sorted(shifted)
    assert shifted[1] > max(alike)


def test_of_rows_alike_neighbourhoods_are_as_dense_and_as_covered_as_they_are_expected_to_be() -> None:
    """Naeem et al. 2020, equations 8 and 9."""
    count = 1000
    density, coverage = density_and_coverage(normal(count), normal(count, seed=1))
    k = np.arange(1, NEIGHBOURS + 1)
    assert coverage == pytest.approx(1 - np.prod((count - k) / (2 * count - k)), abs=0.02)
    assert density == pytest.approx(1, abs=0.1)


def test_the_data_itself_covers_itself_and_one_point_hardly_anything() -> None:
    real = normal(300)
    density, coverage = density_and_coverage(real, real.clone())
    assert coverage == 1
    assert density == pytest.approx((NEIGHBOURS + 1) / NEIGHBOURS)
    centre = torch.zeros(300, 4)
    crowded, little = density_and_coverage(real, centre)
    assert little < 0.2
    assert crowded > 1.2
    assert density_and_coverage(real, centre + 100) == (0, 0)
    repeated = real[:30].repeat(10, 1)  # every neighbourhood is a point
    assert density_and_coverage(repeated, repeated)[1] == 1
    assert density_and_coverage(repeated, repeated[:1].expand(300, -1))[1] == pytest.approx(1 / 30)


def test_a_classifier_can_not_tell_what_is_alike_and_tells_what_is_not() -> None:
    real = normal(800)
    drawn = torch.stack([normal(800, seed=1), normal(800, seed=1, shift=3), torch.zeros(800, 4)])
    alike, shifted, constant = two_sample_accuracy(drawn, real)
    assert alike == pytest.approx(0.5, abs=0.06)
    assert shifted > 0.97
    assert constant > 0.8
    assert two_sample_accuracy(drawn[1:2], real) == pytest.approx([shifted], abs=0.02)


def test_a_classifier_learns_what_no_line_divides_and_is_the_same_every_time() -> None:
    rows = normal(400, inputs=2).unsqueeze(0)
    labels = (rows[..., 0] * rows[..., 1] > 0).long()
    once, again = (Classifiers.fit(rows, labels, 2).logits(rows) for _ in range(2))
    assert torch.equal(once, again)
    assert float((once.argmax(-1) == labels).double().mean()) > 0.95
    both = Classifiers.fit(torch.cat([rows, 3 * rows]), labels.expand(2, -1), 2)
    torch.testing.assert_close(both.logits(rows)[:1], once, rtol=1e-3, atol=1e-3)


def test_features_are_of_one_scale_and_without_labels_the_values() -> None:
    rows, labels = 5 * normal(300, inputs=3) + 2, torch.arange(300) % 2
    for classes in (1, 2):
        look = features(rows, labels, classes)
        assert float(look(rows).square().mean()) == pytest.approx(1)
        assert torch.equal(look(rows), features(rows, labels, classes)(rows))
    centred = rows - rows.mean(0)
    torch.testing.assert_close(features(rows, labels, 1)(rows), centred / centred.square().mean().sqrt())
    assert features(rows, labels, 2)(rows).shape == (300, 32)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("variant", ["variational", "adversarial"])
def test_what_has_a_prior_has_a_number_a_member_and_the_same_every_time(
    variant: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentops.evaluation.classifier.STEPS", 10)
    trained, given = stack(variant, kind), field(kind)
    found = generation(trained, given)
    assert set(found) == NUMBERS
    assert np.isfinite([found[name] for name in NUMBERS]).all()
    assert all(len(values) == 2 for values in found.values())
    assert generation(trained, given) == found


def test_nothing_is_said_without_a_prior_or_of_too_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentops.evaluation.classifier.STEPS", 10)
    assert generation(stack("undercomplete", "image"), field("image")) == {}
    assert generation(stack("variational", "image"), field("image", FEWEST - 1)) == {}
    assert generation(stack("variational", "image"), field("image", FEWEST)) != {}


@pytest.mark.parametrize("classes", [("a", "b"), ("unlabelled",)])
def test_real_rows_pass_for_samples_and_a_single_one_does_not(
    classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first member draws data of the same kind, the second one row again and again."""
    trained, given = stack("variational", "tabular"), field("tabular", 400, classes)
    for each in given.samples.values():
        each.values[:, :2] += 3 * (np.arange(len(each)) % 2)[:, None].astype(np.float32)

    def sample(count: int, seed: int) -> tuple[np.ndarray, None]:
        own = draw_rows("tabular", count, 9 + seed).values
        own[:, :2] += 3 * (np.arange(count) % 2)[:, None].astype(np.float32)
        return np.stack([own, np.tile(own[:1], (count, 1))]), None

    monkeypatch.setattr(trained, "sample", sample)
    found = generation(trained, given)
    good, bad = zip(*(found[name] for name in ("kid", "coverage")), strict=True)
    floor = max(map(abs, found["kid_real"]))
    assert abs(good[0]) < 5 * floor + 0.02
    assert bad[0] > 20 * abs(good[0])
    assert good[1] > 0.9
    assert bad[1] < 0.1
    assert found["density"][0] == pytest.approx(1, abs=0.15)
    assert found["generated_two_sample_accuracy"][0] == pytest.approx(0.5, abs=0.07)
    assert found["generated_two_sample_accuracy"][1] > 0.95


def test_drawn_sequences_end_where_the_model_says_or_else_as_training_rows_do() -> None:
    train = draw_rows("sequence", 30)
    train = replace(train, lengths=np.where(np.arange(30) % 2, 2, 4))
    for length in (True, False):
        likelihood = LikelihoodSettings(name="gaussian", length=length)
        made = Recipe.resolve(
            "variational", SECTIONS["variational"], "mlp", SMALL, 2, describe("sequence"), likelihood
        )
        trained = Trained(made.build(MEMBERS), MEMBERS, made)
        drawn = draw(trained, 200, train)
        assert [len(each) for each in drawn] == [200, 200]
        for each in drawn:
            assert each.lengths is not None
            assert not each.values[np.arange(5) >= each.lengths[:, None]].any()
        told = set(np.concatenate([np.asarray(each.lengths) for each in drawn]).tolist())
        assert told == {1, 2, 3, 4, 5} if length else told == {2, 4}


def test_drawn_rows_of_a_table_lack_what_training_rows_lack() -> None:
    trained, train = stack("variational", "mixed"), draw_rows("mixed", 300)
    present = trained.description.present
    for each in draw(trained, 400, train):
        there, known = present(each.values), present(train.values)
        assert not each.values[:, :8][~there[:, :8]].any()
        assert there.mean(axis=0) == pytest.approx(known.mean(axis=0), abs=0.1)
        assert {tuple(row) for row in there} <= {tuple(row) for row in known}


def test_many_tokens_are_drawn_part_by_part_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentops.evaluation.generation.CHUNK", 8)
    trained, asked = stack("variational", "image"), []
    sample = trained.sample

    def counted(count: int, seed: int) -> object:
        asked.append((count, seed))
        return sample(count, seed)

    monkeypatch.setattr(trained, "sample", counted)
    drawn = draw(trained, 20, draw_rows("image", 5))
    assert asked == [(8, 0), (8, 1), (4, 2)]
    assert len(np.unique(drawn[0].values, axis=0)) == 20


def test_rows_of_a_classifier_have_equal_lengths_and_know_their_own() -> None:
    short: Samples = replace(draw_rows("sequence", 2), lengths=np.array([2, 5]))
    assert inputs(short, None).shape == (2, 16)
    assert inputs(short, None)[:, -1].tolist() == pytest.approx([0.4, 1.0])
    assert inputs(draw_rows("tokens", 2), VOCABULARY).shape == (2, VOCABULARY - 1)
    assert likelihood_of("tokens") == "categorical"
