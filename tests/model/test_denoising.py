"""The denoising autoencoder's corruptions are what they are called, and each of its knobs does something."""

import numpy as np
import pytest
import torch

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.data.tokenizer import UNKNOWN
from latentops.errors import ConfigError
from latentops.training.loop import Look
from latentops.training.members import Member
from latentops.training.trained import Trained
from latentops.variants import variant_settings
from latentops.variants.autoencoder import Noise
from latentops.variants.denoising import Variant
from latentops.variants.parts.corruption import (
    CORRUPTION_NAMES,
    CORRUPTIONS,
    EXTREME,
    OF_TOKENS,
    OF_VALUES,
    CorruptionName,
    Level,
    mixed,
)
from tests.toy import EVERY, RAGGED, agree, batch_of, draw, recipe, train

MEMBERS = [Member(0, "all"), Member(1, "all"), Member(0, "a")]
NAMES = [*OF_VALUES, "mixed"]
FITTING = [(name, kind) for kind in EVERY for name in ([*OF_TOKENS, "mixed"] if kind == "tokens" else NAMES)]
UNBOUNDED = Shape((40, 50), False, spread=2.0)
TEN_TOKENS = Shape((500, 1), True, vocabulary=10)
UNIT = Shape((40, 50), False, spread=2.0, bounds=(0.0, 1.0))


def noise(members: int = 1, seed: int = 0) -> Noise:
    return Noise([torch.Generator().manual_seed(seed + i) for i in range(members)])


def noise_of_a_diagnosis(members: int) -> Noise:
    return Noise([torch.Generator().manual_seed(0) for _ in range(members)])


def sentences(rows: int = 60) -> Batch:
    return Batch(torch.full((1, rows, 500, 1), 5.0), torch.full((1, rows), 500))


def halves(rows: int = 30) -> Batch:
    return Batch(torch.full((1, rows, 40, 50), 0.5))


