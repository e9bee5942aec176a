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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import latentops
from latentops.data import prepared
from latentops.registry import onnx, store, versions
from latentops.registry.gates import deviation
from latentops.registry.verification import verify
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

from .conftest import DATASETS

pytestmark = pytest.mark.slow
WAIT = 300.0


@pytest.fixture(scope="module")
def server(live: Path) -> Iterator[str]:
    """The champion of the series, served."""
    with serving(live, "series") as address:
        yield address


@contextmanager
def serving(project: Path, dataset: str) -> Iterator[str]:
    """`mlflow models serve` of a champion on a free port of this machine, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"sqlite:///{project / 'var' / 'mlflow' / 'mlflow.db'}"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "-p", str(port), "--workers", "1"]
    command += ["-m", f"models:/{dataset}-autoencoder@champion"]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=project,
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


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_way_to_call_a_model_gives_the_same_codes_and_scores(
    dataset: str, live: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The pipeline on prepared rows, and on raw ones the package, MLflow here and over HTTP, and ONNX.

    No further off than 1e-5 of the largest.
    """
    monkeypatch.chdir(live)
    rows = prepared.load(Path("data/prepared") / dataset, "test").select(slice(0, 16))
    model, graph = latentops.load(f"{dataset}@champion"), tmp_path / "model.onnx"
    raw, member = model.raw(rows), Trained.load(Path("models") / dataset / "variational").select(seed=1)
    judged = load_file(f"results/evaluate/{dataset}/variational/samples.safetensors")
    scores = np.min([judged[f"variational/score/{view}/auroc"][1, :16] for view in model.references], axis=0)
    codes = {"pipeline": member.select(view=VIEW_ALL).encode(rows)[0], "package": model.encode(raw)}
    scored = {"pipeline": scores, "package": model.score(raw)["score"]}

    place = versions.expect_files(store.connect(), versions.resolve(dataset))
    here = mlflow.pyfunc.load_model(str(place))
    codes["pyfunc"] = here.predict(model.frame(raw), params={"task": "encode"})
    scored["pyfunc"] = here.predict(model.frame(raw), params={"task": "score"})["score"]

    with ExitStack() as opened:
        if dataset == "series":
            address = request.getfixturevalue("server")
        else:
            address = opened.enter_context(serving(live, dataset))
        codes["http"] = pd.DataFrame(post(address, model.request(raw)))
        scored["http"] = pd.DataFrame(post(address, model.request(raw, "score")))["score"]

    onnx.export(model, graph)
    (codes["onnx"],) = onnx.session(graph).run(["codes"], onnx.inputs(model, raw))

    for found in (codes, scored):
        expected = found.pop("pipeline")
        off = {way: deviation(expected, np.asarray(each, np.float64)) for way, each in found.items()}
        assert max(off.values()) <= 1e-5, off


def test_a_request_over_http_scores_as_the_model_here(
    server: str, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(live)
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


def test_serving_leaves_the_package_as_it_was(
    server: str, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(live)
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
