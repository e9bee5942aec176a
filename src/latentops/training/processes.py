"""A stack trained in parts: a member after another, or shared among processes, each on a device of its own.

Processes share it by members first, then by rows of the batch.

Sharing by members changes no byte, because a member doesn't depend on its neighbours. Only where there are
more processes than members do several of them train the same ones.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import IO, Any

import torch
from safetensors.torch import load_file, save_file

from latentops.config import Budget, Training, parse
from latentops.data import prepared
from latentops.data.prepared import Samples
from latentops.errors import ConfigError, LatentOpsError
from latentops.training.device import select_device
from latentops.training.loop import Failure, Look, Outcome, fit
from latentops.training.members import WHOLE_VECTORS, Member
from latentops.training.ranks import Ranks
from latentops.training.trained import Recipe
from latentops.variants.autoencoder import Autoencoder

_JOB = "job.json"


@dataclass(frozen=True)
class Share:
    """What one process trains: the members at these positions, as one of so many ranks."""

    members: tuple[int, ...]
    ranks: Ranks


def shares(members: int, processes: int) -> list[Share]:
    """A share for each process: consecutive members, and as many ranks for each part as there are left."""
    parts = min(members, processes)
    found = []
    for part in range(parts):
        positions = tuple(range(part * members // parts, (part + 1) * members // parts))
        count = processes // parts + (part < processes % parts)
        found += [Share(positions, Ranks(rank, count)) for rank in range(count)]
    return found


def fit_shared(
    model: Autoencoder,
    recipe: Recipe,
    members: Sequence[Member],
    source: Path,
    training: Training,
    budget: Budget,
    on_look: Callable[[Look], None],
) -> Outcome:
    """`fit` in `training.processes` processes on the prepared data in `source`, leaving the best in `model`.

    Raises `ConfigError` where a batch can't be shared, `LatentOpsError` with what the first process to fail
    said; the others are ended then.
    """
    every = shares(len(members), training.processes)
    counts = sorted({share.ranks.count for share in every})
    multiple = WHOLE_VECTORS * math.lcm(*counts)
    if training.batch_size % multiple:
        raise ConfigError(
            f"params.yaml: training.batch_size: {training.batch_size} rows can't be shared among "
            f"{' and '.join(map(str, counts))} processes that train the same member; make it a multiple of "
            f"{multiple}"
        )
    with tempfile.TemporaryDirectory(prefix="latentops-train-") as name, ExitStack() as stack:
        scratch = Path(name)
        job = {
            "recipe": recipe.to_json(),
            "members": [asdict(member) for member in members],
            "source": str(source.absolute()),
            "training": training.model_dump(mode="json"),
            "budget": budget.model_dump(mode="json"),
        }
        (scratch / _JOB).write_text(json.dumps(job), encoding="utf-8")
        workers = []
        for index, share in enumerate(every):
            log = stack.enter_context((scratch / f"{index}.log").open("w", encoding="utf-8"))
            command = [sys.executable, "-m", __spec__.name, str(scratch), str(index)]
            out = subprocess.DEVNULL if share.ranks.rank else subprocess.PIPE  # what nobody reads fills up
            worker = stack.enter_context(subprocess.Popen(command, stdout=out, stderr=log, text=True))
            stack.callback(worker.kill)
            workers.append(worker)
        failed: list[int] = []
        watches = [Thread(target=_watch, args=(workers, at, failed)) for at in range(len(workers))]
        for watch in watches:
            watch.start()
        first = [index for index, share in enumerate(every) if share.ranks.rank == 0]
        streams = [(every[at].members, workers[at].stdout) for at in first]
        _relay([(positions, stream) for positions, stream in streams if stream is not None], on_look)
        for watch in watches:
            watch.join()
        if failed:
            index = failed[0]
            said = (scratch / f"{index}.log").read_text(encoding="utf-8").strip().splitlines() or ["nothing"]
            raise LatentOpsError(
                f"training process {index} ended with {workers[index].returncode}: {said[-1]}"
            )
        outcomes = []
        for index in first:
            outcome = json.loads((scratch / f"{index}.json").read_text(encoding="utf-8"))
            failures = [None if each is None else Failure(**each) for each in outcome["failures"]]
            outcomes.append(Outcome(**outcome | {"failures": failures}))
        weights = [load_file(scratch / f"{index}.safetensors") for index in first]
        model.load_state_dict({name: torch.cat([each[name] for each in weights]) for name in weights[0]})
    return _joined(outcomes)


def fit_in_turns(
    model: Autoencoder,
    recipe: Recipe,
    members: Sequence[Member],
    train: Samples,
    stop: Samples,
    classes: Sequence[str],
    training: Training,
    budget: Budget,
    device: torch.device,
    on_look: Callable[[Look], None],
) -> Outcome:
    """`fit`, one member after another in this process, leaving the best in `model`."""
    outcomes, weights = [], []
    for index, member in enumerate(members):
        alone = recipe.build([member])

        def tell(look: Look, index: int = index) -> None:
            on_look(replace(look, members=[index]))

        outcomes.append(fit(alone, [member], train, stop, classes, training, budget, device, tell))
        weights.append(alone.state_dict())
    model.load_state_dict({name: torch.cat([each[name] for each in weights]) for name in weights[0]})
    return _joined(outcomes)


def _watch(workers: Sequence[subprocess.Popen[str]], index: int, failed: list[int]) -> None:
    """Wait for a worker to end; if it fails, write that down and end the others: they may wait for it."""
    if workers[index].wait() != 0:
        failed.append(index)
        for worker in workers:
            worker.kill()


def _relay(streams: Sequence[tuple[tuple[int, ...], IO[str]]], on_look: Callable[[Look], None]) -> None:
    """Hand on the looks of all processes, those of one step as one; who has stopped says nothing more."""
    while True:
        lines = [(positions, stream.readline()) for positions, stream in streams]
        said = [(positions, line) for positions, line in lines if line.endswith("\n")]  # the last may be torn
        if not said:
            return
        found = [(positions, json.loads(line)) for positions, line in said]
        tensors: dict[str, list[float]] = defaultdict(list)
        for _, look in found:
            for name in ("objective", "stop"):
                tensors[name] += look[name]
            for name, values in look["terms"].items():
                tensors[f"terms {name}"] += values
        on_look(
            Look(
                found[0][1]["step"],
                [positions[at] for positions, look in found for at in look["members"]],
                torch.tensor(tensors["objective"]),
                torch.tensor(tensors["stop"]),
                {name: torch.tensor(tensors[f"terms {name}"]) for name in found[0][1]["terms"]},
            )
        )


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Outcomes of consecutive members as one."""

    def lists(of: Callable[[Outcome], list[Any]]) -> list[Any]:
        return [each for outcome in outcomes for each in of(outcome)]

    return Outcome(
        best_step=lists(lambda each: each.best_step),
        best_objective=lists(lambda each: each.best_objective),
        terms={name: [v for each in outcomes for v in each.terms[name]] for name in outcomes[0].terms},
        stopped_early=lists(lambda each: each.stopped_early),
        moved=lists(lambda each: each.moved),
        failures=lists(lambda each: each.failures),
        steps=max(outcome.steps for outcome in outcomes),
    )


