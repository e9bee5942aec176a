"""What a study is made of: stacks that differ in one knob, on a prepared data set, and a number of each.

Numbers are taken on the stop rows; test rows are the judge's alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmarks.figures import ROOT, Better
from latentops.config import Architectures, LikelihoodSettings, load_params
from latentops.data import prepared
from latentops.data.prepared import Samples, SplitName
from latentops.training.loop import Look, fit
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe, Trained

SEEDS = (100, 101, 102, 103, 104)
"""Not those of params.yaml."""


@dataclass(frozen=True)
class Finding:
    """A `warning` of the field: its `number`, one a seed, `without` the `remedy` and with it (`remedied`).

    `better` says which way the remedy should move it.
    """

    warning: str
    number: str
    remedy: str
    without: Sequence[float]
    remedied: Sequence[float]
    better: Better = "lower"


def trained(
    variant: str,
    dataset: str = "digits",
    architecture: str | None = None,
    latent_dim: int | None = None,
    steps: int | None = None,
    sizes: dict[str, dict[str, object]] | None = None,
    training: dict[str, object] | None = None,
    likelihood: object = None,
    seeds: Sequence[int] = SEEDS,
    **knobs: object,
) -> Trained:
    """A stack of `variant` with `knobs` changed, one member a seed on all rows; the rest is params.yaml's.

    `sizes` are changes of `architectures`, `training` those of the section of that name;
    `likelihood` is as under `datasets:`.
    """
    params = load_params()
    entry = params.dataset(dataset)
    own = {"architecture": architecture} if architecture else {}
    architectures = Architectures.model_validate(_changed(entry.architectures.model_dump(), sizes or {}))
    recipe = Recipe.resolve(
        variant,
        params.variant(variant) | own | knobs,
        entry.architecture,
        architectures,
        latent_dim or entry.latent_dim,
        prepared.describe(_source(dataset)),
        LikelihoodSettings.model_validate(likelihood) if likelihood else entry.likelihood,
    )
    settings = params.training.model_validate(params.training.model_dump() | (training or {}))
    torch.set_num_threads(settings.threads)
    members = [Member(seed, VIEW_ALL) for seed in seeds]
    model = recipe.build(members)
    budget = settings.budget[recipe.architecture]
    if steps:
        budget = budget.model_copy(update={"steps": steps})

    def ignore(look: Look) -> None:
        del look

    fit(
        model, members, samples(dataset, "train"), samples(dataset, "stop"), recipe.description.classes,
        settings, budget, torch.device("cpu"), ignore,
    )  # fmt: skip
    return Trained(model, members, recipe)


@cache
def samples(dataset: str, split: SplitName) -> Samples:
    """The rows of a split, but for the test rows, which are the judge's."""
    if split == "test":
        raise ValueError("a study doesn't read test rows")
    return prepared.load(_source(dataset), split)


def _source(dataset: str) -> Path:
    return ROOT / "data/prepared" / dataset


def _changed(whole: dict[str, object], changes: dict[str, dict[str, object]]) -> dict[str, object]:
    return whole | {name: {**whole[name], **part} for name, part in changes.items()}  # type: ignore[dict-item]
