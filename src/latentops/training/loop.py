"""The training loop: one stack of members, one step budget, one schedule.

Between two looks at the stop rows nothing waits for a result: losses are kept, and looked into afterwards.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.config import Budget, Training
from latentops.data.prepared import Samples
from latentops.training.device import products
from latentops.training.flat import Flat
from latentops.training.members import Member, Order, Resident, looked_at, view_rows, whole_vectors
from latentops.variants.autoencoder import Autoencoder, Noise


@dataclass(frozen=True)
class Look:
    """What a look at the stop rows showed of the `members` still in training, named by their positions.

    `objective` is the training objective averaged since the last look, `stop` the monitored one on the stop
    rows, `terms` those it is made of.
    """

    step: int
    members: list[int]
    objective: Float[Tensor, " members"]
    stop: Float[Tensor, " members"]
    terms: dict[str, Float[Tensor, " members"]]


@dataclass(frozen=True)
class Failure:
    """Where a member's training ceased to be a number."""

    step: int
    term: str
    rows: list[int]


@dataclass(frozen=True)
class Outcome:
    """Per member: the step its weights are from, the stop objective there, what went wrong if anything.

    `steps` is how many the longest-lived member took.
    """

    best_step: list[int]
    best_objective: list[float]
    terms: dict[str, list[float]]
    stopped_early: list[bool]
    moved: list[bool]
    failures: list[Failure | None]
    steps: int


def learning_rate(step: int, budget: Budget, training: Training) -> float:
    """The rate of step 0, 1, …: a linear rise over the first `warmup` share, then as `schedule` says.

    `cosine` falls along half a cosine to zero; `constant` stays.
    """
    rise = training.warmup * budget.steps
    if step < rise:
        return budget.learning_rate * (step + 1) / (rise + 1)
    if training.schedule == "constant":
        return budget.learning_rate
    fallen = (step - rise) / max(1.0, budget.steps - rise)
    return budget.learning_rate * 0.5 * (1 + math.cos(math.pi * fallen))


def fit(
    model: Autoencoder,
    members: Sequence[Member],
    train: Samples,
    stop: Samples,
    classes: Sequence[str],
    training: Training,
    budget: Budget,
    device: torch.device,
    on_look: Callable[[Look], None],
) -> Outcome:
    """Train `model`, whose parameters are stacked in `members` order, and leave the best weights in it.

    Each member sees its own view in its own order with its own noise; its weights are kept from the look at
    which its monitored objective on its stop rows was lowest. A member that has had no better look for
    `patience` of them, or whose loss ceases to be a number, leaves the stack; the others don't notice.

    Shapes: `train.values` and `stop.values` are `[rows, *shape]`. Raises `DataError` for an empty view.
    """
    model.to(device)
    rows = Resident.put(train, device)
    stack = _Stack(model, members, [view_rows(train, member.view, classes) for member in members], device)
    count = min(training.look_rows, whole_vectors(len(stop)))
    stop_rows = [looked_at(view_rows(stop, member.view, classes), count) for member in members]
    watch = _Watch(members, Resident.put(stop, device).gather(torch.stack(stop_rows).to(device)))
    step = 0
    while step < budget.steps and len(stack.members):
        block = range(step, min(step + training.check_every, budget.steps))
        with products(training.precision, model):
            index, terms, objective = stack.train(rows, block, training, budget)
        step = block.stop
        watch.failures(terms, index, list(model.coefficients()), block.start)
        look = watch.look(model, step, objective)
        on_look(look)
        better, going = watch.judge(look, training.patience)
        stack.flat.remember(better, watch.positions)
        if not bool(going.all()):
            stack.keep(going)
            watch.keep(going)
    stack.flat.restore()
    return watch.outcome(budget.steps, stack.flat.moved())


