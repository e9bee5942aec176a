"""The server of a champion: MLflow's own, behind the checks that it leaves out.

MLflow's server reads a request of any size, fails where a request names no content type, and passes over
parameters that a model doesn't know. Here such a request is refused, and told why. The version is the one
that is champion when the server starts: an alias that moves is seen at the next start.
"""

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, cast

import uvicorn
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, load_model, scoring_server

from latentops.errors import LatentOpsError
from latentops.registry import store, versions

FOLDER = "LATENTOPS_SERVED"
MAX_BYTES = "LATENTOPS_MAX_BYTES"
DEFAULT_BYTES = 64_000_000
MOST_WORKERS = 4
"""Unless told otherwise: each holds a model and torch, some half a gigabyte."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def serve(dataset: str, port: int, workers: int | None = None) -> None:
    """Serve the champion of `dataset` on this machine's loopback until told to stop.

    Unless `workers` are given there are as many processes as cores, at most `MOST_WORKERS`. Raises
    `RegistryError` where there is no champion, or its files are gone or not what was registered.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ[FOLDER] = str(champion(dataset))
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    most_bytes()  # raises here, not in each process
    uvicorn.run(
        "latentops.registry.serving:app",
        factory=True,
        host="127.0.0.1",
        port=port,
        workers=workers or min(cores, MOST_WORKERS),
    )


def champion(dataset: str) -> Path:
    """The files of the version of `dataset` that is champion now, as they were registered.

    MLflow's server runs code that lies among them, so that they have to be.
    """
    client = store.connect()
    with store.plain_errors():
        return versions.registered_files(client, versions.resolve_with(client, f"{dataset}@champion"))


def app() -> App:
    """The model in the folder that the environment's `LATENTOPS_SERVED` names, as an ASGI application."""
    strict = cast("PyFuncModel", Strict(load_model(os.environ[FOLDER])))  # the server needs no more of one
    return Bounded(scoring_server.init(strict))


def most_bytes() -> int:
    """The largest body that is read: `LATENTOPS_MAX_BYTES`, or 64 MB."""
    told = os.environ.get(MAX_BYTES, str(DEFAULT_BYTES))
    if not told.isdecimal() or not int(told):
        raise LatentOpsError(f"{MAX_BYTES}: {told!r} is no number of bytes, such as {DEFAULT_BYTES}")
    return int(told)


class Strict:
    """A model as MLflow's server uses one, that refuses parameters which it doesn't have."""

    def __init__(self, model: PyFuncModel) -> None:
        self.metadata = model.metadata
        self._model = model
        self._known = [each.name for each in model.metadata.get_params_schema().params]  # type: ignore[no-untyped-call]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """What the model answers; a bad request where one of `params` is unknown."""
        for name in params if isinstance(params, dict) else ():
            if name not in self._known:
                raise MlflowException.invalid_parameter_value(
                    f"params: unknown {name!r}; known: {', '.join(self._known)}"
                )
        return self._model.predict(data, params=params)


class Bounded:
    """An application that gets bodies of at most `most_bytes`, of a content type, and none that is empty."""

    def __init__(self, inner: App) -> None:
        self._inner = inner
        self._most = most_bytes()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on once its body is read, or refuse it."""
        if scope["type"] != "http" or scope["path"] != "/invocations" or scope["method"] != "POST":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not headers.get(b"content-type"):
            await _refuse(send, 415, "Content-Type: missing; JSON is application/json")
            return
        large = f"body: more than {self._most} bytes; send fewer rows at once, or set {MAX_BYTES}"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most:
            await _refuse(send, 413, large)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most:
                await _refuse(send, 413, large)
                return
        if not body.strip():
            await _refuse(send, 400, "body: empty; send dataframe_split with columns and data")
            return
        read: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return read.pop() if read else await receive()

        await self._inner(scope, again, send)


async def _refuse(send: Send, status: int, message: str) -> None:
    """Answer as MLflow's server does where it refuses something."""
    body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
