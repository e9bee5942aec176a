import numpy as np
from sklearn.decomposition import PCA

from latentops.evaluation.floors import flatten, isolation_forest_scores, pca, random_projection
from latentops.evaluation.statistics import auroc
from tests.toy import draw


def test_pca_is_scikit_learns() -> None:
    rows = np.random.default_rng(0).normal(size=(80, 6)) @ np.diag([5, 3, 2, 1, 0.5, 0.1])
    ours, theirs = pca(rows, 3), PCA(3).fit(rows)
    assert np.allclose(np.abs(ours.encode(rows)), np.abs(theirs.transform(rows)))
    back = theirs.inverse_transform(theirs.transform(rows))
    assert np.allclose(ours.residuals(rows), (rows - back) ** 2)


def test_a_random_projection_is_its_seeds() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 5))
    assert np.array_equal(
        random_projection(rows, 3, 1).encode(rows), random_projection(rows, 3, 1).encode(rows)
    )
    assert not np.array_equal(
        random_projection(rows, 3, 1).encode(rows), random_projection(rows, 3, 2).encode(rows)
    )


def test_more_numbers_than_inputs_are_rectified() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 5))
    assert (random_projection(rows, 12, 0).encode(rows) >= 0).all()
    assert (random_projection(rows, 3, 0).encode(rows) < 0).any()


def test_an_isolation_forest_finds_what_lies_far_out() -> None:
    random = np.random.default_rng(0)
    queries = np.concatenate([random.normal(size=(50, 3)), random.normal(size=(20, 3)) + 6])
    (scores,) = isolation_forest_scores(random.normal(size=(200, 3)), [queries], 50, 0)
    assert auroc(scores, np.arange(70) >= 50) > 0.99


def test_a_full_length_sequence_is_flattened_as_it_is_and_a_short_one_stretched() -> None:
    samples = draw("sequence", 12)
    assert samples.lengths is not None
    flat = flatten(samples)
    steps = samples.values.shape[1]
    for at, length in enumerate(samples.lengths):
        rows = flat[at].reshape(steps, -1)
        assert np.allclose(rows[0], samples.values[at, 0])
        assert np.allclose(rows[-1], samples.values[at, length - 1])
        if length == steps:
            assert np.allclose(rows, samples.values[at])
