"""A code larger than its input copies, unless something keeps it from that."""

import numpy as np
import pytest
import torch

from latentops.architectures.stack import Batch
from latentops.data.prepared import Samples
from latentops.errors import ConfigError
from latentops.evaluation.structure import copy_score
from latentops.training import recorded
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Autoencoder, Noise
from latentops.variants.likelihood import GaussianLikelihood
from latentops.variants.overcomplete import Variant
from latentops.variants.parts.copying import copying, explained, permuted
from tests.toy import EVERY, batch_of, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
REMEDIES: dict[str, dict[str, object]] = {
    "weight_decay": {"weight_decay": 1.0},
    "sparsity": {"sparsity": 2.0},
    "noise": {"noise": 1.0},
    "dropout": {"dropout": 0.5},
}


def noise(members: int) -> Noise:
    return Noise([torch.Generator().manual_seed(i) for i in range(members)])


def built(kind: str = "tabular", **section: object) -> Variant:
    model = recipe("overcomplete", kind, **section).build(MEMBERS)
    assert isinstance(model, Variant)
    return model


def correlated(rows: int) -> Samples:
    """A table that lies near a plane: there is something to know about it."""
    samples, random = draw("tabular", rows), np.random.default_rng(1)
    mixing = random.normal(size=(2, 7)) / np.sqrt(2)
    samples.values[:] = random.normal(size=(rows, 2)) @ mixing + 0.1 * random.normal(size=(rows, 7))
    return samples


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, list[float]]]:
    """What each regulariser leaves of copying, and of the data."""
    samples, found = correlated(256), {}
    for name, strength in ({"none": {}} | REMEDIES).items():
        made = recipe("overcomplete", "tabular", regulariser=name, **strength)
        model, _ = train(made, MEMBERS[:2], samples, steps=600, patience=99, batch_size=64, check_every=50)
        found[name] = Trained(model, MEMBERS[:2], made).diagnose(samples)
    return found


def test_nothing_keeps_it_from_copying_what_is_no_data(scores: dict[str, dict[str, list[float]]]) -> None:
    assert min(scores["none"]["copy_score"]) > 0.5
    assert min(scores["none"]["explained"]) > 0.95


@pytest.mark.parametrize("regulariser", REMEDIES)
def test_each_regulariser_lowers_the_copy_score_and_still_knows_the_data(
    regulariser: str, scores: dict[str, dict[str, list[float]]]
) -> None:
    for none, some in zip(scores["none"]["copy_score"], scores[regulariser]["copy_score"], strict=True):
        assert some < 0.8 * none
    assert min(scores[regulariser]["explained"]) > max(scores[regulariser]["copy_score"]) + 0.2


@pytest.mark.parametrize("kind", EVERY)
def test_permuted_columns_keep_their_values_and_lose_one_another(kind: str) -> None:
    batch = batch_of(draw(kind, 400), 2)
    mixed = permuted(batch, torch.Generator().manual_seed(0))
    before, after = batch.values.flatten(2), mixed.values.flatten(2)
    assert torch.equal(before.sort(1).values, after.sort(1).values)
    assert torch.equal(after[0], after[1])
    assert bool((mixed.values * (1 - batch.mask) == 0).all())
    assert (before == after).float().mean() < 0.6  # zeros in padding stay
    twins = torch.stack([before[0, :, 0]] * 2, dim=-1)[None]
    apart = permuted(Batch(twins), torch.Generator().manual_seed(0)).values[0]
    assert abs(float(torch.corrcoef(apart.T)[0, 1])) < 0.15


class Fixed:
    """Reconstructs whatever it is given to."""

    likelihood = GaussianLikelihood(1, 1.0)

    def __init__(self, of: str) -> None:
        self.of = of

    def reconstruct(self, batch: Batch) -> torch.Tensor:
        if self.of == "copy":
            return batch.values
        mean = batch.values.mean(1, keepdim=True).expand_as(batch.values)
        return mean if self.of == "mean" else mean + 5.0


@pytest.mark.parametrize(
    ("of", "copied", "known"), [("copy", 1.0, 1.0), ("mean", 0.0, 0.0), ("off", 0.0, None)]
)
def test_the_copy_score_of_a_copy_is_one_and_of_the_mean_zero(
    of: str, copied: float, known: float | None
) -> None:
    model: Autoencoder = Fixed(of)  # type: ignore[assignment]
    found = copying(model, batch_of(draw("image", 64), 2))
    torch.testing.assert_close(found["copy_score"], torch.full((2,), copied), atol=1e-5, rtol=0)
    if known is None:
        assert bool((found["explained"] < 0).all())
    else:
        torch.testing.assert_close(found["explained"], torch.full((2,), known), atol=1e-5, rtol=0)


