"""How large should the code be? One variant trained at several latent sizes, and the knee of its error.

Everything is measured on the stop rows: a sweep is for choosing, and test rows are read by evaluation alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentops import atomic
from latentops.config import Budget, Evaluation, Params, Training, load_params
from latentops.data import prepared
from latentops.data.prepared import Samples, SplitName
from latentops.errors import LatentOpsError
from latentops.evaluation.judge import Coder, Field, judge
from latentops.progress import bar
from latentops.reporting import sizes as figure
from latentops.reporting.results import title
from latentops.training.device import select_device
from latentops.training.loop import Look, fit
from latentops.training.members import VIEW_ALL, Member, stack_members
from latentops.training.trained import Recipe, Trained

FOLDER = Path("var/sweep")
METRICS = ("reconstruction_error", "probe_accuracy", "r2", "auroc")
LEAST = 0.05
"""Distance from the chord, in the unit square, below which a curve has no knee worth the name."""


@dataclass(frozen=True)
class Knee:
    """Where more size stops paying: the size, and how far the curve lies off its chord there."""

    size: int
    distance: float


def knee(sizes: Sequence[int], errors: Sequence[float]) -> Knee | None:
    """The size at which the error's curve is furthest below the chord between its ends.

    Taken on log2 of the rising `sizes` and the plain `errors`, both scaled to the unit square; this is the
    difference curve of Satopää et al. 2011, "Finding a 'Kneedle' in a Haystack", without its smoothing. The
    error's logarithm would not do: it drops without end where the code reaches the size of the input.
    None where there are fewer than three sizes, the error doesn't fall, or it falls evenly.
    """
    across = np.log2(np.asarray(sizes, dtype=np.float64))
    heights = np.asarray(errors, dtype=np.float64)
    if len(across) < 3 or heights[-1] >= heights[0]:
        return None
    gone = (across - across[0]) / (across[-1] - across[0])
    fallen = (heights[0] - heights) / (heights[0] - heights[-1])
    distance = (fallen - gone) / math.sqrt(2)
    at = int(distance.argmax())
    return Knee(sizes[at], float(distance[at])) if distance[at] >= LEAST else None


@dataclass(frozen=True)
class Row:
    """What one size gave on the stop rows: of each metric, one value a seed."""

    size: int
    parameters: int
    failed: int
    metrics: dict[str, list[float]]

    def mean(self, metric: str) -> float:
        """The mean over seeds."""
        return float(np.mean(self.metrics[metric]))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `failed` counts the members whose training ceased to be a number."""
        figures = {name: {"mean": self.mean(name), "values": values} for name, values in self.metrics.items()}
        return {"size": self.size, "parameters": self.parameters, "failed": self.failed, **figures}


@dataclass(frozen=True)
class Sweep:
    """All sizes, the smallest first, with the knee and where the files are."""

    rows: list[Row]
    knee: Knee | None
    data: Path
    page: Path

    @property
    def measured(self) -> list[str]:
        """The metrics that every size has."""
        return [name for name in METRICS if all(name in row.metrics for row in self.rows)]

    def table(self) -> list[str]:
        """The means as lines of text, a size each."""
        names = self.measured
        lines = ["".join([f"{'size':>6}", *(f"{title(name):>22}" for name in names)])]
        for row in self.rows:
            lines.append("".join([f"{row.size:>6}", *(f"{row.mean(name):>22.4f}" for name in names)]))
            if row.failed:
                lines[-1] += f"   {row.failed} members ceased to be numbers"
        return lines

    @property
    def verdict(self) -> str:
        """The knee as a sentence."""
        if self.knee is None:
            return "no knee: the reconstruction error falls evenly over these sizes, or not at all"
        return f"knee at {self.knee.size}: beyond it, doubling the code lowers the reconstruction error less"


