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
from latentops.config import Corruptions
from latentops.data.prepared import Samples
from latentops.evaluation.probe import Probe
from latentops.evaluation.rows import evenly
from latentops.evaluation.ssim import structural_similarity
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Noise
from latentops.variants.parts.corruption import CORRUPTIONS, CorruptionName, check_corruption, fitting
from latentops.variants.parts.imputation import imputation_error

COMPARED = 1024
"""Images that SSIM is taken of, at most."""


@dataclass(frozen=True)
class Met:
    """A corruption and its level, as `latentops.variants.parts.corruption` has them."""

    corruption: CorruptionName
    level: float

    @property
    def name(self) -> str:
        """As a variant names what it is trained with; `clean` at level 0."""
        return f"{self.corruption} {self.level:g}" if self.level else CLEAN

    def corrupt(self, samples: Samples, shape: Shape, seed: int) -> Samples:
        """The same rows, corrupted; `shape` is that of a model of them.

        Raises `ConfigError` where such data can't be corrupted so.
        """
        check_corruption(self.corruption, shape)
        noise = Noise([generator(seed, "met", self.corruption)])
        batch = Resident.put(samples, torch.device("cpu")).shared(1)
        corrupted = CORRUPTIONS[self.corruption](batch, self.level, noise, shape)
        return Samples(corrupted.values[0].numpy(), samples.lengths, samples.labels, samples.ids)


CLEAN = "clean"
"""What is met where nothing is done to the rows."""


def met(settings: Corruptions, shape: Shape) -> list[Met]:
    """Each corruption that fits such data, at each of its levels, after nothing at all."""
    every = {name: getattr(settings, name) for name in fitting(shape)}
    nothing: CorruptionName = next(reversed(every))
    return [
        Met(nothing, 0.0),
        *(Met(corruption, level) for corruption, levels in every.items() for level in levels),
    ]


@dataclass(frozen=True)
class Withstood:
    """How members fared under one corruption, one value a member.

    `error` is the mean squared error against the clean rows, of tokens the share of wrong ones, `psnr` that
    as the peak's power over it in dB (None where values have no bounds), `ssim` the structural similarity to
    the clean images (None where they have no bounds, or aren't images), `noise_kept` the error as a share of
    the corruption's own, `probe_accuracy` that of a probe of clean codes, empty where there is none.
    """

    met: Met
    error: list[float]
    psnr: list[float] | None
    ssim: list[float] | None
    noise_kept: list[float]
    probe_accuracy: list[float]


def withstood(
    trained: Trained, probe: Probe, judged: Samples, met: Sequence[Met], seed: int = 0
) -> list[Withstood]:
    """What each of `met` does to reconstructions and codes of the `judged` rows.

    `probe` is one of clean codes: that it still reads the codes of corrupted rows means that the features are
    stable.
    """
    corrupted = [each.corrupt(judged, trained.model.shape, seed) for each in met]
    labels = torch.from_numpy(np.array(judged.labels))
    read = [rows for rows in corrupted if probe.weights]
    correct = [probe.correct(torch.from_numpy(trained.encode(rows)), labels) for rows in read]
    bounds = trained.description.likelihood_range
    result = []
    for at, (each, rows) in enumerate(zip(met, corrupted, strict=True)):
        made = trained.reconstruct(rows)
        error = _error(trained, made, judged)
        own = _error(trained, rows.values[None], judged)
        result.append(
            Withstood(
                each,
                error.tolist(),
                None if bounds is None else [_psnr(value, bounds[1] - bounds[0]) for value in error],
                None if bounds is None else _ssim(trained, made, judged, bounds[1] - bounds[0]),
                (error / np.maximum(own, 1e-12)).tolist(),
                correct[at].double().mean(-1).tolist() if correct else [],
            )
        )
    return result


def _error(trained: Trained, made: NDArray[np.floating], clean: Samples) -> NDArray[np.float64]:
    """Mean over rows of each one's error over its valid values, `[members]`."""
    batch = Resident.put(clean, torch.device("cpu")).shared(1)
    likelihood = trained.model.likelihood
    members = [likelihood.mean_error(batch, torch.from_numpy(each[None])) for each in made]
    return torch.cat(members).double().mean(-1).numpy()


def _psnr(error: float, peak: float) -> float:
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def _ssim(trained: Trained, made: NDArray[np.floating], clean: Samples, peak: float) -> list[float] | None:
    """Mean over up to `COMPARED` images, one a member."""
    if trained.description.kind != "image":
        return None
    some = evenly(len(clean), COMPARED)
    images = clean.values[some]
    return [float(structural_similarity(each[some], images, peak).mean()) for each in made]


def imputed(trained: Trained, judged: Samples, shares: Sequence[float], seed: int = 0) -> list[list[float]]:
    """Of each share of a table's values, the error of imputing them, one a member; 1 is that of the means."""
    batch = Resident.put(judged, torch.device("cpu")).shared(len(trained.members))
    errors = []
    for share in shares:
        noise = Noise([generator(seed, "met", "masking") for _ in trained.members])
        with torch.no_grad():
            errors.append(imputation_error(trained.model, batch, share, noise).tolist())
    return errors
