"""What a path holds: from a file or folder to a draft of its source, by looking at it.

What is found out is what a person would write under `source:`; what they say already is taken as said.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latentops.config import ColumnType, File, Kind, Part, Read, Source, nearest
from latentops.data import fetch, readers
from latentops.data.readers import cells, delimited
from latentops.data.readers.files import Located, opened
from latentops.errors import DataError

PICTURES = {".png", ".jpg", ".jpeg"}
LABELS = ("label", "class", "target", "outcome", "diagnosis", "y")
"""Names of columns that are taken for the label's where none is named."""

MISSING = ("?", "NA", "N/A", "NaN", "nan", "null", "NULL")
MISSING_NUMBERS = ("-", "--", ".", "None", "none", "missing", "unknown")
"""What stands for nothing in any column, and in one of numbers."""

_SNIFFED = 2**18  # bytes that delimiter and encoding are told by
_LOOKED_AT = 200_000  # rows that types are told by
_READABLE = 0.99  # share of a column's cells that must be of its type
_CATEGORIES = 1000  # values told apart
_WORDS = 4  # in a cell, from which on it is a text


@dataclass(frozen=True)
class Said:
    """What a person says of their data: names of columns, and of how it is to be read."""

    kind: Kind | None = None
    label: str | None = None
    group: str | None = None
    time: str | None = None
    id: str | None = None
    part: str | None = None
    drop: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    types: dict[str, ColumnType] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    window: int | None = None
    stride: int | None = None
    every: float | None = None
    marks: Path | None = None
    size: tuple[int, int] | None = None
    fit: str | None = None
    same: str | None = None
    label_array: str | None = None


@dataclass(frozen=True)
class Found:
    """A source, and remarks on what was decided: of a column (by its name) or of all (under "")."""

    source: Source
    remarks: dict[str, str]


def detect(path: Path, said: Said) -> Found:
    """The source that the file or folder at `path` is.

    Raises `DataError` where it isn't there or holds nothing that can be read, and where a column that was
    named isn't in it.
    """
    if not path.exists():
        raise DataError(f"{path}: not found")
    if path.is_dir():
        return _folder(path, said)
    names = path.name.lower()
    suffix = Path(names.removesuffix(".gz")).suffix
    if suffix == ".ts":
        return _sequences([(path, None)], said)
    if suffix in (".npy", ".npz"):
        return _arrays(path, said)
    if suffix == ".parquet":
        return _parquet(path, said)
    if re.search(r"idx[13]-ubyte", names):
        raise DataError(f"{path}: idx files come in pairs of images and labels; give the folder they are in")
    if suffix in PICTURES:
        raise DataError(f"{path}: one picture is no dataset; give the folder it is in")
    return _delimited(path, said)


def _folder(path: Path, said: Said) -> Found:
    files = sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))
    suffixes = Counter(each.suffix.lower() for each in files)
    if any(suffixes[suffix] for suffix in PICTURES):
        return _pictures(path, [each for each in files if each.suffix.lower() in PICTURES], said)
    if suffixes[".ts"]:
        return _sequences([(each, _part(each)) for each in files if each.suffix.lower() == ".ts"], said)
    pairs = [each for each in files if re.search(r"idx[13]-ubyte", each.name)]
    if pairs:
        return _idx(pairs, said)
    if suffixes[".csv"] or suffixes[".txt"]:
        return _sequence_files(path, [each for each in files if each.suffix.lower() in (".csv", ".txt")], said)
    kinds = ", ".join(sorted(filter(None, suffixes))) or "nothing"
    raise DataError(f"{path}: holds {kinds}; pictures (PNG, JPEG), .ts, .csv or idx files can be read")


def _part(path: Path) -> Part | None:
    """The official part that a file's name says it is."""
    name = path.stem.lower()
    return "test" if re.search(r"(^|[_-])(test|t10k)", name) else "train" if "train" in name else None


def _file(path: Path, part: Part | None = None) -> File:
    return File(path=fetch.named(path), sha256=fetch.digest(path), part=part)


