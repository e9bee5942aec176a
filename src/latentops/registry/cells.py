"""A mixed table's DataFrame as the columns that its encoding takes, and back.

Numbers are numbers. Categories are text; a boolean or a whole number stands for the category that it is
written as. Dates are ISO text, timestamps, or seconds since 1970; they come back as ISO text to the second,
in UTC where they had a zone. A cell is missing where it is None, NaN, NaT or NA.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentops.data.encoding import CATEGORIES, Column, Encoding
from latentops.errors import DataError

LARGEST = 1e30
"""Beyond it no number can be told from an infinite one where a model has it in float32."""


def columns(frame: pd.DataFrame, encoding: Encoding) -> dict[str, Column]:
    """What `encoding` takes of `frame`, which has its columns.

    Raises `DataError` that names row and column where a cell is of another type, infinite, or missing where
    no row that was prepared had anything missing.
    """
    found: dict[str, Column] = {}
    for name, type_ in encoding.types.items():
        cells = [None if _is_missing(each) else each for each in frame[name].tolist()]
        if name not in encoding.missing and None in cells:
            raise DataError(f"row {cells.index(None)}, column {name!r}: missing, but no training data was")
        if type_ in CATEGORIES:
            found[name] = [None if each is None else _category(each, encoding.kept[name]) for each in cells]
        else:
            read = _seconds if type_ == "date" else _number
            found[name] = np.array([read(each, row, name) for row, each in enumerate(cells)], np.float64)
    return found


def frame(found: Mapping[str, Column], encoding: Encoding) -> pd.DataFrame:
    """Such columns as a DataFrame: doubles, and objects of text or None."""
    return pd.DataFrame({name: _told(found[name], encoding.types[name]) for name in encoding.types})


def _is_missing(cell: object) -> bool:
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))  # type: ignore[call-overload]


def _told(column: Column, type_: str) -> NDArray[Any]:
    if type_ in CATEGORIES:
        return _objects(cast("Sequence[str | None]", column))
    numbers = np.asarray(column, dtype=np.float64)
    if type_ != "date":
        return numbers
    return _objects([None if np.isnan(each) else _date(each) for each in numbers])


def _objects(values: Sequence[object]) -> NDArray[Any]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _date(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s"))


def _category(value: object, kept: Sequence[str]) -> str:
    if isinstance(value, bool | np.bool_):
        ways = ("True", "true", "1", "yes") if value else ("False", "false", "0", "no")
        return next((way for way in ways if way in kept), ways[1])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _number(value: object, row: int, name: str) -> float:
    try:
        number = np.nan if value is None else float(cast(float, value))
    except (TypeError, ValueError):
        raise DataError(f"row {row}, column {name!r}: {value!r} is no number") from None
    if abs(number) > LARGEST:
        raise DataError(f"row {row}, column {name!r}: infinite, or beyond {LARGEST:g}")
    return number


def _seconds(value: object, row: int, name: str) -> float:
    if value is None or isinstance(value, int | float | np.number):
        return _number(value, row, name)
    try:
        moment = pd.Timestamp(cast(str, value))
    except (TypeError, ValueError):
        raise DataError(f"row {row}, column {name!r}: {value!r} is no date, such as 2024-05-31") from None
    return float(moment.timestamp())
