"""The train stage on small rows of its own: interrupted, resumed, and with members that fail."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml

from latentops.config import ArchitectureName
from latentops.data import prepared
from latentops.reporting import page, results
from latentops.stages import evaluate, train
from latentops.training.trained import Trained
from tests.toy import describe, draw

ROOT = Path(__file__).parents[2]
SMALL = {"steps": 60, "learning_rate": 0.01}
FILES = (
    "models/breast_cancer/{}/weights.safetensors",
    "models/breast_cancer/{}/config.json",
    "results/train/breast_cancer/{}/curves.csv",
    "results/train/breast_cancer/{}/metrics.json",
)
CHECKPOINT = Path("var/checkpoints/breast_cancer/variational.safetensors")


class Interrupted(Exception):
    pass


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose breast_cancer is toy rows; four members, six looks, a checkpoint after each second."""
    description = replace(describe("tabular"), classes=("benign", "malignant"))
    rows = {name: draw("tabular", 64, seed) for seed, name in enumerate(prepared.SPLITS)}
    prepared.write(tmp_path / "data/prepared/breast_cancer", description, rows)
    monkeypatch.chdir(tmp_path)
    budget = dict.fromkeys(get_args(ArchitectureName), SMALL)
    edit(ROOT / "params.yaml", seeds=[0, 1], budget=budget, check_every=10, checkpoint_every=2)
    return tmp_path


def edit(path: Path = Path("params.yaml"), **training: object) -> None:
    params = yaml.safe_load(path.read_text())
    params["training"] |= training
    Path("params.yaml").write_text(yaml.safe_dump(params))


def written(variant: str = "variational") -> list[bytes]:
    return [Path(name.format(variant)).read_bytes() for name in FILES]


def interrupted_at(step: int) -> None:
    """Run the stage up to the look at `step`."""

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
        def progress(done: int) -> None:
            if done == step:
                raise Interrupted

        yield progress

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "bar", bar)
        with pytest.raises(Interrupted):
            train.run("breast_cancer", "variational")


@pytest.mark.usefixtures("project")
def test_an_interrupted_stage_goes_on_to_the_same_files(capsys: pytest.CaptureFixture[str]) -> None:
    train.run("breast_cancer", "variational")
    whole = written()
    assert not CHECKPOINT.exists()
    interrupted_at(50)
    assert CHECKPOINT.exists()
    assert "variational.safetensors" not in capsys.readouterr().out
    train.run("breast_cancer", "variational")
    assert f"{CHECKPOINT}: training goes on after step 40\n" in capsys.readouterr().out
    assert written() == whole
    assert list(CHECKPOINT.parent.iterdir()) == []


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("change", ["a setting", "a knob", "rows"])
def test_what_has_changed_since_is_trained_anew(change: str, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted_at(50)
    if change == "a setting":
        edit(batch_size=32)
    elif change == "a knob":
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["variants"]["variational"]["beta"] = 2.0
        Path("params.yaml").write_text(yaml.safe_dump(params))
    else:
        values = Path("data/prepared/breast_cancer/stop/values.npy")
        np.save(values, np.load(values) + 1)
    capsys.readouterr()
    train.run("breast_cancer", "variational")
    anew = written()
    assert (
        capsys.readouterr().out.count("of another recipe, data, settings or code; training begins anew") == 1
    )
    train.run("breast_cancer", "variational")
    assert written() == anew


@pytest.mark.usefixtures("project")
def test_how_often_a_checkpoint_is_written_changes_no_byte() -> None:
    train.run("breast_cancer", "variational")
    whole = written()
    interrupted_at(50)
    edit(checkpoint_every=1)
    train.run("breast_cancer", "variational")
    assert written() == whole
    edit(checkpoint_every=0)
    interrupted_at(50)
    assert not CHECKPOINT.exists()
    train.run("breast_cancer", "variational")
    assert written() == whole


def test_members_that_fail_are_told_everywhere_and_the_others_are_as_they_were(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run("breast_cancer", "undercomplete")
    healthy = Trained.load(Path("models/breast_cancer/undercomplete")).model.state_dict()
    values = project / "data/prepared/breast_cancer/train/values.npy"
    rows, labels = np.load(values), np.load(values.with_name("labels.npy"))
    rows[np.flatnonzero(labels == 1)[5]] = np.inf  # a malignant one: only members of the view of all see it
    np.save(values, rows)
    train.run("breast_cancer", "undercomplete")
    found = results.training("breast_cancer", "undercomplete")
    assert [member.failed is not None for member in found.members] == [True, True, False, False]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    panels, _, reported = page._training("breast_cancer", ["undercomplete"], Path())
    assert len(panels) == 1
    for member, line, told in zip(found.members[:2], said, reported, strict=True):
        assert member.failed is not None
        assert np.isinf(rows[list(member.failed.rows)]).any()
        at = f"step {member.failed.step}, on rows {', '.join(map(str, member.failed.rows[:5]))}, …"
        assert f"seed {member.seed}, view all: reconstruction ceased to be a number at {at}" in line
        assert f"seed {member.seed}, view all: reconstruction ceased to be a number at {at}" in told
    for name, value in Trained.load(Path("models/breast_cancer/undercomplete")).model.state_dict().items():
        assert torch.isfinite(value).all()
        assert torch.equal(value[2:], healthy[name][2:])


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("variant", "architecture", "dataset", "kind"),
    [
        ("denoising", "recurrent", "digit_columns", "sequence"),
        ("variational", "convolutional", "digits", "image"),
        ("contractive", "recurrent", "digit_columns", "sequence"),
    ],
)
def test_a_combination_takes_an_edit_of_the_params_alone(
    variant: str, architecture: ArchitectureName, dataset: str, kind: str
) -> None:
    rows = {name: draw(kind, 64, seed) for seed, name in enumerate(prepared.SPLITS)}
    description = replace(describe(kind), classes=("0", "1"))
    prepared.write(Path("data/prepared", dataset), description, rows)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["variants"][variant]["architecture"] = architecture
    params["datasets"][dataset]["normal"] = ["1"]
    params["training"]["budget"][architecture]["steps"] = 20
    Path("params.yaml").write_text(yaml.safe_dump(params))
    train.run(dataset, variant)
    evaluate.run(dataset, variant)
    model = Trained.load(Path("models", dataset, variant)).model
    assert type(model.encoder).__module__ == f"latentops.architectures.{architecture}"
    found = json.loads(Path("results/evaluate", dataset, variant, "metrics.json").read_text())
    assert found["alive"] == {"scores_differ": True, "code_varies": True, "finite": True}
    assert [row["name"] for row in found["rows"]] == [variant, f"untrained {variant}"]


@pytest.mark.usefixtures("project")
def test_a_game_over_its_limit_is_not_said_to_have_ceased_to_be_a_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["variants"]["adversarial"]["strain_limit"] = 0.25
    Path("params.yaml").write_text(yaml.safe_dump(params))
    train.run("breast_cancer", "adversarial")
    found = results.training("breast_cancer", "adversarial")
    why = "ceased to be a number or was over strain_limit (0.25)"
    assert {member.failed.why for member in found.members if member.failed} == {why}
    assert all(member.failed for member in found.members)
    assert capsys.readouterr().out.count(why) == len(found.members)
    _, terms, told = page._training("breast_cancer", ["adversarial"], Path())
    assert sum(why in line for line in told) == len(found.members)
    assert "discriminator accuracy" in {panel.detail for panel in terms}
