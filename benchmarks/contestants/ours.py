"""This project: `fit`, as a stage calls it, on a stack of `members`, without looks before the last step.

Timed is the whole call: the copy to the device and the one look at the held-out rows are in it. The variance
that we learn beside the network is held at 1, so that the objective is the squared error of all others.
"""

import time

import numpy as np
import torch

from benchmarks.contestants.data import Rows, draw
from benchmarks.contestants.protocol import Job, Train, finish, serve
from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, Budget, Kind, Training, load_params, parse
from latentops.data.prepared import Description, Samples
from latentops.data.transforms import Transform
from latentops.training.loop import fit
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe

ARCHITECTURES: dict[str, ArchitectureName] = {
    "mlp": "mlp",
    "convolutional": "convolutional",
    "gru": "recurrent",
    "lstm": "recurrent",
    "transformer": "transformer",
}
BUCKETS = 8
KNOBS = {"contractive": {"norm": "estimate"}}
"""What differs from params.yaml in a variant's own settings."""


def prepare(job: Job) -> Train:
    """Make `job` ready."""
    torch.set_num_threads(job.threads)
    rows, held_out = draw(job)
    recipe = recipe_of(job)
    settings = load_params().training.model_dump() | {
        "batch_size": job.batch,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "threads": job.threads,
        "device": job.device,
        "schedule": "constant",
        "precision": job.precision,
        "buckets": BUCKETS,
        "look_rows": 32,
    }
    stop = samples(held_out)
    evaluation = Batch(
        torch.from_numpy(stop.values).to(job.device).expand(job.members, *stop.values.shape),
        None
        if stop.lengths is None
        else torch.from_numpy(stop.lengths).to(job.device).expand(job.members, -1),
    )

    def train(steps: int, seed: int) -> tuple[float, float]:
        members = [Member(1000 * seed + index, VIEW_ALL) for index in range(job.members)]
        model = recipe.build(members)
        model.likelihood.requires_grad_(False)
        training = parse(Training, settings | {"check_every": steps}, "training")
        budget = Budget(steps=steps, learning_rate=job.learning_rate)
        began = time.perf_counter()
        fit(
            model,
            members,
            samples(rows),
            stop,
            recipe.description.classes,
            training,
            budget,
            torch.device(job.device),
            lambda look: None,
        )
        finish(job)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            reconstructions = model.reconstruct(evaluation).cpu().numpy()
        return seconds, float(np.mean([held_out.mean_squared_error(one) for one in reconstructions]))

    return train


def recipe_of(job: Job) -> Recipe:
    """The job in our terms; the variant's own settings are those of params.yaml, the variance is 1."""
    recurrent = {"hidden": job.hidden[0]} | ({"cell": "lstm"} if job.kind == "lstm" else {})
    transformer = {"width": job.hidden[0], "heads": 2, "layers": 1, "queries": 64}
    sizes = {"mlp": {"hidden": job.hidden}, "convolutional": {"channels": job.hidden}, "recurrent": recurrent}
    if job.kind == "transformer":
        sizes["transformer"] = transformer
    architectures = parse(Architectures, sizes, "architectures")
    kind: Kind = "sequence" if job.lengths else "image" if len(job.shape) == 3 else "tabular"
    features = tuple(f"x{column}" for column in range(job.shape[0])) if kind == "tabular" else ()
    return Recipe.resolve(
        job.variant,
        load_params().variant(job.variant) | KNOBS.get(job.variant, {}),
        ARCHITECTURES[job.kind],
        architectures,
        job.latent,
        Description(kind, job.shape, features, ("all",), Transform.from_range(0, 1), spread=1.0),
    )


def samples(rows: Rows) -> Samples:
    """Rows without labels."""
    count = len(rows.values)
    return Samples(
        rows.values, rows.lengths, np.zeros(count, dtype=np.int64), np.zeros((count, 32), dtype=np.uint8)
    )


if __name__ == "__main__":
    serve(prepare)
