"""From raw units to what a model sees, and back: prepared = (ψ(raw) − shift) / scale.

Values of a known range are scaled to [0, 1]; others are standardised a column (or channel) at a time, by mean
and deviation or by median and quartiles, after a power transform or one to normal scores ψ where that is
asked for. Images may be given further channels, which say where their edges run. It is fitted on training
rows alone and is nothing but numbers, so that it can travel inside a model's package. A number that is
missing is NaN; it has no part in the fit, and stays NaN.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_NEGLIGIBLE = 1e-9  # a spread this small beside the values themselves is rounding, not information
QUANTILES = 100
"""Places of a column that its normal scores are read off."""

NORMAL_RANGE = 2 * NormalDist().inv_cdf(0.75)
"""Between the quartiles of a standard normal, so that a normal column is scaled to a deviation of 1."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Transform:
    """Shift and scale: one number each for all values, or one for each entry of the last axis.

    `power` holds Yeo and Johnson's λ of each column, `points` of each column values that rise and their
    normal scores; where both are empty ψ is the identity. `orientations` are the further channels that each
    channel of an image is followed by, all of them after the image's own.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    power: tuple[float, ...] = ()
    points: tuple[Points, ...] = ()
    orientations: int = 0

    @classmethod
    def identity(cls) -> Self:
        """Leaves values as they are."""
        return cls((0.0,), (1.0,))

    @classmethod
    def from_range(cls, low: float, high: float) -> Self:
        """Maps [low, high] to [0, 1]."""
        return cls((float(low),), (float(high) - float(low),))

    @classmethod
    def fit(cls, rows: NDArray[np.floating]) -> Self:
        """Standardises each column of `rows` [n, D] to mean 0 and standard deviation 1.

        A column that is constant over `rows` is centred and keeps its unit (scale 1): where only normal
        rows are fitted on, one that first moves on an anomaly is the best of columns, and no error.
        """
        values = np.asarray(rows, dtype=np.float64)
        mean, spread = _known(np.nanmean, values), _known(np.nanstd, values)
        return cls(tuple(mean.tolist()), tuple(np.where(_constant(values, spread), 1.0, spread).tolist()))

    @classmethod
    def fit_robust(cls, rows: NDArray[np.floating]) -> Self:
        """Takes each column's median to 0 and its interquartile range to `NORMAL_RANGE`.

        So a few wild values change nothing for the others. Where more than half of the values are the same,
        the quartiles may be; the deviation is then taken instead, of a constant column 1.
        """
        values = np.asarray(rows, dtype=np.float64)
        low, median, high = (_known(np.nanquantile, values, q=q) for q in (0.25, 0.5, 0.75))
        spread = (high - low) / NORMAL_RANGE
        scale = np.where(_constant(values, spread), cls.fit(values).scale, spread)
        return cls(tuple(median.tolist()), tuple(scale.tolist()))

    @classmethod
    def fit_quantile(cls, rows: NDArray[np.floating]) -> Self:
        """Gives each column of `rows` [n, D] a normal's quantiles, then standardises it.

        Of `QUANTILES` quantiles and both ends the normal scores are stored, and lie on straight lines in
        between; beyond the ends the line between these goes on. Equal values have the mean of their scores.
        """
        values = np.asarray(rows, dtype=np.float64)
        points = tuple(_points(column[np.isfinite(column)]) for column in values.T)
        linear = cls.fit(_scored(values, points))
        return cls(linear.shift, linear.scale, points=points)

    @classmethod
    def fit_power(cls, rows: NDArray[np.floating]) -> Self:
        """Makes each column of `rows` [n, D] as normal as a power can, then standardises it.

        ψ is Yeo and Johnson's (2000, eq. 2.1), its λ the one of highest likelihood on `rows`.
        """
        from scipy.stats import yeojohnson_normmax

        values = np.asarray(rows, dtype=np.float64)
        known = [column[np.isfinite(column)] for column in values.T]
        power = tuple(
            1.0
            if not len(column) or np.ptp(column) <= _NEGLIGIBLE * np.abs(column).max()
            else float(yeojohnson_normmax(column))
            for column in known
        )
        linear = cls.fit(yeo_johnson(values, np.array(power)))
        return cls(linear.shift, linear.scale, power)

    def apply(self, raw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw values [..., D] as a model sees them, float32 of the same shape, or of images with `edges`."""
        values = np.asarray(raw, dtype=np.float64)
        if self.power:
            values = yeo_johnson(values, np.array(self.power))
        if self.points:
            values = _scored(values, self.points)
        prepared: NDArray[np.float32] = ((values - self._shift) / self._scale).astype(np.float32)
        if self.orientations:
            return np.concatenate([prepared, edges(prepared, self.orientations)], axis=-3)
        return prepared

    def shape(self, raw: tuple[int, ...]) -> tuple[int, ...]:
        """Of a prepared row whose raw one has shape `raw`."""
        return (raw[0] * (1 + self.orientations), *raw[1:])

    def raw_shape(self, prepared: tuple[int, ...]) -> tuple[int, ...]:
        """Of a raw row whose prepared one has shape `prepared`."""
        return (prepared[0] // (1 + self.orientations), *prepared[1:])

    def invert(self, prepared: NDArray[np.floating]) -> NDArray[np.float64]:
        """What a model sees [..., D] in raw units, float64 of the same shape; of images without `edges`."""
        if self.orientations:
            prepared = prepared[..., : self.raw_shape(prepared.shape[-3:])[0], :, :]
        values: NDArray[np.float64] = np.asarray(prepared, dtype=np.float64) * self._scale + self._shift
        if self.points:
            values = _scored(values, tuple(tuple((y, x) for x, y in each) for each in self.points))
        return inverse_yeo_johnson(values, np.array(self.power)) if self.power else values

    @property
    def _shift(self) -> NDArray[np.float64]:
        return np.array(self.shift, dtype=np.float64)

    @property
    def _scale(self) -> NDArray[np.float64]:
        return np.array(self.scale, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, from which `from_json` makes the same transform again."""
        return {
            "shift": list(self.shift),
            "scale": list(self.scale),
            "power": list(self.power),
            **({"points": [list(map(list, each)) for each in self.points]} if self.points else {}),
            **({"orientations": self.orientations} if self.orientations else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The transform that `to_json` wrote."""
        points = tuple(
            tuple((float(at), float(score)) for at, score in each) for each in value.get("points", ())
        )
        shift, scale, power = (tuple(map(float, value[name])) for name in ("shift", "scale", "power"))
        return cls(shift, scale, power, points, value.get("orientations", 0))


def edges(images: NDArray[np.float32], orientations: int) -> NDArray[np.float32]:
    """How strongly edges run in each direction around each pixel of `images` [..., C, H, W].

    Channels [..., C · orientations, H, W]: the lengths of the gradients (central differences) shared out over
    directions that are evenly spaced over half a turn, those between two linearly between them; then their
    means over 3×3 pixels, and the root of these (Dalal & Triggs 2005, "Histograms of oriented gradients for
    human detection", §6.1–6.3). Of values in [0, 1] they are in [0, 1].
    """
    *rows, channels, height, width = images.shape
    near = _beyond(images)
    across = (near[..., 1:-1, 2:] - near[..., 1:-1, :-2]) / 2
    down = (near[..., 2:, 1:-1] - near[..., :-2, 1:-1]) / 2
    length = np.hypot(across, down)
    direction = np.arctan2(down, across) % np.float32(np.pi) * np.float32(orientations / np.pi)
    found = np.empty((*rows, channels, orientations, height, width), np.float32)
    for at in range(orientations):
        away = np.abs(direction - at)
        share = np.maximum(1 - np.minimum(away, orientations - away), 0)
        found[..., at, :, :] = np.sqrt(_mean_around(length * share))
    return found.reshape(*rows, channels * orientations, height, width)


def _beyond(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """With a further pixel on each side, the same as the outermost."""
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)], mode="edge")


