"""Health numbers are numbers, whatever the rows: what these leave undefined is left out."""

from dataclasses import replace

import numpy as np
import pytest

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
    wrong = {"wrong_tokens"} if kind == "tokens" else set()
    assert set(numbers) == {"effective_rank", "best_unit_auroc"} | wrong
    assert np.isfinite(list(numbers.values())).all()


def test_sequences_of_one_step_have_no_frequencies() -> None:
    samples = draw("sequence", 20)
    samples.values[:, 1:] = 0
    assert "sharpness_kept" not in found("sequence", replace(samples, lengths=np.ones(20, dtype=np.int64)))
