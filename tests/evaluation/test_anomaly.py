import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from latentops.evaluation import anomaly
from latentops.evaluation.anomaly import (
    SCORES,
    Scorer,
    Spread,
    input_axes,
    neighbour_distance,
    reference_rows,
)
from latentops.evaluation.statistics import auroc


def planted(seed: int = 0) -> tuple[Scorer, np.ndarray, np.ndarray]:
    """A scorer on normals, residuals and codes of 40 normals followed by 20 anomalies of both sorts."""
    random = np.random.default_rng(seed)
    known = random.normal(size=(200, 3))
    scorer = Scorer.fit(random.normal(size=(200, 5)) ** 2, known, known, 5)
    residuals, codes = random.normal(size=(60, 5)) ** 2, random.normal(size=(60, 3))
    residuals[40:50] *= 30
    codes[50:] += 8
    return scorer, residuals, codes


def test_the_combined_score_finds_what_either_part_finds() -> None:
    scorer, residuals, codes = planted()
    scores = scorer.score(residuals, codes)
    anomalous = np.arange(60) >= 40
    assert auroc(scores["auroc"], anomalous) > 0.97
    assert auroc(scores["auroc_reconstruction"], anomalous) < 0.9
    assert auroc(scores["auroc_latent"], anomalous) < 0.9


def test_a_residual_that_is_usual_in_one_place_is_odd_in_another() -> None:
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(size=(300, 2)), random.normal(size=(300, 2)) + 20])
    inputs = codes @ random.normal(size=(2, 6))
    residuals = random.normal(size=(600, 6)) ** 2
    residuals[300:] *= 100
    scorer = Scorer.fit(residuals, codes, inputs, 5)
    rough = np.full((2, 6), 100.0)
    scores = scorer.score(rough, np.array([[0.0, 0.0], [20.0, 20.0]]))
    assert scores["auroc"][0] > 5 * scores["auroc"][1]
    assert scores["auroc_reconstruction"][0] == scores["auroc_reconstruction"][1]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), times=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_combined_score_does_not_depend_on_the_coordinates_of_the_code(seed: int, times: float) -> None:
    random = np.random.default_rng(seed)
    codes, inputs = random.normal(size=(80, 3)), random.normal(size=(80, 6))
    residuals = random.normal(size=(80, 6)) ** 2
    moved = times * codes @ (np.eye(3) + 0.3 * random.uniform(-1, 1, size=(3, 3))) + 5 * times
    one, other = (Scorer.fit(residuals, each, inputs, 5).score(residuals, each) for each in (codes, moved))
    assert np.allclose(one["auroc"], other["auroc"], rtol=1e-2, atol=1e-4)


def test_a_duplicated_code_is_scored_as_it_is_alone_and_a_constant_one_by_its_residuals() -> None:
    _, residuals, codes = planted()
    random = np.random.default_rng(3)
    known, inputs = random.normal(size=(200, 3)), random.normal(size=(200, 6))
    squares = random.normal(size=(200, 5)) ** 2
    alone = Scorer.fit(squares, known, inputs, 5).score(residuals, codes)["auroc"]
    twice = Scorer.fit(squares, np.tile(known, 2), inputs, 5).score(residuals, np.tile(codes, 2))["auroc"]
    assert np.allclose(alone, twice, rtol=1e-3)
    constant = Scorer.fit(squares, np.ones((200, 3)), inputs, 5)
    found = constant.score(residuals, np.ones((60, 3)))
    anomalous = np.arange(60) >= 40
    assert auroc(found["auroc"][:50], anomalous[:50]) > 0.95
    assert auroc(found["auroc_latent"], anomalous) == 0.5


def test_codes_come_into_the_units_of_their_inputs() -> None:
    """Where inputs are linear in the code, distances of brought codes are those of the inputs."""
    random = np.random.default_rng(0)
    codes = random.normal(size=(100, 3))
    inputs = codes @ random.normal(size=(3, 7)) + 4
    brought = codes @ input_axes(codes, inputs)
    distances = [np.linalg.norm(each[:, None] - each, axis=2) for each in (brought, inputs)]
    assert np.allclose(*distances, atol=1e-9)
    silent = np.column_stack([codes, random.normal(size=100)])
    assert np.allclose(
        silent @ input_axes(silent, inputs), silent[:, :3] @ input_axes(silent, inputs)[:3], atol=1e-9
    )


def test_a_scorer_survives_its_state() -> None:
    scorer, residuals, codes = planted()
    again = Scorer.from_state(scorer.state())
    for name in SCORES:
        assert np.array_equal(again.score(residuals, codes)[name], scorer.score(residuals, codes)[name])


def test_the_unit_of_a_value_does_not_matter() -> None:
    random = np.random.default_rng(0)
    train, test, codes = (
        random.normal(size=(100, 4)) ** 2,
        random.normal(size=(30, 4)) ** 2,
        np.zeros((100, 2)),
    )
    units = np.array([1.0, 0.6, 1.4, 1.2]) ** 2
    plain, scaled = (
        Scorer.fit(train * unit, codes, codes, 5).score(test * unit, codes[:30])["auroc_reconstruction"]
        for unit in (np.ones(4), units)
    )
    assert np.allclose(plain, scaled)


def test_padding_is_not_counted() -> None:
    random = np.random.default_rng(0)
    residuals, codes = random.normal(size=(50, 4)) ** 2, random.normal(size=(50, 2))
    padded = np.concatenate([residuals, np.full((50, 2), np.nan)], axis=1)
    plain, wide = (
        Scorer.fit(each, codes, codes, 5).score(each, codes)["auroc"] for each in (residuals, padded)
    )
    assert np.allclose(plain, wide)


