"""Training on a GPU, where there is one: captured steps, members, and the numbers of the CPU."""

import pytest
import torch

from latentops.architectures.convolutions import Convolution, TransposedConvolution
from latentops.architectures.stack import generator
from latentops.config import ArchitectureName
from latentops.training import recorded
from tests.model.test_common_suite import MEMBERS, every_combination
from tests.toy import draw, recipe, train

SCATTERED = ("contractive", "mlp", "sequence")
"""Carried back through an interpolation, gradients are added up in whatever order a GPU comes to them."""

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@every_combination
def test_a_captured_step_gives_the_bytes_of_one_that_is_written_out(
    variant: str, architecture: ArchitectureName, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = draw(kind, 64), recipe(variant, kind, architecture)
    captured, outcome = train(made, MEMBERS, samples, steps=20, device="cuda")
    assert outcome.failures == [None] * len(MEMBERS)
    again, _ = train(made, MEMBERS, samples, steps=20, device="cuda")
    monkeypatch.setattr(recorded, "LONGEST", 0)
    monkeypatch.setattr(recorded, "WARM_UP", 20)
    written, _ = train(made, MEMBERS, samples, steps=20, device="cuda")
    for name, value in captured.state_dict().items():
        for other in (again, written):
            if (variant, architecture, kind) == SCATTERED:
                assert torch.allclose(value, other.state_dict()[name], rtol=1e-3, atol=1e-3), name
            else:
                assert torch.equal(value, other.state_dict()[name]), name


@every_combination
def test_a_member_in_a_stack_is_nearly_the_same_member_alone(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    samples, made = draw(kind, 64), recipe(variant, kind, architecture)
    together, _ = train(made, MEMBERS, samples, steps=5, rate=1e-3, device="cuda")
    alone, _ = train(made, MEMBERS[1:2], samples, steps=5, rate=1e-3, device="cuda")
    for name, value in alone.state_dict().items():
        assert torch.allclose(value[0], together.state_dict()[name][1], rtol=1e-3, atol=1e-3), name


@every_combination
def test_what_draws_nothing_is_trained_to_nearly_the_numbers_of_the_cpu(
    variant: str, architecture: ArchitectureName, kind: str
) -> None:
    if variant in {"denoising", "variational", "adversarial"}:
        pytest.skip("its noise is drawn on the device")
    samples, made = draw(kind, 64), recipe(variant, kind, architecture)
    here, _ = train(made, MEMBERS, samples, steps=5, rate=1e-3)
    there, _ = train(made, MEMBERS, samples, steps=5, rate=1e-3, device="cuda")
    for name, value in here.state_dict().items():
        assert torch.allclose(value, there.state_dict()[name], rtol=1e-3, atol=1e-3), name


@every_combination
def test_coarse_products_train_as_well(variant: str, architecture: ArchitectureName, kind: str) -> None:
    samples, made = draw(kind, 64), recipe(variant, kind, architecture)
    coarse, outcome = train(made, MEMBERS, samples, steps=10, device="cuda", precision="bf16")
    assert outcome.failures == [None] * len(MEMBERS)
    assert all(torch.isfinite(value).all() for value in coarse.state_dict().values())


@pytest.mark.parametrize("size", [(6, 5), (1, 9), (28, 28)])
def test_a_batched_convolution_is_torchs_own(size: tuple[int, int]) -> None:
    generators = [generator(at) for at in range(3)]
    small = (-(-size[0] // 2), -(-size[1] // 2))
    for layer, shape in (
        (Convolution(4, 6, size, generators), (4, *size)),
        (Convolution(4, 6, size, generators, stride=1, dilation=2), (4, *size)),
        (TransposedConvolution(4, 6, size, generators), (4, *small)),
    ):
        rows = torch.randn(3, 8, *shape, generator=generator("rows"), dtype=torch.float64)
        layer.double()
        own = layer(rows)
        assert torch.allclose(layer.cuda()(rows.cuda()).cpu(), own)
