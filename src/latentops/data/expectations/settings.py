"""Whether the limits that are set are limits of something that the data has."""

from collections.abc import Iterable

from latentops.config import Expectations, nearest
from latentops.data.table import Layout
from latentops.errors import ConfigError


def check_settings(layout: Layout, dataset: str, expectations: Expectations) -> None:
    """Refuse limits on what the data doesn't have: they would be passed over in silence."""
    where = f"datasets.{dataset}.expectations"
    numbers = [name for name, type_ in layout.columns() if type_ in ("numeric", "date")]
    words = [name for name in layout.features if name not in numbers]
    extras = [f".{name}" for name in ("name", "group", "time") if name in layout.extras]
    label = [] if layout.label is None else [layout.label]
    numbers += label if layout.numeric_label else []
    known: dict[str, tuple[Iterable[str], list[str], str]] = {
        "columns": (expectations.columns, numbers, "column of numbers"),
        "categories": (expectations.categories, words, "column of categories"),
        "missing": (expectations.missing, list(layout.features), "column"),
        "unique": (expectations.unique, [*layout.features, *label, *extras, ".row"], "column"),
    }
    for key, (named, there, what) in known.items():
        for name in named:
            if name not in there:
                raise ConfigError(
                    f"{where}.{key}: {layout.kind} data has no {what} {name!r}{nearest(name, there)}"
                )
    if expectations.lengths is not None and layout.kind != "sequence":
        raise ConfigError(f"{where}.lengths: {layout.kind} data has no lengths")
    if expectations.sizes is not None and "height" not in layout.extras:
        raise ConfigError(f"{where}.sizes: only pictures in a folder have sizes of their own")
