"""`params.yaml` as frozen, typed models: every key is known, documented there and used.

An unknown key is refused with its place in the file and the nearest key that exists.
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latentops.errors import ConfigError, UnknownNameError

Kind = Literal["image", "tabular", "sequence", "text"]
ColumnType = Literal["numeric", "categorical", "boolean", "date"]
Format = Literal[
    "csv", "parquet", "array", "idx", "cifar", "images", "ts", "long", "folder", "series", "lines"
]
Part = Literal["train", "test"]
ArchitectureName = Literal["mlp", "convolutional", "recurrent", "transformer"]
CellName = Literal["gru", "lstm"]
ActivationName = Literal["elu", "relu", "tanh", "gelu", "sigmoid"]
PoolingName = Literal["mean", "last", "attention"]
DecoderName = Literal["conditioned", "autoregressive"]
Precision = Literal["float32", "bf16"]
LikelihoodName = Literal["gaussian", "bernoulli", "huber", "mixed", "categorical"]
PrimaryMetric = Literal["probe_accuracy", "auroc", "none"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0, lt=1)]
NAME = r"^\w[\w-]*$"
DatasetName = Annotated[str, Field(pattern=NAME)]
"""A part of paths, of stages' names and of models' names."""


class Settings(BaseModel):
    """A section of `params.yaml`: immutable, and closed to keys it doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Run(Settings):
    """What the DAG spans."""

    datasets: Annotated[list[str], Field(min_length=1)]
    variants: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (("datasets", self.datasets), ("variants", self.variants)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} names {', '.join(twice)} more than once")
        return self


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
    besides empty ones; `dates`, how dates are written (such as `%d/%m/%Y`) if not in ISO 8601. `relabel` puts
    labels in place of others. `part` is a column that says `train` or `test`.

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
    dates: str | None = None
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

    `name` is an embedded set, or `file`: the `files`, as `read` says. `label` is the column of the class,
    `group` one of what must stay on one side of a split, `time` one that a split by time goes by; none of
    them reaches a model. `columns` are those of a table that do, with their types; those under `drop` are
    known and passed over. `text` are the columns that make up a text, in their order; `values` those that a
    sequence's steps are made of.
    """

    name: str
    kind: Kind
    label: str | None
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

    Of single rows, which are set aside where they break one: `classes` (none where there is no label);
    `columns`, closed ranges of a table's numbers; `categories`, the values that a column of them may have;
    `unique`, columns in which nothing comes twice (`.name` is what a row is called where it comes from,
    `.row` all its values and its label); `lengths`, the least and most steps of a sequence; `sizes`, the
    least and greatest [height, width] of pictures in a folder, as they are there. No value may be missing but
    in the columns under `missing`.

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
        if not self.classes and (self.min_class_share or self.min_split_rows or self.max_leak is not None):
            raise ValueError("min_class_share, min_split_rows and max_leak need classes; drop them")
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


class MLP(Settings):
    """Widths of the hidden layers, empty for a linear code; the decoder mirrors the encoder.

    `tied`: it does so with the encoder's own weights, transposed, and biases of its own.
    """

    hidden: list[Count]
    activation: ActivationName = "elu"
    tied: bool = False


class Convolutional(Settings):
    """Channels of the halving layers, and what they are made of; the decoder mirrors the encoder.

    Maps go `down` by the stride of the kernels or by the maximum of four, and `up` by transposed kernels or
    by repeating values before a plain one. `residual` blocks follow each layer. `normalisation` is of each
    sample, over all channels or groups of them. `dilation` is the distance of the taps of kernels that aren't
    strided: of strided ones an even distance would leave every other position out. `attention`: the positions
    of the smallest map attend to one another.
    """

    channels: Annotated[list[Count], Field(min_length=1)]
    down: Literal["strided", "pooled"] = "strided"
    up: Literal["transposed", "resize"] = "transposed"
    residual: Annotated[int, Field(ge=0)] = 0
    normalisation: Literal["none", "layer", "group"] = "none"
    dilation: Count = 1
    attention: bool = False

    @model_validator(mode="after")
    def _something_is_dilated(self) -> Self:
        if self.dilation > 1 and self.down == "strided" and self.up == "transposed" and not self.residual:
            raise ValueError(
                f"dilation: {self.dilation} changes only kernels that aren't strided, and there are none; "
                "add residual: 1, down: pooled or up: resize, or use dilation: 1"
            )
        return self


class Recurrent(Settings):
    """The recurrent cell, the width of its state, and how the states of all steps become one vector.

    Of more `layers` each is driven by the states of the one below, in the encoder and in the decoder. The
    decoder's steps are driven by the code alone (`conditioned`) or by the step before as well. Of a longer
    sequence no more than a `chunk` of steps is kept for the way back; the others are taken again.
    """

    cell: CellName = "gru"
    hidden: Count
    layers: Count = 1
    pooling: PoolingName = "last"
    decoder: DecoderName = "conditioned"
    chunk: Count | None = None


class Transformer(Settings):
    """Blocks of self-attention, `layers` in the encoder and as many in the decoder.

    A step is `width` numbers, `expansion` times as many within a block's perceptron. With a `patch` an image
    is read in squares of that side, else row by row. Of a longer sequence no more than `queries` steps attend
    at once: more are faster and take more memory. The decoder's steps are driven by the code alone
    (`conditioned`) or by the step before as well. With a `checkpoint` a block keeps what it is given alone
    for the way back, and is taken again there.
    """

    width: Count = 32
    heads: Count = 4
    layers: Count = 2
    expansion: Count = 2
    positions: Literal["sinusoidal", "rotary"] = "sinusoidal"
    pooling: PoolingName = "attention"
    patch: Count | None = None
    queries: Count = 256
    decoder: DecoderName = "conditioned"
    checkpoint: bool = False

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} can't be shared by {self.heads} heads; make it a multiple")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(
                f"positions: rotary turns pairs of numbers, but a head has {self.width // self.heads}; "
                "make width / heads even, or use positions: sinusoidal"
            )
        return self


class Architectures(Settings):
    """Sizes of each architecture on one dataset, the same for every variant that uses it.

    `embedding` is how many numbers each of them reads a token as, and writes it from.
    """

    embedding: Annotated[int, Field(ge=4)] = 16
    mlp: MLP
    convolutional: Convolutional
    recurrent: Recurrent
    transformer: Transformer = Transformer()


class LikelihoodSettings(Settings):
    """The density of a value given its reconstruction: a name, or `{name: …}` with what is fixed of it.

    `variance` is the Gaussian's, in prepared units; without it, it is learned. `threshold` is where Huber's
    density passes from normal to exponential tails, in its own deviations. With `length` a sequence's number
    of steps is modelled as well.
    """

    name: LikelihoodName
    variance: Positive | None = None
    threshold: Positive | None = None
    length: bool = False

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_belong_to_the_name(self) -> Self:
        if self.variance is not None and self.name != "gaussian":
            raise ValueError(f"variance is fixed of a gaussian alone; drop it from likelihood: {self.name}")
        if self.threshold is not None and self.name != "huber":
            raise ValueError(f"threshold belongs to huber; drop it from likelihood: {self.name}")
        return self

    def to_json(self) -> str | dict[str, object]:
        """The name, or a mapping where more than that is set."""
        chosen = self.model_dump(exclude_defaults=True)
        return self.name if len(chosen) == 1 else chosen


class Scaling(Settings):
    """From raw values to what a model sees: a name, or `{name: …}` with what goes with it.

    Of numbers `range` takes the known range to [0, 1], `standard` mean and deviation to 0 and 1, `robust`
    median and interquartile range to those of a normal, `power` and `quantile` make them as normal as a power
    can and normal altogether, and then standardise. Of a table's categories the `categories` most frequent in
    the training rows are kept; the others, and what is met later on, share `buckets` by their hash: one is a
    pool. Of text `vocabulary` is the most tokens that are learned, padding and the unknown among them,
    `longest` the most that are kept of a text.
    """

    name: Literal["range", "standard", "robust", "power", "quantile", "tokens"]
    categories: Count = 32
    buckets: Count = 1
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
        if (self.source.label is None) != (not self.expectations.classes):
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
        if (self.source.label is None) != (self.primary == "none"):
            raise ValueError(
                f"primary: {self.primary} is of a label, and source.label is null; use primary: none"
                if self.source.label is None
                else "primary: none is for rows without a label; use probe_accuracy or auroc"
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


class Budget(Settings):
    """Steps of a stack, and the learning rate at its schedule's peak."""

    steps: Count
    learning_rate: Positive


