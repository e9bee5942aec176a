"""Each gate of a version lets a good one pass, holds a bad one, and says by how much."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentops.config import Gates, load_params
from latentops.data import prepared
from latentops.errors import RegistryError
from latentops.evaluation.comparison import Row
from latentops.evaluation.judge import Field
from latentops.registry import gates, store, versions
from latentops.registry.gates import Gate
from latentops.registry.package import Package
from latentops.registry.rejudged import rejudged, seen_by
from latentops.training.trained import Trained

from .conftest import DATASETS

LIMITS = Gates(retention=0.9, margin=0.01, parity=1e-5, latency=0.25, size=100)


def field(name: str) -> Field:
    params = load_params()
    return Field.read(Path("data/prepared") / name, params.dataset(name).normal, params.evaluation)


def against(row: Row, package: Package, champion: Callable[[], Package] | None, primary: str) -> Gate:
    settings = load_params().comparison
    return gates.against_champion(
        row, field(package.facts.dataset), package, champion, "version 1", primary, LIMITS, settings
    )


@pytest.mark.parametrize("name", DATASETS)
def test_a_package_judged_again_has_the_figures_of_its_evaluation(at_live: Path, name: str) -> None:
    package = versions.load(name)
    facts = package.facts
    found = rejudged(package, field(name))
    told = json.loads(Path("results/evaluate", name, facts.variant, "metrics.json").read_text())
    row = next(row for row in told["rows"] if row["name"] == facts.variant)
    at = row["seeds"].index(facts.seed)
    assert found.values.keys() == row["metrics"].keys()
    for metric, values in found.values.items():
        assert values == pytest.approx([row["metrics"][metric]["values"][at]], rel=1e-5, abs=1e-6), metric


@pytest.mark.parametrize("name", DATASETS)
def test_rows_seen_by_the_package_itself_stay_as_they_are(at_live: Path, name: str) -> None:
    package, mine = versions.load(name), field(name)
    again = seen_by(package, mine, package)
    for split, samples in mine.samples.items():
        np.testing.assert_allclose(again.samples[split].values, samples.values, atol=1e-5)
        np.testing.assert_array_equal(again.samples[split].labels, samples.labels)


def test_a_champion_holds_back_what_is_worse_and_nothing_else(at_live: Path) -> None:
    package, mine = versions.load("table"), field("table")
    row = rejudged(package, mine)
    key = "score/benign/auroc"
    truth = (~mine.is_normal("test", "benign")).astype(np.float32)[None]
    perfect = replace(row, values=row.values | {"auroc": [1.0]}, samples=row.samples | {key: truth})
    backwards = replace(row, values=row.values | {"auroc": [0.0]}, samples=row.samples | {key: -truth})

    def live() -> Package:
        return package

    same = against(row, package, live, "auroc")
    assert (same.passed, same.value) == (True, 0.0)
    assert "no difference shown" in same.text
    assert against(perfect, package, live, "auroc").value >= 0
    held = against(backwards, package, live, "auroc")
    assert not held.passed
    assert held.value == pytest.approx(-row.values["auroc"][0])
    assert held.limit == -0.01
    assert "worse" in held.text
    assert against(backwards, package, None, "auroc").passed


def test_a_champion_of_other_data_or_without_files_holds_nothing_back(at_live: Path) -> None:
    package, other = versions.load("table"), versions.load("series")
    row = rejudged(package, field("table"))

    def gone() -> Package:
        raise RegistryError("its files are gone")

    for champion, told in ((lambda: other, "can't be judged on these rows"), (gone, "its files are gone")):
        found = against(row, package, champion, "auroc")
        assert found.passed
        assert told in found.text


@pytest.mark.parametrize("name", DATASETS)
def test_a_package_answers_as_the_pipeline_does_by_every_way(at_live: Path, name: str) -> None:
    version = versions.resolve(name)
    folder = versions.expect_files(store.connect(), version)
    package = versions.package(folder)
    trained = Trained.load(Path("models", name, package.facts.variant))
    rows = prepared.load(Path("data/prepared", name), "calibration")
    found = gates.parity(folder, package, trained, rows, 1e-5)
    assert found.passed, found.text
    another = Trained.load(Path("models", name, "undercomplete"))
    assert package.facts.variant != "undercomplete"
    held = gates.parity(folder, package, another, rows, 1e-5)
    assert not held.passed
    assert held.value is not None
    assert held.value > 1e-3


def test_more_false_alarms_than_chance_allows_break_the_promise() -> None:
    def flagged(count: int) -> dict[str, np.ndarray]:
        each = np.zeros(120, np.float32)
        each[:count] = 1
        each[100:] = np.nan  # anomalies
        return {"a": each}

    kept = gates.false_alarms(flagged(5), {"a": 99}, 0.05)
    assert kept.passed
    assert "5 of 100 normal test rows flagged where 5% were promised" in kept.text
    assert gates.false_alarms(flagged(0), {"a": 99}, 0.05).value == 1.0
    assert not gates.false_alarms(flagged(40), {"a": 99}, 0.05).passed
    assert gates.false_alarms(flagged(14), {"a": 99}, 0.05).value > (
        gates.false_alarms(flagged(14), {"a": 9_999}, 0.05).value or 0
    ), "many calibration rows promise more closely"


def test_the_odds_of_false_alarms_are_those_of_a_simulation() -> None:
    random = np.random.default_rng(0)
    drawn = random.normal(size=(20_000, 39 + 50))
    limit = np.sort(drawn[:, :39], axis=1)[:, -2]  # alpha 5 %: two of 40 places lie above
    alarms = (drawn[:, 39:] > limit[:, None]).sum(axis=1)
    each = np.zeros(50, np.float32)
    each[:8] = 1
    found = gates.false_alarms({"a": each}, {"a": 39}, 0.05)
    assert found.value == pytest.approx(float((alarms >= 8).mean()), rel=0.1)


def test_latency_and_size_are_held_to_their_limits(at_live: Path) -> None:
    folder = versions.expect_files(store.connect(), versions.resolve("table"))
    package, rows = versions.package(folder), prepared.load(Path("data/prepared/table"), "calibration")
    assert gates.latency(package, rows, 5.0).passed
    assert not gates.latency(package, rows, 1e-9).passed
    assert gates.size(folder, 100).passed
    held = gates.size(folder, 0.01)
    assert not held.passed
    assert held.value == pytest.approx(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6)


def test_data_whose_table_fails_an_expectation_is_held(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    unmet = {"level": "table", "success": False, "means": "too few rows"}
    of_a_row = {"level": "row", "success": False, "means": "age: missing"}
    for expectations, passed in (([of_a_row], True), ([of_a_row, unmet], False)):
        path.write_text(json.dumps({"rows": 10, "clean": 9, "expectations": expectations}))
        found = gates.of_data(path)
        assert found.passed is passed
    assert found.text == "unmet: too few rows"
    with pytest.raises(RegistryError, match="dvc repro"):
        gates.of_data(tmp_path / "other.json")
