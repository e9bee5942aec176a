"""What stands in place of a missing value is nobody's business, and what is done to values respects them."""

from typing import get_args

import numpy as np
import pytest
import torch

from latentops.architectures import Shape
from latentops.architectures.columns import Columns
from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName
from latentops.evaluation.anomaly import Scorer
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.likelihood import MixedLikelihood
from latentops.variants.parts.copying import permuted
from latentops.variants.parts.corruption import gaussian, masking, salt_and_pepper
from tests.toy import COLUMNS, EVERY, FIXED, OPTIONAL, VARIANTS, batch_of, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all")]
TABLE = Columns(COLUMNS, OPTIONAL)
SHAPE = Shape(EVERY["mixed"], ragged=False, columns=COLUMNS, optional=OPTIONAL)
NUMBER, FLAG = 4, 8
"""Entries of the number that may be missing, and of its flag."""


def noise(members: int = 2) -> Noise:
    return Noise([torch.Generator().manual_seed(at) for at in range(members)])


def batch(rows: int = 32) -> Batch:
    return batch_of(draw("mixed", rows), 2)


def otherwise(given: Batch) -> Batch:
    """The same rows with other numbers where they are missing."""
    values = given.values.clone()
    values[..., NUMBER] += 7.0 * (values[..., FLAG] == 0)
    return given.with_values(values)


@pytest.mark.parametrize(
    ("variant", "architecture"),
    [(name, each) for name in VARIANTS for each in FIXED.get(name, get_args(ArchitectureName))],
)
def test_what_stands_in_a_missing_numbers_place_changes_nothing(
    variant: str, architecture: ArchitectureName
) -> None:
    model = recipe(variant, "mixed", architecture).build(MEMBERS)
    given = batch()
    other = otherwise(given)
    assert not torch.equal(given.values, other.values)
    assert torch.equal(model.encode(other), model.encode(given))
    assert torch.equal(model.residuals(other).nan_to_num(-1), model.residuals(given).nan_to_num(-1))
    terms, others = model.loss_terms(given, noise()), model.loss_terms(other, noise())
    for name, term in terms.items():
        assert torch.equal(others[name], term), name


def test_a_missing_number_costs_nothing_and_pulls_nowhere() -> None:
    given = batch()
    likelihood = MixedLikelihood(2, 1.0, COLUMNS, OPTIONAL)
    outputs = torch.randn(given.values.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    likelihood.negative_log_likelihood(given, outputs).sum().backward()
    assert outputs.grad is not None
    there = TABLE.present(given.values) > 0
    assert bool((outputs.grad[~there] == 0).all())
    assert bool((outputs.grad[there] != 0).all())


def test_it_is_the_normal_density_of_the_numbers_that_are_there() -> None:
    given = batch()
    likelihood = MixedLikelihood(2, 1.3, COLUMNS, OPTIONAL)
    outputs = torch.randn(given.values.shape, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(2, given.values.shape[1])
    start = 0
    for at, width in enumerate(COLUMNS):
        x, m = (each[..., start : start + width] for each in (given.values, outputs))
        if width > 1:
            expected += (x * torch.log_softmax(m, -1)).sum(-1)
        else:
            density = torch.distributions.Normal(m, 1.3).log_prob(x)[..., 0]
            expected += density * (given.values[..., FLAG] if at in OPTIONAL else 1)
        start += width
    torch.testing.assert_close(likelihood.negative_log_likelihood(given, outputs), -expected.mean(-1))


def test_residuals_are_of_what_is_there_alone() -> None:
    made = recipe("undercomplete", "mixed")
    samples = draw("mixed", 20)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    there = made.description.present(samples.values)
    assert np.array_equal(np.isnan(trained.residuals(samples)[0]), ~there)
    assert np.isfinite(trained.reconstruct(samples)).all()


def test_a_row_in_which_everything_is_missing_is_scored() -> None:
    made = recipe("undercomplete", "mixed")
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    samples = draw("mixed", 40)
    residuals, codes = trained.residuals(samples)[0], trained.encode(samples)[0]
    residuals[3] = np.nan
    scores = Scorer.fit(residuals, codes, samples.values, 3).score(residuals, codes)
    assert all(np.isfinite(each).all() for each in scores.values())


def test_noise_is_added_to_values_that_are_there_alone() -> None:
    given = batch(400)
    moved = gaussian(given, 0.5, noise(), SHAPE).values - given.values
    there = TABLE.present(given.values) > 0
    assert bool((moved[~there] == 0).all())
    numbers = torch.zeros(9, dtype=torch.bool)
    numbers[[0, 4, 7]] = True
    for width, entries in ((1, numbers), (3, torch.arange(9).clamp(1, 3) == torch.arange(9))):
        spread = moved[..., entries][there[..., entries]].std()
        assert float(spread) == pytest.approx(0.5 if width == 1 else 0.5 * 2**0.5 / 3, rel=0.1)


def test_masking_makes_whole_values_missing() -> None:
    given = batch(400)
    masked = masking(given, 0.4, noise(), SHAPE)
    before, after = TABLE.present(given.values) > 0, TABLE.present(masked.values) > 0
    assert not bool((after & ~before).any())
    for start, width in ((1, 3), (5, 2)):
        kept = (masked.values == given.values)[..., start : start + width]
        gone = (masked.values == 0)[..., start : start + width]
        assert bool((kept.all(-1) | gone.all(-1)).all())
    flagged = before[..., NUMBER]
    assert float((~after[..., NUMBER])[flagged].float().mean()) == pytest.approx(0.4, abs=0.06)
    assert bool((masked.values[..., NUMBER][~after[..., NUMBER]] == 0).all())


def test_salt_and_pepper_puts_any_category_in_ones_place() -> None:
    given = batch(900)
    peppered = salt_and_pepper(given, 0.5, noise(), SHAPE).values
    for start, width in ((1, 3), (5, 2)):
        before, after = (each[..., start : start + width] for each in (given.values, peppered))
        assert torch.equal(after.sum(-1), before.sum(-1))  # one of them, or none where it is missing
        there = before.sum(-1) > 0
        changed = (after != before).any(-1)[there].float().mean()
        assert float(changed) == pytest.approx(0.5 * (width - 1) / width, abs=0.05)
    assert torch.equal(peppered[..., FLAG], given.values[..., FLAG])


def test_permuted_columns_stay_whole() -> None:
    given = batch(60)
    moved = permuted(given, torch.Generator().manual_seed(0), TABLE).values
    for entries in ([1, 2, 3], [5, 6], [NUMBER, FLAG]):
        before, after = (sorted(map(tuple, each[0][:, entries].tolist())) for each in (given.values, moved))
        assert before == after
    assert not torch.equal(moved, given.values)


def test_a_missing_number_is_reconstructed_from_the_others() -> None:
    random = np.random.default_rng(0)
    told = random.normal(size=400).astype(np.float32)
    samples = draw("mixed", 400)
    values = np.array(samples.values)
    values[:, 0], values[:, 7] = told, told
    values[:, FLAG] = random.random(400) < 0.7
    values[:, NUMBER] = told * values[:, FLAG]
    samples = type(samples)(values, None, samples.labels, samples.ids)
    made = recipe("undercomplete", "mixed", latent=3)
    model, _ = train(made, MEMBERS[:1], samples, steps=400, rate=0.02, patience=100)
    made_of = model.reconstruct(batch_of(samples)).detach().numpy()[0]  # type: ignore[operator]
    gone = values[:, FLAG] == 0
    assert np.mean((made_of[gone, NUMBER] - told[gone]) ** 2) < 0.3 * np.var(told)
