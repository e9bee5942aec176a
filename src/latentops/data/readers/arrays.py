"""Arrays in files: NumPy's `.npy` and `.npz`, MNIST's idx, CIFAR-10's binary records."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.config import ColumnType, Read, Source, nearest
from latentops.data.readers import cells, files
from latentops.data.readers.cells import Columns
from latentops.data.readers.files import Located, opened
from latentops.data.table import Layout, Rows
from latentops.errors import DataError

_IDX = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CIFAR = (3, 32, 32)
_LARGEST = 2**31  # values of an image


def read(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The rows of `.npy` files, mapped, or of the arrays `read.values` and `read.labels` in `.npz` files.

    A table is [n, D] (its columns are those that `source` names, else `x0`, `x1`, …); images are [n, H, W],
    [n, C, H, W] or [n, H, W, C]; sequences [n, T] or [n, T, C], and steps at the end that are all NaN are no
    steps. Pickled arrays are refused: to read one may run any code.
    """
    values, _ = _loaded(located[0], source, read)
    layout = _layout(located, source, values)
    return Rows(layout, chain.from_iterable(_arrays(file, layout, source, read) for file in located))


def _arrays(file: Located, layout: Layout, source: Source, read: Read) -> Iterator[pa.Table]:
    values, labels = _loaded(file, source, read)
    if _sample_shape(file.path, values, source)[0] != layout.shape:
        raise DataError(f"{file.path}: its rows are {list(values.shape[1:])}, those of others {layout.shape}")
    for first in range(0, len(values), layout.part_rows()):
        part = slice(first, first + layout.part_rows())
        names = None if labels is None else _names(labels[part])
        yield _table(file, layout, source, read, values[part], names, first)


def _loaded(
    file: Located, source: Source, read: Read
) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """The values [n, …] of a file, and the labels [n] where `source` has one."""
    path = file.path
    with _reading(path):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            if source.label is not None:
                raise DataError(
                    f"{path}: an .npy file has no labels; put both into an .npz, or set label: null"
                )
            values, labels = found, None
        else:
            with found:
                values = _member(found, read.values, "values", path)
                labels = None
                if source.label is not None and read.labels is not None:
                    labels = _member(found, read.labels, "labels", path)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: its values are {values.dtype}, not real numbers")
    if values.ndim == 0 or not values.size:
        raise DataError(f"{path}: no rows")
    return values, None if labels is None else _checked(labels, values, read, path)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each array in an `.npz` file by its name, or of the one in an `.npy` file, called ``."""
    with _reading(path):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found.shape}
        with found:
            return {name: found[name].shape for name in found.files}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """`DataError` for whatever NumPy raises of a file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except DataError:
        raise
    except Exception as error:  # of damaged bytes NumPy's parsers raise whatever they come upon
        if _pickled(path, str(error)):
            raise DataError(
                f"{path}: holds pickled objects, which aren't read, as they may run any code; "
                "save it again with a dtype of numbers, as np.save(path, x.astype(float)) does"
            ) from None
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a NumPy file, or damaged ({reason}); get it again") from None


def _checked(
    labels: NDArray[np.generic], values: NDArray[np.generic], read: Read, path: Path
) -> NDArray[np.generic]:
    """The labels [n] of `values` [n, …]."""
    labels = labels.ravel() if labels.shape == (len(values), 1) else labels
    if labels.shape != values.shape[:1]:
        raise DataError(
            f"{path}: {read.values} is {list(values.shape)} and {read.labels} is {list(labels.shape)}; "
            "a label a row is expected"
        )
    if labels.dtype.kind not in "biufUS":
        raise DataError(f"{path}: its labels are {labels.dtype}, neither numbers nor text")
    return labels


def _pickled(path: Path, error: str) -> bool:
    """Whether that is why NumPy gave the `error`, which it says of whatever it doesn't know."""
    with path.open("rb") as stream:
        begins = stream.read(6)
    known = begins.startswith((b"\x93NUMPY", b"PK", b"\x80"))
    return known and ("pickle" in error or "Python objects" in error)


