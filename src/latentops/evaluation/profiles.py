"""Health of a code along something: what every variant has, beside the profiles that are a variant's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latentops.architectures.convolutional import Encoder as Convolutional
from latentops.architectures.stack import Batch
from latentops.data.prepared import Samples
from latentops.evaluation.denoising import imputed, met, withstood
from latentops.evaluation.jacobian import spectrum
from latentops.evaluation.judge import Field
from latentops.evaluation.probe import Probe, fit_probe
from latentops.evaluation.rows import evenly
from latentops.evaluation.structure import best_unit_auroc, hidden_error
from latentops.training.trained import Trained
from latentops.variants.autoencoder import Profile

FITTED = 2048
"""Training rows that a probe by depth is fitted on, at most: the first layers' maps have many values."""


def profiles(trained: Trained, field: Field, codes: NDArray[np.floating], probe: Probe) -> dict[str, Profile]:
    """Profiles of members that saw all rows, on test rows whose codes are `[members, n, latent]`.

    `probe` reads clean codes. A variant's own, and

    - `withstood_error` and `withstood_probe_accuracy` by the corruption met: a row of the denoising matrix;
      with it `withstood_psnr` of values with bounds, and `withstood_ssim` of images;
    - `imputation_error` of tables, by the share of values that are missing;
    - `jacobian_spectrum` of the encoder by rank, free of the code's scale;
    - `unit_auroc` by class: of the best single unit;
    - `hidden_error` of images by the distance from what the encoder sees, over the data's variance;
    - `probe_by_depth` of convolutional encoders.

    What is nowhere defined is left out, and without labels what is read of them.
    """
    rows = evenly(len(field.samples["test"]))
    few = field.samples["test"].select(rows)
    corruptions = met(field.settings.denoising, trained.model.shape)
    names = [each.name for each in corruptions]
    stood = withstood(trained, probe, few, corruptions)
    kind = trained.description.kind
    error = "squared error" if trained.description.vocabulary is None else "share of wrong tokens"
    found = {
        **trained.profiles(few),
        "jacobian_spectrum": spectrum(trained, few, codes[:, rows]),
        "withstood_error": _profile(names, [each.error for each in stood], "corruption met", error),
        "unit_auroc": _unit_auroc(codes[:, rows], few.labels, field.classes),
    }
    for name, title, seeds in (
        ("withstood_psnr", "PSNR in dB", [each.psnr for each in stood]),
        ("withstood_ssim", "SSIM", [each.ssim for each in stood]),
    ):
        known = [each for each in seeds if each is not None]
        if known:
            found[name] = _profile(names, known, "corruption met", title)
    if field.labelled:
        found["withstood_probe_accuracy"] = _profile(
            names, [each.probe_accuracy for each in stood], "corruption met", "probe accuracy"
        )
    if kind == "tabular":
        shares = field.settings.denoising.masking
        errors = imputed(trained, few, shares)
        missing = [f"{share:.0%}" for share in shares]
        found["imputation_error"] = _profile(missing, errors, "values missing", "error over the means'")
    if kind == "image" and few.values.shape[-1] > 1:
        found["hidden_error"] = _hidden_error(trained, few)
    if isinstance(trained.model.encoder, Convolutional) and field.labelled:
        found["probe_by_depth"] = probe_by_depth(trained, field)
    return {name: each for name, each in found.items() if bool(each.values.isfinite().any())}


def to_json(profiles: Mapping[str, Profile]) -> dict[str, object]:
    """`{name: {x, x_title, y_title, values}}` with a list of values a seed; None where one is undefined."""
    return {
        name: {
            "x": list(each.x),
            "x_title": each.x_title,
            "y_title": each.y_title,
            "values": [[v if np.isfinite(v) else None for v in seed] for seed in each.values.tolist()],
        }
        for name, each in profiles.items()
    }


def probe_by_depth(trained: Trained, field: Field) -> Profile:
    """Accuracy of a linear probe on the input, on each layer's rectified maps, and on the code.

    Features are hierarchical where it rises with depth. Every probe is fitted on the same rows.
    """
    samples = field.samples
    splits = (
        samples["train"].select(evenly(len(samples["train"]), FITTED)),
        samples["stop"].select(evenly(len(samples["stop"]), FITTED)),
        samples["test"].select(evenly(len(samples["test"]))),
    )
    train, stop, test = (torch.from_numpy(np.array(split.labels)) for split in splits)

    def accuracy(of: Callable[[Samples], NDArray[np.float32]]) -> list[float]:
        features = [torch.from_numpy(np.array(of(split))).flatten(2) for split in splits]
        probe = fit_probe(features[0], train, features[1], stop, field.settings.probe.strengths)
        correct: list[float] = probe.correct(features[2], test).double().mean(-1).tolist()
        return correct

    def maps(layer: int) -> Callable[[Samples], NDArray[np.float32]]:
        return lambda split: trained.map(split, lambda batch: rectified_maps(trained, batch)[layer])

    layers = range(len(cast(Convolutional, trained.model.encoder).layers))
    by_place = [
        accuracy(lambda split: split.values[None]) * len(trained.members),
        *(accuracy(maps(layer)) for layer in layers),
        accuracy(trained.encode),
    ]
    places = ["input", *(f"layer {layer + 1}" for layer in layers), "code"]
    return _profile(places, by_place, "depth", "probe accuracy")


def rectified_maps(trained: Trained, batch: Batch) -> list[Float[Tensor, "members batch c h w"]]:
    """What each layer of a convolutional encoder hands on to the next."""
    encoder = cast(Convolutional, trained.model.encoder)
    return [functional.leaky_relu(maps) for maps in encoder.maps(trained.model.embed(batch))]


def _unit_auroc(codes: NDArray[np.floating], labels: NDArray[np.integer], classes: Sequence[str]) -> Profile:
    values = np.full((len(classes), len(codes)), np.nan)
    for member, each in enumerate(codes):
        best = best_unit_auroc(each, labels)[0]
        values[: len(best), member] = best
    return _profile(classes, values.tolist(), "class", "AUROC")


def _hidden_error(trained: Trained, images: Samples) -> Profile:
    hidden = images.values[..., images.values.shape[-1] // 2 :].astype(np.float64)
    variance = hidden.var(axis=0).mean(axis=(0, 1))
    errors = hidden_error(trained, images) / np.where(variance > 1e-12, variance, np.nan)
    distances = [str(at + 1) for at in range(errors.shape[1])]
    return _profile(
        distances, errors.T.tolist(), "columns from what is seen", "error over the data's variance"
    )


def _profile(x: Sequence[str], by_place: Sequence[Sequence[float]], x_title: str, y_title: str) -> Profile:
    return Profile(x, torch.tensor(by_place, dtype=torch.float64).T, x_title, y_title)
