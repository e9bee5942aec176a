"""Rows of files as a package takes them."""

import numpy as np
import pandas as pd
import pyarrow as pa

from latentops.data import table as tables
from latentops.data.table import Layout
from latentops.registry.package import Input


def as_input(clean: pa.Table, layout: Layout) -> Input:
    """Validated rows of that `layout`, in raw units."""
    if layout.kind == "sequence":
        flat, sizes = tables.ragged(clean)
        sequences = np.split(flat, np.cumsum(sizes)[:-1]) if len(sizes) else []
        return [each.reshape(-1, *layout.shape) for each in sequences]
    if layout.kind == "text":
        return tables.texts(clean)
    if layout.kind == "tabular":
        return pd.DataFrame(tables.columns(clean, layout))
    return tables.dense(clean, layout)
