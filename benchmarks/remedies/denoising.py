"""Does a code withstand another corruption than the one it was trained for, and does a mixture help?"""

from collections.abc import Iterator, Sequence
from functools import cache
from statistics import fmean

import numpy as np
import torch

from benchmarks.remedies.study import Finding, samples, trained
from latentops.config import load_params
from latentops.evaluation.denoising import Met, Withstood, withstood
from latentops.evaluation.probe import fit_probe
from latentops.training.trained import Trained

MATCHED = (Met("gaussian", 0.8), Met("masking", 0.3), Met("salt_and_pepper", 0.3))
"""Each kind at the level that it is trained at."""

TABLE = "breast_cancer"


@cache
def model(corruption: str, dataset: str = "digits") -> Trained:
    """Trained on one corruption, or on the mixture of all."""
    return trained("denoising", dataset, corruption=corruption, level=0.8, share=0.3, start=1.0)


@cache
def row(corruption: str, dataset: str = "digits") -> list[Withstood]:
    """What it makes of each of `MATCHED` on the stop rows.

    The probe's strength is chosen on the same rows, clean.
    """
    train, stop = samples(dataset, "train"), samples(dataset, "stop")
    trained_on = model(corruption, dataset)
    codes = [torch.from_numpy(trained_on.encode(rows)) for rows in (train, stop)]
    labels = [torch.from_numpy(np.array(rows.labels)) for rows in (train, stop)]
    strengths = load_params().evaluation.probe.strengths
    probe = fit_probe(codes[0], labels[0], codes[1], labels[1], strengths)
    return withstood(trained_on, probe, stop, MATCHED)


def findings() -> Iterator[Finding]:
    """The matrix's off-diagonal without and with mixed corruption; what a schedule and what masking adds."""
    warning = "corruption mismatch hurts transfer"
    kinds = [met.corruption for met in MATCHED]
    cells = [(one, other) for one in range(3) for other in range(3) if one != other]
    for name, better in (("error", "lower"), ("noise_kept", "lower"), ("probe_accuracy", "higher")):
        values = {kind: [getattr(cell, name) for cell in row(kind)] for kind in (*kinds, "mixed")}
        yield Finding(
            warning,
            f"{name} on a corruption not trained for (digits)",
            "corruption: mixed",
            _mean([values[kinds[one]][other] for one, other in cells]),
            _mean([values["mixed"][other] for _, other in cells]),
            better,  # type: ignore[arg-type]
        )
        yield Finding(
            "a mixture costs where the corruption is known",
            f"{name} on the corruption trained for (digits)",
            "corruption: mixed",
            _mean([values[kinds[at]][at] for at in range(3)]),
            _mean(values["mixed"]),
            better,  # type: ignore[arg-type]
        )
    yield Finding(
        "missing values have to be trained for",
        "imputation error over the column means' (breast_cancer)",
        "corruption: masking",
        model("gaussian", TABLE).diagnose(samples(TABLE, "stop"))["imputation_error"],
        model("masking", TABLE).diagnose(samples(TABLE, "stop"))["imputation_error"],
    )
    for start, words in ((0.0, "rising from 0"), (2.0, "falling from twice")):
        scheduled = trained("denoising", corruption="gaussian", level=0.8, start=start)
        yield Finding(
            "one level learns features of one coarseness",
            f"noise kept, {words} (digits)",
            f"start: {start:g}",
            model("gaussian").diagnose(samples("digits", "stop"))["noise_kept"],
            scheduled.diagnose(samples("digits", "stop"))["noise_kept"],
        )


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """Seed by seed."""
    return [fmean(seed) for seed in zip(*rows, strict=True)]
