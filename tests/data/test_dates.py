"""How dates are written is told by their cells, and is never guessed where the cells leave it open."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.config import Source, parse
from latentops.data import dates, readers
from latentops.data.detection import Said, detect
from latentops.data.readers.cells import date
from latentops.errors import ConfigError, DataError

DAYS = [datetime(2021, at % 12 + 1, at % 28 + 1, at % 24, at % 60) for at in range(60)]
EARLY = [datetime(2021, at % 12 + 1, (at * 5) % 12 + 1, at % 24, at % 60) for at in range(60)]
"""Moments whose day and month may change places."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTOPS_MIRROR", raising=False)
    return tmp_path


def columns(cells: dict[str, list[str]], delimiter: str = ",") -> Path:
    """A table of columns, with one of numbers beside them."""
    many = max(map(len, cells.values()))
    comma = "," if delimiter == ";" else "."
    lines = [delimiter.join([*cells, "v"])]
    for at in range(many):
        number = f"{at * 7 % 31}.5".replace(".", comma)
        lines.append(delimiter.join([*(each[at] for each in cells.values()), number]))
    path = Path("x.csv")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def written(moments: list[datetime], *formats: str) -> list[str]:
    return [each.strftime(formats[at % len(formats)]) for at, each in enumerate(moments)]


def formats(source: Source) -> object:
    assert source.read is not None
    return source.read.dates


@pytest.mark.parametrize(
    "format_",
    [
        *(mark.join(each) for mark in "./-" for each in (("%d", "%m", "%Y"), ("%m", "%d", "%Y"))),
        "%Y/%m/%d",
        "%Y.%m.%d",
        "%d/%m/%Y %H:%M",
        "%m/%d/%Y %I:%M %p",
        "%d.%m.%YT%H:%M:%S",
        "%Y/%m/%d %H:%M:%S.%f",
        "%d %b %Y",
        "%B %d, %Y",
    ],
)
def test_a_column_of_dates_is_read_as_the_moments_that_were_written(format_: str) -> None:
    path = columns({"when": [f'"{each}"' for each in written(DAYS, format_)]})
    found = detect(path, Said())
    assert found.source.columns == {"when": "date", "v": "numeric"}
    assert formats(found.source) == {"when": format_}
    assert format_ in found.remarks["when"]
    rows = readers.read([(path, found.source.files[0])], found.source)
    (part,) = rows.parts
    assert part.column("when").to_pylist() == [
        datetime.strptime(each.strftime(format_), format_).replace(tzinfo=UTC).timestamp() for each in DAYS
    ]


@given(st.datetimes(datetime(1000, 1, 1)), st.sampled_from("./-"), st.sampled_from([" %H:%M", ""]))
def test_a_date_is_among_what_its_formats_read(moment: datetime, mark: str, clock: str) -> None:
    format_ = f"%d{mark}%m{mark}%Y{clock}"
    cell = f"{moment.day:02}{mark}{moment.month:02}{mark}{moment.year}" + (
        f" {moment.hour:02}:{moment.minute:02}" if clock else ""
    )
    found = dates.formats(cell)
    assert format_ in found
    assert (len(found) == 2) == (moment.day <= 12)
    for each in found:
        date(cell, each)


@pytest.mark.parametrize(
    "cell", ["", "1.2.3", "04.06/2021", "40.06.2021", "192.168.1.2021", "04.06.2021 noon", "2021-06", "1.5"]
)
def test_what_is_no_date_has_no_format(cell: str) -> None:
    assert dates.formats(cell) == []


def test_dates_in_iso_8601_have_no_format() -> None:
    found = detect(columns({"when": written(DAYS, "%Y-%m-%d %H:%M")}), Said())
    assert (found.source.columns["when"], formats(found.source)) == ("date", {})


def test_each_column_has_a_format_of_its_own_and_is_held_to_it() -> None:
    path = columns({"a": written(DAYS, "%d.%m.%Y"), "b": written(DAYS, "%Y-%m-%d")})
    found = detect(path, Said())
    assert formats(found.source) == {"a": "%d.%m.%Y"}
    path.write_text("a,b,v\n2021-02-01,2021-02-01,1.5\n01.02.2021,01.02.2021,1.5\n")
    (part,) = readers.read([(path, found.source.files[0])], found.source).parts
    assert part.column("a").to_pylist() == [None, datetime(2021, 2, 1, tzinfo=UTC).timestamp()]
    first, second = part.column(".problem").to_pylist()
    assert first == "column 'a': '2021-02-01' is not a date as read.dates says (%d.%m.%Y)"
    assert second.startswith("column 'b': '01.02.2021' is not a date in ISO 8601")


def test_where_day_or_month_may_lead_and_nothing_says_which_neither_is_taken() -> None:
    path = columns({"when": written(EARLY, "%d/%m/%Y")})
    found = detect(path, Said())
    assert found.source.columns == {"v": "numeric"}
    assert found.source.drop == ["when"]
    assert formats(found.source) == {}
    for each in ("%d/%m/%Y", "%m/%d/%Y"):
        assert f"--dates when={each}" in found.remarks["when"]
        said = detect(path, Said(dates={"when": each}))
        assert (formats(said.source), said.source.columns["when"]) == ({"when": each}, "date")
    for said_ in (Said(types={"when": "date"}), Said(time="when")):
        with pytest.raises(DataError, match=r"column 'when': .*day first and month first fit alike"):
            detect(path, said_)


