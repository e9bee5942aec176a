"""Does too much contraction collapse a code, and what does the Jacobian penalty cost?"""

import time
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from statistics import median
from typing import cast

import numpy as np
import torch

from benchmarks.figures import Better
from benchmarks.remedies.study import SEEDS, Finding, samples, trained
from latentops.architectures.stack import Batch
from latentops.config import load_params
from latentops.evaluation.probe import linear_probe
from latentops.evaluation.structure import effective_rank
from latentops.training.loop import fit
from latentops.training.members import VIEW_ALL, Member, Resident
from latentops.training.trained import Recipe, Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.contractive import Variant

WEIGHTS = (30.0, 1000.0)
"""Nats a unit of the squared norm, of which params.yaml has 0.1: the code shrinks; it collapses."""

SCALED = (10.0, 100.0)
"""Nats a unit at which the two scales are compared; a unit of the one isn't one of the other."""

BLOCK = {"mlp": 40, "convolutional": 10, "recurrent": 5, "transformer": 5}
"""Steps that are timed together: more where one takes less than a millisecond."""

BLOCKS, ROUNDS = 3, 3
"""Blocks of a training, of which the first, in which a step is recorded, isn't timed; and trainings."""

TABLE = "breast_cancer"


@cache
def model(
    dataset: str = "digits",
    weight: float = 0.1,
    warmup: float = 0.0,
    norm: str = "exact",
    scale: str = "as_is",
    draws: int = 1,
) -> Trained:
    """A contractive stack."""
    return trained("contractive", dataset, weight=weight, warmup=warmup, norm=norm, scale=scale, draws=draws)


def diagnosis(of: Trained, dataset: str = "digits") -> dict[str, list[float]]:
    """Health numbers on the stop rows, and the codes' effective rank."""
    stop = samples(dataset, "stop")
    codes = of.encode(stop)
    off = ((made - stop.values) ** 2 for made in of.reconstruct(stop))
    return {
        **of.diagnose(stop),
        "effective_rank": [effective_rank(each) for each in codes],
        "error": [float(each.mean()) for each in off],
        "probe_accuracy": probe(of, dataset),
    }


def probe(of: Trained, dataset: str) -> list[float]:
    """Accuracy on the stop rows, where the probe's strength is chosen too."""
    train, held = samples(dataset, "train"), samples(dataset, "stop")
    codes, stop = (torch.from_numpy(of.encode(rows)) for rows in (train, held))
    labels, truth = (torch.from_numpy(np.array(rows.labels)) for rows in (train, held))
    strengths = load_params().evaluation.probe.strengths
    return linear_probe(codes, labels, stop, truth, stop, truth, strengths).stop_accuracy


def findings() -> Iterator[Finding]:
    """Collapse without and with a warm-up; the cost of each way to the norm and the error of the estimate."""
    warning = "too much contraction collapses variation"
    for weight in WEIGHTS:
        strong, warm = (diagnosis(model(weight=weight, warmup=share)) for share in (0.0, 0.8))
        for name, words in (
            ("code_variance", "code variance"),
            ("effective_rank", "effective rank of the code"),
            ("jacobian_rank", "effective rank of the Jacobian"),
        ):
            number = f"{words} at weight {weight:g} (digits)"
            yield Finding(warning, number, "warmup: 0.8", strong[name], warm[name], "higher")
    numbers: tuple[tuple[str, str, Better], ...] = (
        ("code_variance", "code variance", "higher"),
        ("error", "squared error of the reconstruction", "lower"),
        ("contraction", "squared norm over the code's variance", "lower"),
        ("effective_rank", "effective rank of the code", "higher"),
        ("probe_accuracy", "probe accuracy", "higher"),
    )
    for weight in SCALED:
        as_is, free = (diagnosis(model(weight=weight, scale=scale)) for scale in ("as_is", "free"))
        for name, words, better in numbers:
            number = f"{words} at weight {weight:g} (digits)"
            shrinks = "a contractive code shrinks instead of contracting"
            yield Finding(shrinks, number, "scale: free", as_is[name], free[name], better)
    warning = "the Jacobian penalty costs compute"
    time_of = "CPU time of a step over a plain one's"
    closed = costs("mlp", hidden=[128])
    number = f"{time_of} (mlp of one hidden layer, digits)"
    yield Finding(warning, number, "norm: exact, in closed form", closed["estimate"], closed["exact"])
    for architecture, way in (
        ("mlp", "chained"),
        ("convolutional", "row by row"),
        ("recurrent", "row by row"),
        ("transformer", "row by row"),
    ):
        found = costs(architecture)
        number = f"{time_of}, the exact norm {way} ({architecture}, digits)"
        yield Finding(warning, number, "norm: estimate", found["exact"], found["estimate"])
    number = "error of the norm's batch mean, taken on 16 rows against all"
    for dataset in ("digits", TABLE):
        for draws, remedy in ((1, "norm: estimate"), (16, "norm: estimate, draws: 16")):
            part, estimate = errors(dataset, draws)
            yield Finding(warning, f"{number} ({dataset})", remedy, part, estimate)
    for dataset in ("digits", TABLE):
        reached = {norm: diagnosis(model(dataset, norm=norm), dataset) for norm in ("exact", "estimate")}
        number = f"Jacobian norm that training reaches ({dataset})"
        exact, estimate = (reached[norm]["jacobian_norm"] for norm in ("exact", "estimate"))
        yield Finding(warning, number, "norm: estimate", exact, estimate)


