"""The health of a trained code: numbers that every variant has, beside those that are a variant's own."""

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import Samples
from latentops.evaluation.rows import ROWS, ROWS_OF_TOKENS, evenly
from latentops.evaluation.structure import (
    best_unit_auroc,
    copy_score,
    effective_rank,
    sharpness_kept,
    wrong_tokens,
)
from latentops.training.trained import Trained


def diagnosis(trained: Trained, samples: Samples, codes: NDArray[np.floating]) -> dict[str, list[float]]:
    """Health numbers of all members on `samples`, whose codes are `[members, n, latent]`, one a member.

    - `effective_rank` of the codes;
    - `best_unit_auroc`: how well the best single unit tells a class from the others, over the classes;
    - `copy_score`: R² on rows that keep nothing of the data but its columns; `explained` is that on the data;
    - `sharpness_kept`: high-frequency energy of reconstructions over the data's, where frequencies are;
    - `wrong_tokens`: share of tokens that are reconstructed as others.

    A number that these rows leave undefined is left out: a single class has no AUROC, what doesn't vary
    nothing to explain or to blur.
    """
    rows = evenly(len(samples), ROWS if trained.description.vocabulary is None else ROWS_OF_TOKENS)
    few, some = samples.select(rows), codes[:, rows]
    numbers = {
        **trained.diagnose(few),
        **copy_score(trained, few),
        "effective_rank": [effective_rank(each) for each in some],
        "best_unit_auroc": [_mean(best_unit_auroc(each, few.labels)[0]) for each in some],
    }
    axes = {"image": (-2, -1), "sequence": (1,)}.get(trained.description.kind)
    if trained.description.vocabulary is not None:
        numbers["wrong_tokens"] = wrong_tokens(trained, few)
    elif axes is not None:
        numbers["sharpness_kept"] = [
            sharpness_kept(made, few.values, axes, few.lengths) for made in trained.reconstruct(few)
        ]
    return {name: values for name, values in numbers.items() if np.isfinite(values).all()}


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that are numbers; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
