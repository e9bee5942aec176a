"""What the page and a run show of health along something."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from latentops.config import Params
from latentops.reporting import figures, page, profiles
from latentops.reporting.results import Profile, Row, comparison

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]


def rows(root: Path, dataset: str = "digits") -> tuple[Row, ...]:
    return comparison(dataset, root).rows


def test_what_all_variants_have_is_a_table_and_what_one_has_a_drawing(finished: Path) -> None:
    errors, probes, own = profiles.pictures(rows(finished))
    assert errors.heading == "Error by the corruption met"
    assert probes.heading == "Probe accuracy by the corruption met"
    assert errors.table is not None
    assert errors.table.columns[-1] == "salt and pepper 0.2"
    assert len(errors.table.rows) == 9
    assert [name for name, _ in own.drawings] == [
        "contractive: contraction ratio by distance", "variational: KL by unit"
    ]  # fmt: skip


def test_what_a_variant_was_trained_with_is_framed(finished: Path) -> None:
    table = profiles.pictures(rows(finished))[0].table
    assert table is not None
    framed = [
        (name, table.columns[at]) for name, cells in table.rows for at, cell in enumerate(cells) if cell.own
    ]
    assert framed == [("denoising", "gaussian 0.8")]


def test_the_best_of_a_column_has_the_fullest_shade(finished: Path) -> None:
    assert profiles.shades([0.1, 0.3, None, 0.2], lower=True) == [100, 0, 0, 50]
    assert profiles.shades([0.1, 0.3, None, 0.2], lower=False) == [0, 100, 0, 50]
    assert profiles.shades([0.1, 0.1], lower=True) == [0, 0]
    assert profiles.shades([0.1, 0.11, 0.12, 0.13, 90.0], lower=True) == [100, 67, 33, 0, 0]
    for picture in profiles.pictures(rows(finished))[:2]:
        assert picture.table is not None
        cells = dict(picture.table.rows)
        assert [cell.percent for cell in cells["denoising"]][1:] == [100] * 4
        assert [cell.percent for cell in cells["sparse"]] == [0] * 5


def test_the_text_says_how_the_trained_corruption_compares_with_the_others(finished: Path) -> None:
    (told,) = profiles.transfer(rows(finished))
    assert told.startswith(
        "denoising was trained with gaussian 0.8: where it meets that, its error is 0.50 times"
    )
    assert "0.880 against 0.800; under other corruptions, its error is 0.75 times" in told
    assert told.endswith("0.750 against 0.700.")


def test_of_a_mixture_all_corruptions_are_others(edit: Edit, project: Path) -> None:
    def mix(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            row["corruption"] = "mixed 0.8, 0.3" if row["name"] == "denoising" else None

    edit("digits", mix)
    (told,) = profiles.transfer(rows(project))
    assert "where it meets" not in told
    assert told.startswith("denoising was trained with mixed 0.8, 0.3: under other corruptions")


def test_another_level_of_the_trained_kind_is_not_another_corruption(edit: Edit, project: Path) -> None:
    def weaken(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            row["corruption"] = "gaussian 0.5" if row["name"] == "denoising" else None

    edit("digits", weaken)
    (told,) = profiles.transfer(rows(project))
    assert "where it meets that, its error is 0.56 times" in told
    assert "other corruptions, its error is 0.75 times" in told


def test_without_the_plain_variant_there_is_nothing_to_hold_it_against(finished: Path) -> None:
    assert profiles.transfer([row for row in rows(finished) if row.name != "undercomplete"]) == []


def test_what_is_undefined_everywhere_is_an_empty_drawing_and_no_text(
    edit: Edit, project: Path, params: Params
) -> None:
    def undefine(value: dict[str, Any]) -> None:
        for row in value["rows"]:
            for one in row["profiles"].values():
                one |= {side: [None] * len(one["x"]) for side in ("mean", "low", "high")}
                one["values"] = [[None] * len(one["x"])]

    edit("digits", undefine)
    assert profiles.transfer(rows(project)) == []
    page.write(params, project)
    text = (project / "reports/digits.html").read_text(encoding="utf-8")
    assert "Error by the corruption met</h3>" in text
    assert "denoising was trained with gaussian 0.8" not in text


def test_the_page_shows_them(finished: Path, params: Params) -> None:
    page.write(params, finished)
    text = (finished / "reports/digits.html").read_text(encoding="utf-8")
    assert text.count("Error by the corruption met</h3>") == 1
    assert text.count('<table class="heat"') == 2
    assert "denoising was trained with gaussian 0.8" in text
    assert text.count('class="n own"') == 2
    assert "KL by unit of variational: &lt;nats&gt; by unit" in text
    assert "<nats>" not in text


def test_names_are_bars_with_whiskers_and_numbers_a_line_with_one_a_seed() -> None:
    bars = Profile(x=("1", "2", "3"), x_title="x", y_title="y", mean=(2.0, None, 1.0), low=(1.5, None, 0.5),
                   high=(2.5, None, 1.5), values=((2.0, None, 1.0),) * 4)  # fmt: skip
    drawn = str(figures.profile(bars, "l").markup())
    assert (drawn.count('class="bar"'), drawn.count('class="range"'), drawn.count("<path")) == (2, 2, 0)
    heights = [float(each) for each in re.findall(r'class="bar"[^>]*height="([\d.]+)"', drawn)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.02)
    line = bars.model_copy(update={"x": (0.0, 1.0, 2.0)})
    drawn = str(figures.profile(line, "l").markup())
    assert (drawn.count('class="line train"'), drawn.count('class="line stop"'), drawn.count("<circle")) == (
        4,
        1,
        2,
    )


def test_long_names_are_all_there_and_counts_are_thinned() -> None:
    def told(x: list[str]) -> list[str]:
        one = Profile(x=tuple(x), x_title="x", y_title="y", mean=(1.0,) * len(x), low=(None,) * len(x),
                      high=(None,) * len(x))  # fmt: skip
        found = re.findall(r'class="tick"[^>]*>([^<]+)</text>', str(figures.profile(one, "l").markup()))
        return [name for name in found if name in {each.replace("_", " ") for each in x}]

    corruptions = [f"salt_and_pepper 0.{at}" for at in range(1, 10)]
    assert told(corruptions) == [name.replace("_", " ") for name in corruptions]
    assert told([str(at) for at in range(100, 180)]) == [str(at) for at in range(100, 180, 6)]


def test_numbers_that_span_orders_are_evenly_apart() -> None:
    one = Profile(x=(0.1, 1.0, 10.0), x_title="x", y_title="y", mean=(1.0, 1.0, 1.0), low=(None,) * 3,
                  high=(None,) * 3)  # fmt: skip
    xs = [float(each) for each in re.findall(r'cx="([\d.]+)"', str(figures.profile(one, "l").markup()))]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)


def test_a_run_has_a_file_a_profile_with_colours_of_its_own(finished: Path) -> None:
    row = next(row for row in rows(finished) if row.name == "variational")
    files = profiles.drawings(row.model_dump())
    assert set(files) == {"withstood_error.svg", "withstood_probe_accuracy.svg", "kl_by_unit.svg"}
    for text in files.values():
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "--accent: #" in text
