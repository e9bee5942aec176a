import hashlib
from collections import Counter
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentops.config import Dataset
from latentops.data import splits, table
from latentops.data.prepared import SPLITS
from latentops.data.splits import Shares

By = Literal["rank", "hash", "time"]

SHARES = {"stop": 0.15, "calibration": 0.1, "test": 0.25}
EXACT = {"train": 0.5, **SHARES}


def digests(contents: list[int]) -> NDArray[np.uint8]:
    data = b"".join(hashlib.sha256(str(each).encode()).digest() for each in contents)
    return np.frombuffer(data, np.uint8).reshape(-1, 32)


# Rows as (content, class), the class a function of the content as it is in a content hash.
rows_of = st.lists(st.integers(0, 400), min_size=1, max_size=120)
seeds = st.integers(0, 2**31)


def classes_of(contents: list[int]) -> list[str]:
    return [str(each % 3) for each in contents]


def assign(
    contents: list[int], sources: list[str], seed: int, by: By = "rank", **options: Any
) -> NDArray[np.int8]:
    united = {name: options.pop(name) for name in ("groups", "names", "alike") if name in options}
    units = splits.unite(digests(contents), seed=seed, **united)
    strata, stratum = coded(sources, classes_of(contents))
    return splits.assign(units, Shares(seed, **SHARES), by, strata, stratum, **options)


def coded(sources: list[str], names: list[str]) -> tuple[list[tuple[str, str]], NDArray[np.int64]]:
    pairs = list(zip(sources, names, strict=True))
    strata = sorted(set(pairs))
    return strata, np.array([strata.index(pair) for pair in pairs])


@given(contents=rows_of, seed=seeds, data=st.data())
def test_the_order_of_rows_plays_no_part(contents: list[int], seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(contents))))
    sources = ["embedded"] * len(contents)
    before = assign(contents, sources, seed)
    assert np.array_equal(assign([contents[at] for at in order], sources, seed), before[order])


@given(old=rows_of, new=rows_of, seed=seeds)
def test_rows_that_come_later_move_none(old: list[int], new: list[int], seed: int) -> None:
    sources = ["embedded"] * len(old) + ["0123.parquet"] * len(new)
    together = assign([*old, *new], sources, seed)
    assert np.array_equal(together[: len(old)], assign(old, sources[: len(old)], seed))


@given(contents=rows_of, seed=seeds)
def test_duplicates_are_on_one_side(contents: list[int], seed: int) -> None:
    doubled = [*contents, *contents]
    sources = ["embedded"] * len(contents) + ["0123.parquet"] * len(contents)
    assigned = assign(doubled, sources, seed)
    assert np.array_equal(assigned[: len(contents)], assigned[len(contents) :])
    sides: dict[int, set[int]] = {}
    for content, at in zip(doubled, assigned.tolist(), strict=True):
        sides.setdefault(content, set()).add(at)
    assert all(len(side) == 1 for side in sides.values())


@given(contents=st.sets(st.integers(0, 1000), min_size=1, max_size=200), seed=seeds)
def test_every_class_has_its_shares_to_within_one_row(contents: set[int], seed: int) -> None:
    rows = sorted(contents)
    assigned = assign(rows, ["embedded"] * len(rows), seed)
    names = np.array(classes_of(rows))
    for name in set(names.tolist()):
        counts = Counter(assigned[names == name].tolist())
        for at, split in enumerate(SPLITS):
            assert abs(counts[at] - EXACT[split] * (names == name).sum()) < 1 + 1e-9


def test_another_seed_is_another_split() -> None:
    contents = list(range(300))
    sources = ["embedded"] * 300
    assert (assign(contents, sources, 0) != assign(contents, sources, 1)).mean() > 0.3


def test_a_split_is_no_function_of_the_values() -> None:
    # What is sampled for test looks like the rest: 900 rows, means within four standard errors.
    contents = list(range(900))
    test = assign(contents, ["embedded"] * 900, 0) == SPLITS.index("test")
    error = np.std(contents) / np.sqrt(test.sum())
    assert abs(np.array(contents)[test].mean() - np.mean(contents)) < 4 * error


def test_embedded_splits_are_stratified_and_calibration_holds_normals_where_anomalies_are_known(
    raw: pa.Table, dataset: Dataset
) -> None:
    layout = table.layout_of(raw, dataset.source.label)
    names = np.array(table.labels(raw, layout))
    ids = table.content_hashes(raw, layout)
    share = dataset.split
    uncalibrated = set(dataset.expectations.classes) - set(dataset.normal) if dataset.anomalies else set()
    assigned = splits.assign(
        splits.unite(ids, seed=share.seed),
        Shares(share.seed, share.stop, share.calibration, float(share.test)),
        "rank",
        *coded(["embedded"] * len(names), names.tolist()),
        uncalibrated=np.isin(names, list(uncalibrated)),
    )
    rows = splits.indices(assigned)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(names)))
    assert not uncalibrated & set(names[rows["calibration"]].tolist())
    for name in dataset.expectations.classes:
        total = int((names == name).sum())
        moved = share.calibration if name in uncalibrated else 0.0
        exact = {"stop": share.stop, "calibration": share.calibration - moved, "test": share.test + moved}
        for split, part in exact.items():
            assert abs(int((names[rows[split]] == name).sum()) - part * total) < 1 + 1e-9


