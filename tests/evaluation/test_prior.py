"""Codes of which it is known how they match the prior."""

import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.evaluation.diagnosis import diagnosis
from latentops.evaluation.prior import prior_match
from latentops.training.members import Member
from latentops.training.trained import Trained
from tests.toy import draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]


def stack(variant: str, kind: str = "tabular") -> Trained:
    made = recipe(variant, kind)
    return Trained(made.build(MEMBERS), MEMBERS, made)


def test_codes_that_are_the_prior_match_it_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, samples = stack("adversarial"), draw("tabular", 500)
    codes = torch.randn(2, 500, 2, generator=torch.Generator().manual_seed(1))
    codes[1] = 0.3
    monkeypatch.setattr(trained.model, "encode", lambda batch: codes)
    found = prior_match(trained, samples)
    assert abs(found["prior_mmd"][0]) < 0.01
    assert found["prior_mmd"][1] > 0.3
    assert found["two_sample_low"][0] < 0.5 < found["two_sample_high"][0]
    assert found["two_sample_low"][1] > 0.6


def test_a_posterior_that_is_the_prior_matches_it_though_its_mean_tells_nothing() -> None:
    trained, samples = stack("variational"), draw("tabular", 500)

    def collapsed(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        nothing = torch.zeros(*batch.values.shape[:2], 2)
        return nothing, nothing

    trained.model.posterior = collapsed  # type: ignore[assignment]
    found = prior_match(trained, samples)
    assert max(map(abs, found["prior_mmd"])) < 0.01
    trained.model.posterior = lambda batch: (collapsed(batch)[0], collapsed(batch)[0] - 12)  # type: ignore[assignment]
    assert min(prior_match(trained, samples)["prior_mmd"]) > 0.3


def test_without_a_prior_there_is_nothing_to_match_and_with_one_a_variant_s_own_number_stands() -> None:
    assert prior_match(stack("undercomplete"), draw("tabular", 20)) == {}
    samples = draw("tabular", 60)
    for variant in ("variational", "adversarial"):
        trained = stack(variant)
        found = diagnosis(trained, samples, trained.encode(samples))
        own = trained.diagnose(samples)
        assert "prior_mmd" in found
        assert all(found[name] == values for name, values in own.items())
