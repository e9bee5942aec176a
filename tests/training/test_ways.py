"""A stack is trained the way that was measured to be fastest; none changes a byte."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch

from latentops.config import ArchitectureName, Budget
from latentops.training import ways
from latentops.training.loop import Look, fit
from latentops.training.members import Member
from latentops.training.processes import fit_in_turns
from tests.toy import TRAINING, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    small = {"architecture": "mlp", "parameters": 1000, "values": 10, "step_seconds": 0.001}
    large = {"architecture": "mlp", "parameters": 10**6, "values": 1000, "step_seconds": 0.1}
    rows = [
        small | {"turns_over_stack": 2.0, "processes_over_stack": 0.6},
        large | {"turns_over_stack": 0.9, "processes_over_stack": 0.6},
    ]
    table = {"members": 5, "processes": 2, "start_seconds": 2.0, "rows": rows}
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(table))
    monkeypatch.setattr(ways, "RULES", path)
    ways._rules.cache_clear()
    yield
    ways._rules.cache_clear()


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize(
    ("parameters", "members", "steps", "processes", "expected"),
    [
        (2000, 5, 1000, 1, "stack"),
        (2000, 5, 1000, 2, "stack"),  # a second's work isn't worth a start
        (2000, 5, 10_000, 2, "processes"),
        (2000, 50, 1000, 2, "processes"),
        (10**6, 5, 1000, 1, "in turns"),
        (10**6, 5, 1000, 2, "processes"),
        (10**6, 1, 1000, 1, "stack"),
        (2000, 1, 10, 2, "processes"),
    ],
)
def test_the_fastest_way_by_the_nearest_model_is_taken(
    parameters: int, members: int, steps: int, processes: int, expected: ways.Way
) -> None:
    assert ways.way("mlp", parameters, 100, members, steps, processes) == expected


@pytest.mark.parametrize("architecture", get_args(ArchitectureName))
def test_every_architecture_was_measured(architecture: ArchitectureName) -> None:
    assert ways.way(architecture, 10_000, 64, 5, 100, 1) in get_args(ways.Way)


def test_a_member_after_another_has_the_bytes_of_the_stack() -> None:
    samples, made = draw("tabular", 64), recipe("variational", "tabular")
    budget, cpu = Budget(steps=30, learning_rate=0.01), torch.device("cpu")
    data = samples, samples, made.description.classes
    stacked, turned = made.build(MEMBERS), made.build(MEMBERS)
    looks: list[Look] = []
    outcomes = [
        fit(stacked, MEMBERS, *data, TRAINING, budget, cpu, lambda look: None),
        fit_in_turns(turned, made, MEMBERS, *data, TRAINING, budget, cpu, looks.append),
    ]
    assert outcomes[0] == outcomes[1]
    for name, value in stacked.state_dict().items():
        assert torch.equal(value, turned.state_dict()[name]), name
    assert [look.members for look in looks] == [[at] for at in range(3) for _ in range(3)]