def test_of_what_does_not_vary_nothing_is_explained() -> None:
    batch = Batch(torch.full((2, 30, 7), 0.3))
    assert explained(GaussianLikelihood(1, 1.0), batch, batch.values + 0.1).isnan().all()


def test_what_is_explained_leaves_padding_out() -> None:
    batch = batch_of(draw("sequence", 64), 2)
    noisy = batch.values + 3.0 * (1 - batch.mask)
    torch.testing.assert_close(explained(GaussianLikelihood(1, 1.0), batch, noisy), torch.ones(2))


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("variant", ["undercomplete", "overcomplete", "sparse"])
def test_any_variant_has_a_copy_score(variant: str, kind: str) -> None:
    made = recipe(variant, kind)
    found = copy_score(Trained(made.build(MEMBERS), MEMBERS, made), draw(kind, 40))
    assert all(0 <= each <= 1 for each in found["copy_score"])
    assert all(each <= 1 for each in found["explained"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(({"regulariser": "none"}, {"regulariser": name} | strength) for name, strength in REMEDIES.items()),
        ({"regulariser": "sparsity", "sparsity": 0.1}, {"regulariser": "sparsity", "sparsity": 1.0}),
        ({"regulariser": "noise", "noise": 0.1}, {"regulariser": "noise", "noise": 1.0}),
        ({"regulariser": "dropout", "dropout": 0.1}, {"regulariser": "dropout", "dropout": 0.6}),
    ],
)
def test_a_knob_changes_the_gradients(one: dict[str, object], other: dict[str, object]) -> None:
    def gradients(section: dict[str, object]) -> torch.Tensor:
        model = built(**section)
        weights = model.coefficients()
        terms = model.loss_terms(batch_of(draw("tabular", 32), 3), noise(3))
        assert set(terms) == set(weights)
        sum(weights[name] * term.sum() for name, term in terms.items()).backward()  # type: ignore[union-attr]
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    assert not torch.allclose(gradients(one), gradients(other))


def test_strengths_that_are_not_chosen_change_nothing() -> None:
    terms = built(regulariser="none", weight_decay=5.0, noise=5.0).loss_terms(
        batch_of(draw("tabular", 8), 3), noise(3)
    )
    plain = built(regulariser="none").loss_terms(batch_of(draw("tabular", 8), 3), noise(3))
    assert set(terms) == {"reconstruction"}
    assert torch.equal(terms["reconstruction"], plain["reconstruction"])


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    dropped = built(dropout=0.25).drop(torch.ones(3, 200, 100), noise(3))
    torch.testing.assert_close((dropped == 0).float().mean((1, 2)), torch.full((3,), 0.25), atol=0.01, rtol=0)
    torch.testing.assert_close(dropped.mean((1, 2)), torch.ones(3), atol=0.02, rtol=0)


def test_corruption_is_as_wide_as_asked_for_and_spares_padding() -> None:
    batch = batch_of(draw("sequence", 800), 3)
    added = built("sequence", noise=0.7).corrupt(batch, noise(3)).values - batch.values * batch.mask
    assert bool((added * (1 - batch.mask) == 0).all())
    valid = added[batch.mask.expand_as(added) > 0]
    assert float(valid.std()) == pytest.approx(0.7, rel=0.05)


def test_a_section_of_before_still_loads() -> None:
    made = variant_settings(
        "overcomplete", {"architecture": "auto", "expansion": 1.25, "weight_decay": 0.001}
    )
    assert made.model_dump()["regulariser"] == "weight_decay"


def test_an_unknown_regulariser_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"regulariser.*'sparsity', 'noise', 'dropout' or 'none'"):
        variant_settings("overcomplete", {"expansion": 2, "regulariser": "l2"})


@pytest.mark.parametrize("regulariser", ["sparsity", "noise", "dropout"])
def test_replayed_or_alone_a_member_has_the_same_bytes(
    regulariser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = draw("sequence", 24), recipe("overcomplete", "sequence", regulariser=regulariser)
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    monkeypatch.setattr(recorded, "LONGEST", 0)
    written, _ = train(made, MEMBERS, samples, steps=20)
    for name, value in together.state_dict().items():
        assert torch.equal(value[1], alone.state_dict()[name][0]), name
        assert torch.equal(value, written.state_dict()[name]), name