def _source(kind: Kind, label: str | None, files: list[File], read: Read, **more: object) -> Source:
    section = {"name": "file", "kind": kind, "label": label, "files": files, "read": read, **more}
    return Source.model_validate(section)


def _sized(source: Source, files: Sequence[tuple[Path, File]]) -> Source:
    """`source` with the channels that its rows have."""
    rows = readers.read(files, source.model_copy(update={"channels": 1}))
    return source.model_copy(update={"channels": rows.layout.shape[0]})


def _pictures(path: Path, pictures: list[Path], said: Said) -> Found:
    from PIL import Image, UnidentifiedImageError

    classes = sorted({each.relative_to(path).parts[0] for each in pictures if each.parent != path})
    sizes, colours = [], 0
    for each in pictures[:: max(1, len(pictures) // 200)]:
        try:
            with Image.open(each) as picture:
                sizes.append((picture.height, picture.width))
                colours += picture.mode not in ("1", "L", "LA", "I", "I;16", "F")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            continue
    if not sizes:
        raise DataError(f"{path}: none of its {len(pictures)} pictures can be read")
    height, width = (int(each) for each in np.median(np.array(sizes), axis=0))
    size = said.size or ((height, width) if max(height, width) <= 64 else (32, 32))
    colour = colours > len(sizes) / 2
    fit = {} if said.fit is None else {"fit": said.fit}
    group = {} if said.same is None else {"group": said.same}
    read = Read.model_validate({"format": "images", "size": size, "colour": colour, **fit, **group})
    label = "label" if classes else None
    file = _file(path)
    source = _source("image", label, [file], read, channels=3 if colour else 1, value_range=(0, 255))
    varying = "all" if len(set(sizes)) == 1 else "about"
    return Found(source, {"": f"{len(pictures)} pictures, {varying} {height} × {width}, made {size[0]} × {size[1]}"})


def _idx(files: list[Path], said: Said) -> Found:
    by_part: dict[Part | None, list[Path]] = {}
    for each in files:
        by_part.setdefault(_part(each), []).append(each)
    ordered = []
    for part, pair in by_part.items():
        images, labels = (sorted(each for each in pair if f"idx{n}" in each.name) for n in (3, 1))
        ordered += [(each, part) for both in zip(images, labels, strict=True) for each in both]
    listed = [_file(each, part) for each, part in ordered]
    source = _source("image", "label", listed, Read(format="idx"), value_range=(0, 255))
    return Found(source, {})


def _sequences(files: list[tuple[Path, Part | None]], said: Said) -> Found:
    listed = [_file(path, part) for path, part in files]
    classed = False
    for path, _ in files:
        with opened(path) as stream:
            head = stream.read(_SNIFFED).decode("utf-8", errors="replace").lower()
        classed |= bool(re.search(r"^@classlabel\s+true", head, re.MULTILINE))
    source = _source("sequence", "label" if classed else None, listed, Read(format="ts"))
    return Found(_sized(source, [(path, file) for (path, _), file in zip(files, listed, strict=True)]), {})


def _arrays(path: Path, said: Said) -> Found:
    read, label = Read(format="array"), None
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                shapes = {name: arrays[name].shape for name in arrays.files}
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path}: can't be read as .npz: {error}") from None
        values = max(shapes, key=lambda name: (len(shapes[name]), np.prod(shapes[name])), default=None)
        if values is None:
            raise DataError(f"{path}: holds no array")
        rows = shapes[values][:1]
        labels = said.label_array or next(
            (name for name in shapes if name != values and shapes[name] in (rows, (*rows, 1))), None
        )
        read = Read(format="array", values=values, labels=labels)
        label = None if labels is None else "label"
        shape = shapes[values]
    else:
        try:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path}: can't be read as .npy: {error}") from None
        read = Read(format="array", labels=None)
    kind = said.kind or ("tabular" if len(shape) == 2 else "image")
    file = _file(path)
    bounds = {"value_range": (0, 255)} if kind == "image" else {}
    source = _source(kind, label, [file], read, **bounds)
    rows_ = readers.read([(path, file)], source)
    if kind == "image" and not rows_.layout.bytes:
        low, high = _bounds(rows_.parts)
        source = source.model_copy(update={"value_range": (low, high)})
    if kind != "tabular":
        source = source.model_copy(update={"channels": rows_.layout.shape[0]})
    return Found(source, {"": f"an array of shape {list(shape)}"})


