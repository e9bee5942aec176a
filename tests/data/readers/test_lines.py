"""A text a line, as Python splits them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentops.data import table
from latentops.data.readers import files
from latentops.errors import ConfigError, DataError
from tests.data.readers.made import read, source


def lines(**how: object):
    return source("a.txt", kind="text", read={"format": "lines", **how})


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=20),
        max_size=12,
    ),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
    size=st.sampled_from([1, 2**20]),
)
def test_any_lines_come_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], encoding: str, size: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    written = "\n".join(["first", *texts])
    (folder / "a.txt").write_bytes(written.encode(encoding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "CHUNK_BYTES", size)
        patch.setattr(table, "PART_BYTES", size)
        found = read(lines(encoding=encoding), folder)
    expected = [line.strip() for line in written.split("\n") if line.strip()]
    assert found.column("text").to_pylist() == expected
    assert found.column(".position").to_pylist() == list(range(len(expected)))


def test_what_holds_no_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\n")
    with pytest.raises(DataError, match=r"a\.txt: no rows"):
        read(lines(), tmp_path)
    (tmp_path / "a.txt").write_text("<!DOCTYPE html>\n<html>404</html>")
    with pytest.raises(DataError, match=r"a\.txt: a web page, not data"):
        read(lines(), tmp_path)
    with pytest.raises(ConfigError, match=r"lines has no labels; set source\.label: null"):
        read(source("a.txt", kind="text", label="y", read={"format": "lines"}), tmp_path)
