"""Where the figures of a report come from: the git commit and the md5s that DVC keeps the bytes by."""

import hashlib
import subprocess
from pathlib import Path

from latentops.errors import LatentOpsError
from latentops.registry.lineage import Lock


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
