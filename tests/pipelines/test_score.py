"""Batch scoring around a champion that scores a row by its first value."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from latentops.cli import guard
from latentops.config import load_params
from latentops.data import sources
from latentops.errors import DataError, LatentOpsError
from latentops.registry.drift import Drift, Finding
from latentops.registry.versions import Version
from pipelines import score
from pipelines.score import score_file


class FirstValue:
    """A row's score is its first value; the p-value falls with it."""

    def score(self, x: np.ndarray | list[np.ndarray] | pd.DataFrame) -> pd.DataFrame:
        rows = x.to_numpy() if isinstance(x, pd.DataFrame) else x
        values = np.array([np.ravel(row)[0] for row in rows], dtype=float)
        return pd.DataFrame({"score": values, "p_value": 1 / (1 + abs(values)), "is_anomaly": values > 15})

    def discoveries(self, chance: np.ndarray, rate: float) -> np.ndarray:
        if not 0 < rate < 1:
            raise LatentOpsError(f"false_discovery_rate {rate}")
        return chance <= np.quantile(chance, rate) if len(chance) else np.zeros(0, bool)

    def explain(self, x: np.ndarray | list[np.ndarray] | pd.DataFrame) -> pd.DataFrame:
        if isinstance(x, pd.DataFrame):
            return x.add_prefix("attribution ")
        return pd.DataFrame({"attribution": [np.asarray(row, dtype=float).tolist() for row in x]})


def crown(monkeypatch: pytest.MonkeyPatch, number: int = 1) -> None:
    """Make `FirstValue` the champion of every dataset, as version `number`."""

    def champion(name: str) -> Version:
        dataset = name.removesuffix("@champion")
        return Version(dataset, f"{dataset}-autoencoder", number, "champion", "run", {})

    monkeypatch.setattr(score.versions, "resolve", champion)
    monkeypatch.setattr(score.latentops, "load", lambda name: FirstValue())


