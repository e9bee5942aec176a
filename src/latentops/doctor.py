"""Looks over this machine and says of each thing that it is well, or how to mend it."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import urlopen

from latentops.config import load_params
from latentops.errors import LatentOpsError

NEEDED_DISK = 2 * 2**30  # bytes: DVC cache, MLflow store and reports of the default run, with room to spare
PORTS = {"Prefect": 4200, "MLflow": 5000, "MLflow UI": 5001, "served champion": 8080}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what it is, how it is, and how to mend it where that is needed."""

    what: str
    ok: bool
    state: str
    mend: str = ""

    def __str__(self) -> str:
        """`ok       torch     2.13.0, cpu`, or `problem …: how to mend it`."""
        text = f"{'ok' if self.ok else 'problem':<8} {self.what:<16} {self.state}"
        return text if self.ok else f"{text} → {self.mend}"


def examine(root: Path) -> Iterator[Finding]:
    """Look at everything a run needs, the project being in `root`, one thing after the other."""
    yield python()
    yield packages(root / "requirements.lock")
    yield torch_device()
    yield tool("git", "install git (apt-get install git)")
    yield tool("make", "install make (apt-get install make)")
    yield dvc_project(root)
    yield dvc_cache(root)
    yield dvc_lock(root)
    yield disk(root)
    yield params()
    yield mlflow_store(root)
    yield from (port(name, number) for name, number in PORTS.items())
    yield mirror(os.environ.get("LATENTOPS_MIRROR"))


def python() -> Finding:
    """The interpreter's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] == (3, 11)
    return Finding("python", ok, version, "needs 3.11: make setup PYTHON=/path/to/python3.11 VENV=.venv")


def packages(lock: Path) -> Finding:
    """Installed packages against `lock`; a build tag (`+cpu`) doesn't count."""
    if not lock.is_file():
        return Finding(
            "packages", False, f"{lock} not found", "run from the project's root, in a whole checkout"
        )
    wanted = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))
    wrong = []
    for name, version in wanted.items():
        try:
            found = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != version.partition("+")[0]:
            wrong.append(f"{name} {found}, locked {version}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Finding(
            "packages", False, "; ".join(wrong[:3]) + more, "touch requirements.lock && make setup"
        )
    return Finding("packages", True, f"{len(wanted)} as locked")


def torch_device() -> Finding:
    """What torch would train on, asked in a process of its own: a broken build may take its process along."""
    code = "import torch; print(torch.__version__, 'cuda' if torch.cuda.is_available() else 'cpu')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        return Finding("torch", False, last, "touch requirements.lock && make setup")
    version, device = result.stdout.split()
    return Finding("torch", True, f"{version}, {device}")


def tool(name: str, mend: str) -> Finding:
    """A program on PATH."""
    found = shutil.which(name)
    return Finding(name, found is not None, found or "not found", mend)


def dvc_project(root: Path) -> Finding:
    """The project's DVC folder and git."""
    if not (root / ".dvc").is_dir():
        return Finding("dvc", False, "no .dvc folder", "run from the project's root, in a whole checkout")
    if not (root / ".git").exists():
        return Finding(
            "dvc", False, "not a git repository", "git clone the project, or git init in a copy of it"
        )
    return Finding("dvc", True, "initialised")


def dvc_cache(root: Path) -> Finding:
    """Whether DVC could write to its cache, wherever the configuration puts that."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["dvc fails"])[-1]
        return Finding(
            "dvc cache", False, last, "mend .dvc/config (dvc config --list shows what is in force)"
        )
    cache = root / result.stdout.strip()
    folder = next(each for each in (cache, *cache.absolute().parents) if each.exists())
    ok = os.access(folder, os.W_OK)
    return Finding(
        "dvc cache", ok, str(cache) if ok else f"{folder} is not writable", "dvc cache dir --local FOLDER"
    )


def dvc_lock(root: Path) -> Finding:
    """The record of what every stage last ran on."""
    ok = (root / "dvc.lock").is_file()
    return Finding(
        "dvc.lock",
        ok,
        "there" if ok else "missing",
        "make repro writes it; git checkout dvc.lock restores it",
    )


def disk(root: Path) -> Finding:
    """Free space where the project is."""
    free = shutil.disk_usage(root.absolute()).free
    state = f"{free / 2**30:.1f} GiB free"
    mend = f"free {NEEDED_DISK / 2**30:.0f} GiB: make clean, dvc gc --workspace, or another disk"
    return Finding("disk", free >= NEEDED_DISK, state, mend)


def params() -> Finding:
    """`params.yaml`, as every command reads it."""
    try:
        load_params()
    except LatentOpsError as error:
        return Finding("params.yaml", False, str(error).replace("\n", "; "), "correct that key")
    return Finding("params.yaml", True, "every key known")


def _shown(uri: str) -> str:
    from latentops.registry import store

    return store.shown(uri)


def mlflow_store(root: Path) -> Finding:
    """The MLflow store: an answering server, or a whole SQLite file, or one still to be made."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'var/mlflow/mlflow.db').absolute()}"
    if urlparse(uri).scheme in {"http", "https"}:
        try:
            with urlopen(f"{uri.rstrip('/')}/health", timeout=5):  # noqa: S310
                return Finding("mlflow", True, f"{_shown(uri)} answers")
        except (URLError, OSError) as error:
            return Finding(
                "mlflow", False, f"{_shown(uri)}: {error}", "make services, or unset MLFLOW_TRACKING_URI"
            )
    if not uri.startswith("sqlite:///"):
        return Finding("mlflow", True, f"{_shown(uri)} (not looked into)")
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.exists():
        return Finding("mlflow", True, f"{path} will be made by the first run")
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as store:
            answer = store.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        answer = str(error)
    mend = f"mv {path} {path}.broken && make record"
    return Finding("mlflow", answer == "ok", str(path) if answer == "ok" else f"{path}: {answer}", mend)


def port(name: str, number: int) -> Finding:
    """A port that one of the services takes by default: free, or taken by that service itself."""
    what = f"port {number}"
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", number)):
            return Finding(what, True, f"free, for {name}")
    try:
        health = "api/health" if name == "Prefect" else "health"
        with urlopen(f"http://127.0.0.1:{number}/{health}", timeout=2):
            return Finding(what, True, f"{name} answers")
    except (URLError, OSError):
        variable = {"Prefect": "PREFECT_PORT", "MLflow": "MLFLOW_PORT", "MLflow UI": "UI_PORT"}
        return Finding(
            what, False, "taken by another program", f"choose another: {variable.get(name, 'SERVE_PORT')}="
        )


def mirror(place: str | None) -> Finding:
    """`LATENTOPS_MIRROR`, the folder or address that data sets are fetched from first."""
    from latentops.data import fetch

    if not place:
        return Finding("mirror", True, "LATENTOPS_MIRROR is not set; nothing needs it")
    if urlparse(place).scheme in {"http", "https"}:
        try:
            with urlopen(place, timeout=5):  # noqa: S310
                return Finding("mirror", True, f"{place} answers")
        except (URLError, OSError) as error:
            return Finding("mirror", False, f"{place}: {error}", "correct or unset LATENTOPS_MIRROR")
    ok = fetch.folder(place).is_dir()
    return Finding(
        "mirror", ok, place if ok else f"{place} is no folder", "correct or unset LATENTOPS_MIRROR"
    )
