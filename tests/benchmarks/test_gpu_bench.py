"""The GPU benchmark's cases, tried on the CPU; the figures need a GPU."""

from dataclasses import replace

import pytest
import torch

from benchmarks import gpu
from benchmarks.contestants import gemm, ours, plain
from benchmarks.speed import SpeedRow
from latentops.errors import LatentOpsError


def share(name: str, found: float | None) -> SpeedRow:
    return SpeedRow(name, 1.0, None, "higher", None, "pythae", (1.0,), {}, {}, {}, found, True)


def test_every_wanted_row_is_about_contestants_of_its_case() -> None:
    for case in gpu.cases().values():
        names = {one.name for one in case.contestants}
        assert all({wanted.ours, *wanted.against} <= names for wanted in case.rows)
        assert case.steps % case.job.epoch == 0
        assert case.job.device == "cuda"


@pytest.mark.parametrize("module", [ours, plain])
@pytest.mark.parametrize("name", list(gpu.cases()))
def test_a_job_trains_on_the_device_it_names(name: str, module: object) -> None:
    job = replace(gpu.cases("cpu")[name].job, rows=256, batch=256, hidden=(4,), latent=2)
    seconds, loss = module.prepare(job)(1, 0)  # type: ignore[attr-defined]
    assert seconds > 0
    assert loss > 0


def test_a_copy_is_a_ceiling_as_a_product_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "COPIED", 2**16)
    job = gpu.cases("cpu")["small"].job
    for variant in ("undercomplete", "copy"):
        seconds, _ = gemm.prepare(replace(job, variant=variant))(2, 0)
        assert seconds > 0


def test_only_convolutional_stacks_have_a_ceiling_to_reach() -> None:
    rows = [share("convolutional a", 0.5), share("convolutional b", 0.3), share("64-32", 0.1)]
    assert [(row.value, row.met) for row in gpu.utilisation(rows)] == [(0.5, True), (0.3, False)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_measure() -> None:
    with pytest.raises(LatentOpsError, match="no GPU"):
        gpu.device()
