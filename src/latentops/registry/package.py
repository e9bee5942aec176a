"""A champion as one object: raw units in, codes, reconstructions, scores or samples out.

The pipeline, `latentops.load`, the served model and batch scoring all go through `Package`, so that there is
one inference path. Its folder holds numbers and JSON only:

    model/weights.safetensors, model/config.json    the chosen seed's members: all rows, and each normal view
    scorers.safetensors                             each view's scorer, and its sorted calibration scores
    package.json                                    where it came from, thresholds, resolved settings
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from latentops import atomic
from latentops.data.encoding import Column, Encoding
from latentops.data.prepared import Description, Samples, pad
from latentops.data.tokenizer import Tokenizer
from latentops.errors import DataError, LatentOpsError, RegistryError
from latentops.evaluation.anomaly import Scorer
from latentops.evaluation.attribution import attribute
from latentops.evaluation.conformal import discoveries, needed, p_values
from latentops.registry import cells, reasons
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

Task = Literal["encode", "reconstruct", "denoise", "score", "sample"]
TASKS: tuple[Task, ...] = get_args(Task)
JSON_BYTES = 16 * 2**20  # a vocabulary of 100,000 words takes 2 MB
COMBINED = "auroc"  # the scorer's one combined score; the p-values and thresholds are of this one

Arrays = NDArray[np.float64] | list[NDArray[np.float64]] | list[str] | pd.DataFrame
Input = (
    pd.DataFrame
    | NDArray[np.floating]
    | Sequence[NDArray[np.floating]]
    | Sequence[str]
    | Sequence[Mapping[str, object]]
)


@dataclass(frozen=True)
class Facts:
    """Where a package came from, and the settings it keeps."""

    dataset: str
    variant: str
    seed: int
    alpha: float
    content_hash: str
    dataset_digest: str
    version: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """What a score is held against in one normal view.

    The scorer fitted on its training rows, the sorted scores [m] of its calibration rows, and the score above
    which a row is an anomaly at the package's `alpha`, or none where m is too small to promise that rate.
    """

    scorer: Scorer
    calibration: NDArray[np.float64]
    threshold: float | None


class Package:
    """One trained member with its transform, scorers and thresholds.

    Inputs are a DataFrame or arrays in raw units, the units of the source: for a table [n, D] or a column a
    feature, for images [n, C, H, W] or a column `pixels`, for sequences a list of [steps, C] or a column
    `values`, for text a list of texts or a column `text`. What comes back is in raw units too. A table of
    more than numbers is a DataFrame or a list of mappings, and comes back as a DataFrame; see
    `latentops.registry.cells`. A reconstruction has a value for what is missing as well.
    """

    def __init__(self, trained: Trained, references: dict[str, Reference], facts: Facts) -> None:
        self.trained = trained
        self.references = references
        self.facts = facts
        self._all = trained.select(seed=facts.seed, view=VIEW_ALL)
        self._normal = {view: trained.select(seed=facts.seed, view=view) for view in references}

    @property
    def description(self) -> Description:
        """What the data looks like."""
        return self.trained.description

    def encode(self, x: Input) -> NDArray[np.float32]:
        """Codes [n, d] of the rows of `x`."""
        codes: NDArray[np.float32] = self._all.encode(self.samples(x))[0]
        return codes

    def reconstruct(self, x: Input) -> Arrays:
        """`x` as the model sees it, in raw units: [n, D], [n, C, H, W], a list of [steps, C] or of texts."""
        samples = self.samples(x)
        return in_raw_units(self.description, self._all.reconstruct(samples)[0], samples.lengths)

    def denoise(self, x: Input) -> Arrays:
        """`x` without what the model takes for noise: its reconstruction, by the same path."""
        return self.reconstruct(x)

    def sample(self, n: int = 1, seed: int = 0) -> Arrays:
        """`n` new rows in raw units; equal seeds give equal rows.

        Sequences have full length, or where that is modelled a length of their own: a list of [steps, C].
        Raises `LatentOpsError` where the variant has no prior to draw from.
        """
        values, lengths = self._all.sample(n, seed)
        return in_raw_units(self.description, values[0], None if lengths is None else lengths[0])

    def score(self, x: Input, false_discovery_rate: float | None = None) -> pd.DataFrame:
        """How unlike the normal rows each row of `x` is: columns `score`, `p_value`, `is_anomaly`.

        `p_value` is split-conformal: for a normal row it is at most α with a chance of at most α.
        `is_anomaly` says that it is at most the package's `alpha`, and is empty where there were too few
        calibration rows for a p-value that small. With several normal classes a row is
        anomalous where it is unlike each of them: `p_value` is the largest and `score` the smallest over the
        classes, whose own figures follow as `score <class>` and `p_value <class>`. The largest p-value keeps
        the promise for rows of any of the classes.
        With a `false_discovery_rate` there is a column `flagged`: rows of this batch of which on average at
        most that share are normal (`latentops.evaluation.conformal.discoveries`). Raises `LatentOpsError`
        where the rate isn't between 0 and 1, or no p-value could be as small.
        Raises `LatentOpsError` where the dataset names no normal class.
        """
        scores = self._scores(self.samples(x))
        chances = {view: p_values(self.references[view].calibration, own) for view, own in scores.items()}
        chance = np.max(list(chances.values()), axis=0)
        columns = {
            "score": np.min(list(scores.values()), axis=0),
            "p_value": chance,
            "is_anomaly": self._verdict(chance),
        }
        if false_discovery_rate is not None:
            columns["flagged"] = self.discoveries(chance, false_discovery_rate)
        if len(scores) > 1:
            for view, own in scores.items():
                columns |= {f"score {view}": own, f"p_value {view}": chances[view]}
        return pd.DataFrame(columns)

    def explain(self, x: Input) -> pd.DataFrame:
        """Where the `score` of each row of `x` comes from, as `latentops.evaluation.attribution` has it.

        Of a table each column c has three: `attribution c`, what it adds to the score; `residual c`, its part
        in the reconstruction error; and `nearest c`, what it is in the nearest normal row, in raw units. Of
        images `attribution` and `residual` are [H, W], of sequences [steps, C], and `nearest` is a row like
        those of `x`. Of texts there are the `tokens`, the `residual` of each, and the `nearest` text. With
        several normal classes `normal` names the one that the row is least unlike, which it is held against.
        Raises `LatentOpsError` as `score` does.
        """
        samples = self.samples(x)
        scores = self._scores(samples)
        least = np.argmin(list(scores.values()), axis=0)
        parts = []
        for at, view in enumerate(scores):
            (rows,) = np.nonzero(least == at)
            own = samples.select(rows)
            found = attribute(self._normal[view], self.references[view].scorer, own)
            nearest = self.frame(self.raw(found.nearest))
            part = reasons.frame(found, own, nearest, self.description).set_index(rows)
            if len(scores) > 1:
                part.insert(0, "normal", view)
            parts.append(part)
        return pd.concat([part for part in parts if len(part)] or parts[:1]).sort_index()

    def _scores(self, samples: Samples) -> dict[str, NDArray[np.float64]]:
        """The combined score [n] of each normal view."""
        if not self.references:
            raise LatentOpsError(
                f"{self.facts.dataset}: no score, because params.yaml names no class under "
                f"datasets.{self.facts.dataset}.normal"
            )
        return {
            view: combined_score(reference.scorer, self._normal[view], samples)
            for view, reference in self.references.items()
        }

    def _verdict(self, chance: NDArray[np.float64]) -> list[bool] | list[None]:
        if any(reference.threshold is None for reference in self.references.values()):
            return [None] * len(chance)
        return [bool(each <= self.facts.alpha) for each in chance]

    def discoveries(self, chance: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
        """Which rows of a batch with the p-values `chance` [n] to flag at the false-discovery `rate`.

        Raises `LatentOpsError` as `score` does, also for a batch of no rows.
        """
        if not 0 < rate < 1:
            raise LatentOpsError(f"false_discovery_rate {rate}: it lies between 0 and 1, such as 0.1")
        fewest = min(len(reference.calibration) for reference in self.references.values())
        if fewest < needed(rate):
            raise LatentOpsError(
                f"false_discovery_rate {rate} needs at least {needed(rate)} calibration normals, "
                f"{self.facts.dataset} has {fewest}: ask for a higher rate, or raise the split's calibration "
                "share and promote again"
            )
        return discoveries(chance, rate)

    def predict(
        self, x: pd.DataFrame, task: str = "encode", n: int = 1, seed: int = 0, explain: bool = False
    ) -> pd.DataFrame:
        """What the served model answers: the result of `task` as a table, a row for each row of `x`.

        `encode` gives columns `z0`, `z1`, …; `reconstruct` and `denoise` those of the input; `score` those of
        `Package.score`, followed by those of `Package.explain` if asked to `explain`; `sample` gives `n` rows
        drawn with `seed` and doesn't look at `x`.
        """
        tasks: dict[str, Callable[[], pd.DataFrame]] = {
            "encode": lambda: _codes(self.encode(x)),
            "reconstruct": lambda: self.frame(self.reconstruct(x)),
            "denoise": lambda: self.frame(self.denoise(x)),
            "score": lambda: self.score(x).join(self.explain(x)) if explain else self.score(x),
            "sample": lambda: self.frame(self.sample(n, seed)),
        }
        if task not in tasks:
            raise LatentOpsError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
        if explain and task != "score":
            raise LatentOpsError(f"task {task!r} explains nothing; explain goes with task 'score'")
        return tasks[task]()

    def frame(self, x: Input) -> pd.DataFrame:
        """Raw rows as the table that the served model takes; every number becomes a double, a date text.

        MLflow refuses integers where its signature says double, so a request is best made through this.
        """
        if self.description.encoding is not None:
            return cells.frame(self._columns(x, self.description.encoding), self.description.encoding)
        if isinstance(x, pd.DataFrame):
            return self.frame(self._rows(x))
        if self.description.kind == "tabular":
            return pd.DataFrame(np.asarray(x, dtype=np.float64), columns=list(self.description.features))
        if self.description.tokenizer is not None:
            return pd.DataFrame({"text": list(x)}, dtype="object")
        rows = [np.asarray(row, dtype=np.float64).tolist() for row in x]
        return pd.DataFrame({column(self.description): rows})

    def request(self, x: Input, task: Task = "encode", **params: int) -> dict[str, Any]:
        """The JSON body to POST to `/invocations` for the rows of `x`."""
        frame = self.frame(x)
        rows = frame.to_numpy(dtype=object).tolist()
        if self.description.encoding is not None:  # JSON has no NaN
            rows = [[None if pd.isna(each) else each for each in row] for row in rows]
        split = {"columns": list(frame.columns), "data": rows}
        return {"dataframe_split": split, "params": {"task": task, **params}}

    def samples(self, x: Input) -> Samples:
        """Raw rows, checked and transformed to what the model sees."""
        lengths: NDArray[np.int64] | None = None
        if self.description.encoding is not None:
            encoding = self.description.encoding
            values = encoding.apply(self._columns(x, encoding))
        else:
            values, lengths = self._prepared(self._rows(x) if isinstance(x, pd.DataFrame) else x)
        count = len(values)
        return Samples(values, lengths, np.zeros(count, np.int64), np.zeros((count, 32), np.uint8))

    def _columns(self, x: Input, encoding: Encoding) -> dict[str, Column]:
        """The columns of a table that isn't all numbers."""
        try:
            frame = x if isinstance(x, pd.DataFrame) else pd.DataFrame(x)
        except ValueError:
            frame = pd.DataFrame()
        missing = [name for name in encoding.types if name not in frame.columns]
        if missing:
            raise DataError(f"{self.facts.dataset}: missing columns: {', '.join(missing)}")
        return cells.columns(frame, encoding)

    def _rows(self, frame: pd.DataFrame) -> NDArray[np.float64] | list[NDArray[np.float64]] | list[str]:
        """The raw rows that a table's columns hold."""
        wanted = list(self.description.features) or [column(self.description)]
        missing = [name for name in wanted if name not in frame.columns]
        if missing:
            raise DataError(f"{self.facts.dataset}: missing columns: {', '.join(missing)}")
        if self.description.kind == "tabular":
            return np.stack([_numbers(frame[name]) for name in wanted], axis=1)
        if self.description.tokenizer is not None:
            return list(frame["text"])
        return [_nested(row, wanted[0], number) for number, row in enumerate(frame[wanted[0]])]

    def _prepared(self, rows: Any) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        if self.description.tokenizer is not None:
            return self._tokens(rows, self.description.tokenizer)
        return self._ragged(rows) if self.description.kind == "sequence" else self._dense(rows)

    def _tokens(self, rows: Any, tokenizer: Tokenizer) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        texts = list(rows)
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"row {number}: {text!r} is no text")
        ids, lengths = tokenizer.apply(texts)
        longest = self.description.shape[0]
        if len(lengths) and lengths.max() > longest:  # no training row was as long as may be
            kept = np.concatenate([np.arange(each) < longest for each in lengths])
            ids, lengths = ids[kept], np.minimum(lengths, longest)
        return pad(ids, lengths, longest), lengths

    def _dense(self, rows: Any) -> tuple[NDArray[np.float32], None]:
        shape = self.description.transform.raw_shape(self.description.shape)
        for number, row in enumerate(rows):
            if np.shape(row) != shape:
                raise DataError(f"row {number}: shape {list(np.shape(row))}, expected {list(shape)}")
        values = np.asarray(rows, dtype=np.float64).reshape(-1, *shape)
        _expect_finite(values, names=self.description.features)
        return self.description.transform.apply(values), None

    def _ragged(self, rows: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        longest, channels = self.description.shape
        sequences = [np.asarray(row, dtype=np.float64) for row in rows]
        for number, row in enumerate(sequences):
            if row.ndim != 2 or row.shape[1] != channels or not 1 <= len(row) <= longest:
                wanted = f"[steps, {channels}], steps 1 to {longest}"
                raise DataError(f"row {number}: shape {list(row.shape)}, expected {wanted}")
        lengths = np.array([len(row) for row in sequences], dtype=np.int64)
        flat = np.concatenate(sequences) if sequences else np.zeros((0, channels))
        _expect_finite(flat, np.repeat(np.arange(len(lengths)), lengths))
        return pad(self.description.transform.apply(flat), lengths, longest), lengths

    def raw(self, samples: Samples) -> Arrays:
        """Prepared rows back in raw units: the inverse of `samples`."""
        return in_raw_units(self.description, np.asarray(samples.values), samples.lengths)

    def save(self, directory: Path) -> None:
        """Write the package's folder in place of what `directory` held."""
        with atomic.replacing(directory) as aside:
            aside.mkdir()
            self.trained.save(aside / "model")
            save_file(_tensors(self.references), aside / "scorers.safetensors")
            thresholds = {view: reference.threshold for view, reference in self.references.items()}
            atomic.write_json(aside / "package.json", {**asdict(self.facts), "thresholds": thresholds})

    @classmethod
    def open(cls, directory: Path) -> "Package":
        """Read what `save` wrote; `RegistryError` where it is missing, not whole, or too large to parse."""
        try:
            for name in ("package.json", "model/config.json"):
                _expect_small(directory / name)
            facts = json.loads((directory / "package.json").read_text(encoding="utf-8"))
            thresholds = facts.pop("thresholds")
            tensors = load_file(directory / "scorers.safetensors")
            references = {view: _reference(tensors, view, limit) for view, limit in thresholds.items()}
            return cls(Trained.load(directory / "model"), references, Facts(**facts))
        except FileNotFoundError as error:
            raise RegistryError(
                f"{error.filename or directory}: not found; promote the model again"
            ) from None
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RegistryError(f"{directory}: not a package ({error}); promote the model again") from None


def _expect_small(path: Path) -> None:
    size = path.stat().st_size
    if size > JSON_BYTES:
        raise RegistryError(f"{path}: {size:,} bytes, where a package has {JSON_BYTES:,} at most; not opened")


def in_raw_units(
    description: Description, values: NDArray[np.float32], lengths: NDArray[np.int64] | None
) -> Arrays:
    """Prepared rows of such data back in raw units, as `Package` takes them."""
    if description.tokenizer is not None:
        return description.tokenizer.invert(values, lengths)
    if description.encoding is not None:
        return cells.frame(description.encoding.invert(values), description.encoding)
    raw = description.transform.invert(values)
    if lengths is None:
        return raw
    return [row[:steps] for row, steps in zip(raw, lengths, strict=True)]


def column(description: Description) -> str:
    """The one column of a table of such data that isn't tabular."""
    if description.tokenizer is not None:
        return "text"
    return "pixels" if description.kind == "image" else "values"


def combined_score(scorer: Scorer, member: Trained, samples: Samples) -> NDArray[np.float64]:
    """The one score [n] that p-values and thresholds are of; `member` is a stack of one."""
    return scorer.score(member.residuals(samples)[0], member.encode(samples)[0])[COMBINED]


def _codes(codes: NDArray[np.float32]) -> pd.DataFrame:
    return pd.DataFrame(codes.astype(np.float64), columns=[f"z{unit}" for unit in range(codes.shape[1])])


def _tensors(references: dict[str, Reference]) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for view, reference in references.items():
        state = {**reference.scorer.state(), "calibration": reference.calibration}
        tensors |= {f"{view}/{name}": np.ascontiguousarray(value) for name, value in state.items()}
    return tensors


def _reference(tensors: dict[str, NDArray[Any]], view: str, limit: float | None) -> Reference:
    prefix = f"{view}/"
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    calibration = state.pop("calibration")
    return Reference(Scorer.from_state(state), calibration, limit)


def _nested(value: object, column: str, number: int) -> NDArray[np.float64]:
    """A nested list, or arrays in arrays as Parquet gives them, as one array of numbers."""
    try:
        return np.array(_plain(value), dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"column {column!r}, row {number}: not a regular nested array of numbers") from None


def _plain(value: object) -> object:
    return [_plain(part) for part in value] if isinstance(value, list | tuple | np.ndarray) else value


def _numbers(cells: "pd.Series[Any]") -> NDArray[np.float64]:
    try:
        return cells.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        for row, cell in enumerate(cells):
            try:
                float(cell)
            except (TypeError, ValueError):
                raise DataError(f"row {row}, column {cells.name!r}: {cell!r} is no number") from None
        raise


def _expect_finite(
    values: NDArray[np.float64], rows: NDArray[np.int64] | None = None, names: Sequence[str] = ()
) -> None:
    """Refuse what no model can take, naming the first row that holds it, and its column by `names`."""
    usable = np.abs(values) <= cells.LARGEST  # missing and infinite ones aren't either
    bad = np.flatnonzero(~usable.all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        row = bad[0] if rows is None else rows[bad[0]]
        column = f", column {names[np.flatnonzero(~usable[row])[0]]!r}" if names else ""
        beyond = f"or one beyond {cells.LARGEST:g}"
        raise DataError(f"row {row}{column}: holds a missing or infinite value, {beyond}")