@pytest.fixture(params=["digits", "breast_cancer", "digit_columns"])
def dataset(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(request.config.rootpath)
    crown(monkeypatch)
    return request.param


@pytest.fixture
def nuclei(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pa.Table:
    """Twelve rows of a table in `tmp_path / "rows.parquet"`, scored five at a time."""
    monkeypatch.chdir(request.config.rootpath)
    crown(monkeypatch)
    monkeypatch.setattr(score, "ROWS", 5)
    return file_of("breast_cancer", tmp_path / "rows.parquet", "diagnosis")


def file_of(dataset: str, path: Path, *dropped: str) -> pa.Table:
    raw = sources.read_source(load_params().dataset(dataset).source).whole().slice(0, 12)
    rows = raw.drop_columns([".source", ".position", *dropped])
    pq.write_table(rows, path)
    return rows


def test_rows_need_no_label_and_one_changes_nothing(dataset: str, tmp_path: Path) -> None:
    label = load_params().dataset(dataset).source.label
    file_of(dataset, tmp_path / "with.parquet")
    file_of(dataset, tmp_path / "without.parquet", label)
    for name in ("with", "without"):
        done = score_file(dataset, tmp_path / f"{name}.parquet", tmp_path / f"{name}-scores.parquet")
        assert (done.scored, done.rejected, done.rejected_out) == (12, 0, None)
    one, other = (pd.read_parquet(tmp_path / f"{name}-scores.parquet") for name in ("with", "without"))
    pd.testing.assert_frame_equal(one, other)
    assert one["row"].tolist() == list(range(12))


def test_scores_are_explained_on_request(dataset: str, tmp_path: Path) -> None:
    """A column of numbers each of a table, else as deeply nested as the rows are."""
    rows = file_of(dataset, tmp_path / "rows.parquet", load_params().dataset(dataset).source.label)
    for name, explain in (("plain", False), ("told", True)):
        score_file(dataset, tmp_path / "rows.parquet", tmp_path / f"{name}.parquet", explain=explain)
    plain, told = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("plain", "told"))
    pd.testing.assert_frame_equal(told[plain.columns], plain)
    added = told.drop(columns=plain.columns)
    if dataset == "breast_cancer":
        assert added.columns.tolist() == [f"attribution {name}" for name in rows.column_names]
        assert not added.select_dtypes(exclude="number").columns.tolist()
    else:
        depth = {"digits": 3, "digit_columns": 2}[dataset]
        kind = pq.read_schema(tmp_path / "told.parquet").field("attribution").type
        assert str(kind).count("list") == depth


def test_keys_of_the_rows_are_passed_on(nuclei: pa.Table, tmp_path: Path) -> None:
    """Those of the rows that are scored, whatever row groups the file has."""
    keys = [f"patient {chr(ord('l') - at)}" for at in range(12)]
    spoilt = nuclei.set_column(0, nuclei.column_names[0], pa.array([None, *nuclei.column(0).to_pylist()[1:]]))
    rows = spoilt.append_column("key", pa.array(keys)).append_column("visit", pa.array(range(12)))
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=4)
    out = tmp_path / "scores.parquet"
    done = score_file("breast_cancer", tmp_path / "rows.parquet", out, keys=["key", "visit"])
    assert (done.scored, done.rejected) == (11, 1)
    found = pd.read_parquet(out)
    assert found.columns.tolist()[:3] == ["row", "key", "visit"]
    assert found["key"].tolist() == keys[1:]
    assert found["visit"].tolist() == found["row"].tolist()
    with pytest.raises(DataError, match=r"no column 'keys' \(did you mean 'key'"):
        score_file("breast_cancer", tmp_path / "rows.parquet", out, keys=["keys", "visit"])
    with pytest.raises(LatentOpsError, match="--key row: the output has a column of that name"):
        score_file("breast_cancer", tmp_path / "rows.parquet", out, keys=["row"])
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="the keys key are passed on of Parquet files alone"):
        score_file("breast_cancer", tmp_path / "rows.csv", out, keys=["key"])


def test_a_false_discovery_rate_is_passed_on_and_its_flags_are_counted(dataset: str, tmp_path: Path) -> None:
    file_of(dataset, tmp_path / "rows.parquet")
    plain = score_file(dataset, tmp_path / "rows.parquet", tmp_path / "plain.parquet")
    assert plain.flagged is None
    assert "flagged" not in str(plain)
    assert "flagged" not in pd.read_parquet(tmp_path / "plain.parquet")
    done = score_file(dataset, tmp_path / "rows.parquet", tmp_path / "flags.parquet", 0.25)
    assert done.flagged == pd.read_parquet(tmp_path / "flags.parquet")["flagged"].sum()
    assert f"{done.flagged} flagged" in str(done)


def test_a_missing_and_an_unknown_column_are_named(dataset: str, tmp_path: Path) -> None:
    label = load_params().dataset(dataset).source.label
    rows = file_of(dataset, tmp_path / "rows.parquet", label)
    last = rows.column_names[-1]
    pq.write_table(rows.rename_columns([*rows.column_names[:-1], "odd"]), tmp_path / "renamed.parquet")
    with pytest.raises(DataError, match=f"no column '{last}'"):
        score_file(dataset, tmp_path / "renamed.parquet", tmp_path / "scores.parquet")
    pq.write_table(rows.append_column("odd", rows.column(0)), tmp_path / "more.parquet")
    with pytest.raises(DataError, match="unknown column 'odd'"):
        score_file(dataset, tmp_path / "more.parquet", tmp_path / "scores.parquet")
    assert not (tmp_path / "scores.parquet").exists()


