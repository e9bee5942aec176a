"""Sparsity: how delicate its weight is, who dies of it, what it costs, and what it is good for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import torch

from benchmarks.figures import ROOT
from benchmarks.remedies.probing import probe_accuracy, squared_error, unit_auroc
from benchmarks.remedies.study import SEEDS, Finding, samples, trained
from latentops.config import load_params
from latentops.data import prepared
from latentops.evaluation.comparison import reconstruction_cost
from latentops.evaluation.structure import with_irrelevant
from latentops.training.loop import Look, fit
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe, Trained

WEIGHTS = (0.1, 1.0, 10.0, 100.0)
COLUMNS = (10, 30, 90)
FIXED = {"controller": False, "revive": "none"}
"""As a textbook's: a weight that stays, and nobody is revived."""


def findings() -> Iterator[Finding]:
    """One topic after the other, on the digits; irrelevant columns on the table."""
    yield from delicate_weight()
    yield from dead_units()
    yield from costs()
    yield from penalties()
    yield from interpretable_units()
    yield from irrelevant_columns()


def delicate_weight() -> Iterator[Finding]:
    """The weight of L1 over three decades, fixed and as what the controller starts from."""
    stacks = {
        (weight, held): _stack(l1=weight, controller=held, activity=0.75)
        for weight in WEIGHTS
        for held in (False, True)
    }
    for weight in WEIGHTS:
        fixed, held = stacks[weight, False], stacks[weight, True]
        yield Finding(
            "too much sparsity hurts", f"probe accuracy, l1: {weight:g}", "controller at 0.75 active",
            _probe(fixed), _probe(held), "higher",
        )  # fmt: skip
        yield Finding(
            "too much sparsity hurts", f"squared error, l1: {weight:g}", "controller at 0.75 active",
            _error(fixed), _error(held),
        )  # fmt: skip

    def span(of: Callable[[Trained], list[float]], held: bool) -> list[float]:
        by_weight = [of(stacks[weight, held]) for weight in WEIGHTS]
        return [max(each) - min(each) for each in zip(*by_weight, strict=True)]

    for what, of in (("active units", _number("active_units")), ("probe accuracy", _probe)):
        yield Finding(
            "the weight of sparsity is delicate", f"span of {what}, l1: {WEIGHTS[0]:g} to {WEIGHTS[-1]:g}",
            "controller at 0.75 active", span(of, False), span(of, True),
        )  # fmt: skip


def dead_units() -> Iterator[Finding]:
    """Units that no stop row turns on, without revival and with either form of it."""
    for name, knobs in (
        ("l1: 0.1", {"penalty": "l1", "l1": 0.1, "controller": False}),
        ("l1 held at 0.75", {"penalty": "l1", "controller": True, "activity": 0.75}),
        ("top_k of 0.5", {"penalty": "top_k", "controller": False, "activity": 0.5}),
    ):
        without = _stack(**knobs, revive="none")
        for how in ("bias", "resample"):
            revived = _stack(**knobs, revive=how)
            dead = _number("dead_units")
            yield Finding("units die", f"dead units of 8, {name}", how, dead(without), dead(revived))
            yield Finding(
                "units die", f"probe accuracy, {name}", how, _probe(without), _probe(revived), "higher"
            )


def costs() -> Iterator[Finding]:
    """What the demand costs in reconstruction, over a plain code of the same size."""
    plain = _error(trained("undercomplete"))
    fixed = reconstruction_cost(_error(_stack(l1=0.1, **FIXED)), plain)
    for activity in (0.25, 0.5, 0.75):
        yield Finding(
            "sparsity costs reconstruction", "squared error over a plain code's, l1: 0.1",
            f"controller at {activity:g} active, revival",
            fixed, reconstruction_cost(_error(_stack(activity=activity)), plain),
        )  # fmt: skip


def penalties() -> Iterator[Finding]:
    """The three penalties at half of the units active, beside one another."""
    held = _stack(activity=0.5)
    others = {
        "kl": _stack(penalty="kl", activity=0.5, kl=10.0, controller=False),
        "top_k": _stack(penalty="top_k", activity=0.5, controller=False),
    }
    for name, other in others.items():
        hoyer = _number("hoyer")
        yield Finding(
            "penalties differ",
            "Hoyer index, l1 at 0.5 active",
            f"penalty: {name}",
            hoyer(held),
            hoyer(other),
            "higher",
        )
        yield Finding(
            "penalties differ",
            "probe accuracy, l1 at 0.5 active",
            f"penalty: {name}",
            _probe(held),
            _probe(other),
            "higher",
        )


def interpretable_units() -> Iterator[Finding]:
    """Whether one unit stands for one class."""
    for size in (8, 32):
        plain = trained("undercomplete", latent_dim=size)
        for activity in (0.25, 0.5, 0.75):
            sparse = trained("sparse", latent_dim=size, activity=activity)
            stop = samples("digits", "stop")
            yield Finding(
                "a unit of a dense code stands for nothing", f"best single-unit AUROC a class, {size} units",
                f"sparse, {activity:g} active", unit_auroc(plain, stop), unit_auroc(sparse, stop), "higher",
            )  # fmt: skip


def irrelevant_columns() -> Iterator[Finding]:
    """Probe accuracy lost as columns of noise are added to the table, by a plain code and by sparse ones."""
    for activity in (0.5, 0.75):
        for columns in COLUMNS:
            yield Finding(
                "robust to irrelevant features?", f"probe accuracy lost with {columns} columns of noise",
                f"sparse, {activity:g} active",
                _lost("undercomplete", columns), _lost("sparse", columns, activity=activity),
            )  # fmt: skip


def _lost(variant: str, columns: int, **knobs: object) -> list[float]:
    pairs = zip(_noisy(variant, 0, **knobs), _noisy(variant, columns, **knobs), strict=True)
    return [without - noisy for without, noisy in pairs]


@cache
def _stack(**knobs: object) -> Trained:
    return trained("sparse", **knobs)  # type: ignore[arg-type]


def _probe(stack: Trained) -> list[float]:
    return probe_accuracy(stack, samples("digits", "train"), samples("digits", "stop"))


def _error(stack: Trained) -> list[float]:
    return squared_error(stack, samples("digits", "stop"))


def _number(name: str) -> Callable[[Trained], list[float]]:
    return lambda stack: stack.diagnose(samples("digits", "stop"))[name]


def _ignore(look: Look) -> None:
    del look


@cache
def _noisy(variant: str, columns: int, **knobs: object) -> list[float]:
    """Probe accuracy on the table's stop rows with so many columns of noise."""
    params, dataset = load_params(), "breast_cancer"
    entry = params.dataset(dataset)
    plain = prepared.describe(ROOT / "data/prepared" / dataset)
    names = (*plain.features, *(f"noise {at}" for at in range(columns)))
    described = replace(plain, shape=(len(names),), features=names)
    train = with_irrelevant(samples(dataset, "train"), columns, seed=0)
    stop = with_irrelevant(samples(dataset, "stop"), columns, seed=1)
    recipe = Recipe.resolve(
        variant, params.variant(variant) | knobs, entry.architecture, entry.architectures,
        entry.latent_dim, described, entry.likelihood,
    )  # fmt: skip
    members = [Member(seed, VIEW_ALL) for seed in SEEDS]
    model = recipe.build(members)
    budget = params.training.budget[recipe.architecture]
    fit(model, members, train, stop, described.classes, params.training, budget, torch.device("cpu"), _ignore)
    return probe_accuracy(Trained(model, members, recipe), train, stop)
