"""What a path holds: from a file or folder to a draft of its source, by looking at it.

What is found out is what a person would write under `source:`; what they say already is taken as said.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, TypeAdapter, ValidationError

from latentops.config import (
    ColumnType,
    Count,
    File,
    Format,
    Kind,
    LabelType,
    Part,
    Read,
    Source,
    nearest,
    parse,
)
from latentops.data import column_types, dates, fetch, readers
from latentops.data import table as tables
from latentops.data.dialect import beginning, dialect, encoding_of, is_number
from latentops.data.readers import arrays, delimited
from latentops.data.readers.cells import Columns
from latentops.data.readers.files import Located
from latentops.errors import DataError

PICTURES = {".png", ".jpg", ".jpeg"}
LABELS = ("label", "class", "target", "outcome", "diagnosis", "y")
"""Names of columns that are taken for the label's where none is named, the surest first."""

WINDOW = 48
"""Steps of a long series' windows, unless said."""

_BATCH = 2**16  # rows of a Parquet file
_CHANNELS = 4  # that pictures have at most

_TABLE = {"label", "group", "time", "part", "drop", "types", "dates", "missing", "text"}
_TAKES: dict[Format, set[str]] = {
    "csv": _TABLE,
    "parquet": _TABLE,
    "long": (_TABLE - {"text"}) | {"id", "values"},
    "series": {"time", "drop", "types", "dates", "missing", "values", "window", "stride", "every", "marks"},
    "folder": {"time", "dates", "drop", "values"},
    "array": {"label"},
    "images": {"size", "fit", "same"},
    "idx": set(),
    "ts": set(),
    "lines": set(),
}
"""What can be said of each format, besides its kind."""


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
    dates: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    window: Count | None = None
    stride: Count | None = None
    every: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    marks: Path | None = None
    size: tuple[Count, Count] | None = None
    fit: str | None = None
    same: str | None = None


