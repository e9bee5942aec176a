import hashlib
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentops.config import Dataset
from latentops.data import splits, table
from latentops.data.prepared import SPLITS

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


def assign(contents: list[int], sources: list[str], seed: int) -> NDArray[np.int64]:
    return splits.assign(digests(contents), sources, classes_of(contents), seed=seed, **SHARES)


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
        ids,
        ["embedded"] * len(names),
        names.tolist(),
        seed=share.seed,
        stop=share.stop,
        calibration=share.calibration,
        test=share.test,
        uncalibrated=uncalibrated,
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
