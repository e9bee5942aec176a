"""Are drawn samples like the data? For variants with a prior, against test rows that no model has seen.

Samples fail in different ways, so three things are asked: how far their distribution is from the data's,
whether each of them is like data and all of the data has its like, and whether a classifier tells the two
apart.

The first two look at features, not at values: at what the last hidden layer of a small classifier of the
training rows' labels makes of them. Without labels features are the values themselves, centred.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from latentops.data.prepared import Samples
from latentops.evaluation.classifier import Classifiers
from latentops.evaluation.floors import flatten
from latentops.evaluation.judge import Field
from latentops.evaluation.rows import ROWS_OF_TOKENS, evenly
from latentops.training.trained import CHUNK, TOKENS, Trained

HELD = 2048
"""Test rows that samples are held against, at most, and how many are drawn."""

FITTED = 8192
"""Training rows that features are learned from, at most."""

NEIGHBOURS = 5
"""That a neighbourhood of the data reaches to (Naeem et al. 2020, §4)."""

FEWEST = 4 * NEIGHBOURS
"""Test rows without which nothing is said."""

Inputs = Float[Tensor, "rows inputs"]
Features = Float[Tensor, "rows features"]


def generation(trained: Trained, field: Field) -> dict[str, list[float]]:
    """Health numbers of samples that are drawn from the prior, one a member.

    - `kid`: kernel distance of samples from test rows, on average 0 where they are alike; `kid_real`, its
      floor, that of real rows from real rows: test and stop rows shared out at random, anew for each member;
    - `density`: samples in the data's neighbourhoods over what is expected of real rows, more than 1 where
      they crowd; `coverage`: share of the neighbourhoods that hold any, of real rows about 0.97;
    - `generated_two_sample_accuracy`: how often a classifier tells samples from test rows; 0.5 can't.

    Nothing is said of a variant without a prior, or with fewer than `FEWEST` test rows.
    """
    vocabulary = trained.description.vocabulary
    most = HELD if vocabulary is None else ROWS_OF_TOKENS
    held = [field.samples["stop"], field.samples["test"]]
    train = field.samples["train"].select(evenly(len(field.samples["train"]), FITTED))
    stop, test = (each.select(evenly(len(each), most)) for each in held)
    if not trained.model.has_prior or len(test) < FEWEST:
        return {}
    drawn = [inputs(each, vocabulary) for each in draw(trained, len(test), train)]
    known, others, real = (inputs(each, vocabulary) for each in (train, stop, test))
    look = features(known, torch.from_numpy(np.array(train.labels)), len(field.classes))
    seen, pool = look(real), look(torch.cat([real, others]))
    made = [look(each) for each in drawn]
    shared = [shared_out(pool, len(seen), member) for member in range(len(made))]
    fair = [density_and_coverage(seen, each) for each in made]
    return {
        "kid": [kernel_distance(each, seen) for each in made],
        "kid_real": [kernel_distance(*parts) for parts in shared],
        "density": [density for density, _ in fair],
        "coverage": [coverage for _, coverage in fair],
        "generated_two_sample_accuracy": two_sample_accuracy(torch.stack(drawn), real),
    }


def draw(trained: Trained, count: int, train: Samples) -> list[Samples]:
    """`count` samples from each member's prior, as rows of the data are; their labels mean nothing.

    What no model says is that of rows of `train`, drawn at random: which values of a table are missing, and
    how long sequences are where lengths aren't modelled.
    """
    description = trained.description
    size = max(1, CHUNK // max(1, (description.vocabulary or 0) // TOKENS))
    starts = range(0, count, size)
    parts = [trained.sample(min(size, count - start), seed) for seed, start in enumerate(starts)]
    values = np.concatenate([part for part, _ in parts], axis=1)
    like = replace(train.select(np.random.default_rng(0).integers(len(train), size=count)), windows=None)
    if description.columns:
        flags = sum(description.columns)
        values = np.where(description.present(like.values), values, np.float32(0))
        values[..., flags:] = like.values[:, flags:]
    if like.lengths is None:
        return [replace(like, values=each) for each in values]
    modelled = [each for _, each in parts if each is not None]
    lengths = np.concatenate(modelled, axis=1) if modelled else np.tile(like.lengths, (len(values), 1))
    values[np.arange(values.shape[2]) >= lengths[..., None]] = 0
    return [replace(like, values=each, lengths=steps) for each, steps in zip(values, lengths, strict=True)]


def inputs(samples: Samples, vocabulary: int | None) -> Inputs:
    """Rows of equal length as `floors.flatten` has them; of ragged real values their length is one more."""
    rows = flatten(samples, vocabulary)
    if samples.lengths is not None and vocabulary is None:
        share = np.asarray(samples.lengths)[:, None] / samples.values.shape[1]
        rows = np.concatenate([rows, share], axis=1)
    return torch.from_numpy(rows).float()


def features(known: Inputs, labels: Int[Tensor, " rows"], classes: int) -> Callable[[Inputs], Features]:
    """What rows are looked at by: learned from the `known` ones and their labels, if there are any.

    Features are scaled together, so that their mean square over the known rows is 1 and a kernel distance
    means the same on all data.
    """
    if classes > 1:
        classifier = Classifiers.fit(known.unsqueeze(0), labels.unsqueeze(0), classes)

        def unscaled(rows: Inputs) -> Features:
            return classifier.hidden(rows.unsqueeze(0)).squeeze(0)
    else:
        mean = known.mean(0)

        def unscaled(rows: Inputs) -> Features:
            return rows - mean

    scale = unscaled(known).square().mean().sqrt().clamp_min(1e-12)
    return lambda rows: unscaled(rows) / scale


def kernel_distance(made: Features, real: Features) -> float:
    """Unbiased squared maximum mean discrepancy under the kernel ``(xᵀy / d + 1)³``.

    (Bińkowski et al. 2018, "Demystifying MMD GANs", §4.) 0 on average where both are from one distribution,
    so below it half the time.
    """
    made, real = made.double(), real.double()

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        return (left @ right.T / left.shape[1] + 1) ** 3

    def within(rows: Tensor) -> float:
        values = kernel(rows, rows)
        return float(values.sum() - values.trace()) / (len(rows) * (len(rows) - 1))

    return within(made) + within(real) - 2 * float(kernel(made, real).mean())


def density_and_coverage(real: Features, made: Features) -> tuple[float, float]:
    """Fidelity and variety by neighbourhoods of the real rows (Naeem et al. 2020, eq. 5 and 6).

    A real row's neighbourhood reaches to its `NEIGHBOURS`-th nearest. Density is how many of them a sample
    lies in, over that number; coverage the share of them that a sample lies in.
    """
    real, made = real.double(), made.double()
    among = torch.cdist(real, real).fill_diagonal_(torch.inf)
    radii = among.kthvalue(min(NEIGHBOURS, len(real) - 1), dim=1).values
    # Of equal rows products of blocks leave some rounding, which is nothing beside features of about 1.
    inside = torch.cdist(real, made) <= radii.unsqueeze(1) + 1e-6
    density = float(inside.sum()) / (NEIGHBOURS * len(made))
    return density, float(inside.any(1).double().mean())


def two_sample_accuracy(drawn: Float[Tensor, "members rows inputs"], real: Inputs) -> list[float]:
    """How often a classifier tells each member's samples from as many real rows, which it wasn't given.

    (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests".) Two of them, each asked about the half
    that the other was trained on. 0.5 can't tell them apart, below it is chance.
    """
    members, count, _ = drawn.shape
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    halves = order[: count // 2], order[count // 2 : 2 * (count // 2)]
    both = [torch.cat([drawn[:, half], real[half].expand(members, -1, -1)], dim=1) for half in halves]
    is_real = (torch.arange(both[0].shape[1]) >= len(halves[0])).long().expand(2 * members, -1)
    told = Classifiers.fit(torch.cat(both), is_real, 2).logits(torch.cat(both[::-1])).argmax(-1) == is_real
    accuracy: list[float] = told.double().mean(1).view(2, members).mean(0).tolist()
    return accuracy


def shared_out(pool: Features, count: int, seed: int) -> tuple[Features, Features]:
    """`count` rows of the pool at random, and the others."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    return pool[order[:count]], pool[order[count:]]
