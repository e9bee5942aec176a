"""The training loop: one stack of members, one step budget, one schedule.

Between two looks at the stop rows nothing waits for a result: losses are kept, and looked into afterwards. A
step is recorded when it is first taken, and replayed from then on.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.config import Budget, Training
from latentops.data.prepared import Samples
from latentops.training.checkpoint import Checkpoint, State
from latentops.training.device import products
from latentops.training.flat import Flat
from latentops.training.members import (
    Buckets,
    Member,
    Order,
    Resident,
    looked_at,
    sendable,
    view_rows,
    whole_vectors,
)
from latentops.training.ranks import ALONE, Ranks
from latentops.training.recorded import Recorded
from latentops.variants.autoencoder import Autoencoder, Noise

DRAWN = 32
"""Steps whose rows are drawn at a time: a GPU takes them while those of the next are drawn."""

LOWEST = 0.1
"""Where one cycle of the learning rate begins and ends, over its peak."""


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
    """Where a member's training ceased to be a number; `rows` are those of the batch, in the train split."""

    step: int
    term: str
    rows: list[int]

    @property
    def where(self) -> str:
        """The step, and the first rows."""
        return f"step {self.step}, on rows {', '.join(map(str, self.rows[:5]))}, …"


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

    `cosine` falls along half a cosine to zero; `constant` stays. `one_cycle` (Smith 2018, section 4.1) rises
    from a tenth of the peak, falls back to it in as many steps, and then to zero.
    """
    rise = training.warmup * budget.steps
    if training.schedule == "one_cycle":
        if step < 2 * rise:
            return budget.learning_rate * (LOWEST + (1 - LOWEST) * (1 - abs(step / rise - 1)))
        return budget.learning_rate * LOWEST * (budget.steps - step) / (budget.steps - 2 * rise)
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
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train `model`, whose parameters are stacked in `members` order, and leave the best weights in it.

    Each member sees its own view in its own order with its own noise; its weights are kept from the look at
    which its monitored objective on its stop rows was lowest. A member leaves the stack once it has had no
    better look for `patience` of them, those up to `min_steps` not counted, or once its loss ceases to be a
    number; the others don't notice. Other `ranks` train the same members at the same time, on other rows of
    each batch.

    From a `checkpoint` of the same training it goes on, after the looks so far have been shown again, and
    ends with the bytes it would have had without an interruption.

    Shapes: `train.values` and `stop.values` are `[rows, *shape]`. Raises `DataError` for an empty view.
    """
    model.to(device)
    rows = Resident.put(train, device)
    buckets = Buckets.of(train, training.buckets if model.takes_fewer_steps else 1)
    views = [buckets.split(view_rows(train, member.view, classes)) for member in members]
    stack = _Stack(model, members, rows, views, buckets, training, budget, ranks)
    count = min(training.look_rows, whole_vectors(len(stop)))
    stop_rows = [looked_at(view_rows(stop, member.view, classes), count) for member in members]
    watch = _Watch(members, Resident.put(stop, device).gather(torch.stack(stop_rows).to(device)))
    step, looks = 0, list[Look]()
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        step, looks = _resume(state, stack, watch)
        for look in looks:
            on_look(look)
    while step < budget.steps and len(stack.members):
        block = range(step, min(step + training.check_every, budget.steps))
        with products(training.precision, model):
            index, terms, objective = stack.train(block)
        step = block.stop
        watch.failures(terms, index, list(model.coefficients()), block.start)
        stack.mend()
        look = watch.look(model, step, objective)
        looks.append(look)
        on_look(look)
        better, going = watch.judge(look, training.patience, training.min_steps)
        stack.flat.remember(better, watch.positions)
        if not bool(going.all()):
            stack.keep(going)
            watch.keep(going)
        if checkpoint is not None and len(looks) % checkpoint.every == 0:
            checkpoint.save(_state(step, stack, watch, looks))
    stack.flat.restore()
    return watch.outcome(budget.steps, stack.flat.moved())


