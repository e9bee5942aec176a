"""Health numbers are numbers, whatever the rows: what these leave undefined is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentops.data.prepared import Samples
from latentops.evaluation.diagnosis import diagnosis
from latentops.training.members import Member
from latentops.training.trained import Trained
from tests.toy import KINDS, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]


def found(kind: str, samples: Samples) -> dict[str, list[float]]:
    made = recipe("undercomplete", kind)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    return diagnosis(trained, samples, trained.encode(samples))


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_class_has_no_auroc_and_all_the_rest(kind: str) -> None:
    samples = draw(kind, 20)
    alone = found(kind, replace(samples, labels=np.zeros_like(samples.labels)))
    assert set(found(kind, samples)) - set(alone) == {"best_unit_auroc"}


@pytest.mark.parametrize("kind", KINDS)
def test_of_what_does_not_vary_nothing_is_explained_or_blurred(kind: str) -> None:
    samples = draw(kind, 20)
    value = 3.0 if kind == "tokens" else 0.3
    constant = replace(samples, values=np.where(samples.values == 0, 0, value).astype(np.float32))
    numbers = found(kind, constant)
    of_codes = {"effective_rank", "intrinsic_dimension", "active_share", "hoyer", "best_unit_auroc"}
    own = {"tokens": {"wrong_tokens"}, "sequence": {"path_stretch", "path_unevenness"}}  # lengths still vary
    assert set(numbers) == of_codes | own.get(kind, set())
    assert np.isfinite(list(numbers.values())).all()


def test_sequences_of_one_step_have_no_frequencies() -> None:
    samples = draw("sequence", 20)
    samples.values[:, 1:] = 0
    assert "sharpness_kept" not in found("sequence", replace(samples, lengths=np.ones(20, dtype=np.int64)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_reparameterised_gradient_varies_less_and_is_told_the_same_every_time(kind: str) -> None:
    made, samples = recipe("variational", kind), draw(kind, 40)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    ratio = trained.diagnose(samples)["gradient_variance_ratio"]
    assert min(ratio) > 1
    assert trained.diagnose(samples)["gradient_variance_ratio"] == ratio
    assert all(parameter.grad is None for parameter in trained.model.parameters())


def test_where_the_decoder_takes_no_notice_of_the_code_the_ratio_is_left_out() -> None:
    made, samples = recipe("variational", "tabular"), draw("tabular", 40)
    trained = Trained(made.build(MEMBERS), MEMBERS, made)
    codes = trained.encode(samples)
    assert "gradient_variance_ratio" in diagnosis(trained, samples, codes)
    with torch.no_grad():
        trained.model.get_parameter("decoder.layers.0.weight")[1] = 0
    assert "gradient_variance_ratio" not in diagnosis(trained, samples, codes)