def said(given: Mapping[str, object]) -> Said:
    """What was said, by name; `DataError` where it can't be meant."""
    try:
        return TypeAdapter(Said).validate_python(
            {key: value for key, value in given.items() if value is not None}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        where = " ".join(map(str, problem["loc"]))
        raise DataError(f"--{where}: {problem['msg']}, not {problem['input']!r}") from None


@dataclass(frozen=True)
class Found:
    """A source, and remarks on what was decided: of a column (by its name) or of all (under "")."""

    source: Source
    remarks: dict[str, str]


def detect(path: Path, said: Said) -> Found:
    """The source that the file or folder at `path` is.

    Raises `DataError` where it isn't there or holds nothing that can be read, and where a column that was
    named isn't in it or what was said means nothing to it, `ConfigError` where no source can be like that.
    """
    if not path.exists():
        raise DataError(f"{path}: not found")
    found = _looked_at(path, said)
    read, kind = found.source.read, found.source.kind
    if read is None or said.kind not in (None, kind):
        raise DataError(f"{path}: holds {kind} data, but --kind says {said.kind}")
    takes = {"kind", *_TAKES[read.format]}
    for each in fields(said):
        if getattr(said, each.name) != getattr(Said(), each.name) and each.name not in takes:
            options = ", ".join(_option(name) for name in sorted(takes))
            raise DataError(
                f"{path}: {_option(each.name)} means nothing to it: read as {read.format}, it takes {options}"
            )
    return found


def _option(name: str) -> str:
    return "--type" if name == "types" else f"--{name}"


def _looked_at(path: Path, said: Said) -> Found:
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
        return _sequence_files(
            path, [each for each in files if each.suffix.lower() in (".csv", ".txt")], said
        )
    kinds = ", ".join(sorted(filter(None, suffixes))) or "nothing"
    raise DataError(f"{path}: holds {kinds}; pictures (PNG, JPEG), .ts, .csv or idx files can be read")


def _part(path: Path) -> Part | None:
    """The official part that a file's name says it is."""
    name = path.stem.lower()
    return "test" if re.search(r"(^|[_-])(test|t10k)", name) else "train" if "train" in name else None


def _file(path: Path, part: Part | None = None) -> File:
    return File(path=fetch.named(path), sha256=fetch.digest(path), part=part)


def _label_type(
    path: Path, label: str, parts: Iterable[Columns], read: Read, said: Said
) -> tuple[LabelType, list[str]]:
    """What is said of a label, or else what its cells are; and what stands for nothing in one of numbers."""
    looked, missing = column_types.look(parts, [label], read)
    type_ = said.types.get(label, "numeric" if looked[label].measured else "categorical")
    if type_ == "numeric":
        return type_, missing
    if type_ != "categorical":
        raise DataError(f"{path}: --type {label}={type_}: a label is categorical or numeric")
    return type_, list(read.missing)


def _source(kind: Kind, label: str | None, files: list[File], read: Read, **more: object) -> Source:
    section = {"name": "file", "kind": kind, "label": label, "files": files, "read": read, **more}
    return parse(Source, section, files[0].path)


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
    read = parse(Read, {"format": "images", "size": size, "colour": colour, **fit, **group}, str(path))
    label = "label" if len(classes) > 1 else None
    file = _file(path)
    source = _source("image", label, [file], read, channels=3 if colour else 1, value_range=(0, 255))
    varying = "all" if len(set(sizes)) == 1 else "about"
    return Found(
        source, {"": f"{len(pictures)} pictures, {varying} {height} × {width}, made {size[0]} × {size[1]}"}
    )


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
    head, _, data = beginning(files[0][0]).decode("utf-8", errors="replace").partition("@data")
    told = re.search(r"^@(class|target)label\s+true", head, re.MULTILINE | re.IGNORECASE)
    channels = max(1, len(data.strip().partition("\n")[0].split(":")) - bool(told))
    listed = [_file(path, part) for path, part in files]
    label = "label" if told else None
    type_ = "numeric" if told and told[1].lower() == "target" else "categorical"
    read = Read(format="ts")
    source = _source("sequence", label, listed, read, label_type=type_, channels=channels)
    return Found(source, {"": f"sequences of {channels} channels"})


def _arrays(path: Path, said: Said) -> Found:
    shapes = arrays.shapes(path)
    values = max(shapes, key=lambda name: (len(shapes[name]), np.prod(shapes[name])), default=None)
    if values is None:
        raise DataError(f"{path}: holds no array")
    shape = shapes[values]
    rows = shape[:1]
    labels = said.label or next(
        (name for name in shapes if name != values and shapes[name] in (rows, (*rows, 1))), None
    )
    read = Read(format="array", values=values, labels=labels) if values else Read(format="array", labels=None)
    kind = said.kind or ("tabular" if len(shape) == 2 else "image")
    file = _file(path)
    bounds = {"value_range": (0, 255)} if kind == "image" else {}
    channels = 1
    if kind == "image" and len(shape) == 4:  # first, unless they can but be last
        channels = shape[3] if shape[3] <= _CHANNELS < shape[1] else shape[1]
    label = None if labels is None else "label"
    source = _source(kind, label, [file], read, channels=channels, **bounds)
    if label is not None:
        cells = (
            Columns({label: tables.whole(part.column(label))}, part.num_rows, 0)
            for part in readers.read([(path, file)], source).parts
        )
        type_, _ = _label_type(path, label, cells, read, said)
        source = source.model_copy(update={"label_type": type_})
    rows_ = readers.read([(path, file)], source)
    if kind == "image" and not rows_.layout.bytes:
        source = source.model_copy(update={"value_range": _bounds(path, rows_.parts)})
    if kind != "tabular":
        source = source.model_copy(update={"channels": rows_.layout.shape[0]})
    others = [name for name in shapes if name not in (values, labels)]
    remark = f"; not read: {', '.join(others)}" if others else ""
    return Found(source, {"": f"an array of shape {list(shape)}{remark}"})


def _bounds(path: Path, parts: Iterable[pa.Table]) -> tuple[float, float]:
    """The least and greatest of the pixels that are numbers."""
    low, high = np.inf, -np.inf
    for part in parts:
        values = pc.list_flatten(part.column("pixels").combine_chunks())
        found = pc.min_max(values.filter(pc.is_finite(values))).as_py()
        if found["min"] is not None:
            low, high = min(low, found["min"]), max(high, found["max"])
    if low > high:
        raise DataError(f"{path}: none of its values is a finite number")
    return float(low), float(high) if high > low else float(low) + 1


def _delimited(path: Path, said: Said) -> Found:
    read = dialect(
        path, [*filter(None, (said.label, said.group, said.time, said.id, said.part)), *LABELS[:-1]]
    )
    if read is None:
        if said.label or said.text or said.id or said.time:
            raise DataError(f"{path}: none of , ; tab | delimits columns in it, so none can be named")
        read = Read(format="lines", encoding=encoding_of(beginning(path)))
        return Found(_source("text", None, [_file(path)], read), {"": "a text a line"})
    located = Located(path, path.name)
    names = delimited.header(located, read)
    return _Table(path, read, names, lambda how: delimited.parts(located, how, names), said).found()


def _parquet(path: Path, said: Said) -> Found:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: can't be read as Parquet: {str(error).splitlines()[0]}") from None
    schema = file.schema_arrow
    kinds: dict[Kind, str] = {"image": "pixels", "sequence": "values"}
    held = [
        kind for kind, name in kinds.items() if name in schema.names and _lists(schema.field(name).type, kind)
    ]
    if not held:

        def parts(_: Read) -> Iterator[Columns]:
            for batch in file.iter_batches(_BATCH):
                yield Columns(dict(zip(schema.names, batch.columns, strict=True)), batch.num_rows, 0)

        return _Table(path, Read(format="parquet"), schema.names, parts, said).found()
    kind = held[0]
    label = _label(schema.names, said)
    listed = _file(path)
    used = {label, said.group, said.time, "pixels" if kind == "image" else "values"}
    bounds = {"value_range": (0, 255)} if kind == "image" else {}
    drop = [name for name in schema.names if name not in used]
    first = next(file.iter_batches(1, columns=["pixels" if kind == "image" else "values"]), None)
    value = first.column(0)[0].as_py() if first is not None and first.num_rows else None
    channels = 1
    if kind == "sequence" and value and isinstance(value[0], list):
        channels = len(value[0])
    elif kind == "image" and value and isinstance(value[0][0], list):
        channels = len(value)
    read, label_type = Read(format="parquet"), "categorical"
    if label is not None:
        batches = file.iter_batches(_BATCH, columns=[label])
        cells = (Columns({label: batch.column(0)}, batch.num_rows, 0) for batch in batches)
        label_type, missing = _label_type(path, label, cells, read, said)
        read = read.model_copy(update={"missing": missing})
    source = _source(
        kind, label, [listed], read, label_type=label_type, drop=drop, channels=channels, **bounds
    )
    return Found(source, {})


def _lists(type_: pa.DataType, kind: Kind) -> bool:
    """Whether a column's cells are lists, as sequences are, or lists of lists, as pictures."""
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(each(type_) for each in is_list):
        return False
    return kind == "sequence" or _lists(type_.value_type, "sequence")


def _sequence_files(path: Path, files: list[Path], said: Said) -> Found:
    written = dialect(files[0]) or Read(format="csv", encoding=encoding_of(beginning(files[0])))
    names = delimited.header(Located(files[0], files[0].name), written)
    options = written.model_dump(exclude_defaults=True)
    if not written.header and any(map(is_number, names)):  # of a single column
        options["header"] = names = [f"c{at + 1}" for at in range(len(names))]
    located = Located(files[0], files[0].name)
    remarks = [f"{len(files)} files, a sequence each"]
    if said.time is not None and said.time in names:
        plain = parse(Read, options, str(path)).model_copy(update={"dates": said.dates})
        table = _Table(files[0], plain, names, lambda how: delimited.parts(located, how, names), said)
        looked, _ = column_types.look(table.parts(plain), [said.time], plain)
        moments = table.written(looked, plain)
        options |= {"dates": moments.formats} if moments.formats else {}
        remarks += _moments(said.time, moments)
    values = list(said.values) or [name for name in names if name not in {said.time, *said.drop}]
    more = {"values": values, "drop": [name for name in names if name not in {said.time, *values}]}
    classes = {each.relative_to(path).parts[0] for each in files if each.parent != path}
    label = "label" if len(classes) > 1 else None
    read = parse(Read, {**options, "format": "folder"}, str(path))
    source = _source("sequence", label, [_file(path)], read, channels=len(values), time=said.time, **more)
    return Found(source, _title(*remarks))


def _label(names: Sequence[str], said: Said) -> str | None:
    used = {said.group, said.time, said.id, said.part, *said.drop, *said.text, *said.values}
    used |= {*said.types, *said.dates}
    lowered = {name.lower(): name for name in reversed(names) if name not in used}
    return said.label or next((lowered[name] for name in LABELS if name in lowered), None)


def _title(*remarks: str) -> dict[str, str]:
    return {"": "; ".join(remarks)} if remarks else {}


def _moments(time: str | None, written: dates.Written) -> list[str]:
    """The remark on how times are written, if there is one."""
    return [f"{time} is {written.remarks[time]}"] if time is not None and time in written.remarks else []


@dataclass(frozen=True)
class _Table:
    """A table in a file: of samples, of texts, or of the steps of sequences."""

    path: Path
    read: Read
    names: Sequence[str]
    parts: Callable[[Read], Iterator[Columns]]
    said: Said

    def found(self) -> Found:
        said = self.said
        named = [said.label, said.group, said.time, said.id, said.part]
        for name in [*named, *said.drop, *said.text, *said.values, *said.types, *said.dates]:
            if name is not None and name not in self.names:
                raise DataError(f"{self.path}: no column {name!r}{nearest(name, list(self.names))}")
            if name in said.drop and name in (*named, *said.text, *said.values, *said.types):
                raise DataError(f"{self.path}: column {name!r} is to be passed over and used; say but one")
        for name in said.dates:
            others = {said.label, said.group, said.id, said.part, *said.drop, *said.text, *said.values}
            if name in others or said.types.get(name, "date") != "date":
                raise DataError(
                    f"{self.path}: column {name!r} is to be a date and something else; say but one"
                )
        apart = {_label(self.names, said), *named, *said.drop}
        read = self.read.model_copy(update={"missing": list(said.missing), "dates": said.dates})
        names = [name for name in self.names if name not in apart]
        moments = [said.time] if said.time is not None else []
        looked, missing = column_types.look(self.parts(read), [*names, *moments], read)
        read = read.model_copy(update={"missing": missing})
        written = self.written(looked, read)
        options = self.read.model_dump(exclude_defaults=True) | {"missing": missing, "dates": written.formats}
        looked = {name: looked[name] for name in names}
        if said.part is not None:
            options["part"] = said.part
        if said.id is not None or said.window is not None or said.kind == "sequence":
            return self._steps(looked, options, written)
        wordy = list(said.text) or [name for name in names if looked[name].wordy]
        if said.kind == "text" and not wordy:
            raise DataError(f"{self.path}: no column holds texts of several words; name one with --text")
        numbers = [name for name in names if looked[name].type == "numeric"]
        if said.text or said.kind == "text" or (wordy and not numbers and said.kind is None):
            remark = f"texts: {', '.join(wordy)}"
            return Found(self._source("text", options, wordy, text=wordy), {"": remark})
        return self._samples(looked, options, written)

    def _samples(
        self, looked: dict[str, column_types.Looked], options: dict[str, object], written: dates.Written
    ) -> Found:
        said = self.said
        types = {name: self._type(name, column) for name, column in looked.items()}
        named = {*said.types, *said.dates}
        useless = {name: column.useless for name, column in looked.items() if name not in named}
        passed = written.undecided | {name: why for name, why in useless.items() if why is not None}
        kept = {name: type_ for name, type_ in types.items() if name not in passed}
        various = {name: looked[name].variously_dated for name in kept if name not in named}
        told = {name: each for name, each in various.items() if each is not None}
        remarks = {name: each for name, each in written.remarks.items() if name != said.time}
        remarks |= told | passed | _title(*_moments(said.time, written))
        if not kept:
            raise DataError(
                f"{self.path}: no column tells rows apart; say with --type COLUMN=TYPE what one is"
            )
        return Found(self._source("tabular", options, list(kept), columns=kept), remarks)

    def _type(self, name: str, column: column_types.Looked) -> ColumnType:
        return "date" if name in self.said.dates else self.said.types.get(name, column.type)

    def written(self, looked: Mapping[str, column_types.Looked], read: Read) -> dates.Written:
        """How dates that aren't in ISO 8601 are written.

        Raises `DataError` where it isn't known of one that is to be a date, as `read` has it.
        """
        said = self.said
        found = {name: [written] for name, written in said.dates.items()}
        for name, column in looked.items():
            if name not in found and (name == said.time or self._type(name, column) == "date"):
                found |= {name: column.written} if column.written else {}
        written = dates.decide(found, read.decimal)
        for name, column in looked.items():
            if name != said.time and name not in said.dates and said.types.get(name) != "date":
                continue
            if name in written.undecided:
                raise DataError(f"{self.path}: column {name!r}: {written.undecided[name]}")
            read_ = column.cells - column.unread["date"]
            if name in written.formats and name not in said.dates:
                read_ = column.formats[written.formats[name]]
            elif name == said.time:
                read_ = max(read_, column.cells - column.unread["numeric"])
            if 2 * read_ <= column.cells and column.cells:
                read = read.model_copy(update={"dates": written.formats})
                raise DataError(f"{self.path}: column {name!r}: {self._no_date(name, read)}")
        return written

    def _no_date(self, name: str, read: Read) -> str:
        """The first cell of a column that is no date, with its row, and what to do."""
        first = 0
        for part in self.parts(read):
            alone = replace(part, wrong={})
            alone.typed(name, "date", read)
            if alone.wrong:
                row = min(alone.wrong)
                why = alone.wrong[row][0].removeprefix(f"column {name!r}: ").partition(";")[0]
                return (
                    f"row {first + row}: {why}; say how it is written, such as --dates {name}=%d.%m.%y "
                    "(read.dates in the entry), or name another type"
                )
            first += part.rows
        return "not all of it is dates; say how they are written with --dates, or name another type"

    def _steps(
        self, looked: dict[str, column_types.Looked], options: dict[str, object], written: dates.Written
    ) -> Found:
        """The sequences of a long table, by their id, or the windows of one long series."""
        said = self.said
        dated = [name for name, column in looked.items() if column.type == "date"]
        time = said.time or (dated[0] if dated else None)
        if time in written.undecided:
            raise DataError(f"{self.path}: column {time!r}: {written.undecided[str(time)]}")
        numbers = [name for name, column in looked.items() if column.type == "numeric"]
        values = list(said.values) or [name for name in numbers if name != time]
        more = {"values": values, "channels": len(values), "time": time}
        if said.id is not None:
            options |= {"format": "long", "id": said.id}
            return Found(self._source("sequence", options, values, **more), _title(*_moments(time, written)))
        if time is None:
            raise DataError(f"{self.path}: a long series needs its column of times; name it with --time")
        every = said.every or self._step(time, self.read.model_copy(update={"dates": written.formats}))
        window = said.window or WINDOW
        options = {key: value for key, value in options.items() if key not in ("relabel", "part")}
        options |= {"format": "series", "window": window, "stride": said.stride or max(1, window // 2)}
        options["every"] = every
        if said.marks is not None:
            options["marks"] = _file(said.marks)
        source = self._source("sequence", options, values, **more)
        remark = f"one series, a step every {every:g} s, in windows of {window} steps"
        return Found(source, _title(remark, *_moments(time, written)))

    def _step(self, time: str, read: Read) -> float:
        """Median of the times between rows."""
        moments: list[float] = []
        for part in self.parts(read):
            moments += part.times(time, read).drop_null().to_pylist()
            if len(moments) > column_types.ROWS:
                break
        apart = np.diff(np.array(moments))
        return float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0

    def _source(self, kind: Kind, options: dict[str, object], used: Sequence[str], **more: object) -> Source:
        said = self.said
        label = _label(self.names, said)
        if options.get("format") == "series":
            label = "label" if "marks" in options else None
        placed = {"group": said.group, "time": said.time, **more}
        if label in self.names and options.get("format") != "series":
            read = self.read.model_copy(update={"missing": options.get("missing", [])})
            type_, options["missing"] = _label_type(self.path, str(label), self.parts(read), read, said)
            placed["label_type"] = type_
        apart = {label, said.group, placed["time"], said.id, said.part, *used}
        drop = [name for name in self.names if name not in apart]
        dated = options.pop("dates", {})
        if isinstance(dated, dict) and (used_ := [name for name in (placed["time"], *used) if name in dated]):
            options["dates"] = {name: dated[name] for name in used_}
        read = parse(Read, options, str(self.path))
        return _source(kind, label, [_file(self.path)], read, drop=drop, **placed)
