"""The speed benchmark's own judgement and its talk with contestants; nothing here is timed."""

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import speed, workers
from benchmarks.contestants import data, network, ours, packed
from benchmarks.contestants.protocol import Job, peak_bytes
from benchmarks.speed import Contestant, Run, SpeedRow, Wanted
from latentops.errors import LatentOpsError

SMALL = Job("mlp", (12,), (8,), 3, batch=32, rows=64, threads=1)
IMAGES = Job("convolutional", (1, 7, 6), (4, 6), 3, batch=32, rows=64, threads=1)
RAGGED = Job("gru", (9, 2), (5,), 3, batch=32, rows=64, threads=1, lengths=(2, 9))
FAKE = """
import json, sys
rate, refuses = float(sys.argv[1]), sys.argv[2] == "refuses"
for line in sys.stdin:
    command = json.loads(line)
    if command.get("train") == 13:
        sys.exit(3)
    if "prepare" in command:
        answer = {"error": "no such thing"} if refuses else {"ready": True}
    else:
        answer = {"seconds": command["train"] / rate, "loss": 0.5, "peak_bytes": 7}
    print(json.dumps(answer), flush=True)
"""


def runs(*rates: float, loss: float = 1.0) -> list[Run]:
    return [Run(rate, loss, peak) for peak, rate in enumerate(rates)]


def row(ratio: float, better: str = "higher", name: str = "a row") -> SpeedRow:
    return SpeedRow(name, ratio, None, better, None, "pythae", (ratio,), {}, {}, {}, None, True)


def fake(tmp_path: Path, rate: float = 1.0, refuses: bool = False, name: str = "fake") -> workers.Worker:
    command = [sys.executable, "-c", FAKE, str(rate), "refuses" if refuses else "agrees"]
    return workers.Worker(name, command, 1, tmp_path / f"{name}.log")


def test_a_ratio_is_against_the_fastest_peer_of_its_round() -> None:
    made = speed.judge(
        Wanted("x", "ours", 1.5),
        {
            "LatentOps": runs(40, 60, 90),
            "pythae": runs(10, 20, 10),
            "PyOD": runs(20, 30, 30),
            "Lightning": runs(5, 40, 20),
            "plain loop": runs(500, 500, 500),
        },
        0.5,
    )
    assert made.ratios == (2.0, 1.5, 3.0)
    assert (made.ratio, made.met, made.best_peer) == (2.0, True, "PyOD")
    assert made.peak_bytes["LatentOps"] == 2
    assert made.samples_per_second["PyOD"].median == 30


@pytest.mark.parametrize(("target", "met"), [(1.6, True), (1.4, False), (None, None)])
def test_where_lower_is_better_the_ratio_is_one_of_times(target: float | None, met: bool | None) -> None:
    wanted = Wanted("x", "with", target, ("without",), "lower", alike=False)
    made = speed.judge(wanted, {"LatentOps": runs(10, 10, loss=9.0), "without": runs(15, 15)}, None)
    assert (made.ratio, made.met, made.counts) == (1.5, met, True)


def test_a_row_whose_losses_differ_meets_nothing_and_says_so() -> None:
    wanted = Wanted("x", "ours", 1.5, ("pythae",))
    peer = runs(1, 1, loss=1.0)
    near = speed.judge(wanted, {"LatentOps": runs(9, 9, loss=1.04), "pythae": peer}, None)
    far = speed.judge(wanted, {"LatentOps": runs(9, 9, loss=1.06), "pythae": peer}, None)
    assert (near.counts, near.met) == (True, True)
    assert (far.counts, far.met) == (False, False)
    assert "losses differ" in far.figure().name
    noisy = [Run(1, 0.9, 0), Run(1, 1.0, 0), Run(1, 1.1, 0)]
    assert speed.judge(wanted, {"LatentOps": runs(9, 9, 9, loss=1.2), "pythae": noisy}, None).counts


