"""Judge one trained variant, and its own encoder at its initial weights, on one dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from latentops import atomic
from latentops.config import load_params
from latentops.evaluation.coder import coder
from latentops.evaluation.diagnosis import diagnosis
from latentops.evaluation.generation import generation
from latentops.evaluation.judge import Coder, Field, Verdict, judge
from latentops.evaluation.profiles import profiles, to_json
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

SCRATCH = Path("var/scratch")
"""Where codes and residuals lie while they are judged: 60,000 images of five members are a gigabyte."""


def run(dataset_name: str, variant: str) -> None:
    """Write `results/evaluate/<dataset>/<variant>/`."""
    params = load_params()
    torch.set_num_threads(params.training.threads)
    field = Field.read(
        Path("data/prepared", dataset_name), params.dataset(dataset_name).normal, params.evaluation
    )
    trained = Trained.load(Path("models", dataset_name, variant))

    SCRATCH.mkdir(parents=True, exist_ok=True)
    coded = coder(trained, field, SCRATCH)
    initial = Coder(coder(trained.untrained(), field, SCRATCH).codes)
    seeds = [member.seed for member in trained.members if member.view == VIEW_ALL]
    verdicts = [
        judge(field, variant, "variant", trained.latent_dim, seeds, coded),
        judge(field, f"untrained {variant}", "rival", trained.latent_dim, seeds, initial),
    ]
    members = trained.select(view=VIEW_ALL)
    test_codes = coded.codes(VIEW_ALL, "test")
    health = diagnosis(members, field.samples["test"], test_codes)
    health |= generation(members, field)
    along = profiles(members, field, test_codes, verdicts[0].probe)
    write(
        Path("results/evaluate", dataset_name, variant),
        {
            "dataset": dataset_name,
            "corruption": trained.model.corruption,
            "diagnosis": health,
            "profiles": to_json(along),
            "alive": alive(verdicts[0], test_codes),
        },
        [each for each in verdicts if each.metrics],  # without labels an untrained encoder has none
        {},
    )


def alive(verdict: Verdict, codes: NDArray[np.floating]) -> dict[str, bool]:
    """Whether the scores differ, the codes `[seeds, n, latent]` vary, and all of it is numbers."""
    scores = [values for key, values in verdict.samples.items() if key.startswith("score/")]
    return {
        "scores_differ": all(len(np.unique(seed)) > 1 for values in scores for seed in values),
        "code_varies": bool((codes.var(axis=1).max(axis=1) > 1e-10).all()),
        "finite": bool(np.isfinite(codes).all() and all(np.isfinite(values).all() for values in scores)),
    }


def write(
    folder: Path, heading: dict[str, object], verdicts: list[Verdict], shared: dict[str, NDArray[Any]]
) -> None:
    """Write `metrics.json` and `samples.safetensors` of some rows; `shared` tensors belong to no row."""
    tensors = shared | {key: value for verdict in verdicts for key, value in verdict.tensors().items()}
    with atomic.replacing(folder / "samples.safetensors") as aside:
        save_file(tensors, aside)
    atomic.write_json(
        folder / "metrics.json", {**heading, "rows": [verdict.to_json() for verdict in verdicts]}
    )