def test_residuals_weigh_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    residuals = np.random.default_rng(0).normal(size=(50, 6)) ** 2
    residuals[::3, 4:] = np.nan
    usual = anomaly.usual_residuals(residuals)
    whole = anomaly.weighted(residuals, usual)
    monkeypatch.setattr(anomaly, "VALUES", 40)
    assert np.allclose(anomaly.usual_residuals(residuals), usual, rtol=1e-12)
    assert np.array_equal(anomaly.weighted(residuals, usual), whole)
    assert anomaly.weighted(residuals[:0], usual).shape == (0,)


def test_a_row_is_not_its_own_neighbour() -> None:
    line = np.array([[0.0], [1.0], [3.0]])
    assert neighbour_distance(line, line, 1, itself=np.arange(len(line))).tolist() == [1.0, 1.0, 2.0]
    assert neighbour_distance(line, line, 1).tolist() == [0.0, 0.0, 0.0]
    assert neighbour_distance(line, np.array([[5.0]]), 2).tolist() == [3.0]


def brute(reference: np.ndarray, queries: np.ndarray, neighbours: int, skip: int = 0) -> np.ndarray:
    distances = np.sqrt(((queries[:, None] - reference[None]) ** 2).sum(axis=2))
    return np.sort(distances, axis=1)[:, skip : skip + neighbours].mean(axis=1)


@pytest.mark.parametrize("rows", [6, 16, 40, 9000])
def test_the_distance_is_that_of_all_pairs(rows: int) -> None:
    """Whether the reference fills a part of a group, whole ones, or more than a block of them."""
    random = np.random.default_rng(rows)
    reference, queries = random.normal(size=(rows, 3)), random.normal(size=(150, 3))
    assert np.allclose(neighbour_distance(reference, queries, 5), brute(reference, queries, 5), rtol=1e-12)
    some = reference[:200]
    assert np.allclose(
        neighbour_distance(some, some, 5, itself=np.arange(len(some))),
        brute(some, some, 5, skip=1),
        rtol=1e-12,
    )


@settings(deadline=None)
@given(
    copies=st.lists(st.integers(1, 4), min_size=2, max_size=40),
    far=st.sampled_from([0.0, 1e3, 1e6]),
    seed=st.integers(0, 1000),
)
def test_duplicates_are_at_no_distance_wherever_they_lie(copies: list[int], far: float, seed: int) -> None:
    places = np.random.default_rng(seed).normal(size=(len(copies), 4)) + far
    codes = np.repeat(places, copies, axis=0).astype(np.float32)
    found = neighbour_distance(codes, codes, 1, itself=np.arange(len(codes)))
    assert (found[np.repeat(copies, copies) > 1] == 0).all()
    assert (neighbour_distance(codes, codes, 1) == 0).all()
    expected = brute(codes.astype(np.float64), codes.astype(np.float64), 1, skip=1)
    assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_of_many_codes_a_fixed_draw_is_kept_and_of_few_all() -> None:
    random = np.random.default_rng(0)
    codes, residuals = random.normal(size=(500, 3)).astype(np.float32), random.normal(size=(500, 4)) ** 2
    assert reference_rows(codes, None) is codes
    assert reference_rows(codes, 500) is codes
    kept = Scorer.fit(residuals, codes, codes, 5, reference=200)
    assert np.array_equal(kept.codes, reference_rows(codes, 200))
    assert len(np.unique(kept.codes, axis=0)) == 200
    whole = Scorer.fit(residuals, codes, codes, 5)
    assert kept.unit == whole.unit
    assert np.array_equal(kept.axes, whole.axes)
    anomalous = np.arange(400) >= 200
    queries = random.normal(size=(400, 3)) + 2 * anomalous[:, None]
    scores = [each.score(residuals[:400], queries)["auroc_latent"] for each in (kept, whole)]
    assert auroc(scores[0], anomalous) == pytest.approx(auroc(scores[1], anomalous), abs=0.02)


@settings(deadline=None)
@given(
    scores=st.lists(st.integers(-3, 3), min_size=4, max_size=30),
    flips=st.integers(0, 2**30),
)
def test_auroc_is_scikit_learns(scores: list[int], flips: int) -> None:
    anomalous = np.array([bool(flips >> i & 1) for i in range(len(scores))])
    anomalous[:2] = [True, False]
    values = np.array(scores, dtype=float)
    assert auroc(values, anomalous) == pytest.approx(roc_auc_score(anomalous, values), abs=1e-6)


def test_auroc_of_a_perfect_and_of_a_constant_score() -> None:
    anomalous = np.array([True, False, True, False])
    assert auroc(anomalous.astype(float), anomalous) == 1.0
    assert auroc(np.zeros(4), anomalous) == 0.5


def test_mahalanobis_is_the_distance_after_whitening() -> None:
    random = np.random.default_rng(0)
    codes = random.normal(size=(200, 3)) @ random.normal(size=(3, 3)) + 7
    inverse = np.linalg.inv(np.cov(codes.T, bias=True))
    centred = codes - codes.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, inverse, centred))
    assert np.allclose(Spread.fit(codes).distance(codes), expected)
    twice = np.tile(codes, 2)
    assert np.allclose(Spread.fit(twice).distance(twice), expected, rtol=1e-3)


def test_what_leaves_the_subspace_of_the_codes_is_far_and_a_constant_code_tells_nothing() -> None:
    random = np.random.default_rng(0)
    flat = np.column_stack([random.normal(size=(100, 2)), np.zeros(100)])
    assert Spread.fit(flat).distance(np.array([[0.0, 0.0, 1.0]]))[0] > 100
    assert (Spread.fit(np.ones((20, 3))).distance(np.ones((5, 3))) == 0).all()
