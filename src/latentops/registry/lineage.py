"""What a result came from: DVC's record of every input's md5, the git commit, the libraries."""

import fcntl
import getpass
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
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
    """The stages of `dvc.lock` by name, as it is checked out or at a `commit`."""

    stages: dict[str, Stage]
    commit: str | None = None

    @classmethod
    def read(cls, path: Path = LOCK) -> "Lock":
        """Read `path`; `RegistryError` where there is none."""
        try:
            with between_writes(path.parent / ".dvc/tmp/lock"):
                text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RegistryError(f"{path}: not found; run `dvc repro` first") from None
        return cls(_stages(text))

    @classmethod
    def holding(cls, dataset: str, variant: str, model: str) -> "Lock":
        """The lock by which `variant` has the md5 `model`: what is checked out, or the last such commit's.

        Of all branches, as a model may be live that was trained on another one, or before the present one.
        Where no lock says so it is the one that is checked out.
        """
        now = cls.read()
        if now.of_model(dataset, variant) == model:
            return now
        for commit in _git("log", "--all", "--format=%H", f"-S{model}", "--", str(LOCK)).split():
            then = cls(_stages(_git("show", f"{commit}:./{LOCK}")), commit)
            if then.of_model(dataset, variant) == model:
                return then
        return now

    @property
    def name(self) -> str:
        """What it is called, for a person."""
        return f"{LOCK} of {self.commit[:12]}" if self.commit else str(LOCK)

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

    def of_model(self, dataset: str, variant: str) -> str | None:
        """The same; None where the stage never ran."""
        known = f"train@{dataset}-{variant}" in self.stages
        return self.model_digest(dataset, variant) if known else None


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


def digest(folder: Path) -> str:
    """The md5 that DVC knows the contents of `folder` by; of nothing where there is none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [
        {"md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), "relpath": name}
        for path in files
        for name in [path.relative_to(folder).as_posix()]
    ]
    listed.sort(key=lambda entry: entry["relpath"])
    text = json.dumps(listed, sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"


@contextmanager
def rows_of(lock: Lock, dataset: str) -> Iterator[Path]:
    """The folder of prepared rows that `lock` names: what is checked out, if it is that, or a copy of it.

    DVC copies it from its cache or its remote; where neither has it the folder isn't there.
    """
    folder = Path("data/prepared", dataset)
    if lock.commit is None or digest(folder) == lock.dataset_digest(dataset):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, dataset)
        command = [sys.executable, "-m", "dvc", "get", "--quiet", "--rev", lock.commit, "-o", str(copy)]
        if subprocess.run([*command, ".", str(folder)], capture_output=True, check=False).returncode:
            shutil.rmtree(copy, ignore_errors=True)
        yield copy


def cache() -> Path:
    """The folder of DVC's cache, absolute; `RegistryError` where DVC can't say."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RegistryError(f"dvc cache dir: {(ran.stderr.strip().splitlines() or ['fails'])[-1]}")
    return Path(ran.stdout.strip()).resolve()


def _stages(text: str) -> dict[str, Stage]:
    content = yaml.load(text, Loader=yaml.CSafeLoader)  # the Python loader takes seconds at 70 stages
    return {name: _stage(name, entry) for name, entry in content.get("stages", {}).items()}


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
    return _git("rev-parse", "--verify", "--quiet", "HEAD").strip()


def _git(*arguments: str) -> str:
    """What git prints; empty where it fails, or isn't installed."""
    try:
        ran = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ran.stdout if ran.returncode == 0 else ""


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
