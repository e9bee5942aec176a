"""What a variant may change while it trains: scheduled numbers, buffers, and weights between looks."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.training.members import Member
from latentops.variants import undercomplete
from latentops.variants.autoencoder import Autoencoder, Noise
from tests.toy import draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


class Counting(Autoencoder):
    """Counts its steps in a buffer, records what is scheduled, and moves a bias at every look."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        members = len(arguments[5])  # type: ignore[arg-type]
        self.register_buffer("steps", torch.zeros(members))
        self.register_buffer("last", torch.zeros(members))
        self.mended = 0

    def schedules(self, progress: float = 1.0) -> dict[str, float]:
        return {"progress": progress}

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        if self.training:
            self.steps.add_(1)
            self.last.copy_(self.scheduled("progress").expand_as(self.last))
        return super().loss_terms(batch, noise)

    def mend(self, batch: Batch, noise: Noise) -> None:
        self.mended += 1


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undercomplete, "Variant", Counting)


def test_buffers_count_replayed_steps_and_are_kept_with_the_best_weights() -> None:
    model, outcome = train(recipe("undercomplete", "tabular"), MEMBERS, draw("tabular", 24), steps=30)
    assert model.get_buffer("steps").tolist() == outcome.best_step
    assert model.get_buffer("last").tolist() == pytest.approx([step / 30 for step in outcome.best_step])


def test_scheduled_numbers_are_those_of_the_end_outside_of_training() -> None:
    model, _ = train(recipe("undercomplete", "tabular"), MEMBERS, draw("tabular", 24), steps=30)
    assert float(model.scheduled("progress")) == 1


def test_members_that_leave_take_their_buffers_along() -> None:
    made = recipe("undercomplete", "tabular")
    samples = draw("tabular", 8)
    together, outcome = train(made, MEMBERS, samples, steps=2000, patience=2, rate=0.05)
    assert len(set(outcome.best_step)) > 1
    assert together.get_buffer("steps").tolist() == outcome.best_step


def test_weights_are_mended_once_a_look() -> None:
    looks = []
    model, _ = train(
        recipe("undercomplete", "tabular"), MEMBERS, draw("tabular", 24), steps=30, on_look=looks.append
    )
    assert isinstance(model, Counting)
    assert model.mended == len(looks)
