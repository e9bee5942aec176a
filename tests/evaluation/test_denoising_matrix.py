"""The matrix of trained × met corruptions is what its definitions say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentops.config import Corruptions
from latentops.data.prepared import Samples
from latentops.errors import ConfigError
from latentops.evaluation.denoising import Met, Withstood, imputed, met, withstood
from latentops.evaluation.probe import fit_probe
from latentops.evaluation.ssim import structural_similarity
from latentops.training.members import Member
from latentops.training.trained import Trained
from tests.toy import draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]
CLEAN = Met("masking", 0.0)


def untrained(kind: str, bounds: tuple[float, float] | None = None) -> Trained:
    made = recipe("denoising", kind)
    made = replace(made, description=replace(made.description, likelihood_range=bounds))
    return Trained(made.build(MEMBERS), MEMBERS, made)


def stood(trained: Trained, samples: Samples, corruptions: list[Met]) -> list[Withstood]:
    codes, labels = torch.from_numpy(trained.encode(samples)), torch.from_numpy(samples.labels)
    return withstood(trained, fit_probe(codes, labels, codes, labels, [0.1]), samples, corruptions)


def test_clean_rows_are_met_and_then_each_corruption_that_fits_at_its_levels() -> None:
    levels = Corruptions(
        gaussian=[0.4], masking=[0.1, 0.25], salt_and_pepper=[0.2], replace=[0.5], drop=[0.3]
    )
    for kind, expected in (
        ("image", ["clean", "gaussian 0.4", "masking 0.1", "masking 0.25", "salt_and_pepper 0.2"]),
        ("tokens", ["clean", "replace 0.5", "drop 0.3"]),
    ):
        shape, samples = untrained(kind).model.shape, draw(kind, 4)
        found = met(levels, shape)
        assert [each.name for each in found] == expected
        corrupted = [each.corrupt(samples, shape, 0).values for each in found]
        assert np.array_equal(corrupted[0], samples.values)
        assert all(not np.array_equal(each, samples.values) for each in corrupted[1:])


def test_a_model_that_copies_keeps_all_noise() -> None:
    trained, samples = untrained("image"), draw("image", 30)
    trained.model.reconstruct = lambda batch: batch.values  # type: ignore[method-assign]
    clean, *corrupted = stood(trained, samples, [CLEAN, Met("gaussian", 0.8), Met("salt_and_pepper", 0.3)])
    assert clean.error == [0.0, 0.0]
    for each in corrupted:
        assert each.noise_kept == pytest.approx([1.0, 1.0])


def test_of_images_the_matrix_has_psnr_and_ssim_and_of_other_data_no_ssim() -> None:
    samples, corruptions = draw("image", 30), [CLEAN, Met("gaussian", 0.2), Met("gaussian", 0.8)]
    copying = untrained("image", (0.0, 1.0))
    copying.model.reconstruct = lambda batch: batch.values  # type: ignore[method-assign]
    clean, little, much = stood(copying, samples, corruptions)
    assert clean.psnr == [math.inf] * 2
    assert clean.ssim == pytest.approx([1.0, 1.0])
    assert clean.ssim is not None
    assert little.ssim is not None
    assert much.ssim is not None
    assert 1 > little.ssim[0] > much.ssim[0] > 0
    images = corruptions[2].corrupt(samples, copying.model.shape, 0).values
    assert much.ssim[1] == pytest.approx(structural_similarity(images, samples.values, 1.0).mean())
    assert stood(untrained("image"), samples, corruptions)[0].ssim is None
    assert stood(untrained("tabular", (0.0, 1.0)), draw("tabular", 9), corruptions)[0].ssim is None


def test_the_columns_means_impute_with_an_error_of_one_and_who_knows_the_rows_with_none() -> None:
    trained, samples = untrained("tabular"), draw("tabular", 40)
    samples.values[:] -= samples.values.mean(axis=0)
    trained.model.reconstruct = lambda batch: torch.zeros_like(batch.values)  # type: ignore[method-assign]
    assert imputed(trained, samples, [0.1, 0.5]) == pytest.approx(np.ones((2, 2)))
    known = torch.from_numpy(samples.values).expand(2, -1, -1)
    trained.model.reconstruct = lambda batch: known  # type: ignore[method-assign]
    assert imputed(trained, samples, [0.1, 0.5]) == pytest.approx(np.zeros((2, 2)))


def test_of_tokens_the_error_is_the_share_of_wrong_ones() -> None:
    trained, samples = untrained("tokens"), draw("tokens", 12)
    dropped = Met("drop", 1.0)
    (found,) = stood(trained, samples, [dropped])
    made = trained.reconstruct(dropped.corrupt(samples, trained.model.shape, 0))
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
    noisy = Met("gaussian", 0.8)
    (found,) = stood(trained, samples, [noisy])
    corrupted = noisy.corrupt(samples, trained.model.shape, 0)
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
    clean, hidden = stood(trained, samples, [CLEAN, Met("masking", 1.0)])
    assert clean.psnr is None
    assert min(clean.probe_accuracy) > 0.8
    assert hidden.probe_accuracy == pytest.approx([0.5, 0.5])
    assert torch.tensor(clean.error).isfinite().all()