def work(scratch: Path, index: int) -> None:
    """Train the `index`-th share of the job in `scratch`; looks go to the standard output, a line each."""
    job = json.loads((scratch / _JOB).read_text(encoding="utf-8"))
    recipe = Recipe.from_json(job["recipe"])
    training = parse(Training, job["training"], "training")
    share = shares(len(job["members"]), training.processes)[index]
    members = [Member(**job["members"][at]) for at in share.members]
    device = select_device(training.device)
    if device.type == "cuda":
        device = torch.device("cuda", index % torch.cuda.device_count())
        torch.cuda.set_device(device)
    torch.set_num_threads(training.threads)
    source = Path(job["source"])

    def tell(look: Look) -> None:
        line = {
            "step": look.step,
            "members": look.members,
            "objective": look.objective.tolist(),
            "stop": look.stop.tolist(),
            "terms": {name: value.tolist() for name, value in look.terms.items()},
        }
        print(json.dumps(line), file=sys.__stdout__, flush=True)

    model = recipe.build(members)
    with share.ranks.joined(scratch / f"meeting-{share.members[0]}", device):
        outcome = fit(
            model,
            members,
            prepared.load(source, "train"),
            prepared.load(source, "stop"),
            recipe.description.classes,
            training,
            parse(Budget, job["budget"], "budget"),
            device,
            tell,
            ranks=share.ranks,
        )
    if share.ranks.rank == 0:
        weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, scratch / f"{index}.safetensors")
        (scratch / f"{index}.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # whatever a variant prints is no look
        work(Path(sys.argv[1]), int(sys.argv[2]))
