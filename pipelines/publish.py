"""Hand on what a retraining made: data to the DVC remote, and what git keeps to a branch of its own.

The branch is written beside the checkout: neither its files nor its index nor the branch that a person is on
are touched.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime

from latentops.errors import LatentOpsError
from pipelines import repository
from pipelines.repository import attempt, git, is_ancestor
from pipelines.reproduce import stream

BRANCHES = "retrain/"

KEPT = ("dvc.lock", "ledger", "data/accepted", "results", "reports")
"""What a retraining changes of what git keeps."""


def branch_of(day: date) -> str:
    """The branch of the retrainings of `day`."""
    return f"{BRANCHES}{day.isoformat()}"


def branch_now() -> str:
    """The branch of today's retrainings, or the one of them that we are on."""
    here = attempt("symbolic-ref", "--quiet", "--short", "HEAD") or ""
    return here if here.startswith(BRANCHES) else branch_of(datetime.now(UTC).date())


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
    head = attempt("rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        return None
    tip = attempt("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    tree = repository.tree(KEPT)
    if tree == git("rev-parse", f"{tip or head}^{{tree}}"):
        return None
    parents = [tip or head]
    if tip and not is_ancestor(head, tip):
        parents.append(head)
    made = repository.commit(tree, parents, message)
    git("update-ref", f"refs/heads/{branch}", made, tip or "")
    if attempt("symbolic-ref", "--quiet", "HEAD") == f"refs/heads/{branch}":
        git("reset", "--quiet")  # the index of this very branch
    return made
