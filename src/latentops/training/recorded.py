"""A training step that is written down while it is first taken, and from then on replayed.

A step is the same operations every time, on tensors of the same sizes; deciding which they are costs more
than doing them where a model is small. The record holds the kernels that autograd called, each with the
memory that it reads and writes, and a replay calls them again; on a GPU they become one CUDA graph. The
numbers are the same to the last bit.

What differs from step to step (rows, weights of the terms, learning rate) has to lie in tensors that are
written in place before each, and so do the results. What a step decides in Python it decides once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Generator, Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode

LONGEST = 20_000
"""Operations beyond which a step isn't recorded: memory for the record would grow with its length."""

LARGEST = {"cpu": 2**29, "cuda": 2**33}
"""Bytes of results beyond which neither: a record holds them all until it knows which can share memory."""

WORTH = 10
"""Operations that are worth recording for each step to come that is alike: more take longer to record."""

WARM_UP = 3
"""Steps that a GPU takes as they are written, before one is captured, so that its libraries are set up."""

_aten = torch.ops.aten
_UNSET = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided}
_ZEROS = {_aten.zeros, _aten.zeros_like, _aten.new_zeros}
_ONES = {_aten.ones, _aten.ones_like, _aten.new_ones}
_COPIES = {_aten.clone, _aten._to_copy}
_UNREPEATABLE = {
    torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape,
    torch.Tag.inplace_view,  # the tensor would keep its new shape
}  # fmt: skip

_DIRECT = frozenset(
    """add addcmul baddbmm bmm cat clamp div exp gather index_select lerp log maximum mean minimum mul neg
    sigmoid sqrt square stack sub sum tanh where
    add_ baddbmm_ copy_ div_ exp_ fill_ mul_ normal_ pow_ sqrt_ sub_ zero_""".split()  # noqa: SIM905
)
"""Operations that are called by their own binding, in half the time that the dispatcher's takes."""

_ARITHMETIC = {
    getattr(_aten, name + suffix).Tensor for name in ("add", "sub", "mul", "div") for suffix in ("", "_")
}

_EXACT = {torch.float32, torch.float64}
"""What a number of Python's is rounded to before it is used; with lesser types it isn't."""

Arguments = tuple[Any, ...]


class Recorded:
    """`body`, a step without arguments or result that draws from `generators`, taken again and again.

    A step whose course depends on what it computes, or that changes the shape of a tensor in place, can't be
    recorded, nor is one of more than `LONGEST` operations or `LARGEST` bytes: they are taken as they are
    written every time. So is one of more than `WORTH` operations for each of the `times` it will be taken.
    """

    def __init__(
        self, body: Callable[[], None], times: int, generators: Sequence[Generator], device: torch.device
    ) -> None:
        self.body = body
        self.generators = generators
        self.device = device
        self.taken = 0
        self.longest = min(LONGEST, WORTH * times)
        self.replay: Callable[[], object] | None = None

    def __call__(self) -> None:
        """Take a step, in a `no_grad` context."""
        if self.replay is not None:
            self.replay()
            return
        self.taken += 1
        if self.taken == 1:
            with _Recorder(self.longest, LARGEST[self.device.type]) as recorder:
                self.body()
            if recorder.calls is not None:
                self.body = Program(recorder.calls)
                if self.device.type == "cpu":
                    self.replay = self.body
        elif self.device.type == "cuda":
            self._capture()
        else:
            self.body()

    def _capture(self) -> None:
        """Take a step on a GPU, and capture it once it is warm."""
        if self.taken > WARM_UP:
            graph = torch.cuda.CUDAGraph()
            for each in self.generators:
                graph.register_generator_state(each)
            with torch.cuda.graph(graph):
                self.body()
            self.replay = graph.replay
            self.replay()  # to capture a step isn't to take it
            return
        aside, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(main)
        with torch.cuda.stream(aside):
            self.body()
        main.wait_stream(aside)


@dataclass(frozen=True)
class Call:
    """One operation: what it was called with, and the tensors that it gave."""

    operation: Any
    arguments: Arguments
    named: dict[str, Any]
    outputs: list[Tensor]

    @cached_property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments, those that it writes to included."""
        return _tensors((self.arguments, self.named))

    @cached_property
    def is_view(self) -> bool:
        """Whether it gives its inputs' memory."""
        within = set(map(_memory, self.inputs))
        return not self.changes and bool(self.outputs) and within.issuperset(map(_memory, self.outputs))

    @property
    def changes(self) -> bool:
        """Whether it writes to its arguments."""
        return bool(self.operation._schema.is_mutable)

    def can_replace(self, memory: int) -> bool:
        """Whether it gives, number by number, something in place of what its inputs have in `memory`."""
        if self.changes or len(self.outputs) != 1 or torch.Tag.pointwise not in self.operation.tags:
            return False
        layout = _layout(self.outputs[0])
        return all(_layout(each) == layout for each in self.inputs if _memory(each) == memory)


