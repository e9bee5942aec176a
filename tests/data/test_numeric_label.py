"""A label that is a number, from the file to the prepared arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentops.config import Dataset, Expectations, Source, load_params, parse
from latentops.data import history, leaks, prepared, table
from latentops.data import profile as profiles
from latentops.data.detection import Said, detect
from latentops.data.drift import distances
from latentops.data.expectations import validation
from latentops.data.preparation import prepare
from latentops.data.prepared import SPLITS, UNLABELLED, Samples
from latentops.data.proposal import propose
from latentops.data.table import Stored
from latentops.errors import ConfigError, DataError
from tests.data.readers.made import read, rows, source

ROOT = Path(__file__).parents[2]
COLUMNS = {"size": "numeric", "make": "categorical"}
LIMITS = {"min_rows": 1, "max_quarantined": 1.0, "classes": []}


def houses(count: int = 120, seed: int = 0) -> list[tuple[str, str, str]]:
    """Size, make and price, the price told by the size but for some noise."""
    random = np.random.default_rng(seed)
    size = random.normal(100, 20, count)
    price = 1_000 * size + random.normal(0, 5_000, count)
    make = random.choice(["brick", "wood"], count)
    return [(f"{s:.1f}", m, f"{p:.2f}") for s, m, p in zip(size, make, price, strict=True)]


def write(path: Path, cells: list[tuple[str, str, str]]) -> Path:
    path.write_text("\n".join(["size,make,price", *(",".join(row) for row in cells)]) + "\n")
    return path


def of_csv(**changes: Any) -> Source:
    told = {"label": "price", "label_type": "numeric", "columns": COLUMNS, "read": {"format": "csv"}}
    return source("houses.csv", **(told | changes))


def settings(**changes: Any) -> Dataset:
    """A whole entry for such houses, made of one of the project's."""
    pattern = load_params(ROOT / "params.yaml").dataset("breast_cancer").model_dump(mode="json")
    entry = pattern | {
        "source": of_csv().model_dump(mode="json", exclude_defaults=True),
        "expectations": LIMITS,
        "likelihood": "mixed",
        "scaling": "standard",
        "normal": [],
        "primary": "r2",
    }
    return parse(Dataset, entry | changes, "datasets.houses")


@pytest.mark.parametrize("primary", ["r2", "none"])
def test_a_number_may_choose_the_champion_or_not(primary: str) -> None:
    assert settings(primary=primary).primary == primary


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"primary": "probe_accuracy"}, "is of classes, and source.label_type is numeric; use r2 or none"),
        ({"primary": "auroc"}, "is of classes, and source.label_type is numeric"),
        ({"normal": ["a"]}, r"normal names classes, and source.label_type is numeric; use normal: \[\]"),
        ({"expectations": LIMITS | {"classes": ["a", "b"]}}, "expectations.classes names classes"),
        (
            {"expectations": LIMITS | {"missing": {"price": 0.1}}},
            "a row without its label, price, is set aside",
        ),
    ],
)
def test_what_does_not_go_with_a_number_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(**changes)


def test_a_class_is_not_judged_as_a_number() -> None:
    changed = load_params(ROOT / "params.yaml").dataset("digits").model_dump(mode="json")
    with pytest.raises(
        ConfigError, match=r"primary: r2 is of a number; use .* or source.label_type: numeric"
    ):
        parse(Dataset, changed | {"primary": "r2"}, "datasets.digits")
    unlabelled = of_csv(label=None, label_type="categorical").model_dump(mode="json", exclude_unset=True)
    with pytest.raises(ConfigError, match=r"primary: r2 is of a label, and source\.label is null"):
        settings(source=unlabelled)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label": None}, "label_type: numeric is of a label, and label is null"),
        ({"read": {"format": "csv", "relabel": {"1": "2"}}}, "read.relabel is of classes"),
        ({"kind": "image", "columns": {}, "value_range": [0, 1], "read": {"format": "idx"}}, "classes; csv,"),
    ],
)
def test_a_source_that_has_no_number_for_a_label_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        of_csv(**changes)


def test_an_embedded_set_has_classes() -> None:
    digits = load_params(ROOT / "params.yaml").dataset("digits").source.model_dump(exclude_defaults=True)
    with pytest.raises(ConfigError, match="doesn't go with digits, whose labels are classes"):
        parse(Source, digits | {"label_type": "numeric"}, "source")


