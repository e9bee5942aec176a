"""From a file to an entry in params.yaml whose rows were validated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from latentops import adding
from latentops.cli import app
from latentops.config import load_params
from latentops.data.detection import Said
from latentops.errors import ConfigError, DataError, UnknownNameError
from latentops.stages import prepare

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTOPS_MIRROR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return tmp_path


def write_csv(path: Path, rows: int = 200) -> None:
    random = np.random.default_rng(0)
    lines = ["age,job,class"]
    for at in range(rows):
        job = random.choice(["cook", "nurse"])
        lines.append(f"{random.integers(18, 90)},{job},{'yes' if at % 4 else 'no'}")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.usefixtures("project")
def test_a_csv_becomes_a_dataset_whose_rows_were_validated() -> None:
    write_csv(Path("people.csv"))
    added = adding.add("people.csv", Said())
    settings = load_params().dataset("people")
    assert settings.source.columns == {"age": "numeric", "job": "categorical"}
    assert settings.expectations.classes == ["no", "yes"]
    assert settings.likelihood.name == "mixed"
    assert (settings.primary, settings.normal) == ("probe_accuracy", ["yes"])
    told = adding.validated(added)
    assert (told["rows"], told["clean"], told["quarantined"]) == (200, 200, 0)
    assert Path("data/raw/people.parquet").exists()
    assert Path("data/accepted/people/.gitkeep").exists()
    assert list(Path("var/data_docs/people").glob("**/index.html"))


@pytest.mark.usefixtures("project")
def test_of_a_series_with_marks_what_is_not_marked_is_normal() -> None:
    lines = [f"2024-01-01 {at // 60:02}:{at % 60:02}:00,{at % 7}" for at in range(900)]
    Path("pump.csv").write_text("\n".join(["time,value", *lines]) + "\n")
    Path("marks.json").write_text(json.dumps({"pump.csv": [["2024-01-01 02:00:00", "2024-01-01 14:30:00"]]}))
    adding.add("pump.csv", Said(time="time", marks=Path("marks.json"), window=12, stride=4))
    settings = load_params().dataset("pump")
    assert (settings.primary, settings.normal, settings.split.by) == ("auroc", ["normal"], "time")


@pytest.mark.parametrize("spoiled", ["the file", "a limit"])
def test_rows_that_do_not_pass_leave_nothing_of_what_was_added(project: Path, spoiled: str) -> None:
    write_csv(Path("people.csv"))
    params = Path("params.yaml").read_bytes()
    before = {each for each in project.rglob("*") if each.is_file()}
    added = adding.add("people.csv", Said())
    if spoiled == "the file":
        write_csv(Path("people.csv"), rows=50)
    else:
        written = Path("params.yaml").read_text()
        Path("params.yaml").write_text(written.replace("min_rows: 100 ", "min_rows: 201 "))
    with pytest.raises(DataError, match=r"so datasets\.people was taken out of params\.yaml again"):
        adding.validated(added)
    assert Path("params.yaml").read_bytes() == params
    left = {each for each in project.rglob("*") if each.is_file()} - before
    assert {each.relative_to(project).parts[0] for each in left} <= {"var"}
    assert not Path("data/accepted/people").exists()
    if spoiled == "a limit":
        assert adding.validated(adding.add("people.csv", Said()))["clean"] == 200


@pytest.mark.usefixtures("project")
def test_rows_accepted_under_the_name_before_outlive_what_is_taken_back() -> None:
    write_csv(Path("people.csv"))
    kept = Path("data/accepted/people/rows.parquet")
    kept.parent.mkdir(parents=True)
    kept.write_text("rows")
    added = adding.add("people.csv", Said())
    write_csv(Path("people.csv"), rows=50)
    with pytest.raises(DataError):
        adding.validated(added)
    assert kept.read_text() == "rows"


@pytest.mark.usefixtures("project")
def test_normal_classes_make_the_others_anomalies() -> None:
    write_csv(Path("people.csv"))
    adding.add("people.csv", Said(), "anomalous", ["yes"])
    settings = load_params().dataset("anomalous")
    assert (settings.primary, settings.normal) == ("auroc", ["yes"])
    with pytest.raises(DataError, match="no row is of class 'maybe'; there are: no, yes"):
        adding.add("people.csv", Said(), "other", ["maybe"])
    assert "other" not in load_params().datasets


@pytest.mark.usefixtures("project")
def test_a_label_of_numbers_is_proposed_as_one_and_said_to_be() -> None:
    random = np.random.default_rng(0)
    rows = [f"{size:.1f},{1000 * size + random.normal(0, 9):.2f}" for size in random.normal(90, 9, 200)]
    Path("houses.csv").write_text("\n".join(["size,price", *rows, "80.1,?"]) + "\n")
    added = adding.add("houses.csv", Said(label="price"))
    settings = load_params().dataset("houses")
    assert (settings.source.label, settings.source.label_type) == ("price", "numeric")
    assert (settings.primary, settings.normal, settings.expectations.classes) == ("r2", [], [])
    assert settings.likelihood.name == "gaussian", "no column may be missing"
    low, high = settings.expectations.columns["price"]
    assert low < 80_000 < high
    title = added.text.splitlines()[0]
    assert title.endswith("its label, price, is a number of 200 values")
    assert "ridge regression" in next(line for line in added.text.splitlines() if "label_type" in line)
    assert {name: type_ for name, type_, _ in adding.table(added)} == {
        "size": "numeric",
        "price": "numeric label",
    }
    told = adding.validated(added)
    assert (told["clean"], told["quarantined"]) == (200, 1)
    with pytest.raises(DataError, match="no row is of class 'cheap'"):
        adding.add("houses.csv", Said(label="price"), "other", ["cheap"])
    Path("same.csv").write_text("\n".join(["size,price", *(f"{at}.5,3.5" for at in range(30))]) + "\n")
    with pytest.raises(DataError, match="the label 'price' has fewer than two values"):
        adding.add("same.csv", Said(label="price", types={"price": "numeric"}))


@pytest.mark.usefixtures("project")
def test_cars_are_added_by_name_with_their_price(mirror: Path) -> None:
    added = adding.add("auto_imports", Said(), "autos")
    settings = load_params().dataset("autos")
    assert (settings.source.label, settings.source.numeric_label, settings.primary) == ("price", True, "r2")
    assert added.profile.column("price").distinct == 186
    assert len(settings.source.columns) == 25


@pytest.mark.usefixtures("project")
def test_columns_are_shown_with_what_they_are_like() -> None:
    write_csv(Path("people.csv"))
    added = adding.add("people.csv", Said(drop=("age",)))
    lines = {name: (type_, like) for name, type_, like in adding.table(added)}
    assert lines["job"] == ("categorical", "2 values: nurse (109), cook (91)")
    assert lines["age"] == ("passed over", "")
    head, *rows = adding.preview(added)
    assert set(head) == {"class", "job"}
    assert len(rows) == 5


@pytest.mark.usefixtures("project")
def test_what_has_no_label_is_said_to_be_chosen_by_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"rows": 200, "clean": 200, "quarantined": 0, "reasons": {}}
    monkeypatch.setattr(adding, "validated", lambda added: found)
    write_csv(Path("people.csv"))
    told = "no label: nothing will be chosen or promoted; name one with --label"
    for name, arguments in (("with", ["--label", "class"]), ("without", ["--drop", "class"])):
        app(["add-dataset", "people.csv", "--name", name, *arguments], standalone_mode=False)
        assert (told in capsys.readouterr().out) == (name == "without")


@pytest.mark.usefixtures("project")
def test_a_set_of_the_catalogue_is_written_out_in_full() -> None:
    before = Path("params.yaml").read_text()
    with pytest.raises(ConfigError, match=r"datasets\.digits is there already"):
        adding.add("digits", Said())
    added = adding.add("digits", Said(), "again")
    entry = yaml.safe_load(added.text)["again"]
    assert entry["source"]["name"] == "digits"
    assert entry["normal"] == ["1", "4", "8"]
    assert Path("params.yaml").read_text().startswith(before[:200])


@pytest.mark.usefixtures("project")
def test_what_is_neither_a_path_nor_a_set_changes_nothing() -> None:
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UnknownNameError, match=r"unknown data set 'adlut'.*did you mean 'adult'"):
        adding.add("adlut", Said())
    with pytest.raises(DataError, match="adult: a set of the catalogue takes no options"):
        adding.add("adult", Said(label="x"))
    for path in ("people.csv", "there/people"):
        with pytest.raises(DataError, match=f"{path}: no such file or folder, and unknown data set") as told:
            adding.add(path, Said(label="x"))
        assert "known" not in str(told.value).partition("unknown")[2], "no list of all sets"
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["yes", "null", "1", "1e5", "0x1", "2020-01-01", "a b", "../x", "a.b", "-x", "x" * 300]
)
def test_a_name_that_cannot_be_one_leaves_nothing(project: Path, name: str) -> None:
    write_csv(Path("people.csv"))
    before = sorted(project.rglob("*"))
    with pytest.raises(
        ConfigError, match=r"people\.csv: .* can't be a dataset's name; choose another with --name"
    ):
        adding.add("people.csv", Said(), name)
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("labels", "message"),
    [("a" * 60, "has one value alone"), ("".join(map(chr, range(200, 260))), "has 60 values in 60 rows")],
)
def test_a_label_that_makes_no_classes_is_refused(project: Path, labels: str, message: str) -> None:
    Path("x.csv").write_text(
        "b,class\n" + "".join(f"{at * 7 % 31},{label}\n" for at, label in enumerate(labels))
    )
    before = sorted(project.rglob("*"))
    with pytest.raises(DataError, match=f"the label 'class' {message}.*--label, or pass it over with --drop"):
        adding.add("x.csv", Said())
    assert sorted(project.rglob("*")) == before
    assert load_params().run.datasets[-1] != "x"
    adding.add("x.csv", Said(drop=("class",)))
    assert load_params().dataset("x").source.label is None


@pytest.mark.usefixtures("project")
def test_a_column_called_as_one_of_ours_is_refused() -> None:
    write_csv(Path("people.csv"))
    Path("x.csv").write_text(Path("people.csv").read_text().replace("age", ".problem"))
    with pytest.raises(ConfigError, match=r"x\.csv: .*'\.problem' is called as one of ours; rename it"):
        adding.add("x.csv", Said())
    adding.add("x.csv", Said(drop=(".problem",)))


@pytest.mark.parametrize("share", [0.0, 0.04, 0.3, 0.45])
@pytest.mark.usefixtures("project")
def test_the_limit_of_bad_rows_lets_these_rows_pass_and_not_all(share: float) -> None:
    bad = round(200 * share)
    lines = [f"{'old' if at < bad else at * 7 % 31 + 0.5},{'ab'[at // 2 % 2]}" for at in range(200)]
    Path("x.csv").write_text("b,class\n" + "\n".join(lines) + "\n")
    added = adding.add("x.csv", Said(types={"b": "numeric"}))
    limit = load_params().dataset("x").expectations.max_quarantined
    assert share <= limit <= max(0.02, min(2 * share, share + 0.1)) + 0.01
    assert adding.validated(added)["quarantined"] == bad


def test_a_table_of_which_most_would_be_set_aside_is_refused_with_the_reason(project: Path) -> None:
    lines = [f"{at * 7 % 31},{'old' if at % 4 else at},{'ab'[at // 2 % 2]}" for at in range(200)]
    Path("x.csv").write_text("b,c,class\n" + "\n".join(lines) + "\n")
    before = {each: each.is_dir() or each.read_bytes() for each in project.rglob("*")}
    message = r"150 of 200 rows would be set aside; .* 150 times: column 'c': a value such as 'old' is not"
    with pytest.raises(DataError, match=message):
        adding.add("x.csv", Said(types={"c": "numeric"}))
    days = [f"{at * 7 % 31},day {at},{'ab'[at // 2 % 2]}" for at in range(200)]
    Path("x.csv").write_text("b,day,class\n" + "\n".join(days) + "\n")
    with pytest.raises(DataError, match=r"x\.csv: column 'day': row 0: 'day 0' is not a date in ISO 8601"):
        adding.add("x.csv", Said(types={"day": "date"}))
    Path("x.csv").write_text("b,c,class\n" + "\n".join(lines) + "\n")
    assert {each: each.is_dir() or each.read_bytes() for each in project.rglob("*")} == before


@pytest.mark.usefixtures("project")
def test_dates_are_shown_with_the_way_they_are_written_and_pass() -> None:
    lines = [f"{at % 28 + 1}.03.2020,{at * 7 % 31},{'ab'[at // 2 % 2]}" for at in range(60)]
    Path("x.csv").write_text("day,b,class\n" + "\n".join(lines) + "\n")
    for said in (Said(), Said(types={"day": "date"}), Said(dates={"day": "%d.%m.%Y"})):
        added = adding.add("x.csv", said, f"x{len(load_params().datasets)}")
        settings = load_params().dataset(added.name)
        assert settings.source.read is not None
        assert settings.source.read.dates == {"day": "%d.%m.%Y"}
        shown = {name: (type_, like) for name, type_, like in adding.table(added)}
        assert shown["day"] == ("date", "2020-03-01 … 2020-03-28; %d.%m.%Y: day first")
    assert adding.validated(added)["clean"] == 60


def test_adult_goes_from_its_name_to_clean_rows(project: Path, mirror: Path) -> None:
    assert project != mirror
    added = adding.add("adult", Said())
    told = adding.validated(added)
    assert told["rows"] == told["clean"] == 48_842
    assert json.loads(Path("results/validate/adult.profile.json").read_text())["rows"] == 48_842


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("side", "near"), [(80, 6), (28, 2)])
def test_small_pictures_have_to_be_more_alike_to_stay_together(side: int, near: int) -> None:
    random = np.random.default_rng(0)
    for at in range(8):
        folder = Path("pictures", "ab"[at % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (side, 90), dtype=np.uint8)).save(folder / f"{at}.png")
    adding.add("pictures", Said())
    assert load_params().dataset("pictures").split.near == near


@pytest.mark.usefixtures("project")
def test_photographs_of_one_tile_are_on_one_side(mirror: Path) -> None:
    added = adding.add(str(mirror / "images/magnetic_tile"), Said(), "tiles", ["MT_Free"])
    assert adding.validated(added)["clean"] == 100
    prepare.run("tiles")
    names = pq.read_table("data/clean/tiles.parquet").column(".name").to_pylist()
    units = pq.read_table("data/splits/tiles.parquet").column("unit").to_pylist()
    of = {Path(name).stem: unit for name, unit in zip(names, units, strict=True)}
    assert of["exp1_num_108719"] == of["exp2_num_108741"] == of["exp3_num_108757"]
    assert json.loads(Path("results/prepare/tiles.json").read_text())["related"] == 15


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("rows", "least"), [(200, 0), (1000, 1)])
def test_no_class_may_vanish_from_a_split_where_there_are_enough_rows(rows: int, least: int) -> None:
    write_csv(Path("people.csv"), rows)
    adding.add("people.csv", Said())
    assert load_params().dataset("people").expectations.min_split_rows == least


def test_a_class_too_small_to_calibrate_on_is_no_view_of_the_members(project: Path, mirror: Path) -> None:
    assert project != mirror
    adding.add("JapaneseVowels", Said())
    settings = load_params().dataset("japanesevowels")
    assert (settings.normal, settings.primary) == ([], "probe_accuracy")