def test_gaussian_noise_has_the_level_of_the_datas_deviation() -> None:
    batch = halves()
    added = CORRUPTIONS["gaussian"](batch, 0.25, noise(), UNBOUNDED).values - batch.values
    assert float(added.std()) == pytest.approx(0.25 * 2.0, rel=0.02)
    assert float(added.mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_masking_sets_a_share_to_zero_and_leaves_the_rest(share: float) -> None:
    values = CORRUPTIONS["masking"](halves(), share, noise(), UNBOUNDED).values
    assert set(values.unique().tolist()) <= {0.0, 0.5}
    assert float((values == 0).double().mean()) == pytest.approx(share, abs=0.005)


def test_a_pixel_is_masked_with_all_its_channels() -> None:
    shape = Shape((3, 6, 5), ragged=False, spread=1.0)
    one, three = (torch.ones(2, 40, channels, 6, 5) for channels in (1, 3))

    def masked(values: torch.Tensor) -> torch.Tensor:
        found = CORRUPTIONS["masking"](Batch(values), 0.4, noise(2), shape).values
        assert (found == found[:, :, :1]).all()
        return found

    assert float(masked(three).mean()) == pytest.approx(0.6, abs=0.03)
    assert float(masked(one).mean()) == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize(("shape", "low", "high"), [(UNIT, 0, 1), (UNBOUNDED, -2 * EXTREME, 2 * EXTREME)])
def test_salt_and_pepper_are_the_extremes_at_equal_odds(
    share: float, shape: Shape, low: float, high: float
) -> None:
    values = CORRUPTIONS["salt_and_pepper"](halves(), share, noise(), shape).values
    assert set(values.unique().tolist()) <= {low, 0.5, high}
    for extreme in (low, high):
        assert float((values == extreme).double().mean()) == pytest.approx(share / 2, abs=0.005)


def test_a_mixed_sample_has_one_corruption_each_a_third_of_the_time() -> None:
    levels: dict[CorruptionName, Level] = {"gaussian": 0.1, "masking": 0.4, "salt_and_pepper": 0.4}
    values = mixed(halves(600), levels, noise(), UNIT).values.flatten(2)[0]
    found = torch.stack([(values == each).any(1) for each in (0.0, 1.0)])
    masked, peppered, noisy = found[0] & ~found[1], found[0] & found[1], ~found[0] & ~found[1]
    assert bool((masked | peppered | noisy).all())
    for kind in (masked, peppered, noisy):
        assert float(kind.double().mean()) == pytest.approx(1 / 3, abs=0.06)
    assert float((values[peppered] == 1).double().mean()) == pytest.approx(0.2, abs=0.01)
    assert float((values[noisy] - 0.5).std()) == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize(("corruption", "kind"), [each for each in FITTING if each[1] in RAGGED])
def test_padding_stays_zero(corruption: str, kind: str) -> None:
    model = recipe("denoising", kind, corruption=corruption, share=0.5).build(MEMBERS)
    assert isinstance(model, Variant)
    batch = batch_of(draw(kind, 20), 3)
    corrupted = model.corrupt(batch, noise(3))
    assert corrupted.lengths is batch.lengths
    assert bool((corrupted.values * (1 - batch.mask) == 0).all())
    assert not torch.equal(corrupted.values, batch.values)


@pytest.mark.parametrize(("corruption", "kind"), FITTING)
def test_a_member_in_a_stack_equals_the_same_member_alone(corruption: str, kind: str) -> None:
    samples, made = draw(kind, 24), recipe("denoising", kind, corruption=corruption, start=0.2)
    together, _ = train(made, MEMBERS, samples, steps=20)
    alone, _ = train(made, MEMBERS[1:2], samples, steps=20)
    for name, value in alone.state_dict().items():
        assert agree(value[0], together.state_dict()[name][1]), name


def gradients(kind: str = "tabular", **section: object) -> torch.Tensor:
    model = recipe("denoising", kind, **section).build(MEMBERS)
    model.loss_terms(batch_of(draw(kind, 32), 3), noise(3))["reconstruction"].sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(({"corruption": "gaussian"}, {"corruption": name}) for name in NAMES[1:]),
        *(({"corruption": name, "share": 0.1}, {"corruption": name, "share": 0.5}) for name in NAMES[1:]),
        ({"corruption": "mixed", "level": 0.1}, {"corruption": "mixed", "level": 1.0}),
    ],
)
def test_a_knob_changes_the_gradients(one: dict[str, object], other: dict[str, object]) -> None:
    assert not torch.allclose(gradients(**one), gradients(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"corruption": "replace"}, {"corruption": "drop"}),
        ({"corruption": "replace"}, {"corruption": "mixed"}),
        *(({"corruption": n, "share": 0.1}, {"corruption": n, "share": 0.5}) for n in (*OF_TOKENS, "mixed")),
    ],
)
def test_so_does_one_of_tokens(one: dict[str, object], other: dict[str, object]) -> None:
    assert not torch.allclose(gradients("tokens", **one), gradients("tokens", **other))