@given(old=rows_of, new=rows_of, seed=seeds)
def test_by_its_own_hash_a_row_stays_put_also_in_a_file_that_grows(
    old: list[int], new: list[int], seed: int
) -> None:
    sources = ["mine.csv"] * (len(old) + len(new))
    together = assign([*old, *new], sources, seed, "hash")
    assert np.array_equal(together[: len(old)], assign(old, sources[: len(old)], seed, "hash"))


def test_by_its_own_hash_the_shares_are_kept_up_to_chance() -> None:
    assigned = assign(list(range(4000)), ["mine.csv"] * 4000, 0, "hash")
    for at, split in enumerate(SPLITS):
        exact = EXACT[split]
        assert abs((assigned == at).mean() - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


@given(contents=rows_of, seed=seeds, by=st.sampled_from(["rank", "hash"]), data=st.data())
def test_a_group_is_on_one_side(contents: list[int], seed: int, by: By, data: st.DataObject) -> None:
    groups = np.array(data.draw(st.lists(st.integers(-1, 9), min_size=len(contents), max_size=len(contents))))
    names = [f"patient {at}" for at in range(10)]
    assigned = assign(contents, ["x.csv"] * len(contents), seed, by, groups=groups, names=names)
    for group in range(10):
        assert len(set(assigned[groups == group].tolist())) <= 1


@given(contents=rows_of, seed=seeds, data=st.data())
def test_what_is_alike_is_on_one_side_through_others_too(
    contents: list[int], seed: int, data: st.DataObject
) -> None:
    row = st.integers(0, len(contents) - 1)
    pairs = data.draw(st.lists(st.tuples(row, row), max_size=30))
    assigned = assign(contents, ["x.csv"] * len(contents), seed, alike=pairs)
    assert all(assigned[one] == assigned[other] for one, other in pairs)


@given(contents=rows_of, seed=seeds, data=st.data())
def test_by_time_no_split_begins_before_the_one_before_it_ends(
    contents: list[int], seed: int, data: st.DataObject
) -> None:
    distinct = sorted(set(contents))
    times = np.array(data.draw(st.lists(st.integers(0, 50), min_size=len(distinct), max_size=len(distinct))))
    assigned = assign(distinct, ["x.csv"] * len(distinct), seed, "time", times=times.astype(float))
    order = np.argsort(times, kind="stable")
    assert (np.diff(assigned[order]) >= 0).all()
    for moment in np.unique(times):
        assert len(set(assigned[times == moment].tolist())) == 1


def test_by_time_cuts_are_moments_and_later_rows_move_none() -> None:
    times = np.arange(100.0)
    cut = [50.0, 70.0, 80.0]
    assigned = assign(list(range(100)), ["x.csv"] * 100, 0, "time", times=times, cuts=cut)
    assert np.bincount(assigned).tolist() == [50, 20, 10, 20]
    more = assign(list(range(150)), ["x.csv"] * 150, 0, "time", times=np.arange(150.0), cuts=cut)
    assert np.array_equal(more[:100], assigned)


@given(contents=rows_of, seed=seeds, data=st.data())
def test_an_official_test_part_is_test_and_so_is_what_equals_one_of_its_rows(
    contents: list[int], seed: int, data: st.DataObject
) -> None:
    tested = np.array(data.draw(st.lists(st.booleans(), min_size=len(contents), max_size=len(contents))))
    sources = ["train.csv" if not each else "test.csv" for each in tested.tolist()]
    units = splits.unite(digests(contents), seed=seed)
    shares = Shares(seed, stop=0.2, calibration=0.2, test=0.0)
    strata, stratum = coded(sources, classes_of(contents))
    assigned = splits.assign(units, shares, "rank", strata, stratum, tested=tested)
    known = {content for content, test in zip(contents, tested.tolist(), strict=True) if test}
    for content, at in zip(contents, assigned.tolist(), strict=True):
        assert (at == SPLITS.index("test")) == (content in known)


def test_the_report_counts_what_was_kept_together() -> None:
    contents = [0, 3, 6, 3, 9]
    units = splits.unite(digests(contents), seed=0, alike=[(0, 2)])
    assigned = np.array([0, 1, 0, 1, 3])
    assert splits.counts(assigned, ["a", "b"], np.array([0, 1, 0, 1, 1])) == {
        "train": {"a": 2, "b": 0},
        "stop": {"a": 0, "b": 2},
        "calibration": {"a": 0, "b": 0},
        "test": {"a": 0, "b": 1},
    }
    assert splits.kept_together(units) == {"units": 3, "equal": 1, "related": 1}
