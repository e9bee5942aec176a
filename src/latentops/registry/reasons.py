"""Why rows have their scores, as a table that can be served: an `Attribution` in columns."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentops.data.prepared import Description, Samples
from latentops.data.tokenizer import Tokenizer
from latentops.evaluation.attribution import Attribution


def frame(
    found: Attribution, samples: Samples, nearest: pd.DataFrame, description: Description
) -> pd.DataFrame:
    """What was found of `samples`, a row each; `nearest` is its nearest rows as the served model has rows.

    Of a table columns `attribution c`, `residual c` and `nearest c` for each column c; else `attribution` and
    `residual`, nested as the places are and without padding, and `nearest`; of texts `tokens` in place of
    `attribution`.
    """
    told = {"residual": found.residual}
    if found.attribution is not None:
        told = {"attribution": found.attribution, **told}
    if description.kind == "tabular":
        parts = {name: pd.DataFrame(each, columns=nearest.columns) for name, each in told.items()}
        parts["nearest"] = nearest
        return pd.concat([part.add_prefix(f"{name} ") for name, part in parts.items()], axis=1)
    columns: dict[str, Any] = {}
    if description.tokenizer is not None:
        columns["tokens"] = pieces(description.tokenizer, samples)
        told = {"residual": found.residual[..., 0]}
    ends = ends_of(samples)
    for name, each in told.items():
        columns[name] = [row[:end].tolist() for row, end in zip(each, ends, strict=True)]
    return pd.DataFrame({**columns, "nearest": nearest.iloc[:, 0]})


def ends_of(samples: Samples) -> NDArray[np.int64]:
    """Of sequences the steps that are valid; of images their pixels' rows, which all are."""
    if samples.lengths is not None:
        return samples.lengths
    return np.full(len(samples), samples.values.shape[-2])


def pieces(tokenizer: Tokenizer, samples: Samples) -> list[list[str]]:
    """The part of each text that each of its tokens stands for; together they are the text."""
    return [_pieces(tokenizer, row, end) for row, end in zip(samples.values, ends_of(samples), strict=True)]


def _pieces(tokenizer: Tokenizer, ids: NDArray[np.floating], steps: int) -> list[str]:
    begun = tokenizer.invert(np.repeat(ids[None], steps, axis=0), np.arange(1, steps + 1))
    return [longer[len(shorter) :] for shorter, longer in zip(["", *begun], begun, strict=False)]
