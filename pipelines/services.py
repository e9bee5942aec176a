"""Start and stop Prefect, MLflow and the retraining schedule on loopback, as processes of their own.

MLflow alone can be opened to others, by the address that they know this machine by, and only with its own
authentication on. What is started writes its process id and its log to `var/services`.
`python -m pipelines.services start`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
import typer

from latentops import atomic
from latentops.cli import guard
from latentops.errors import LatentOpsError
from latentops.registry import store

FOLDER = Path("var/services")
STARTS_WITHIN = 120  # seconds, the first time a database is made
STOPS_WITHIN = 20
HOST = "127.0.0.1"
SECRETS = ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
"""What MLflow's authentication needs: its administrator's password, and what it signs its forms with."""
ACCOUNTS = "MLFLOW_AUTH_CONFIG_PATH"
"""The file that says where accounts are kept and what they may do; ours, unless another is named."""


@dataclass(frozen=True)
class Service:
    """A process to keep running: its command, the address that answers once it is up, its page."""

    name: str
    command: tuple[str, ...]
    health: str
    page: str
    environment: Mapping[str, str]

    @property
    def pid_file(self) -> Path:
        """Where the process id is kept."""
        return FOLDER / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        """Where the process writes."""
        return FOLDER / f"{self.name}.log"


def services(prefect_port: int, mlflow_port: int, host: str = HOST) -> list[Service]:
    """What `make services` consists of, in the order of starting; MLflow listens at `host`.

    Raises `LatentOpsError` where that isn't loopback and can't be opened safely.
    """
    api = f"http://{HOST}:{prefect_port}/api"
    store = Path("var/mlflow").absolute()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store / 'mlflow.db'}"
    mlflow = f"http://{host}:{mlflow_port}"
    access, accounts = ((), {}) if host == HOST else guarded(host, mlflow, store)
    found = [
        Service(
            "prefect",
            ("pipelines.server", "start", "--host", HOST, "--port", str(prefect_port), "--analytics-off"),
            f"{api}/health",
            f"http://{HOST}:{prefect_port}",
            {"PREFECT_API_URL": api, "PREFECT_UI_API_URL": api},
        ),
        Service(
            "mlflow",
            (
                *("mlflow", "server", "--host", host, "--port", str(mlflow_port), "--workers", "1"),
                *("--backend-store-uri", uri, "--default-artifact-root", str(store / "artifacts")),
                *access,
            ),
            f"{mlflow}/health",
            mlflow,
            accounts,
        ),
        Service(
            "schedule",
            ("pipelines.deployments",),
            f"{api}/deployments/name/retrain/scheduled",
            f"http://{HOST}:{prefect_port}/deployments",
            {"PREFECT_API_URL": api},
        ),
    ]
    if uri.startswith(("http://", "https://")):
        return [each for each in found if each.name != "mlflow"]  # it is a server already
    return found


def guarded(host: str, address: str, store: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """What lets MLflow's server answer at `address` to whoever has an account, and to that name alone.

    Its options, and its environment. Accounts are kept below `store`. Raises `LatentOpsError` where a secret
    isn't set, or `host` stands for any address.
    """
    if host in {"0.0.0.0", "::", "[::]", "*"}:  # noqa: S104
        raise LatentOpsError(f"HOST={host} is every address: give the one that others know this machine by")
    missing = [name for name in SECRETS if not os.environ.get(name)]
    if missing:
        raise LatentOpsError(
            f"HOST={host}: MLflow opens beyond {HOST} only with its authentication on; "
            f"set {' and '.join(missing)} in the environment"
        )
    settings = os.environ.get(ACCOUNTS)
    if not settings:
        settings = str(store / "accounts.ini")
        lines = ("[mlflow]", "default_permission = READ", "admin_username = admin")
        atomic.write_text(
            Path(settings), "\n".join((*lines, f"database_uri = sqlite:///{store}/accounts.db\n"))
        )
    known = f"{host},{address.removeprefix('http://')}"
    options = ("--app-name", "basic-auth", "--allowed-hosts", known, "--cors-allowed-origins", address)
    return options, {ACCOUNTS: settings}


def running(pid_file: Path) -> psutil.Process | None:
    """The process whose id and start are in `pid_file`, if it is still that one; a stale file is removed."""
    try:
        pid, started = pid_file.read_text(encoding="utf-8").split()
        process = psutil.Process(int(pid))
        if (
            process.is_running()
            and process.status() != psutil.STATUS_ZOMBIE
            and f"{process.create_time():.2f}" == started
        ):
            return process
    except FileNotFoundError:
        return None
    except (ValueError, psutil.NoSuchProcess):
        pass
    pid_file.unlink(missing_ok=True)
    return None


def answers(address: str) -> bool:
    """Whether there is a good answer at `address`."""
    try:
        with urlopen(address, timeout=2):  # noqa: S310
            return True
    except (URLError, OSError):
        return False


def start_one(service: Service) -> None:
    """Start `service` and wait for it; `LatentOpsError` with the end of its log where it doesn't come up."""
    if running(service.pid_file):
        print(f"{service.name:<9} runs already: {service.page}")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with service.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *service.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **service.environment},
            start_new_session=True,
        )
    born = psutil.Process(process.pid).create_time()
    service.pid_file.write_text(f"{process.pid} {born:.2f}\n", encoding="utf-8")
    if (
        not until(lambda: answers(service.health) or process.poll() is not None, STARTS_WITHIN)
        or process.poll() is not None
    ):
        end = " ".join(service.log.read_text(encoding="utf-8", errors="replace").split()[-40:])
        stop_one(service.pid_file)
        raise LatentOpsError(f"{service.name} did not start; {service.log} ends: {end}")
    print(f"{service.name:<9} {service.page}")


def stop_one(pid_file: Path) -> bool:
    """Stop the process of `pid_file` and its children, asking first; whether there was one."""
    process = running(pid_file)
    if process is None:
        return False
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGINT)  # Prefect pauses its schedule on this one
    _, left = psutil.wait_procs(family, timeout=STOPS_WITHIN)
    for each in left:
        each.kill()
    pid_file.unlink(missing_ok=True)
    return True


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look every quarter second whether `condition` holds; whether it did within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.25)
    return False


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def start(
    prefect_port: Annotated[int, typer.Option()] = 4200,
    mlflow_port: Annotated[int, typer.Option()] = 5000,
    host: Annotated[str, typer.Option()] = HOST,
) -> None:
    """Start what isn't running yet, and wait until each answers; MLflow at `host`, the rest on loopback."""
    wanted = services(prefect_port, mlflow_port, host)
    if any(service.name == "mlflow" for service in wanted):
        store.connect()  # made whole before there are two who would make it
    for service, port in zip(wanted, (prefect_port, mlflow_port), strict=False):
        at = host if service.name == "mlflow" else HOST
        with socket.socket() as probe:
            if not running(service.pid_file) and probe.connect_ex((at, port)) == 0:
                variable = f"{service.name.upper()}_PORT"
                raise LatentOpsError(f"port {port} is taken by another program: make services {variable}=…")
    for service in wanted:
        start_one(service)
    print(f"flows go there with: export PREFECT_API_URL=http://{HOST}:{prefect_port}/api")


@app.command()
def stop() -> None:
    """Stop what was started, the schedule first."""
    stopped = [name for name in ("schedule", "mlflow", "prefect") if stop_one(FOLDER / f"{name}.pid")]
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


if __name__ == "__main__":
    guard(app)