def test_each_format_gives_the_number_and_says_what_is_none(tmp_path: Path) -> None:
    prices = [1.5, 2000.0, -3.25]
    (tmp_path / "houses.csv").write_text("size,make,price\n1,a,1.5\n2,b,2000\n3,a,-3.25\n4,b,?\n5,b,much\n")
    table_ = {"size": [1.0, 2.0, 3.0], "make": ["a", "b", "a"], "price": prices}
    pq.write_table(pa.table(table_), tmp_path / "houses.parquet")
    np.savez(tmp_path / "houses.npz", X=np.eye(3), y=np.array(prices))
    steps = [f"{name},{price},{step}" for name, price in zip("abc", prices, strict=True) for step in (1, 2)]
    (tmp_path / "long.csv").write_text("\n".join(["id,price,v", *steps]) + "\n")
    head = (
        "@problemName x\n@timeStamps false\n@univariate true\n@classLabel false\n@targetLabel true\n@data\n"
    )
    (tmp_path / "x.ts").write_text(head + "".join(f"1,2,3:{price}\n" for price in (*prices, "?", "x")))
    numeric = {"label": "price", "label_type": "numeric"}
    csv = of_csv(read={"format": "csv", "missing": ["?"]})
    sequences = {"kind": "sequence", **numeric}
    for each in (
        csv,
        source("houses.parquet", columns=COLUMNS, read={"format": "parquet"}, **numeric),
        source("houses.npz", read={"format": "array"}, **numeric),
        source("long.csv", values=["v"], read={"format": "long", "id": "id"}, **sequences),
        source("x.ts", read={"format": "ts"}, **sequences),
    ):
        found = read(each, tmp_path)
        assert found.schema.field("price").type == pa.float64()
        assert found.column("price").to_pylist()[:3] == prices
        layout = table.layout_of(found, "price")
        assert layout.numeric_label
        assert layout == rows(each, tmp_path).layout
        assert table.labels(found, layout) == [None] * found.num_rows
    archive = source("x.ts", read={"format": "ts"}, **sequences)
    for text, each in (
        ("column 'price': 'much' is not a number", csv),
        ("label 'x' is not a number", archive),
    ):
        found = read(each, tmp_path)
        assert found.column("price").to_pylist()[3:] == [None, None]
        assert found.column(".problem").to_pylist()[3:] == [None, text]


def test_targets_of_an_archive_are_not_taken_for_classes(tmp_path: Path) -> None:
    (tmp_path / "x.ts").write_text("@univariate true\n@targetLabel true\n@data\n1,2:3.5\n")
    with pytest.raises(DataError, match=r"it has targets, not classes; set source\.label_type: numeric"):
        read(source("x.ts", kind="sequence", label="y", read={"format": "ts"}), tmp_path)
    assert read(source("x.ts", kind="sequence", read={"format": "ts"}), tmp_path).num_rows == 1


def raw(tmp_path: Path, cells: list[tuple[str, str, str]]) -> pa.Table:
    write(tmp_path / "houses.csv", cells)
    return read(of_csv(), tmp_path)


def limits(**changes: Any) -> Expectations:
    return parse(Expectations, LIMITS | changes, "expectations")


def test_a_row_whose_label_is_missing_or_no_finite_number_or_out_of_range_is_set_aside(
    tmp_path: Path,
) -> None:
    cells = houses()
    for at, price in ((3, ""), (5, "inf"), (7, "dear"), (9, "-1")):
        cells[at] = (*cells[at][:2], price)
    found = validation.validate(
        raw(tmp_path, cells), "houses", of_csv(), limits(columns={"price": [0, 1e6], "size": [0, 500]})
    )
    told = zip(
        found.quarantined.column(".position").to_pylist(),
        found.quarantined.column(".reasons").to_pylist(),
        strict=True,
    )
    assert dict(told) == {
        3: ["price: missing or not finite"],
        5: ["price: missing or not finite"],
        7: ["column 'price': 'dear' is not a number"],
        9: ["price: outside [0, 1e+06]"],
    }
    assert found.clean.num_rows == 116
    assert found.profile.unlabelled == 0


def test_a_label_that_is_scored_without_is_not_asked_for(tmp_path: Path) -> None:
    rows_ = raw(tmp_path, houses()).drop_columns("price")
    found = validation.validate(rows_, "houses", of_csv(), limits(), limits="samples")
    assert found.clean.num_rows == 120


