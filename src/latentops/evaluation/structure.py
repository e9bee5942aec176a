"""Health of a code, whatever made it."""

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from latentops.data.prepared import Samples
from latentops.errors import DataError
from latentops.evaluation.rows import evenly
from latentops.evaluation.statistics import auroc
from latentops.training.members import Resident
from latentops.training.trained import Trained
from latentops.variants.parts.copying import copying
from latentops.variants.parts.sparsity import hoyer

ACTIVE = 0.01
"""A unit is active where its variance is more than this share of the code's scale (Burda et al. 2016)."""

NEIGHBOURHOODS = 2048
"""Codes that the intrinsic dimension is taken from, at most."""

SPECTRA = 1024
"""Images whose checkerboard energy is taken, at most."""

FURTHEST = 0.1
"""Share of the neighbourhoods that it leaves out, those that are least alike (Facco et al. 2017)."""


def effective_rank(codes: NDArray[np.floating]) -> float:
    """Exponential of the entropy of the covariance's normalised singular values (Roy & Vetterli 2007, eq. 2).

    For codes `[n, d]`: between 1 and d; 0 where the code is constant.
    """
    centred = np.asarray(codes, dtype=np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    total = values.sum()
    if total <= 1e-12:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def active_share(codes: NDArray[np.floating], scale: float | None = None) -> float:
    """Share of the units of codes `[n, units]` that vary over the rows: 0 of a constant code.

    A unit is active where its variance exceeds `ACTIVE` times the `scale`: the prior's variance where there
    is a prior (Burda et al. 2016, §4.2), by default that of the unit that varies most.
    """
    variances = np.var(codes, axis=0, dtype=np.float64)
    limit = ACTIVE * (variances.max() if scale is None else scale)
    return float((variances > np.maximum(limit, 1e-12)).mean())


def sparseness(codes: NDArray[np.floating]) -> list[float]:
    """Mean Hoyer index of codes `[members, n, units]`, one number a member (`parts.sparsity.hoyer`)."""
    found: list[float] = hoyer(torch.from_numpy(np.array(codes))).tolist()
    return found


def intrinsic_dimension(codes: NDArray[np.floating]) -> float:
    """How many dimensions the codes `[n, units]` fill where they are, by TwoNN (Facco et al. 2017).

    Of each code μ is the distance to its second nearest neighbour over that to the nearest; where the density
    hardly changes between them ``P(μ > m) = m^-d``. d is the slope through the origin of ``-log(1 - i / n)``
    over the i-th smallest log μ. Equal codes count once, so that repeated rows change nothing; of more than
    `NEIGHBOURHOODS` evenly spaced ones are taken. Fewer than three points have dimension 0; NaN where all
    neighbours are equally far, as on a grid.
    """
    _, first = np.unique(codes, axis=0, return_index=True)
    distinct = np.asarray(codes[np.sort(first)], dtype=np.float64)
    points = torch.from_numpy(distinct[evenly(len(distinct), NEIGHBOURHOODS)])
    if len(points) < 3:
        return 0.0
    points = points - points.mean(0)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    nearest, second = distances.topk(2, largest=False).values.unbind(1)
    ratios = (second / nearest.clamp_min(1e-12)).log().sort().values
    kept = ratios[: max(2, round((1 - FURTHEST) * len(ratios)))]
    heights = -torch.log1p(-torch.arange(1, len(kept) + 1, dtype=torch.float64) / len(ratios))
    squares = float(kept @ kept)
    return float(kept @ heights) / squares if squares > 1e-12 else math.nan


def copy_score(trained: Trained, samples: Samples) -> dict[str, list[float]]:
    """How much a model of any variant copies, one number a member (`latentops.variants.parts.copying`).

    `copy_score` is the R² of its reconstruction of `samples` with each column permuted over them, clipped at
    0; `explained` is the R² on `samples` themselves.
    """
    resident = Resident.put(samples, torch.device("cpu"))
    with torch.no_grad():
        found = copying(trained.model, resident.shared(len(trained.members)))
    return {name: numbers.tolist() for name, numbers in found.items()}


def wrong_tokens(trained: Trained, samples: Samples) -> list[float]:
    """Share of the tokens of all `samples` that are reconstructed as others, one number a member."""
    batch = Resident.put(samples, torch.device("cpu")).shared(len(trained.members))
    wrong = torch.from_numpy(trained.reconstruct(samples)) != batch.values
    shares: list[float] = ((wrong * batch.mask).flatten(1).sum(1) / batch.mask.flatten(1).sum(1)).tolist()
    return shares


def unit_auroc(codes: NDArray[np.floating], labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """AUROC `[classes, units]` of each unit of codes `[n, units]` for each class; NaN for one without rows.

    Below 0.5 a unit turns off for the class.
    """
    return np.array([[auroc(unit, labels == label) for unit in codes.T] for label in range(classes)])


def best_unit_auroc(
    codes: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How well a single unit tells a class from the others, at best: is a unit interpretable?

    For codes `[n, units]` and class indices `[n]`: of each class the highest AUROC of a unit, or of its
    negative, 0.5 to 1, and which unit that is. NaN for a class without rows; its unit is 0.
    """
    table = unit_auroc(codes, labels, int(labels.max()) + 1)
    either = np.maximum(table, 1 - table)
    units = np.nan_to_num(either).argmax(axis=1)
    return np.take_along_axis(either, units[:, None], axis=1)[:, 0], units


def with_irrelevant(samples: Samples, columns: int, seed: int) -> Samples:
    """A table with so many more columns, of standard normal numbers that have nothing to do with its rows.

    Prepared columns have about that spread. Every split needs a `seed` of its own. Raises `DataError` where
    the samples aren't a table.
    """
    if samples.values.ndim != 2:
        raise DataError("irrelevant columns are added to tables; these samples are images or sequences")
    noise = np.random.default_rng(seed).normal(size=(len(samples), columns)).astype(np.float32)
    return replace(samples, values=np.concatenate([samples.values, noise], axis=1))


def hidden_error(trained: Trained, images: Samples) -> NDArray[np.float64]:
    """Squared error `[members, columns]` of the right half of images, which the encoder doesn't see.

    The first column lies next to what it does see, the last one furthest from it: only a code that holds the
    whole image can guess that.
    """
    half = images.values.shape[-1] // 2
    seen = np.array(images.values)
    seen[..., half:] = 0
    errors = trained.reconstruct(replace(images, values=seen))[..., half:] - images.values[..., half:]
    return np.asarray((errors.astype(np.float64) ** 2).mean(axis=(1, 2, 3)))


def high_frequency_energy(
    values: NDArray[np.floating], axes: tuple[int, ...], lengths: NDArray[np.integer] | None = None
) -> float:
    """Energy of a sample, on average, at or above half the highest frequency that its grid can hold.

    `values` are `[n, …]`, transformed over `axes`, e.g. (-2, -1) for images and (1,) for the steps of
    sequences; frequencies of several axes are taken by their length (a radial spectrum). A sequence is
    centred over its `lengths` `[n]` valid steps, so that where it ends is no edge.
    """
    signal = np.asarray(values, dtype=np.float64)
    if lengths is not None:
        valid = np.arange(signal.shape[1])[None, :, None] < np.asarray(lengths)[:, None, None]
        centre = (signal * valid).sum(axis=1, keepdims=True) / np.asarray(lengths)[:, None, None]
        signal = (signal - centre) * valid
    power = np.abs(np.fft.fftn(signal, axes=axes)) ** 2
    squares = np.zeros(())
    for axis in axes:
        frequency = np.fft.fftfreq(signal.shape[axis])
        squares = squares + (frequency**2).reshape(-1, *(1,) * (signal.ndim - 1 - axis % signal.ndim))
    high = np.broadcast_to(squares >= 0.25**2, power.shape)
    return float(power[high].sum() / len(signal) / np.prod([signal.shape[axis] for axis in axes]))


def checkerboard_energy(images: NDArray[np.floating]) -> float:
    """Share of the power of images `[n, channels, height, width]` at half a cycle a pixel, along any axis.

    That is the frequency of a stride of two: uneven overlaps of a strided kernel show there (Odena et al.
    2016, "Deconvolution and checkerboard artifacts"). Power is that of differences from an image's means; odd
    sizes are cut by one; an axis of a single pixel has no such frequency. NaN where images are constant.
    """
    high, wide = (max(1, size - size % 2) for size in images.shape[-2:])
    power = np.abs(np.fft.fft2(np.asarray(images[..., :high, :wide], dtype=np.float64))) ** 2
    there = (np.arange(high) == high / 2)[:, None] | (np.arange(wide) == wide / 2)
    constant = power[..., 0, 0].sum()
    varying = power.sum() - constant
    return float(power[..., there].sum() / varying) if varying > 1e-12 * constant else math.nan


def checkerboard(made: NDArray[np.floating], real: NDArray[np.floating]) -> list[float]:
    """Checkerboard energy of reconstructions `[members, n, …]` over that of the images themselves.

    1 is no artefact. NaN where the images have none. Taken of up to `SPECTRA` of them.
    """
    some = evenly(len(real), SPECTRA)
    energy = checkerboard_energy(real[some])
    return [checkerboard_energy(each[some]) / energy if energy > 1e-12 else math.nan for each in made]


def sharpness_kept(
    made: NDArray[np.floating],
    real: NDArray[np.floating],
    axes: tuple[int, ...],
    lengths: NDArray[np.integer] | None = None,
) -> float:
    """High-frequency energy of what was `made` over that of `real` data: below 1 is blurred.

    Reconstructions `[n, …]` of the real rows, or drawn samples, of which there may be another number if they
    have no `lengths`. (A spectrum ratio, as in Durall et al. 2020, §3.) NaN where the real data has none.
    """
    energy = high_frequency_energy(real, axes, lengths)
    return high_frequency_energy(made, axes, lengths) / energy if energy > 1e-12 else math.nan