def costs(architecture: str, **sizes: object) -> dict[str, list[float]]:
    """CPU time of a training step over that of a plain one at the same sizes, by the norm, one a round.

    All are trained in turns, so that what else the machine does meets all alike.
    """
    seen = partial(trained, architecture=architecture, steps=1, sizes={architecture: sizes}, seeds=SEEDS[:1])
    plain = seen("undercomplete").recipe
    ours = {norm: seen("contractive", norm=norm).recipe for norm in ("exact", "estimate")}
    found: dict[str, list[float]] = {norm: [] for norm in ours}
    for _ in range(ROUNDS):
        base = step_time(plain)
        for norm, recipe in ours.items():
            found[norm].append(step_time(recipe) / base)
    return found


def step_time(recipe: Recipe) -> float:
    """CPU seconds of a step of one member, in the median over blocks of steps."""
    block = BLOCK[recipe.architecture]
    changes = {"check_every": block, "look_rows": 32, "patience": BLOCKS}
    training = load_params().training.model_copy(update=changes)
    members = [Member(SEEDS[0], VIEW_ALL)]
    budget = training.budget[recipe.architecture].model_copy(update={"steps": block * BLOCKS})
    marks: list[float] = []
    fit(
        recipe.build(members), members, samples("digits", "train"), samples("digits", "stop"),
        recipe.description.classes, training, budget, torch.device("cpu"),
        lambda look: marks.append(time.process_time()),
    )  # fmt: skip
    return median(after - before for before, after in pairwise(marks)) / block


def errors(dataset: str, draws: int) -> tuple[list[float], list[float]]:
    """Relative error of the mean squared norm of a batch of 64: of its first 16 rows, and of the estimate.

    Root mean square over batches of the training rows.
    """
    fitted = cast(Variant, model(dataset, draws=draws).model)
    parts, estimates = [], []
    noise = _noise("errors")
    for start in range(0, len(samples(dataset, "train")) - 63, 64):
        batch = _batch(dataset, 64, start)
        with torch.no_grad():
            norms = fitted.squared_jacobian_norm(batch)
            estimate = fitted.codes_and_estimate(batch, noise)[1].mean(-1)
        whole = norms.mean(-1)
        parts.append(norms[:, :16].mean(-1) / whole - 1)
        estimates.append(estimate / whole - 1)
    part, estimated = (torch.stack(each).square().mean(0).sqrt() for each in (parts, estimates))
    return part.tolist(), estimated.tolist()


def _batch(dataset: str, rows: int, start: int = 0) -> Batch:
    resident = Resident.put(samples(dataset, "train"), torch.device("cpu"))
    return resident.shared(len(SEEDS), slice(start, start + rows))


def _noise(purpose: str) -> Noise:
    return Noise([Member(seed, VIEW_ALL).generator(purpose) for seed in SEEDS])
