"""What every reader shares: a file that was found, how it is opened, and how its rows become a raw table."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentops.config import Part, Source
from latentops.data import table as tables
from latentops.data.table import EXTRAS, Extra, Layout
from latentops.errors import DataError

CHUNK_BYTES = 2**20
"""Of a text that are decoded at once."""

_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Located:
    """A file or folder of a source: where it lies, what its rows say that they are from, and their part."""

    path: Path
    name: str
    part: Part | None = None


def extras(source: Source, files: Sequence[Located], also: Sequence[Extra] = ()) -> tuple[Extra, ...]:
    """The columns of `EXTRAS` that the rows of `files` have, besides those that the format gives."""
    read = source.read
    there: set[Extra] = {"problem", *also}
    if any(file.part for file in files) or (read is not None and read.part):
        there.add("part")
    if source.group is not None or (read is not None and read.group):
        there.add("group")
    if source.time is not None:
        there.add("time")
    return tuple(name for name in EXTRAS if name in there)


def assembled(
    layout: Layout, file: Located, columns: Mapping[str, pa.Array], rows: int, first: int
) -> pa.Table:
    """A raw table of `rows` rows: `columns` by name; the part is else the file's, and all others missing."""
    given = dict(columns)
    given.setdefault(".part", pa.array([file.part] * rows, pa.string()))
    each = [given.get(field.name, pa.nulls(rows, field.type)) for field in layout.fields()]
    return tables.build(layout, file.name, each, first)


def below(folder: Path) -> list[Path]:
    """The files in a folder and those below it, by path in it.

    Those in whose path a name begins with a dot, and what file managers leave behind, are passed over.
    """
    if not folder.is_dir():
        fault = "not a folder" if folder.exists() else "not found"
        raise DataError(f"{folder}: {fault}; a folder of files is expected there")
    every = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [
        path
        for path in every
        if not any(part.startswith(".") or part.lower() in _LEFT_BEHIND for part in path.parts)
    ]
    if not kept:
        raise DataError(f"{folder}: no files in it")
    return sorted(kept, key=Path.as_posix)


def check_classes(folder: Located, paths: Sequence[Path], layout: Layout) -> None:
    """`DataError` where rows have a label, but no file of a folder is in a subfolder that says which."""
    if layout.label is not None and not any(len(path.parts) > 1 for path in paths):
        raise DataError(
            f"{folder.path}: no subfolder of a class; put the files into one each, or set label: null"
        )


def some(path: Path, parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The `parts` of the file at `path`; `DataError` where there is no row in them."""
    rows = 0
    for part in parts:
        rows += part.num_rows
        yield part
    if not rows:
        raise DataError(f"{path}: no rows")


def problems(found: Mapping[int, Sequence[str]], rows: int) -> pa.Array:
    """The `.problem` of each of `rows` rows, of what was `found` wrong with some."""
    return pa.array(["; ".join(found[row]) if row in found else None for row in range(rows)], pa.string())


def float32(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """`values` as float32; what that doesn't hold is infinite, which validation sees."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def pixels(images: Sequence[NDArray[np.generic] | None], layout: Layout) -> pa.Array:
    """The column of `images`, each of `layout.shape` or flat; None where one is missing."""
    size = prod(layout.shape)
    flat = np.zeros((len(images), size), np.uint8 if layout.bytes else np.float32)
    for row, image in enumerate(images):
        if image is not None:
            flat[row] = image.ravel() if layout.bytes else float32(image.ravel())
    missing = pa.array([image is None for image in images], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), size, mask=missing)


def sequences(values: Sequence[NDArray[np.generic] | None]) -> pa.Array:
    """The column of sequences, each its `values` step after step; None where one is missing."""
    sizes = [0 if each is None else each.size for each in values]
    there = [float32(each.ravel()) for each in values if each is not None]
    flat = np.concatenate([np.empty(0, np.float32), *there])
    missing = pa.array([each is None for each in values], pa.bool_())
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(flat), mask=missing)


def relabelled(labels: pa.Array, relabel: Mapping[str, str]) -> pa.Array:
    """`labels` without blanks around them, those that `relabel` names replaced; an empty one is missing."""
    codes = pc.utf8_trim_whitespace(labels.cast(pa.string())).dictionary_encode()
    names = [relabel.get(name, name) or None for name in codes.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(codes.indices)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if its name ends in `.gz`; `DataError` where they can't be had."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield cast("IO[bytes]", stream)
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a file is expected") from None
    except (EOFError, zlib.error):
        raise DataError(f"{path}: the gzip file ends too early or is damaged; get it again") from None
    except gzip.BadGzipFile:
        raise DataError(f"{path}: not a gzip file; get it again, or drop .gz from its name") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from None


class Text(io.RawIOBase):
    """A text file as UTF-8 bytes, without its first `skip` lines and those that begin with `comment`.

    Reading raises `DataError`, with the byte and the line, where a byte isn't of `encoding` or is NUL, and
    where what should be a text is a web page. `tail` follows the text, on a line of its own.
    """

    def __init__(
        self, path: Path, stream: IO[bytes], encoding: str, skip: int = 0, comment: str = "", tail: str = ""
    ) -> None:
        self._path, self._stream, self._tail = path, stream, tail
        self._chunks = _chunks(path, stream, encoding)
        self._skip, self._comment = skip, comment
        self._ready, self._begins, self._ended, self._newline = b"", True, False, True
        self._passing = False

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all."""
        pieces, have = [self._ready], len(self._ready)
        while not self._ended and (size < 0 or have < size):
            piece = self._next()
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        if size < 0:
            size = len(whole)
        self._ready = whole[size:]
        return whole[:size]

    def lines(self) -> Iterator[str]:
        """The text, line by line, each with its end."""
        left = b""
        while not self._ended:
            *whole, left = (left + self._next()).split(b"\n")
            yield from (line.decode() + "\n" for line in whole)
        if left:
            yield left.decode()

    def _next(self) -> bytes:
        text = next(self._chunks, None)
        if text is None:
            self._ended = True
            return ("" if self._newline else "\n").encode() + self._tail.encode() if self._tail else b""
        if self._skip or self._comment:
            text = "".join(self._kept(text))
        if text:
            self._newline = text.endswith("\n")
        return text.encode()

    def _kept(self, text: str) -> Iterator[str]:
        for line in io.StringIO(text, newline="\n"):
            if self._begins:
                self._passing = self._skip > 0 or bool(self._comment and line.startswith(self._comment))
                self._skip = max(self._skip - 1, 0)
            self._begins = line.endswith("\n")
            if not self._passing:
                yield line


def _chunks(path: Path, stream: IO[bytes], encoding: str) -> Iterator[str]:
    """`stream` decoded a chunk at a time, its line ends as they are and without a byte order mark."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError(f"{path}: no encoding is called {encoding!r}; correct read.encoding") from None
    at, lines, first = 0, 1, True
    while True:
        chunk = stream.read(CHUNK_BYTES)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding, errors="replace").count("\n")
            raise DataError(
                f"{path}: line {lines + before}, byte {at - pending + error.start}: "
                f"0x{error.object[error.start]:02x} is not {encoding}; say its encoding in read.encoding"
            ) from None
        except UnicodeError as error:
            raise DataError(f"{path}: not {encoding}: {error}; say its encoding in read.encoding") from None
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
            if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
                raise DataError(f"{path}: a web page, not data; the download failed: get the file again")
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n")
            raise DataError(
                f"{path}: line {line}: a NUL byte; the file is damaged or of another encoding, such as utf-16"
            )
        lines += text.count("\n")
        at += len(chunk)
        if text:
            yield text
        if not chunk:
            return