def _state(step: int, stack: "_Stack", watch: "_Watch", looks: Sequence[Look]) -> State:
    facts = {
        "step": step,
        "going": watch.positions.tolist(),
        "failed": [None if each is None else asdict(each) for each in watch.failed],
        "looks": [[look.step, look.members] for look in looks],
        "terms": list(looks[0].terms),
    }
    shown = {
        "objective": [look.objective for look in looks],
        "stop": [look.stop for look in looks],
        **{f"terms.{name}": [look.terms[name] for look in looks] for name in looks[0].terms},
    }
    parts = {
        "stack": stack.state(),
        "watch": watch.state(),
        "looks": {name: torch.cat(each) for name, each in shown.items()},
    }
    return State(
        facts, {f"{part}.{name}": each for part, all_ in parts.items() for name, each in all_.items()}
    )


def _resume(state: State, stack: "_Stack", watch: "_Watch") -> tuple[int, list[Look]]:
    """Bring both to where `state` was taken: its step, and the looks up to there."""
    facts, tensors = state.facts, state.tensors
    going = torch.zeros_like(watch.positions, dtype=torch.bool)
    going[facts["going"]] = True
    if not bool(going.all()):
        stack.keep(going)
        watch.keep(going)
    stack.resume(_part(tensors, "stack"))
    watch.resume(_part(tensors, "watch"), [each and Failure(**each) for each in facts["failed"]])
    counts = [len(members) for _, members in facts["looks"]]
    seen = {name: value.to(stack.device) for name, value in _part(tensors, "looks").items()}
    shown = {name: torch.split(value, counts) for name, value in seen.items()}
    looks = [
        Look(
            step,
            members,
            shown["objective"][at],
            shown["stop"][at],
            {name: shown[f"terms.{name}"][at] for name in facts["terms"]},
        )
        for at, (step, members) in enumerate(facts["looks"])
    ]
    return facts["step"], looks


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those of `name`, by what is left of their names."""
    return {
        each.removeprefix(f"{name}."): value for each, value in tensors.items() if each.startswith(f"{name}.")
    }


class _Stack:
    """The members in training: their flat parameters, their orders, their noise, and the step they take.

    A step reads its rows from `index` and, from `controls`, the learning rate, the share of decaying weights
    that is kept, the weights of the terms and what the variant schedules; it writes `history`. Each has a
    place for every step of a block, and `at` is the one to be taken: on a GPU nothing is sent between steps.
    """

    def __init__(
        self,
        model: Autoencoder,
        members: Sequence[Member],
        rows: Resident,
        views: Sequence[Sequence[NDArray[np.int64]]],
        buckets: Buckets,
        training: Training,
        budget: Budget,
        ranks: Ranks,
    ) -> None:
        self.model = model
        self.members = list(members)
        self.rows = rows
        self.buckets = buckets
        self.training = training
        self.budget = budget
        self.ranks = ranks
        self.left = budget.steps
        self.device = rows.values.device
        self.orders = [
            [Order(part, member.generator(f"order {bucket}")) for bucket, part in enumerate(view)]
            for view, member in zip(views, members, strict=True)
        ]
        purpose = f"noise {ranks.rank}" if ranks.rank else "noise"
        self.noise = Noise([member.generator(purpose, self.device) for member in members])
        own = list(model.likelihood.parameters())
        known = {id(parameter) for parameter in own}
        self.flat = Flat([p for p in model.parameters() if id(p) not in known], own, list(model.buffers()))
        weights, schedules = len(model.coefficients()), list(model.schedules())
        self.at = torch.zeros(1, dtype=torch.long, device=self.device)
        self.controls = torch.zeros(training.check_every, 2 + weights + len(schedules), device=self.device)
        self.control = torch.zeros(1, self.controls.shape[1], device=self.device)
        parts = torch.split(self.control[0], [1, 1, weights, len(schedules)])
        self.rate, self.kept, self.weights, now = parts
        self.scheduled = dict(zip(schedules, now.unbind(), strict=True))
        self._settle()

    def train(
        self, block: range
    ) -> tuple[Int[Tensor, "steps members batch"], Float[Tensor, "steps terms members"], Tensor]:
        """Take the steps of `block`.

        What is seen: the rows of each batch, the unweighted terms, and the objective `[members]` averaged
        over the block.
        """
        self.left = self.budget.steps - block.start
        controls = self.controls[: len(block)]
        controls.copy_(torch.tensor([self._controls(step) for step in block]))
        self.at.zero_()
        drawn = []
        with torch.no_grad(), self._training():
            for start in range(0, len(block), DRAWN):
                buckets = [self.buckets.at(step) for step in block[start : start + DRAWN]]
                drawn.append(self._draw(buckets))
                place = self.index[start : start + len(buckets)]
                place.copy_(sendable(self.ranks.share(drawn[-1]), self.device), non_blocking=True)
                for bucket in buckets:
                    self._recorded(bucket)()
                    if self.ranks.count > 1:
                        self.ranks.average(self.flat.gradient)
                        self.update()
        history = self.history[: len(block)]
        self.ranks.average(history)
        weights = controls[:, 2 : 2 + history.shape[1]]
        return torch.cat(drawn), history, (weights.unsqueeze(-1) * history).sum(1).mean(0)

    def _draw(self, buckets: Sequence[int]) -> Int[Tensor, "steps members batch"]:
        """The rows of the next steps, which take them from these buckets."""
        size = self.training.batch_size
        index = torch.empty(len(buckets), len(self.members), size, dtype=torch.long)
        for bucket in set(buckets):
            places = [place for place, each in enumerate(buckets) if each == bucket]
            taken = [orders[bucket].take(len(places) * size) for orders in self.orders]
            index[places] = torch.stack(taken).view(len(taken), len(places), -1).transpose(0, 1)
        return index

    @torch.no_grad()
    def mend(self) -> None:
        """Let the variant put right what training can't, going by the last batch."""
        self.model.mend(self.rows.gather(self.batch[0]), self.noise)
        self.ranks.spread([self.flat.buffer, *self.flat.buffers])

    def state(self) -> dict[str, Tensor]:
        """All that the steps to come depend on."""
        orders = {
            f"order.{at}.{bucket}.{name}": value
            for at, own in enumerate(self.orders)
            for bucket, order in enumerate(own)
            for name, value in order.state().items()
        }
        noise = {f"noise.{at}": each.get_state() for at, each in enumerate(self.noise.generators)}
        return self.flat.state() | noise | orders

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken, with the same members."""
        for name, value in self.flat.state().items():
            value.copy_(state[name])
        for at, each in enumerate(self.noise.generators):
            each.set_state(state[f"noise.{at}"])
        for at, own in enumerate(self.orders):
            for bucket, order in enumerate(own):
                order.resume(_part(state, f"order.{at}.{bucket}"))

    def keep(self, going: Bool[Tensor, " members"]) -> None:
        """Go on with these members alone."""
        chosen = going.nonzero().flatten().tolist()
        self.flat.keep(going)
        self.members = [self.members[at] for at in chosen]
        self.orders = [self.orders[at] for at in chosen]
        self.noise = Noise([self.noise.generators[at] for at in chosen])
        self._settle()

    def _settle(self) -> None:
        """Make room for what a step of these members reads and writes; forget the steps of others."""
        count, size = len(self.members), self.training.batch_size // self.ranks.count
        places = len(self.controls)
        self.index = torch.zeros(places, count, size, dtype=torch.long, device=self.device)
        self.batch = torch.zeros(1, count, size, dtype=torch.long, device=self.device)
        self.history = torch.zeros(places, len(self.weights), count, device=self.device)
        self.passes: dict[int, Recorded] = {}
        self.update = Recorded(self._update, self.left, (), self.device)

    def _recorded(self, bucket: int) -> Recorded:
        """A step on a batch of `bucket`; where ranks share it, without the update."""
        if bucket not in self.passes:
            self.passes[bucket] = Recorded(
                partial(self._pass, bucket),
                self.left // self.buckets.count,
                self.noise.generators,
                self.device,
            )
        return self.passes[bucket]

    def _controls(self, step: int) -> list[float]:
        rate = learning_rate(step, self.budget, self.training)
        progress = (step + 1) / self.budget.steps
        weights, schedules = self.model.coefficients(progress), self.model.schedules(progress)
        return [rate, 1 - rate * self.training.weight_decay, *weights.values(), *schedules.values()]

    @contextmanager
    def _training(self) -> Iterator[None]:
        """The model as it is while steps are taken."""
        self.model.train()
        self.model.now = self.scheduled
        try:
            yield
        finally:
            self.model.now = {}
            self.model.eval()

    @torch.enable_grad()
    def _pass(self, bucket: int) -> None:
        torch.index_select(self.index, 0, self.at, out=self.batch)
        torch.index_select(self.controls, 0, self.at, out=self.control)
        self.flat.clear()
        batch = self.rows.gather(self.batch[0], self.buckets.padded(bucket))
        terms = self.model.loss_terms(batch, self.noise)
        losses = torch.stack([terms[name] for name in self.model.coefficients()])
        (losses * self.weights.unsqueeze(-1)).sum((0, 1)).backward()  # type: ignore[no-untyped-call]
        self.history.index_copy_(0, self.at, losses.detach().unsqueeze(0))
        self.at.add_(1)
        if self.ranks.count == 1:
            with torch.no_grad():
                self._update()

    def _update(self) -> None:
        if self.training.clip:
            self.flat.clip(self.training.clip)
        self.flat.step(self.rate.squeeze(), self.kept if self.training.weight_decay else None)


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
        noise = Noise([self.members[at].generator("stop noise", self.batch.values.device) for at in here])
        weights = model.coefficients()
        with torch.no_grad():
            terms = model.loss_terms(self.batch, noise)
        stop = torch.stack([weights[name] * terms[name] for name in model.monitored()]).sum(0)
        return Look(step, here, objective, stop, terms)

    def judge(
        self, look: Look, patience: int, min_steps: int
    ) -> tuple[Bool[Tensor, " members"], Bool[Tensor, " members"]]:
        """Of the members in training: who is better than ever before, and who goes on.

        Looks up to `min_steps` use up no patience.
        """
        healthy = torch.tensor([self.failed[at] is None for at in look.members], device=look.stop.device)
        better = (look.stop < self.best[self.positions]) & healthy
        risen = self.positions[better]
        self.best[risen] = look.stop[better]
        self.best_step[risen] = look.step
        for name, value in look.terms.items():
            self.terms.setdefault(name, torch.zeros_like(self.best))[risen] = value[better]
        self.last_step[self.positions] = look.step
        self.without[self.positions] += int(look.step > min_steps)
        self.without[risen] = 0
        return better, healthy & (self.without[self.positions] < patience)

    def keep(self, going: Bool[Tensor, " members"]) -> None:
        """Go on looking at these members alone."""
        self.positions = self.positions[going]
        lengths = self.batch.lengths
        self.batch = Batch(self.batch.values[going], None if lengths is None else lengths[going])

    def state(self) -> dict[str, Tensor]:
        """What has been seen of everyone."""
        seen = {
            "best": self.best,
            "best_step": self.best_step,
            "last_step": self.last_step,
            "without": self.without,
        }
        return seen | {f"terms.{name}": value for name, value in self.terms.items()}

    def resume(self, state: Mapping[str, Tensor], failed: Sequence[Failure | None]) -> None:
        """Go on where `state` was taken, with the same members."""
        self.terms = {name: torch.zeros_like(self.best) for name in _part(state, "terms")}
        for name, value in self.state().items():
            value.copy_(state[name])
        self.failed = list(failed)

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
