"""The data docs say first what a reader wants to know: rows, versions, columns and what became of them."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from latentops.data import profile, table
from latentops.data.expectations import pages
from latentops.data.table import Layout


class Cells(HTMLParser):
    """The rows of all tables of a page, a list of cells each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def found(**figures: float) -> tuple[dict[str, object], profile.Profile]:
    """Ten rows of two columns, one of them set aside; `figures` are those of both columns."""
    types = {"age": "numeric", "job": "categorical"}
    layout = Layout("tabular", (2,), "ill", tuple(types), tuple(types.values()))  # type: ignore[arg-type]
    columns = [
        pa.array(["no", "yes", "no"] * 3),
        pa.array([float(at) for at in range(8)] + [None], pa.float64()),
        pa.array(["<cook>"] * 6 + ["nurse"] * 3),
    ]
    profiled = profile.profile(table.Rows(layout, [table.build(layout, "x.csv", columns)]))
    told: dict[str, object] = {
        "rows": 10,
        "clean": 9,
        "quarantined": 1,
        "reasons": {"age: not in 0 … 120": 1},
        "flags": [],
        "accepted": None,
        "columns": [
            {"name": name, "missing": 0.0, "predicts": None, "moved": None} | figures for name in types
        ],
    }
    return told, profiled


def test_columns_are_shown_with_type_range_and_missing_share_and_those_passed_over_with_why() -> None:
    page = pages.front(*found(), {"id": "the row's number"})
    rows = Cells(page).rows
    assert "10 rows: 9 clean, 1 set aside" in page
    assert ["age: not in 0 … 120", "1"] in rows
    assert ["age", "numeric", "0 … 3 … 7", "11.1%"] in rows
    assert ["job", "categorical", "2 values: <cook> (6), nurse (3)", "0.0%"] in rows
    assert ["id", "the row's number"] in rows
    assert ["yes", "3"] in rows


def test_a_figure_that_no_column_has_is_neither_shown_nor_explained() -> None:
    bare, told = pages.front(*found(), {}), pages.front(*found(predicts=0.25), {})
    assert "tells the label" not in bare
    assert "moved" not in told
    assert [row[-1] for row in Cells(told).rows if row[0] in ("column", "age")] == [
        "tells the label",
        "0.250",
    ]
    assert "0 is no better than guessing, 1 is always right" in told


def test_all_versions_are_listed_the_latest_first_and_what_it_holds_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fronts = {"one": pages.front(*found(), {}), "three": pages.stop("too few <rows>"), "two": "<p>2 rows</p>"}
    for at, (version, front) in enumerate(fronts.items()):
        page = Path("var/data_docs/people", version, "index.html")
        page.parent.mkdir(parents=True)
        page.write_text(pages.html_page("people", f"<main>{front}</main><h2>more</h2>"), encoding="utf-8")
        os.utime(page, (86_400 * at, 86_400 * at))
    pages.list_docs("people")
    text = Path("var/data_docs/people/index.html").read_text(encoding="utf-8")
    assert Cells(text).rows[1:] == [
        ["1970-01-03 00:00 UTC", "two", "2 rows"],
        ["1970-01-02 00:00 UTC", "three", "Stopped: too few <rows>"],
        ["1970-01-01 00:00 UTC", "one", "10 rows: 9 clean, 1 set aside."],
    ]
    assert re.findall(r'href="(.*?)"', text) == [f"{name}/index.html" for name in ("two", "three", "one")]
    assert "<h2>more</h2>" not in text

    os.utime("var/data_docs/people/one/index.html", (86_400 * 9, 86_400 * 9))
    pages.list_docs("people")
    again = Cells(Path("var/data_docs/people/index.html").read_text(encoding="utf-8")).rows
    assert ["age", "numeric", "0 … 3 … 7", "11.1%"] in again, "of the latest"


@pytest.mark.parametrize(
    ("drop", "told"),
    [
        ("\n      - id   # the row's number\n      - a b\n", {"id": "the row's number"}),
        ("\n      - 'id'  # a # b\n      - a b  # constant", {"id": "a # b", "a b": "constant"}),
        (" [id, a b]  # passed over", {}),
    ],
)
def test_why_a_column_is_passed_over_is_what_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drop: str, told: dict[str, str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"datasets:\n  people:\n    source:\n      drop:{drop}\n", encoding="utf-8")
    monkeypatch.setenv("LATENTOPS_PARAMS", str(path))
    plain = dict.fromkeys(("id", "a b"), "named under source.drop")
    assert pages.passed_over("people", ["id", "a b"]) == plain | told
    assert pages.passed_over("others", ["id"]) == {"id": "named under source.drop"}
