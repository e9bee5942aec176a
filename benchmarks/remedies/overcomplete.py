"""Copying: what an overcomplete code does with nothing to keep it from that, and with each regulariser."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Better
from benchmarks.remedies.probing import probe_accuracy
from benchmarks.remedies.study import Finding, samples, trained
from latentops.evaluation.structure import copy_score
from latentops.training.trained import Trained

DATASETS = ("digits", "breast_cancer", "digit_columns")
REGULARISERS = ("weight_decay", "sparsity", "noise", "dropout")


def findings() -> Iterator[Finding]:
    """Every regulariser on every dataset; then a wide code against a narrow one."""
    for dataset in DATASETS:
        yield from identity(dataset)
    yield from detail()


def identity(dataset: str) -> Iterator[Finding]:
    """Copy score, what is known of the data, and the probe: with nothing, and with each regulariser."""
    train, stop = samples(dataset, "train"), samples(dataset, "stop")

    def numbers(regulariser: str) -> dict[str, list[float]]:
        stack = trained("overcomplete", dataset, regulariser=regulariser)
        return {**copy_score(stack, stop), "probe_accuracy": probe_accuracy(stack, train, stop)}

    wanted: tuple[tuple[str, str, Better], ...] = (
        ("copy_score", "copy score", "lower"),
        ("explained", "R² on data", "higher"),
        ("probe_accuracy", "probe accuracy", "higher"),
    )
    none = numbers("none")
    for regulariser in REGULARISERS:
        some = numbers(regulariser)
        for name, number, better in wanted:
            yield Finding(
                "overcomplete learns the identity", f"{number}, {dataset}", regulariser,
                none[name], some[name], better,
            )  # fmt: skip


def detail() -> Iterator[Finding]:
    """A wide code against a narrow one on what is fine in an image, and on copying."""
    narrow, wide = trained("undercomplete"), trained("overcomplete")
    stop = samples("digits", "stop")
    yield Finding(
        "a narrow code loses detail", "R² of high spatial frequencies, undercomplete", "overcomplete",
        fine_detail(narrow), fine_detail(wide), "higher",
    )  # fmt: skip
    yield Finding(
        "a narrow code loses detail", "copy score, undercomplete", "overcomplete",
        copy_score(narrow, stop)["copy_score"], copy_score(wide, stop)["copy_score"],
    )  # fmt: skip


def fine_detail(stack: Trained) -> list[float]:
    """Share of the energy above half the highest spatial frequency that the reconstruction gets right."""
    stop = samples("digits", "stop")
    high = np.maximum.outer(*(np.abs(np.fft.fftfreq(size)) for size in stop.values.shape[-2:])) > 0.25

    def energy(images: NDArray[np.floating]) -> float:
        return float((np.abs(np.fft.fft2(images)) ** 2 * high).sum())

    return [1 - energy(stop.values - each) / energy(stop.values) for each in stack.reconstruct(stop)]
