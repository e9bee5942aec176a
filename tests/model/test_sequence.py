import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.errors import ConfigError
from latentops.training.members import Member
from latentops.training.trained import Recipe, Trained
from latentops.variants import variant_settings
from latentops.variants.sequence import Variant, neighbours
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