def run(dataset_name: str, variant: str, sizes: Sequence[int] | None = None) -> Sweep:
    """Train `variant` at each of `sizes` and write `var/sweep/<dataset>-<variant>.json` and `.html`.

    `sizes` are powers of two up to the number of input values, unless given. Raises `LatentOpsError` for a
    variant whose size isn't the dataset's to set, `DataError` where the data isn't prepared.
    """
    params = load_params()
    dataset, training = params.dataset(dataset_name), params.training
    params.variant(variant)
    source = Path("data/prepared", dataset_name)
    description = prepared.describe(source)
    values = math.prod(description.shape)
    wanted = sorted(set(sizes or powers_of_two(values)))
    recipes = [recipe_of(params, dataset_name, variant, size) for size in wanted]
    torch.set_num_threads(training.threads)
    members = stack_members(training.seeds, dataset.normal)
    train, stop = prepared.load(source, "train"), prepared.load(source, "stop")
    budget = training.budget[recipes[0].architecture]
    rows: list[Row] = []
    with bar(f"sweep {dataset_name} {variant}", budget.steps * len(recipes)) as progress:
        for recipe in recipes:
            done = budget.steps * len(rows)

            def on_step(step: int, done: int = done) -> None:
                progress(done + step)

            rows.append(
                measure(recipe, members, train, stop, dataset.normal, training, params.evaluation, on_step)
            )
            on_step(budget.steps)
    found = knee([row.size for row in rows], [row.mean("reconstruction_error") for row in rows])
    stem = FOLDER / f"{dataset_name}-{variant}"
    sweep = Sweep(rows, found, stem.with_suffix(".json"), stem.with_suffix(".html"))
    atomic.write_json(
        sweep.data,
        {
            "dataset": dataset_name,
            "variant": variant,
            "architecture": recipes[0].architecture,
            "latent_dim": dataset.latent_dim,
            "seeds": list(training.seeds),
            "split": "stop",
            "values": values,
            "knee": None if found is None else {"size": found.size, "distance": found.distance},
            "rows": [row.to_json() for row in rows],
        },
    )
    figure.write(
        sweep.page,
        dataset_name,
        variant,
        {name: {row.size: row.metrics[name] for row in rows} for name in sweep.measured},
        found.size if found else None,
        sweep.verdict,
        dataset.latent_dim,
    )
    return sweep


def measure(
    recipe: Recipe,
    members: Sequence[Member],
    train: Samples,
    stop: Samples,
    normal: Sequence[str],
    training: Training,
    evaluation: Evaluation,
    on_step: Callable[[int], None],
) -> Row:
    """Train one stack by `recipe` and judge it on the stop rows, which stand in for the test rows.

    No threshold is set, so the calibration rows are not read either. AUROC is left out where no class is
    `normal`, or where the stop rows don't hold both kinds.
    """
    model = recipe.build(members)
    budget: Budget = training.budget[recipe.architecture]
    classes = recipe.description.classes

    def on_look(look: Look) -> None:
        on_step(look.step)

    outcome = fit(
        model, members, train, stop, classes, training, budget, select_device(training.device), on_look
    )
    trained = Trained(model, members, recipe)

    samples: dict[SplitName, Samples] = {"train": train, "stop": stop, "calibration": train, "test": stop}
    field = Field(samples, classes, normal, evaluation)

    @lru_cache
    def stack(view: str) -> Trained:
        return trained.select(view=view)

    coder = Coder(
        lambda view, split: stack(view).encode(field.given(view, split)),
        lambda view, split: stack(view).residuals(field.given(view, split)),
    )
    seeds = [member.seed for member in members if member.view == VIEW_ALL]
    verdict = judge(field, recipe.variant, "variant", recipe.latent_dim, seeds, coder)
    measured = {name: verdict.metrics[name] for name in METRICS if name in verdict.metrics}
    return Row(
        recipe.latent_dim,
        trained.parameters,
        sum(failure is not None for failure in outcome.failures),
        {name: values for name, values in measured.items() if np.isfinite(values).all()},
    )


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … up to `most`."""
    return [2**power for power in range(most.bit_length())]


def parse_sizes(text: str) -> list[int]:
    """`1,2,4` as numbers; `LatentOpsError` for anything else."""
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise LatentOpsError(f"--sizes {text}: give whole numbers from 1 on, such as --sizes 1,2,4,8")
    return sizes


def recipe_of(params: Params, dataset_name: str, variant: str, size: int) -> Recipe:
    """Of `variant` with a code of `size`; `LatentOpsError` for one whose size isn't the dataset's to set."""
    dataset = params.dataset(dataset_name)
    recipe = Recipe.resolve(
        variant,
        params.variant(variant),
        dataset.architecture,
        dataset.architectures,
        size,
        prepared.describe(Path("data/prepared", dataset_name)),
        dataset.likelihood,
    )
    if recipe.latent_dim != size:
        raise LatentOpsError(
            f"{variant}: variants.{variant} in params.yaml sets the size of its code ({recipe.latent_dim} on "
            f"{dataset_name}), so there is nothing to sweep; take another variant, such as undercomplete"
        )
    return recipe
