"""The adversarial game with and without what steadies it, and how sharp it is beside a variational code."""

from collections.abc import Iterator
from functools import cache

from benchmarks.remedies.study import Finding, samples, trained
from latentops.evaluation.structure import sharpness_kept
from latentops.training.trained import Trained

DATASET = "digits"
IMAGE = (-2, -1)
DRAWS = 500

UNSTABLE = 10.0
"""A weight of deception at which the two players never settle."""

REMEDIES: dict[str, dict[str, object]] = {
    "weight: 1": {"weight": 1.0},
    "spectral_norm": {"spectral_norm": True},
    "gradient_penalty: 1": {"gradient_penalty": 1.0},
    "label_smoothing: 0.1": {"label_smoothing": 0.1},
    "instance_noise: 1": {"instance_noise": 1.0},
    "discriminator_rate: 0.3": {"discriminator_rate": 0.3},
}

NUMBERS = {
    "prior_mmd": "squared MMD between codes and prior",
    "two_sample_accuracy": "accuracy of a two-sample classifier",
    "discriminator_accuracy": "how far the discriminator's accuracy is from 0.5",
}


@cache
def stack(variant: str, **knobs: object) -> Trained:
    """Trained once, however many numbers are taken of it."""
    return trained(variant, DATASET, **knobs)  # type: ignore[arg-type]


def findings() -> Iterator[Finding]:
    """One number a seed on the stop rows, for each remedy and each comparison."""
    yield from balance()
    yield mismatched()
    yield from sharpness()


def balance() -> Iterator[Finding]:
    """A game out of balance, and the same with each remedy."""
    without = match(stack("adversarial", weight=UNSTABLE))
    for remedy, knobs in REMEDIES.items():
        remedied = match(stack("adversarial", **{"weight": UNSTABLE} | knobs))
        for number, what in NUMBERS.items():
            yield Finding(
                "adversarial training is unstable; terms need balance",
                f"{what} at weight {UNSTABLE:g}", remedy, without[number], remedied[number],
            )  # fmt: skip


def mismatched() -> Finding:
    """With the weight of params.yaml, and an architecture that makes the game diverge for some members."""
    stop = samples("digit_columns", "stop")
    plain = trained("adversarial", "digit_columns", "convolutional")
    steadied = trained("adversarial", "digit_columns", "convolutional", gradient_penalty=0.1)
    return Finding(
        "adversarial training is unstable; terms need balance",
        "squared MMD of a convolutional model of digit_columns", "gradient_penalty: 0.1",
        plain.diagnose(stop)["prior_mmd"], steadied.diagnose(stop)["prior_mmd"],
    )  # fmt: skip


def match(made: Trained) -> dict[str, list[float]]:
    """How well codes and prior match; a discriminator below 0.5 is as far from it as one above."""
    found = made.diagnose(samples(DATASET, "stop"))
    accuracy = found["discriminator_accuracy"]
    return found | {"discriminator_accuracy": [abs(each - 0.5) for each in accuracy]}


def sharpness() -> Iterator[Finding]:
    """High-frequency energy over that of the data: 1 is as sharp, more is noise that isn't in the data."""
    stop = samples(DATASET, "stop")
    variational, adversarial = stack("variational"), stack("adversarial")
    made = {
        "reconstructions": [each.reconstruct(stop) for each in (variational, adversarial)],
        "samples": [each.sample(DRAWS, 0)[0] for each in (variational, adversarial)],
    }
    for what, pair in made.items():
        without, remedied = ([sharpness_kept(each, stop.values, IMAGE) for each in one] for one in pair)
        yield Finding(
            "variational models blur", f"spectrum ratio of {what}", "adversarial",
            without, remedied, better="higher",
        )  # fmt: skip