@pytest.mark.parametrize(
    ("other", "delimiter", "mark", "wanted"),
    [
        ("%m/%d/%Y", ",", "/", ("%m/%d/%Y", "as in column 'other'")),
        ("%d-%m-%Y", ",", "/", ("%d/%m/%Y", "as in column 'other'")),
        ("%Y-%m-%d", ";", "/", ("%d/%m/%Y", "as its decimal commas say")),
        ("%Y-%m-%d", ",", ".", ("%d.%m.%Y", "as its dots say")),
    ],
)
def test_the_rest_of_the_file_says_which_leads(
    other: str, delimiter: str, mark: str, wanted: tuple[str, str]
) -> None:
    cells = {"when": written(EARLY, mark.join(("%d", "%m", "%Y"))), "other": written(DAYS, other)}
    found = detect(columns(cells, delimiter), Said())
    dated = formats(found.source)
    assert isinstance(dated, dict)
    assert dated["when"] == wanted[0]
    assert wanted[1] in found.remarks["when"]
    assert "else say --dates when=" in found.remarks["when"]


def test_one_day_after_the_twelfth_decides() -> None:
    cells = [*written(EARLY, "%d/%m/%Y"), "13/01/2021"]
    assert formats(detect(columns({"when": cells}), Said()).source) == {"when": "%d/%m/%Y"}


def test_dates_in_several_formats_stay_categories_and_are_told_of() -> None:
    found = detect(columns({"when": [*written(DAYS, "%d/%m/%Y", "%d.%m.%Y %H:%M")] * 2}), Said())
    assert found.source.columns["when"] == "categorical"
    assert "dates that no single format reads" in found.remarks["when"]


def test_what_is_to_be_a_date_and_is_none_is_told_with_its_row() -> None:
    path = columns({"when": [*written(DAYS[:3], "%Y-%m-%d"), *(f"{at} days ago" for at in range(40))]})
    message = r"x\.csv: column 'when': row 3: '0 days ago' is not a date in ISO 8601; .*--dates when="
    for said in (Said(types={"when": "date"}), Said(time="when")):
        with pytest.raises(DataError, match=message):
            detect(path, said)
    path = columns({"when": written(DAYS, "%d/%m/%Y", "%d.%m.%Y %H:%M")})
    with pytest.raises(
        DataError, match=r"row 1: '02\.02\.2021 01:01' is not a date as .* \(%d/%m/%Y\); say how"
    ):
        detect(path, Said(types={"when": "date"}))
    path = columns({"when": written(DAYS, "%Y-%m-%d")})
    with pytest.raises(DataError, match=r"row 0: '2021-01-01' is not a date as read\.dates says \(%d\.%m\)"):
        detect(path, Said(dates={"when": "%d.%m"}))


def test_a_column_of_times_is_told_as_others_are() -> None:
    path = columns({"when": written(DAYS, "%d/%m/%Y %H:%M"), "w": ["1.5", "2.5"] * 30})
    found = detect(path, Said(time="when"))
    assert (found.source.time, formats(found.source)) == ("when", {"when": "%d/%m/%Y %H:%M"})
    assert "when is %d/%m/%Y %H:%M: day first" in found.remarks[""]
    series = [datetime(2021, 3, 1 + at // 24, at % 24) for at in range(600)]
    path = columns({"when": written(series, "%d/%m/%Y %H:%M")})
    found = detect(path, Said(kind="sequence"))
    assert found.source.read is not None
    assert (found.source.time, found.source.read.every) == ("when", 3600)
    assert formats(found.source) == {"when": "%d/%m/%Y %H:%M"}


def test_files_of_steps_have_times_too() -> None:
    for name in ("a/1.csv", "b/2.csv"):
        Path("steps", name).parent.mkdir(parents=True)
        lines = [f"{each:%d.%m.%Y %H:%M},{at}" for at, each in enumerate(DAYS)]
        Path("steps", name).write_text("\n".join(["when,v", *lines]) + "\n")
    found = detect(Path("steps"), Said(time="when"))
    assert formats(found.source) == {"when": "%d.%m.%Y %H:%M"}


def test_text_in_parquet_may_be_dates() -> None:
    table = pa.table({"when": written(DAYS, "%m/%d/%Y"), "v": [at * 0.5 for at in range(60)]})
    pq.write_table(table, "x.parquet")
    assert formats(detect(Path("x.parquet"), Said()).source) == {"when": "%m/%d/%Y"}


def test_a_format_of_what_is_no_date_is_refused() -> None:
    section = {
        "name": "file",
        "kind": "tabular",
        "label": None,
        "files": [{"path": "x.csv", "sha256": "0" * 64}],
        "read": {"format": "csv", "dates": {"wen": "%d.%m.%Y"}},
        "columns": {"when": "date"},
    }
    with pytest.raises(ConfigError, match=r"read\.dates\.wen: that column is neither a date nor time"):
        parse(Source, section, "x")
    path = columns({"when": written(DAYS, "%d.%m.%Y")})
    with pytest.raises(DataError, match="'when' is to be a date and something else"):
        detect(path, Said(dates={"when": "%d.%m.%Y"}, types={"when": "categorical"}))
    with pytest.raises(DataError, match="no column 'wen'"):
        detect(path, Said(dates={"wen": "%d.%m.%Y"}))
