"""Where MLflow keeps its records, and how to open it safely.

One SQLite file under `var/mlflow` unless `MLFLOW_TRACKING_URI` names another store. MLflow makes such a file
table by table, and can go on neither with what several processes make at once nor with what one has left
half-made. So it is opened behind a file lock, and made aside.
"""

import fcntl
import logging
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from latentops import atomic
from latentops.errors import StoreError

ANSWER_WITHIN = 5.0  # seconds a tracking server has to answer before it counts as down


def project_root() -> Path:
    """The project's folder, absolute; for a DVC experiment's copy under `.dvc/tmp`, the project it copies."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder.name == "tmp" and folder.parent.name == ".dvc":
            return folder.parent.parent
    return here


def home() -> Path:
    """`var/mlflow`, absolute: the SQLite file, the artifacts and the lock files.

    Where `var` is a link, of a workspace to its checkout, it is what that leads to.
    """
    return (project_root() / "var" / "mlflow").resolve()


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI` if set, else the SQLite file under `var/mlflow` by its absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def shown(uri: str) -> str:
    """`uri` as it may be printed and logged: without a password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


@contextmanager
def locked(name: str, holder: str = "") -> Iterator[None]:
    """Hold the lock file `name` of this store; others wait. The lock goes with the process that held it.

    Where `holder` says what else may hold it, stderr says in one line that this command waits.
    """
    home().mkdir(parents=True, exist_ok=True)
    with (home() / f".{name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if holder:
                sys.stderr.write(f"waiting for {holder} to end\n")
                sys.stderr.flush()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what MLflow, its database and its server raise into a `StoreError` of one line."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        uri = tracking_uri()
        text = str(error).replace(uri, shown(uri)).strip().splitlines()
        raise StoreError(f"MLflow at {shown(uri)}: {text[0] if text else type(error).__name__}") from error


def connect() -> MlflowClient:
    """A client of the store, which is created if it doesn't exist; `StoreError` where none answers."""
    uri = tracking_uri()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if is_server(uri):
        _expect_answer(uri)
    with plain_errors(), locked("store"):
        path = sqlite_file(uri)
        if path is not None and not path.exists():
            with atomic.replacing(path) as aside:
                try:
                    _open(f"sqlite:///{aside}")
                finally:
                    aside.with_name(f"{aside.name}-journal").unlink(missing_ok=True)
        return _open(uri)


def _open(uri: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def is_server(uri: str) -> bool:
    """Whether `uri` is an MLflow server rather than a database."""
    return urlparse(uri).scheme in {"http", "https"}


def experiment(client: MlflowClient, dataset: str) -> str:
    """The id of the experiment called `dataset`, made if there is none.

    Artifacts go to an absolute place: MLflow's default depends on the current folder.
    """
    found = client.get_experiment_by_name(dataset)
    if found is None:
        location = None if is_server(tracking_uri()) else str(_artifacts() / dataset)
        try:
            return str(client.create_experiment(dataset, artifact_location=location))
        except MlflowException as error:
            found = client.get_experiment_by_name(dataset)
            if found is None:  # else made meanwhile, or by a request that was repeated
                raise error
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _artifacts() -> Path:
    """The artifacts' folder: beside the SQLite file, wherever that is."""
    path = sqlite_file(tracking_uri())
    return (home() if path is None else path.parent) / "artifacts"


def _expect_answer(uri: str) -> None:
    """Ask a server whether it is there, rather than wait minutes for MLflow's retries to end."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_WITHIN):  # noqa: S310
            return
    except (OSError, ValueError) as error:
        raise StoreError(
            f"no MLflow server answers at {shown(uri)} ({error}); start it with `make services`, "
            "or unset MLFLOW_TRACKING_URI to use the store under var/mlflow"
        ) from None
