"""Judge the floors of one dataset: raw input, PCA, random projection, isolation forest, kNN.

The raw input of tokens is how many there are of each.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.config import load_params
from latentops.data import prepared
from latentops.data.prepared import SplitName
from latentops.evaluation.anomaly import neighbour_distance, reference_rows
from latentops.evaluation.floors import (
    Array,
    Projection,
    flatten,
    isolation_forest_scores,
    pca,
    random_projection,
)
from latentops.evaluation.judge import (
    SCORED,
    Coder,
    Field,
    Verdict,
    add_scores,
    average_views,
    judge,
    judge_probe,
)
from latentops.evaluation.timeline import Timeline

WIDEST = 2048
"""Numbers of the random features that an overcomplete code is held against, at most.

What a probe takes grows with their number, and large images would have thousands.
"""


def run(dataset_name: str) -> None:
    """Write `results/floors/<dataset>/`."""
    from latentops.stages.evaluate import write

    params = load_params()
    dataset = params.dataset(dataset_name)
    source = Path("data/prepared", dataset_name)
    description = prepared.describe(source)
    torch.set_num_threads(params.training.threads)
    field = Field.read(source, dataset.normal, params.evaluation)
    rows = {split: flatten(samples, description.vocabulary) for split, samples in field.samples.items()}
    seeds = params.training.seeds
    inputs = rows["train"].shape[1]
    expansion = float(str(params.variant("overcomplete")["expansion"]))
    wide = min(WIDEST, math.ceil(expansion * math.prod(description.shape)))

    def asked(view: str, split: SplitName) -> Array:
        return rows[split][field.asked(view, split)]

    def projected(fits: Sequence[Callable[[Array], Projection]], *, decoded: bool) -> Coder:
        """Codes of one projection a seed, each fitted on its view's training rows."""

        @lru_cache
        def fitted(view: str) -> list[Projection]:
            return [fit(asked(view, "train")) for fit in fits]

        def codes(view: str, split: SplitName) -> Array:
            return np.stack([each.encode(asked(view, split)) for each in fitted(view)])

        def residuals(view: str, split: SplitName) -> Array:
            of = asked(view, split)
            missed = np.stack([each.residuals(of) for each in fitted(view)])
            return np.where(description.present(of), missed, np.nan) if description.columns else missed

        return Coder(codes, residuals if decoded else None)

    verdicts = [Verdict("raw", "reference", None, [0], {}, {})]
    judge_probe(field, verdicts[0], Coder(lambda _, split: rows[split][None]))
    if field.samples["train"].lengths is not None:
        verdicts.append(length_alone(field))
    if dataset.latent_dim <= min(rows["train"].shape):
        coder = projected([lambda train: pca(train, dataset.latent_dim)], decoded=True)
        verdicts.append(judge(field, f"PCA-{dataset.latent_dim}", "rival", dataset.latent_dim, [0], coder))
    for size in (dataset.latent_dim, wide):
        fits = [lambda train, size=size, seed=seed: random_projection(train, size, seed) for seed in seeds]
        name = f"random projection-{size}" if size <= inputs else f"random ReLU features-{size}"
        verdicts.append(judge(field, name, "rival", size, seeds, projected(fits, decoded=False)))
    if field.normal:
        verdicts.append(isolation_forest(field, asked, seeds, params.floors.trees))
        verdicts.append(nearest_neighbours(field, asked))
    write(
        Path("results/floors", dataset_name),
        {"dataset": dataset_name, "kind": description.kind, "classes": list(description.classes)},
        [each for each in verdicts if each.metrics],  # without labels there may be nothing to say of a code
        {"labels": field.labels("test"), **targets(field), **stamps(field)},
    )


def targets(field: Field) -> dict[str, NDArray[np.generic]]:
    """The test rows' labels where these are numbers."""
    return {"targets": field.targets("test")} if field.targeted else {}


def stamps(field: Field) -> dict[str, NDArray[np.generic]]:
    """The test's time stamps `[T]`, where its rows are windows of a series whose marks are known."""
    if field.every is None or not field.normal:
        return {}
    found = Timeline.of(field.samples["test"], field.every)
    return {
        "stamps/times": found.times,
        "stamps/series": found.series,
        "stamps/marked": found.marked.astype(np.uint8),
        "stamps/units": found.units(),
    }


def length_alone(field: Field) -> Verdict:
    """A ragged sequence's length as its whole code."""

    def codes(_: str, split: SplitName) -> Array:
        return np.asarray(field.samples[split].lengths, dtype=np.float64)[None, :, None]

    verdict = Verdict("length alone", "reference", None, [0], {}, {})
    judge_probe(field, verdict, Coder(codes))
    return verdict


def isolation_forest(
    field: Field, asked: Callable[[str, SplitName], Array], seeds: Sequence[int], trees: int
) -> Verdict:
    """An isolation forest a seed on each view's raw rows."""
    verdict = Verdict("isolation forest", "reference", None, list(seeds), {}, {})
    for view in field.normal:
        train, judged = asked(view, "train"), [asked(view, split) for split in SCORED]
        runs = [isolation_forest_scores(train, judged, trees, seed) for seed in seeds]
        scores = zip(SCORED, zip(*runs, strict=True), strict=True)
        add_scores(field, verdict, view, {split: {"auroc": np.stack(each)} for split, each in scores})
    average_views(field, verdict)
    return verdict


def nearest_neighbours(field: Field, asked: Callable[[str, SplitName], Array]) -> Verdict:
    """Distance to the nearest raw rows of each view."""
    verdict = Verdict("kNN", "reference", None, [0], {}, {})
    settings = field.settings.anomaly
    for view in field.normal:
        train = reference_rows(asked(view, "train"), settings.reference)
        distances = [neighbour_distance(train, asked(view, s), settings.neighbours) for s in SCORED]
        scores = zip(SCORED, distances, strict=True)
        add_scores(field, verdict, view, {split: {"auroc": each[None]} for split, each in scores})
    average_views(field, verdict)
    return verdict
