"""Small data and small stacks for the tests of models and training."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.config import (
    ArchitectureName,
    Architectures,
    Budget,
    LikelihoodName,
    Training,
    load_params,
)
from latentops.data.prepared import Description, Samples
from latentops.data.tokenizer import UNKNOWN
from latentops.data.transforms import Transform
from latentops.training import recorded
from latentops.training.loop import Look, Outcome, fit
from latentops.training.members import Member
from latentops.training.recorded import Program
from latentops.training.trained import Recipe
from latentops.variants import NAMES, variant_class

KINDS = {"image": (1, 6, 5), "tabular": (7,), "sequence": (5, 3), "tokens": (6, 1)}
EVERY = KINDS | {"mixed": (9,)}
"""And a table of numbers and categories with missing values, which has a likelihood of its own."""
COLUMNS, OPTIONAL = (1, 3, 1, 2, 1), (2,)
"""Of the mixed table: three numbers, one of which may be missing, and categories of three and of two."""

RAGGED = ("sequence", "tokens")
VOCABULARY = 12

SECTIONS: dict[str, dict[str, object]] = {
    "undercomplete": {},
    "overcomplete": {"expansion": 2, "weight_decay": 0.01},
    "sparse": {"l1": 0.5},
    "denoising": {"level": 0.5},
    "contractive": {"weight": 0.5, "samples": 16},
    "variational": {"beta": 1.0},
    "convolutional": {},
    "sequence": {},
    "adversarial": {"weight": 1.0, "hidden": 8},
}

FIXED: dict[str, tuple[ArchitectureName, ...]] = {
    "convolutional": ("convolutional",),
    "sequence": ("recurrent", "transformer"),
}
"""The variants that are an architecture themselves, and those they may have."""

VARIANTS = NAMES
"""Those that the common suite is run for."""

CPU = Path("/proc/cpuinfo")
INTEL = not CPU.exists() or "GenuineIntel" in CPU.read_text()
"""Where a product's bytes don't depend on how many are made at once; elsewhere MKL rounds some otherwise."""


def agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a member alone is what it is in a stack: to the bit where `INTEL`, else to rounding."""
    return torch.equal(one, other) or (not INTEL and torch.allclose(one, other, rtol=1e-3, atol=1e-3))


def choose(variant: str) -> None:
    """Run the common suite for `variant` alone, with its section of params.yaml, if it has one there."""
    global VARIANTS  # noqa: PLW0603
    VARIANTS = (variant,)
    variant_class(variant)
    SECTIONS.setdefault(variant, load_params().variants.get(variant, {}))


SMALL = Architectures.model_validate(
    {
        "mlp": {"hidden": [16, 8]},
        "convolutional": {"channels": [3, 4]},
        "recurrent": {"hidden": 8},
        "transformer": {"width": 8, "heads": 2, "layers": 1},
        "embedding": 5,
    }
)


def describe(kind: str) -> Description:
    if kind == "mixed":
        table = describe("tabular")
        features = tuple(f"x{i}" for i in range(len(COLUMNS)))
        return replace(table, shape=EVERY[kind], features=features, columns=COLUMNS, optional=OPTIONAL)
    shape = KINDS[kind]
    features = tuple(f"x{i}" for i in range(shape[0])) if kind == "tabular" else ()
    made = Description(kind, shape, features, ("a", "b"), Transform.from_range(0, 1), spread=1.0)
    return replace(made, kind="sequence", vocabulary=VOCABULARY) if kind == "tokens" else made


def likelihood_of(kind: str) -> LikelihoodName:
    return {"tokens": "categorical", "mixed": "mixed"}.get(kind, "gaussian")  # type: ignore[return-value]


