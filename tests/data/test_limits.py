"""Each limit, met and broken; none of it depends on how the rows are cut into parts."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.config import Expectations, Params, Source, parse
from latentops.data import leaks, splits, table
from latentops.data import profile as profiles
from latentops.data.detection import Said, detect
from latentops.data.drift import distances
from latentops.data.expectations import acceptance, reasons, sifting, validation
from latentops.data.profile import Profile
from latentops.data.proposal import propose
from latentops.data.sources import read_source
from latentops.data.table import Layout, Rows
from latentops.errors import ConfigError, DataError

PEOPLE = Layout(
    "tabular",
    (3,),
    "class",
    ("age", "colour", "income"),
    ("numeric", "categorical", "numeric"),
    extras=("name", "problem"),
)
SOURCE = Source.model_validate(
    {
        "name": "file",
        "kind": "tabular",
        "label": "class",
        "files": [{"path": "people.csv", "sha256": "0" * 64}],
        "read": {"format": "csv"},
        "columns": dict(PEOPLE.columns()),
    }
)
Cells = dict[str, dict[int, object]]


def people(cells: Cells | None = None, rows: int = 60, seed: int = 0) -> pa.Table:
    """Rows with nothing wrong about them, but for `cells`: new values by column and row."""
    generator = np.random.default_rng(seed)
    values: dict[str, list[object]] = {
        "name": [f"p{at}" for at in range(rows)],
        "problem": [None] * rows,
        "class": ["yes" if at % 3 else "no" for at in range(rows)],
        "age": [20.0 + each for each in generator.permutation(rows)],
        "colour": [str(each) for each in generator.choice(["red", "blue"], rows)],
        "income": [float(each) for each in generator.normal(size=rows)],
    }
    for column, by_row in (cells or {}).items():
        for row, value in by_row.items():
            values[column][row] = value
    types = [field.type for field in PEOPLE.fields()]
    columns = [pa.array(each, type_) for each, type_ in zip(values.values(), types, strict=True)]
    return table.build(PEOPLE, "people.csv", columns)


def limits(**changed: object) -> Expectations:
    return parse(
        Expectations, {"min_rows": 1, "max_quarantined": 1.0, "classes": ["yes", "no"], **changed}, "limits"
    )


def held(raw: pa.Table, expected: Expectations, **options: Any) -> validation.Validated:
    return validation.validate(raw, "people", SOURCE, expected, **options)


def aside(validated: validation.Validated) -> dict[int, list[str]]:
    rows = validated.quarantined
    return dict(zip(rows.column(".position").to_pylist(), rows.column(".reasons").to_pylist(), strict=True))


def profile_of(raw: pa.Table, layout: Layout = PEOPLE) -> Profile:
    return profiles.profile(Rows(layout, [raw]))


BY_ROW: dict[str, tuple[dict[str, object], Cells, dict[int, list[str]]]] = {
    "a number is missing": ({}, {"age": {3: None}}, {3: ["age: missing or not finite"]}),
    "it may be": ({"missing": {"age": 0.1}}, {"age": {3: None}}, {}),
    "it isn't finite": (
        {"missing": {"age": 0.1}},
        {"age": {2: float("nan"), 3: float("inf"), 4: float("-inf")}},
        {3: ["age: not finite"], 4: ["age: not finite"]},
    ),
    "one that may be missing is out of range": (
        {"missing": {"age": 0.1}, "columns": {"age": [0, 90]}},
        {"age": {3: None, 4: 90.5, 5: 90}},
        {4: ["age: outside [0, 90]"]},
    ),
    "a category is missing": ({}, {"colour": {0: None}}, {0: ["colour: missing"]}),
    "a category may be missing": ({"missing": {"colour": 0.1}}, {"colour": {0: None}}, {}),
    "a category isn't declared": (
        {"categories": {"colour": ["blue", "red"]}},
        {"colour": {5: "pink"}},
        {5: ["colour: not a declared category"]},
    ),
    "categories needn't be": ({}, {"colour": {5: "pink"}}, {}),
    "a value comes again": (
        {"unique": ["age"]},
        {"age": {7: -1.0, 8: -1.0, 40: -1.0}},
        {8: ["age: an earlier row has the same"], 40: ["age: an earlier row has the same"]},
    ),
    "values that are missing are not the same": (
        {"unique": ["age"], "missing": {"age": 0.1}},
        {"age": {7: None, 8: None}},
        {},
    ),
    "a name comes again": (
        {"unique": [".name"]},
        {"name": {59: "p0"}},
        {59: [".name: an earlier row has the same"]},
    ),
    "a whole row comes again": (
        {"unique": [".row"]},
        {
            "age": {3: 1.0, 9: 1.0, 12: 1.0},
            "colour": {3: "red", 9: "red", 12: "red"},
            "income": {3: 0.0, 9: -0.0, 12: 0.1},
        },
        {9: ["the same as an earlier row"]},
    ),
    "a row wasn't read": (
        {"unique": ["colour"], "categories": {"colour": ["red", "blue"]}, "missing": {"colour": 1}},
        {
            "problem": {2: "line 4: 3 cells, not 5", 9: "line 11: age: 'old' is no number"},
            "colour": {at: None for at in range(60) if at not in (2, 30)} | {2: "red", 30: "red"},
            "age": {2: None, 9: None},
        },
        {2: ["line 4: 3 cells, not 5"], 9: ["line 11: age: 'old' is no number"]},
    ),
}


@pytest.mark.parametrize("case", BY_ROW)
def test_a_row_that_breaks_a_limit_is_set_aside_with_the_reason(case: str) -> None:
    declared, cells, wanted = BY_ROW[case]
    validated = held(people(cells), limits(**declared))
    assert aside(validated) == wanted
    assert validated.clean.num_rows == 60 - len(wanted)
    assert sum(validated.summary["reasons"].values()) == sum(map(len, wanted.values()))


OF_THE_TABLE: dict[str, tuple[dict[str, object], Cells, str]] = {
    "too few": ({"min_rows": 61}, {}, "60 clean rows are fewer than min_rows = 61"),
    "too many": ({"max_rows": 59}, {}, "60 clean rows are more than max_rows = 59"),
    "too many set aside": (
        {"max_quarantined": 0.1},
        {"age": dict.fromkeys(range(10, 20), None)},
        r"10 of 60 rows \(16\.7%\): .*max_quarantined = 10\.0%: age: missing or not finite in 10 rows "
        r"\(people\.csv\[10\] = nan, people\.csv\[11\] = nan, people\.csv\[12\] = nan, …\)",
    ),
    "a class too rare": (
        {"min_class_share": 0.4},
        {},
        r"column 'class': a class is below .* = 40\.0%: 'no' has 20 of 60 rows \(33\.3%\)",
    ),
    "too much missing": (
        {"missing": {"age": 0.05, "income": 0.05}},
        {"age": dict.fromkeys(range(6), None)},
        r"column 'age': more of its values are missing than missing\.age = 5\.0%: 0\.1$",
    ),
    "a leak": (
        {"max_leak": 0.9},
        {"income": {at: float(at % 3 > 0) for at in range(60)}},
        "column 'income': alone it predicts the label better than max_leak = 0.9: 1",
    ),
}


@pytest.mark.parametrize("case", OF_THE_TABLE)
def test_a_table_that_breaks_a_limit_stops_and_one_that_meets_it_passes(case: str, tmp_path: Path) -> None:
    declared, cells, told = OF_THE_TABLE[case]
    with pytest.raises(DataError, match=told) as caught:
        held(people(cells), limits(**declared), docs=tmp_path)
    assert str(caught.value).startswith("people: ")
    assert "Stopped" in (tmp_path / "index.html").read_text(encoding="utf-8")
    if cells:
        held(people(), limits(**declared))
    else:
        held(people(cells), limits())


def test_limits_on_what_is_not_there_are_refused() -> None:
    for declared, told in (
        ({"columns": {"colour": [0, 1]}}, r"expectations\.columns: .* no column of numbers 'colour'"),
        ({"categories": {"age": ["1"]}}, r"expectations\.categories: .* no column of categories 'age'"),
        ({"missing": {"agee": 0.1}}, r"expectations\.missing: .*did you mean 'age'"),
        ({"unique": [".group"]}, r"expectations\.unique: .* no column '\.group'"),
    ):
        with pytest.raises(ConfigError, match=told):
            held(people(), limits(**declared))


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"classes": ["yes"]}, "name at least two"),
        ({"classes": [], "min_class_share": 0.1}, "need classes"),
        ({"max_rows": 1, "min_rows": 2}, "max_rows: 1 is below min_rows: 2"),
        ({"columns": {"age": [2, 1]}}, r"columns\.age: \[2, 1\]"),
        ({"lengths": [9, 3]}, r"lengths: \[9, 3\]"),
    ],
)
def test_limits_that_nothing_can_meet_are_refused(declared: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        limits(**declared)


def test_rows_without_a_label_are_held_to_the_other_limits() -> None:
    layout = Layout("tabular", (1,), None, ("x",))
    source = SOURCE.model_copy(update={"label": None, "columns": {"x": "numeric"}})
    raw = table.build(layout, "f.csv", [pa.array([1.0, None, 3.0])])
    found = validation.validate(raw, "plain", source, limits(classes=[]))
    assert aside(found) == {1: ["x: missing or not finite"]}
    assert found.profile.classes == {}
    assert found.summary["columns"][0]["predicts"] is None


def test_a_row_without_its_time_is_set_aside_where_it_would_be_split_by_it() -> None:
    layout = Layout("tabular", (1,), "class", ("x",), extras=("time", "problem"))
    source = SOURCE.model_copy(update={"time": "when", "columns": {"x": "numeric"}})
    columns = [[0.0, None, 2.0], [None, None, None], ["yes", "no", "no"], [1.0, 2.0, 3.0]]
    arrays = [pa.array(each, field.type) for each, field in zip(columns, layout.fields(), strict=True)]
    raw = table.build(layout, "f.csv", arrays)
    for limit in ("dataset", "rows"):
        found = validation.validate(raw, "timed", source, limits(), limits=limit)  # type: ignore[arg-type]
        assert aside(found) == {1: ["when: missing"]}
    scored = raw.drop_columns(["class"])
    assert not aside(validation.validate(scored, "timed", source, limits(), limits="samples"))


def messy(rows: int = 90) -> pa.Table:
    """A bit of everything that can be wrong."""
    cells: Cells = {
        "age": {at: [None, float("inf"), 500.0, 21.0][at % 4] for at in range(0, rows, 5)},
        "colour": {at: [None, "pink"][at % 2] for at in range(0, rows, 7)},
        "class": {at: [None, "perhaps"][at % 2] for at in range(0, rows, 11)},
        "problem": {at: f"line {at}: broken" for at in range(0, rows, 13)},
    }
    return people(cells, rows)


MESSY = limits(
    columns={"age": [0, 200]},
    categories={"colour": ["red", "blue"]},
    missing={"age": 0.9},
    unique=["age", ".row"],
)


@pytest.mark.parametrize("size", [7, 33])
def test_parts_make_no_difference(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = messy()
    whole = held(raw, MESSY)
    table.write_parts(tmp_path / "raw", [raw.slice(at, size) for at in range(0, 90, size)], raw.schema)
    monkeypatch.setattr(sifting, "_AT_ONCE", 40)
    found = validation.validate_stored(
        table.Stored(tmp_path / "raw", "ingest"),
        "people",
        SOURCE,
        MESSY,
        clean=tmp_path / "clean",
        quarantined=tmp_path / "quarantine",
    )
    assert found == sifting.Found(whole.summary, whole.profile)
    assert table.read(tmp_path / "clean", "validate").equals(whole.clean)
    assert table.read(tmp_path / "quarantine", "validate").equals(whole.quarantined)
    assert whole.quarantined.num_rows > 20


def test_a_stop_leaves_the_files_as_they_were(tmp_path: Path) -> None:
    table.write(tmp_path / "raw", messy())
    (tmp_path / "clean").write_text("as it was")
    with pytest.raises(DataError, match="max_quarantined"):
        validation.validate_stored(
            table.Stored(tmp_path / "raw", "ingest"),
            "people",
            SOURCE,
            MESSY.model_copy(update={"max_quarantined": 0.01}),
            clean=tmp_path / "clean",
            quarantined=tmp_path / "quarantine",
        )
    assert (tmp_path / "clean").read_text() == "as it was"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["clean", "raw"]


AGES = st.none() | st.sampled_from([1.0, 2.0, float("nan"), float("inf")]) | st.floats(-1e3, 1e3)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            AGES,
            st.sampled_from([None, "red", "blue", "pink"]),
            st.sampled_from([None, "yes", "no", "?"]),
            st.sampled_from([None, None, "broken"]),
        ),
        max_size=40,
    )
)
def test_no_row_is_lost(rows: list[tuple[float | None, str | None, str | None, str | None]]) -> None:
    ages, colours, classes, problems = zip(*rows, strict=True) if rows else ((), (), (), ())
    cells: Cells = {
        name: dict(enumerate(values))
        for name, values in zip(
            ("age", "colour", "class", "problem"), (ages, colours, classes, problems), strict=True
        )
    }
    raw = people(cells, len(rows))
    found = held(raw, MESSY, limits="rows")
    where = [*found.clean.column(".position").to_pylist(), *aside(found)]
    assert sorted(where) == list(range(len(rows)))
    assert all(aside(found).values())
    for at, (age, colour, name, problem) in enumerate(rows):
        good = (
            problem is None
            and name in ("yes", "no")
            and colour in ("red", "blue")
            and (age is None or age != age or 0 <= age <= 200)
        )
        assert good or at in aside(found)


def test_many_reasons_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "_LISTED", 2)
    problems: Cells = {"problem": {at: "torn" if at % 2 else f"line {at}: odd" for at in range(20)}}
    found = held(people(problems), limits()).summary["reasons"]
    assert found == {"torn": 10, "line 0: odd": 1, "other reasons": 9}


def test_what_is_wrong_with_a_column_is_one_reason_whatever_its_cells() -> None:
    odd = 'it\'s "x"'
    what = "is not a date in ISO 8601; say in read.dates how it is"
    problems: dict[int, object] = {at: f"column {odd!r}: '{at}.13.2021' {what}" for at in range(30)}
    old = "column 'age': 'old' is not a number"
    problems |= {at: f'{problems[at]}; column "d\'or": "l\'or{at}" is odd; {old}' for at in range(10)}
    problems |= {at: f"row {at}: column 'age': '{at} or so' is not a number" for at in range(30, 34)}
    problems |= {34: "3 cells, expected 5"}
    cells: Cells = {"problem": problems}
    found = held(people(cells), limits())
    assert found.summary["reasons"] == {
        f"column {odd!r}: a value such as '0.13.2021' {what}": 30,
        "column 'age': a value such as 'old' is not a number": 14,
        'column "d\'or": a value such as "l\'or0" is odd': 10,
        "3 cells, expected 5": 1,
    }
    assert aside(found)[0] == [problems[0]], "the row itself has its own"
    for changed in ({"max_quarantined": 0.1}, {"min_rows": 60}):
        with pytest.raises(DataError, match=r"set aside most often, 30 times: column .*'0\.13\.2021' is not"):
            held(people(cells), limits(**changed))


def test_the_same_rows_have_not_moved_and_others_have() -> None:
    accepted = profile_of(people(rows=400))
    assert set(distances(accepted, accepted).values()) == {0}
    drawn_again = distances(accepted, profile_of(people(rows=400, seed=1)))
    assert max(drawn_again.values()) < 0.2
    shifted = people(rows=400, cells={"income": {at: at / 400 + 2 for at in range(400)}})
    assert distances(accepted, profile_of(shifted))["income"] > 0.9
    recoloured = people(rows=400, cells={"colour": dict.fromkeys(range(300), "green")})
    moved = distances(accepted, profile_of(recoloured))
    assert moved["colour"] == pytest.approx(0.75, abs=0.01)
    assert moved["class"] == moved["age"] == 0
    gone = people(rows=400, cells={"age": dict.fromkeys(range(100), None)})
    assert distances(accepted, profile_of(gone))["age"] == 0.25


def test_drift_stops_with_the_column_the_distance_and_the_limit(tmp_path: Path) -> None:
    accepted = profile_of(people(rows=200))
    close = limits(max_drift=0.3)
    same = held(people(rows=200), close, accepted=accepted)
    assert [each["moved"] for each in same.summary["columns"]] == [0, 0, 0]
    shifted = people(rows=200, cells={"income": {at: 9.0 + at for at in range(200)}})
    with pytest.raises(DataError, match=r"column 'income': .* above max_drift = 0\.3; .*: 1$") as caught:
        held(shifted, close, accepted=accepted, docs=tmp_path)
    assert "'age'" not in str(caught.value)
    page = next((tmp_path / "validations/drift").rglob("*.html")).read_text(encoding="utf-8")
    assert "distance from the version accepted last must be at most" in page
    told = held(shifted, limits(), accepted=accepted).summary
    assert {each["name"]: each["moved"] for each in told["columns"]}["income"] == 1
    assert held(shifted, close).summary["accepted"] is None, "nothing accepted, nothing to be far from"


def test_accepting_keeps_the_profile_of_clean_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert acceptance.accepted("people") is None
    table.write(tmp_path / "raw", people({"age": {3: None}}))
    taken = acceptance.accept(table.Stored(tmp_path / "raw", "ingest"), "people", SOURCE, limits())
    assert taken.rows == 59
    kept = acceptance.accepted("people")
    assert kept is not None
    assert set(distances(kept, taken).values()) == {0}


def planted(rows: int = 300) -> tuple[dict[str, Any], np.ndarray]:
    """Columns that know a rare class: as a number, as a category, by what is missing; and some that don't."""
    generator = np.random.default_rng(0)
    rare = np.arange(rows) % 30 < 2
    columns = {
        "number": rare + generator.uniform(0, 0.5, rows),
        "band": np.abs(generator.normal(size=rows)) + 5 * rare * generator.choice([-1, 1], rows),
        "category": np.where(rare, generator.choice(["a", "b"], rows), generator.choice(["c", "d"], rows)),
        "gap": np.where(rare, np.nan, 1.0),
        "noise": generator.normal(size=rows),
        "id": np.array([f"id{at}" for at in range(rows)]),
        "constant": np.ones(rows),
    }
    columns = {
        name: each.astype(object) if each.dtype.kind == "U" else each for name, each in columns.items()
    }
    return columns, np.where(rare, "rare", "usual").astype(object)


