"""From files to rows, one module a family of formats.

No row is lost: what can't be read of one is missing, and its `.problem` says why. Only what is wrong with a
file as a whole stops the reading, with a `DataError`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from latentops.config import ColumnType, File, Format, Read, Source
from latentops.data.readers import arrays, delimited, images, lines, long, parquet, series, ts
from latentops.data.readers.files import Located
from latentops.data.table import Layout, Rows
from latentops.errors import ConfigError, DataError

FORMATS: dict[Format, Callable[[Sequence[Located], Source, Read], Rows]] = {
    "csv": delimited.read,
    "parquet": parquet.read,
    "array": arrays.read,
    "idx": arrays.read_idx,
    "cifar": arrays.read_cifar,
    "images": images.read,
    "ts": ts.read,
    "long": long.read,
    "series": series.read,
    "folder": long.read_folder,
    "lines": lines.read,
}


def read(located: Sequence[tuple[Path, File]], source: Source, marks: Path | None = None) -> Rows:
    """The rows of a source's files, in their order, each file with the place where it lies.

    `marks` is the place of `read.marks`, where there are some.

    Raises `DataError`, some of it only as the rows are gone through, where a file as a whole can't be read,
    isn't what `source` says, or has no rows.
    """
    if source.read is None:
        raise ConfigError(f"source {source.name!r} doesn't say how its files are read; add read")
    files = _named(located)
    if marks is not None:
        return series.read(files, source, source.read, marks)
    return FORMATS[source.read.format](files, source, source.read)


def read_table(path: Path, layout: Layout, source: Source) -> pa.Table:
    """All rows of a CSV file that came in, as `read_table_parts` has them.

    Raises as that does, and for a cell that can't be read where the layout has no column for problems.
    """
    rows = pa.concat_tables(read_table_parts(path, layout, source)).combine_chunks()
    if "problem" in layout.extras:
        return rows
    for row, problem in enumerate(rows.column(".problem").to_pylist()):
        if problem is not None:
            raise DataError(f"{path}: row {row}: {problem}")
    return rows.drop_columns([".problem"]).cast(layout.schema())


def read_table_parts(path: Path, layout: Layout, source: Source) -> Iterator[pa.Table]:
    """Rows of `layout`, with a column for problems, in a CSV file that came in, some at a time.

    Its columns are those that `source` has, read as its own are; those that say where a row belongs may be
    left out, and of texts a column `text` may take the place of those that make up one. Raises as `read`
    does.
    """
    number: ColumnType = "numeric"
    own = (
        source
        if source.columns
        else source.model_copy(update={"columns": dict.fromkeys(layout.features, number)})
    )
    how = source.read if source.read is not None and source.read.format == "csv" else Read(format="csv")
    return delimited.incoming(Located(path, path.name), layout.with_problems(), own, how)


def _named(located: Sequence[tuple[Path, File]]) -> list[Located]:
    """The files, named as they are called, or by all of their path where two are called the same."""
    names = [Path(file.path).name for _, file in located]
    if len(set(names)) < len(names):
        names = [file.path for _, file in located]
    return [Located(path, name, file.part) for (path, file), name in zip(located, names, strict=True)]
