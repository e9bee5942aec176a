"""A long series goes through every stage of the DAG: split by time, and judged by time stamp."""

import hashlib
import json
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from latentops.data import prepared, table
from latentops.data.prepared import SPLITS, SplitName
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


def write_params() -> None:
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
                "cuts": [moment(600), moment(900), moment(1200)],
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
