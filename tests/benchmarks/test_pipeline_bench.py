"""The pipeline benchmark's own judgement: what counts as the same, and what counts as met."""

from pathlib import Path

import pytest
import yaml

from benchmarks import pipeline
from latentops.errors import LatentOpsError


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    """A checkout with a few outs and a lock."""
    for name in ("models/d/v/weights.safetensors", "data/prepared/d/train/values.npy", "results/d.json"):
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some bytes")
    lock(tmp_path / "one", ["train", "evaluate"])
    board = tmp_path / "one/reports/leaderboard.json"
    board.parent.mkdir()
    board.write_text("[]")
    return tmp_path / "one"


def lock(folder: Path, stages: list[str], md5: str = "0") -> None:
    content = {"schema": "2.0", "stages": {name: {"cmd": name, "outs": [{"md5": md5}]} for name in stages}}
    (folder / "dvc.lock").write_text(yaml.safe_dump(content, sort_keys=False))


def twin(folder: Path) -> Path:
    other = folder.with_name("other")
    for path in folder.rglob("*"):
        if path.is_file():
            copy = other / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return other


def differing(one: Path, other: Path) -> list[str]:
    return pipeline.differences(pipeline.digests(one), pipeline.digests(other))


def test_the_order_of_the_lock_is_no_difference(outs: Path) -> None:
    other = twin(outs)
    lock(other, ["evaluate", "train"])
    assert (other / "dvc.lock").read_bytes() != (outs / "dvc.lock").read_bytes()
    assert differing(outs, other) == []


@pytest.mark.parametrize(
    "name", ["models/d/v/weights.safetensors", "data/prepared/d/train/values.npy", "reports/leaderboard.json"]
)
def test_one_changed_byte_is_found_and_named(outs: Path, name: str) -> None:
    other = twin(outs)
    content = bytearray((other / name).read_bytes())
    content[-1] ^= 1
    (other / name).write_bytes(content)
    assert differing(outs, other) == [name]


def test_a_missing_file_and_a_further_one_are_differences(outs: Path) -> None:
    other = twin(outs)
    (other / "results/d.json").unlink()
    (other / "models/d/v/further").write_text("")
    assert differing(outs, other) == ["models/d/v/further", "results/d.json"]


def test_a_stage_recorded_otherwise_is_a_difference(outs: Path) -> None:
    other = twin(outs)
    lock(other, ["train", "evaluate"], md5="1")
    assert differing(outs, other) == ["dvc.lock: evaluate", "dvc.lock: train"]


def test_costs_are_summed_by_verb_the_dearest_first() -> None:
    costs = {
        "compare-digits": {"wall_seconds": 1.0},
        "train-digits-sparse": {"wall_seconds": 2.0},
        "train-digit_columns-sparse": {"wall_seconds": 3.0},
        "report": {"wall_seconds": 0.5},
    }
    assert list(pipeline.by_verb(costs, "wall_seconds").items()) == [
        ("train", 5.0),
        ("compare", 1.0),
        ("report", 0.5),
    ]


def test_a_command_that_fails_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LOGS", tmp_path / "logs")
    checkout = pipeline.Checkout(tmp_path, {"PATH": "/usr/bin:/bin"})
    with pytest.raises(
        LatentOpsError, match=r"a step: `sh -c` ended with status 3; see .*a-step\.log"
    ) as raised:
        checkout.time("a step", ["sh", "-c", "echo what went wrong; exit 3"])
    assert "\n" not in str(raised.value)
    assert (tmp_path / "logs/a-step.log").read_text() == "what went wrong\n"


def test_a_checkout_leaves_out_what_the_shell_says_of_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "src/latentops").mkdir(parents=True)
    (source / "src/latentops/__init__.py").write_text("")
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "one"],
    ):
        pipeline.subprocess.run(["git", *command], cwd=source, check=True)
    monkeypatch.setattr(pipeline, "ROOT", source)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere.db")
    monkeypatch.setenv("MAKEFLAGS", "DATASET=digits")
    monkeypatch.setenv("DATASET", "digits")
    monkeypatch.setenv("PYTHONPATH", str(root / "src"))
    made = pipeline.Checkout.clone(tmp_path / "clone")
    assert not {"MLFLOW_TRACKING_URI", "MAKEFLAGS", "DATASET"} & made.environment.keys()
    assert made.environment["PYTHONPATH"].startswith(str(tmp_path / "clone/src"))