def _bounds(parts: Iterator[pa.Table] | Sequence[pa.Table]) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for part in parts:
        values = pc.list_flatten(part.column("pixels").combine_chunks())
        found = pc.min_max(values).as_py()
        low, high = min(low, found["min"]), max(high, found["max"])
    return float(low), float(high) if high > low else float(low) + 1


def _delimited(path: Path, said: Said) -> Found:
    """A table, texts, or a long series in a text file."""
    with opened(path) as stream:
        begins = stream.read(_SNIFFED)
    if not begins.strip():
        raise DataError(f"{path}: empty")
    encoding = _encoding(begins)
    lines = begins.decode(encoding, errors="replace").removeprefix("\ufeff").splitlines()
    if len(begins) == _SNIFFED:
        lines = lines[:-1]
    delimiter = _delimiter(lines)
    if delimiter is None:
        if said.label or said.text or said.id or said.time:
            raise DataError(f"{path}: has one column only, no delimiter among , ; tab |")
        return Found(_source("text", None, [_file(path)], Read(format="lines", encoding=encoding)), {"": "a text a line"})
    rows = list(csv.reader(io.StringIO("\n".join(lines[:1000])), delimiter=delimiter))
    first = [cell.strip() for cell in rows[0]]
    named = len(set(first)) == len(first) and all(first) and not any(map(_is_number, first))
    options: dict[str, object] = {"format": "csv", "delimiter": delimiter, "encoding": encoding}
    if not named:
        options["header"] = [f"c{at + 1}" for at in range(len(first))]
    body = rows[named:]
    if delimiter != "," and _commas(body):
        options["decimal"] = ","
    read = Read.model_validate(options)
    return _table(path, said, read, delimited.header(Located(path, path.name), read))


def _encoding(begins: bytes) -> str:
    if begins.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        begins.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut off by the end of what was read is no fault.
        return "utf-8" if error.start > len(begins) - 4 and len(begins) == _SNIFFED else "latin-1"
    return "utf-8"


def _delimiter(lines: Sequence[str]) -> str | None:
    """That which cuts the lines into most equal rows, of at least two cells."""
    best, most = None, 1
    for delimiter in (",", ";", "\t", "|"):
        counts = Counter(len(row) for row in csv.reader(lines[:200], delimiter=delimiter) if row)
        width, rows = counts.most_common(1)[0] if counts else (1, 0)
        if width > most and rows >= 0.8 * counts.total():
            best, most = delimiter, width
    return best


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _commas(rows: Sequence[Sequence[str]]) -> bool:
    """Whether numbers are written with a decimal comma."""
    return sum(bool(re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell)) for row in rows for cell in row) > sum(
        bool(re.fullmatch(r"\s*[+-]?\d+\.\d+\s*", cell)) for row in rows for cell in row
    )


@dataclass
class _Column:
    """What a column's cells could be, as far as they were looked at."""

    cells: int = 0
    unread: dict[ColumnType, int] = field(default_factory=lambda: {"numeric": 0, "boolean": 0, "date": 0})
    counts: Counter[str] = field(default_factory=Counter)
    words: int = 0
    capped: bool = False

    def type(self) -> ColumnType:
        for type_ in ("boolean", "numeric", "date"):
            readable = self.cells and self.unread[type_] <= (1 - _READABLE) * self.cells
            if readable and (type_ != "boolean" or len(self.counts) == 2):
                return type_
        return "categorical"

    @property
    def wordy(self) -> bool:
        return bool(self.cells) and self.words >= _WORDS * self.cells