class _Stack:
    """The members in training: their flat parameters, their orders, their noise."""

    def __init__(
        self,
        model: Autoencoder,
        members: Sequence[Member],
        views: Sequence[NDArray[np.int64]],
        device: torch.device,
    ) -> None:
        self.model = model
        self.members = list(members)
        self.orders = [Order(view, m.generator("order")) for view, m in zip(views, members, strict=True)]
        self.noise = Noise([m.generator("noise") for m in members], device)
        self.device = device
        own = list(model.likelihood.parameters())
        known = {id(parameter) for parameter in own}
        self.flat = Flat([p for p in model.parameters() if id(p) not in known], own)

    def train(
        self, rows: Resident, block: range, training: Training, budget: Budget
    ) -> tuple[Int[Tensor, "steps members batch"], Float[Tensor, "steps terms members"], Tensor]:
        """Take the steps of `block`.

        What is seen: the rows of each batch, the unweighted terms, and the objective `[members]` averaged
        over the block.
        """
        taken = [order.take(len(block) * training.batch_size) for order in self.orders]
        index = torch.stack(taken).view(len(taken), len(block), -1).transpose(0, 1).contiguous()
        index = index.to(self.device)
        weights = [self.model.coefficients((step + 1) / budget.steps) for step in block]
        factors = torch.tensor([list(each.values()) for each in weights], device=self.device)
        seen = []
        for at, step in enumerate(block):
            terms = self.model.loss_terms(rows.gather(index[at]), self.noise)
            losses = torch.stack([terms[name] for name in weights[at]])
            (losses * factors[at].unsqueeze(-1)).sum().backward()  # type: ignore[no-untyped-call]
            seen.append(losses.detach())
            self.flat.step(learning_rate(step, budget, training), training.weight_decay)
        history = torch.stack(seen)
        return index, history, (factors.unsqueeze(-1) * history).sum(1).mean(0)

    def keep(self, going: Bool[Tensor, " members"]) -> None:
        """Go on with these members alone."""
        chosen = going.nonzero().flatten().tolist()
        self.flat.keep(going)
        self.members = [self.members[at] for at in chosen]
        self.orders = [self.orders[at] for at in chosen]
        self.noise = Noise([self.noise.generators[at] for at in chosen], self.device)


class _Watch:
    """Looks at the stop rows, and what they and the losses say of every member; it trains nothing."""

    def __init__(self, members: Sequence[Member], batch: Batch) -> None:
        device = batch.values.device
        self.members = members
        self.batch = batch
        self.positions = torch.arange(len(members), device=device)
        self.best = torch.full((len(members),), math.inf, device=device)
        self.best_step = torch.zeros(len(members), dtype=torch.long, device=device)
        self.last_step = torch.zeros(len(members), dtype=torch.long, device=device)
        self.without = torch.zeros(len(members), dtype=torch.long, device=device)
        self.terms: dict[str, Tensor] = {}
        self.failed: list[Failure | None] = [None] * len(members)

    def failures(
        self,
        terms: Float[Tensor, "steps terms members"],
        index: Int[Tensor, "steps members batch"],
        names: Sequence[str],
        start: int,
    ) -> None:
        """Take down the first step, term and rows of each member whose losses ceased to be numbers."""
        bad = ~torch.isfinite(terms)
        for member in bad.flatten(0, 1).any(0).nonzero().flatten().tolist():
            at = int(bad[:, :, member].any(1).to(torch.int8).argmax())
            term = int(bad[at, :, member].to(torch.int8).argmax())
            rows = index[at, member].tolist()
            self.failed[int(self.positions[member])] = Failure(start + at + 1, names[term], rows)

    def look(self, model: Autoencoder, step: int, objective: Float[Tensor, " members"]) -> Look:
        """Measure the stop rows, with the same noise every time."""
        here = self.positions.tolist()
        noise = Noise([self.members[at].generator("stop noise") for at in here], self.batch.values.device)
        weights = model.coefficients()
        with torch.no_grad():
            terms = model.loss_terms(self.batch, noise)
        stop = torch.stack([weights[name] * terms[name] for name in model.monitored()]).sum(0)
        return Look(step, here, objective, stop, terms)

    def judge(self, look: Look, patience: int) -> tuple[Bool[Tensor, " members"], Bool[Tensor, " members"]]:
        """Of the members in training: who is better than ever before, and who goes on."""
        healthy = torch.tensor([self.failed[at] is None for at in look.members], device=look.stop.device)
        better = (look.stop < self.best[self.positions]) & healthy
        risen = self.positions[better]
        self.best[risen] = look.stop[better]
        self.best_step[risen] = look.step
        for name, value in look.terms.items():
            self.terms.setdefault(name, torch.zeros_like(self.best))[risen] = value[better]
        self.last_step[self.positions] = look.step
        self.without[self.positions] += 1
        self.without[risen] = 0
        return better, healthy & (self.without[self.positions] < patience)

    def keep(self, going: Bool[Tensor, " members"]) -> None:
        """Go on looking at these members alone."""
        self.positions = self.positions[going]
        lengths = self.batch.lengths
        self.batch = Batch(self.batch.values[going], None if lengths is None else lengths[going])

    def outcome(self, steps: int, moved: Bool[Tensor, " members"]) -> Outcome:
        """What became of everyone in at most `steps`."""
        last = self.last_step.tolist()
        return Outcome(
            best_step=self.best_step.tolist(),
            best_objective=self.best.tolist(),
            terms={name: value.tolist() for name, value in self.terms.items()},
            stopped_early=[at < steps and not bad for at, bad in zip(last, self.failed, strict=True)],
            moved=moved.tolist(),
            failures=self.failed,
            steps=max(last),
        )
