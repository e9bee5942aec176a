"""What a trained stack makes of a field's rows, for the judge: no more of it than is asked for, and once."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import SplitName
from latentops.evaluation import generative_scores
from latentops.evaluation.judge import Coder, Field
from latentops.training.trained import Trained


def coder(trained: Trained, field: Field, scratch: Path | None = None) -> Coder:
    """Codes and residuals of the members of each view, and the scores that only such a variant has.

    With a `scratch` folder they are mapped from files there, as `Trained.encode` has it.
    """

    @cache
    def members(view: str) -> Trained:
        return trained.select(view=view)

    @cache
    def codes(view: str, split: SplitName) -> NDArray[np.float32]:
        return members(view).encode(field.given(view, split), scratch)

    def residuals(view: str, split: SplitName) -> NDArray[np.float32]:
        return members(view).residuals(field.given(view, split), scratch)

    def likelihood(view: str, split: SplitName) -> NDArray[np.float64]:
        return generative_scores.likelihood(members(view), field.given(view, split))

    def improbable(view: str, split: SplitName) -> NDArray[np.float64]:
        return generative_scores.distance(
            members(view), codes(view, split), field.settings.anomaly.neighbours
        )

    own = ({"auroc_prior": improbable} if trained.model.has_prior else {}) | (
        {"auroc_likelihood": likelihood} if generative_scores.has_bound(trained) else {}
    )
    return Coder(codes, residuals, own)
