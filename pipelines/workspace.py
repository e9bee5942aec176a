"""A working copy of the flows' own, so that a person's checkout is never touched.

It is a clone of the checkout that the flow was started from, on the day's branch, with the data of the DVC
remote. What only this machine knows is shared with the checkout: `var/`, where MLflow's store is unless that
is a server, and `data/incoming/`.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from latentops.errors import LatentOpsError
from latentops.registry import ledger
from pipelines import decisions
from pipelines.children import Children, dvc
from pipelines.incoming import INCOMING
from pipelines.publish import branch_of
from pipelines.repository import git, is_ancestor

LEDGERS = (decisions.LEDGER, ledger.LEDGER)
SHARED = (Path("var"), INCOMING)


def prepare(place: Path, origin: Path, day: date) -> str:
    """Make `place` ready for the retrainings of `day`, or bring it up to date; the branch it is on.

    The branch starts from the newest one of earlier days that isn't merged yet, so that nothing is decided
    twice, else from the checkout's HEAD. Raises `LatentOpsError` where there is no DVC remote, `place` is
    something else, or the branches or ledgers have parted and a person has to bring them together.
    """
    branch = branch_of(day)
    if not (place / ".git").exists():
        if place.exists() and any(place.iterdir()):
            raise LatentOpsError(f"{place}: not empty, and no clone of {origin}: give a folder that is new")
        git("clone", "--quiet", str(origin), str(place))
    elif Path(git("remote", "get-url", "origin", at=place)).resolve() != origin.resolve():
        raise LatentOpsError(f"{place}: a clone of something else than {origin}: give a folder that is new")
    git("fetch", "--quiet", "--prune", "origin", at=place)
    head = git("rev-parse", "HEAD", at=origin)
    # What a run that was ended has left is made anew: the incoming files are where they were.
    git("checkout", "--quiet", "--force", "-B", branch, base(origin, head), at=place)
    git("clean", "--quiet", "--force", "-d", "--", "data/accepted", "ledger", at=place)
    local = origin / ".dvc/config.local"
    if local.exists():
        shutil.copy(local, place / ".dvc/config.local")
    for shared in SHARED:
        _share(place / shared, origin / shared)
    for each in LEDGERS:
        _bring_up(place / each, origin / each, branch)
    code, remote = _dvc(place, "config", "core.remote")
    if code or not remote:
        raise LatentOpsError(
            "a workspace has its data from the DVC remote, and there is none: "
            "`dvc remote add --default NAME URL`, commit it, and `dvc push`"
        )
    code, said = _dvc(place, "pull", "--quiet", "--allow-missing")
    if code:
        raise LatentOpsError(f"dvc pull: {said or f'exit status {code}'}")
    return branch


def base(origin: Path, head: str) -> str:
    """The commit that the next branch starts from."""
    heads = git(
        "for-each-ref", "--sort=-refname", "--format=%(refname:short)", "refs/heads/retrain", at=origin
    )
    for each in heads.split():
        if is_ancestor(each, head, origin):
            continue  # merged
        if not is_ancestor(head, each, origin):
            raise LatentOpsError(
                f"the branch {each} and the checkout have parted: `git merge {each}`, or delete the branch"
            )
        return git("rev-parse", each, at=origin)
    return head


def run(place: Path, arguments: Sequence[str], say: Callable[[str], object]) -> int:
    """`python -m pipelines.retrain ARGUMENTS` in `place`, with its own code, which ends with us.

    Each line of its log is told as it comes; the exit status.
    """
    path = os.pathsep.join([str(place / "src"), str(place)])
    command = [sys.executable, "-m", "pipelines.retrain", *arguments]
    with Children() as children:
        return children.run(command, say, {**os.environ, "PYTHONPATH": path}, at=place)


def hand_back(place: Path, branch: str) -> None:
    """Give `branch` to the checkout's repository."""
    git("push", "--quiet", "origin", f"{branch}:{branch}", at=place)


def _share(link: Path, shared: Path) -> None:
    shared.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        if link.exists():
            link.rmdir()
        link.symlink_to(shared, target_is_directory=True)


def _bring_up(own: Path, theirs: Path, branch: str) -> None:
    """Let a ledger go on from the longer of the two, of which the other has to be the beginning."""
    mine, other = (path.read_text(encoding="utf-8") if path.exists() else "" for path in (own, theirs))
    if other.startswith(mine):
        if other != mine:
            shutil.copy(theirs, own)
    elif not mine.startswith(other):
        raise LatentOpsError(
            f"{theirs} and that of {branch} have parted: merge the branch by hand, keeping both"
        )


def _dvc(place: Path, *arguments: str) -> tuple[int, str]:
    """The exit status of `dvc` in `place`, and the last that it said."""
    said: list[str] = []
    command, environment = dvc(arguments)
    with Children() as children:
        code = children.run(command, said.append, environment, at=place)
    return code, " ".join(said[-1:])
