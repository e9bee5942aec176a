"""The champion over HTTP, as `make serve` starts it."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import latentops
from latentops.data import prepared
from latentops.registry import store
from latentops.registry.verification import verify

from .servers import Tracking

pytestmark = pytest.mark.slow
WAIT = 300.0


@pytest.fixture(scope="module")
def server(live: Path, live_server: Tracking | None) -> Iterator[str]:
    """`mlflow models serve` on a free port of this machine, until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = live_server.uri if live_server else f"sqlite:///{live / 'var' / 'mlflow' / 'mlflow.db'}"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
    ]
    command += ["-m", "models:/series-autoencoder@champion", "-p", str(port), "--workers", "1"]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=live,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    serves, said = threading.Event(), []

    def listen() -> None:
        for line in process.stdout:
            said.append(line)
            if "Uvicorn running on" in line:  # not before: it says that it has started before it listens
                serves.set()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert serves.wait(WAIT), "".join(said)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)
        listener.join(timeout=30)


def post(address: str, body: dict) -> list[dict]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["predictions"]


def test_a_request_over_http_scores_as_the_model_here(server: str, at_live: Path) -> None:
    model = latentops.load("series@champion")
    raw = model.raw(prepared.load(Path("data/prepared/series"), "test").select(slice(0, 8)))
    answer = pd.DataFrame(post(server, model.request(raw, "score")))
    expected = model.score(raw)
    np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
    assert answer["is_anomaly"].tolist() == expected["is_anomaly"].tolist()
    explained = pd.DataFrame(post(server, model.request(raw, "score", explain=True)))
    for row, here in enumerate(model.explain(raw)["attribution"]):
        np.testing.assert_allclose(explained["attribution"][row], here, atol=1e-3)
    codes = pd.DataFrame(post(server, model.request(raw)))
    np.testing.assert_allclose(codes, model.encode(raw), atol=1e-5)
    assert len(post(server, model.request(raw[:1], "sample", n=3))) == 3
    back = post(server, model.request(raw, "denoise"))
    assert [len(row["values"]) for row in back] == [len(row) for row in raw]


def test_serving_leaves_the_package_as_it_was(server: str, at_live: Path) -> None:
    assert post(server, {"dataframe_split": {"columns": ["values"], "data": [[[[1.5, 2.5, 3.5]]]]}})
    assert verify("series@champion").holds


def test_a_bad_request_says_what_is_wrong(server: str) -> None:
    body = {
        "dataframe_split": {"columns": ["values"], "data": [[[[1.5, 2.5]]]]},
        "params": {"task": "encode"},
    }
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(server, body)
    assert raised.value.code == 400
    assert "row 0: shape [1, 2], expected [steps, 3]" in raised.value.read().decode()


def test_serving_reads_the_store_that_the_project_uses(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(live)
    assert store.tracking_uri() == f"sqlite:///{live / 'var' / 'mlflow' / 'mlflow.db'}"