def test_planted_leaks_are_found_and_nothing_else() -> None:
    skills = leaks.predictive(*planted())
    assert {name for name, skill in skills.items() if skill >= 0.95} == {"number", "band", "category", "gap"}
    assert max(skills[name] for name in ("noise", "id", "constant")) < 0.3


def test_a_leak_is_no_leak_of_shuffled_labels() -> None:
    columns, labels = planted()
    skills = leaks.predictive(columns, np.random.default_rng(1).permutation(labels))
    assert max(skills.values()) < 0.4


def test_labels_that_say_nothing_are_passed_over() -> None:
    columns, labels = planted()
    assert leaks.predictive(columns, np.full(len(labels), None, object)) == {}
    assert leaks.predictive(columns, np.where(labels == "rare", None, labels)) == {}


def test_flags_name_leaks_constants_and_repeated_rows(tmp_path: Path) -> None:
    cells: Cells = {
        "colour": dict.fromkeys(range(60), "red"),
        "age": {4: -1.0, 7: -1.0},
        "income": {at: float(at % 3 > 0) for at in range(60)},
    }
    found = held(people(cells), limits(), docs=tmp_path)
    flags = found.summary["flags"]
    assert [flag.split(":")[0] for flag in flags] == [
        "income",
        "colour",
        "clean rows that are the same as an earlier one",
    ]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(flag in page for flag in flags)


