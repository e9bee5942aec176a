"""What a profile says of rows is so, however they are cut; what is proposed from it lets every row pass."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.config import Expectations, Params, parse
from latentops.data import profile as profiles
from latentops.data import sources, table
from latentops.data.profile import Profile, profile
from latentops.data.proposal import propose
from latentops.data.table import Layout, Rows
from latentops.errors import DataError

MIXED = Layout("tabular", (3,), "class", ("size", "colour", "same"), ("numeric", "categorical", "numeric"))


def mixed(rows: int, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    sizes = generator.normal(10, 2, rows)
    sizes[::10] = np.nan
    return table.build(
        MIXED,
        "mixed.csv",
        [
            pa.array([str(each) for each in generator.choice(["a", "b"], rows, p=[0.9, 0.1])]),
            pa.array(sizes),
            pa.array([str(each) for each in generator.choice(["red", "green", "blue"], rows)]),
            pa.array(np.ones(rows)),
        ],
    )


def cut(rows: pa.Table, layout: Layout, size: int) -> Profile:
    return profile(Rows(layout, [rows.slice(at, size) for at in range(0, rows.num_rows, size)]))


@pytest.mark.parametrize("size", [1, 7, 150, 10_000])
def test_parts_make_no_difference(
    params: Params, raw_tables: dict[str, pa.Table], dataset_name: str, size: int
) -> None:
    raw = raw_tables[dataset_name].slice(0, 300)
    layout = table.layout_of(raw, params.dataset(dataset_name).source.label)
    assert cut(raw, layout, size) == cut(raw, layout, 300)


def test_a_sample_is_the_same_in_parts_and_keeps_rows_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "SAMPLED", 200)
    rows = mixed(1000)
    taken = []
    for size in (1000, 90):
        profiler = profiles.Profiler(MIXED)
        for at in range(0, 1000, size):
            profiler.add(rows.slice(at, size))
        columns, labels = profiler.sample()
        taken.append(set(zip(columns["size"], columns["colour"], labels, strict=True)))
    known = list(zip(*(rows.column(each).to_pylist() for each in ("size", "colour", "class")), strict=True))
    finite = [{row for row in each if row[0] == row[0]} for each in taken]
    assert finite[0] == finite[1]
    assert finite[0] <= set(known)
    assert 150 < len(finite[0]) < 200, "200 rows, of which a tenth has no size"


def test_columns_are_described() -> None:
    rows = mixed(1000)
    rows = pa.concat_tables([rows, rows.slice(5, 3)])
    made = profile(Rows(MIXED, [rows]))
    size, colour, _ = made.columns
    known = np.array(rows.column("size"))
    assert made.rows == 1003
    distinct = {repr(row) for row in rows.drop_columns([".position"]).to_pylist()}
    assert made.duplicates == 1003 - len(distinct) > 3
    assert (size.least, size.greatest) == (
        pytest.approx(np.nanmin(known)),
        pytest.approx(np.nanmax(known)),
    )
    assert size.median == pytest.approx(np.nanmedian(known), abs=0.05)
    assert size.missing == pytest.approx(np.isnan(known).mean())
    assert sum(colour.categories.values()) == 1003
    assert list(colour.categories.values()) == sorted(colour.categories.values(), reverse=True)
    assert [each.constant for each in made.columns] == [False, False, True]
    assert sum(made.classes.values()) == 1003
    assert made.preview[1]["colour"] == rows.column("colour")[1].as_py()
    assert len(made.preview) == profiles.SHOWN


def test_quantiles_of_repeated_rows_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample by content would have all of a value's rows or none."""
    monkeypatch.setattr(profiles, "SAMPLED", 300)
    layout = Layout("tabular", (1,), None, ("x",))
    values = np.repeat([0.0, 1.0], 2000)
    made = profile(Rows(layout, [table.build(layout, "f", [pa.array(values)])]))
    assert 0.4 < np.mean(made.columns[0].quantiles) < 0.6


def test_many_values_are_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "COUNTED", 50)
    layout = Layout("tabular", (2,), None, ("x", "y"), ("numeric", "categorical"))
    rows = table.build(
        layout, "f", [pa.array(np.arange(400.0)), pa.array([str(each) for each in range(400)])]
    )
    assert [each.distinct for each in cut(rows, layout, 60).columns] == [50, 50]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    made = profile(Rows(MIXED, [mixed(100)]))
    path = tmp_path / "profile.json"
    assert profiles.read(path) is None
    profiles.write(path, made)
    assert profiles.read(path) == replace(made, preview=())
    path.write_text('{"rows": "many"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"profile\.json: not the profile of a dataset"):
        profiles.read(path)


def test_lengths_and_values_of_sequences(raw_tables: dict[str, pa.Table], params: Params) -> None:
    raw = raw_tables["digit_columns"]
    made = profile(Rows(table.layout_of(raw, "digit"), [raw]))
    steps = [len(each) // 8 for each in raw.column("values").to_pylist()]
    assert made.lengths == (min(steps), int(np.median(steps)), max(steps))
    assert made.value_range == (0, 16)


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "digit_columns"])
def test_a_proposal_is_a_section_that_the_rows_themselves_pass(params: Params, name: str) -> None:
    rows = sources.read_source(params.dataset(name).source)
    made = profile(Rows(rows.layout, list(rows.parts)))
    section = parse(Expectations, propose(made), "expectations")
    assert section.min_rows <= made.rows
    assert section.classes == sorted(made.classes)
    assert section.min_class_share < min(made.classes.values()) / made.rows
    for column, (low, high) in section.columns.items():
        found = made.column(column)
        assert low <= (found.least or 0) < (found.greatest or 0) <= high


@settings(deadline=None)  # other tests run beside it
@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=2, max_size=30))
def test_a_proposed_range_holds_what_was_found(values: list[float]) -> None:
    layout = Layout("tabular", (1,), None, ("x",))
    section = propose(profile(Rows(layout, [table.build(layout, "f", [pa.array(values)])])))
    for low, high in section.get("columns", {}).values():  # type: ignore[attr-defined]
        assert low <= min(values)
        assert high >= max(values)


def test_missing_values_and_categories_are_proposed() -> None:
    section = propose(profile(Rows(MIXED, [mixed(1000)])))
    assert section["categories"] == {"colour": ["blue", "green", "red"]}
    assert section["missing"] == {"size": pytest.approx(0.17)}
    assert list(section["columns"]) == ["size"], "a constant column has no limit"  # type: ignore[call-overload]
