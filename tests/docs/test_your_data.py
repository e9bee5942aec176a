"""docs/your-data.md, done as it is written, in a copy of the project."""

import re
from pathlib import Path

import pytest
import yaml

from tests.pipelines.projects import Project, copy_project


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with the page's file."""
    made = copy_project(root, tmp_path_factory.mktemp("project"))
    (made.path / "draw.py").write_text(blocks(root, "python")[0])
    made.run("draw")
    return made


@pytest.fixture(scope="module")
def shown(project: Project, root: Path) -> str:
    """What is said where the file is added as the page says."""
    command, _ = blocks(root, "sh")[0].splitlines()
    return project.run("latentops.cli", *command.split()[1:])


def blocks(root: Path, language: str) -> list[str]:
    page = (root / "docs/your-data.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_page_s_table_is_added_and_shown_as_it_says(project: Project, root: Path, shown: str) -> None:
    _, repro = blocks(root, "sh")[0].splitlines()
    for line in (
        "closure categorical 2 values",
        "bottle passed over the row's number",
        "country passed over constant",
        "178 of 178 rows are clean, 0 set aside",
        "data docs: var/data_docs/wine/index.html",
        f"next: {repro}",
    ):
        assert line in " ".join(shown.split()), line
    params = yaml.safe_load((project.path / "params.yaml").read_text())
    assert params["run"]["datasets"][-1] == "wine"
    assert params["datasets"]["wine"]["likelihood"] == "mixed"


def test_every_option_of_the_page_exists(project: Project, root: Path) -> None:
    page = (root / "docs/your-data.md").read_text(encoding="utf-8")
    known = project.run("latentops.cli", "add-dataset", "--help")
    options = set(re.findall(r"`(--\w+)", page)) | set(re.findall(r" (--\w+) ", page))
    assert options
    assert {option for option in options if option not in known} == set()


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_the_second_command_ends_with_its_board(project: Project) -> None:
    project.edit("run", {"datasets": ["wine"], "variants": ["undercomplete", "denoising"]})
    project.edit("training.seeds", [0, 1])
    project.edit("training.budget.mlp.steps", 100)
    (project.path / "dvc.lock").unlink(missing_ok=True)
    project.run("dvc", "repro")
    assert "denoising" in project.run("latentops.cli", "leaderboard", "wine")
    assert "wine" in (project.path / "reports/index.html").read_text()