def test_what_is_not_named_is_gaussian_and_of_tokens_replace() -> None:
    torch.testing.assert_close(gradients(), gradients(corruption="gaussian"))
    torch.testing.assert_close(gradients("tokens"), gradients("tokens", corruption="replace"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_the_tokens_is_replaced_by_any_at_equal_odds(share: float) -> None:
    before = sentences()
    values = CORRUPTIONS["replace"](before, share, noise(), TEN_TOKENS).values
    assert set(values.unique().tolist()) <= set(range(2, 10))
    for token in range(2, 10):
        kept = (1 - share) if token == 5 else 0.0
        assert float((values == token).double().mean()) == pytest.approx(kept + share / 8, abs=0.006)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_the_tokens_becomes_unknown(share: float) -> None:
    values = CORRUPTIONS["drop"](sentences(), share, noise(), TEN_TOKENS).values
    assert set(values.unique().tolist()) <= {float(UNKNOWN), 5.0}
    assert float((values == UNKNOWN).double().mean()) == pytest.approx(share, abs=0.006)


def test_mixed_tokens_have_one_corruption_a_sample_half_of_the_time() -> None:
    values = mixed(sentences(600), {"replace": 0.4, "drop": 0.4}, noise(), TEN_TOKENS).values.flatten(2)[0]
    dropped = (values == UNKNOWN).any(1)
    replaced = ((values != UNKNOWN) & (values != 5)).any(1)
    assert bool((dropped ^ replaced).all())
    assert float(dropped.double().mean()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("corruption", "kind", "says"),
    [
        ("gaussian", "tokens", "corruption: gaussian is for real values, .* tokens; use replace or drop"),
        ("masking", "tokens", "corruption: masking is for real values"),
        ("drop", "sequence", "drop is for tokens, .* real values; use gaussian or masking or salt"),
        ("replace", "tabular", "corruption: replace is for tokens"),
    ],
)
def test_a_corruption_of_other_data_is_refused(corruption: str, kind: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        recipe("denoising", kind, corruption=corruption).build(MEMBERS)


def test_kept_noise_of_tokens_is_the_share_of_wrong_ones_after_over_before() -> None:
    model = recipe("denoising", "tokens", corruption="drop", share=0.5).build(MEMBERS)
    assert isinstance(model, Variant)
    batch = batch_of(draw("tokens", 50), 3)
    corrupted = model.corrupt(batch, noise_of_a_diagnosis(3))
    wrong = [
        ((made != batch.values) * batch.mask).flatten(2).sum(-1) / batch.mask.flatten(2).sum(-1)
        for made in (model.reconstruct(corrupted), corrupted.values)
    ]
    found = model.diagnose(batch)["noise_kept"]
    torch.testing.assert_close(found, wrong[0].mean(-1) / wrong[1].mean(-1))


@pytest.mark.parametrize(("start", "first"), [(0.0, 0.1), (3.0, 2.8)])
def test_the_strength_goes_from_its_start_to_one_along_the_ramp(start: float, first: float) -> None:
    model = recipe("denoising", "tabular", start=start, ramp=0.5).build(MEMBERS)
    at = [model.schedules(progress)["strength"] for progress in (0.05, 0.25, 0.5, 1.0)]
    assert at == pytest.approx([first, (start + 1) / 2, 1, 1])
    assert recipe("denoising", "tabular", start=1.0).build(MEMBERS).schedules() == {}


def test_a_ramp_changes_what_is_learned_and_stop_rows_are_corrupted_as_at_the_end() -> None:
    samples = draw("tabular", 48)

    def seen(start: float, rate: float) -> list[float]:
        looks: list[Look] = []
        made = recipe("denoising", "tabular", start=start)
        train(made, MEMBERS, samples, rate=rate, on_look=looks.append)
        return [value for look in looks for value in look.stop.tolist()]

    assert seen(0.0, rate=1e-12) == pytest.approx(seen(1.0, rate=1e-12), rel=1e-4)
    assert seen(0.0, rate=0.01) != pytest.approx(seen(1.0, rate=0.01), rel=1e-4)


def test_a_start_that_would_replace_more_than_everything_is_refused() -> None:
    section = {"level": 0.8, "corruption": "masking", "share": 0.6, "start": 2.0}
    with pytest.raises(ConfigError, match=r"start × share is 1\.2.*lower start to 1\.66667 or less"):
        variant_settings("denoising", section)
    variant_settings("denoising", section | {"corruption": "gaussian"})


def correlated(rows: int) -> np.ndarray:
    random = np.random.default_rng(0)
    factors = random.normal(size=(rows, 2)) @ random.normal(size=(2, 7))
    values = factors + 0.1 * random.normal(size=(rows, 7))
    return np.asarray((values - values.mean(0)) / values.std(0), dtype=np.float32)


def test_missing_values_are_imputed_better_than_by_the_mean_if_trained_for() -> None:
    samples = draw("tabular", 256)
    samples.values[:] = correlated(256)

    def imputation_error(**section: object) -> float:
        made = recipe("denoising", "tabular", **section)
        model, _ = train(made, MEMBERS[:1], samples, steps=600, batch_size=64, patience=100)
        return Trained(model, MEMBERS[:1], made).diagnose(samples)["imputation_error"][0]

    missing, clean = imputation_error(corruption="masking"), imputation_error(level=0.0)
    assert missing < 0.3
    assert missing < clean


def test_the_mean_for_every_missing_value_has_an_imputation_error_of_one() -> None:
    model = recipe("denoising", "tabular").build(MEMBERS)
    assert isinstance(model, Variant)
    for parameter in model.decoder.parameters():
        parameter.data.zero_()
    rows = draw("tabular", 20)
    rows.values[:] -= rows.values.mean(axis=0)
    found = model.diagnose(batch_of(rows, 3))["imputation_error"]
    torch.testing.assert_close(found, torch.ones(3))
    assert set(recipe("denoising", "image").build(MEMBERS).diagnose(batch_of(draw("image", 4), 3))) == {
        "noise_kept"
    }


def test_the_means_of_a_table_in_a_range_are_no_better_there_either() -> None:
    model = recipe("denoising", "tabular").build(MEMBERS)
    assert isinstance(model, Variant)
    rows = draw("tabular", 400)
    rows.values[:] = rows.values * 0.1 + np.linspace(0.3, 0.9, 7)
    batch = batch_of(rows, 3)
    for parameter in model.decoder.parameters():
        parameter.data.zero_()
    list(model.decoder.parameters())[-1].data[:] = batch.values.mean(1, keepdim=True)
    torch.testing.assert_close(model.diagnose(batch)["imputation_error"], torch.ones(3))


def test_without_noise_none_is_kept() -> None:
    batch = batch_of(draw("image", 8), 3)
    assert recipe("denoising", "image", level=0.0).build(MEMBERS).diagnose(batch)["noise_kept"].isnan().all()


def test_every_corruption_has_a_name_that_params_can_choose() -> None:
    for name in (*CORRUPTION_NAMES, "mixed", "auto"):
        variant_settings("denoising", {"level": 0.5, "corruption": name})
    assert tuple(CORRUPTIONS) == CORRUPTION_NAMES


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"level": 0.8}, "gaussian 0.8"),
        ({"level": 0.8, "corruption": "masking", "share": 0.3}, "masking 0.3"),
        ({"level": 0.8, "corruption": "mixed", "share": 0.25}, "mixed 0.8, 0.25"),
    ],
)
def test_a_model_names_what_it_was_trained_with(section: dict[str, object], named: str) -> None:
    assert recipe("denoising", "image", **section).build(MEMBERS).corruption == named
    assert recipe("undercomplete", "image").build(MEMBERS).corruption is None
    assert (
        recipe("overcomplete", "image", regulariser="noise", noise=1.0).build(MEMBERS).corruption
        == "gaussian 1"
    )


