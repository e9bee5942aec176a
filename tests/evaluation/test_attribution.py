"""Why a row has its score: against closed forms, invariances, and anomalies that were planted."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from latentops.config import MLP, ArchitectureName, Architectures
from latentops.data.prepared import Samples
from latentops.evaluation import attribution
from latentops.evaluation.anomaly import Scorer, some_rows, weighted
from latentops.evaluation.attribution import Attribution, attribute
from latentops.evaluation.floors import numbers
from latentops.evaluation.statistics import auroc
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe, Trained
from tests.toy import (
    COLUMNS,
    EVERY,
    FIXED,
    OPTIONAL,
    SECTIONS,
    SMALL,
    VARIANTS,
    describe,
    draw,
    recipe,
    train,
)

ALL = [Member(0, VIEW_ALL)]
COMPOSED = [(variant, FIXED.get(variant, ("mlp",))[0], "tabular") for variant in VARIANTS] + [
    ("undercomplete", each, kind) for each in get_args(ArchitectureName) for kind in EVERY
]


def fitted(member: Trained, rows: Samples, neighbours: int = 3) -> Scorer:
    inputs = numbers(rows.select(some_rows(len(rows))), member.description.vocabulary)
    return Scorer.fit(member.residuals(rows)[0], member.encode(rows)[0], inputs, neighbours)


def wild(kind: str, rows: int, seed: int) -> Samples:
    """Rows whose numbers are three times as large as those that a scorer knows."""
    drawn = draw(kind, rows, seed)
    if kind == "mixed":
        drawn.values[:, [0, 4, 7]] *= 3
    elif kind != "tokens":
        drawn.values[:] *= 3
    return drawn


def missing_share(found: Attribution) -> float:
    """What the attributions lack of the scores less those of the references, as a share of these."""
    assert found.attribution is not None
    told = found.attribution.reshape(len(found.score), -1).sum(1)
    exceeding = found.score - found.start
    assert np.abs(exceeding).max() > 0.1 * found.score.max(), "there is something to tell"
    return float(np.abs(told - exceeding).sum() / np.abs(exceeding).sum())


@pytest.mark.parametrize(("variant", "architecture", "kind"), COMPOSED)
def test_all_that_is_scored_is_told(
    variant: str, architecture: ArchitectureName, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score is the scorer's; residuals add up to the error and attributions to the score."""
    monkeypatch.setattr(attribution, "ROWS", 8)
    monkeypatch.setattr(attribution, "NODES", 24)
    made = recipe(variant, kind, architecture)
    member = Trained(made.build(ALL), ALL, made)
    scorer, rows = fitted(member, draw(kind, 60), neighbours=50), wild(kind, 12, seed=1)
    found = attribute(member, scorer, rows)
    residuals = member.residuals(rows)[0]
    scores = scorer.score(residuals, member.encode(rows)[0])
    np.testing.assert_allclose(found.score, scores["auroc"], atol=1e-5)
    error = weighted(residuals, scorer.usual)
    np.testing.assert_allclose(found.residual.reshape(len(rows), -1).sum(1), error, rtol=1e-5)
    assert found.nearest.values.shape == rows.values.shape
    if kind == "tokens":
        assert found.attribution is None
        return
    assert found.attribution is not None
    assert missing_share(found) < 0.1
    if rows.lengths is not None:
        padding = np.arange(rows.values.shape[1]) >= rows.lengths[:, None]
        assert not found.attribution[padding].any()
        assert not found.residual[padding].any()
    if kind == "mixed":
        missing = ~member.description.present(rows.values)[:, 4]
        column = list(np.cumsum((0, *COLUMNS))).index(4)
        assert column in OPTIONAL
        assert missing.any()
        assert not found.attribution[missing, column].any()
        assert found.attribution[~missing, column].any()


def test_every_step_with_a_code_of_its_own_is_told_too() -> None:
    made = recipe("sequence", "sequence", "recurrent", latent=2)
    made = replace(made, settings=made.settings.model_copy(update={"latent": "per_step"}))
    member = Trained(made.build(ALL), ALL, made)
    found = attribute(member, fitted(member, draw("sequence", 60), 50), wild("sequence", 12, seed=1))
    assert missing_share(found) < 0.05


