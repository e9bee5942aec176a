"""A long series goes through every stage of the DAG: split by time, and judged by time stamp."""

import hashlib
import json
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from latentops.config import load_params
from latentops.data import catalogue, preparation, prepared, table
from latentops.data.prepared import SPLITS, SplitName
from latentops.data.table import Stored
from latentops.errors import DataError
from latentops.evaluation.statistics import auroc
from latentops.evaluation.timeline import Timeline
from latentops.reporting import results, timelines
from latentops.stages.__main__ import main

ROOT = Path(__file__).parents[2]
STEPS, EVERY, WINDOW, STRIDE, BEGIN = 1800, 300, 12, 4, 1_400_000_000
MARKS = [(700, 716), (1500, 1530), (1690, 1720)]
FOLDER = Path("data/prepared/pump")
METRICS = ("timestamp_auroc", "marks_hit", "false_alarms_per_day")


def moment(step: int) -> str:
    return datetime.fromtimestamp(BEGIN + step * EVERY, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_series()
    return tmp_path


def write_series() -> None:
    """A sine with three planted bursts, its marks, and params.yaml, in the working folder."""
    steps = np.arange(STEPS)
    planted = np.any([(steps >= since) & (steps < until) for since, until in MARKS], axis=0)
    noise = np.random.default_rng(0).normal(size=STEPS) * np.where(planted, 3.0, 0.2)
    values = 50 + 10 * (np.sin(steps / 4) + noise)
    lines = [f"{moment(step)},{value:.4f}\n" for step, value in enumerate(values)]
    Path("pump.csv").write_text("".join(["time,value\n", *lines]), encoding="utf-8")
    spans = [[moment(since), moment(until - 1)] for since, until in MARKS]
    Path("marks.json").write_text(json.dumps({"pump.csv": spans}), encoding="utf-8")
    write_params()


def listed(name: str) -> dict[str, str]:
    return {"path": name, "sha256": hashlib.sha256(Path(name).read_bytes()).hexdigest()}


def write_params(cuts: tuple[int, int, int] = (600, 900, 1200)) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    read = {"format": "series", "window": WINDOW, "stride": STRIDE, "every": EVERY}
    params["run"] = {"datasets": ["pump"], "variants": ["undercomplete"]}
    params["datasets"] = {
        "pump": params["datasets"]["digit_columns"]
        | {
            "source": {
                "name": "file",
                "kind": "sequence",
                "label": "state",
                "time": "time",
                "values": ["value"],
                "files": [listed("pump.csv")],
                "read": {**read, "marks": listed("marks.json")},
            },
            "expectations": {"min_rows": 10, "max_quarantined": 0.1, "classes": ["normal", "anomaly"]},
            "scaling": "standard",
            "split": {
                **{"seed": 0, "stop": 0.15, "calibration": 0.15, "test": 0.25, "by": "time"},
                "cuts": [moment(cut) for cut in cuts],
            },
            "normal": ["normal"],
            "primary": "auroc",
            "latent_dim": 3,
        }
    }
    params["training"] |= {"seeds": [0, 1], "check_every": 50, "batch_size": 32}
    params["training"]["budget"]["mlp"] = {"steps": 150, "learning_rate": 0.01}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def stage(*words: str) -> None:
    assert main(list(words)) == 0


def prepare() -> None:
    """ingest and prepare; what validate does to good rows, without what it costs."""
    stage("ingest", "pump")
    table.write(Path("data/clean/pump.parquet"), table.read(Path("data/raw/pump.parquet"), "ingest@pump"))
    stage("prepare", "pump")


def steps_of(split: SplitName) -> np.ndarray:
    """Which steps of the series each of its windows has, [n, window]."""
    places = prepared.load(FOLDER, split).windows
    assert places is not None
    return ((places.times - BEGIN) // EVERY).astype(int)[:, None] + np.arange(WINDOW)


def metrics(path: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row["metrics"] for row in json.loads(Path(path).read_text())["rows"]}


def test_no_step_is_in_two_splits_and_no_window_is_lost(project: Path) -> None:
    prepare()
    steps = {split: set(steps_of(split).ravel().tolist()) for split in SPLITS}
    assert all(steps.values())
    for one, other in combinations(SPLITS, 2):
        assert not steps[one] & steps[other]
    report = json.loads(Path("results/prepare/pump.json").read_text())
    rows = table.read(Path("data/clean/pump.parquet"), "validate@pump").num_rows
    assert report["purged"] > 0
    assert sum(sum(each.values()) for each in report["rows"].values()) + report["purged"] == rows
    places = pq.read_table("data/splits/pump.parquet").column("split").to_pylist()
    assert len(places) == rows
    assert places.count("purged") == report["purged"]


def test_windows_keep_their_time_and_test_windows_what_is_marked_of_them(project: Path) -> None:
    prepare()
    description, test = prepared.describe(FOLDER), prepared.load(FOLDER, "test")
    assert description.every == EVERY
    assert test.windows is not None
    assert test.windows.marks is not None
    steps = steps_of("test")
    marked = np.any([(steps >= since) & (steps < until) for since, until in MARKS], axis=0)
    assert np.array_equal(test.windows.marks, marked)
    classes = np.array(description.classes)[test.labels]
    assert np.array_equal(classes == "anomaly", marked.any(axis=1))
    for split in ("train", "stop", "calibration"):
        assert not Path(FOLDER, split, "marks.npy").exists(), "what is learned from knows no stamp's mark"
    before = {path: path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()}
    stage("prepare", "pump")
    assert before == {path: path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()}


def test_variants_and_floors_are_judged_by_time_stamp(project: Path) -> None:
    prepare()
    stage("floors", "pump")
    stage("train", "pump", "undercomplete")
    stage("evaluate", "pump", "undercomplete")
    stage("compare", "pump")
    found = {
        **metrics("results/floors/pump/metrics.json"),
        **metrics("results/evaluate/pump/undercomplete/metrics.json"),
    }
    judged = {name for name, each in found.items() if "auroc" in each}
    assert {"PCA-3", "kNN", "isolation forest", "undercomplete", "untrained undercomplete"} <= judged
    for name in judged:
        assert set(METRICS) <= set(found[name])
    ours = found["undercomplete"]
    assert min(ours["timestamp_auroc"]["values"]) > 0.95
    assert ours["marks_hit"]["values"] == [1.0, 1.0]
    board = metrics("results/compare/pump.json")
    for name in judged:
        for metric in METRICS:
            one = board[name][metric]
            assert one["values"] == found[name][metric]["values"]
            assert one["low"] <= one["mean"] + 1e-9
            assert one["high"] >= one["mean"] - 1e-9


def test_the_page_shows_the_scores_over_time(project: Path) -> None:
    prepare()
    for words in (("floors",), ("train", "undercomplete"), ("evaluate", "undercomplete"), ("compare",)):
        stage(words[0], "pump", *words[1:])
    found = results.comparison("pump")
    (picture,) = timelines.gallery(found).others
    ((_, drawing),) = picture.drawings
    marked = [mark for mark in MARKS if mark[0] >= 1200]
    assert drawing.count('class="held"') == 2, "the test part, once for each width"
    assert drawing.count('class="marked"') == 2 * 2 * len(marked)
    assert drawing.count('class="limit"') == 2
    Path("results/evaluate/pump/undercomplete/samples.safetensors").unlink()
    without = timelines.gallery(found)
    assert not without.others
    assert "samples.safetensors is not here" in without.notes[0]


def test_anomalies_before_stop_are_chosen_by_where_stop_has_none(project: Path) -> None:
    write_params((800, 1000, 1200))
    prepare()
    rows = json.loads(Path("results/prepare/pump.json").read_text())["rows"]
    assert (rows["train"]["anomaly"], rows["calibration"]["anomaly"]) == (0, 0)
    assert rows["stop"]["anomaly"] > 0
    moved = steps_of("stop")[prepared.load(FOLDER, "stop").labels == 1]
    assert moved.max() < 800
    assert not set(moved.ravel().tolist()) & set(steps_of("train").ravel().tolist())


def test_without_an_anomaly_to_choose_by_nothing_is_chosen_and_all_is_judged(project: Path) -> None:
    marks = json.loads(Path("marks.json").read_text())["pump.csv"][1:]
    Path("marks.json").write_text(json.dumps({"pump.csv": marks}), encoding="utf-8")
    write_params()
    prepare()
    for words in (("floors",), ("train", "undercomplete"), ("evaluate", "undercomplete"), ("compare",)):
        stage(words[0], "pump", *words[1:])
    found = results.comparison("pump")
    assert found.chosen is None
    assert not found.passed
    ours = found.row("undercomplete")
    assert ours is not None
    assert ours.mean("timestamp_auroc") is not None
    assert ours.mean("auroc") is not None
    (picture,) = timelines.gallery(found).others
    assert "undercomplete (seed 0)" in picture.caption


def test_a_test_without_an_anomaly_is_refused(project: Path) -> None:
    marks = json.loads(Path("marks.json").read_text())["pump.csv"][:1]
    Path("marks.json").write_text(json.dumps({"pump.csv": marks}), encoding="utf-8")
    write_params()
    stage("ingest", "pump")
    raw = table.read(Path("data/raw/pump.parquet"), "ingest@pump")
    table.write(Path("data/clean/pump.parquet"), raw)
    settings = load_params().dataset("pump")
    with pytest.raises(DataError, match=r"pump: the test has no row that isn't normal.*split\.cuts"):
        preparation.prepare(
            Stored(Path("data/clean/pump.parquet"), "validate@pump"),
            settings,
            "pump",
            Path("out"),
            Path("listed.parquet"),
        )


def test_windows_that_look_the_same_at_two_moments_are_two(project: Path) -> None:
    text = Path("pump.csv").read_text(encoding="utf-8").splitlines()
    still = [f"{line.split(',')[0]},50.0" if at and at % 200 < 60 else line for at, line in enumerate(text)]
    Path("pump.csv").write_text("\n".join(still) + "\n", encoding="utf-8")
    write_params()
    prepare()
    report = json.loads(Path("results/prepare/pump.json").read_text())
    rows = sum(sum(each.values()) for each in report["rows"].values()) + report["purged"]
    assert report["units"] == rows
    ids = [row.tobytes() for split in SPLITS for row in prepared.load(FOLDER, split).ids]
    assert len(set(ids)) < len(ids), "there are some"
    assert sum(report["rows"]["train"].values()) > 0.9 * 600 / STRIDE - WINDOW


def test_a_series_of_the_benchmark(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    entry = catalogue.entries()["nab/machine_temperature_system_failure"].source
    source = entry.model_dump(mode="json", exclude_unset=True)
    spans_of = mirror / "sequences/NAB/combined_windows.json"
    source["read"]["marks"]["sha256"] = hashlib.sha256(spans_of.read_bytes()).hexdigest()
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["datasets"]["pump"] = params["datasets"]["digit_columns"] | {
        "source": source,
        "expectations": {"min_rows": 10, "max_quarantined": 0.1, "classes": ["normal", "anomaly"]},
        "scaling": "standard",
        "split": {"seed": 0, "stop": 0.15, "calibration": 0.12, "test": 0.25, "by": "time"},
        "normal": ["normal"],
        "primary": "auroc",
    }
    params["run"]["datasets"] = ["pump"]
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    stage("ingest", "pump")
    raw = table.read(Path("data/raw/pump.parquet"), "ingest@pump")
    whole = raw.filter(pc.is_null(raw.column(".problem")))
    table.write(Path("data/clean/pump.parquet"), whole)
    stage("prepare", "pump")
    test = prepared.load(FOLDER, "test")
    line = Timeline.of(test, 300.0)
    marks = json.loads(spans_of.read_text(encoding="utf-8"))
    spans = [
        [datetime.fromisoformat(each[:19]).replace(tzinfo=UTC).timestamp() for each in span]
        for span in marks["realKnownCause/machine_temperature_system_failure.csv"]
    ]
    wanted = np.any([(line.times + 300 > since) & (line.times <= until) for since, until in spans], axis=0)
    assert np.array_equal(line.marked, wanted)
    assert line.runs(line.marked).max() == 1, "two of the four marked stretches are in the test"
    exact = line.mean(line.marked[line.at].mean(axis=1))
    assert auroc(exact, line.marked) > 0.99
