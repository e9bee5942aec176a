"""Cutting DVC's graph down to what has to run, and the order of starting it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.errors import LatentOpsError
from pipelines.graph import (
    Schedule,
    Unit,
    blocked_by,
    closure,
    explain,
    had_cached,
    order,
    reasons,
    tags,
    units,
    urgency,
)

GRAPH = {
    "report": frozenset({"compare@d"}),
    "compare@d": frozenset({"evaluate@d-x", "evaluate@d-y", "floors@d"}),
    "evaluate@d-x": frozenset({"train@d-x", "prepare@d"}),
    "evaluate@d-y": frozenset({"train@d-y", "prepare@d"}),
    "train@d-x": frozenset({"prepare@d"}),
    "train@d-y": frozenset({"prepare@d"}),
    "floors@d": frozenset({"prepare@d"}),
    "prepare@d": frozenset(),
}
STALE = [{"changed deps": {"params.yaml": {"variants.x.weight": "modified"}}}]


def test_a_stage_comes_after_what_it_depends_on() -> None:
    placed = order(GRAPH)
    assert sorted(placed) == sorted(GRAPH)
    assert all(placed.index(each) < placed.index(stage) for stage in GRAPH for each in GRAPH[stage])


def test_closure_is_a_target_and_all_upstream_of_it() -> None:
    assert closure(GRAPH, ["evaluate@d-x"]) == {"evaluate@d-x", "train@d-x", "prepare@d"}
    assert closure(GRAPH, []) == set(GRAPH)
    with pytest.raises(LatentOpsError, match="no stage 'train@d-z'"):
        closure(GRAPH, ["train@d-z"])


def test_a_stale_stage_and_what_follows_it_run_and_nothing_else() -> None:
    why = reasons(GRAPH, {"train@d-x": STALE}, set(GRAPH))
    assert list(why) == ["train@d-x", "evaluate@d-x", "compare@d", "report"]
    assert why["train@d-x"] == "variants.x.weight modified"
    assert why["evaluate@d-x"] == "after train@d-x"
    assert reasons(GRAPH, {}, set(GRAPH)) == {}


def test_what_was_not_asked_for_is_left_stale() -> None:
    why = reasons(GRAPH, {"train@d-x": STALE, "train@d-y": STALE}, closure(GRAPH, ["evaluate@d-x"]))
    assert list(why) == ["train@d-x", "evaluate@d-x"]


def test_train_and_evaluate_of_a_cell_share_a_call() -> None:
    work = {unit.name: unit for unit in units(GRAPH, reasons(GRAPH, {"prepare@d": STALE}, set(GRAPH)))}
    assert work["train@d-x"].stages == ("train@d-x", "evaluate@d-x")
    assert "evaluate@d-x" not in work
    assert work["train@d-x"].upstream == {"prepare@d"}
    assert work["compare@d"].upstream == {"train@d-x", "train@d-y", "floors@d"}


def test_an_evaluation_alone_is_its_own_unit() -> None:
    work = units(GRAPH, reasons(GRAPH, {"evaluate@d-x": STALE}, set(GRAPH)))
    assert [unit.name for unit in work] == ["evaluate@d-x", "compare@d", "report"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["changed command"], "changed command"),
        (
            [{"changed deps": {"a.py": "modified"}}, {"changed outs": {"o": "deleted"}}],
            "a.py modified, o deleted",
        ),
        (
            [{"changed deps": {str(at): "modified" for at in range(5)}}],
            "0 modified, 1 modified, 2 modified and 2 more",
        ),
        ([{"changed deps": {"a.py": "modified", "params.yaml": "new"}}], "never ran before"),
    ],
)
def test_reasons_are_phrases(entries: list[object], said: str) -> None:
    assert explain(entries) == said


def test_dvc_says_which_stages_it_had() -> None:
    assert had_cached("Stage 'train@d-x' didn't change, skipping") == "train@d-x"
    assert had_cached("Stage 'train@d-x' is cached - skipping run, checking out outputs") == "train@d-x"
    assert had_cached("Running stage 'train@d-x':") is None


def unit(name: str, *upstream: str, cost: float = 1.0) -> Unit:
    return Unit(name, (name,), frozenset(upstream), "", cost)


DIAMOND = [unit("a"), unit("b", "a", cost=9), unit("c", "a"), unit("d", "b", "c"), unit("e", "a")]


def test_the_longest_chain_starts_first() -> None:
    longest = urgency(DIAMOND)
    assert longest == {"a": 11, "b": 10, "c": 2, "d": 1, "e": 1}
    schedule = Schedule(DIAMOND, workers=2)
    schedule.start()
    schedule.finish("a")
    assert [each.name for each in schedule.start()] == ["b", "c"]


def test_a_failure_takes_with_it_only_what_depends_on_it() -> None:
    schedule = Schedule(DIAMOND, workers=9)
    schedule.start()
    schedule.finish("a")
    assert {each.name for each in schedule.start()} == {"b", "c", "e"}
    schedule.finish("b", failed=True)
    schedule.finish("c")
    schedule.finish("e")
    assert schedule.start() == []
    assert (schedule.failed, schedule.skipped, schedule.done) == ({"b"}, {"d"}, {"a", "c", "e"})


def test_training_waits_for_a_gpu_and_the_rest_does_not() -> None:
    work = [unit("train@d-x"), unit("train@d-y"), unit("floors@d")]
    schedule = Schedule(work, workers=9, gpu_slots=1)
    assert [each.name for each in schedule.start()] == ["train@d-x", "floors@d"]
    schedule.finish("train@d-x")
    assert [each.name for each in schedule.start()] == ["train@d-y"]


@given(
    st.integers(1, 12).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=30),
            st.sets(st.integers(0, count - 1)),
            st.integers(1, 4),
        )
    )
)
def test_every_unit_ends_done_failed_or_skipped(
    case: tuple[int, list[tuple[int, int]], set[int], int],
) -> None:
    count, pairs, failing, workers = case
    edges = [(low, high) for low, high in pairs if low < high]
    work = [
        unit(f"{at:02}", *(f"{low:02}" for low, high in edges if high == at), cost=1 + at % 3)
        for at in range(count)
    ]
    schedule = Schedule(work, workers)
    running: list[str] = []
    while True:
        for each in schedule.start():
            assert each.upstream <= schedule.done
            running.append(each.name)
        if not running:
            break
        assert len(running) <= workers
        name = running.pop()
        schedule.finish(name, failed=int(name) in failing)
    assert schedule.done | schedule.failed | schedule.skipped == {each.name for each in work}
    for each in work:
        hit = bool(each.upstream & (schedule.failed | schedule.skipped))
        assert (each.name in schedule.skipped) == hit


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (("train@my-data-sparse", "evaluate@my-data-sparse"), {"train", "evaluate", "my-data", "sparse"}),
        (("compare@my-data",), {"compare", "my-data"}),
        (("report",), {"report"}),
    ],
)
def test_tags_are_verbs_dataset_variant_and_gpu(stages: tuple[str, ...], expected: set[str]) -> None:
    unit = Unit(stages[0], stages, frozenset(), "")
    assert tags(unit, on_gpu=False) == expected
    assert tags(unit, on_gpu=True) == expected | ({"gpu"} if "train" in expected else set())


BUSY = """
ERROR: 'models/digits' is busy, it is being blocked by:
  (PID 71): /bin/dvc repro
  (PID 71): /bin/dvc repro

If there are no processes with such PIDs, you can manually remove '/project/.dvc/tmp/rwlock' and try again.
"""


def test_who_blocks_is_named_once() -> None:
    assert blocked_by(BUSY.splitlines()) == "(PID 71): /bin/dvc repro"
    assert blocked_by(["ERROR: failed to reproduce 'a'"]) is None


def test_a_schedule_says_how_far_it_is() -> None:
    schedule = Schedule(DIAMOND, workers=9)
    schedule.start()
    assert (str(schedule), schedule.ended()) == ("0 of 5 done, 1 running", 0)
    schedule.finish("a")
    schedule.start()
    schedule.finish("b", failed=True)
    assert str(schedule) == "1 of 5 done, 2 running, 1 failed, 1 not started for it"
    assert schedule.ended() == 60
