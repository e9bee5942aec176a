"""Train every member of one variant on one dataset, as one stack."""

import inspect
import math
from dataclasses import asdict
from pathlib import Path

import torch

from latentops import atomic
from latentops.config import load_params
from latentops.data import prepared
from latentops.progress import bar
from latentops.training.checkpoint import Checkpoint, code_digest, data_digest, fingerprint
from latentops.training.device import convolved, select_device
from latentops.training.loop import Look, fit
from latentops.training.members import VIEW_ALL, stack_members
from latentops.training.processes import fit_in_turns, fit_shared
from latentops.training.trained import Recipe, Trained
from latentops.training.ways import Way, way

CHECKPOINTS = Path("var/checkpoints")


def run(dataset_name: str, variant: str) -> None:
    """Write `models/<dataset>/<variant>/` and `results/train/<dataset>/<variant>/`.

    With `training.checkpoint_every` an interrupted run goes on from `var/checkpoints/<dataset>/`.
    """
    params = load_params()
    dataset, training = params.dataset(dataset_name), params.training
    torch.set_num_threads(training.threads)
    source = Path("data/prepared", dataset_name)
    recipe = Recipe.resolve(
        variant,
        params.variant(variant),
        dataset.architecture,
        dataset.architectures,
        dataset.latent_dim,
        prepared.describe(source),
        dataset.likelihood,
    )
    members = stack_members(training.seeds, dataset.normal)
    model = recipe.build(members)
    budget = training.budget[recipe.architecture]
    device = select_device(training.device)
    train, stop = prepared.load(source, "train"), prepared.load(source, "stop")
    checkpoint = None
    if training.checkpoint_every:
        identity = fingerprint(
            recipe=recipe.to_json(),
            members=[asdict(member) for member in members],
            training=training.model_dump(mode="json", exclude={"checkpoint_every"}),
            data=[data_digest(train), data_digest(stop)],
            code=code_digest(Path(inspect.getfile(type(model)))),
            machine=[torch.__version__, device.type, torch.backends.cpu.get_cpu_capability()],
        )
        path = CHECKPOINTS / dataset_name / f"{variant}.safetensors"
        checkpoint = Checkpoint(path, identity, training.checkpoint_every)
    chosen: Way = "processes" if training.processes > 1 else "stack"
    if device.type == "cpu" and checkpoint is None:
        chosen = way(
            recipe.architecture,
            sum(each.numel() for each in model.parameters()) // len(members),
            math.prod(recipe.description.shape),
            len(members),
            budget.steps,
            training.processes,
        )
    results = Path("results/train", dataset_name, variant)
    terms = tuple(model.coefficients())
    with (
        atomic.writing(results / "curves.csv") as curves,
        bar(f"train {dataset_name} {variant}", budget.steps) as progress,
    ):
        print("step", "seed", "objective", "stop", *terms, sep=",", file=curves)

        def on_look(look: Look) -> None:
            figures = torch.stack([look.objective, look.stop, *(look.terms[name] for name in terms)])
            for position, each in zip(look.members, figures.T.tolist(), strict=True):
                if members[position].view == VIEW_ALL:
                    print(
                        look.step, members[position].seed, *(f"{n:.6g}" for n in each), sep=",", file=curves
                    )
            progress(look.step)

        if chosen == "processes":
            outcome = fit_shared(model, recipe, members, source, training, budget, on_look)
        else:
            data = train, stop, recipe.description.classes
            if chosen == "in turns":
                outcome = fit_in_turns(model, recipe, members, *data, training, budget, device, on_look)
            else:
                outcome = fit(model, members, *data, training, budget, device, on_look, checkpoint)
    trained = Trained(model, members, recipe)
    trained.save(Path("models", dataset_name, variant))
    failures = outcome.failures
    atomic.write_json(
        results / "metrics.json",
        {
            "dataset": dataset_name,
            "variant": variant,
            "architecture": recipe.architecture,
            "latent_dim": recipe.latent_dim,
            "parameters": trained.parameters,
            "trained": chosen,
            "convolutions": convolved(model, device),
            "steps": outcome.steps,
            "members": [
                {
                    **asdict(member),
                    "best_step": outcome.best_step[index],
                    "objective": _finite(outcome.best_objective[index]),
                    "stopped_early": outcome.stopped_early[index],
                    "failed": None
                    if (failure := failures[index]) is None
                    else {**asdict(failure), "why": model.stopped_by(failure.term)},
                    "terms": {name: values[index] for name, values in outcome.terms.items()},
                }
                for index, member in enumerate(members)
            ],
            "alive": {"moved": all(outcome.moved), "finite": not any(failures)},
        },
    )
    if checkpoint is not None:
        checkpoint.remove()
    for member, failure, best in zip(members, failures, outcome.best_step, strict=True):
        if failure is not None:
            print(
                f"warning: {dataset_name} {variant}: seed {member.seed}, view {member.view}: {failure.term} "
                f"{model.stopped_by(failure.term)} at {failure.where}; its weights are those of step {best}"
            )


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
