"""Whatever becomes of the store while runs are recorded, `sync` makes of it what nothing would have."""

import http.client
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from latentops import promotion
from latentops.cli import sync as sync_command
from latentops.config import load_params
from latentops.errors import RegistryError, StoreError
from latentops.registry import champion, outbox, results, store, tracking
from latentops.reporting.profiles import drawings
from latentops.stages import record as record_stage

from .conftest import VARIANTS, write_comparison

NOBODY = "http://127.0.0.1:9"
FOR_EACH = "latentops.content_hash"


def record(dataset: str = "pictures") -> dict[str, str]:
    return tracking.record(dataset, load_params(), drawings)


def facts(uri: str | None = None, dataset: str = "pictures") -> list[Any]:
    """All that a store says of a dataset, but for what each run is called by there: times, ids and places."""
    client = MlflowClient(uri or store.tracking_uri())
    experiment = client.get_experiment_by_name(dataset)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    names = {run.info.run_id: run.data.tags[results.CONTENT] for run in found}
    told = []
    for run in found:
        tags = dict(run.data.tags)
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
        histories = {
            name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        inputs = [each.dataset.digest for each in run.inputs.dataset_inputs]
        artifacts = sorted(listed(client, run.info.run_id))
        told.append((run.info.run_name, run.info.status, tags, run.data.params, histories, inputs, artifacts))
    return sorted(told, key=lambda each: (each[0], each[2][FOR_EACH]))


def listed(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from listed(client, run_id, item.path)
        else:
            yield item.path, item.file_size


def undisturbed(project: Path, dataset: str = "pictures") -> list[Any]:
    """What a recording that nothing befalls makes, in a store of its own."""
    uri = f"sqlite:///{empty_store(project, project / 'undisturbed')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        tracking.complete(dataset, load_params(), drawings)
    made = facts(uri, dataset)
    assert len(made) == 3 * len(VARIANTS)
    return made


def empty_store(project: Path, folder: Path) -> Path:
    """A database in `folder`, as the project's is at first; MLflow takes seconds to make one."""
    folder.mkdir()
    return Path(shutil.copy(project / "var/mlflow/mlflow.db", folder / "mlflow.db"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy(ThreadingHTTPServer):
    """Hands requests on to an MLflow server; `fault` may spoil the answer to the n-th, counted from 1."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.fault: Callable[[int], str] = lambda n: ""
        self.count = 0
        self.lock = threading.Lock()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spoil(self, fault: Callable[[int], str]) -> None:
        self.count, self.fault = 0, fault


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def handle_one(self) -> None:
        if self.path == "/health":
            fault = ""
        else:
            with self.server.lock:
                self.server.count += 1
                fault = self.server.fault(self.server.count)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "refuse":
            self.close_connection = True
            return
        if fault == "stall":
            time.sleep(1.5)
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.behind)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        self.close_connection = True
        if fault == "lose":  # the server did it, and nobody hears of it
            return
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"transfer-encoding", "connection", "content-length", "server", "date"}:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """An MLflow server with a store in `folder`; its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "files")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@pytest.fixture
def proxy(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A server behind a proxy, as the store of the project; what fails fails at once."""
    place = tmp_path / "server"
    empty_store(project, place)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(place) as port, Proxy(port) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", between.uri)
        yield between
        between.shutdown()


@pytest.mark.postgresql
def test_without_a_server_the_stage_ends_well_and_sync_delivers_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = undisturbed(project)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        record_stage.run("pictures")
        line = capsys.readouterr().err
        assert line.startswith("warning: pictures: not recorded in MLflow (no MLflow server answers")
        assert "`latentops sync` delivers them" in line
        assert line.count("\n") == 1
        record_stage.run("pictures")  # nothing is kept twice
        with pytest.raises(StoreError, match="no MLflow server answers"):
            tracking.sync()
        with pytest.raises(StoreError, match="no MLflow server answers"):
            promotion.promote("pictures")
    assert len(outbox.entries()) == len(VARIANTS)
    assert tracking.sync() == {"pictures": len(VARIANTS)}
    assert facts() == expected
    assert tracking.sync() == {}
    record()
    assert facts() == expected
    assert outbox.entries() == []


def test_the_command_says_what_it_delivered(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        record("table")
    sync_command()
    sync_command()
    assert capsys.readouterr().out == "table: 2 runs delivered\nnothing waits to be delivered\n"


def test_results_that_were_overwritten_meanwhile_are_delivered_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        write_comparison("pictures", error_rank_correlation=0.1)
        first = record()
        write_comparison("pictures", values=[0.7, 0.8], error_rank_correlation=0.2)
        second = record()
    write_comparison("pictures", values=[0.6, 0.7], error_rank_correlation=0.3)
    third = record()  # the store is back: what waits goes first
    found = [tags[results.CONTENT] for _, _, tags, *_ in facts()]
    hashes = {*first.values(), *second.values(), *third.values()}
    assert {each: found.count(each) for each in found} == dict.fromkeys(hashes, 3)
    assert len(hashes) == 3 * len(VARIANTS)
    assert store.connect().get_experiment_by_name("pictures").tags[tracking.CORRELATION] == "0.3"


def test_promoting_what_waits_names_sync(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        record("table")
    with pytest.raises(RegistryError, match="not recorded; run `latentops sync`"):
        champion.promote("table")
    tracking.complete("table", load_params(), drawings)  # as a promotion begins
    assert champion.promote("table").promoted
    assert outbox.entries() == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_server_that_dies_on_the_way_leaves_nothing_half_done(
    proxy: Proxy, project: Path, fault: str
) -> None:
    """Wherever it dies, before it did what it was asked or after."""
    expected = undisturbed(project)
    behind = f"http://127.0.0.1:{proxy.behind}"
    proxy.spoil(lambda n: fault if n > 10 else "")
    hashes = record()
    assert set(hashes.values()) == {entry.content_hash for entry in outbox.entries()}
    for after in (14, 20, 28, 37):
        proxy.spoil(lambda n, last=after: fault if n > last else "")
        with pytest.raises(StoreError):
            tracking.sync()
        there = facts(behind)
        done = {
            t[results.CONTENT] for _, s, t, *_ in there if t[tracking.ROLE] == "variant" and s == "FINISHED"
        }
        assert [each for each in there if each[2][results.CONTENT] in done] == [
            each for each in expected if each[2][results.CONTENT] in done
        ]
    proxy.spoil(lambda n: "")
    tracking.sync()
    assert facts(behind) == expected
    record()
    assert facts(behind) == expected
    assert outbox.entries() == []


@pytest.mark.slow
def test_lost_answers_that_are_asked_for_again_double_nothing(
    proxy: Proxy, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    expected = undisturbed(project)
    proxy.spoil(lambda n: "lose" if n % 2 else "")
    record()
    assert capsys.readouterr().err == ""
    assert facts(f"http://127.0.0.1:{proxy.behind}") == expected


@pytest.mark.slow
def test_a_server_that_stalls_is_given_up(
    proxy: Proxy, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    expected = undisturbed(project)
    proxy.spoil(lambda n: "stall" if n > 5 else "")
    record()
    assert proxy.count <= 7
    assert len(outbox.entries()) == len(VARIANTS)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    proxy.spoil(lambda n: "stall" if n < 5 else "")
    tracking.sync()  # as slow, and waited for
    proxy.spoil(lambda n: "")
    assert facts() == expected


def test_requests_have_an_end() -> None:
    """Within two minutes, whatever MLflow's own defaults are."""
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES,
        MLFLOW_HTTP_REQUEST_TIMEOUT,
    )

    tries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() + 1
    pauses = sum(MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get() * 2**k for k in range(tries))
    assert tries * MLFLOW_HTTP_REQUEST_TIMEOUT.get() + pauses <= 120


@pytest.mark.slow
@pytest.mark.usefixtures("file_store")
def test_a_full_disk_under_the_store_loses_nothing(project: Path) -> None:
    expected = undisturbed(project)
    store.experiment(store.connect(), "pictures")
    size = Path("var/mlflow/mlflow.db").stat().st_size
    done = with_limit(size)
    assert done.returncode == 0, done.stderr
    assert "warning: pictures: not recorded in MLflow" in done.stderr
    assert Path("results/record/pictures.json").exists()
    tracking.sync()
    assert facts() == expected


@pytest.mark.slow
def test_no_room_to_keep_it_either_is_said_and_the_results_stay(project: Path) -> None:
    expected = undisturbed(project)
    store.experiment(store.connect(), "pictures")
    done = with_limit(2048)
    assert done.returncode == 1
    assert "error: " in done.stderr.splitlines()[-1]
    assert outbox.entries() == []
    record_stage.run("pictures")
    assert facts() == expected


def with_limit(size: int) -> subprocess.CompletedProcess[str]:
    """The stage in a process whose files may not grow beyond `size` bytes, as on a disk that is full."""
    return subprocess.run(
        [sys.executable, "-B", "-m", "latentops.stages", "record", "pictures"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_entry_that_isnt_whole_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        record("table")
    path = next(outbox.home().glob("table/*/run.json"))
    path.write_text("{")
    with pytest.raises(RegistryError, match=r"run\.json: can't be read .*latentops record"):
        tracking.sync()
    shutil.rmtree(path.parent)
    assert tracking.sync() == {"table": len(VARIANTS) - 1}


def test_who_waits_for_another_command_says_so(project: Path) -> None:
    code = """
from latentops.registry import champion, store
with store.locked("promotion", champion.HOLDER):
    print("held")
"""
    with store.locked("promotion", champion.HOLDER):
        second = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert second.stderr.readline() == f"waiting for {champion.HOLDER} to end\n"
        assert second.poll() is None
    assert second.communicate() == ("held\n", "")


def test_a_password_in_the_stores_address_is_never_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hunter2@127.0.0.1:9")
    record("table")
    with pytest.raises(StoreError) as raised:
        tracking.sync()
    told = f"{raised.value}{capsys.readouterr().err}"
    assert "http://someone:***@127.0.0.1:9" in told
    assert "hunter2" not in told
    for path in filter(Path.is_file, Path().rglob("*")):
        assert b"hunter2" not in path.read_bytes(), path