class _Recorder(TorchDispatchMode):
    """Takes down every operation that reaches a kernel; `calls` is None once that has become pointless."""

    def __init__(self, longest: int, largest: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.longest = longest
        self.largest = largest
        self.calls: list[Call] | None = []
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}
        self.bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes as long as torch itself

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _aten.lift_fresh.default:
            func = _aten.clone.default  # of a constant of Python's, which the step may write to
        result = func(*args, **(kwargs or {}))
        if self.calls is not None:
            call = Call(func, self._held(args), self._held(kwargs or {}), _tensors(self._held(result)))
            self.calls.append(call)
            if not call.is_view and not call.changes:
                self.bytes += sum(each.untyped_storage().nbytes() for each in call.outputs)
            large = len(self.calls) > self.longest or self.bytes > self.largest
            odd = any(each.is_conj() or each.is_neg() for each in _tensors(result))
            if large or odd or _UNREPEATABLE & set(func.tags):
                self.calls = None
                self.seen.clear()
        return result

    def _held(self, value: Any) -> Any:
        """Another tensor over the same memory, always the same one; the first would keep the graph alive."""
        if isinstance(value, tuple | list):
            return type(value)(map(self._held, value))
        if isinstance(value, dict):
            return {name: self._held(each) for name, each in value.items()}
        if not isinstance(value, Tensor):
            return value
        held = self.seen.get(id(value))
        if held is None or _memory(held[1]) != _memory(value):  # `data` may have been set
            held = self.seen[id(value)] = value, _over(value.untyped_storage(), value)
        return held[1]