def _table(path: Path, said: Said, read: Read, names: list[str]) -> Found:
    for name in [said.label, said.group, said.time, said.id, said.part, *said.drop, *said.text, *said.values]:
        if name is not None and name not in names:
            raise DataError(f"{path}: no column {name!r}{nearest(name, names)}")
    label = said.label or next((name for name in names if name.lower() in LABELS), None)
    apart = {label, said.group, said.time, said.id, said.part, *said.drop}
    looked_at = [name for name in names if name not in apart]
    columns, missing = _looked_at(path, looked_at, names, read, said)
    file = _file(path)
    options = read.model_dump(exclude_defaults=True) | {"format": read.format}
    if missing:
        options["missing"] = missing
    if said.part is not None:
        options["part"] = said.part
    remarks: dict[str, str] = {}
    places = {"group": said.group, "time": said.time}
    given = {key: name for key, name in places.items() if name is not None}

    text = list(said.text)
    if not text and said.kind in (None, "text") and said.id is None:
        wordy = [name for name in looked_at if columns[name].wordy]
        if wordy and (said.kind == "text" or not any(columns[n].type() == "numeric" for n in looked_at)):
            text = wordy
    if text:
        drop = [name for name in names if name not in {label, said.group, said.time, said.part, *text}]
        found = _source("text", label, [file], Read.model_validate(options), text=text, drop=drop, **given)
        return Found(found, {"": f"texts: {', '.join(text)}"})

    numbers = [name for name in looked_at if columns[name].type() == "numeric"]
    time = said.time or next(
        (name for name in looked_at if columns[name].type() == "date" and len(looked_at) - 1 == len(numbers)), None
    )
    if said.id is not None or said.window is not None or (time and said.kind == "sequence"):
        values = list(said.values) or [name for name in numbers if name != time]
        drop = [name for name in names if name not in {label, said.group, time, said.id, said.part, *values}]
        more = {**given, **({"time": time} if time else {}), "values": values, "drop": drop}
        if said.id is not None:
            options |= {"format": "long", "id": said.id}
            return Found(_source("sequence", label, [file], Read.model_validate(options), channels=len(values), **more), {})
        return _series(path, file, options, label, more, said)

    types: dict[str, ColumnType] = {}
    drop = list(said.drop)
    for name in looked_at:
        column = columns[name]
        types[name] = said.types.get(name) or column.type()
        if len(column.counts) <= 1 and not column.capped and name not in said.types:
            remarks[name] = "constant" if column.cells else "empty"
        elif name not in said.types and _identifies(column, types[name]):
            remarks[name] = "a different value in each row"
        else:
            continue
        drop.append(name)
        del types[name]
    if not types:
        raise DataError(f"{path}: no column is left that tells rows apart; say with --type what one is")
    found = _source("tabular", label, [file], Read.model_validate(options), columns=types, drop=drop, **given)
    return Found(found, remarks)


def _identifies(column: _Column, type_: ColumnType) -> bool:
    """Whether a column is but a name or a number of each row."""
    if column.cells < 20 or column.counts and max(column.counts.values()) > 1:
        return False
    if type_ == "categorical":
        return column.capped or len(column.counts) == column.cells
    if type_ != "numeric" or not all(re.fullmatch(r"\d+", cell) for cell in column.counts):
        return False
    seen = [int(cell) for cell in column.counts]
    return all(later - earlier == 1 for earlier, later in zip(seen, seen[1:], strict=False))


