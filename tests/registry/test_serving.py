"""The champion over HTTP, as `make serve` starts it."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load_file

import latentops
from latentops.data import prepared
from latentops.errors import LatentOpsError
from latentops.registry import champion, onnx, serving, store, versions
from latentops.registry.gates import deviation
from latentops.registry.verification import verify
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

from .conftest import DATASETS
from .servers import Tracking

pytestmark = pytest.mark.slow
WAIT = 300.0


@pytest.fixture(scope="module")
def server(live: Path, store_uri: str) -> Iterator[str]:
    """The champion of the series, by `latentops serve`."""
    with started(live, store_uri, "latentops.cli", "serve", "series", "--workers", "1", "--port") as address:
        yield address


@pytest.fixture(scope="module")
def store_uri(live: Path, live_server: Tracking | None) -> str:
    return live_server.uri if live_server else f"sqlite:///{live / 'var' / 'mlflow' / 'mlflow.db'}"


@contextmanager
def started(project: Path, uri: str, *module: str) -> Iterator[str]:
    """The address of a server on a free port, which its command ends with, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", *module, str(port)]
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
    dataset: str, at_live: Path, store_uri: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The pipeline on prepared rows, and on raw ones the package, MLflow here and over HTTP, and ONNX.

    No further off than 1e-5 of the largest.
    """
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
            model_uri = f"models:/{dataset}-autoencoder@champion"
            serve = ("mlflow", "models", "serve", "--env-manager", "local", "-m", model_uri, "--workers", "1")
            address = opened.enter_context(started(at_live, store_uri, *serve, "-p"))
        codes["http"] = pd.DataFrame(post(address, model.request(raw)))
        scored["http"] = pd.DataFrame(post(address, model.request(raw, "score")))["score"]

    onnx.export(model, graph)
    (codes["onnx"],) = onnx.session(graph).run(["codes"], onnx.inputs(model, raw))

    for found in (codes, scored):
        expected = found.pop("pipeline")
        off = {way: deviation(expected, np.asarray(each, np.float64)) for way, each in found.items()}
        assert max(off.values()) <= 1e-5, off


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


def test_a_thousand_rows_in_one_request_and_many_clients_at_once(server: str, at_live: Path) -> None:
    model = latentops.load("series@champion")
    raw = model.raw(prepared.load(Path("data/prepared/series"), "test"))
    many = [raw[row % len(raw)] for row in range(1000)]
    answer = pd.DataFrame(post(server, model.request(many, "score")))
    np.testing.assert_allclose(answer["score"], model.score(many)["score"], atol=1e-5)
    one = model.request(raw[:1], "score")
    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(lambda _: post(server, one), range(64)))
    np.testing.assert_allclose([each[0]["score"] for each in answers], answer["score"][0], atol=1e-5)


Here = Callable[[str], TestClient]


@pytest.fixture
def here(at_live: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """The server's application in this process, around the champion of a dataset."""
    return served(monkeypatch)


def served(monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow adds the package's code
    monkeypatch.setenv(
        "_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true"
    )  # and sets this, to be unset after the test

    def start(dataset: str) -> TestClient:
        monkeypatch.setenv(serving.FOLDER, str(serving.champion(dataset)))
        return TestClient(serving.app())

    return start


def split(columns: list[str], *rows: list[object], **params: object) -> dict[str, object]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}, "params": params}


FEATURES = [f"feature {k}" for k in range(5)]
ROW = [0.5] * 5
IMAGE = [[[0.5] * 4] * 4]