@pytest.mark.parametrize(
    ("before", "now", "better", "fell"),
    [
        (2.0, 1.81, "higher", False),
        (2.0, 1.79, "higher", True),
        (2.0, 5.0, "higher", False),
        (2.0, 2.19, "lower", False),
        (2.0, 2.21, "lower", True),
        (2.0, 0.5, "lower", False),
    ],
)
def test_more_than_a_tenth_lost_is_said(before: float, now: float, better: str, fell: bool) -> None:
    lines = speed.fallen([row(now, better)], {"a row": before})
    assert bool(lines) == fell
    assert all("a row" in line for line in lines)
    assert speed.fallen([row(now, better, "a new row")], {"a row": before}) == []


def test_every_case_trains_whole_epochs_and_its_rows_name_its_contestants() -> None:
    rows = [wanted.name for case in speed.cases().values() for wanted in case.rows]
    assert len(rows) == len(set(rows))
    for case in speed.cases().values():
        names = {one.name for one in case.contestants}
        assert len(names) == len(case.contestants)
        for wanted in case.rows:
            assert {wanted.ours, *wanted.against} <= names
        assert case.job.rows % case.job.batch == 0
        assert case.steps % case.job.epoch == 0


def test_rounds_go_round_the_contestants_and_rows_need_all_of_theirs(tmp_path: Path) -> None:
    contestants = (
        speed.OURS,
        Contestant("many", "ours", {"members": 3}),
        Contestant("peer", "plain"),
        Contestant("absent", "plain"),
    )
    rows = (
        Wanted("one", "LatentOps", 3.0, ("peer",)),
        Wanted("three", "many", 12.0, ("peer",)),
        Wanted("none", "LatentOps", 1.0, ("absent",)),
    )
    case = speed.Case("case", SMALL, 4, contestants, rows)
    rates = {"LatentOps": 8.0, "many": 8.0, "peer": 2.0, "absent": 1.0, "GEMM float32": 1.0}
    done: list[int] = []

    def start(contestant: Contestant, job: Job) -> workers.Worker:
        assert job == SMALL
        name = contestant.name
        return fake(tmp_path, rates[name], refuses=name == "absent", name=name)

    made, excuses = speed.measure(case, 2, start, done.append)
    assert [(one.name, one.ratio, one.met) for one in made] == [("one", 4.0, True), ("three", 12.0, True)]
    assert set(made[1].samples_per_second) == {"LatentOps", "peer"}
    assert len(excuses) == 1
    assert "absent: no such thing" in excuses[0]
    assert done == list(range(1, 7))


def test_a_worker_that_ends_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    worker = fake(tmp_path, 2.0)
    assert worker.ask({"train": 4, "seed": 1})["seconds"] == 2.0
    with pytest.raises(LatentOpsError, match=r"fake: ended with status 3; see .*fake\.log"):
        worker.ask({"train": 13, "seed": 1})
    with pytest.raises(LatentOpsError, match="status 3"):
        worker.ask({"train": 4, "seed": 1})
    worker.close()


def test_a_contestant_answers_over_its_pipes(tmp_path: Path) -> None:
    worker = workers.Worker(
        "plain", [sys.executable, "-m", "benchmarks.contestants.plain"], 1, tmp_path / "plain.log"
    )
    with pytest.raises(LatentOpsError, match="nothing is prepared"):
        worker.ask({"train": 2, "seed": 1})
    with pytest.raises(LatentOpsError, match="unexpected keyword"):
        worker.ask({"prepare": {"wings": 2}})
    assert worker.ask({"prepare": json.loads(json.dumps(speed.asdict(SMALL)))}) == {"ready": True}
    told = worker.ask({"train": 2, "seed": 1})
    assert told["seconds"] > 0
    assert told["peak_bytes"] > 10**7
    assert told["loss"] == worker.ask({"train": 2, "seed": 1})["loss"]
    worker.close()


