"""A package as one ONNX graph, for where there is no Python: raw rows in, codes and reconstructions out.

The graph is that of the member trained on all rows, with the transform before it and its inverse after it. It
takes any number of rows, as doubles in raw units, and checks none of them:

    features                of a table [n, columns] in the order of the metadata `columns`, NaN for a number
                            that is missing where some were in training
    pixels                  of images [n, C, H, W]
    values, lengths         of sequences [n, steps, C] and [n]; `steps` is that of the longest there may be,
                            and what stands beyond a row's length means nothing

    codes                   [n, d], floats
    reconstruction          shaped as the rows, doubles in raw units; of sequences 0 beyond the length

What ONNX has no words for is refused by name: text, categories and dates.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from latentops import atomic
from latentops.architectures import transformer
from latentops.architectures.stack import Batch
from latentops.data.prepared import Description, Samples
from latentops.data.transforms import Points, Transform
from latentops.errors import LatentOpsError, RegistryError
from latentops.registry.gates import deviation
from latentops.registry.package import Arrays, Input, Package, column
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Autoencoder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LIMIT = 1e-5
"""By how much the graph may differ from the package, relative to the largest code or value."""

BATCHES = (1, 7)
"""Sizes that it is held against the package at."""

OUTPUTS = ("codes", "reconstruction")


def export(package: Package, path: Path) -> float:
    """Write `package` as ONNX into `path`, and give the largest deviation of the graph from the package.

    ONNX Runtime has to agree with the package within `LIMIT` on rows drawn at random, else nothing is
    written and `RegistryError` says what differs. Raises `LatentOpsError` that names what can't be exported.
    """
    _expect_numbers(package)
    member = package.trained.select(seed=package.facts.seed, view=VIEW_ALL)
    with atomic.replacing(path) as aside:
        _write(package, member, aside)
        found = _deviations(package, aside)
        worst = max(found, key=lambda name: found[name])
        if found[worst] > LIMIT:
            raise RegistryError(
                f"{package.facts.dataset}: {worst} of the ONNX graph off by {found[worst]:.1e}, {LIMIT:g} is "
                f"allowed, so {path} isn't written; use the package itself, by `latentops.load` or served"
            )
    return found[worst]


def inputs(package: Package, x: Input) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """What the graph takes for the raw rows `x`, which are whatever `Package` takes."""
    rows, lengths = _padded(package, x)
    given: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {input_name(package.description): rows}
    return given if lengths is None else {**given, "lengths": lengths}


def input_name(description: Description) -> str:
    """What the rows are called."""
    return "features" if description.kind == "tabular" else column(description)


def session(path: Path) -> "InferenceSession":
    """ONNX Runtime with the graph in `path`, on the CPU, in one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _padded(package: Package, x: Input) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Raw rows as one array, and the lengths of sequences, which are filled up with zeros."""
    description, frame = package.description, package.frame(x)
    if description.kind == "tabular":
        return frame.to_numpy(dtype=np.float64), None
    rows = [np.array(row, np.float64) for row in frame[input_name(description)]]
    if description.kind == "image":
        shape = description.transform.raw_shape(description.shape)
        return np.array(rows, np.float64).reshape(-1, *shape), None
    lengths = np.array([len(row) for row in rows], np.int64)
    values = np.zeros((len(rows), *description.shape))
    for row, own, steps in zip(values, rows, lengths, strict=True):
        row[:steps] = own
    return values, lengths


def _expect_numbers(package: Package) -> None:
    description, dataset = package.description, package.facts.dataset
    if description.vocabulary is not None:
        raise LatentOpsError(
            f"{dataset}: text can't be exported: ONNX has no tokenizer for it; use the package or serve it"
        )
    if description.encoding is not None:
        types = description.encoding.types
        others = [f"{name} ({type_})" for name, type_ in types.items() if type_ != "numeric"]
        if others:
            raise LatentOpsError(
                f"{dataset}: columns that aren't numbers can't be exported to ONNX: {', '.join(others)}; "
                "use the package or serve it, or train on a dataset without them"
            )


def _write(package: Package, member: Trained, path: Path) -> None:
    """The graph of `member` with what it is of as metadata."""
    from torch.onnx.errors import OnnxExporterError

    given = inputs(package, _drawn(package, 2))
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                Graph(member),
                tuple(torch.from_numpy(each) for each in given.values()),
                dynamo=True,
                input_names=list(given),
                output_names=list(OUTPUTS),
                dynamic_shapes=tuple({0: "rows"} for _ in given),
                verbose=False,
            )
        except OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise LatentOpsError(
                f"{package.facts.dataset}: torch can't express {member.variant} under the architecture "
                f"{member.recipe.architecture} as ONNX ({reason}); use the package or serve it"
            ) from error
    if program is None:
        raise AssertionError("the exporter by torch.export gives a program")
    facts, description = package.facts, package.description
    names = list(description.encoding.types if description.encoding else description.features)
    program.model.metadata_props.update(
        {
            "dataset": facts.dataset,
            "variant": facts.variant,
            "seed": str(facts.seed),
            "content_hash": facts.content_hash,
            "latentops": facts.version,
            **({"columns": json.dumps(names, ensure_ascii=False)} if names else {}),
        }
    )
    program.save(path)


def _deviations(package: Package, path: Path) -> dict[str, float]:
    """The largest deviation from the package of each output of the graph in `path`, over `BATCHES`."""
    runs, found = session(path), dict.fromkeys(OUTPUTS, 0.0)
    for size in BATCHES:
        rows = _drawn(package, size)
        codes, reconstruction = runs.run(list(OUTPUTS), inputs(package, rows))
        expected, _ = _padded(package, package.reconstruct(rows))
        for name, here, there in (
            ("codes", package.encode(rows), codes),
            ("reconstruction", expected, reconstruction),
        ):
            if here.shape != there.shape:
                raise RegistryError(f"{name} of the ONNX graph: shape {there.shape}, expected {here.shape}")
            found[name] = max(found[name], deviation(here, there))
    return found


def _drawn(package: Package, count: int) -> Arrays:
    """Raw rows whose prepared values lie evenly over where those of the training rows mostly do."""
    description, random = package.description, np.random.default_rng(count)
    low, high = description.likelihood_range or (-2 * description.spread, 2 * description.spread)
    values = random.uniform(low, high, size=(count, *description.shape)).astype(np.float32)
    lengths = None
    if description.kind == "sequence":
        lengths = random.integers(1, description.shape[0] + 1, size=count)
    if description.optional:
        values[:, len(description.columns) :] = random.random((count, len(description.optional))) < 0.8
    none = np.zeros(count, np.int64)
    return package.raw(Samples(values, lengths, none, np.zeros((count, 32), np.uint8)))


class Graph(nn.Module):
    """What is exported: one member without its member axis, between its transform and the inverse."""

    def __init__(self, member: Trained) -> None:
        super().__init__()
        description = member.description
        encoding = description.encoding
        self.model = member.model
        if isinstance(self.model.decoder, transformer.Decoder):
            self.model.decoder = EachStep(self.model.decoder)
        self.transform = Scaling(description.transform if encoding is None else encoding.transform)
        self.optional = list(description.optional)

    def forward(self, rows: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes `[n, d]` of raw rows `[n, …]`, and their reconstruction in raw units."""
        there = ~torch.isnan(rows)
        values = self.transform(torch.where(there, rows, 0.0) if self.optional else rows)
        if self.optional:
            values = torch.cat([values * there, there[:, self.optional].to(values.dtype)], dim=-1)
        batch = Batch(values.unsqueeze(0), None if lengths is None else lengths.unsqueeze(0))
        if batch.steps is not None:
            batch = batch.with_values(torch.where(batch.steps.unsqueeze(-1), batch.values, 0.0))
        latent = self.model.latent(batch)
        # Of most variants they are the same; the graph has the encoder once then.
        codes = latent if type(self.model).latent is Autoencoder.latent else self.model.encode(batch)
        made = self.model.likelihood.mean(self.model.decode(latent, batch.padded))[0]
        if self.optional:
            made = made[:, : rows.shape[1]]
        raw = self.transform.invert(made)
        steps = batch.steps
        return codes[0], raw if steps is None else torch.where(steps[0].unsqueeze(-1), raw, 0.0)


