"""A made-up table of people: numbers, a date and categories, some missing, that tell who says yes."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from latentops.config import ColumnType
from latentops.data import table
from latentops.data.table import Layout

TYPES: dict[str, ColumnType] = {
    "age": "numeric",
    "job": "categorical",
    "income": "numeric",
    "member": "boolean",
    "since": "date",
}
CLASSES = ["no", "yes"]
DAY = 86_400.0


def drawn(rows: int, seed: int = 0) -> dict[str, np.ndarray | list[str | None]]:
    """The columns, and the label as `class`; a tenth of the incomes and of the jobs is missing."""
    random = np.random.default_rng(seed)
    said = random.random(rows) < 0.4
    age = np.round(random.normal(40 + 10 * said, 8), 1)
    income = np.exp(random.normal(10 + 0.8 * said, 0.5))
    income[random.random(rows) < 0.1] = np.nan
    jobs = np.where(random.random(rows) < 0.8, np.where(said, "clerk", "smith"), "baker").astype(object)
    jobs[random.random(rows) < 0.02] = "spy"
    jobs[random.random(rows) < 0.1] = None
    return {
        "age": age,
        "job": jobs.tolist(),
        "income": income,
        "member": np.where(random.random(rows) < 0.2 + 0.6 * said, "yes", "no").tolist(),
        "since": (18_000 + np.floor(random.normal(500 * said, 200))) * DAY,
        "class": np.array(CLASSES)[said.astype(int)].tolist(),
    }


def layout(label: str | None = "class") -> Layout:
    return Layout("tabular", (len(TYPES),), label, tuple(TYPES), tuple(TYPES.values()))


def write_clean(path: Path, rows: int, label: str | None = "class") -> None:
    """What validate leaves of such rows."""
    columns = drawn(rows)
    names = [*([label] if label else []), *TYPES]
    arrays = [pa.array(columns[name]) for name in names]
    table.write(path, table.build(layout(label), "people.csv", arrays))


def source(label: str | None = "class") -> dict[str, object]:
    """Its entry in params.yaml."""
    digest = hashlib.sha256(b"").hexdigest()
    return {
        "name": "file",
        "kind": "tabular",
        "label": label,
        "files": [{"path": "people.csv", "sha256": digest}],
        "read": {"format": "csv"},
        "columns": dict(TYPES),
    }
