"""MLflow's own webhooks tell another system of a promotion."""

import base64
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from latentops.config import load_params
from latentops.registry import store, tracking
from latentops.registry.champion import promote, reject
from latentops.reporting.profiles import drawings

from . import servers
from .conftest import write_comparison

pytestmark = pytest.mark.slow
SECRET = "shared with the listener"
WAIT = 300.0  # seconds, for a message that is sent beside other tests


@pytest.fixture
def heard() -> Iterator[tuple[str, "queue.Queue[tuple[dict[str, str], bytes]]"]]:
    """The address of a listener on this machine, and what was sent to it: headers and body."""
    sent: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.put(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}/promotions", sent
        listener.shutdown()


def test_a_webhook_tells_which_version_is_champion_and_which_challenger(
    project: Path,
    heard: tuple[str, "queue.Queue[tuple[dict[str, str], bytes]]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, sent = heard
    key = base64.urlsafe_b64encode(b"k" * 32).decode()
    allowed = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    database = f"sqlite:///{project / 'hooked.db'}"
    with servers.server(project, database, MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=key, **allowed) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        events = ["model_version_alias.created", "model_version_tag.set"]
        store.connect().create_webhook("promotions", address, [events[0]], secret=SECRET)
        store.connect().create_webhook("rejections", address, [events[1]])
        tracking.record("table", load_params(), drawings)
        promote("table")
        failing = {"gate": "rivals", "value": -1.0, "limit": 0.0, "passed": False, "text": "too weak"}
        write_comparison("table", "undercomplete", gates=[failing], passed=False)
        tracking.record("table", load_params(), drawings)
        promote("table")
        reject("table", reason="too weak")
        told = {}
        while "latentops.rejected" not in told or len(told) < 3:
            headers, body = sent.get(timeout=WAIT)
            message = json.loads(body)
            data = message["data"]
            if message["entity"] == "model_version_alias":
                told[data["alias"]] = (data["name"], data["version"])
                signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.".encode() + body
                expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
                assert headers["x-mlflow-signature"] == f"v1,{expected}"
            elif data["key"] == "latentops.rejected":
                told[data["key"]] = (data["name"], data["value"])
    model = "table-autoencoder"
    assert told == {
        "champion": (model, "1"),
        "challenger": (model, "2"),
        "latentops.rejected": (model, "too weak"),
    }