def draw(kind: str, rows: int, seed: int = 0) -> Samples:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, *EVERY[kind])).astype(np.float32)
    if kind == "tokens":
        values = random.integers(UNKNOWN, VOCABULARY, size=values.shape).astype(np.float32)
    if kind == "mixed":
        values = mixed_rows(values, random)
    labels = np.arange(rows) % 2
    ids = np.zeros((rows, 32), dtype=np.uint8)
    if kind not in RAGGED:
        return Samples(values, None, labels, ids)
    lengths = random.integers(1, KINDS[kind][0] + 1, size=rows)
    values[np.arange(KINDS[kind][0]) >= lengths[:, None]] = 0
    return Samples(values, lengths, labels, ids)


def mixed_rows(normal: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Normal numbers as rows of the mixed table: a fifth of the values that may be missing are."""
    values, start = normal.copy(), 0
    for at, width in enumerate(COLUMNS):
        part = slice(start, start + width)
        gone = random.random(len(values)) < 0.2
        if width > 1:
            values[:, part] = np.eye(width)[normal[:, part].argmax(1)]
        elif at in OPTIONAL:
            values[:, sum(COLUMNS) + OPTIONAL.index(at)] = ~gone
        if width > 1 or at in OPTIONAL:
            values[gone, part] = 0
        start += width
    return values


def recipe(
    variant: str, kind: str, architecture: ArchitectureName = "mlp", latent: int = 2, **section: object
) -> Recipe:
    own = {"architecture": architecture} if variant == "sequence" and architecture == "transformer" else {}
    section = SECTIONS[variant] | own | section
    return Recipe.resolve(variant, section, architecture, SMALL, latent, describe(kind), likelihood_of(kind))


def batch_of(samples: Samples, members: int = 1, dtype: torch.dtype = torch.float32) -> Batch:
    values = torch.from_numpy(samples.values).to(dtype)
    lengths = None if samples.lengths is None else torch.from_numpy(samples.lengths).expand(members, -1)
    return Batch(values.expand(members, *values.shape), lengths)


TRAINING = Training.model_validate(
    {
        "seeds": [0, 1],
        "budget": {name: {"steps": 30, "learning_rate": 0.01} for name in get_args(ArchitectureName)},
        "batch_size": 32,
        "buckets": 2,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup": 0.1,
        "check_every": 10,
        "look_rows": 64,
        "patience": 10,
        "threads": 1,
        "processes": 1,
        "precision": "float32",
        "device": "cpu",
    }
)


def train(
    made: Recipe,
    members: Sequence[Member],
    samples: Samples,
    steps: int = 30,
    rate: float = 0.01,
    on_look: Callable[[Look], None] = lambda look: None,
    device: str = "cpu",
    **overrides: object,
) -> "tuple[torch.nn.Module, Outcome]":
    model = made.build(members)
    training = TRAINING.model_copy(update=overrides)
    stop = samples.select(slice(0, max(4, len(samples) // 4)))
    budget = Budget(steps=steps, learning_rate=rate)
    classes = made.description.classes
    outcome = fit(model, members, samples, stop, classes, training, budget, torch.device(device), on_look)
    return model.cpu(), outcome


def assert_alone_as_in_a_stack_and_from_a_record(
    made: Recipe, members: Sequence[Member], samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> torch.nn.Module:
    """The last member has the same bytes in a replayed stack and alone, written out; the stack."""
    programs: list[Program] = []
    monkeypatch.setattr(recorded, "Program", lambda calls: programs.append(Program(calls)) or programs[-1])
    together, _ = train(made, members, samples, steps=12)
    assert programs
    monkeypatch.setattr(recorded, "LONGEST", 0)
    alone, _ = train(made, members[-1:], samples, steps=12)
    for name, value in alone.state_dict().items():
        assert torch.equal(value[0], together.state_dict()[name][-1]), name
    return together


def assert_every_parameter_learns(model: torch.nn.Module) -> None:
    """After a backward pass each member of each parameter has a finite gradient that isn't zero."""
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        own = parameter.grad.view(len(parameter), -1)
        assert bool(own.isfinite().all() & own.any(1).all()), name
