"""Hand on what a retraining made: data to the DVC remote, and what git keeps to a branch of its own.

The branch is written beside the checkout: neither its files nor its index nor the branch that a person is on
are touched.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

from latentops.errors import LatentOpsError
from pipelines.reproduce import stream

KEPT = ("dvc.lock", "ledger", "data/accepted", "results", "reports")
"""What a retraining changes of what git keeps."""

NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "LatentOps"), ("EMAIL", "latentops@localhost"))
}
"""Who commits, where git doesn't know who we are."""


def branch_of(day: date) -> str:
    """The branch of the retrainings of `day`."""
    return f"retrain/{day.isoformat()}"


def push(say: Callable[[str], None]) -> bool:
    """Push the data to the default DVC remote; whether there is one. `LatentOpsError` where it can't be."""
    code, lines = stream(["config", "core.remote"], lambda _: None)
    if code or not lines:
        say("no DVC remote: nothing is pushed; `dvc remote add --default NAME URL` names one")
        return False
    code, lines = stream(["--wait-for-lock", "push", "--run-cache"], say)
    if code:
        raise LatentOpsError(f"dvc push: {' '.join(lines[-1:]) or 'failed without a word'}")
    return True


def commit(branch: str, message: str) -> str | None:
    """Put what a retraining has changed on `branch`, made where it doesn't exist: the commit.

    It holds all of HEAD too. None outside of a git repository, or where nothing has changed. Raises
    `LatentOpsError` in git's words, also where somebody else moved the branch meanwhile.
    """
    head = _try("rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        return None
    tip = _try("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    paths = [path for path in KEPT if Path(path).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        beside = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        _git("read-tree", "HEAD", env=beside)
        _git("add", "--all", "--", *paths, env=beside)
        tree = _git("write-tree", env=beside)
    if tree == _git("rev-parse", f"{tip or head}^{{tree}}"):
        return None
    parents = [tip or head]
    if tip and _try("merge-base", "--is-ancestor", head, tip) is None:
        parents.append(head)
    options = [each for parent in parents for each in ("-p", parent)]
    known = _try("config", "user.email") is not None
    made = _git("commit-tree", tree, *options, "-m", message, env={} if known else NOBODY)
    _git("update-ref", f"refs/heads/{branch}", made, tip or "")
    if _try("symbolic-ref", "--quiet", "HEAD") == f"refs/heads/{branch}":
        _git("reset", "--quiet")  # the index of this very branch
    return made


def _git(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    found = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if found.returncode:
        said = found.stderr.strip().splitlines() or [f"exit status {found.returncode}"]
        raise LatentOpsError(f"git {arguments[0]}: {said[0].removeprefix('fatal: ')}")
    return found.stdout.strip()


def _try(*arguments: str) -> str | None:
    """What git says, or None where it refuses."""
    try:
        return _git(*arguments)
    except (LatentOpsError, FileNotFoundError):
        return None
