"""A small project that the slow tests of this folder share."""

from pathlib import Path

import pytest
from projects import Project, copy_project, shrink


@pytest.fixture(scope="session")
def tiny(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small copy in which every stage has run once. Tests leave it with nothing stale."""
    project = copy_project(root, tmp_path_factory.mktemp("tiny"))
    shrink(project)
    project.run("dvc", "repro", "--quiet")
    return project
