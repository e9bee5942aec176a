"""docs/your-variant.md, done as it is written, in a copy of the project."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.pipelines.projects import Project, copy_project

NAME = "decorrelated"


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with the page's file and its two edits of params.yaml."""
    made = copy_project(root, tmp_path_factory.mktemp("project"))
    (made.path / f"src/latentops/variants/{NAME}.py").write_text(blocks(root, "python")[0])
    params = yaml.safe_load((made.path / "params.yaml").read_text())
    for block in blocks(root, "yaml"):
        for section, keys in yaml.safe_load(block).items():
            params[section] |= keys
    (made.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return made


def blocks(root: Path, language: str) -> list[str]:
    page = (root / "docs/your-variant.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def command(project: Project, *words: str, check: bool = True) -> str:
    return project.run("latentops.cli", *words, check=check)


def test_it_is_checked_and_listed(project: Project) -> None:
    assert "fine; 3 datasets × 10 variants × 5 seeds" in command(project, "check")
    shown = " ".join(command(project, "variants", NAME).split())
    assert f"src/latentops/variants/{NAME}.py) Decorrelated autoencoder: no latent unit should" in shown
    assert "Cogswell et al. 2016" in shown
    assert "weight number ≥ 0 1.0 nats for each unit of the penalty" in shown
    assert "ramp number ≥ 0, ≤ 1 0.0 share of the steps over which it rises" in shown


def test_a_wrong_key_is_refused_by_name(project: Project) -> None:
    was = (project.path / "params.yaml").read_text()
    project.edit(f"variants.{NAME}.wieght", 2)
    said = command(project, "check", check=False)
    (project.path / "params.yaml").write_text(was)
    assert f"variants.{NAME}: wieght: unknown key (did you mean 'weight'?" in said


@pytest.mark.slow
def test_it_passes_the_common_suite(project: Project) -> None:
    said = project.run(
        "pytest", "tests/model/test_common_suite.py", "--variant", NAME, "-p", "no:cacheprovider"
    )
    assert "100%" in said
    assert "failed" not in said


@pytest.mark.slow
def test_dvc_trains_it_and_goes_by_its_file_and_keys(project: Project) -> None:
    project.edit("run.datasets", ["breast_cancer"])
    project.edit("training.seeds", [0, 1])
    project.edit("training.budget.mlp.steps", 200)
    (project.path / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(project.path / "results")
    cell = f"evaluate@breast_cancer-{NAME}"
    project.run("dvc", "repro", cell)
    loads = "from latentops.training.trained import Trained; from pathlib import Path; "
    print_code = "print(Trained.load(Path('models/breast_cancer/decorrelated')).variant)"
    (project.path / "load.py").write_text(loads + print_code)
    assert project.run("load").strip() == NAME
    file = project.path / f"src/latentops/variants/{NAME}.py"
    aside = file.with_suffix(".aside")
    file.rename(aside)
    assert f"unknown variant '{NAME}'" in project.run("load", check=False)
    assert "one of your own is a file" in project.run("load", check=False)
    elsewhere = project.path / "research" / file.name
    elsewhere.parent.mkdir()
    aside.rename(elsewhere)
    file.symlink_to(Path("../../../research") / file.name)
    assert project.run("load").strip() == NAME
    assert "up to date" in project.run("dvc", "status", cell)
    elsewhere.write_text(elsewhere.read_text() + "\n# edited\n")
    assert f"src/latentops/variants/{NAME}.py" in project.run("dvc", "status", cell)
