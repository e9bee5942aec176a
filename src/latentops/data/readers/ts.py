"""Sequences as the UCR and UEA archives have them: `.ts`, and plain text of a class and then its values."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.config import Read, Source
from latentops.data.readers import files, sequences
from latentops.data.readers.files import Located, Text, opened
from latentops.data.readers.sequences import Steps
from latentops.data.table import Layout, Rows
from latentops.errors import DataError

_MISSING = {"?", "nan"}
_KEYS = {
    "problemname", "timestamps", "missing", "univariate", "dimension", "dimensions", "equallength",
    "serieslength", "classlabel", "targetlabel",
}  # fmt: skip


def read(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The sequences of each file, a line each, whose name ends in `.ts`, or else in `.txt` or `.tsv`.

    A `.ts` line is dimensions between `:`, each values between `,`, then the class. A line of plain text is
    the class, then the values of one dimension; values missing at its end are no steps.
    """
    extras = files.extras(source, located)
    layout = Layout(
        "sequence", (source.channels,), source.label, extras=extras, numeric_label=source.numeric_label
    )
    return Rows(layout, chain.from_iterable(_parts(file, layout, read) for file in located))


def _parts(file: Located, layout: Layout, read: Read) -> Iterator[pa.Table]:
    with opened(file.path) as stream:
        lines = (line.strip() for line in Text(file.path, stream, "utf-8").lines())
        plain = file.path.suffix in (".txt", ".tsv")
        found = _plain(file, lines, layout) if plain else _ts(file, lines, layout)
        yield from sequences.tables(layout, file, found, read.relabel)


@dataclass(frozen=True)
class _Header:
    """What a `.ts` file says of itself."""

    labelled: bool
    classes: list[str]
    length: int | None


def _ts(file: Located, lines: Iterator[str], layout: Layout) -> Iterator[Steps]:
    header = _header(file, lines, layout)
    for line in lines:
        if line and not line.startswith("#"):
            yield _steps(line, header, layout)


def _header(file: Located, lines: Iterator[str], layout: Layout) -> _Header:
    said: dict[str, list[str]] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        key, *values = line.split()
        key = key.lower()
        if key == "@data":
            break
        if not key.startswith("@"):
            raise DataError(f"{file.path}: {line[:40]!r} before @data; is it a .ts file?")
        if key[1:] not in _KEYS:
            raise DataError(f"{file.path}: {key} is no key of a .ts file's header")
        said[key[1:]] = values
    else:
        raise DataError(f"{file.path}: no line @data; is it a .ts file?")
    if _yes(said.get("timestamps")):
        raise DataError(f"{file.path}: its steps have time stamps; write them as format: long, a row a step")
    targeted = _yes(said.get("targetlabel"))
    if targeted and layout.label is not None and not layout.numeric_label:
        raise DataError(f"{file.path}: it has targets, not classes; set source.label_type: numeric")
    dimensions = said.get("dimensions", said.get("dimension", ["1"] if _yes(said.get("univariate")) else []))
    if dimensions and dimensions != [str(layout.shape[0])]:
        raise DataError(
            f"{file.path}: {' '.join(dimensions)} dimensions, but source.channels says {layout.shape[0]}"
        )
    classes = said.get("classlabel", ["false"])
    if layout.label is not None and not layout.numeric_label and not _yes(classes):
        raise DataError(f"{file.path}: it has no classes; set source.label: null")
    if layout.numeric_label and not targeted:
        raise DataError(f"{file.path}: it has no targets; set source.label_type: categorical, or label: null")
    length = said.get("serieslength", [""])[0]
    return _Header(_yes(classes) or targeted, classes[1:], int(length) if length.isdigit() else None)


def _yes(values: list[str] | None) -> bool:
    return bool(values) and values is not None and values[0].lower() == "true"


def _steps(line: str, header: _Header, layout: Layout) -> Steps:
    dimensions = line.split(":")
    label = dimensions.pop().strip() if header.labelled else None
    if len(dimensions) != layout.shape[0]:
        return Steps(None, label, f"{len(dimensions)} dimensions, expected {layout.shape[0]}")
    try:
        each = [numbers(dimension.split(",") if dimension.strip() else []) for dimension in dimensions]
    except ValueError as error:
        return Steps(None, label, str(error))
    lengths = [len(values) for values in each]
    if len(set(lengths)) > 1:
        return Steps(
            None, label, f"dimensions of {', '.join(map(str, lengths))} steps, which must be the same"
        )
    problems = []
    if header.labelled and header.classes and label not in header.classes:
        problems.append(f"class {label!r} is not one of those that the file declares")
    if header.length is not None and lengths[0] != header.length:
        problems.append(f"{lengths[0]} steps, but the file says {header.length}")
    return Steps(np.stack(each, axis=1), label, "; ".join(problems) or None)


def _plain(file: Located, lines: Iterator[str], layout: Layout) -> Iterator[Steps]:
    if layout.shape[0] != 1:
        raise DataError(
            f"{file.path}: plain text has one dimension, but source.channels says {layout.shape[0]}"
        )
    for line in lines:
        if not line:
            continue
        label, *cells = re.split(r"[\s,]+", line)
        while cells and cells[-1].lower() in _MISSING:
            cells.pop()
        try:
            yield Steps(numbers(cells)[:, None], _class(label))
        except ValueError as error:
            yield Steps(None, _class(label), str(error))


def _class(cell: str) -> str:
    """A class that is a whole number by its shortest name: the archive's plain text has 1.0000000e+00."""
    try:
        return str(int(cell)) if "." not in cell else f"{float(cell):g}"
    except ValueError:
        return cell


def numbers(cells: Sequence[str]) -> NDArray[np.float32]:
    """`cells` as numbers, missing ones NaN; `ValueError` names the first that is neither."""
    stripped = [cell.strip() for cell in cells]
    values = np.empty(len(stripped), np.float32)
    for at, cell in enumerate(stripped):
        if cell.lower() in _MISSING:
            values[at] = np.nan
            continue
        try:
            values[at] = float(cell)
        except ValueError:
            raise ValueError(f"step {at}: {cell[:40]!r} is not a number") from None
    return values
