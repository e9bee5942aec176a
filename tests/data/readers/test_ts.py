"""The archives' files, as they are written and as they shouldn't be."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.config import Source
from latentops.data.readers import sequences
from latentops.errors import DataError
from tests.data.readers.made import read, source

HEADER = """# a comment
@problemName x
@timeStamps false
@univariate false
@dimensions 2
@equalLength false
@classLabel true a b
@data
"""


def archive(name: str = "x.ts", channels: int = 2, label: str | None = "class", **how: object) -> Source:
    return source(name, kind="sequence", label=label, channels=channels, read={"format": "ts", **how})


def written(folder: Path, text: str, name: str = "x.ts") -> Path:
    (folder / name).write_text(text)
    return folder


def test_dimensions_become_channels_step_after_step(tmp_path: Path) -> None:
    found = read(archive(relabel={"b": "B"}), written(tmp_path, HEADER + "1,2,3:4,5,6:a\n\n7:8:b\n"))
    assert found.column("values").to_pylist() == [[1, 4, 2, 5, 3, 6], [7, 8]]
    assert found.column("class").to_pylist() == ["a", "B"]
    assert found.column(".problem").to_pylist() == [None, None]


def test_a_line_that_cant_be_read_keeps_its_row(tmp_path: Path) -> None:
    lines = ["1,2:3,?:a", "1,2:3:a", "1,x:3,4:a", "1:b", ":: b", "1:2:c", "NaN:1:a"]
    found = read(archive(), written(tmp_path, HEADER + "\n".join(lines)))
    assert found.column(".problem").to_pylist() == [
        "values are missing at 1 of 2 steps",
        "dimensions of 2, 1 steps, which must be the same",
        "step 1: 'x' is not a number",
        "1 dimensions, expected 2",
        "no steps",
        "class 'c' is not one of those that the file declares",
        "values are missing at 1 of 1 steps",
    ]
    assert found.column("values").is_null().to_pylist() == [False, True, True, True, False, False, False]
    assert found.column(".position").to_pylist() == list(range(7))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda channels: st.lists(
            st.integers(1, 6).flatmap(
                lambda steps: st.lists(
                    st.floats(width=32, allow_nan=False), min_size=steps * channels, max_size=steps * channels
                ).map(lambda flat: np.array(flat, np.float32).reshape(-1, channels))
            ),
            min_size=1,
            max_size=8,
        )
    ),
    st.sampled_from([1, 5, 1000]),
)
def test_any_values_come_back_whatever_the_parts(
    tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray], part: int
) -> None:
    folder, channels = tmp_path_factory.mktemp("any"), values[0].shape[1]
    lines = [":".join(",".join(map(repr, map(float, row))) for row in each.T) + ":a" for each in values]
    text = HEADER.replace("@dimensions 2", f"@dimensions {channels}") + "\n".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "PART_VALUES", part)
        found = read(archive(channels=channels), written(folder, text))
    assert found.column("values").to_pylist() == [each.ravel().tolist() for each in values]
    assert found.column(".position").to_pylist() == list(range(len(values)))


def test_plain_text_begins_with_the_class(tmp_path: Path) -> None:
    text = "  1.0000000e+00  1.5 -2\tNaN\n-1 3,4 NaN 5\n2 x\nnormal 7\n"
    found = read(archive("x.txt", channels=1), written(tmp_path, text, "x.txt"))
    assert found.column("class").to_pylist() == ["1", "-1", "2", "normal"]
    problems = found.column(".problem").to_pylist()
    assert problems == [None, "values are missing at 1 of 4 steps", "step 0: 'x' is not a number", None]
    assert found.column("values").to_pylist()[0] == [1.5, -2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "no sequences"),
        (HEADER.replace("@data\n", ""), "no line @data"),
        ("1,2:3,4:a\n" + HEADER, "before @data"),
        (HEADER.replace("@timeStamps false", "@timeStamps true"), "time stamps; write them as format: long"),
        (HEADER.replace("@dimensions 2", "@dimensions 3"), "3 dimensions, but source.channels says 2"),
        (HEADER.replace("@classLabel true a b", "@classLabel false"), "no classes; set source.label: null"),
        (HEADER.replace("@classLabel true a b", "@targetLabel true"), "targets, not classes"),
        (HEADER.replace("@univariate", "@univarate"), "@univarate is no key"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(archive(), written(tmp_path, text))
