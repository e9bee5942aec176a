"""The matrix of trained × met corruptions is what its definitions say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentops.errors import ConfigError
from latentops.evaluation.denoising import LEVELS, Met, every_met, withstood
from latentops.training.members import Member
from latentops.training.trained import Trained
from tests.toy import draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]
CLEAN = Met("masking", 0.0)


def untrained(kind: str, bounds: tuple[float, float] | None = None) -> Trained:
    made = recipe("denoising", kind)
    made = replace(made, description=replace(made.description, likelihood_range=bounds))
    return Trained(made.build(MEMBERS), MEMBERS, made)


@pytest.mark.parametrize(("kind", "count"), [("image", 9), ("tokens", 6)])
def test_every_corruption_that_fits_is_met_at_rising_levels(kind: str, count: int) -> None:
    shape = untrained(kind).model.shape
    assert len(every_met(shape)) == count
    assert all(tuple(sorted(levels)) == levels for levels in LEVELS.values())
    for met in every_met(shape):
        met.corrupt(draw(kind, 4), shape, 0)


def test_of_tokens_the_error_is_the_share_of_wrong_ones() -> None:
    trained, samples = untrained("tokens"), draw("tokens", 12)
    met = Met("drop", 1.0)
    (found,) = withstood(trained, samples, samples, samples, [met], [1.0])
    made = trained.reconstruct(met.corrupt(samples, trained.model.shape, 0))
    assert samples.lengths is not None
    rows = [
        (made[0, row, :steps] != samples.values[row, :steps]).mean()
        for row, steps in enumerate(samples.lengths)
    ]
    assert found.error[0] == pytest.approx(np.mean(rows))
    assert found.psnr is None
    with pytest.raises(ConfigError, match=r"gaussian is for real values.*use replace or drop"):
        Met("gaussian", 0.4).corrupt(samples, trained.model.shape, 0)


@pytest.mark.parametrize("kind", ["image", "tabular", "sequence"])
def test_errors_are_those_of_the_reconstruction_against_clean_rows(kind: str) -> None:
    trained, samples = untrained(kind, (0.0, 2.0)), draw(kind, 12)
    met = Met("gaussian", 0.8)
    (found,) = withstood(trained, samples, samples, samples, [met], [1.0])
    corrupted = met.corrupt(samples, trained.model.shape, 0)
    made = trained.reconstruct(corrupted)
    for member in range(2):
        rows = []
        for row in range(12):
            steps = slice(None) if samples.lengths is None else slice(int(samples.lengths[row]))
            rows.append(((made[member, row] - samples.values[row])[steps] ** 2).mean())
        assert found.error[member] == pytest.approx(np.mean(rows), rel=1e-5)
        assert found.psnr is not None
        assert found.psnr[member] == pytest.approx(10 * math.log10(4 / np.mean(rows)), rel=1e-5)
    assert found.error[0] / found.noise_kept[0] == pytest.approx(found.error[1] / found.noise_kept[1])


def test_what_is_met_is_the_same_for_every_model_and_another_for_every_seed() -> None:
    samples, shape = draw("image", 6), untrained("image").model.shape
    once, again, other = (Met("masking", 0.5).corrupt(samples, shape, seed).values for seed in (0, 0, 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert np.array_equal(CLEAN.corrupt(samples, shape, 0).values, samples.values)


def test_a_probe_of_clean_codes_reads_clean_rows_and_not_what_is_all_masked() -> None:
    samples = draw("tabular", 60)
    samples.values[:, :3] += 4 * samples.labels[:, None].astype(np.float32)
    trained = untrained("tabular")
    clean, hidden = withstood(trained, samples, samples, samples, [CLEAN, Met("masking", 1.0)], [0.1])
    assert clean.psnr is None
    assert min(clean.probe_accuracy) > 0.8
    assert hidden.probe_accuracy == pytest.approx([0.5, 0.5])
    assert torch.tensor(clean.error).isfinite().all()