class EachStep(nn.Module):
    """A transformer's decoder, told the one code at every step, which is the same to it.

    Told it once, it takes the number of rows for a constant, which the graph would keep.
    """

    def __init__(self, decoder: transformer.Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, codes: Tensor, steps: int | None = None, told: Batch | None = None) -> Tensor:
        """Decode codes `[1, n, d]`, or those of each step, to `steps` or all."""
        if codes.ndim == 3:
            codes = codes.unsqueeze(2).expand(-1, -1, steps or self.decoder.steps.steps, -1)
        return self.decoder(codes, steps, told)


class Scaling(nn.Module):
    """`latentops.data.transforms.Transform` in torch's operations."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.shift, self.scale = _doubles(transform.shift), _doubles(transform.scale)
        self.power = _doubles(transform.power) if transform.power else None
        self.scores = self.places = None
        if transform.points:
            self.scores = Lines(transform.points)
            self.places = Lines(tuple(tuple((y, x) for x, y in each) for each in transform.points))
        self.orientations = transform.orientations

    def forward(self, raw: Tensor) -> Tensor:
        """Raw values `[..., D]`, doubles, as a model sees them, floats."""
        values = raw
        if self.power is not None:
            over, under = (_box_cox(each.clamp(min=0), power) for each, power in self._halves(values))
            values = over - under
        if self.scores is not None:
            values = self.scores(values)
        prepared = ((values - self.shift) / self.scale).to(torch.float32)
        if self.orientations:
            return torch.cat([prepared, edges(prepared, self.orientations)], dim=-3)
        return prepared

    def invert(self, prepared: Tensor) -> Tensor:
        """What a model sees `[..., D]` in raw units, doubles; of images without their edges."""
        if self.orientations:
            prepared = prepared[..., : prepared.shape[-3] // (1 + self.orientations), :, :]
        values = prepared.to(torch.float64) * self.scale + self.shift
        if self.places is not None:
            values = self.places(values)
        if self.power is None:
            return values
        over, under = (_inverse_box_cox(each.clamp(min=0), power) for each, power in self._halves(values))
        return over - under

    def _halves(self, values: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Values above zero with their power, and those below with theirs."""
        power = cast(Tensor, self.power)
        return (values, power), (-values, 2 - power)


