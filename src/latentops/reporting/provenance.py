"""Where the figures of a report come from: the git commit and the md5s that DVC keeps the bytes by."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from latentops.errors import DataError, LatentOpsError
from latentops.registry import ledger
from latentops.registry.lineage import Lock
from latentops.reporting.results import Result, read


def commit(root: Path = Path()) -> str:
    """The commit checked out in `root`, ending in `-dirty` where tracked files differ; empty without one."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def lock_digest(root: Path = Path()) -> str:
    """The md5 of `dvc.lock`; empty where there is none."""
    path = root / "dvc.lock"
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.exists() else ""


def lock(root: Path = Path()) -> Lock:
    """`dvc.lock`; without stages where there is none."""
    try:
        return Lock.read(root / "dvc.lock")
    except LatentOpsError:
        return Lock({})


def digests(dataset: str, chosen: str | None, recorded: Lock) -> dict[str, str]:
    """The md5 of the prepared data and of the chosen model, as far as DVC has recorded them."""
    wanted = {f"data/prepared/{dataset}": f"prepare@{dataset}"}
    if chosen:
        wanted[f"models/{dataset}/{chosen}"] = f"train@{dataset}-{chosen}"
    found = {
        path: recorded.stages[stage].outs.get(path, "")
        for path, stage in wanted.items()
        if stage in recorded.stages
    }
    return {path: md5 for path, md5 in found.items() if md5}


@dataclass(frozen=True)
class Run:
    """A run in MLflow: what its content hash is, and where the server is, if one is named."""

    content_hash: str
    server: str | None


class _Recorded(Result):
    runs: dict[str, str]


def run(dataset: str, variant: str, root: Path = Path()) -> Run | None:
    """The run that `variant` was recorded as; None before `record`."""
    path = root / "results" / "record" / f"{dataset}.json"
    try:
        recorded = read(_Recorded, path, f"dvc repro record@{dataset}").runs
    except DataError:
        return None
    uri = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    shown = uri._replace(netloc=uri.netloc.rpartition("@")[2])  # without a password
    server = shown.geturl() if uri.scheme in ("http", "https") else None
    return Run(recorded[variant], server) if variant in recorded else None


class Champion(Result):
    """What the ledger says of a dataset's champion: what is live since when."""

    version: int
    variant: str
    seed: int
    content_hash: str
    when: str


def champion(dataset: str, root: Path = Path()) -> Champion | None:
    """What the ledger says is live; None where nothing ever was."""
    lines = ledger.moves(dataset, root / ledger.LEDGER)
    return Champion.model_validate(lines[-1]) if lines else None
