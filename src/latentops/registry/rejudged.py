"""A package judged again, by the protocol of `evaluate`: what it is worth on rows that lie here."""

from dataclasses import replace

import torch

from latentops.data.prepared import Samples
from latentops.evaluation.coder import coder
from latentops.evaluation.comparison import Row
from latentops.evaluation.judge import Field, judge
from latentops.registry.package import Package


def rejudged(package: Package, field: Field) -> Row:
    """The package's one member as a row of the leaderboard, on prepared rows that its transform made."""
    torch.set_num_threads(int(package.facts.settings["training"]["threads"]))
    member = package.trained
    verdict = judge(
        field, package.facts.variant, "variant", member.latent_dim, [package.facts.seed], coder(member, field)
    )
    return Row(
        verdict.name, verdict.role, verdict.latent_dim, verdict.seeds, verdict.metrics, verdict.samples
    )


def seen_by(package: Package, field: Field, made: Package) -> Field:
    """The rows of `field`, which are as the transform of `made` has them, as that of `package` has them.

    Raises `DataError` where they aren't what `package` takes.
    """

    def again(samples: Samples) -> Samples:
        mine = package.samples(made.raw(samples))
        return replace(samples, values=mine.values, lengths=mine.lengths)

    return replace(field, samples={split: again(samples) for split, samples in field.samples.items()})