def test_no_embedded_column_is_flagged(
    params: Params, raw_tables: dict[str, pa.Table], dataset_name: str
) -> None:
    dataset = params.dataset(dataset_name)
    found = validation.validate(raw_tables[dataset_name], dataset_name, dataset.source, dataset.expectations)
    assert found.summary["flags"] == []


def test_a_split_without_a_class_stops_with_both_names() -> None:
    assigned = np.repeat(np.arange(4), [6, 2, 1, 1])
    rows = splits.counts(assigned, ["a", "b"], np.arange(10) % 2)
    with pytest.raises(
        DataError, match=r"set: split 'calibration' has 0 rows of class 'b'.*min_split_rows = 1"
    ):
        splits.check_classes("set", rows, 1)
    with pytest.raises(DataError, match="split 'test' has 0 rows of class 'a'"):
        splits.check_classes("set", rows, 1, uncalibrated={"b"})
    splits.check_classes("set", rows, 0)


def test_pictures_are_held_to_the_sizes_that_they_had(tmp_path: Path) -> None:
    from PIL import Image

    for at, (height, width) in enumerate([(40, 30), (60, 50), (9, 50), (60, 300)]):
        folder = tmp_path / "pictures" / "ab"[at % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(at).integers(0, 255, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
    found = detect(tmp_path / "pictures", Said())
    rows = read_source(found.source).whole()
    expected = {"min_rows": 1, "max_quarantined": 1.0, "classes": ["a", "b"], "sizes": [[20, 20], [100, 100]]}
    limits = parse(Expectations, expected, "expectations")
    made = validation.validate(rows, "pictures", found.source, limits)
    told = dict(
        zip(
            made.quarantined.column(".name").to_pylist(),
            made.quarantined.column(".reasons").to_pylist(),
            strict=True,
        )
    )
    assert told == {
        "a/2.png": [".height: outside [20, 100]"],
        "b/3.png": [".width: outside [20, 100]"],
    }
    assert made.profile.sizes == ((40, 30), (60, 50))
    assert propose(made.profile)["sizes"] == [[20, 15], [120, 100]]
    digits = Layout("image", (1, 1, 1), "label")
    bare = table.build(digits, "x", [pa.array(["a"]), pa.array([[1.0]])])
    with pytest.raises(ConfigError, match="only pictures in a folder have sizes"):
        validation.validate(bare, "pictures", found.source, limits)
