"""An entry under `datasets:`: where its rows come from, what they are held to, how they are prepared."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from latentops.config.architectures import ArchitectureName, Architectures, LikelihoodSettings
from latentops.config.settings import Count, Fraction, Positive, Seed, Settings, Share

Kind = Literal["image", "tabular", "sequence", "text"]
ColumnType = Literal["numeric", "categorical", "boolean", "date"]
Format = Literal[
    "csv", "parquet", "array", "idx", "cifar", "images", "ts", "long", "folder", "series", "lines"
]
Part = Literal["train", "test"]
LabelType = Literal["categorical", "numeric"]
PrimaryMetric = Literal["probe_accuracy", "auroc", "r2", "none"]


class File(Settings):
    """A file or a folder that a source is made of.

    `path` is where it lies: in the project, under `LATENTOPS_MIRROR` or in the cache. `sha256` is that of
    its bytes (of a folder: of its listing, a line `<sha256>  <path in it>` a file, by path). `url` is its
    official address, and `member` its name in the archive that is there (zip, tar or gzip). `part` is the
    side of an official split that its rows are on.
    """

    path: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    url: str | None = None
    member: str | None = None
    part: Part | None = None

    @model_validator(mode="after")
    def _members_are_in_something(self) -> Self:
        if self.member is not None and self.url is None:
            raise ValueError("member names a file within the archive at url; add the url, or drop member")
        return self


class Read(Settings):
    """How a source's files become rows.

    Delimited text (`csv`, `long`, `series`): `delimiter`, `encoding`, `decimal` and `quote` as they are in
    the file; dots that can but group thousands beside a decimal comma are passed over; `skip` lines before
    the first that counts, and those that begin with `comment`; `header`, the
    columns' names where the file doesn't have them; `missing`, cells that say that a value isn't there,
    besides empty ones; `dates`, how dates that aren't in ISO 8601 are written, by column (`{born: %d/%m/%Y}`)
    or all alike (`%d/%m/%Y`). `relabel` puts labels in place of others. `part` is a column that says `train`
    or `test`.

    `array` (`.npy`, `.npz`): `values` and `labels` are arrays of an `.npz`. `images` (a folder, a class a
    subfolder, or all together): to `size` [height, width] by `fit`; `colour` or grey; `group` is a regular
    expression whose first group says which pictures in the folder are of one thing. `long` (a row a step):
    `id` is the column that says which sequence a step is of. `folder`: a sequence a file, a subfolder a
    class.
    `series` (one long one a file): windows of `window` steps, each `stride` after the last, `every` so many
    seconds; `marks` is a JSON file of each series' anomalous windows, `[[from, to], …]` under its name.
    """

    format: Format
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    decimal: Annotated[str, Field(min_length=1, max_length=1)] = "."
    quote: Annotated[str, Field(max_length=1)] = '"'
    skip: Annotated[int, Field(ge=0)] = 0
    comment: str = ""
    header: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    dates: str | dict[str, str] = Field(default_factory=dict)
    relabel: dict[str, str] = Field(default_factory=dict)
    part: str | None = None
    values: str = "X"
    labels: str | None = "y"
    size: tuple[Count, Count] | None = None
    fit: Literal["resize", "crop", "tile"] = "resize"
    colour: bool = False
    group: str | None = None
    id: str | None = None
    window: Count | None = None
    stride: Count | None = None
    every: Positive | None = None
    marks: File | None = None

    def written(self, column: str) -> str | None:
        """How the dates in `column` are written; None for ISO 8601."""
        return self.dates if isinstance(self.dates, str) else self.dates.get(column)

    @model_validator(mode="after")
    def _options_belong_to_the_format(self) -> Self:
        for name in sorted(self.model_fields_set - {"format"} - _OPTIONS[self.format]):
            raise ValueError(f"{name} means nothing to format: {self.format}; drop it")
        if self.decimal == self.delimiter:
            raise ValueError(f"decimal and delimiter are both {self.decimal!r}; they must differ")
        needed = {"images": ["size"], "long": ["id"], "series": ["window", "stride", "every"]}
        for name in needed.get(self.format, []):
            if getattr(self, name) is None:
                raise ValueError(f"format: {self.format} needs {name}")
        return self


_TEXT = {"delimiter", "encoding", "decimal", "quote", "skip", "comment", "header"}
_DELIMITED = _TEXT | {"missing", "dates", "relabel", "part"}
_OPTIONS: dict[Format, set[str]] = {
    "csv": _DELIMITED,
    "parquet": {"missing", "dates", "relabel", "part"},
    "array": {"values", "labels", "relabel"},
    "idx": {"relabel"},
    "cifar": {"relabel"},
    "images": {"size", "fit", "colour", "group", "relabel"},
    "ts": {"relabel"},
    "long": _DELIMITED | {"id"},
    "folder": _DELIMITED,
    "series": (_DELIMITED - {"relabel", "part"}) | {"window", "stride", "every", "marks"},
    "lines": {"encoding"},
}


class Source(Settings):
    """Where rows come from and what they are.

    `name` is an embedded set, or `file`: the `files`, as `read` says. `label` is the column of the class, or
    of the number where `label_type` is numeric, `group` one of what must stay on one side of a split, `time`
    one that a split by time goes by; none of them reaches a model. `columns` are those of a table that do,
    with their types; those under `drop` are known and passed over. `text` are the columns that make up a
    text, in their order; `values` those that a sequence's steps are made of.
    """

    name: str
    kind: Kind
    label: str | None
    label_type: LabelType = "categorical"
    group: str | None = None
    time: str | None = None
    channels: Count = 1
    value_range: tuple[float, float] | None = None
    files: list[File] = Field(default_factory=list)
    read: Read | None = None
    columns: dict[str, ColumnType] = Field(default_factory=dict)
    drop: list[str] = Field(default_factory=list)
    text: list[str] = Field(default_factory=list)
    values: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _files_are_read_somehow(self) -> Self:
        if self.name != "file":
            named = ("group", "time", "files", "read", "columns", "drop", "text", "values")
            for key in named:
                if getattr(self, key):
                    raise ValueError(f"{key} belongs to name: file; drop it from the embedded {self.name}")
            return self
        if not self.files or self.read is None:
            raise ValueError("name: file needs its files and how to read them: `latentops add-dataset` says")
        kinds = _KINDS[self.read.format]
        if self.kind not in kinds:
            raise ValueError(
                f"read.format: {self.read.format} gives {' or '.join(kinds)}, but kind says {self.kind}"
            )
        if self.kind == "tabular" and self.read.format in ("csv", "parquet") and not self.columns:
            raise ValueError("a table in a file needs its columns: {name: numeric, …}")
        if self.kind == "text" and self.read.format in ("csv", "parquet") and not self.text:
            raise ValueError("a table of texts needs the columns that hold its text: [column, …]")
        if self.read.format == "series" and self.time is None:
            raise ValueError("a long series needs time: the column that says when")
        if self.read.format == "series" and (self.label is None) != (self.read.marks is None):
            raise ValueError("a series' windows have a label by read.marks alone; set both, or neither")
        for key, kind in (("columns", "tabular"), ("text", "text"), ("values", "sequence")):
            if getattr(self, key) and self.kind != kind:
                raise ValueError(f"{key} belongs to kind: {kind}; drop it")
        return self

    @property
    def numeric_label(self) -> bool:
        """Whether the label is a number, not a class."""
        return self.label_type == "numeric"

    @model_validator(mode="after")
    def _a_number_is_read_from_a_column(self) -> Self:
        if not self.numeric_label:
            return self
        if self.label is None:
            raise ValueError("label_type: numeric is of a label, and label is null; name its column")
        if self.read is None or self.read.format not in _NUMBERED:
            what = self.name if self.read is None else f"read.format: {self.read.format}"
            raise ValueError(
                f"label_type: numeric doesn't go with {what}, whose labels are classes; "
                f"{', '.join(_NUMBERED)} may have numbers"
            )
        if self.read.relabel:
            raise ValueError("read.relabel is of classes, and label_type is numeric; drop it")
        return self

    @model_validator(mode="after")
    def _a_column_has_one_use(self) -> Self:
        used = [self.label, self.group, self.time, *self.columns, *self.drop, *self.text, *self.values]
        twice = sorted({name for name in used if name is not None and used.count(name) > 1})
        if twice:
            raise ValueError(f"column {twice[0]!r} is given two uses; leave it one")
        for name in (self.label, *self.columns):
            if name in _OURS:
                raise ValueError(
                    f"column {name!r} is called as one of ours; rename it, or name it under drop"
                )
        return self

    @model_validator(mode="after")
    def _what_is_written_as_a_date_is_one(self) -> Self:
        dates = self.read.dates if self.read is not None else {}
        for name in dates if isinstance(dates, dict) else ():
            if name != self.time and self.columns.get(name) != "date":
                raise ValueError(f"read.dates.{name}: that column is neither a date nor time; drop it")
        return self

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        if self.kind == "image" and self.value_range is None:
            raise ValueError("an image source needs value_range: [lowest, highest]")
        if self.kind == "text" and self.value_range is not None:
            raise ValueError("text has no value_range; drop it")
        if self.value_range is not None and self.value_range[0] >= self.value_range[1]:
            raise ValueError("value_range must be [lowest, highest] with lowest < highest")
        return self


_OURS = {f".{name}" for name in ("source", "position", "reasons", "part", "group", "time", "marked", "name")}
_OURS |= {".height", ".width", ".problem", ".row"}
"""What a raw table calls the columns that say of a row where it is from."""

_NUMBERED: tuple[Format, ...] = ("csv", "parquet", "array", "ts", "long")
"""Formats whose rows may have a number for a label."""

_KINDS: dict[Format, tuple[Kind, ...]] = {
    "csv": ("tabular", "text"),
    "parquet": ("tabular", "text", "image", "sequence"),
    "array": ("tabular", "image", "sequence"),
    "idx": ("image",),
    "cifar": ("image",),
    "images": ("image",),
    "ts": ("sequence",),
    "long": ("sequence",),
    "folder": ("sequence",),
    "series": ("sequence",),
    "lines": ("text",),
}


class Expectations(Settings):
    """Limits that the rows are held to.

    Of single rows, which are set aside where they break one: `classes` (none where there is no label, or
    where it is a number); `columns`, closed ranges of a table's numbers, and of a label that is one;
    `categories`, the values that a column of them may have; `unique`, columns in which nothing comes twice
    (`.name` is what a row is called where it comes from, `.row` all its values and its label); `lengths`, the
    least and most steps of a sequence; `sizes`, the least and greatest [height, width] of pictures in a
    folder, as they are there. No value may be missing but in the columns under `missing`.

    Of the table, where a broken one stops the pipeline: `min_rows` and `max_rows`; `max_quarantined`, the
    share of rows set aside; `min_class_share`; `missing`, the largest share of a column's values that may be;
    `min_split_rows`, of each class in each split; `max_drift`, how far a column's distribution may be from
    that of the version accepted last (0: it is the same, 1: nothing is in common); `max_leak`, how well one
    column may predict the label alone (0: no better than guessing, 1: always). From `leak` on it is reported.
    """

    min_rows: Count
    max_rows: Count | None = None
    max_quarantined: Fraction
    classes: list[str]
    min_class_share: Fraction = 0.0
    min_split_rows: Annotated[int, Field(ge=0)] = 0
    columns: dict[str, tuple[float, float]] = Field(default_factory=dict)
    categories: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    missing: dict[str, Fraction] = Field(default_factory=dict)
    unique: list[str] = Field(default_factory=list)
    lengths: tuple[int, int] | None = None
    sizes: tuple[tuple[Count, Count], tuple[Count, Count]] | None = None
    max_drift: Fraction | None = None
    leak: Fraction = 0.95
    max_leak: Fraction | None = None

    @model_validator(mode="after")
    def _limits_can_be_met(self) -> Self:
        if len(self.classes) == 1:
            raise ValueError(
                f"classes names {self.classes[0]!r} alone, and one class tells no rows apart; "
                "name at least two, or none where there is no label"
            )
        if not self.classes and (self.min_class_share or self.min_split_rows):
            raise ValueError("min_class_share and min_split_rows need classes; drop them")
        if self.max_rows is not None and self.max_rows < self.min_rows:
            raise ValueError(f"max_rows: {self.max_rows} is below min_rows: {self.min_rows}")
        pairs = {f"columns.{name}": limits for name, limits in self.columns.items()}
        if self.lengths is not None:
            pairs["lengths"] = self.lengths
        if self.sizes is not None:
            heights, widths = zip(*self.sizes, strict=True)
            pairs |= {"sizes: heights": heights, "sizes: widths": widths}
        for key, (low, high) in pairs.items():
            if low > high:
                raise ValueError(f"{key}: [{low:g}, {high:g}] must be [lowest, highest]")
        return self


class Split(Settings):
    """Shares of the rows; what is left after these three is `train`.

    `test: official` takes the rows that the source says are its test rows, and shares out the others.
    `by` is what decides for a row: its `rank` among its class's hashes (exact shares), its own `hash` (shares
    up to chance, but a row stays where it is whatever comes), or `time` (train before stop before calibration
    before test; `cuts` are the three moments between them, else shares of the rows). Images of which no more
    than `near` of 64 bits of perceptual hash differ stay on one side.
    """

    seed: Seed
    stop: Share
    calibration: Share
    test: Share | Literal["official"]
    by: Literal["rank", "hash", "time"] = "rank"
    cuts: tuple[str, str, str] | None = None
    near: Annotated[int, Field(ge=0, le=32)] | None = None

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.stop + self.calibration + (0 if self.test == "official" else self.test) >= 1:
            raise ValueError("stop + calibration + test must be below 1: the rest is train")
        if self.cuts is not None and self.by != "time":
            raise ValueError("cuts are moments, which belong to by: time; drop them")
        return self


class Scaling(Settings):
    """From raw values to what a model sees: a name, or `{name: …}` with what goes with it.

    Of numbers `range` takes the known range to [0, 1], `standard` mean and deviation to 0 and 1, `robust`
    median and interquartile range to those of a normal, `power` and `quantile` make them as normal as a power
    can and normal altogether, and then standardise. Of a table's categories the `categories` most frequent in
    the training rows are kept; the others, and what is met later on, share `buckets` by their hash: one is a
    pool. Images, scaled by `range`, are given so many channels for the `orientations` of edges. Of text
    `vocabulary` is the most tokens that are learned, padding and the unknown among them,
    `longest` the most that are kept of a text.
    """

    name: Literal["range", "standard", "robust", "power", "quantile", "tokens"]
    categories: Count = 32
    buckets: Count = 1
    orientations: Annotated[int, Field(ge=0)] = 0
    vocabulary: Annotated[int, Field(ge=4)] | None = None
    longest: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _tokens_have_their_numbers(self) -> Self:
        if {self.vocabulary is not None, self.longest is not None} != {self.name == "tokens"}:
            raise ValueError(
                f"vocabulary and longest belong to tokens, which need both; scaling is {self.name}"
            )
        return self


class Dataset(Settings):
    """One entry under `datasets:`."""

    source: Source
    expectations: Expectations
    scaling: Scaling
    likelihood: LikelihoodSettings
    split: Split
    normal: list[str]
    primary: PrimaryMetric
    architecture: ArchitectureName
    architectures: Architectures
    latent_dim: Count

    @property
    def anomalies(self) -> bool:
        """Whether the classes outside `normal` are anomalies, never to be trained or calibrated on."""
        return self.primary == "auroc"

    @model_validator(mode="after")
    def _a_label_has_classes(self) -> Self:
        if self.source.numeric_label:
            for key, named in (("expectations.classes", self.expectations.classes), ("normal", self.normal)):
                if named:
                    raise ValueError(f"{key} names classes, and source.label_type is numeric; use {key}: []")
            if self.primary not in ("r2", "none"):
                raise ValueError(
                    f"primary: {self.primary} is of classes, and source.label_type is numeric; use r2 or none"
                )
            if self.source.label in self.expectations.missing:
                raise ValueError(
                    f"expectations.missing: a row without its label, {self.source.label}, is set aside, and "
                    "max_quarantined says how many may be; drop it there"
                )
        elif (self.source.label is None) != (not self.expectations.classes):
            raise ValueError(
                "expectations.classes are those of source.label: name them, or use label: null"
                if self.source.label is not None
                else "expectations.classes: source.label is null; name its column, or use classes: []"
            )
        return self

    @model_validator(mode="after")
    def _normal_classes_exist(self) -> Self:
        for name in self.normal:
            if name not in self.expectations.classes:
                raise ValueError(f"normal: {name!r} is not among expectations.classes")
        if (self.scaling.name == "tokens") != (self.source.kind == "text"):
            raise ValueError(
                f"scaling: {self.scaling.name} doesn't go with source.kind: {self.source.kind}; text takes "
                "{name: tokens, …}, and nothing else does"
            )
        if (self.likelihood.name == "categorical") != (self.source.kind == "text"):
            raise ValueError(
                f"likelihood: {self.likelihood.name} doesn't go with source.kind: {self.source.kind}; tokens "
                "are categorical, and nothing else is"
            )
        if self.scaling.name == "range" and self.source.value_range is None:
            raise ValueError("scaling: range needs source.value_range")
        if self.scaling.orientations and (self.source.kind, self.scaling.name) != ("image", "range"):
            raise ValueError(
                "scaling: orientations are of the edges in images, scaled by range; drop them from "
                f"{self.scaling.name} of kind: {self.source.kind}"
            )
        if self.likelihood.name == "bernoulli" and self.scaling.name != "range":
            raise ValueError("likelihood: bernoulli takes values in [0, 1], which only scaling: range gives")
        if self.architectures.transformer.patch is not None and self.source.kind != "image":
            raise ValueError(
                f"architectures.transformer.patch is for images, but source.kind is {self.source.kind}; "
                "set it to null"
            )
        if self.likelihood.length and self.source.kind != "sequence":
            raise ValueError(
                f"likelihood: length is modelled of sequences alone, but source.kind is {self.source.kind}; "
                "drop length"
            )
        sizes = self.architectures
        decoders = {"recurrent": sizes.recurrent.decoder, "transformer": sizes.transformer.decoder}
        for name, decoder in decoders.items():
            if self.likelihood.name == "mixed" and decoder == "autoregressive":
                raise ValueError(
                    f"architectures.{name}.decoder: autoregressive goes by what is expected of each step, "
                    "but under likelihood: mixed a category may lie across steps; use decoder: conditioned"
                )
        if self.primary == "auroc" and not self.normal:
            raise ValueError("primary: auroc needs at least one class under normal")
        return self

    @model_validator(mode="after")
    def _what_is_chosen_by_needs_a_label(self) -> Self:
        if self.source.label is None and self.primary != "none":
            raise ValueError(
                f"primary: {self.primary} is of a label, and source.label is null; use primary: none"
            )
        if self.source.label is None and self.expectations.max_leak is not None:
            raise ValueError("expectations.max_leak is of a label, and source.label is null; drop it")
        if self.source.label is not None and not self.source.numeric_label and self.primary in ("r2", "none"):
            raise ValueError(
                "primary: none is for rows without a label; use probe_accuracy or auroc"
                if self.primary == "none"
                else "primary: r2 is of a number; use probe_accuracy or auroc, or source.label_type: numeric"
            )
        return self

    @model_validator(mode="after")
    def _categories_have_their_likelihood(self) -> Self:
        named = [name for name, type_ in self.source.columns.items() if type_ in ("categorical", "boolean")]
        for what, which in (
            ("has categories", named),
            ("may have missing values", self.expectations.missing),
        ):
            if which and self.source.kind == "tabular" and self.likelihood.name != "mixed":
                raise ValueError(
                    f"likelihood: {self.likelihood.name} is of numbers that are all there, but the table "
                    f"{what} ({', '.join(which)}); use likelihood: mixed"
                )
        pattern = Scaling(name="standard")
        for key in ("categories", "buckets"):
            if not named and getattr(self.scaling, key) != getattr(pattern, key):
                raise ValueError(f"scaling: {key} is of categories, and source.columns names none; drop it")
        return self
