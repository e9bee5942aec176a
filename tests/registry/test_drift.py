"""New rows against what a champion knows, of every kind of data."""

from pathlib import Path

import numpy as np
import pytest

import latentops
from latentops.data import prepared
from latentops.registry.drift import CODES, SCORES, Drift, Finding, corrected, look
from latentops.registry.package import Input

NAMES = ("pictures", "table", "series")


def rows(name: str, split: prepared.SplitName = "test") -> Input:
    return latentops.load(f"{name}@champion").raw(prepared.load(Path("data/prepared", name), split))


def moved(raw: Input) -> Input:
    if isinstance(raw, list):
        return [1.5 * each + 0.5 for each in raw]
    return np.asarray(1.5 * np.asarray(raw) + 0.5)


@pytest.mark.usefixtures("at_live")
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_the_test_split_have_not_moved_and_others_have(name: str) -> None:
    champion = latentops.load(f"{name}@champion")
    raw = rows(name)
    (same,) = corrected([look(name, champion, raw)])
    (other,) = corrected([look(name, champion, moved(raw))])
    assert (same.rows, same.known) == (40, 40)
    assert not same.beyond(0.01)
    assert {CODES} <= {each.of for each in other.beyond(0.01) if each.of_champion}
    assert any(not each.of_champion for each in other.beyond(0.01))


@pytest.mark.usefixtures("at_live")
def test_codes_scores_and_columns_are_all_asked() -> None:
    found = look("table", latentops.load("table@champion"), rows("table"))
    assert [(each.of, each.test) for each in found.findings if each.of_champion] == [
        (of, test) for of in (CODES, SCORES) for test in ("classifier", "kernel")
    ]
    columns = prepared.describe(Path("data/prepared/table")).features
    assert [each.of for each in found.findings if not each.of_champion] == [
        f"column {each}" for each in columns
    ]
    of_images = look("pictures", latentops.load("pictures@champion"), rows("pictures")).findings
    assert {"column mean", "column deviation"} <= {each.of for each in of_images}
    of_series = look("series", latentops.load("series@champion"), rows("series")).findings
    assert {"column length", "column mean of channel 2"} <= {each.of for each in of_series}


@pytest.mark.usefixtures("at_live")
def test_a_column_that_moves_alone_is_named() -> None:
    raw = np.array(rows("table"))
    raw[:, 3] += 10 * raw[:, 3].std()
    (found,) = corrected([look("table", latentops.load("table@champion"), raw)])
    assert [each.of for each in found.beyond(0.01) if not each.of_champion] == ["column feature 3"]


@pytest.mark.usefixtures("at_live")
def test_of_a_few_rows_nothing_is_said() -> None:
    raw = np.array(rows("table"))
    assert look("table", latentops.load("table@champion"), raw[:9]).findings == ()
    assert look("table", latentops.load("table@champion"), raw[:10]).findings


def of_champion(p_value: float) -> Finding:
    return Finding(CODES, "kernel", 0.1, p_value)


def test_looks_of_one_time_are_corrected_together() -> None:
    alone = corrected([Drift("a", 20, 20, (of_champion(0.004),))])[0].findings[0].corrected
    others = [Drift(name, 20, 20, (of_champion(0.5),)) for name in "bcd"]
    together = corrected([Drift("a", 20, 20, (of_champion(0.004),)), *others])[0].findings[0].corrected
    assert alone == pytest.approx(0.008)
    assert together == pytest.approx(0.032)


def test_columns_do_not_dilute_what_is_of_the_champion() -> None:
    columns = tuple(Finding(f"column {at}", "χ²", 0.1, 0.9) for at in range(500))
    (found,) = corrected([Drift("a", 20, 20, (of_champion(0.004), *columns))])
    assert found.findings[0].corrected == pytest.approx(0.008)


def test_a_ledger_keeps_what_is_of_the_champion_and_what_moved() -> None:
    columns = (Finding("column a", "χ²", 0.3, 1e-6, 1e-4), Finding("column b", "χ²", 0.1, 0.9, 1.0))
    told = Drift("a", 20, 30, (Finding(CODES, "kernel", 0.12345, 0.2, 0.5), *columns)).to_json(0.01)
    assert told["drifted"]
    assert told["tests"] == 3
    assert [each["of"] for each in told["findings"]] == [CODES, "column a"]
    assert told["findings"][0]["statistic"] == 0.1234 or told["findings"][0]["statistic"] == 0.1235


@pytest.mark.slow
def test_without_drift_a_time_finds_some_no_more_often_than_alpha() -> None:
    """Of 200 times with two datasets each, at α = 0.1, with tests whose p-values are uniform."""
    random = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        looks = [
            Drift(
                name,
                20,
                20,
                tuple(
                    Finding(of, "kernel", 0.0, float(random.uniform()))
                    for of in (CODES, SCORES, "column a", "column b", "column c")
                ),
            )
            for name in "ab"
        ]
        found += any(each.beyond(0.1) for each in corrected(looks))
    assert 4 <= found <= 32