def test_a_bad_row_is_set_aside_with_its_reason_and_no_row_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(request.config.rootpath)
    crown(monkeypatch)
    rows = file_of("breast_cancer", tmp_path / "rows.parquet", "diagnosis")
    texture = rows.column("mean texture").to_pylist()
    texture[3] = None
    at = rows.column_names.index("mean texture")
    pq.write_table(rows.set_column(at, "mean texture", pa.array(texture)), tmp_path / "rows.parquet")
    done = score_file("breast_cancer", tmp_path / "rows.parquet", tmp_path / "scores.parquet")
    assert (done.scored, done.rejected) == (11, 1)
    aside = pq.read_table(tmp_path / "scores.rejected.parquet")
    assert aside.column(".position").to_pylist() == [3]
    assert aside.column(".reasons").to_pylist() == [["mean texture: missing or not finite"]]
    assert 3 not in pd.read_parquet(tmp_path / "scores.parquet")["row"].tolist()


def test_without_a_champion_one_line_says_so_and_no_flow_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    shutil.copy(request.config.rootpath / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    file_of("digits", tmp_path / "rows.parquet")
    with pytest.raises(SystemExit) as ended:
        guard(lambda: score.app(["digits", "rows.parquet", "scores.parquet"], standalone_mode=False))
    assert ended.value.code == 1
    said = capfd.readouterr()
    (line,) = [line for line in (said.out + said.err).splitlines() if "digits@champion" in line]
    assert line.startswith("error: no model 'digits@champion'")
    assert "Traceback" not in said.err
    assert "Beginning flow run" not in said.out + said.err


def test_where_rows_have_times_so_have_their_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.stages.test_series_stages import BEGIN, EVERY, STRIDE, write_series

    monkeypatch.chdir(tmp_path)
    crown(monkeypatch)
    write_series()
    rows = file_of("pump", tmp_path / "rows.parquet", "state", ".marked", ".problem")
    at = rows.column_names.index(".time")
    times = [*rows.column(".time").to_pylist()[:-1], None]
    for name, column in (("rows", pa.array(times, pa.float64())), ("none", pa.nulls(12, pa.float64()))):
        pq.write_table(rows.set_column(at, ".time", column), tmp_path / f"{name}.parquet")
        score_file("pump", tmp_path / f"{name}.parquet", tmp_path / f"{name}-scores.parquet")
    found = pd.read_parquet(tmp_path / "rows-scores.parquet")
    assert found["row"].tolist() == list(range(12))
    assert found["time"].tolist()[:2] == ["2014-05-13T16:53:20.000Z", "2014-05-13T17:13:20.000Z"]
    begun = pd.to_datetime(found["time"][:11]).map(pd.Timestamp.timestamp).tolist()
    assert begun == [BEGIN + EVERY * STRIDE * at for at in range(11)]
    assert pd.isna(found["time"][11])
    assert "time" not in pd.read_parquet(tmp_path / "none-scores.parquet")


class Killed(BaseException):
    """Ends a run as a signal does: nothing in the way catches it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, call: int) -> list[int]:
    """Have the champion end the run in its `call`-th batch; the sizes of the batches that it is asked for."""
    sizes: list[int] = []
    plain = FirstValue.score

    def scoring(self: FirstValue, x: pd.DataFrame) -> pd.DataFrame:
        if len(sizes) == call:
            raise Killed
        sizes.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(FirstValue, "score", scoring)
    return sizes


def test_parts_make_the_same_file_as_all_at_once(
    nuclei: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.parquet"
    sizes = killed_at(monkeypatch, 99)
    done = score_file("breast_cancer", rows, tmp_path / "parts.parquet", 0.25, explain=True)
    assert sizes == [5, 5, 2]
    monkeypatch.setattr(score, "ROWS", 100)
    whole = score_file("breast_cancer", rows, tmp_path / "whole.parquet", 0.25, explain=True)
    assert (done.scored, done.flagged, done.anomalies) == (whole.scored, whole.flagged, whole.anomalies)
    parts, once = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("parts", "whole"))
    pd.testing.assert_frame_equal(parts, once)
    assert parts["flagged"].sum() == 3
    assert not (tmp_path / "parts.parquet.part").exists()


def test_a_killed_run_goes_on_from_its_last_whole_part(
    nuclei: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, out = tmp_path / "rows.parquet", tmp_path / "scores.parquet"
    score_file("breast_cancer", rows, tmp_path / "at once.parquet")
    with monkeypatch.context() as dying:
        killed_at(dying, 2)
        with pytest.raises(Killed):
            score_file("breast_cancer", rows, out)
    assert not out.exists(), "no half of a file"
    sizes, said = killed_at(monkeypatch, 99), []
    done = score_file("breast_cancer", rows, out, say=said.append)
    assert sizes == [2]
    assert (done.scored, done.resumed) == (12, 10)
    assert "10 rows are done; going on from there" in said[0]
    assert out.read_bytes() == (tmp_path / "at once.parquet").read_bytes()


@pytest.mark.parametrize("changed", ["rows_sha256", "version", "explain"])
def test_a_run_on_other_rows_or_with_another_model_starts_anew_and_says_so(
    nuclei: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    rows, out = tmp_path / "rows.parquet", tmp_path / "scores.parquet"
    with monkeypatch.context() as dying:
        killed_at(dying, 2)
        with pytest.raises(Killed):
            score_file("breast_cancer", rows, out)
    if changed == "rows_sha256":
        pq.write_table(nuclei.take(pa.array(range(11, -1, -1))), rows)
    elif changed == "version":
        crown(monkeypatch, number=2)
    sizes, said = killed_at(monkeypatch, 99), []
    done = score_file("breast_cancer", rows, out, explain=changed == "explain", say=said.append)
    assert sizes == [5, 5, 2]
    assert (done.scored, done.resumed) == (12, 0)
    assert f"with other {changed}; starting anew" in said[0]


def test_values_that_cannot_be_read_set_their_row_aside_and_stop_no_other(
    nuclei: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texture = [str(value) for value in nuclei.column("mean texture").to_pylist()]
    texture[7] = "coarse"
    at = nuclei.column_names.index("mean texture")
    pq.write_table(nuclei.set_column(at, "mean texture", pa.array(texture)), tmp_path / "rows.parquet")
    done = score_file("breast_cancer", tmp_path / "rows.parquet", tmp_path / "scores.parquet")
    assert (done.scored, done.rejected) == (11, 1)
    aside = pq.read_table(tmp_path / "scores.rejected.parquet")
    assert aside.column(".position").to_pylist() == [7]
    assert aside.column(".reasons").to_pylist() == [["column 'mean texture': 'coarse' is no number"]]

    images = file_of("digits", tmp_path / "images.parquet", "digit")
    pixels = images.column("pixels").to_pylist()
    pixels[0], pixels[6] = pixels[0][:63], None
    pq.write_table(pa.table({"pixels": pa.array(pixels)}), tmp_path / "images.parquet")
    done = score_file("digits", tmp_path / "images.parquet", tmp_path / "scores.parquet")
    assert (done.scored, done.rejected) == (10, 2)
    aside = pq.read_table(tmp_path / "scores.rejected.parquet")
    assert aside.column(".position").to_pylist() == [0, 6]
    assert aside.column(".reasons").to_pylist()[0] == ["column 'pixels': 63 values, expected 64"]
    scored = pd.read_parquet(tmp_path / "scores.parquet")
    assert scored["row"].tolist() == [row for row in range(12) if row not in (0, 6)]


@pytest.mark.parametrize("rows", [0, 12])
def test_a_file_without_a_good_row_gives_an_output_without_rows(
    nuclei: pa.Table, tmp_path: Path, rows: int
) -> None:
    at = nuclei.column_names.index("mean texture")
    bad = nuclei.set_column(at, "mean texture", pa.nulls(12, pa.float64()))
    pq.write_table(bad.slice(0, rows), tmp_path / "rows.parquet")
    done = score_file("breast_cancer", tmp_path / "rows.parquet", tmp_path / "scores.parquet", 0.1)
    assert (done.scored, done.flagged, done.rejected) == (0, 0, rows)
    columns = ["row", "score", "p_value", "is_anomaly", "flagged"]
    assert pq.read_schema(tmp_path / "scores.parquet").names == columns


def test_what_is_scored_is_looked_at_for_drift_and_never_stopped_by_it(
    nuclei: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []

    def look_at(dataset: str, rows: pa.Table) -> Drift:
        seen.append((dataset, rows.num_rows))
        return Drift(dataset, rows.num_rows, 90, (Finding("codes", "kernel", 0.1, 0.001),))

    def fails(dataset: str, rows: pa.Table) -> Drift:
        raise DataError("data/prepared/breast_cancer: not here")

    monkeypatch.setattr(score, "get_run_logger", lambda: logging.getLogger("monitor"))
    monkeypatch.setattr(
        score, "watch", lambda found, *told: seen.append((found.findings[0].corrected, *told))
    )
    monkeypatch.setattr(score, "look_at", look_at)
    score.monitor("breast_cancer", tmp_path / "rows.parquet")
    assert seen == [("breast_cancer", 5), (0.002, "score", ["rows.parquet"])]
    monkeypatch.setattr(score, "look_at", fails)
    score.monitor("breast_cancer", tmp_path / "rows.parquet")
    assert "rows.parquet: not looked at for drift: data/prepared/breast_cancer: not here" in caplog.text


def test_a_csv_is_scored_as_the_same_rows_in_parquet(nuclei: pa.Table, tmp_path: Path) -> None:
    pa.csv.write_csv(nuclei, tmp_path / "rows.csv")
    for name in ("rows.parquet", "rows.csv"):
        score_file("breast_cancer", tmp_path / name, tmp_path / f"{name}.parquet")
    one, other = (pd.read_parquet(tmp_path / f"rows.{end}.parquet") for end in ("parquet", "csv"))
    pd.testing.assert_frame_equal(one, other)
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    lines[3] = "wide" + lines[3][lines[3].index(",") :]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    done = score_file("breast_cancer", tmp_path / "rows.csv", tmp_path / "rows.csv.parquet")
    assert (done.scored, done.rejected) == (11, 1)


def test_a_rate_that_cannot_be_kept_is_refused_before_anything_is_scored(
    nuclei: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = killed_at(monkeypatch, 99)
    with pytest.raises(LatentOpsError, match=r"false_discovery_rate 2\.0"):
        score_file("breast_cancer", tmp_path / "rows.parquet", tmp_path / "scores.parquet", 2.0)
    assert sizes == []


# Not what getrusage tells: that begins with what the process that started this one had.
PEAK = """
import re, sys
from pathlib import Path
import pytest
from pipelines import score
from tests.pipelines.test_score import crown
with pytest.MonkeyPatch.context() as patch:
    crown(patch)
    done = score.score_file("breast_cancer", Path(sys.argv[1]), Path(sys.argv[1] + ".scores.parquet"), 0.1)
    assert done.scored == int(sys.argv[2]), done
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rows = file_of("breast_cancer", tmp_path / "rows.parquet", "diagnosis")
    peaks, sizes = [], []
    for count in (40_000, 280_000):
        path = tmp_path / f"{count}.parquet"
        repeated = rows.take(pa.array(np.arange(count) % rows.num_rows))
        # One row group, of small pages: a page of each column has to be in memory.
        pq.write_table(repeated, path, row_group_size=count, use_dictionary=False, data_page_size=2**16)
        sizes.append(repeated.nbytes)
        command = [sys.executable, "-c", PEAK, str(path), str(count)]
        root = request.config.rootpath
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        peaks.append(int(ended.stdout.splitlines()[-1]))
    assert peaks[1] - peaks[0] < 0.5 * (sizes[1] - sizes[0])
