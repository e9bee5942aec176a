"""Batch scoring around a champion that scores a row by its first value."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentops.cli import guard
from latentops.config import load_params
from latentops.data import sources
from latentops.errors import DataError
from pipelines import score
from pipelines.score import score_file


class FirstValue:
    def score(self, x: np.ndarray | list[np.ndarray], rate: float | None = None) -> pd.DataFrame:
        rows = x.to_numpy() if isinstance(x, pd.DataFrame) else x
        values = np.array([np.ravel(row)[0] for row in rows], dtype=float)
        flagged = {} if rate is None else {"flagged": values > np.quantile(values, 1 - rate)}
        verdicts = {"is_anomaly": values > np.median(values)} | flagged
        return pd.DataFrame({"score": values, "p_value": 1.0} | verdicts)

    def explain(self, x: np.ndarray | list[np.ndarray] | pd.DataFrame) -> pd.DataFrame:
        if isinstance(x, pd.DataFrame):
            return x.add_prefix("attribution ")
        return pd.DataFrame({"attribution": [np.asarray(row, dtype=float).tolist() for row in x]})


@pytest.fixture(params=["digits", "breast_cancer", "digit_columns"])
def dataset(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setattr(score.latentops, "load", lambda name: FirstValue())
    return request.param


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
    monkeypatch.setattr(score.latentops, "load", lambda name: FirstValue())
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
    monkeypatch.setattr(score.latentops, "load", lambda name: FirstValue())
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
