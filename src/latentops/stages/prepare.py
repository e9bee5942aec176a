"""prepare: clean rows as arrays, split and transformed, ready to train on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentops.config import Dataset, load_params
from latentops.data import prepared, splits, table
from latentops.data.encoding import Column, Encoding
from latentops.data.prepared import UNLABELLED, Description, Samples
from latentops.data.table import Layout
from latentops.data.tokenizer import Tokenizer
from latentops.data.transforms import Transform
from latentops.errors import DataError


def run(dataset: str) -> None:
    """Write `data/prepared/<dataset>`."""
    settings = load_params().dataset(dataset)
    clean = table.read(Path("data/clean", f"{dataset}.parquet"), f"validate@{dataset}")
    layout = table.layout_of(clean, settings.source.label)
    classes = settings.expectations.classes or [UNLABELLED]
    named = [name or UNLABELLED for name in table.labels(clean, layout)]
    ids = table.content_hashes(clean, layout)
    rows = splits.indices(
        splits.assign(
            ids,
            clean.column(table.SOURCE).to_pylist(),
            named,
            seed=settings.split.seed,
            stop=settings.split.stop,
            calibration=settings.split.calibration,
            test=0.0 if settings.split.test == "official" else settings.split.test,
            uncalibrated=set(classes) - set(settings.normal) if settings.anomalies else (),
        )
    )
    if not len(rows["train"]):
        raise DataError(
            f"{dataset}: none of {clean.num_rows} clean rows is left to train on; see its `split:`"
        )
    fitted = [at for at in rows["train"] if not settings.anomalies or named[at] in settings.normal]

    lengths: NDArray[np.int64] | None = None
    tokenizer: Tokenizer | None = None
    encoding: Encoding | None = None
    scaling = settings.scaling
    if scaling.vocabulary is not None and scaling.longest is not None:
        texts = table.texts(clean)
        learned = [texts[at] for at in fitted]
        tokenizer = Tokenizer.train(learned, scaling.vocabulary, scaling.longest)
        transform = Transform.identity()
        steps, lengths = tokenizer.apply(texts)
        values = prepared.pad(steps, lengths, int(lengths.max()))
    elif layout.kind == "sequence":
        flat, sizes = table.ragged(clean)
        steps = flat.reshape(-1, *layout.shape)
        lengths = sizes // layout.shape[0]
        belongs = np.repeat(np.arange(len(lengths)), lengths)
        transform = _transform(settings, steps[np.isin(belongs, fitted)])
        values = prepared.pad(transform.apply(steps), lengths, int(lengths.max()))
    elif layout.kind == "tabular" and _is_mixed(clean, layout):
        columns = table.columns(clean, layout)
        encoding = _encoding(settings, columns, layout, fitted)
        transform = Transform.identity()
        values = encoding.apply(columns)
    else:
        raw = table.dense(clean, layout)
        transform = _transform(settings, raw[fitted])
        values = transform.apply(raw)

    labels = np.array([classes.index(name) for name in named], dtype=np.int64)
    samples = Samples(values, lengths, labels, ids)
    description = Description(
        kind="sequence" if layout.kind == "text" else layout.kind,
        shape=values.shape[1:],
        features=layout.features,
        classes=tuple(classes),
        transform=transform,
        spread=1.0 if tokenizer else _spread(samples.select(rows["train"]), encoding),
        likelihood_range=(0.0, 1.0) if scaling.name == "range" else None,
        columns=encoding.widths if encoding else (),
        optional=encoding.flagged if encoding else (),
        encoding=encoding,
        vocabulary=tokenizer.vocabulary if tokenizer else None,
        tokenizer=tokenizer,
    )
    each = {split: samples.select(index) for split, index in rows.items()}
    prepared.write(Path("data/prepared", dataset), description, each)


def _is_mixed(clean: pa.Table, layout: Layout) -> bool:
    """Whether a table has more than numbers that are all there."""
    others = any(type_ != "numeric" for _, type_ in layout.columns())
    return others or bool(np.isnan(table.dense(clean, layout)).any())


def _encoding(
    settings: Dataset, columns: Mapping[str, Column], layout: Layout, fitted: Sequence[int]
) -> Encoding:
    """Fitted on those rows; that a column has missing values is known from all of them."""
    missing = [
        name
        for name, each in columns.items()
        if (None in each if isinstance(each, list) else np.isnan(np.asarray(each, np.float64)).any())
    ]
    known: dict[str, Column] = {
        name: [each[at] for at in fitted] if isinstance(each, list) else np.asarray(each)[fitted]
        for name, each in columns.items()
    }
    return Encoding.fit(
        known,
        dict(layout.columns()),
        missing,
        lambda rows: _transform(settings, rows),
        categories=settings.scaling.categories,
        buckets=settings.scaling.buckets,
    )


def _spread(train: Samples, encoding: Encoding | None) -> float:
    """Root of the mean variance of a value over the training rows; padding isn't counted."""
    if encoding is not None:
        return encoding.spread(train.values)
    values = np.asarray(train.values, dtype=np.float64)
    if train.lengths is not None:
        padding = np.arange(values.shape[1]) >= train.lengths[:, None]
        values = np.where(padding[:, :, None], np.nan, values)
    return float(np.sqrt(np.nanmean(np.nanvar(values, axis=0))))


def _transform(settings: Dataset, rows: NDArray[np.floating]) -> Transform:
    """Scaled by the known range of values, or standardised on `rows`, as `scaling` says."""
    if settings.source.value_range is not None and settings.scaling.name == "range":
        return Transform.from_range(*settings.source.value_range)
    fits = {
        "power": Transform.fit_power,
        "robust": Transform.fit_robust,
        "quantile": Transform.fit_quantile,
    }
    return fits.get(settings.scaling.name, Transform.fit)(rows)
