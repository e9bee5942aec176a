"""Does a code withstand another corruption than the one it was trained for, and does a mixture help?"""

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from statistics import fmean

import numpy as np
import torch

from benchmarks.remedies.study import Finding, samples, trained
from latentops.config import load_params
from latentops.evaluation.denoising import Withstood, met, withstood
from latentops.evaluation.probe import fit_probe
from latentops.training.trained import Trained
from latentops.variants.parts.corruption import CorruptionName

KINDS: tuple[CorruptionName, ...] = ("gaussian", "masking", "salt_and_pepper")
NOTHING = "nothing"
"""What a plain autoencoder is trained on."""

TABLE = "breast_cancer"


@cache
def model(corruption: str, dataset: str = "digits") -> Trained:
    """Trained on one corruption, on the mixture of all, or on none."""
    if corruption == NOTHING:
        return trained("undercomplete", dataset)
    return trained("denoising", dataset, corruption=corruption, level=0.8, share=0.3, start=1.0)


@cache
def row(corruption: str) -> list[Withstood]:
    """What it makes of every corruption of `evaluation.denoising` on the stop rows.

    The probe's strength is chosen on the same rows, clean.
    """
    train, stop = samples("digits", "train"), samples("digits", "stop")
    trained_on, evaluation = model(corruption), load_params().evaluation
    codes = [torch.from_numpy(trained_on.encode(rows)) for rows in (train, stop)]
    labels = [torch.from_numpy(np.array(rows.labels)) for rows in (train, stop)]
    probe = fit_probe(codes[0], labels[0], codes[1], labels[1], evaluation.probe.strengths)
    return withstood(trained_on, probe, stop, met(evaluation.denoising, trained_on.model.shape))


def findings() -> Iterator[Finding]:
    """The matrix, its off-diagonal without and with mixed corruption; what a schedule and masking add."""
    yield from matrix()
    yield from mismatch()
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


def matrix() -> Iterator[Finding]:
    """Each cell of trained × met, against a plain autoencoder that meets the same."""
    for name, better in (("error", "lower"), ("probe_accuracy", "higher")):
        for at, plain in enumerate(row(NOTHING)):
            for kind in (*KINDS, "mixed"):
                yield Finding(
                    "a code doesn't withstand what it wasn't trained on",
                    f"{name}, met with {plain.met.name} (digits)",
                    kind,
                    getattr(plain, name),
                    getattr(row(kind)[at], name),
                    better,  # type: ignore[arg-type]
                )


def mismatch() -> Iterator[Finding]:
    """The matrix off its diagonal, and on it, over all levels: of one corruption and of the mixture."""
    for name, better in (("error", "lower"), ("noise_kept", "lower"), ("probe_accuracy", "higher")):
        for warning, words, which in (
            ("corruption mismatch hurts transfer", "a corruption not trained for", operator.ne),
            ("a mixture costs where the corruption is known", "the corruption trained for", operator.eq),
        ):
            yield Finding(
                warning,
                f"{name} on {words} (digits)",
                "corruption: mixed",
                mean(name, which, {kind: kind for kind in KINDS}),
                mean(name, which, dict.fromkeys(KINDS, "mixed")),
                better,  # type: ignore[arg-type]
            )


def mean(name: str, which: Callable[[str, str], bool], trained_on: Mapping[str, str]) -> list[float]:
    """Of the cells `which` the corruptions of a row and of what is met name, seed by seed.

    `trained_on` says which model stands in a row.
    """
    cells = [
        getattr(cell, name)
        for kind, corruption in trained_on.items()
        for cell in row(corruption)
        if cell.met.level and which(kind, cell.met.corruption)
    ]
    return [fmean(seed) for seed in zip(*cells, strict=True)]
