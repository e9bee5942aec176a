"""Projects that the flows and DVC are driven in: copies of this one, in temporary folders."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from latentops.config import ArchitectureName

DATASET = "breast_cancer"
VARIANTS = ("sparse", "denoising")


@dataclass(frozen=True)
class Project:
    """A copy of this project whose stages run the code of that copy."""

    path: Path

    def run(self, *command: str, check: bool = True) -> str:
        """Standard output and error of `python -m COMMAND` in the project."""
        environment = os.environ | {"PYTHONPATH": f"{self.path / 'src'}{os.pathsep}{self.path}"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        result = subprocess.run(
            [sys.executable, "-m", *command],
            check=False,
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or result.returncode == 0, result.stdout
        return result.stdout

    def git(self, *arguments: str) -> None:
        """Run git, as somebody."""
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=self.path, check=True, capture_output=True)

    def edit(self, key: str, value: object) -> None:
        """Set a dotted key of `params.yaml`."""
        path = self.path / "params.yaml"
        params = yaml.safe_load(path.read_text())
        *folders, last = key.split(".")
        section = params
        for folder in folders:
            section = section[folder]
        section[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))


def ran(output: str) -> list[str]:
    """The stages that DVC ran, in order, by its output."""
    return re.findall(r"Running stage '([^']+)'", output)


def copy_project(root: Path, to: Path) -> Project:
    """What git has, or would have, of the project in `root`, as a new repository in `to`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, to / name)
    project = Project(to)
    project.git("init", "--quiet")
    return project


def shrink(project: Project) -> None:
    """One dataset, two variants, few steps: what a stage does is no matter, only which of them run."""
    small: dict[str, Any] = {
        "run": {"datasets": [DATASET], "variants": list(VARIANTS)},
        "training.budget": {name: {"steps": 4, "learning_rate": 0.01} for name in get_args(ArchitectureName)},
        "training.seeds": [0, 1],
        "training.check_every": 2,
        "comparison.resamples": 20,
        "floors.trees": 2,
    }
    for key, value in small.items():
        project.edit(key, value)
    (project.path / "dvc.lock").unlink(missing_ok=True)
    for results in ("results", "reports"):
        shutil.rmtree(project.path / results, ignore_errors=True)
    (project.path / "ledger/decisions.jsonl").unlink(missing_ok=True)
    (project.path / "ledger/promotions.jsonl").unlink(missing_ok=True)