def _member(found: Mapping[str, NDArray[np.generic]], name: str, key: str, path: Path) -> NDArray[np.generic]:
    if name not in found:
        raise DataError(f"{path}: no array {name!r}{nearest(name, list(found))}; correct read.{key}")
    return found[name]


def _layout(located: Sequence[Located], source: Source, values: NDArray[np.generic]) -> Layout:
    shape, _ = _sample_shape(located[0].path, values, source)
    extras = files.extras(source, located)
    if source.kind == "tabular":
        number: ColumnType = "numeric"
        columns = source.columns or {f"x{at}": number for at in range(shape[0])}
        return cells.layout(source.model_copy(update={"columns": columns}), located)
    in_bytes = source.kind == "image" and values.dtype == np.uint8
    return Layout(
        source.kind,
        shape,
        source.label,
        bytes=in_bytes,
        extras=extras,
        numeric_label=source.numeric_label,
    )


def _sample_shape(path: Path, values: NDArray[np.generic], source: Source) -> tuple[tuple[int, ...], bool]:
    """The shape of a layout for such `values`, and whether their channels come last and have to be moved."""
    shape = values.shape[1:]
    if source.kind == "tabular" and len(shape) <= 1:
        width = prod(shape)
        if source.columns and len(source.columns) != width:
            raise DataError(f"{path}: {width} columns, but source.columns names {len(source.columns)}")
        return (width,), False
    if source.kind == "sequence" and len(shape) in (1, 2):
        return (shape[1] if len(shape) == 2 else 1,), False
    if source.kind == "image" and len(shape) == 2:
        return (1, *shape), False
    if source.kind == "image" and len(shape) == 3:
        if shape[0] == source.channels:
            return shape, False
        if shape[2] == source.channels:
            return (shape[2], shape[0], shape[1]), True
        raise DataError(
            f"{path}: an array {list(values.shape)} has {shape[0]} channels first or {shape[2]} last, but "
            f"source.channels says {source.channels}"
        )
    raise DataError(f"{path}: an array {list(values.shape)} doesn't hold rows of kind: {source.kind}")


def _table(
    file: Located,
    layout: Layout,
    source: Source,
    read: Read,
    values: NDArray[np.generic],
    labels: pa.Array | None,
    first: int,
) -> pa.Table:
    """A raw table of `values` [n, …]."""
    rows = len(values)
    by_name = {} if layout.label is None or labels is None else {layout.label: labels}
    if layout.kind == "tabular":
        flat = values.reshape(rows, -1)
        flat = flat.astype(np.float64 if flat.dtype.kind == "f" else flat.dtype.newbyteorder("="))
        by_name |= {
            name: pa.array(np.ascontiguousarray(flat[:, at])) for at, name in enumerate(layout.features)
        }
        return cells.rows(Columns(by_name, rows, first), layout, source, read, file)
    sample: dict[str, pa.Array] = {}
    if layout.kind == "image":
        if _sample_shape(file.path, values, source)[1]:
            values = values.transpose(0, 3, 1, 2)
        sample["pixels"] = files.pixels(list(values), layout)
    else:
        steps = values.reshape(rows, values.shape[1], -1)
        there = ~np.isnan(steps).all(axis=2)
        lengths = np.where(there, np.arange(1, steps.shape[1] + 1), 0).max(axis=1, initial=0)
        sample["values"] = files.sequences([each[:end] for each, end in zip(steps, lengths, strict=True)])
    return cells.rows(Columns(by_name, rows, first), layout, source, read, file, sample)


def _names(labels: NDArray[np.generic]) -> pa.Array:
    """Labels as text; whole numbers without a point, also where they are floats."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels.astype(np.bytes_), "utf-8", errors="replace")
    if labels.dtype.kind == "f":
        return pa.array([None if np.isnan(each) else f"{each:.17g}" for each in labels.tolist()], pa.string())
    if labels.dtype.kind == "b":
        return pa.array([str(each).lower() for each in labels.tolist()])
    return pa.array([str(each) for each in labels.tolist()])


def read_idx(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The images of idx files, each followed by the file of their labels where `source` has one."""
    step = 1 if source.label is None else 2
    if len(located) % step:
        raise DataError(
            f"{located[-1].path}: without a file of labels; list files as images, labels, images, …"
        )
    shape, dtype = _image_header(located[0])
    values = np.empty((0, *shape[1:]), dtype)
    layout = _layout(located, source, values)
    pairs = zip(located[::step], located[1::step] if step == 2 else [None] * len(located), strict=True)
    return Rows(layout, chain.from_iterable(_idx(*pair, layout, source, read) for pair in pairs))


