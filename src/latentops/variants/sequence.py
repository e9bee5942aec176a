"""Sequence autoencoder: the plain objective with an encoder and a decoder that go by steps.

What is asked of the code: to summarise any number of steps in one vector (Sutskever et al. 2014; Srivastava
et al. 2015). A gated recurrent unit reads the valid steps; a second one, driven by the code, writes them
back. A Transformer reads them at once (Vaswani et al. 2017). An image is read row by row, a table a few
columns at a time.

Or in a vector a step, from which a sequence is written as long as the one that was read. As these carry more
than one vector does, the code that is judged, their mean, is not all that a reconstruction is made of.

Diagnosis: error by step, since what lies far from the code's writing is lost first, and, of real values, by
frequency, since fine detail is.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from latentops.architectures import Shape
from latentops.architectures.recurrent import Encoder as Recurrent
from latentops.architectures.stack import Batch
from latentops.architectures.transformer import Encoder as Transformer
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings
from latentops.errors import ConfigError
from latentops.variants.autoencoder import Autoencoder, Profile, VariantSettings

PLACES = 10
"""Of a profile by step or by frequency, at most."""


class SequenceSettings(VariantSettings):
    """The architecture is the variant: it reads steps in their order.

    `architecture`: what reads the steps and writes them back;
    `latent`: one vector that the architecture's pooling makes of all steps (pooled), or a vector for each of
    them (per_step), whose mean over the valid ones is the code that is judged.
    """

    architecture: Literal["recurrent", "transformer"] = "recurrent"
    latent: Literal["pooled", "per_step"] = "pooled"


class Variant(Autoencoder):
    """Minimises the reconstruction over valid steps."""

    Settings = SequenceSettings
    settings: SequenceSettings

    def __init__(
        self,
        settings: SequenceSettings,
        architecture: ArchitectureName,
        architectures: Architectures,
        shape: Shape,
        latent_dim: int,
        generators: Sequence[Generator],
        likelihood: LikelihoodSettings | LikelihoodName = "gaussian",
    ) -> None:
        if settings.latent == "per_step":
            sizes = {name: getattr(architectures, name) for name in ("recurrent", "transformer")}
            by_mean = {name: each.model_copy(update={"pooling": "mean"}) for name, each in sizes.items()}
            architectures = architectures.model_copy(update=by_mean)
        super().__init__(settings, architecture, architectures, shape, latent_dim, generators, likelihood)
        if settings.latent == "per_step" and self.lengths is not None:
            raise ConfigError(
                "variants.sequence.latent: per_step tells a sequence's length by how many codes there are; "
                "drop length from the likelihood, or use latent: pooled"
            )

    def latent(self, batch: Batch) -> Float[Tensor, "members batch *steps latent"]:
        """The code, or those of all steps, of which `encode` is the mean over the valid ones."""
        if self.settings.latent == "pooled":
            return self.encode(batch)
        return cast(Recurrent | Transformer, self.encoder).each(self.embed(batch))

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """Of ragged data, `late_error`: squared error (or nats) in the last valid step over the first's.

        `slow_error` and `fast_error`: squared error of the sums and of the differences of neighbouring steps,
        over the squares of the data's own. Tokens have neither.
        """
        if batch.lengths is None:
            return {}
        missed = self.residuals(batch).view_as(batch.values).mean(-1)
        last = torch.gather(missed, 2, (batch.lengths - 1).unsqueeze(-1)).squeeze(-1)
        found = {"late_error": last.mean(-1) / missed[:, :, 0].mean(-1).clamp_min(1e-12)}
        if self.embedding is not None:
            return found
        errors = self.reconstruct(batch) - batch.values
        for name, sign in (("slow_error", 1.0), ("fast_error", -1.0)):
            energies = [neighbours(batch.with_values(each), sign) for each in (errors, batch.values)]
            found[name] = energies[0] / energies[1].clamp_min(1e-12)
        return found

    def profiles(self, batch: Batch) -> dict[str, Profile]:
        """`error_by_step` and `error_by_frequency`, each over what the data itself has there.

        Steps are as the encoder reads them, of an image its rows. A table has none in an order. Tokens have
        no variance, and no frequencies: their error is in nats.
        """
        reader = cast(Recurrent | Transformer, self.encoder).steps
        if len(self.shape.sizes) == 1 or reader.steps < 2:
            return {}
        where, lengths = "place in the sequence (0 first, 1 last)", batch.lengths
        if lengths is None:
            lengths = torch.full(batch.values.shape[:2], reader.steps, device=batch.values.device)
        if self.embedding is not None:
            places, by_step = nats_by_step(self.residuals(batch), lengths)
            return {"error_by_step": Profile(places, by_step, where, "nats a token")}
        errors = reader.read(batch.with_values(self.reconstruct(batch) - batch.values))
        data = reader.read(batch)
        places, by_step = error_by_step(errors, data, lengths)
        frequencies, by_frequency = error_by_frequency(errors, data, lengths)
        return {
            "error_by_step": Profile(places, by_step, where, "error over the data's variance"),
            "error_by_frequency": Profile(
                frequencies, by_frequency, "cycles a step", "error over the data's power"
            ),
        }


def error_by_step(
    errors: Float[Tensor, "members batch steps width"],
    data: Float[Tensor, "members batch steps width"],
    lengths: Int[Tensor, "members batch"],
) -> tuple[list[float], Float[Tensor, "members places"]]:
    """Squared error by place, 0 being a sequence's first step and 1 its last, over the data's variance there.

    Up to `PLACES` places, at the nearest of which a step counts. 1 is no better than the mean; NaN where the
    data doesn't vary.
    """
    places, at = by_place(lengths, errors.shape[2])
    found = []
    for each in at:
        here = each.unsqueeze(-1).to(data.dtype)
        known = here.sum((1, 2), keepdim=True).clamp_min(1)
        mean = (data * here).sum((1, 2), keepdim=True) / known
        variance = ((data - mean).square() * here).flatten(1).sum(1)
        squares = (data.square() * here).flatten(1).sum(1)
        error = (errors.square() * here).flatten(1).sum(1)
        found.append(error / variance.masked_fill(variance <= 1e-12 * squares, torch.nan))
    return places, torch.stack(found, dim=-1)


def nats_by_step(
    nats: Float[Tensor, "members batch steps"], lengths: Int[Tensor, "members batch"]
) -> tuple[list[float], Float[Tensor, "members places"]]:
    """Mean nats of a token by place, as `error_by_step` has them; NaN where there is none."""
    places, at = by_place(lengths, nats.shape[2])
    return places, torch.stack([nats.masked_fill(~here, torch.nan).flatten(1).nanmean(1) for here in at], -1)


def by_place(
    lengths: Int[Tensor, "members batch"], steps: int
) -> tuple[list[float], list[Bool[Tensor, "members batch steps"]]]:
    """Up to `PLACES` places from a sequence's first step, 0, to its last, 1, and the steps nearest each."""
    count = min(PLACES, steps)
    step = torch.arange(steps, device=lengths.device)
    share = step / (lengths - 1).clamp_min(1).unsqueeze(-1)
    place = (share * (count - 1)).round().masked_fill(step >= lengths.unsqueeze(-1), -1)
    return [at / (count - 1) for at in range(count)], [place == at for at in range(count)]


