"""prepare: clean rows as arrays, split and transformed, ready to train on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentops.config import Dataset, load_params
from latentops.data import prepared, splits, table
from latentops.data.prepared import Description, Samples
from latentops.data.tokenizer import Tokenizer
from latentops.data.transforms import Transform
from latentops.errors import DataError


def run(dataset: str) -> None:
    """Write `data/prepared/<dataset>`."""
    settings = load_params().dataset(dataset)
    clean = table.read(Path("data/clean", f"{dataset}.parquet"), f"validate@{dataset}")
    layout = table.layout_of(clean, settings.source.label)
    classes = settings.expectations.classes
    named = [str(name) for name in table.labels(clean, layout)]
    ids = table.content_hashes(clean, layout)
    uncalibrated = set(classes) - set(settings.normal) if settings.anomalies else set()
    rows = splits.indices(
        splits.assign(
            ids,
            clean.column(table.SOURCE).to_pylist(),
            named,
            seed=settings.split.seed,
            stop=settings.split.stop,
            calibration=settings.split.calibration,
            test=0.0 if settings.split.test == "official" else settings.split.test,
            uncalibrated=uncalibrated,
        )
    )
    if not len(rows["train"]):
        raise DataError(
            f"{dataset}: none of {clean.num_rows} clean rows is left to train on; see its `split:`"
        )
    splits.check_classes(
        dataset, rows, named, classes, settings.expectations.min_split_rows, uncalibrated=uncalibrated
    )
    fitted = [at for at in rows["train"] if not settings.anomalies or named[at] in settings.normal]

    lengths: NDArray[np.int64] | None = None
    tokenizer: Tokenizer | None = None
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
        spread=1.0 if tokenizer else _spread(samples.select(rows["train"])),
        likelihood_range=(0.0, 1.0) if scaling.name == "range" else None,
        vocabulary=tokenizer.vocabulary if tokenizer else None,
        tokenizer=tokenizer,
    )
    each = {split: samples.select(index) for split, index in rows.items()}
    prepared.write(Path("data/prepared", dataset), description, each)


def _spread(train: Samples) -> float:
    """Root of the mean variance of a value over the training rows; padding isn't counted."""
    values = np.asarray(train.values, dtype=np.float64)
    if train.lengths is not None:
        padding = np.arange(values.shape[1]) >= train.lengths[:, None]
        values = np.where(padding[:, :, None], np.nan, values)
    return float(np.sqrt(np.nanmean(np.nanvar(values, axis=0))))


def _transform(settings: Dataset, rows: NDArray[np.floating]) -> Transform:
    """Scaled by the known range of values, or standardised on `rows`, as `scaling` says."""
    if settings.source.value_range is not None and settings.scaling.name == "range":
        return Transform.from_range(*settings.source.value_range)
    return Transform.fit_power(rows) if settings.scaling.name == "power" else Transform.fit(rows)
