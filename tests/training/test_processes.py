import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentops.config import Budget
from latentops.data import prepared
from latentops.errors import ConfigError, LatentOpsError
from latentops.training.loop import Look, Outcome, fit
from latentops.training.members import Member
from latentops.training.processes import fit_shared, shares
from latentops.training.ranks import Ranks
from latentops.training.trained import Recipe
from tests.toy import TRAINING, describe, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


def shared(
    made: Recipe,
    members: list[Member],
    folder: Path,
    processes: int,
    looks: list[Look],
    batch: int = 32,
    steps: int = 30,
    **overrides: object,
) -> tuple[dict[str, Tensor], Outcome]:
    """Training in so many processes, or, if none, in this one."""
    samples = draw("tabular", 24)
    prepared.write(folder, describe("tabular"), {"train": samples, "stop": samples})
    training = TRAINING.model_copy(update={"processes": processes, "batch_size": batch, **overrides})
    model, budget = made.build(members), Budget(steps=steps, learning_rate=0.01)
    if processes:
        outcome = fit_shared(model, made, members, folder, training, budget, looks.append)
    else:
        classes, cpu = made.description.classes, torch.device("cpu")
        outcome = fit(model, members, samples, samples, classes, training, budget, cpu, looks.append)
    return model.state_dict(), outcome


@pytest.mark.parametrize(
    ("members", "processes", "expected"),
    [
        (5, 2, [((0, 1), 0, 1), ((2, 3, 4), 0, 1)]),
        (1, 2, [((0,), 0, 2), ((0,), 1, 2)]),
        (2, 3, [((0,), 0, 2), ((0,), 1, 2), ((1,), 0, 1)]),
    ],
)
def test_members_are_shared_first_then_rows(
    members: int, processes: int, expected: list[tuple[tuple[int, ...], int, int]]
) -> None:
    found = shares(members, processes)
    assert [(share.members, share.ranks.rank, share.ranks.count) for share in found] == expected


@pytest.mark.slow
def test_sharing_by_members_changes_no_byte(tmp_path: Path) -> None:
    made = recipe("denoising", "tabular")
    whole: list[Look] = []
    parts: list[Look] = []
    alone, expected = shared(made, MEMBERS, tmp_path / "toy", 0, whole)
    weights, outcome = shared(made, MEMBERS, tmp_path / "toy", 2, parts)
    assert all(torch.equal(weights[name], value) for name, value in alone.items())
    assert outcome == expected
    seen = [[(look.step, look.members, look.stop.tolist()) for look in looks] for looks in (whole, parts)]
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_sharing_by_rows_takes_the_same_steps_but_for_rounding(tmp_path: Path) -> None:
    made = recipe("undercomplete", "tabular")
    one, _ = shared(made, MEMBERS[:1], tmp_path / "one", 1, [], batch=64)
    two, _ = shared(made, MEMBERS[:1], tmp_path / "two", 2, [], batch=64)
    assert not all(torch.equal(value, two[name]) for name, value in one.items())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("members", "processes", "batch", "said"),
    [
        (1, 2, 32, "32 rows can't be shared among 2 processes.*multiple of 64"),
        (2, 7, 128, "128 rows can't be shared among 3 and 4 processes.*multiple of 384"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(
    members: int, processes: int, batch: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"batch_size: {said}"):
        shared(recipe("undercomplete", "tabular"), MEMBERS[:members], tmp_path / "toy", processes, [], batch)


@pytest.mark.slow
def test_what_a_process_died_of_is_said(tmp_path: Path) -> None:
    made = recipe("undercomplete", "tabular")
    training = TRAINING.model_copy(update={"processes": 2})
    model, budget = made.build(MEMBERS), training.budget["mlp"]
    with pytest.raises(
        LatentOpsError, match=r"training process [01] ended with 1: .*dataset.json: not found"
    ):
        fit_shared(model, made, MEMBERS, tmp_path / "none", training, budget, [].append)


@pytest.mark.slow
def test_who_has_much_to_say_is_heard_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    looks: list[Look] = []
    made, settings = recipe("undercomplete", "tabular"), {"check_every": 1, "patience": 1000}
    shared(made, MEMBERS[:1], tmp_path / "toy", 2, looks, batch=64, steps=600, **settings)
    assert [look.step for look in looks] == list(range(1, 601))
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_nobody_waits_for_who_has_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$4" = 1 ] && echo no room >&2 && exit 3\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(LatentOpsError, match="training process 1 ended with 3: no room"):
        shared(recipe("undercomplete", "tabular"), MEMBERS[:1], tmp_path / "toy", 2, [], batch=64)


@pytest.mark.slow
def test_what_a_variant_prints_is_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import runpy, sys\n"
        "from latentops.variants.undercomplete import Variant\n"
        "Variant.mend = lambda *arguments: print('mended')\n"
        "del sys.argv[:2]\n"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=False)\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    looks: list[Look] = []
    shared(recipe("undercomplete", "tabular"), MEMBERS[:2], tmp_path / "toy", 2, looks)
    assert [look.step for look in looks] == [10, 20, 30]


def test_alone_there_is_nothing_to_agree_on() -> None:
    value = torch.arange(4.0)
    Ranks().average(value)
    Ranks().spread([value])
    assert value.tolist() == [0, 1, 2, 3]
    assert Ranks(1, 2).share(torch.arange(8.0)).tolist() == [4, 5, 6, 7]
