"""What every code has to be held against: codes that nobody trained, and scores without a code."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentops.data.prepared import Samples
from latentops.data.tokenizer import PADDING

Array = NDArray[np.float64]


def flatten(samples: Samples, vocabulary: int | None = None) -> Array:
    """Rows of equal length: values in order; a ragged sequence is resampled linearly to its padded length.

    Of tokens, how many a row has of each but padding: `[n, vocabulary - 1]`.
    """
    if vocabulary is not None:
        return counts(samples, vocabulary)[:, PADDING + 1 :]
    values = np.asarray(samples.values, dtype=np.float64)
    if samples.lengths is None:
        return values.reshape(len(values), -1)
    steps = values.shape[1]
    position = np.linspace(0, 1, steps) * (np.asarray(samples.lengths)[:, None] - 1)
    before = np.floor(position).astype(int)
    after = np.minimum(before + 1, np.asarray(samples.lengths)[:, None] - 1)
    share = (position - before)[:, :, None]
    rows = np.arange(len(values))[:, None]
    resampled = (1 - share) * values[rows, before] + share * values[rows, after]
    return np.asarray(resampled.reshape(len(values), -1))


def numbers(samples: Samples, vocabulary: int | None = None) -> NDArray[np.floating]:
    """What the rows are made of, as they are `[n, …]`; of tokens `counts`."""
    return samples.values if vocabulary is None else counts(samples, vocabulary)


def counts(samples: Samples, vocabulary: int) -> Array:
    """How many of each token a row has, `[n, vocabulary]`: a bag of words (Harris 1954)."""
    ids = np.asarray(samples.values[..., 0], dtype=np.int64)
    cells = np.arange(len(ids))[:, None] * vocabulary + ids
    valid = np.arange(ids.shape[1]) < np.asarray(samples.lengths)[:, None]
    found = np.bincount(cells[valid], minlength=len(ids) * vocabulary)
    return found.reshape(-1, vocabulary).astype(np.float64)


@dataclass(frozen=True)
class Projection:
    """Codes ``(x − mean) W`` with `W` `[inputs, latent]`, rectified where they outnumber the inputs."""

    mean: Array
    weights: Array

    def encode(self, rows: Array) -> Array:
        """Codes `[n, latent]` of rows `[n, inputs]`."""
        codes = (rows - self.mean) @ self.weights
        return codes if self.weights.shape[1] <= self.weights.shape[0] else np.maximum(codes, 0)

    def residuals(self, rows: Array) -> Array:
        """Squared residuals `[n, inputs]` of decoding with `W` transposed, for orthonormal `W`."""
        return np.asarray((rows - self.mean - self.encode(rows) @ self.weights.T) ** 2)


def pca(train: Array, latent_dim: int) -> Projection:
    """The first `latent_dim` principal components of `train` `[n, inputs]`."""
    mean = train.mean(axis=0)
    centred = train - mean
    if len(centred) < centred.shape[1]:
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return Projection(mean, axes[:latent_dim].T)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return Projection(mean, vectors[:, : -latent_dim - 1 : -1])


def random_projection(train: Array, latent_dim: int, seed: int) -> Projection:
    """A Gaussian projection; random rectified features where `latent_dim` exceeds the number of inputs."""
    inputs = train.shape[1]
    weights = np.random.default_rng(seed).normal(size=(inputs, latent_dim)) / np.sqrt(inputs)
    return Projection(train.mean(axis=0), weights)


def isolation_forest_scores(train: Array, queries: list[Array], trees: int, seed: int) -> list[Array]:
    """Isolation forest (Liu et al. 2008) fitted on `train`; scores of each of `queries`, higher is odder."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=trees, random_state=seed).fit(train)
    return [np.asarray(-forest.score_samples(rows), dtype=np.float64) for rows in queries]