def _idx_header(file: Located) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the array in an idx file."""
    with opened(file.path) as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX:
            raise DataError(f"{file.path}: begins with {magic!r}, which no idx file does; get it again")
        rest = stream.read(4 * magic[3])
    if len(rest) < 4 * magic[3]:
        raise DataError(f"{file.path}: ends within its header; get it again")
    return struct.unpack(f">{magic[3]}I", rest), np.dtype(_IDX[magic[2]])


def _image_header(file: Located) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    shape, dtype = _idx_header(file)
    if len(shape) not in (3, 4):
        raise DataError(
            f"{file.path}: an array {list(shape)} where images are expected; list files as images, labels, "
            "images, …"
        )
    if not 0 < prod(shape[1:]) < _LARGEST:
        raise DataError(f"{file.path}: its header says images of {list(shape[1:])}; get it again")
    return shape, dtype


def _idx_parts(file: Located, rows: int) -> Iterator[NDArray[np.generic]]:
    """The array in an idx file, `rows` rows at a time."""
    shape, dtype = _idx_header(file)
    size = prod(shape[1:]) * dtype.itemsize
    with opened(file.path) as stream:
        stream.read(4 + 4 * len(shape))
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            data = stream.read(count * size)
            if len(data) < count * size:
                raise DataError(
                    f"{file.path}: ends after {first + len(data) // size} of {shape[0]} rows; get it again"
                )
            part = np.frombuffer(data, dtype).reshape(count, *shape[1:])
            yield part.astype(dtype.newbyteorder("="))
        if stream.read(1):
            raise DataError(f"{file.path}: goes on after its {shape[0]} rows; get it again")


def _idx(
    images: Located, labels: Located | None, layout: Layout, source: Source, read: Read
) -> Iterator[pa.Table]:
    shape, _ = _image_header(images)
    if not shape[0]:
        raise DataError(f"{images.path}: no rows")
    if _sample_shape(images.path, np.empty((0, *shape[1:])), source)[0] != layout.shape:
        raise DataError(f"{images.path}: its images are {list(shape[1:])}, those of others {layout.shape}")
    rows = layout.part_rows()
    classes: Iterator[NDArray[np.generic]] | None = None
    if labels is not None:
        count, _ = _idx_header(labels)
        if count != shape[:1]:
            raise DataError(
                f"{labels.path}: an array {list(count)} where {shape[0]} labels are expected, one for each "
                f"image in {images.path}"
            )
        classes = _idx_parts(labels, rows)
    first = 0
    for part in _idx_parts(images, rows):
        names = None if classes is None else _names(next(classes))
        yield _table(images, layout, source, read, part, names, first)
        first += len(part)


def read_cifar(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The records of CIFAR-10's binary version: a byte that is the class, then 3 × 32 × 32 bytes."""
    extras = files.extras(source, located)
    layout = Layout("image", _CIFAR, source.label, bytes=True, extras=extras)
    return Rows(layout, chain.from_iterable(_records(file, layout, source, read) for file in located))


def _records(file: Located, layout: Layout, source: Source, read: Read) -> Iterator[pa.Table]:
    size, first = 1 + prod(_CIFAR), 0
    with opened(file.path) as stream:
        while data := stream.read(layout.part_rows() * size):
            if len(data) % size:
                raise DataError(
                    f"{file.path}: {first * size + len(data)} bytes are no whole number of records of "
                    f"{size}; is it CIFAR-10's binary version, and whole?"
                )
            records = np.frombuffer(data, np.uint8).reshape(-1, size)
            values = records[:, 1:].reshape(-1, *_CIFAR)
            yield _table(file, layout, source, read, values, _names(records[:, 0]), first)
            first += len(records)
    if not first:
        raise DataError(f"{file.path}: no rows")
