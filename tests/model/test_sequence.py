import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants import variant_settings
from latentops.variants.sequence import Variant, error_by_frequency, error_by_step, neighbours
from tests.toy import SMALL, batch_of, describe, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]


@pytest.mark.parametrize("architecture", ["recurrent", "transformer"])
def test_either_architecture_reads_steps_and_tells_its_errors(architecture: str) -> None:
    section = {"architecture": architecture}
    made = Recipe.resolve("sequence", section, "mlp", SMALL, 2, describe("sequence"))
    assert made.architecture == architecture
    found = Trained(made.build(MEMBERS), MEMBERS, made).diagnose(draw("sequence", 9))
    assert set(found) == {"late_error", "slow_error", "fast_error"}


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="architecture"):
        variant_settings("sequence", {"architecture": "mlp"})


def test_slow_and_fast_parts_are_told_apart() -> None:
    slow = torch.ones(1, 1, 6, 2)
    fast = slow * (-1.0) ** torch.arange(6).view(1, 1, 6, 1)
    whole = torch.tensor([[6]])
    assert neighbours(Batch(slow, whole), -1).item() == 0 < neighbours(Batch(slow, whole), 1).item()
    assert neighbours(Batch(fast, whole), 1).item() == 0 < neighbours(Batch(fast, whole), -1).item()
    noise = torch.randn(1, 1, 4000, 2, generator=torch.Generator().manual_seed(0))
    parts = [neighbours(Batch(noise, torch.tensor([[4000]])), sign).item() for sign in (1, -1)]
    assert parts == pytest.approx([8000, 8000], rel=0.05)


def test_a_decoder_that_keeps_the_mean_alone_loses_what_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    model = recipe("sequence", "sequence", "recurrent").build(MEMBERS)
    assert isinstance(model, Variant)
    batch = batch_of(draw("sequence", 50), 2)
    mean = (batch.values * batch.mask).sum(2, keepdim=True) / batch.mask.sum(2, keepdim=True)
    monkeypatch.setattr(model, "reconstruct", lambda batch: mean * batch.mask)
    found = model.diagnose(batch)
    assert bool((found["fast_error"] > 0.999).all())
    assert bool((found["slow_error"] < 0.9).all())


def test_an_error_planted_in_the_last_step_is_at_the_last_place_whatever_the_length() -> None:
    rows = draw("sequence", 40)
    batch = batch_of(rows, 2)
    assert batch.lengths is not None
    errors = torch.zeros_like(batch.values)
    errors.scatter_(2, (batch.lengths - 1)[..., None, None].expand(-1, -1, 1, 3), 1.0)
    long = batch.lengths[0] > 1
    places, by_step = error_by_step(errors[:, long], batch.values[:, long], batch.lengths[:, long])
    assert places == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert by_step[:, :-1].abs().max() == 0
    last = rows.values[np.arange(40), rows.lengths - 1][rows.lengths > 1]
    assert by_step[0, -1].item() == pytest.approx(1 / last.var(axis=0).mean(), rel=1e-4)


def test_an_error_of_one_frequency_is_found_there() -> None:
    step = torch.arange(16.0)
    wave = torch.cos(2 * torch.pi * step / 4).view(1, 1, 16, 1)
    data = torch.randn(1, 200, 16, 1, generator=torch.Generator().manual_seed(0))
    frequencies, found = error_by_frequency(wave.expand(1, 200, 16, 1), data, torch.full((1, 200), 16))
    assert frequencies[int(found[0].argmax())] == 0.25
    assert found[0].sort().values[-2] < 0.05 * found[0].max()
    _, all_lost = error_by_frequency(data, data, torch.full((1, 200), 16))
    torch.testing.assert_close(all_lost, torch.ones_like(all_lost))


def test_padding_changes_no_profile() -> None:
    batch = batch_of(draw("sequence", 30), 1)
    assert batch.lengths is not None
    errors = (batch.values + 1) * batch.mask
    places, steps = error_by_step(errors, batch.values, batch.lengths)
    frequencies, powers = error_by_frequency(errors, batch.values, batch.lengths)
    padded = [torch.nn.functional.pad(each, (0, 0, 0, 1)) for each in (errors, batch.values)]
    other_frequencies, other_powers = error_by_frequency(padded[0], padded[1], batch.lengths)
    assert (len(places), other_frequencies[-1]) == (5, frequencies[-1])
    assert powers[0, -1].item() == pytest.approx(other_powers[0, -1].item(), rel=1e-4)
    assert bool(steps.isfinite().all())


def test_an_image_is_told_by_its_rows_and_a_table_is_not() -> None:
    found = recipe("sequence", "image", "recurrent").build(MEMBERS).profiles(batch_of(draw("image", 9), 2))
    assert found["error_by_step"].values.shape == (2, 6)
    assert found["error_by_frequency"].values.shape == (2, 3)
    assert (
        recipe("sequence", "tabular", "recurrent").build(MEMBERS).profiles(batch_of(draw("tabular", 9), 2))
        == {}
    )