class Lines(nn.Module):
    """Each column on the lines between its points, as `Transform` has them, which go on beyond them.

    The sum over all lines of how far a value has come along each, times its rise; columns with fewer points
    have lines without length.
    """

    def __init__(self, points: tuple[Points, ...]) -> None:
        super().__init__()
        most = max(map(len, points)) - 1
        starts, lengths, rises = (np.zeros((len(points), most)) for _ in range(3))
        ends = np.zeros((4, len(points)))  # first and last place, first score, rise beyond them
        for at, each in enumerate(points):
            places, scores = np.array(each).T
            many = len(each) - 1
            starts[at, :many], lengths[at, :many] = places[:-1], np.diff(places)
            rises[at, :many] = np.diff(scores) / np.diff(places)
            beyond = (scores[-1] - scores[0]) / (places[-1] - places[0]) if many else 1.0
            ends[:, at] = places[0], places[-1], scores[0], beyond
        self.starts, self.lengths, self.rises = map(_doubles, (starts, lengths, rises))
        self.first, self.last, self.score, self.beyond = map(_doubles, ends)

    def forward(self, values: Tensor) -> Tensor:
        """Columns `[..., D]` of the same shape."""
        within = torch.minimum(torch.maximum(values, self.first), self.last)
        along = within.unsqueeze(-1) - self.starts
        along = torch.minimum(along.clamp(min=0), self.lengths)
        return self.score + (along * self.rises).sum(-1) + self.beyond * (values - within)


def edges(images: Tensor, orientations: int) -> Tensor:
    """`latentops.data.transforms.edges` of `[..., C, H, W]` in torch's operations."""
    *rows, channels, height, width = images.shape
    near = _beyond(images)
    across = (near[..., 1:-1, 2:] - near[..., 1:-1, :-2]) / 2
    down = (near[..., 2:, 1:-1] - near[..., :-2, 1:-1]) / 2
    length = torch.sqrt(across**2 + down**2)
    direction = torch.remainder(torch.atan2(down, across), torch.pi) * (orientations / torch.pi)
    found = []
    for at in range(orientations):
        away = torch.abs(direction - at)
        share = torch.clamp(1 - torch.minimum(away, orientations - away), min=0)
        found.append(torch.sqrt(_mean_around(length * share)))
    return torch.stack(found, dim=-3).reshape(*rows, channels * orientations, height, width)


def _beyond(images: Tensor) -> Tensor:
    return functional.pad(images, (1, 1, 1, 1), mode="replicate")


def _mean_around(images: Tensor) -> Tensor:
    near = _beyond(images)
    rows = near[..., :-2, :] + near[..., 1:-1, :] + near[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


def _box_cox(values: Tensor, power: Tensor) -> Tensor:
    logs = torch.log1p(values)
    safe = torch.where(power == 0, 1.0, power)
    return torch.where(power == 0, logs, torch.expm1(safe * logs) / safe)


def _inverse_box_cox(values: Tensor, power: Tensor) -> Tensor:
    safe = torch.where(power == 0, 1.0, power)
    logs = torch.log1p((safe * values).clamp(min=np.finfo(np.float64).eps - 1)) / safe
    return torch.expm1(torch.where(power == 0, values, logs))


def _doubles(values: object) -> nn.Parameter:
    """Numbers that the graph keeps."""
    return nn.Parameter(torch.tensor(np.asarray(values, np.float64)), requires_grad=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of libraries that aren't here, and of its own internals."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
