"""Posterior collapse with and without its remedies, what sharpness a prior costs, how smooth its code is."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch

from benchmarks.remedies.study import Finding, samples, trained
from latentops.evaluation.paths import distance_to_data, interpolations, unevenness
from latentops.evaluation.structure import sharpness_kept
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.parts import evidence
from latentops.variants.variational import Variant

DATASET = "digits"
IMAGE = (-2, -1)
PAIRS = 100
POINTS = 11

COLLAPSED = 12.0
"""A beta at which no posterior of the digits stays alive."""

REMEDIES: dict[str, dict[str, object]] = {
    "beta: 1": {"beta": 1.0},
    "warmup: linear over all steps": {"warmup": "linear", "ramp": 1.0},
    "warmup: cyclic, 4 cycles": {"warmup": "cyclic", "ramp": 1.0},
    "free_bits: 0.5": {"free_bits": 0.5},
    "capacity: 8": {"capacity": 8.0},
}


@cache
def stack(variant: str, **knobs: object) -> Trained:
    """Trained once, however many numbers are taken of it."""
    return trained(variant, DATASET, **knobs)  # type: ignore[arg-type]


def findings() -> Iterator[Finding]:
    """One number a seed on the stop rows, for each remedy and each comparison."""
    yield from collapse()
    yield from blur()
    yield from smoothness()
    yield gradients()


def collapse() -> Iterator[Finding]:
    """A high beta, and the same with each remedy."""
    stop = samples(DATASET, "stop")
    for beta in (8.0, COLLAPSED):
        without = stack("variational", beta=beta).diagnose(stop)
        for remedy, knobs in REMEDIES.items():
            remedied = stack("variational", **{"beta": beta} | knobs).diagnose(stop)
            for number in ("active_units", "mutual_information"):
                what = f"{number.replace('_', ' ')} at beta {beta:g}"
                yield Finding(
                    "posterior collapse", what, remedy, without[number], remedied[number], better="higher"
                )


def blur() -> Iterator[Finding]:
    """High-frequency energy of reconstructions over that of the data."""
    stop = samples(DATASET, "stop")

    def kept(made: Trained) -> list[float]:
        return [sharpness_kept(each, stop.values, IMAGE) for each in made.reconstruct(stop)]

    remedies = {
        "no prior (undercomplete)": stack("undercomplete"),
        "a prior by a discriminator (adversarial)": stack("adversarial"),
        "beta: 0.25": stack("variational", beta=0.25),
    }
    for remedy, made in remedies.items():
        yield Finding(
            "blurred reconstructions", "spectrum ratio of reconstructions", remedy,
            kept(stack("variational")), kept(made), better="higher",
        )  # fmt: skip


def smoothness() -> Iterator[Finding]:
    """Straight lines between the codes of two samples, as the plain and the variational decoder see them."""
    stop, data = samples(DATASET, "stop"), samples(DATASET, "train").values
    order = np.random.default_rng(0).permutation(len(stop))
    start, end = stop.select(order[:PAIRS]), stop.select(order[PAIRS : 2 * PAIRS])

    def numbers(made: Trained) -> tuple[list[float], list[float]]:
        walk = interpolations(made, start, end, POINTS)
        return unevenness(walk).mean(axis=1).tolist(), distance_to_data(walk, data).mean(axis=1).tolist()

    plain, variational = numbers(stack("undercomplete")), numbers(stack("variational"))
    names = ("longest step over the mean step", "distance of the middle to the nearest training row")
    for name, without, remedied in zip(names, plain, variational, strict=True):
        yield Finding("a plain code has holes", name, "variational", without, remedied)


def gradients() -> Finding:
    """How much either estimate of the likelihood's gradient varies, of a trained model."""
    made = stack("variational")
    model = made.model
    assert isinstance(model, Variant)
    batch = Resident.put(samples(DATASET, "stop"), torch.device("cpu")).shared(len(made.members))
    noise = Noise([member.generator("gradients") for member in made.members])
    estimates = evidence.gradients(model, batch, *model.posterior(batch), noise)
    pathwise, score = (evidence.gradient_variance(each).tolist() for each in estimates)
    return Finding(
        "the score function's gradient is noisy", "variance of the gradient by the posterior",
        "reparameterisation", score, pathwise,
    )  # fmt: skip
