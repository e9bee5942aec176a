"""The health of a trained code: numbers that every variant has, beside those that are a variant's own.

What is a property of any code is measured here, one way for all variants. Where a variant has a number of the
same name, its own stands.
"""

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import Samples
from latentops.evaluation.paths import smoothness
from latentops.evaluation.prior import prior_match
from latentops.evaluation.rows import ROWS, ROWS_OF_TOKENS, evenly
from latentops.evaluation.structure import (
    active_share,
    best_unit_auroc,
    checkerboard,
    copy_score,
    effective_rank,
    intrinsic_dimension,
    sharpness_kept,
    sparseness,
    wrong_tokens,
)
from latentops.training.trained import Trained

PRIOR_VARIANCE = 1.0
"""Of each unit under any prior (`parts.priors`)."""


def diagnosis(trained: Trained, samples: Samples, codes: NDArray[np.floating]) -> dict[str, list[float]]:
    """Health numbers of all members on `samples`, whose codes are `[members, n, latent]`, one a member.

    - `effective_rank`, `intrinsic_dimension`, `active_share` of the units and `hoyer` index of the codes;
    - `best_unit_auroc`: how well the best single unit tells a class from the others, over the classes;
    - `copy_score`: R² on rows that keep nothing of the data but its columns; `explained` is that on the data;
    - `prior_mmd` and `two_sample_accuracy` of codes against draws from the prior, where there is one;
    - `path_stretch` and `path_unevenness` of decoded interpolations, of real values;
    - `sharpness_kept`: high-frequency energy of reconstructions over the data's, where frequencies are;
    - `checkerboard`, of images: energy of reconstructions at the stride's frequency over the data's;
    - `wrong_tokens`: share of tokens that are reconstructed as others.

    A number that these rows leave undefined is left out: a single class has no AUROC, what doesn't vary
    nothing to explain or to blur.
    """
    rows = evenly(len(samples), ROWS if trained.description.vocabulary is None else ROWS_OF_TOKENS)
    few, some = samples.select(rows), codes[:, rows]
    scale = PRIOR_VARIANCE if trained.model.has_prior else None
    numbers = {
        **copy_score(trained, few),
        **prior_match(trained, few),
        **smoothness(trained, few),
        "effective_rank": [effective_rank(each) for each in some],
        "intrinsic_dimension": [intrinsic_dimension(each) for each in some],
        "active_share": [active_share(each, scale) for each in some],
        "hoyer": sparseness(some),
        "best_unit_auroc": [_mean(best_unit_auroc(each, few.labels)[0]) for each in some],
    }
    kind = trained.description.kind
    axes = {"image": (-2, -1), "sequence": (1,)}.get(kind)
    if trained.description.vocabulary is not None:
        numbers["wrong_tokens"] = wrong_tokens(trained, few)
    elif axes is not None:
        reconstructed = trained.reconstruct(few)
        numbers["sharpness_kept"] = [
            sharpness_kept(made, few.values, axes, few.lengths) for made in reconstructed
        ]
        if kind == "image":
            numbers["checkerboard"] = checkerboard(reconstructed, few.values)
    numbers |= trained.diagnose(few)
    return {name: values for name, values in numbers.items() if np.isfinite(values).all()}


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that are numbers; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
