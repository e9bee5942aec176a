"""Folders of pictures: a class a subfolder, or all together, in the order of their paths.

PNG, JPEG, BMP, TIFF and WebP of any size and mode become grey or colour of 8 bits: 16 bits are scaled down,
what is transparent is laid over black, colours become grey by ITU-R 601, and a picture is turned as its EXIF
data say.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from latentops.config import Read, Source
from latentops.data.readers import files
from latentops.data.readers.files import Located, assembled, below, check_classes
from latentops.data.table import Extra, Layout, Rows
from latentops.errors import ConfigError, DataError

_FORMATS = {"PNG": ".png", "JPEG": ".jpg .jpeg", "BMP": ".bmp", "TIFF": ".tif .tiff", "WEBP": ".webp"}
_SUFFIXES = {suffix for each in _FORMATS.values() for suffix in each.split()}
_SHOWN = 5  # files that an error names


@dataclass(frozen=True)
class _Row:
    """One row: a picture or a tile of one, [C, H, W], or what is wrong with it."""

    name: str
    label: str | None
    group: str
    pixels: NDArray[np.uint8] | None
    size: tuple[int, int] | None = None  # of the picture as it was, [W, H]
    problem: str | None = None


def read(located: Sequence[Located], source: Source, read: Read) -> Rows:
    """The pictures in each folder, uint8 [C, H, W] of `read.size`, as `read.fit` says.

    `resize`: to exactly that size, smoothed. `crop`: scaled so that the size is covered, and the middle cut
    out. `tile`: cut into tiles, each a row of the picture's group; the last of a row or column is moved
    inwards so that it ends with the picture, and a picture that is smaller is mirrored at its ends. A row's
    group is what the first group of `read.group` finds in its path, and else the picture.
    """
    if read.size is None:
        raise ConfigError("format: images needs size")
    height, width = read.size
    tiled: list[Extra] = ["group"] if read.fit == "tile" else []
    extras = files.extras(source, located, ["name", "height", "width", *tiled])
    layout = Layout(
        "image", (3 if read.colour else 1, height, width), source.label, bytes=True, extras=extras
    )
    pattern = _pattern(read.group)
    return Rows(layout, chain.from_iterable(_parts(file, layout, read, pattern) for file in located))


def _pattern(group: str | None) -> re.Pattern[str] | None:
    try:
        pattern = None if group is None else re.compile(group)
    except re.error as error:
        raise ConfigError(f"read.group: {group!r} is no regular expression: {error}") from None
    if pattern is not None and not pattern.groups:
        raise ConfigError(f"read.group: {group!r} has no group; put what a picture is of in parentheses")
    return pattern


def _parts(file: Located, layout: Layout, read: Read, pattern: re.Pattern[str] | None) -> Iterator[pa.Table]:
    paths = _paths(file.path)
    check_classes(file, paths, layout)
    first, held, most = 0, list[_Row](), layout.part_rows()
    for path in paths:
        held += _rows(file.path, path, layout, read, pattern)
        if len(held) >= most:
            yield _part(file, layout, held, first)
            first, held = first + len(held), []
    if held:
        yield _part(file, layout, held, first)


def _paths(folder: Path) -> list[Path]:
    paths = below(folder)
    others = [path.as_posix() for path in paths if path.suffix.lower() not in _SUFFIXES]
    if others:
        more = ", …" if len(others) > _SHOWN else ""
        raise DataError(
            f"{folder}: {len(others)} files are no pictures ({', '.join(others[:_SHOWN])}{more}); "
            f"move them elsewhere, or make them one of {' '.join(sorted(_SUFFIXES))}"
        )
    return paths


def _part(file: Located, layout: Layout, held: Sequence[_Row], first: int) -> pa.Table:
    columns = {
        ".name": pa.array([row.name for row in held], pa.string()),
        ".group": pa.array([row.group for row in held], pa.string()),
        ".height": pa.array([row.size and row.size[1] for row in held], pa.float64()),
        ".width": pa.array([row.size and row.size[0] for row in held], pa.float64()),
        ".problem": pa.array([row.problem for row in held], pa.string()),
        "pixels": files.pixels([row.pixels for row in held], layout),
    }
    if layout.label is not None:
        columns[layout.label] = pa.array([row.label for row in held], pa.string())
    return assembled(layout, file, columns, len(held), first)


def _rows(
    folder: Path, path: Path, layout: Layout, read: Read, pattern: re.Pattern[str] | None
) -> Iterator[_Row]:
    name = path.as_posix()
    found = pattern.search(name) if pattern is not None else None
    group = name if found is None or found.group(1) is None else found.group(1)
    label = path.parts[0] if len(path.parts) > 1 else None
    label = read.relabel.get(label, label) if label is not None else None
    size = layout.shape[1:]
    try:
        picture = _opened(folder / path, read.colour)
        for place, pixels in _fitted(picture, (size[0], size[1]), read):
            yield _Row(f"{name}{place}", label, group, pixels, picture.size)
    except _UnreadableError as error:
        yield _Row(name, label, group, None, problem=str(error))


class _UnreadableError(Exception):
    """Why a picture can't be read."""


def _opened(path: Path, colour: bool) -> Image.Image:
    """A picture of mode L or RGB."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=list(_FORMATS)) as opened:
                opened.load()
                return _converted(ImageOps.exif_transpose(opened), colour)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        most = Image.MAX_IMAGE_PIXELS or 0
        raise _UnreadableError(f"the picture has more than {most} pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise _UnreadableError("not a picture, or its beginning is damaged") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _UnreadableError(f"the picture is damaged: {' '.join(str(error).split())}") from None


def _converted(picture: Image.Image, colour: bool) -> Image.Image:
    if picture.mode == "F":
        raise _UnreadableError("the picture is of real numbers, whose range isn't known; keep it in an array")
    if picture.mode.startswith("I"):
        values = np.asarray(picture, dtype=np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise _UnreadableError("the picture is of whole numbers outside 0 to 65535; keep it in an array")
        picture = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    if picture.mode not in ("L", "RGB", "1"):
        picture = picture.convert("RGB")  # a palette's greys are colours until then
    return picture.convert("RGB" if colour else "L")


def _fitted(
    picture: Image.Image, size: tuple[int, int], read: Read
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The picture as [C, H, W], or its tiles, each with where in it it is."""
    height, width = size
    smooth = Image.Resampling.BILINEAR
    if read.fit == "resize":
        yield "", _array(picture.resize((width, height), smooth))
    elif read.fit == "crop":
        yield "", _array(ImageOps.fit(picture, (width, height), smooth))
    else:
        whole = _array(picture)
        missing = [max(0, side - there) for side, there in zip(size, whole.shape[1:], strict=True)]
        whole = np.pad(whole, [(0, 0), (0, missing[0]), (0, missing[1])], mode="symmetric")
        for top in _starts(whole.shape[1], height):
            for left in _starts(whole.shape[2], width):
                yield f"[{top},{left}]", whole[:, top : top + height, left : left + width]


def _starts(length: int, tile: int) -> list[int]:
    return [*range(0, length - tile, tile), length - tile]


def _array(picture: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(picture, dtype=np.uint8)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