@pytest.mark.parametrize(("kind", "corruption"), [(kind, name) for name, kind in FITTING])
def test_varied_corruption_is_of_every_strength_up_to_the_settings(kind: str, corruption: str) -> None:
    """Each sample is changed more or less than the others, and none more than the most that it may be."""

    def changed(varied: bool, rows: int = 200) -> torch.Tensor:
        knobs = {"corruption": corruption, "share": 0.8, "level": 1.0, "varied": varied}
        model = recipe("denoising", kind, **knobs).build(MEMBERS[:1])
        batch = batch_of(draw(kind, rows))
        found = model.corrupt(batch, noise()).values - batch.values
        return found.abs().flatten(2).mean(-1)[0]

    fixed, varied = changed(False), changed(True)
    assert 0.3 < float(varied.mean() / fixed.mean()) < 0.7
    assert float(varied.std() / varied.mean()) > float(fixed.std() / fixed.mean())
    assert float(varied.min()) < 0.5 * float(fixed.mean())


def test_varied_corruption_is_called_so() -> None:
    assert (
        recipe("denoising", "image", corruption="masking", share=0.9).build(MEMBERS).corruption
        == "masking 0.9"
    )
    varied = recipe("denoising", "image", corruption="masking", share=0.9, varied=True).build(MEMBERS)
    assert varied.corruption == "masking up to 0.9"
