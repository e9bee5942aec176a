"""What stages took: the last run of each, and a bounded history that several processes write at once."""

import multiprocessing
from pathlib import Path

import pytest

from latentops import costs


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = costs.write("train@my-data-sparse", 4.25, 3.5, 7, tmp_path)
    assert costs.last("train@my-data-sparse", tmp_path) == written
    assert list(costs.lasts(tmp_path)) == [written]
    assert costs.history(tmp_path) == [written]
    assert written.verb == "train"


def test_the_last_run_is_the_last_and_the_history_has_all(tmp_path: Path) -> None:
    written = [costs.write("report", seconds, 1.0, 7, tmp_path) for seconds in (1.0, 2.0, 3.0)]
    assert costs.last("report", tmp_path) == written[-1]
    assert costs.history(tmp_path) == written


def test_the_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "KEPT", 3)
    for seconds in range(5):
        costs.write("report", seconds, 1.0, 7, tmp_path)
    assert [cost.wall_seconds for cost in costs.history(tmp_path)] == [2, 3, 4]


def test_what_nobody_can_read_is_passed_over(tmp_path: Path) -> None:
    written = costs.write("report", 1.0, 1.0, 7, tmp_path)
    with (tmp_path / costs.FOLDER / costs.HISTORY).open("a") as stream:
        stream.write('{"stage": "half\n[]\n{}\n')
    (tmp_path / costs.FOLDER / "train-digits.json").write_text("{half")
    assert costs.history(tmp_path) == [written]
    assert list(costs.lasts(tmp_path)) == [written]


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / costs.FOLDER / "train-digits-sparse.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"cpu_seconds": 3.0, "peak_bytes": 7, "wall_seconds": 4.0}')
    assert costs.last("train@digits-sparse", tmp_path) == costs.Cost("train@digits-sparse", 4.0, 3.0, 7)


def _write(folder: Path, name: str) -> None:
    for number in range(10):
        costs.write(f"train@{name}", number, 1.0, 7, folder)


def test_no_run_is_lost_where_stages_end_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [(cost.stage, cost.wall_seconds) for cost in costs.history(tmp_path)]
    assert sorted(found) == sorted((f"train@{name}", float(k)) for name in "abc" for k in range(10))
