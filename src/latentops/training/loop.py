"""The training loop: one stack of members, one step budget, one schedule."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latentops.config import Budget, Training
from latentops.data.prepared import Samples
from latentops.training.flat import Flat
from latentops.training.members import WHOLE_VECTORS, Member, Order, Resident, cycled, view_rows
from latentops.variants.autoencoder import Autoencoder, Noise

LIKELIHOOD_RATE = 10.0
"""The variance has one number to learn and far to go: its learning rate is this many times the others'."""


@dataclass(frozen=True)
class Look:
    """What a look at the stop rows showed; each tensor is `[members]`."""

    step: int
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
    """Per member: the step its weights are from, the stop objective there, what went wrong if anything."""

    best_step: list[int]
    best_objective: list[float]
    terms: dict[str, list[float]]
    stopped_early: list[bool]
    moved: list[bool]
    failures: list[Failure | None]
    steps: int


def learning_rate(step: int, budget: Budget, warmup: float) -> float:
    """Linear rise over the first `warmup` share of the steps, then half a cosine to zero."""
    rise = warmup * budget.steps
    if step < rise:
        return budget.learning_rate * (step + 1) / (rise + 1)
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
    which its monitored objective on its stop rows was lowest. A member whose loss ceases to be a number keeps
    its last good weights and is reported; the others are not touched by it.

    Shapes: `train.values` and `stop.values` are `[rows, *shape]`. Raises `DataError` for an empty view.
    """
    model.to(device)
    rows, stop_rows = Resident.put(train, device), Resident.put(stop, device)
    orders = [Order(view_rows(train, m.view, classes), m.generator("order")) for m in members]
    noise = Noise([m.generator("noise") for m in members], device)
    looks = _Looks(model, members, stop_rows, stop, classes, training.patience)
    own = {id(parameter) for parameter in model.likelihood.parameters()}
    network = Flat(p for p in model.parameters() if id(p) not in own)
    groups = [{"params": [network.buffer], "factor": 1.0, "weight_decay": training.weight_decay}]
    flats = [network]
    if own:
        flats.append(Flat(model.likelihood.parameters()))
        groups.append({"params": [flats[-1].buffer], "factor": LIKELIHOOD_RATE, "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, lr=budget.learning_rate, fused=True)
    failed_step = torch.full((len(members),), -1, device=device)
    failed_term = torch.full((len(members),), -1, device=device)
    failed_rows = torch.zeros(len(members), training.batch_size, dtype=torch.long, device=device)
    seen = torch.zeros(len(members), device=device)
    since = 0
    step = 0
    for step, index in enumerate(_batches(orders, training, budget.steps, device), start=1):
        rate = learning_rate(step - 1, budget, training.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        weights = model.coefficients(step / budget.steps)
        terms = model.loss_terms(rows.gather(index), noise)
        objective = torch.stack([weights[name] * value for name, value in terms.items()])
        objective.sum().backward()  # type: ignore[no-untyped-call]
        for flat in flats:
            flat.collect()
        optimiser.step()

        finite = torch.isfinite(objective.detach())
        fails = ~finite.all(0) & (failed_step < 0)
        failed_step = torch.where(fails, step, failed_step)
        failed_term = torch.where(fails, (~finite).to(torch.int8).argmax(0), failed_term)
        failed_rows = torch.where(fails.unsqueeze(1), index, failed_rows)
        seen += objective.detach().sum(0)
        since += 1
        if step % training.check_every == 0 or step == budget.steps:
            on_look(looks.look(step, seen / since, failed_step < 0))
            seen.zero_()
            since = 0
            if looks.all_done():
                break
    looks.restore()
    names = list(model.coefficients())
    failures = [
        Failure(at, names[term], batch) if at >= 0 else None
        for at, term, batch in zip(
            failed_step.tolist(), failed_term.tolist(), failed_rows.tolist(), strict=True
        )
    ]
    return Outcome(
        best_step=looks.best_step.tolist(),
        best_objective=looks.best.tolist(),
        terms={name: value.tolist() for name, value in looks.best_terms.items()},
        stopped_early=[
            done and at < step for done, at in zip(looks.done.tolist(), looks.best_step.tolist(), strict=True)
        ],
        moved=looks.moved(),
        failures=failures,
        steps=step,
    )


def _batches(
    orders: Sequence[Order], training: Training, steps: int, device: torch.device
) -> Iterator[Int[Tensor, "members batch"]]:
    """One `[members, batch]` of rows a step, drawn a block of steps at a time."""
    for start in range(0, steps, training.check_every):
        block = min(training.check_every, steps - start)
        taken = torch.stack([order.take(block * training.batch_size) for order in orders]).to(device)
        yield from taken.view(len(orders), block, training.batch_size).unbind(1)


class _Looks:
    """Looks at the stop rows: the best weights of each member so far, and who has stopped."""

    def __init__(
        self,
        model: Autoencoder,
        members: Sequence[Member],
        resident: Resident,
        stop: Samples,
        classes: Sequence[str],
        patience: int,
    ) -> None:
        views = [view_rows(stop, member.view, classes) for member in members]
        longest = WHOLE_VECTORS * math.ceil(max(len(view) for view in views) / WHOLE_VECTORS)
        device = resident.values.device
        self.model = model
        self.members = members
        self.patience = patience
        self.batch = resident.gather(torch.stack([cycled(view, longest) for view in views]).to(device))
        self.parameters = dict(model.named_parameters())
        self.initial = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.kept = {name: p.clone() for name, p in self.initial.items()}
        self.best = torch.full((len(members),), math.inf, device=device)
        self.best_step = torch.zeros(len(members), dtype=torch.long, device=device)
        self.best_terms: dict[str, Tensor] = {}
        self.without = torch.zeros(len(members), dtype=torch.long, device=device)
        self.done = torch.zeros(len(members), dtype=torch.bool, device=device)

    def look(self, step: int, objective: Float[Tensor, " members"], healthy: Tensor) -> Look:
        """Measure the stop rows with the same noise every time; keep the weights of members that improved."""
        noise = Noise([member.generator("stop noise") for member in self.members], self.batch.values.device)
        weights = self.model.coefficients()
        with torch.no_grad():
            terms = self.model.loss_terms(self.batch, noise)
        monitored = [weights[name] * terms[name] for name in self.model.monitored()]
        stop = torch.stack([term.detach() for term in monitored]).sum(0)
        better = (stop < self.best) & healthy & ~self.done
        self.best = torch.where(better, stop, self.best)
        self.best_step = torch.where(better, step, self.best_step)
        for name, value in terms.items():
            before = self.best_terms.get(name, torch.zeros_like(value))
            self.best_terms[name] = torch.where(better, value.detach(), before)
        for name, parameter in self.parameters.items():
            self.kept[name][better] = parameter.detach()[better]
        self.without = torch.where(better, 0, self.without + 1)
        self.done |= (self.without >= self.patience) | ~healthy
        return Look(step, objective, stop, {name: value.detach() for name, value in terms.items()})

    def all_done(self) -> bool:
        """Whether no member is left to train."""
        return bool(self.done.all())

    def restore(self) -> None:
        """Put each member's best weights into the model."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.kept[name])

    def moved(self) -> list[bool]:
        """Whether every member's every weight differs from its initial value somewhere."""
        still = torch.zeros(len(self.members), dtype=torch.bool, device=self.best.device)
        for name, kept in self.kept.items():
            still |= (
                (kept == self.initial[name]).flatten(1).all(1)
                if kept.ndim > 1
                else kept == self.initial[name]
            )
        return [not each for each in still.tolist()]