def error_by_frequency(
    errors: Float[Tensor, "members batch steps width"],
    data: Float[Tensor, "members batch steps width"],
    lengths: Int[Tensor, "members batch"],
) -> tuple[list[float], Float[Tensor, "members frequencies"]]:
    """Power of the errors over that of the data, at up to `PLACES` frequencies to half a cycle a step.

    Sequences are centred over their valid steps, so that where they end is no edge, and transformed at fixed
    frequencies, so that padding changes nothing. NaN where the data has no power.
    """
    count = min(PLACES, errors.shape[2] // 2)
    frequencies = [(at + 1) / (2 * count) for at in range(count)]
    step = torch.arange(errors.shape[2], device=errors.device, dtype=errors.dtype)
    turns = 2 * torch.pi * torch.outer(step, torch.tensor(frequencies, device=errors.device))
    waves = torch.cat([turns.cos(), turns.sin()], dim=1).to(errors.dtype)
    valid = (step < lengths.unsqueeze(-1)).unsqueeze(-1).to(errors.dtype)

    def power(values: Tensor) -> Tensor:
        centred = (values - (values * valid).sum(2, keepdim=True) / valid.sum(2, keepdim=True)) * valid
        return (centred.transpose(2, 3) @ waves).square().sum((1, 2)).view(-1, 2, count).sum(1)

    own = power(data)
    return frequencies, power(errors) / own.masked_fill(own <= 1e-12, torch.nan)


def neighbours(batch: Batch, sign: float) -> Float[Tensor, " members"]:
    """Sum of squares of ``(x_t + sign x_{t-1}) / √2`` over valid neighbours: one level of Haar's filters.

    (Mallat 1989, "A theory for multiresolution signal decomposition".) Sign 1 passes what is slower than
    four steps a cycle, -1 what is faster.
    """
    mixed = (batch.values[:, :, 1:] + sign * batch.values[:, :, :-1]) * batch.mask[:, :, 1:]
    return 0.5 * mixed.square().flatten(1).sum(1)
