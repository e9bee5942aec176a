"""What a result came from: DVC's record of every input's md5, the git commit, the libraries."""

import fcntl
import getpass
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from latentops.errors import RegistryError

LOCK = Path("dvc.lock")
MODEL = "dvc.model_md5"
LIBRARIES = ("latentops", "torch", "numpy", "scikit-learn", "mlflow", "dvc")


@dataclass(frozen=True)
class Stage:
    """One stage as `dvc.lock` holds it: paths to md5."""

    name: str
    deps: dict[str, str]
    outs: dict[str, str]


PATIENCE = 60.0
"""Seconds to wait for DVC."""


@dataclass(frozen=True)
class Lock:
    """The stages of `dvc.lock` by name."""

    stages: dict[str, Stage]

    @classmethod
    def read(cls, path: Path = LOCK) -> "Lock":
        """Read `path`; `RegistryError` where there is none."""
        try:
            with between_writes(path.parent / ".dvc/tmp/lock"):
                text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RegistryError(f"{path}: not found; run `dvc repro` first") from None
        content = yaml.load(text, Loader=yaml.CSafeLoader)  # the Python loader takes seconds at 70 stages
        return cls({name: _stage(name, entry) for name, entry in content.get("stages", {}).items()})

    def stage(self, name: str) -> Stage:
        """The stage called `name`; `RegistryError` where DVC hasn't run it."""
        if name not in self.stages:
            raise RegistryError(f"{LOCK}: stage {name!r} has not run; run `dvc repro {name}`")
        return self.stages[name]

    def dataset_digest(self, dataset: str) -> str:
        """The md5 DVC knows `data/prepared/<dataset>` by."""
        return self.stage(f"prepare@{dataset}").outs[f"data/prepared/{dataset}"]

    def model_digest(self, dataset: str, variant: str) -> str:
        """The md5 DVC knows `models/<dataset>/<variant>` by."""
        return self.stage(f"train@{dataset}-{variant}").outs[f"models/{dataset}/{variant}"]


@contextmanager
def between_writes(guard: Path) -> Iterator[None]:
    """Hold off DVC while its lock file is read: it writes in place, and other stages may be ending meanwhile.

    `guard` is the file that DVC locks before it writes; it lets go of it while a stage runs. Raises
    `RegistryError` where DVC holds it for longer than `PATIENCE` seconds.
    """
    if not guard.exists():
        yield
        return
    until = time.monotonic() + PATIENCE
    with guard.open("rb") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise RegistryError(f"{guard}: held by another DVC command; try again after it") from None
                time.sleep(0.02)
        yield


def _stage(name: str, entry: dict[str, list[dict[str, str]]]) -> Stage:
    return Stage(
        name,
        deps={item["path"]: item.get("md5", "") for item in entry.get("deps", [])},
        outs={item["path"]: item.get("md5", "") for item in entry.get("outs", [])},
    )


def tags(lock: Lock, dataset: str, variant: str) -> dict[str, str]:
    """Where a variant's result came from, as MLflow tags.

    Git commit, DVC stage and experiment, the md5 of everything the train and evaluate stages read and of
    the model that came out, and the versions of the libraries.
    """
    stages = [lock.stage(f"{verb}@{dataset}-{variant}") for verb in ("train", "evaluate")]
    found = {
        "dvc.stage": stages[0].name,
        MODEL: lock.model_digest(dataset, variant),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "mlflow.source.git.commit": git_commit(),
        "mlflow.source.name": "latentops record",
        "mlflow.user": user(),
        "platform.python": platform.python_version(),
    }
    for stage in stages:
        found |= {f"dvc.md5 {path}": md5 for path, md5 in stage.deps.items()}
    found |= {f"library.{name}": version(name) for name in LIBRARIES}
    return {key: value for key, value in found.items() if value}


def git_commit() -> str:
    """The commit that is checked out; empty outside a git repository or before its first commit."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def version(name: str) -> str:
    """The installed version of distribution `name` without its build's name; empty where it is missing."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def user() -> str:
    """The name of who runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
