"""MLflow on PostgreSQL, as a team runs it: a server in front of it that proxies the artifacts.

PostgreSQL listens on a socket in a folder of its own, so that no port is open and nobody else gets in.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import urlopen

import psycopg2
import pytest
from mlflow.tracking.request_header.databricks_request_header_provider import DatabricksRequestHeaderProvider

DEBIAN = "/usr/lib/postgresql"
"""Where Debian's packages keep the programs of each version; `initdb` and `postgres` aren't on the path."""
STARTS_WITHIN = 600.0  # seconds, beside other tests
FILES = "mlflow-artifacts:"


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, of the newest version that is installed."""
    found = [path.parent for path in Path(DEBIAN).glob("*/bin/postgres")]
    on_path = shutil.which("postgres")
    return max(found, key=lambda each: float(each.parent.name), default=on_path and Path(on_path).parent)


@contextmanager
def cluster() -> Iterator["Cluster"]:
    """A PostgreSQL that is gone afterwards. It refuses to run as root, who starts it as somebody else."""
    where = programs()
    if where is None:
        pytest.skip("postgresql isn't installed")
    folder = Path(tempfile.mkdtemp(prefix="latentops-"))  # short: a socket's path has a hundred characters
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        if other:
            shutil.chown(folder, "nobody", "nogroup")
        data, log = folder / "data", folder / "log"
        made = ["--auth=trust", "--username=latentops", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            [where / "initdb", *made, data], cwd=folder, stdout=subprocess.DEVNULL, check=True, **other
        )
        with log.open("wb") as said:
            process = subprocess.Popen(
                [where / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
                cwd=folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                **other,
            )
        try:
            found = Cluster(folder)
            until(found.answers, process, log)
            yield found
        finally:
            process.terminate()
            process.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


class Cluster:
    """A PostgreSQL with its socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def uri(self, database: str) -> str:
        """What SQLAlchemy knows `database` by."""
        return f"postgresql://latentops@/{database}?host={self.folder}"

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            self.run("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def run(self, *statements: str) -> None:
        """Run `statements` one after the other, each on its own."""
        connection = psycopg2.connect(user="latentops", host=str(self.folder), dbname="postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()


class Tracking:
    """An MLflow server at `uri` on `database` that keeps artifacts in a folder. What it holds can be kept."""

    def __init__(self, uri: str, artifacts: Path, cluster: Cluster, database: str) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self.cluster = cluster
        self.database = database
        artifacts.mkdir(exist_ok=True)
        self.keep("empty")

    def keep(self, name: str) -> None:
        """Keep what it holds now as `name`."""
        leave = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}'"
        self.cluster.run(leave, f"CREATE DATABASE {self.database}_{name} TEMPLATE {self.database}")
        shutil.copytree(self.artifacts, self.artifacts.with_name(name))

    def put_back(self, name: str) -> None:
        """Let it hold what was kept as `name`, and nothing else."""
        self.cluster.run(
            f"DROP DATABASE {self.database} WITH (FORCE)",
            f"CREATE DATABASE {self.database} TEMPLATE {self.database}_{name}",
        )
        shutil.rmtree(self.artifacts)
        shutil.copytree(self.artifacts.with_name(name), self.artifacts)

    def empty(self) -> None:
        """Let it know nothing."""
        self.put_back("empty")

    def dump(self, path: Path) -> None:
        """Write what its database holds to `path`, as text."""
        where = programs()
        assert where is not None
        options = ["--host", self.cluster.folder, "--username", "latentops", "--file", path]
        subprocess.run([where / "pg_dump", *options, self.database], check=True)

    def place(self, location: str) -> Path:
        """The folder of what a client knows as `location`."""
        assert location.startswith(FILES)
        return self.artifacts / urlparse(location).path.strip("/")


@contextmanager
def tracking(cluster: Cluster, database: str, folder: Path, **environment: str) -> Iterator[Tracking]:
    """An MLflow server on `database`, which it makes, that keeps artifacts and its log in `folder`."""
    cluster.run(f"CREATE DATABASE {database}")
    with (
        server(folder, cluster.uri(database), **environment) as (uri, artifacts),
        pytest.MonkeyPatch.context() as patch,
    ):
        # Before each request MLflow tries imports to learn whether it runs there: milliseconds each time.
        patch.setattr(DatabricksRequestHeaderProvider, "in_context", lambda _: False)
        yield Tracking(uri, artifacts, cluster, database)


@contextmanager
def server(folder: Path, store: str, **environment: str) -> Iterator[tuple[str, Path]]:
    """An MLflow server on `store` that proxies the artifacts in a folder: its address and that folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, artifacts = folder / "mlflow.log", folder / "artifacts"
    command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--serve-artifacts", "--artifacts-destination", str(artifacts)]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            env={**os.environ, **settings},
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        until(lambda: healthy(uri), process, log)
        yield uri, artifacts
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def healthy(uri: str) -> bool:
    """Whether an MLflow server answers at `uri`."""
    try:
        with urlopen(f"{uri}/health", timeout=5):
            return True
    except (URLError, OSError):
        return False


def until(ready: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    """Wait until `process` is `ready`; fail with its `log` where it ends before, or takes too long."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