def test_the_more_nodes_the_less_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another neighbour takes over, the gradient jumps."""
    made = recipe("undercomplete", "tabular", "mlp")
    member = Trained(made.build(ALL), ALL, made)
    scorer, rows = fitted(member, draw("tabular", 60)), wild("tabular", 30, seed=1)
    shares = []
    for nodes in (4, 64, 512):
        monkeypatch.setattr(attribution, "NODES", nodes)
        shares.append(missing_share(attribute(member, scorer, rows)))
    assert shares[0] > 4 * shares[1] > 12 * shares[2]
    assert shares[2] < 0.005


def test_no_rows_are_told_nothing() -> None:
    made = recipe("undercomplete", "image", "mlp")
    member = Trained(made.build(ALL), ALL, made)
    found = attribute(member, fitted(member, draw("image", 60)), draw("image", 0))
    assert found.attribution is not None
    assert found.attribution.shape == found.residual.shape == (0, 6, 5)


def linear(basis: np.ndarray, features: int) -> Trained:
    """An autoencoder that projects rows onto the two orthonormal rows of `basis` `[2, features]`."""
    shape = (features,)
    description = replace(describe("tabular"), shape=shape, features=tuple(f"x{k}" for k in range(features)))
    sizes = SMALL.model_copy(update={"mlp": MLP(hidden=())})
    made = Recipe.resolve("undercomplete", {}, "mlp", sizes, 2, description)
    model = made.build(ALL)
    state = model.state_dict()
    for name, weight in (("encoder", basis.T), ("decoder", basis)):
        state[f"{name}.layers.0.weight"][0] = torch.from_numpy(weight)
        state[f"{name}.layers.0.bias"][:] = 0
    return Trained(model, ALL, made)


def of(values: np.ndarray) -> Samples:
    count = len(values)
    return Samples(
        values.astype(np.float32), None, np.zeros(count, np.int64), np.zeros((count, 32), np.uint8)
    )


def plane(seed: int, rows: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A basis `[2, 5]`, codes on that plane `[8, 2]`, and rows `[rows, 5]` off it."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(5, 2)))[0].T
    return basis, random.normal(size=(8, 2)), 2 * random.normal(size=(rows, 5))


def test_of_a_linear_autoencoder_attributions_have_a_closed_form() -> None:
    """To the one training row, at the origin, the distance falls in proportion; so one gradient is all."""
    basis, _, rows = plane(0)
    usual, unit = np.array([1.0, 2.0, 0.5, 1.0, 4.0]), 1.5
    scorer = Scorer(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), np.eye(2), usual, unit, 1)
    found = attribute(linear(basis, 5), scorer, of(rows))
    off = np.eye(5) - basis.T @ basis
    code, missed = rows @ basis.T, rows @ off
    score = np.sqrt((code**2).sum(1) + unit**2 * (missed**2 / usual).mean(1))
    gradient = (code @ basis + unit**2 * (missed / usual) @ off / 5) / score[:, None]
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    np.testing.assert_allclose(found.attribution, rows * gradient, atol=1e-4)
    np.testing.assert_allclose(found.residual, missed**2 / usual / 5, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.nearest.values, 0, atol=1e-6)


def test_columns_in_another_order_have_their_attributions_in_that_order() -> None:
    basis, codes, rows = plane(2)
    usual, order = np.array([1.0, 2.0, 0.5, 1.0, 4.0]), np.array([3, 0, 4, 2, 1])
    sizes = np.linspace(0, 2, len(codes)).astype(np.float32)
    plain, permuted = (
        attribute(linear(b, 5), Scorer(codes.astype(np.float32), sizes, np.eye(2), u, 1.5, 2), of(r))
        for b, u, r in ((basis, usual, rows), (basis[:, order], usual[order], rows[:, order]))
    )
    np.testing.assert_allclose(permuted.attribution, plain.attribution[:, order], atol=1e-3)
    np.testing.assert_allclose(permuted.residual, plain.residual[:, order], rtol=1e-4, atol=1e-6)


def test_what_lies_as_the_nearest_is_decoded_has_no_attribution() -> None:
    basis, codes, _ = plane(3)
    member = linear(basis, 5)
    scorer = fitted(member, of(codes @ basis + 0.1 * np.random.default_rng(0).normal(size=(8, 5))))
    decoded = attribute(member, scorer, of(codes @ basis)).nearest
    found = attribute(member, scorer, decoded)
    np.testing.assert_allclose(found.nearest.values, decoded.values, atol=1e-5)
    np.testing.assert_allclose(found.start, found.score, rtol=1e-4)
    np.testing.assert_allclose(found.attribution, 0, atol=1e-5)


def learned(values: np.ndarray, kind: str, latent: int, lengths: np.ndarray | None = None) -> Trained:
    """A plain autoencoder trained on rows `[n, …]`."""
    features = tuple(f"x{k}" for k in range(values.shape[1])) if kind == "tabular" else ()
    description = replace(describe(kind), shape=values.shape[1:], features=features)
    made = Recipe.resolve("undercomplete", SECTIONS["undercomplete"], "mlp", WIDE, latent, description)
    model, _ = train(
        made, ALL, replace(of(values), lengths=lengths), steps=400, batch_size=64, check_every=100
    )
    return Trained(model, ALL, made)


WIDE = Architectures.model_validate({**SMALL.model_dump(), "mlp": {"hidden": [32]}})


def test_a_column_that_was_moved_has_the_largest_share() -> None:
    random = np.random.default_rng(0)
    mix = random.normal(size=(3, 10))

    def rows(count: int) -> np.ndarray:
        return random.normal(size=(count, 3)) @ mix / 1.7 + 0.3 * random.normal(size=(count, 10))

    known, asked = rows(600), rows(300)
    member = learned(known, "tabular", 3)
    scorer = fitted(member, of(known))
    moved = random.integers(10, size=len(asked))
    planted = asked.copy()
    planted[np.arange(len(asked)), moved] += 5 * random.choice([-1, 1], size=len(asked))
    found = attribute(member, scorer, of(planted))
    assert (found.attribution.argmax(1) == moved).mean() >= 0.95
    assert (found.residual.argmax(1) == moved).mean() >= 0.9
    before = attribute(member, scorer, of(asked))
    sizes = [np.abs(each.attribution).max(1).mean() for each in (before, found)]
    assert sizes[0] < 0.2 * sizes[1]


def test_a_patch_that_was_planted_is_where_the_attributions_are() -> None:
    random = np.random.default_rng(0)
    place = np.arange(10)

    def pictures(count: int) -> np.ndarray:
        """A bright spot each, somewhere near the middle."""
        middle = random.uniform(3, 6, size=(2, count, 1))
        across, down = np.exp(-((place - middle) ** 2) / 6)
        return (across[:, None] * down[:, :, None])[:, None] + 0.02 * random.normal(size=(count, 1, 10, 10))

    known, asked = pictures(600), pictures(60)
    member = learned(known, "image", 3)
    scorer = fitted(member, of(known))
    patch = np.zeros((len(asked), 10, 10), dtype=bool)
    near = np.zeros_like(patch)
    for row, (top, left) in enumerate(random.integers(1, 7, size=(len(asked), 2))):
        patch[row, top : top + 2, left : left + 2] = True
        near[row, top - 1 : top + 3, left - 1 : left + 3] = True
    asked[:, 0] += 0.8 * patch * random.choice([-1, 1], size=(len(asked), 1, 1))
    found = attribute(member, scorer, of(asked))
    for told in (found.attribution, found.residual):
        each = [auroc(np.ravel(a), np.ravel(b)) for a, b in zip(told, patch, strict=True)]
        assert np.mean(each) > 0.9
    inside = np.where(near, found.attribution, 0).sum((1, 2)) / found.attribution.sum((1, 2))
    assert np.mean(inside) > 0.7 > 4 * near.mean()


def test_a_spike_is_told_at_its_step_and_in_its_channel() -> None:
    random = np.random.default_rng(0)
    step = np.arange(8)[:, None]

    def waves(count: int) -> tuple[np.ndarray, np.ndarray]:
        phase = random.uniform(0, 2, size=(count, 1, 1))
        values = np.sin(step * 0.8 + phase + [0.0, 1.5]) + 0.05 * random.normal(size=(count, 8, 2))
        lengths = random.integers(5, 9, size=count)
        values[np.arange(8) >= lengths[:, None]] = 0
        return values, lengths

    (known, known_lengths), (asked, lengths) = waves(600), waves(100)
    member = learned(known, "sequence", 4, known_lengths)
    scorer = fitted(member, replace(of(known), lengths=known_lengths))
    spiked = random.integers(lengths), random.integers(2, size=len(asked))
    asked[np.arange(len(asked)), *spiked] += 3 * random.choice([-1, 1], size=len(asked))
    found = attribute(member, scorer, replace(of(asked), lengths=lengths))
    for told in (found.attribution, found.residual):
        top = told.reshape(len(asked), -1).argmax(1)
        assert (top == spiked[0] * 2 + spiked[1]).mean() >= 0.9


def test_a_category_that_does_not_fit_is_told_as_one_column() -> None:
    """A number, and a category of three that is known from it."""
    random = np.random.default_rng(0)

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        kind = random.integers(3, size=count)
        numbers = kind[:, None] - 1.0 + 0.1 * random.normal(size=(count, 2))
        return np.concatenate([numbers[:, :1], np.eye(3)[kind], numbers[:, 1:]], axis=1), kind

    (known, _), (asked, kind) = rows(400), rows(60)
    description = replace(describe("tabular"), shape=(5,), features=("a", "b", "c"), columns=(1, 3, 1))
    made = Recipe.resolve("undercomplete", {}, "mlp", WIDE, 2, description, "mixed")
    model, _ = train(made, ALL, of(known), steps=400, batch_size=64, check_every=100)
    member = Trained(model, ALL, made)
    asked[:, 1:4] = np.eye(3)[(kind + 1) % 3]
    found = attribute(member, fitted(member, of(known)), of(asked))
    assert found.attribution.shape == found.residual.shape == (60, 3)
    assert (found.attribution.argmax(1) == 1).mean() >= 0.95
