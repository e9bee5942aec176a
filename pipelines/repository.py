"""Git as the flows use it: commits are made beside a checkout, whose files and index stay as they are."""

import os
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from latentops.errors import LatentOpsError

NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "LatentOps"), ("EMAIL", "latentops@localhost"))
}
"""Who commits, where git doesn't know who we are."""


def git(*arguments: str, at: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What `git` prints; `LatentOpsError` with its own words where it fails."""
    environment = {**os.environ, **(env or {})}
    command = ["git", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=at, env=environment)
    if found.returncode:
        said = found.stderr.strip().splitlines() or [f"exit status {found.returncode}"]
        raise LatentOpsError(f"git {arguments[0]}: {' '.join(said).removeprefix('fatal: ')}")
    return found.stdout.strip()


def attempt(*arguments: str, at: Path | None = None) -> str | None:
    """What git prints, or None where it refuses or isn't there."""
    try:
        return git(*arguments, at=at)
    except (LatentOpsError, FileNotFoundError):
        return None


def is_ancestor(earlier: str, later: str, at: Path | None = None) -> bool:
    """Whether `later` has all of `earlier`."""
    return attempt("merge-base", "--is-ancestor", earlier, later, at=at) is not None


def tree(paths: Collection[str], ignored: Collection[str] = ()) -> str:
    """The tree of HEAD with `paths` as they are in the working copy, and `ignored`, which git passes over."""
    with tempfile.TemporaryDirectory() as scratch:
        beside = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        git("read-tree", "HEAD", env=beside)
        for option, chosen in (("--all", paths), ("--force", ignored)):
            if there := [path for path in chosen if Path(path).exists()]:
                git("add", option, "--", *there, env=beside)
        return git("write-tree", env=beside)


def commit(tree: str, parents: Sequence[str], message: str) -> str:
    """A commit of `tree` that no branch has yet."""
    options = [each for parent in parents for each in ("-p", parent)]
    known = attempt("config", "user.email") is not None
    return git("commit-tree", tree, *options, "-m", message, env={} if known else NOBODY)