class Program:
    """The kernels to call for `calls`, and with what.

    Intermediate results get memory that others no longer need. Where torch has no kernel that writes into
    memory it is given, what the operation gives moves into the tensor, and views of it are taken anew.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        calls = list(overwriting(calls))
        self.steps: list[tuple[Callable[..., object], Arguments, dict[str, Any]]] = []
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        tensors: dict[int, dict[int, Tensor]] = defaultdict(dict)
        known: set[int] = set()
        for at, call in enumerate(calls):
            for each in [*call.inputs, *call.outputs]:
                last[_memory(each)] = at
                tensors[_memory(each)][id(each)] = each
            known.update(map(_memory, call.inputs))
            first |= {_memory(each): at for each in call.outputs if _memory(each) not in known}
            known.update(map(_memory, call.outputs))
        moving: set[int] = set()
        for at, call in enumerate(calls):
            if call.operation._overloadpacket in _UNSET:
                continue
            kernel = None if call.is_view else _kernel(call)
            if kernel is not None:
                self.steps.append(kernel)
            elif not call.is_view or moving.intersection(map(_memory, call.inputs)):
                self.steps.append((_move, (call,), {}))
                moving.update(map(_memory, call.outputs))
            for memory in {_memory(each) for each in [*call.inputs, *call.outputs]} & moving:
                if last[memory] == at:
                    self.steps.append((_release, (list(tensors[memory].values()),), {}))
        spans: dict[int, tuple[int, float]] = {}
        for memory in first.keys() - moving:
            begin, end = first[memory], last[memory]
            replaced = begin < end and calls[end].can_replace(memory)
            spans[memory] = begin, end - 0.5 if replaced else end
        share(spans, {memory: list(tensors[memory].values()) for memory in spans})

    def __call__(self) -> None:
        """Call them all, in a `no_grad` context."""
        for kernel, arguments, named in self.steps:
            kernel(*arguments, **named)


def overwriting(calls: Sequence[Call]) -> Iterator[Call]:
    """The same calls, but where memory is zeroed and the next that touches it adds, written to at once."""
    touching: dict[int, list[int]] = defaultdict(list)
    for at, call in enumerate(calls):
        for memory in {_memory(each) for each in [*call.inputs, *call.outputs]}:
            touching[memory].append(at)
    instead: dict[int, Call | None] = {}
    for at, call in enumerate(calls):
        if call.operation is not _aten.zero_.default:
            continue
        (place,) = call.arguments
        later = (other for other in touching[_memory(place)] if other > at)
        after = next((other for other in later if any(_overlap(place, t) for t in calls[other].inputs)), None)
        if after is None or calls[after].named or not _same(place, calls[after].inputs[0]):
            continue
        adding, rest = calls[after].operation, calls[after].arguments[1:]
        if any(_overlap(place, each) for each in _tensors(rest)):
            continue
        if adding is _aten.baddbmm_.default and len(rest) == 2:
            instead[at], instead[after] = None, Call(_aten.bmm.out, rest, {"out": place}, [place])
        elif adding is _aten.add_.Tensor and isinstance(rest[0], Tensor) and rest[0].shape == place.shape:
            made, *others = touching[_memory(rest[0])]
            maker = calls[made]
            single = len(maker.outputs) == 1 and not maker.changes and not maker.is_view
            into = _into(maker.operation, place.device.type) if single else None
            instead[at] = None
            if into is not None and made > at and others == [after] and _alike(place, *rest, *maker.outputs):
                named = maker.named | {into[1][0]: place}
                instead[made], instead[after] = Call(into[0], maker.arguments, named, [place]), None
            else:
                instead[after] = Call(_aten.copy_.default, (place, *rest), {}, [place])
    for at, call in enumerate(calls):
        chosen = instead.get(at, call)
        if chosen is not None:
            yield chosen


def share(spans: dict[int, tuple[int, float]], tensors: dict[int, list[Tensor]]) -> None:
    """Lay `tensors`, by the memory they have now, into as little as their `spans` of calls allow."""
    begins: dict[float, list[int]] = defaultdict(list)
    ends: dict[float, list[int]] = defaultdict(list)
    for memory, (begin, end) in spans.items():
        begins[begin].append(memory)
        ends[end].append(memory)
    free: dict[int, list[UntypedStorage]] = defaultdict(list)
    taken: dict[int, UntypedStorage] = {}
    for at in sorted({*begins, *ends}):
        for memory in begins[at]:
            before = tensors[memory][0].untyped_storage()
            spare = free[before.nbytes()]
            taken[memory] = spare.pop() if spare else UntypedStorage(before.nbytes(), device=before.device)  # type: ignore[no-untyped-call]
        for memory in ends[at]:
            free[taken[memory].nbytes()].append(taken[memory])
    for memory, storage in taken.items():
        for each in tensors[memory]:
            each.set_(storage, each.storage_offset(), each.size(), each.stride())


def _kernel(call: Call) -> tuple[Callable[..., object], Arguments, dict[str, Any]] | None:
    """What to call so that the outputs are written where they are; None where there is no such kernel."""
    packet, arguments = call.operation._overloadpacket, call.arguments
    if call.operation in _ARITHMETIC and call.outputs[0].dtype in _EXACT:
        one, other = arguments
        if isinstance(other, float | int):  # a tensor would be made of it each time
            arguments = one, torch.tensor(other, dtype=call.outputs[0].dtype)
    if call.changes:
        return _bound(call.operation), arguments, call.named
    if packet in _ZEROS:
        return Tensor.zero_, (call.outputs[0],), {}
    if packet in _ONES:
        return Tensor.fill_, (call.outputs[0], 1), {}
    if packet in _COPIES:
        return Tensor.copy_, (call.outputs[0], call.arguments[0]), {}
    into = _into(call.operation, call.outputs[0].device.type)
    if into is None:
        return None
    return _bound(into[0]), arguments, call.named | dict(zip(into[1], call.outputs, strict=True))


@cache
def _into(operation: Any, device: str) -> tuple[Any, list[str]] | None:
    """The same operation with tensors to write into, and their names; None where `device` has no kernel."""
    packet, wanted = operation._overloadpacket, _signature(operation)
    for name in packet.overloads():
        other = getattr(packet, name)
        places = [each.name for each in other._schema.arguments if each.is_out]
        if len(places) == len(operation._schema.returns) and _signature(other) == wanted:
            own = torch._C._dispatch_has_kernel_for_dispatch_key(other.name(), device.upper())
            return (other, places) if own or packet is _aten.stack else None
    return None


def _signature(operation: Any) -> list[tuple[str, str]]:
    return [(each.name, str(each.type)) for each in operation._schema.arguments if not each.is_out]


@cache
def _bound(operation: Any) -> Callable[..., object]:
    name = operation._schema.name.removeprefix("aten::")
    bound: Callable[..., object] = operation
    if name in _DIRECT:
        bound = getattr(Tensor if name.endswith("_") else torch, name)
    return bound


def _move(call: Call) -> None:
    given = _tensors(call.operation(*call.arguments, **call.named))
    for place, result in zip(call.outputs, given, strict=True):
        place.set_(result)  # type: ignore[call-overload]


def _release(tensors: Iterable[Tensor]) -> None:
    for each in tensors:
        each.set_()  # type: ignore[call-overload]


def _over(storage: UntypedStorage, like: Tensor) -> Tensor:
    empty = torch.empty(0, dtype=like.dtype, device=like.device)
    return empty.set_(storage, like.storage_offset(), like.size(), like.stride())


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        return []
    return [tensor for each in tree for tensor in _tensors(each)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()


def _alike(*tensors: Tensor) -> bool:
    """Whether they are of one type and layout, and each lies in its memory without gaps."""
    return len({(each.shape, each.dtype) for each in tensors}) == 1 and all(
        each.is_contiguous() for each in tensors
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same numbers, which lie in their memory without gaps."""
    return _memory(one) == _memory(other) and _layout(one) == _layout(other) and one.is_contiguous()


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether they may share a number; exact where both are contiguous."""
    (begin, end), (others_begin, others_end) = _span(one), _span(other)
    return _memory(one) == _memory(other) and begin < others_end and others_begin < end


def _span(tensor: Tensor) -> tuple[int, int]:
    """The bytes from its first to behind its last."""
    begin = int(tensor.storage_offset())
    last = sum((size - 1) * int(stride) for size, stride in zip(tensor.size(), tensor.stride(), strict=True))
    return begin * tensor.itemsize, (begin + last + 1) * tensor.itemsize
