"""The spectrum of an encoder's Jacobian is that of what is differentiated, whatever the variant."""

from typing import Any

import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.evaluation import jacobian as module
from latentops.evaluation.jacobian import encoder_jacobian, spectrum
from latentops.training.members import Member
from latentops.training.trained import Trained
from tests.toy import EVERY, KINDS, VARIANTS, batch_of, draw, recipe

MEMBERS = [Member(0, "all"), Member(1, "all")]


def stack(variant: str, kind: str, architecture: str = "mlp", **section: Any) -> Trained:
    made = recipe(variant, kind, architecture, **section)  # type: ignore[arg-type]
    return Trained(made.build(MEMBERS), MEMBERS, made)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_one_on_all_data(variant: str, kind: str) -> None:
    trained, samples = stack(variant, kind), draw(kind, 12)
    found = spectrum(trained, samples, trained.encode(samples))
    assert found.values.shape == (2, len(found.x))
    assert bool((found.values.diff(dim=1) <= 1e-9).all())
    assert float(found.values[:, 0].min()) > 0
    assert all(parameter.grad is None for parameter in trained.model.parameters())
    assert not trained.model.encoder._forward_pre_hooks


@pytest.mark.parametrize("code", ["linear", "sigmoid"])
def test_it_is_the_contractive_variant_s_own_free_of_scale(code: str) -> None:
    trained, samples = stack("contractive", "image", code=code), draw("image", 20)
    codes = trained.encode(samples)
    own = trained.profiles(samples)["singular_values"].values
    spread = torch.from_numpy(codes.var(axis=1).sum(axis=1)).sqrt().unsqueeze(1)
    torch.testing.assert_close(spectrum(trained, samples, codes).values.float(), own / spread)
    squares = spectrum(trained, samples.select([3]), codes).values.square().sum(1)  # type: ignore[arg-type]
    norm = trained.model.squared_jacobian_norm(batch_of(samples.select([3]), 2))[:, 0]  # type: ignore[operator, arg-type]
    torch.testing.assert_close(squares.float(), norm.detach() / spread[:, 0] ** 2)


@pytest.mark.parametrize("variant", ["sparse", "variational", "adversarial"])
def test_it_is_of_the_code_that_is_judged(variant: str) -> None:
    """Not of what the encoder gives beside it, or before it is rectified."""
    trained, samples = stack(variant, "tabular"), draw("tabular", 5)
    batch = batch_of(samples, 2)
    whole = encoder_jacobian(trained.model, batch)
    step = 1e-3
    for column in range(7):
        moved = batch.values.clone()
        moved[..., column] += step
        with torch.no_grad():
            change = (trained.model.encode(Batch(moved)) - trained.model.encode(batch)) / step
        torch.testing.assert_close(whole[..., column], change, atol=5e-3, rtol=0)


def test_a_linear_code_has_its_weights_singular_values_and_a_scaled_one_the_same() -> None:
    trained, samples = stack("undercomplete", "tabular", latent=3), draw("tabular", 40)
    weights = torch.randn(7, 3)
    found = {}
    for scale in (1.0, 50.0):
        encoder = torch.nn.Linear(7, 3, bias=False)
        encoder.weight.data = scale * weights.T
        trained.model.encoder = Flat(encoder)
        codes = trained.encode(samples)
        found[scale] = spectrum(trained, samples, codes).values
        spread = np.sqrt(codes.var(axis=1).sum(axis=1))
        expected = scale * np.linalg.svd(weights.numpy(), compute_uv=False) / spread[:, None]
        assert found[scale].numpy() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found[1.0], found[50.0], rtol=1e-4, atol=0)


class Flat(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, batch: Batch) -> torch.Tensor:
        return torch.as_tensor(self.layer(batch.values))


def test_a_code_that_jumps_is_not_moved_by_small_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, samples = stack("undercomplete", "tabular"), draw("tabular", 9)
    encode = trained.model.encode
    monkeypatch.setattr(trained.model, "encode", lambda batch: (encode(batch) > 0).float())
    found = spectrum(trained, samples, trained.encode(samples))
    assert found.values.tolist() == [[0, 0], [0, 0]]


def test_a_constant_code_has_no_number() -> None:
    trained, samples = stack("undercomplete", "tabular"), draw("tabular", 9)
    assert bool(spectrum(trained, samples, np.ones((2, 9, 2))).values.isnan().all())


def test_of_a_wide_code_it_is_of_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, samples = stack("overcomplete", "tabular"), draw("tabular", 9)
    codes = trained.encode(samples)
    monkeypatch.setattr(module, "ENTRIES", 1)
    one = spectrum(trained, samples, codes)
    expected = spectrum(trained, samples.select(slice(1)), codes)
    assert torch.equal(one.values, expected.values)


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_sequence_has_ended_nothing_moves_its_code(kind: str) -> None:
    trained, samples = stack("undercomplete", kind), draw(kind, 12)
    batch = batch_of(samples, 2)
    seen = trained.model.embed(batch)
    whole = encoder_jacobian(trained.model, batch)
    beyond = (seen.mask.expand_as(seen.values) == 0).flatten(2).unsqueeze(2).expand_as(whole)
    assert not bool(whole[beyond].any())


def test_how_many_rows_go_through_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, batch = stack("variational", "sequence", "recurrent"), batch_of(draw("sequence", 7), 2)
    whole = encoder_jacobian(trained.model, batch)
    monkeypatch.setattr(module, "TOGETHER", 3)
    torch.testing.assert_close(encoder_jacobian(trained.model, batch), whole)
