"""From raw units to what a model sees, and back: prepared = (ψ(raw) − shift) / scale.

Values of a known range are scaled to [0, 1]; others are standardised a column (or channel) at a time, after a
power transform ψ where one is asked for. It is fitted on training rows alone and is nothing but numbers, so
that it can travel inside a model's package.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_NEGLIGIBLE = 1e-9  # a spread this small beside the values themselves is rounding, not information


@dataclass(frozen=True)
class Transform:
    """Shift and scale: one number each for all values, or one for each entry of the last axis.

    `power` holds Yeo and Johnson's λ of each column, or nothing where ψ is the identity.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    power: tuple[float, ...] = ()

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
        mean, spread = values.mean(axis=0), values.std(axis=0)
        constant = spread <= _NEGLIGIBLE * np.abs(values).max(axis=0)
        return cls(tuple(mean.tolist()), tuple(np.where(constant, 1.0, spread).tolist()))

    @classmethod
    def fit_power(cls, rows: NDArray[np.floating]) -> Self:
        """Makes each column of `rows` [n, D] as normal as a power can, then standardises it.

        ψ is Yeo and Johnson's (2000, eq. 2.1), its λ the one of highest likelihood on `rows`.
        """
        from scipy.stats import yeojohnson_normmax

        values = np.asarray(rows, dtype=np.float64)
        power = tuple(
            1.0 if np.ptp(column) <= _NEGLIGIBLE * np.abs(column).max() else float(yeojohnson_normmax(column))
            for column in values.T
        )
        linear = cls.fit(yeo_johnson(values, np.array(power)))
        return cls(linear.shift, linear.scale, power)

    def apply(self, raw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw values [..., D] as a model sees them, float32 of the same shape."""
        values = np.asarray(raw, dtype=np.float64)
        if self.power:
            values = yeo_johnson(values, np.array(self.power))
        prepared: NDArray[np.float32] = ((values - self._shift) / self._scale).astype(np.float32)
        return prepared

    def invert(self, prepared: NDArray[np.floating]) -> NDArray[np.float64]:
        """What a model sees [..., D] in raw units, float64 of the same shape."""
        values: NDArray[np.float64] = np.asarray(prepared, dtype=np.float64) * self._scale + self._shift
        return inverse_yeo_johnson(values, np.array(self.power)) if self.power else values

    @property
    def _shift(self) -> NDArray[np.float64]:
        return np.array(self.shift, dtype=np.float64)

    @property
    def _scale(self) -> NDArray[np.float64]:
        return np.array(self.scale, dtype=np.float64)

    def to_json(self) -> dict[str, list[float]]:
        """Plain numbers, from which `from_json` makes the same transform again."""
        return {"shift": list(self.shift), "scale": list(self.scale), "power": list(self.power)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The transform that `to_json` wrote."""
        return cls(*(tuple(map(float, value[name])) for name in ("shift", "scale", "power")))


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