@pytest.mark.parametrize("job", [SMALL, IMAGES, RAGGED], ids=["mlp", "convolutional", "gru"])
def test_the_same_job_is_the_same_data_and_its_floor_is_the_noise(job: Job) -> None:
    (rows, held_out), (again, _) = data.draw(job), data.draw(job)
    assert rows.values.tobytes() == again.values.tobytes()
    assert rows.values.shape == (job.rows, *job.shape)
    assert rows.values.tobytes() != data.draw(replace(job, seed=1))[0].values.tobytes()
    assert held_out.mean_squared_error(held_out.values) == 0
    clean, _ = data.draw(replace(job, noise=0.0))
    assert rows.mean_squared_error(clean.values) == pytest.approx(job.noise**2, rel=0.2)


def test_padding_is_no_part_of_the_loss() -> None:
    rows, _ = data.draw(RAGGED)
    assert rows.lengths is not None
    padding = np.arange(RAGGED.shape[0]) >= rows.lengths[:, None]
    assert not rows.values[padding].any()
    wrong = np.where(padding[..., None], np.float32(5), rows.values)
    assert rows.mean_squared_error(wrong) == 0


@pytest.mark.parametrize("variant", ["undercomplete", "variational"])
@pytest.mark.parametrize("job", [SMALL, IMAGES], ids=["mlp", "convolutional"])
def test_peers_train_the_network_that_we_train(job: Job, variant: str) -> None:
    job = replace(job, variant=variant)
    theirs = network.Autoencoder(job)
    recipe = ours.recipe_of(job)
    model = recipe.build([ours.Member(0, ours.VIEW_ALL)])
    assert sum(p.numel() for p in theirs.parameters()) == sum(
        p.numel() for part in (model.encoder, model.decoder) for p in part.parameters()
    )
    rows, _ = data.draw(job)
    assert theirs.reconstruct(torch.from_numpy(rows.values)).shape == rows.values.shape
    weights = zip(
        [p for p in theirs.parameters() if p.ndim > 1],
        [p for part in (model.encoder, model.decoder) for p in part.parameters() if p[0].squeeze().ndim > 1],
        strict=True,
    )
    for their, our in weights:
        assert their.numel() == our.numel()
        assert their.abs().max().item() == pytest.approx(our.abs().max().item(), rel=0.3)


def test_packed_padded_and_ours_have_the_same_numbers_to_learn() -> None:
    torch.manual_seed(0)
    one, two = packed.Autoencoder(RAGGED), packed.Autoencoder(replace(RAGGED, variant="padded"))
    two.load_state_dict(one.state_dict())
    rows, _ = data.draw(RAGGED)
    assert rows.lengths is not None
    values, lengths = torch.from_numpy(rows.values), torch.from_numpy(rows.lengths)
    assert one.loss(values, lengths).item() == pytest.approx(two.loss(values, lengths).item(), rel=1e-5)
    model = ours.recipe_of(RAGGED).build([ours.Member(0, ours.VIEW_ALL)])
    assert sum(p.numel() for p in one.parameters()) == sum(
        p.numel() for part in (model.encoder, model.decoder) for p in part.parameters()
    )


@pytest.mark.parametrize("job", [SMALL, IMAGES, RAGGED], ids=["mlp", "convolutional", "gru"])
def test_we_train_a_stack_and_its_loss_falls(job: Job) -> None:
    train = ours.prepare(replace(job, members=2, learning_rate=0.01))
    few, many = train(2, 1)[1], train(60, 1)[1]
    assert many < few
    assert many == train(60, 1)[1]