def _mean_around(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the 3×3 pixels around each."""
    near = _beyond(images)
    rows = near[..., :-2, :] + near[..., 1:-1, :] + near[..., 2:, :]
    mean: NDArray[np.float32] = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / np.float32(9)
    return mean


def _known(of: Any, values: NDArray[np.float64], **options: float) -> NDArray[np.float64]:
    """`of` each column's values that aren't missing; 0 where all are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns in which nothing is there
        return np.nan_to_num(of(values, axis=0, **options))


def _constant(values: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(spread <= _NEGLIGIBLE * _known(np.nanmax, np.abs(values)))


def _points(column: NDArray[np.float64]) -> Points:
    """Values of a column that rise, and the normal score of each."""
    if not len(column):
        return ((0.0, 0.0),)
    end = 0.5 / len(column)  # the share of the least value
    inner = (np.arange(QUANTILES) + 0.5) / QUANTILES
    inner = inner[(inner > end) & (inner < 1 - end)]
    places, first = np.unique(np.quantile(column, [0, *inner, 1]), return_inverse=True)
    shares = [end, *inner, 1 - end]
    scores = np.array([NormalDist().inv_cdf(share) for share in shares])
    means = np.bincount(first, scores) / np.bincount(first)
    return tuple(zip(places.tolist(), means.tolist(), strict=True))


def _scored(values: NDArray[np.float64], points: tuple[Points, ...]) -> NDArray[np.float64]:
    """Each column of `values` [..., D] on the lines between its points, which go on beyond them."""
    out = np.empty_like(values)
    for at, each in enumerate(points):
        places, scores = np.array(each).T
        column = values[..., at]
        rise = (scores[-1] - scores[0]) / (places[-1] - places[0]) if len(each) > 1 else 1.0
        beyond = column - np.clip(column, places[0], places[-1])
        out[..., at] = np.interp(column, places, scores) + rise * beyond
    return out


def yeo_johnson(values: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """ψ of each column of `values` [..., D] with its λ in `power` [D] (Yeo & Johnson 2000, eq. 2.1)."""
    positive, negative = np.maximum(values, 0), np.maximum(-values, 0)
    return _box_cox(positive, power) - _box_cox(negative, 2 - power)


def inverse_yeo_johnson(values: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """The raw values of which `values` [..., D] are ψ; beyond ψ's bound, the largest that it can tell."""
    positive, negative = np.maximum(values, 0), np.maximum(-values, 0)
    return _inverse_box_cox(positive, power) - _inverse_box_cox(negative, 2 - power)


def _box_cox(values: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """((values + 1)^λ − 1) / λ, which is log(values + 1) at λ = 0."""
    logs = np.log1p(values)
    safe = np.where(power == 0, 1.0, power)
    return np.where(power == 0, logs, np.expm1(safe * logs) / safe)


def _inverse_box_cox(values: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.where(power == 0, 1.0, power)
    logs = np.log1p(np.maximum(safe * values, np.finfo(np.float64).eps - 1)) / safe
    return np.expm1(np.where(power == 0, values, logs))
