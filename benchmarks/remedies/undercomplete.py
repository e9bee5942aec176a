"""The bottleneck: is the best reconstruction the best code, and what do too narrow and too wide ones do?"""

from collections.abc import Iterator, Mapping
from statistics import fmean

import numpy as np
import torch

from benchmarks.figures import Better
from benchmarks.remedies.probing import squared_error
from benchmarks.remedies.study import SEEDS, Finding, samples, trained
from latentops.config import load_params
from latentops.data.prepared import Samples
from latentops.errors import LatentOpsError
from latentops.evaluation.probe import linear_probe
from latentops.evaluation.statistics import spearman
from latentops.evaluation.structure import copy_score
from latentops.sweep import Row, knee, measure, powers_of_two, recipe_of
from latentops.training.members import stack_members
from latentops.training.trained import Trained

VARIANTS = (
    "undercomplete", "sparse", "denoising", "contractive", "variational", "convolutional", "sequence",
    "adversarial",
)  # fmt: skip
"""Those with a code of the dataset's size; overcomplete's is another."""

RANKED = ("digits", "breast_cancer", "digit_columns")
SWEPT = ("digits", "breast_cancer")

METRICS: Mapping[str, tuple[str, Better]] = {
    "reconstruction_error": ("reconstruction error", "lower"),
    "probe_accuracy": ("probe accuracy", "higher"),
    "auroc": ("AUROC", "higher"),
}


def findings() -> Iterator[Finding]:
    """Ranking variants by the error and by the probe; both ends of the curve over the code's size."""
    for dataset in RANKED:
        stacks = {variant: trained(variant, dataset) for variant in VARIANTS}
        yield from ranking(dataset, stacks)
    for dataset in SWEPT:
        yield from bottleneck(dataset, sweep(dataset))


def ranking(dataset: str, stacks: Mapping[str, Trained]) -> Iterator[Finding]:
    """What the error and the probe of one half of the stop rows say of the probe of the other half.

    One variant is chosen for all seeds, by the mean over them.
    """
    warning = "a good reconstruction is not a good code"
    train, stop = samples(dataset, "train"), samples(dataset, "stop")
    seen, unseen = stop.select(slice(0, None, 2)), stop.select(slice(1, None, 2))
    nearness = {name: [-each for each in squared_error(stack, seen)] for name, stack in stacks.items()}
    probes = {name: probed(stack, train, seen, unseen) for name, stack in stacks.items()}
    reading = {name: found[0] for name, found in probes.items()}
    outcome = {name: found[1] for name, found in probes.items()}
    yield Finding(
        warning, f"rank correlation of −error with probe accuracy over {len(stacks)} variants ({dataset})",
        "ranking by the probe on other rows",
        agreement(nearness, outcome), agreement(reading, outcome), "higher",
    )  # fmt: skip
    by_error, by_probe = (max(by, key=lambda name: fmean(by[name])) for by in (nearness, reading))
    yield Finding(
        warning, f"probe accuracy of the variant with the lowest error ({dataset}: {by_error})",
        f"the one with the best probe on other rows ({by_probe})",
        outcome[by_error], outcome[by_probe], "higher",
    )  # fmt: skip


def probed(stack: Trained, train: Samples, seen: Samples, unseen: Samples) -> tuple[list[float], list[float]]:
    """Accuracy of a linear probe on the rows that choose its strength, and on those that don't."""
    rows = (train, seen, unseen)
    (x, x_seen, x_unseen) = (torch.from_numpy(stack.encode(each)) for each in rows)
    (y, y_seen, y_unseen) = (torch.from_numpy(np.array(each.labels)) for each in rows)
    strengths = load_params().evaluation.probe.strengths
    found = linear_probe(x, y, x_seen, y_seen, x_unseen, y_unseen, strengths)
    return found.stop_accuracy, found.correct.double().mean(1).tolist()


def agreement(ranked: Mapping[str, list[float]], outcome: Mapping[str, list[float]]) -> list[float]:
    """Spearman's rank correlation over the variants, seed by seed; 0 where one side ranks nothing."""
    seeds = zip(zip(*ranked.values(), strict=True), zip(*outcome.values(), strict=True), strict=True)
    return [spearman(by, found) or 0.0 for by, found in seeds]


def sweep(dataset: str) -> list[Row]:
    """Undercomplete at every size that `latentops sweep` takes unless told otherwise, the smallest first."""
    params = load_params()
    entry = params.dataset(dataset)
    train, stop = samples(dataset, "train"), samples(dataset, "stop")
    members = stack_members(SEEDS, entry.normal)

    def ignore(step: int) -> None:
        del step

    return [
        measure(
            recipe_of(params, dataset, "undercomplete", size), members, train, stop, entry.normal,
            params.training, params.evaluation, ignore,
        )
        for size in powers_of_two(int(np.prod(train.values.shape[1:])))
    ]  # fmt: skip


def bottleneck(dataset: str, rows: list[Row]) -> Iterator[Finding]:
    """The narrowest and the widest code against that at the knee of the error."""
    found = knee([row.size for row in rows], [row.mean("reconstruction_error") for row in rows])
    if found is None:
        raise LatentOpsError(f"undercomplete on {dataset}: the error over the code's size has no knee")
    best = next(row for row in rows if row.size == found.size)
    narrow, wide = (f"size {best.size}, the knee, not {row.size}" for row in (rows[0], rows[-1]))
    copies = "a bottleneck too wide copies"
    yield Finding(
        copies, f"copy score ({dataset})", wide,
        copied_by(dataset, rows[-1].size), copied_by(dataset, best.size),
    )  # fmt: skip
    for warning, remedy, row in (
        ("a bottleneck too narrow underfits", narrow, rows[0]),
        (copies, wide, rows[-1]),
    ):
        for metric, (number, better) in METRICS.items():
            yield Finding(
                warning, f"{number} ({dataset})", remedy, row.metrics[metric], best.metrics[metric], better
            )


def copied_by(dataset: str, size: int) -> list[float]:
    """Copy score of a code of `size`."""
    stack = trained("undercomplete", dataset, latent_dim=size)
    return copy_score(stack, samples(dataset, "stop"))["copy_score"]
