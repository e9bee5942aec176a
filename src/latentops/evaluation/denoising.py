"""Which corruption a code withstands: a row of the matrix of trained × met corruptions.

The corruption that is met is the same for every model: it depends on the rows, its level and a seed alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.architectures import Shape
from latentops.architectures.stack import generator
from latentops.data.prepared import Samples
from latentops.evaluation.probe import linear_probe
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.corruption import CORRUPTIONS, CorruptionName, check_corruption, fitting


@dataclass(frozen=True)
class Met:
    """A corruption and its level, as `latentops.variants.parts.corruption` has them."""

    corruption: CorruptionName
    level: float

    def corrupt(self, samples: Samples, shape: Shape, seed: int) -> Samples:
        """The same rows, corrupted; `shape` is that of a model of them.

        Raises `ConfigError` where such data can't be corrupted so.
        """
        check_corruption(self.corruption, shape)
        noise = Noise([generator(seed, "met", self.corruption)])
        batch = Resident.put(samples, torch.device("cpu")).shared(1)
        corrupted = CORRUPTIONS[self.corruption](batch, self.level, noise, shape)
        return Samples(corrupted.values[0].numpy(), samples.lengths, samples.labels, samples.ids)


LEVELS: dict[CorruptionName, tuple[float, ...]] = {
    "gaussian": (0.4, 0.8, 1.2),
    "masking": (0.15, 0.3, 0.6),
    "salt_and_pepper": (0.1, 0.2, 0.4),
    "replace": (0.1, 0.2, 0.4),
    "drop": (0.15, 0.3, 0.6),
}
"""From weak to strong."""


def every_met(shape: Shape) -> tuple[Met, ...]:
    """All corruptions of such data, each at all its levels."""
    return tuple(Met(corruption, level) for corruption in fitting(shape) for level in LEVELS[corruption])


@dataclass(frozen=True)
class Withstood:
    """How members fared under one corruption, one value a member.

    `error` is the mean squared error against the clean rows, of tokens the share of wrong ones, `psnr` that
    as the peak's power over it in dB (None where values have no bounds), `noise_kept` as a share of the
    corruption's own, `probe_accuracy` that of a probe of clean codes.
    """

    met: Met
    error: list[float]
    psnr: list[float] | None
    noise_kept: list[float]
    probe_accuracy: list[float]


def withstood(
    trained: Trained,
    train: Samples,
    stop: Samples,
    judged: Samples,
    met: Sequence[Met],
    strengths: Sequence[float],
    seed: int = 0,
) -> list[Withstood]:
    """What each of `met` does to reconstructions and codes of the `judged` rows.

    The probe is fitted on clean training codes and its strength chosen on clean stop codes, once: that it
    still reads the codes of corrupted rows means that the features are stable.
    """
    corrupted = [each.corrupt(judged, trained.model.shape, seed) for each in met]
    labels = [torch.from_numpy(np.array(each.labels)) for each in (train, stop, judged)]
    probed = linear_probe(
        torch.from_numpy(trained.encode(train)), labels[0],
        torch.from_numpy(trained.encode(stop)), labels[1],
        torch.from_numpy(np.concatenate([trained.encode(each) for each in corrupted], axis=1)),
        labels[2].repeat(len(met)), strengths,
    )  # fmt: skip
    correct = probed.correct.view(len(trained.members), len(met), len(judged)).double().mean(-1)
    bounds = trained.description.likelihood_range
    result = []
    for at, (each, rows) in enumerate(zip(met, corrupted, strict=True)):
        error = _error(trained, trained.reconstruct(rows), judged)
        own = _error(trained, rows.values[None], judged)
        result.append(
            Withstood(
                each,
                error.tolist(),
                None if bounds is None else [_psnr(value, bounds[1] - bounds[0]) for value in error],
                (error / np.maximum(own, 1e-12)).tolist(),
                correct[:, at].tolist(),
            )
        )
    return result


def _error(trained: Trained, made: NDArray[np.floating], clean: Samples) -> NDArray[np.float64]:
    """Mean over rows of each one's error over its valid values, `[members]`."""
    batch = Resident.put(clean, torch.device("cpu")).shared(len(made))
    errors = trained.model.likelihood.mean_error(batch, torch.from_numpy(made))
    return errors.double().mean(-1).numpy()


def _psnr(error: float, peak: float) -> float:
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