def _looked_at(
    path: Path, looked_at: Sequence[str], names: Sequence[str], read: Read, said: Said
) -> tuple[dict[str, _Column], list[str]]:
    """What each column could be, and what stands for nothing in them."""
    columns = {name: _Column() for name in looked_at}
    tried = read.model_copy(update={"missing": [*MISSING, *said.missing]})
    for_numbers = read.model_copy(update={"missing": [*MISSING, *MISSING_NUMBERS, *said.missing]})
    markers: Counter[str] = Counter()
    seen = 0
    for part in _parts(path, read, names):
        for name, column in columns.items():
            texts = part.text(name, read)
            for each in pc.value_counts(texts).to_pylist():
                cell, count = each["values"], each["counts"]
                if cell is None:
                    continue
                if cell in tried.missing:
                    markers[cell] += count
                    continue
                column.cells += count
                column.words += count * len(cell.split())
                if cell in column.counts or len(column.counts) < _CATEGORIES:
                    column.counts[cell] += count
                else:
                    column.capped = True
            for type_ in column.unread:
                alone = replace(part, by_name={name: part.by_name[name]}, wrong={})
                alone.typed(name, type_, for_numbers if type_ == "numeric" else tried)
                column.unread[type_] += len(alone.wrong)
        seen += part.rows
        if seen >= _LOOKED_AT:
            break
    for name, column in columns.items():
        if column.type() == "numeric":
            for marker in MISSING_NUMBERS:
                markers[marker] += column.counts.pop(marker, 0)
    return columns, [*said.missing, *(marker for marker in (*MISSING, *MISSING_NUMBERS) if markers[marker])]


def _parts(path: Path, read: Read, names: Sequence[str]) -> Iterator[cells.Columns]:
    return delimited.parts(Located(path, path.name), read, names)


def _series(
    path: Path, file: File, options: dict[str, object], label: str | None, more: dict[str, object], said: Said
) -> Found:
    time = more.get("time")
    if time is None:
        raise DataError(f"{path}: a long series needs its column of times; name it with --time")
    moments: list[float] = []
    read = Read.model_validate(options)
    for part in _parts(path, read, delimited.header(Located(path, path.name), read)):
        moments += part.times(str(time), read).drop_null().to_pylist()
        if len(moments) > _LOOKED_AT:
            break
    steps = np.diff(np.array(moments))
    every = said.every or (float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0)
    window = said.window or 48
    kept = {key: value for key, value in options.items() if key not in ("relabel", "part")}
    kept |= {"format": "series", "window": window, "stride": said.stride or max(1, window // 2), "every": every}
    if said.marks is not None:
        kept["marks"] = _file(said.marks)
        label = "label"
    drop = [name for name in (more["drop"], ) for name in name if name != label] if label else more["drop"]
    source = _source(
        "sequence",
        label,
        [file],
        Read.model_validate(kept),
        channels=len(more["values"]),  # type: ignore[arg-type]
        **{**more, "drop": drop},
    )
    return Found(source, {"": f"a series, a step every {every:g} s, in windows of {window} steps"})


def _parquet(path: Path, said: Said) -> Found:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: can't be read as Parquet: {str(error).splitlines()[0]}") from None
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if not nested:
        return _table(path, said, Read(format="parquet"), schema.names)
    label = said.label or next((name for name in schema.names if name.lower() in LABELS), None)
    kind = said.kind or "sequence"
    file = _file(path)
    bounds = {"value_range": (0, 255)} if kind == "image" else {}
    drop = [name for name in schema.names if name not in {label, said.group, said.time, nested[0]}]
    source = _source(kind, label, [file], Read(format="parquet"), drop=drop, **bounds)
    return Found(_sized(source, [(path, file)]), {})


def _sequence_files(path: Path, files: list[Path], said: Said) -> Found:
    classes = {each.relative_to(path).parts[0] for each in files if each.parent != path}
    with opened(files[0]) as stream:
        begins = stream.read(_SNIFFED)
    encoding = _encoding(begins)
    lines = begins.decode(encoding, errors="replace").removeprefix("\ufeff").splitlines()
    read = Read.model_validate({"format": "folder", "delimiter": _delimiter(lines) or ",", "encoding": encoding})
    names = delimited.header(Located(files[0], files[0].name), read)
    if any(map(_is_number, names)):
        read = read.model_copy(update={"header": [f"c{at + 1}" for at in range(len(names))]})
        names = read.header
    values = list(said.values) or [name for name in names if name not in {said.time, *said.drop}]
    drop = [name for name in names if name not in {said.time, *values}]
    time = {} if said.time is None else {"time": said.time}
    source = _source(
        "sequence",
        "label" if classes else None,
        [_file(path)],
        read,
        channels=len(values),
        values=values,
        drop=drop,
        **time,
    )
    return Found(source, {"": f"{len(files)} files, a sequence each"})