@pytest.mark.parametrize(
    ("dataset", "body", "said"),
    [
        ("table", split(FEATURES[:4], ROW[:4]), "feature 4"),
        ("table", split(FEATURES, ROW, [0.5, "wide", 0.5, 0.5, 0.5]), "feature 1"),
        ("table", split(FEATURES, ROW, [0.5, None, 0.5, 0.5, 0.5]), "row 1, column 'feature 1'"),
        ("table", split(FEATURES, ROW, [0.5] * 4 + [float("nan")]), "row 1, column 'feature 4'"),
        ("table", split(FEATURES, [0.5] * 4 + [float("inf")]), "row 0, column 'feature 4'"),
        ("table", split(FEATURES, ROW, ROW[:4]), "row 1, column 'feature 4'"),
        ("table", split(FEATURES, ROW, [0.5] * 6), "5 columns passed"),
        ("table", split(FEATURES), "rows: 0"),
        ("table", split(FEATURES, ROW, task="guess"), "unknown task 'guess'; known: encode"),
        ("table", split(FEATURES, ROW, task=3), "task"),
        (
            "table",
            split(FEATURES, ROW, tusk="score"),
            "params: unknown 'tusk'; known: task, n, seed, explain",
        ),
        ("table", split(FEATURES, ROW, task="score", explain="very"), "explain"),
        ("table", split(FEATURES, ROW, task="encode", explain=True), "task 'encode' explains nothing"),
        ("table", split(FEATURES, ROW, task="sample", n=0), "params: n: 0"),
        ("table", split(FEATURES, ROW, task="sample", n=10**12), "params: n: 1000000000000, at most 10000"),
        ("table", split(FEATURES, *[ROW] * 10_001), "rows: 10001, at most 10000"),
        ("table", {"rows": []}, "dataframe_split"),
        ("table", [1, 2], "Received a list"),
        ("pictures", split(["pixels"], [IMAGE], [[[[0.5] * 4] * 3]]), "row 1: shape [1, 3, 4]"),
        ("pictures", split(["pixels"], [[[[0.5] * 4] * 3 + [[0.5] * 3]]]), "column 'pixels', row 0"),
        ("pictures", split(["pixels"], [[[[float("nan")] * 4] * 4]]), "row 0: holds a missing"),
        ("pictures", split(["pixels"], [[[["black"] * 4] * 4]]), "pixels"),
        ("pictures", split(["pixels"], [0.5]), "pixels"),
        ("series", split(["values"], [[[1.5, 2.5]]]), "row 0: shape [1, 2], expected [steps, 3]"),
        ("series", split(["values"], [[[0.5] * 3] * 7]), "row 0: shape [7, 3]"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_and_where(
    here: Here, dataset: str, body: object, said: str
) -> None:
    answer = here(dataset).post(
        "/invocations", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_request_without_body_or_type_or_of_another_is_refused(here: Here) -> None:
    client = here("table")
    plain = json.dumps(split(FEATURES, ROW))
    for content, type_, status, said in (
        ("", "application/json", 400, "body: empty"),
        ("{", "application/json", 400, "valid JSON"),
        (plain, None, 415, "Content-Type: missing"),
        (plain, "text/html", 415, "text/html"),
    ):
        headers = {} if type_ is None else {"Content-Type": type_}
        answer = client.post("/invocations", content=content, headers=headers)
        assert answer.status_code == status
        assert said in answer.text


def test_how_large_a_request_may_be_can_be_set(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTOPS_MAX_ROWS", "3")
    monkeypatch.setenv("LATENTOPS_MAX_BYTES", "400")
    client = here("table")
    headers = {"Content-Type": "application/json"}
    bodies = {count: json.dumps(split(FEATURES, *[ROW] * count)).encode() for count in (3, 4, 99)}
    for count, status, said in (
        (3, 200, ""),
        (4, 400, "rows: 4, at most 3"),
        (99, 413, "more than 400 bytes"),
    ):
        told = client.post("/invocations", content=bodies[count], headers=headers)
        in_chunks = client.post("/invocations", content=iter([bodies[count]]), headers=headers)
        for answer in (told, in_chunks):
            assert answer.status_code == status
            assert said in answer.text
    monkeypatch.setenv("LATENTOPS_MAX_BYTES", "much")
    with pytest.raises(LatentOpsError, match="LATENTOPS_MAX_BYTES: 'much' is no number of bytes"):
        here("table")


@pytest.mark.postgresql
def test_an_alias_that_moves_is_seen_at_the_next_start(twice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = served(monkeypatch)
    body = split(FEATURES, [0.5, 1.0, -0.5, 0.0, 2.0])
    running = start("table")
    before = running.post("/invocations", json=body).json()["predictions"]
    champion.rollback("table")
    assert running.post("/invocations", json=body).json()["predictions"] == before
    after = start("table").post("/invocations", json=body).json()["predictions"]
    assert after != before
    expected = latentops.load("table@champion").encode(np.array(body["dataframe_split"]["data"]))
    np.testing.assert_allclose(pd.DataFrame(after), expected, atol=1e-5)


def test_serving_reads_the_store_that_the_project_uses(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(live)
    assert store.tracking_uri() == f"sqlite:///{live / 'var' / 'mlflow' / 'mlflow.db'}"