def test_operations_follow_from_the_sizes() -> None:
    assert speed.flops(SMALL) == 6 * 2 * (12 * 8 + 8 * 3)
    assert speed.flops(replace(SMALL, variant="variational")) == 6 * (2 * 12 * 8 + 8 * 6 + 3 * 8)
    assert speed.flops(replace(SMALL, variant="contractive")) is None
    halved = [(4, 3), (2, 2)]
    layers = 9 * (1 * 4 * math_product(halved[0]) + 4 * 6 * math_product(halved[1]))
    assert speed.flops(IMAGES) == 6 * 2 * (layers + 6 * 4 * 3)
    longer = replace(RAGGED, lengths=(2, 16))
    lstm = replace(RAGGED, kind="lstm")
    assert speed.flops(longer) > speed.flops(RAGGED)
    assert speed.flops(lstm) > speed.flops(RAGGED)


def math_product(pair: tuple[int, int]) -> int:
    return pair[0] * pair[1]


def test_peers_are_installed_once_as_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins, peers = tmp_path / "peers.txt", tmp_path / "peers"
    pins.write_text("torch==1.0\npythae==0.1.2\n")
    monkeypatch.setattr(workers, "PINS", pins)
    monkeypatch.setattr(workers, "PEERS", peers)
    monkeypatch.setattr(workers, "LOGS", tmp_path)
    commands: list[list[str]] = []
    codes = itertools.chain([0, 0, 0], [1])

    def run(command: list[str], **rest: object) -> object:
        commands.append(command)
        return workers.subprocess.CompletedProcess(command, next(codes))

    monkeypatch.setattr(workers.subprocess, "run", run)
    assert workers.peers_python("https://example.org/torch") == peers / "bin/python"
    assert "torch==1.0" in commands[1]
    assert "https://example.org/torch" in commands[1]
    assert "https://example.org/torch" not in commands[2]
    workers.peers_python()
    assert len(commands) == 3
    pins.write_text("torch==2.0\n")
    with pytest.raises(LatentOpsError, match=r"peers can't be installed.*peers\.log"):
        workers.peers_python()


def test_memory_is_what_this_process_has_held() -> None:
    before = peak_bytes()
    held = np.ones(30_000_000, dtype=np.float64)
    assert peak_bytes() >= before
    assert peak_bytes() > held.nbytes


def test_the_pinned_peers_are_those_of_the_page() -> None:
    assert {"pythae", "pyod", "lightning", "torch", "numpy"} <= workers.pinned().keys()


def committed(monkeypatch: pytest.MonkeyPatch, git: Callable[..., str]) -> dict[str, float]:
    monkeypatch.setattr(speed, "git", git)
    return speed.committed_ratios()


def test_without_committed_figures_nothing_has_fallen(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: str) -> str:
        raise LatentOpsError("not there")

    assert committed(monkeypatch, none) == {}
    known = {"rows": [{"name": "a", "ratio": 2.0}]}
    assert committed(monkeypatch, lambda *arguments: json.dumps(known)) == {"a": 2.0}


def test_what_fell_is_written_and_then_said_and_a_part_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "speed.json"
    monkeypatch.setattr(speed, "RESULT", result)
    monkeypatch.setattr(speed, "committed_ratios", lambda: {"a row": 4.0})
    monkeypatch.setattr(speed, "measure", lambda *arguments: ([row(2.0)], []))
    monkeypatch.setattr(speed, "cases", lambda: {"small": speed.small()})
    monkeypatch.setattr(speed, "git", lambda *arguments: "abc123")
    monkeypatch.setattr(workers, "peers_python", lambda index: Path("python"))
    for only in ("small", ""):
        assert not result.exists()
        with pytest.raises(LatentOpsError, match="behind the committed figures: 1"):
            speed.main(rounds=1, only=only, torch_index="")
        assert "a row: fell from 4 to 2" in capsys.readouterr().out
    written = json.loads(result.read_text())
    assert written["rows"][0]["ratio"] == 2.0
    assert written["machine"].keys() >= {"cpu", "torch", "pythae", "pyod", "lightning"}
    with pytest.raises(LatentOpsError, match=r"unknown case 'smal'.*small"):
        speed.main(rounds=1, only="smal", torch_index="")
