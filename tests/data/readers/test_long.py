"""Sequences out of tables of steps: gathered whatever their order, and none lost."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.config import Source
from latentops.data.readers import delimited, sequences
from latentops.errors import DataError
from tests.data.readers.made import read, source


def steps(read: dict[str, object] | None = None, **changes: object) -> Source:
    return source(
        "a.csv", kind="sequence", **{"read": {"format": "long", "id": "who", **(read or {})}, **changes}
    )


def written(folder: Path, text: str, name: str = "a.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_steps_of_one_id_are_one_sequence(tmp_path: Path) -> None:
    text = "who,u,v,y,t\nb,1,2,x,1\na,3,4,z,2\nb,5,6,x,3\na,7,8,z,4\nc,9,10,,9\n"
    found = read(steps(label="y", time="t", channels=2), written(tmp_path, text))
    assert found.column(".name").to_pylist() == ["b", "a", "c"]
    assert found.column("values").to_pylist() == [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10]]
    assert found.column("y").to_pylist() == ["x", "z", None]
    assert found.column(".time").to_pylist() == [1, 2, 9]
    assert found.column(".position").to_pylist() == [0, 1, 2]
    assert found.column(".problem").null_count == 3


def test_what_is_wrong_is_said_of_the_sequence(tmp_path: Path) -> None:
    text = (
        "who,v,y,t,g\na,1,x,2,p\na,2,x,1,p\nb,1,x,1,p\nb,1,z,2,q\nc,old,x,1,p\nc,2,x,2,p\n"
        ",7,x,3,p\nd,1\ne,,x,1,p\n"
    )
    found = read(steps(label="y", time="t", group="g"), written(tmp_path, text))
    assert found.column(".name").to_pylist() == ["a", "b", "c", "e", None, None]
    assert found.column(".problem").to_pylist() == [
        "time doesn't rise at row 1",
        "its label changes: 'x', 'z'; its group changes: 'p', 'q'",
        "row 4: column 'v': 'old' is not a number; values are missing at 1 of 2 steps",
        "values are missing at 1 of 1 steps",
        "row 6: no who",
        "row 7: 2 cells, expected 5",
    ]
    assert found.column("y").to_pylist() == ["x", None, "x", "x", None, None]
    assert found.column(".group").to_pylist() == ["p", None, "p", "p", None, None]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(width=32, allow_nan=False)), min_size=1, max_size=40),
    st.sampled_from([32, 2**20]),
)
def test_any_order_of_steps_and_any_parts(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[int, float]], block: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    text = "who,v\n" + "".join(f"{who},{value}\n" for who, value in cells)
    expected: dict[str, list[float]] = {}
    for who, value in cells:
        expected.setdefault(str(who), []).append(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block)
        patch.setattr(sequences, "PART_VALUES", block // 16)
        found = read(steps(), written(folder, text))
    assert found.column(".name").to_pylist() == list(expected)
    assert found.column("values").to_pylist() == list(expected.values())
    assert found.column(".position").to_pylist() == list(range(len(expected)))


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("who,u,v\na,1,2\n", {}, r"2 columns of values \(u, v\), but source\.channels says 1"),
        ("id,v\na,1\n", {}, "no column 'who'"),
        ("who,v\n", {}, "no sequences"),
        ("who,v\na,1\n", {"values": ["w"]}, "no column 'w'"),
        ("who,v,u\na,1,2\n", {"values": ["v"]}, "unknown column 'u'"),
    ],
)
def test_a_table_of_something_else_is_refused(
    tmp_path: Path, text: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(steps(**changes), written(tmp_path, text))


def test_a_folder_has_a_sequence_a_file(tmp_path: Path) -> None:
    for name, text in {
        "up/1.csv": "t,v\n0,1\n1,2\n",
        "up/2.csv": "t,v\n0,1\n0,2\n",
        "down/1.csv": "t,v\n0,3\n1,x\n",
        "down/2.csv": "t,w\n0,3\n",
        "down/3.csv": "t,v\n",
        ".hidden/1.csv": "?",
        "loose.csv": "t,v\n0,1\n",
    }.items():
        written(tmp_path / "folder", text, name)
    found_in = source("folder", kind="sequence", label="y", time="t", values=["v"], read={"format": "folder"})
    found = read(found_in, tmp_path)
    assert found.column(".name").to_pylist() == [
        "down/1.csv", "down/2.csv", "down/3.csv", "loose.csv", "up/1.csv", "up/2.csv",
    ]  # fmt: skip
    assert found.column("y").to_pylist() == ["down", "down", "down", None, "up", "up"]
    problems = found.column(".problem").to_pylist()
    assert problems[0] == "row 1: column 'v': 'x' is not a number; values are missing at 1 of 2 steps"
    assert "no column 'v'" in problems[1]
    assert problems[2] == "no steps"
    assert problems[3:5] == [None, None]
    assert problems[5] == "time doesn't rise at row 1"
    values = found.column("values").to_pylist()
    assert values[4] == [1, 2]
    assert np.isnan(values[0][1])
    assert values[1] is None


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    written(tmp_path / "folder", "v\n1\n")
    changes = {"kind": "sequence", "read": {"format": "folder"}}
    assert read(source("folder", **changes), tmp_path).column("values").to_pylist() == [[1]]
    with pytest.raises(DataError, match="no subfolder of a class"):
        read(source("folder", label="y", **changes), tmp_path)
