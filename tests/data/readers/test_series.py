"""Windows of long series, against series made by hand; nothing of a series is left out in silence."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.config import Source
from latentops.data.readers import sequences, series
from latentops.errors import ConfigError, DataError
from tests.data.readers.made import read, source


def windows(window: int = 4, stride: int = 2, every: float = 60, **changes: object) -> Source:
    how = {"format": "series", "window": window, "stride": stride, "every": every}
    return source("nab/a.csv", **{"kind": "sequence", "time": "t", "read": how, **changes})


def written(folder: Path, times: list[float], values: list[object]) -> Path:
    (folder / "nab").mkdir(exist_ok=True)
    lines = [f"{time},{value}\n" for time, value in zip(times, values, strict=True)]
    (folder / "nab/a.csv").write_text("".join(["t,v\n", *lines]))
    return folder


def test_windows_start_each_stride_and_the_last_ends_with_the_series(tmp_path: Path) -> None:
    found = read(windows(), written(tmp_path, [1000 + 60 * at for at in range(9)], list(range(9))))
    assert found.column("values").to_pylist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [5, 6, 7, 8]]
    assert found.column(".time").to_pylist() == [1000, 1120, 1240, 1300]
    assert found.column(".problem").null_count == 4
    assert found.column(".position").to_pylist() == [0, 1, 2, 3]


def test_a_step_is_the_mean_of_what_is_in_it(tmp_path: Path) -> None:
    times = [0, 10, 59.9, 60, 60, 150, 180]
    found = read(windows(window=4), written(tmp_path, times, [1, 2, 6, 10, 20, 4, 5]))
    assert found.column("values").to_pylist() == [[3, 15, 4, 5]]


@pytest.mark.parametrize("gap", range(6))
def test_short_gaps_are_filled_and_windows_that_touch_longer_ones_say_so(tmp_path: Path, gap: int) -> None:
    steps = [*range(6), *range(6 + gap, 12 + gap)]
    found = read(windows(stride=1), written(tmp_path, [60 * at for at in steps], steps))
    problems, values = found.column(".problem").to_pylist(), found.column("values").to_pylist()
    if gap <= series.LONGEST_GAP:
        assert values == [[at, at + 1, at + 2, at + 3] for at in range(9 + gap)]
        assert problems == [None] * len(values)
        return
    touching = [problem for problem in problems if problem]
    assert all("a gap of" in each and "from 1970-01-01T00:06:00" in each for each in touching[:3])
    assert len(touching) == gap + 3 - max(gap - 3, 0)
    assert [each for each, problem in zip(values, problems, strict=True) if not problem] == [
        [at, at + 1, at + 2, at + 3] for at in (0, 1, 2, 6 + gap, 7 + gap, 8 + gap)
    ]


def test_windows_within_a_gap_are_no_rows(tmp_path: Path) -> None:
    times = [*range(0, 600, 60), *range(6 * 10**9, 6 * 10**9 + 600, 60)]
    found = read(windows(), written(tmp_path, times, list(range(20))))
    assert found.num_rows < 20
    seen = {value for each in found.column("values").to_pylist() for value in each if value == value}
    assert seen == set(range(20))


def test_rows_that_cant_be_read_are_said_by_their_windows(tmp_path: Path) -> None:
    times: list[object] = [60 * at for at in range(12)]
    values: list[object] = list(range(12))
    times[4], values[10] = "never", "old"
    found = read(windows(stride=4), written(tmp_path, times, values))
    assert found.column(".problem").to_pylist() == [
        "row 4: column 't': 'never' is not a date in ISO 8601; say in read.dates how it is",
        None,
        "row 10: column 'v': 'old' is not a number",
    ]
    assert found.column("values").to_pylist()[1] == [4, 5, 6, 7]


def test_time_that_goes_back_is_said(tmp_path: Path) -> None:
    found = read(windows(stride=4), written(tmp_path, [0, 60, 120, 180, 240, 420, 360, 300], list(range(8))))
    assert found.column(".problem").to_pylist() == [None, "row 7: time goes back; row 6: time goes back"]
    assert found.column("values").to_pylist()[1] == [4, 7, 6, 5]


def test_a_series_shorter_than_a_window_keeps_its_row(tmp_path: Path) -> None:
    found = read(windows(), written(tmp_path, [0, 60], [1, 2]))
    assert found.column("values").to_pylist() == [[1, 2]]
    assert found.column(".problem").to_pylist() == ["the series has 2 steps, fewer than a window's 4"]


def test_a_window_that_overlaps_a_mark_is_an_anomaly(tmp_path: Path) -> None:
    marks = {"path": "marks.json", "sha256": "0" * 64}
    how = {"format": "series", "window": 4, "stride": 4, "every": 60, "marks": marks}
    found_in = windows(label="state", read=how)
    folder = written(tmp_path, [60 * at for at in range(16)], list(range(16)))
    where = folder / "marks.json"

    def states(*spans: tuple[object, object], name: str = "nab/a.csv") -> str:
        where.write_text(json.dumps({name: spans}))
        return "".join(each[0] for each in read(found_in, folder, where).column("state").to_pylist())

    assert states() == "nnnn"
    states((239.9, 301), (600, 600))
    marked = read(found_in, folder, where).column(".marked").to_pylist()
    assert marked == [[0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert ".marked" not in read(windows(), folder).column_names
    assert states((300, 301)) == "nann"
    assert states(("1970-01-01 00:03:59", "1970-01-01 00:04:00"), ("1970-01-01 00:12:00", 800)) == "aana"
    assert states((239.9, 240), name="a.csv") == "aann"
    assert states((240, 241)) == "nann"
    with pytest.raises(DataError, match=r"read\.marks says nothing of it \(did you mean 'nab/b\.csv'"):
        states((0, 1), name="nab/b.csv")
    where.write_text("[1]")
    with pytest.raises(DataError, match=r"marks\.json: not marks"):
        read(found_in, folder, where)
    for wrong in ({"label": None, "read": how}, {"label": "state"}, {"time": None}):
        with pytest.raises(ConfigError, match=r"set both, or neither|needs time"):
            windows(**wrong)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted),
    window=st.integers(1, 6),
    stride=st.integers(1, 6),
    part=st.sampled_from([1, 2**20]),
)
def test_every_value_is_in_some_window_where_they_overlap(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], window: int, stride: int, part: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    stride = min(stride, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "PART_VALUES", part)
        found = read(
            windows(window, stride), written(folder, [60.0 * at for at in steps], [at + 100 for at in steps])
        )
    seen = set()
    for time, values, problem in zip(
        *(found.column(name).to_pylist() for name in (".time", "values", ".problem")), strict=True
    ):
        first = round((time - 60 * steps[0]) / 60)
        for at, value in enumerate(values):
            step = steps[0] + first + at
            assert np.isnan(value) or value == pytest.approx(step + 100), "what is filled in is on the line"
            seen.add(step)
        assert (problem is None) == (len(values) == window and not np.isnan(values).any())
    assert set(steps) <= seen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,v\n", "no rows"),
        ("t,v\nx,1\n", "none of its rows has a time in column 't'"),
        ("u,v\n0,1\n", "'t'"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path, [], [])
    (tmp_path / "nab/a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(windows(), tmp_path)
