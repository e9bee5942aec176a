"""An interrupted training goes on to the bytes of one that wasn't, or begins anew and says so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latentops.config import ArchitectureName, Budget
from latentops.data.prepared import Samples
from latentops.training.checkpoint import Checkpoint, State, code_digest, data_digest, fingerprint
from latentops.training.loop import Look, Outcome, fit
from latentops.training.members import Member
from latentops.training.trained import Recipe
from tests.toy import TRAINING, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


class Interrupted(Exception):
    pass


def go(
    made: Recipe,
    samples: Samples,
    checkpoint: Checkpoint | None = None,
    interrupt: int | None = None,
    members: Sequence[Member] = MEMBERS,
    steps: int = 60,
    rate: float = 0.01,
    device: str = "cpu",
    **overrides: object,
) -> tuple[dict[str, torch.Tensor], Outcome, list[Look]]:
    """The weights, the outcome and the looks; `Interrupted` at the look of that number."""
    looks: list[Look] = []

    def on_look(look: Look) -> None:
        if len(looks) == interrupt:
            raise Interrupted
        looks.append(look)

    model = made.build(members)
    training = TRAINING.model_copy(update=overrides)
    stop = samples.select(slice(0, max(4, len(samples) // 4)))
    budget = Budget(steps=steps, learning_rate=rate)
    outcome = fit(
        model, members, samples, stop, made.description.classes, training, budget, torch.device(device),
        on_look, checkpoint,
    )  # fmt: skip
    looks = [
        Look(look.step, look.members, look.objective.cpu(), look.stop.cpu(), _cpu(look.terms))
        for look in looks
    ]
    return _cpu(model.state_dict()), outcome, looks


def _cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in tensors.items()}


def assert_same(one: tuple[dict, Outcome, list[Look]], other: tuple[dict, Outcome, list[Look]]) -> None:
    assert one[1] == other[1]
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name
    assert len(one[2]) == len(other[2])
    for first, second in zip(one[2], other[2], strict=True):
        assert (first.step, first.members) == (second.step, second.members)
        shown, again = ({"": each.objective, "stop": each.stop, **each.terms} for each in (first, second))
        assert shown.keys() == again.keys()
        assert all(np.array_equal(shown[name], again[name], equal_nan=True) for name in shown)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("interrupt", range(6))
def test_interrupted_at_any_look_it_ends_with_the_same_bytes(
    interrupt: int, every: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, samples = recipe("variational", "tabular"), draw("tabular", 40)
    whole = go(made, samples)
    checkpoint = Checkpoint(tmp_path / "made.safetensors", "x", every)
    with pytest.raises(Interrupted):
        go(made, samples, checkpoint, interrupt)
    saved = interrupt // every * every
    assert checkpoint.path.exists() == bool(saved)
    assert_same(go(made, samples, checkpoint), whole)
    assert (f"goes on after step {10 * saved}\n" in capsys.readouterr().out) == bool(saved)


@pytest.mark.parametrize(
    ("variant", "architecture", "kind"),
    [
        ("denoising", "recurrent", "sequence"),
        ("adversarial", "mlp", "tabular"),
        ("contractive", "mlp", "sequence"),
        ("variational", "convolutional", "image"),
        ("sparse", "mlp", "image"),
    ],
)
def test_so_does_every_use_of_noise_with_buckets_and_decay(
    variant: str, architecture: ArchitectureName, kind: str, tmp_path: Path
) -> None:
    section = {"norm": "estimate"} if variant == "contractive" else {}
    made, samples = recipe(variant, kind, architecture, **section), draw(kind, 40)
    settings = {"buckets": 3, "weight_decay": 0.1, "clip": 1.0, "schedule": "one_cycle", "warmup": 0.3}
    whole = go(made, samples, **settings)
    checkpoint = Checkpoint(tmp_path / "made.safetensors", "x")
    for interrupt in (2, 4):
        with pytest.raises(Interrupted):
            go(made, samples, checkpoint, interrupt, **settings)
    assert_same(go(made, samples, checkpoint, **settings), whole)


def test_members_that_had_left_stay_away(tmp_path: Path) -> None:
    samples = draw("tabular", 64)
    samples.values[samples.labels == 0] *= 0.01
    members = [Member(0, "all"), Member(0, "a"), Member(1, "all"), Member(1, "a")]
    made, settings = recipe("variational", "tabular"), {"patience": 3, "steps": 400, "rate": 0.02}
    whole = go(made, samples, members=members, **settings)
    sizes = [len(look.members) for look in whole[2]]
    assert len(set(sizes)) > 2
    for interrupt in sorted({sizes.index(size) + 1 for size in sizes} - {len(sizes)}):
        checkpoint = Checkpoint(tmp_path / f"{interrupt}.safetensors", "x")
        with pytest.raises(Interrupted):
            go(made, samples, checkpoint, interrupt, members, **settings)
        assert_same(go(made, samples, checkpoint, members=members, **settings), whole)


def test_failures_are_remembered(tmp_path: Path) -> None:
    samples = draw("tabular", 32)
    samples.values[samples.labels == 0] = np.float32("inf")
    members = [Member(0, "b"), Member(1, "b"), Member(0, "a")]
    made, checkpoint = recipe("undercomplete", "tabular"), Checkpoint(tmp_path / "made.safetensors", "x")
    whole = go(made, samples, members=members)
    assert whole[1].failures[2] is not None
    with pytest.raises(Interrupted):
        go(made, samples, checkpoint, 3, members)
    assert_same(go(made, samples, checkpoint, members=members), whole)


def test_a_training_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    made, samples = recipe("undercomplete", "tabular"), draw("tabular", 40)
    checkpoint = Checkpoint(tmp_path / "made.safetensors", "x")
    whole = go(made, samples, checkpoint)
    written = checkpoint.path.stat().st_mtime_ns
    assert_same(go(made, samples, checkpoint), whole)
    assert checkpoint.path.stat().st_mtime_ns == written


@pytest.fixture
def interrupted(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path / "made.safetensors", "x")
    with pytest.raises(Interrupted):
        go(recipe("undercomplete", "tabular"), draw("tabular", 40), checkpoint, 3)
    return checkpoint


def test_a_checkpoint_of_another_training_is_ignored(
    interrupted: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replace(interrupted, fingerprint="y").load() is None
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "of another recipe, data, settings or code; training begins anew" in out


@pytest.mark.parametrize("harm", ["cut", "emptied", "overwritten", "bare"])
def test_a_torn_checkpoint_is_ignored(
    interrupted: Checkpoint, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, content = interrupted.path, interrupted.path.read_bytes()
    if harm == "bare":
        save_file(load_file(path), path)
    else:
        spoilt = {"cut": content[:-100], "emptied": b"", "overwritten": content[:-64] + bytes(range(64))}
        path.write_bytes(spoilt[harm])
    assert interrupted.load() is None
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "made.safetensors: not a whole checkpoint" in out
    made, samples = recipe("undercomplete", "tabular"), draw("tabular", 40)
    assert_same(go(made, samples, interrupted), go(made, samples))


def test_one_that_cannot_be_written_whole_leaves_the_last(
    interrupted: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = interrupted.path.read_bytes()

    def torn(tensors: object, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("latentops.training.checkpoint.save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        interrupted.save(State({}, {}))
    assert interrupted.path.read_bytes() == before
    assert list(interrupted.path.parent.iterdir()) == [interrupted.path]


def test_there_is_nothing_in_it_but_tensors_and_json(interrupted: Checkpoint) -> None:
    with safe_open(interrupted.path, framework="pt") as file:
        names = set(file.keys())
    assert {"stack.numbers", "stack.mean", "stack.square", "stack.noise.2", "watch.best"} <= names
    interrupted.remove()
    interrupted.remove()
    assert interrupted.load() is None


def test_a_fingerprint_tells_rows_and_code_apart(tmp_path: Path) -> None:
    samples, other = draw("sequence", 8), draw("sequence", 8)
    assert data_digest(samples) == data_digest(other)
    other.values[3, 0, 0] += 1
    assert data_digest(samples) != data_digest(other)
    assert data_digest(samples) != data_digest(replace(samples, labels=1 - samples.labels))
    file = tmp_path / "variant.py"
    file.write_text("a = 1")
    before = code_digest(file)
    assert code_digest() != before == code_digest(file)
    file.write_text("a = 2")
    assert code_digest(file) != before
    assert fingerprint(a=1, b="x") == fingerprint(b="x", a=1) != fingerprint(a=2, b="x")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("variant", ["variational", "sparse", "adversarial"])
def test_so_it_is_on_a_gpu(variant: str, tmp_path: Path) -> None:
    made, samples = recipe(variant, "tabular"), draw("tabular", 40)
    whole = go(made, samples, device="cuda")
    checkpoint = Checkpoint(tmp_path / "made.safetensors", "x")
    with pytest.raises(Interrupted):
        go(made, samples, checkpoint, 3, device="cuda")
    assert_same(go(made, samples, checkpoint, device="cuda"), whole)