def test_the_profile_has_the_label_as_its_last_column_however_rows_are_cut(tmp_path: Path) -> None:
    found = raw(tmp_path, [*houses(), ("1", "wood", "")])
    layout = table.layout_of(found, "price")
    whole = profiles.profile(table.Rows(layout, [found]))
    parts = profiles.profile(table.Rows(layout, [found.slice(0, 50), found.slice(50)]))
    assert whole == parts
    assert [each.name for each in whole.columns] == ["size", "make", "price"]
    assert [each.name for each in whole.inputs] == ["size", "make"]
    assert (whole.classes, whole.unlabelled) == ({}, 1)
    section = propose(whole)
    low, high = section["columns"]["price"]  # type: ignore[index]
    assert low < whole.column("price").least < whole.column("price").greatest < high  # type: ignore[operator]
    assert section["classes"] == []
    assert "missing" not in section
    profiles.write(tmp_path / "profile.json", whole)
    assert profiles.read(tmp_path / "profile.json").column("price") == whole.column("price")  # type: ignore[union-attr]


def test_a_label_that_moves_has_drifted(tmp_path: Path) -> None:
    moved = [(size, make, f"{float(price) + 50_000:.2f}") for size, make, price in houses()]
    before, after = (
        profiles.profile(table.Rows(table.layout_of(each, "price"), [each]))
        for each in (raw(tmp_path, houses()), raw(tmp_path, moved))
    )
    found = distances(before, after)
    assert found["size"] == found["make"] == 0
    assert found["price"] > 0.8
    assert set(distances(before, before).values()) == {0}