class Training(Settings):
    """How every stack of members is trained."""

    seeds: Annotated[list[Seed], Field(min_length=2)]
    budget: dict[ArchitectureName, Budget]
    batch_size: Annotated[int, Field(gt=0, multiple_of=32)]
    buckets: Count
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["cosine", "constant", "one_cycle"]
    warmup: Fraction
    clip: Annotated[float, Field(ge=0)] = 0.0
    check_every: Count
    look_rows: Annotated[int, Field(gt=0, multiple_of=32)]
    patience: Count
    min_steps: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    threads: Count
    processes: Count
    precision: Precision
    device: Literal["cpu", "cuda", "auto"]

    @model_validator(mode="after")
    def _every_architecture_has_a_budget(self) -> Self:
        missing = [name for name in get_args(ArchitectureName) if name not in self.budget]
        if missing:
            raise ValueError(f"budget has no entry for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _a_cycle_rises_and_falls(self) -> Self:
        if self.schedule == "one_cycle" and not 0 < self.warmup <= 0.5:
            raise ValueError(
                "schedule: one_cycle rises over the warmup share and falls for as long: set warmup above 0 "
                "and up to 0.5, such as 0.45"
            )
        return self

    @model_validator(mode="after")
    def _one_process_checkpoints(self) -> Self:
        if self.checkpoint_every and self.processes > 1:
            raise ValueError("checkpoint_every goes with processes: 1; set it to 0, or train in one process")
        return self

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ from one another")
        return self


class Probe(Settings):
    """Multinomial logistic regression on standardised codes; the strength is chosen on `stop`."""

    strengths: Annotated[list[Positive], Field(min_length=1)]


class Anomaly(Settings):
    """Scores from the code, and the false-alarm rate that thresholds promise."""

    neighbours: Count
    reference: Count
    alpha: Annotated[float, Field(gt=0, lt=1)]


class Corruptions(Settings):
    """Levels at which every variant meets each corruption, from weak to strong.

    Of `gaussian` the noise's deviation over the data's, of the others the share of values that are replaced.
    """

    gaussian: Annotated[list[Positive], Field(min_length=1)]
    masking: Annotated[list[Share], Field(min_length=1)]
    salt_and_pepper: Annotated[list[Share], Field(min_length=1)]
    replace: Annotated[list[Share], Field(min_length=1)]
    drop: Annotated[list[Share], Field(min_length=1)]

    @model_validator(mode="after")
    def _levels_rise(self) -> Self:
        for name, levels in self:
            if list(levels) != sorted(set(levels)):
                raise ValueError(f"{name}: levels must rise, each above the last")
        return self


class Evaluation(Settings):
    """The judge's settings, the same for every variant and floor."""

    probe: Probe
    anomaly: Anomaly
    denoising: Corruptions


class Floors(Settings):
    """What every code has to be held against."""

    trees: Count


class Comparison(Settings):
    """Intervals and paired tests."""

    resamples: Count
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    seed: Seed


class Gates(Settings):
    """Limits that a challenger passes before it may become champion."""

    retention: Fraction
    margin: Annotated[float, Field(ge=0)]


class Retrain(Settings):
    """Policy of the retraining flow."""

    min_new_rows: Count
    cron: Annotated[str, Field(pattern=r"^\s*(\S+\s+){4}\S+\s*$")]


class Params(Settings):
    """The whole of `params.yaml`.

    The sections under `variants:` are typed beside each variant (`latentops.variants`); here they are
    plain mappings, so that a variant of one's own needs no change in this file.
    """

    run: Run
    datasets: dict[DatasetName, Dataset]
    variants: dict[str, dict[str, object]]
    training: Training
    evaluation: Evaluation
    floors: Floors
    comparison: Comparison
    gates: Gates
    retrain: Retrain

    @model_validator(mode="after")
    def _run_names_exist(self) -> Self:
        for what, names, known in (
            ("datasets", self.run.datasets, self.datasets),
            ("variants", self.run.variants, self.variants),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"run.{what}: {name!r} has no entry under {what}:{nearest(name, known)}")
        return self

    def dataset(self, name: str) -> Dataset:
        """The entry of dataset `name`; `UnknownNameError` names the nearest one."""
        if name not in self.datasets:
            raise UnknownNameError(f"unknown dataset {name!r}{nearest(name, self.datasets)}")
        return self.datasets[name]

    def variant(self, name: str) -> dict[str, object]:
        """The untyped section of variant `name`; `UnknownNameError` names the nearest one."""
        if name not in self.variants:
            raise UnknownNameError(f"unknown variant {name!r}{nearest(name, self.variants)}")
        return self.variants[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'? known: …)`, to end an error about an unknown name."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f" ({guess}known: {', '.join(names)})"


S = TypeVar("S", bound=Settings)


def parse(model: type[S], value: object, where: str) -> S:
    """`value` as a `model`; `ConfigError` names each key that is unknown, missing or of a wrong value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "(top)"
            if problem["type"] == "extra_forbidden":
                text = f"unknown key{nearest(str(problem['loc'][-1]), _siblings(model, problem['loc'][:-1]))}"
            else:
                text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {key}: {text}")
        raise ConfigError("\n".join(lines)) from None


def _siblings(model: type[Settings], path: tuple[int | str, ...]) -> list[str]:
    """Keys known at `path` below `model`; map keys and list positions are stepped over."""
    current: type[Settings] = model
    for part in path:
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), current)
    return list(current.model_fields)


def params_path() -> Path:
    """`LATENTOPS_PARAMS` if set, else `params.yaml` in the current folder."""
    return Path(os.environ.get("LATENTOPS_PARAMS", "params.yaml"))


def load_params(path: Path | None = None) -> Params:
    """Read and check `params.yaml`.

    Raises `ConfigError` where the file is missing, isn't YAML, or holds a key or value it shouldn't.
    """
    path = path or params_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; run from the project's root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as text: {error}") from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds no sections such as `run:` and `datasets:`; is it empty?")
    return parse(Params, value, str(path))