def test_rows_that_differ_in_the_label_alone_are_not_the_same(tmp_path: Path) -> None:
    found = raw(tmp_path, [("1", "wood", "5"), ("1", "wood", "5.0"), ("1", "wood", "6")])
    hashes = [each.tobytes() for each in table.content_hashes(found, table.layout_of(found, "price"))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_columns_that_know_the_label_are_found_and_no_others() -> None:
    random = np.random.default_rng(0)
    price = np.exp(random.normal(10, 1, 400))
    groups = np.searchsorted(np.quantile(price, np.linspace(0, 1, 31)[1:-1]), price)
    columns = {
        "in pounds": price * 0.4,
        "inverse": 1 / price,
        "band": np.array([f"band {each}" for each in groups], object),
        "related": np.log(price) + random.normal(size=400),
        "noise": random.normal(size=400),
        "id": np.array([f"id{at}" for at in range(400)], object),
        "constant": np.ones(400),
        "gaps": np.where(random.random(400) < 0.5, np.nan, 1.0),
    }
    skills = leaks.predictive(columns, price)
    assert {name for name, skill in skills.items() if skill >= 0.95} == {"in pounds", "inverse", "band"}
    assert 0.2 < skills["related"] < 0.8
    assert max(skills[name] for name in ("noise", "id", "constant", "gaps")) < 0.1
    assert leaks.predictive(columns, np.full(400, np.nan)) == leaks.predictive(columns, np.ones(400)) == {}
    one = price.copy()
    one[0] = 1e12
    assert leaks.predictive(columns, one)["in pounds"] >= 0.95, "an outlier decides nothing"


def test_a_leak_is_told_and_stops_where_it_is_to(tmp_path: Path) -> None:
    cells = [(f"{float(price) / 7:.3f}", make, price) for _, make, price in houses()]
    found = raw(tmp_path, cells)
    told = validation.validate(found, "houses", of_csv(), limits()).summary
    assert told["flags"] == [flag for flag in told["flags"] if flag.startswith("size: predicts the label")]
    assert len(told["flags"]) == 1
    with pytest.raises(DataError, match="'size': alone it predicts the label better than max_leak"):
        validation.validate(found, "houses", of_csv(), limits(max_leak=0.9))


def prepared_rows(tmp_path: Path) -> dict[str, Samples]:
    table.write(tmp_path / "clean.parquet", raw(tmp_path, [*houses(), *houses()[:30]]))
    clean = Stored(tmp_path / "clean.parquet", "validate@houses")
    report = prepare(clean, settings(), "houses", tmp_path / "made", tmp_path / "splits.parquet")
    assert report["equal"] == 30
    return {split: prepared.load(tmp_path / "made", split) for split in SPLITS}


def test_prepared_rows_keep_the_number_as_it_was_and_are_of_one_class(tmp_path: Path) -> None:
    found = prepared_rows(tmp_path)
    description = prepared.describe(tmp_path / "made")
    assert (description.target, description.classes) == ("price", (UNLABELLED,))
    assert "price" not in description.features
    targets = np.concatenate([each.targets for each in found.values()])  # type: ignore[misc]
    assert targets.dtype == np.float64
    assert sorted(targets) == sorted(float(price) for *_, price in [*houses(), *houses()[:30]])
    mean, scale = np.mean(targets), np.std(targets)
    for each in found.values():
        assert each.targets is not None
        assert np.corrcoef(each.values[:, 0], (each.targets - mean) / scale)[0, 1] > 0.9
        assert each.select(slice(2, 5)).targets.tolist() == each.targets[2:5].tolist()  # type: ignore[union-attr]
    sides = [{row.tobytes() for row in each.ids} for each in found.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 120, "equal rows are on one side"


def test_data_without_a_target_says_nothing_of_one(tmp_path: Path) -> None:
    """So that what was prepared before there were any stays the same bytes."""
    prepared_rows(tmp_path)
    description = prepared.describe(tmp_path / "made")
    assert prepared.Description.from_json(description.to_json()) == description
    rows_ = prepared.load(tmp_path / "made", "stop")
    plain = Samples(rows_.values, None, rows_.labels, rows_.ids)
    prepared.write(tmp_path / "plain", replace(description, target=None), {"stop": plain})
    assert not (tmp_path / "plain/stop/targets.npy").exists()
    assert "target" not in (tmp_path / "plain/dataset.json").read_text()
    assert prepared.load(tmp_path / "plain", "stop").targets is None


@pytest.mark.parametrize(
    ("labels", "type_"),
    [
        ([f"{1000 + 3.5 * at}" for at in range(60)], "numeric"),
        ([str(1000 + 13 * at) for at in range(60)], "numeric"),
        ([str(at % 30) for at in range(900)], "categorical"),  # whole numbers that come often
        ([f"{at % 30 / 4}" for at in range(900)], "numeric"),
        ([str(at % 10) for at in range(60)], "categorical"),
        ([f"{at % 15 / 2}" for at in range(60)], "categorical"),
        ([f"street {at}" for at in range(60)], "categorical"),
    ],
)
def test_a_label_of_many_numbers_is_one(
    labels: list[str], type_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    cells = [(f"{random.normal():.3f}", "ab"[random.integers(2)], each) for each in labels]
    write(Path("houses.csv"), cells)
    found = detect(Path("houses.csv"), Said(label="price")).source
    assert (found.label, found.label_type) == ("price", type_)
    assert "price" not in {*found.columns, *found.drop}
    for said in ("numeric", "categorical"):
        told = detect(Path("houses.csv"), Said(label="price", types={"price": said})).source  # type: ignore[dict-item]
        assert told.label_type == said
    with pytest.raises(DataError, match="--type price=date: a label is categorical or numeric"):
        detect(Path("houses.csv"), Said(label="price", types={"price": "date"}))


def test_what_stands_for_nothing_in_a_label_of_numbers_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = houses()
    cells[4] = (*cells[4][:2], "unknown")
    write(Path("houses.csv"), cells)
    found = detect(Path("houses.csv"), Said(label="price")).source
    assert found.read is not None
    assert found.read.missing == ["unknown"]
    assert found.label_type == "numeric"


def test_arrays_parquet_lists_and_archives_may_have_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.savez("table.npz", X=random.normal(size=(60, 4)), y=random.normal(size=60))
    np.savez("classes.npz", X=random.normal(size=(60, 4)), y=np.arange(60.0) % 3)
    lists = {"values": [[1.0, 2.0]] * 60, "target": random.normal(size=60)}
    pq.write_table(pa.table(lists), "lists.parquet")
    Path("x.ts").write_text("@univariate true\n@classLabel false\n@targetLabel true\n@data\n1,2:3.5\n2,1:4\n")
    types = {
        name: detect(Path(name), Said()).source.label_type
        for name in ("table.npz", "classes.npz", "lists.parquet", "x.ts")
    }
    assert types == {
        "table.npz": "numeric",
        "classes.npz": "categorical",
        "lists.parquet": "numeric",
        "x.ts": "numeric",
    }


def test_rows_of_two_revisions_are_held_against_each_other_without_a_class(tmp_path: Path) -> None:
    class Here:
        name = "here"

        def label(self, dataset: str) -> str:
            return "price"

        @contextmanager
        def open(self, path: str, stage: str) -> Iterator[pq.ParquetFile]:
            yield pq.ParquetFile(tmp_path / Path(path).parent.name)

    prepared_rows(tmp_path)
    (tmp_path / "clean").write_bytes((tmp_path / "clean.parquet").read_bytes())
    (tmp_path / "quarantine").write_bytes((tmp_path / "clean.parquet").read_bytes())
    (tmp_path / "splits.parquet").rename(tmp_path / "splits")
    codes: dict[str, int] = {}
    listed = history._listed(Here(), "houses", codes)  # type: ignore[arg-type]
    assert len(listed) == 150
    assert {list(codes)[label] for label in listed.label} == {UNLABELLED}
