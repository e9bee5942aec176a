"""Sequence autoencoder: the plain objective with an encoder and a decoder that go by steps.

What is asked of the code: to summarise any number of steps in one vector (Sutskever et al. 2014; Srivastava
et al. 2015). A gated recurrent unit reads the valid steps; a second one, driven by the code, writes them
back. A Transformer reads them at once (Vaswani et al. 2017). An image is read row by row, a table a few
columns at a time.

Or in a vector a step, from which a sequence is written as long as the one that was read. As these carry more
than one vector does, the code that is judged, their mean, is not all that a reconstruction is made of.

Diagnosis: error by step, since what lies far from the code's writing is lost first, and by frequency, since
fine detail is.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latentops.architectures import Shape
from latentops.architectures.recurrent import Encoder as Recurrent
from latentops.architectures.stack import Batch
from latentops.architectures.transformer import Encoder as Transformer
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings
from latentops.errors import ConfigError
from latentops.variants.autoencoder import Autoencoder, VariantSettings


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
        return cast(Recurrent | Transformer, self.encoder).each(batch)

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """Of ragged data, `late_error`: squared error in the last valid step over that in the first.

        `slow_error` and `fast_error`: squared error of the sums and of the differences of neighbouring steps,
        over the squares of the data's own.
        """
        if batch.lengths is None:
            return {}
        errors = self.reconstruct(batch) - batch.values
        squares = errors.square().mean(-1)
        last = torch.gather(squares, 2, (batch.lengths - 1).unsqueeze(-1)).squeeze(-1)
        found = {"late_error": last.mean(-1) / squares[:, :, 0].mean(-1).clamp_min(1e-12)}
        for name, sign in (("slow_error", 1.0), ("fast_error", -1.0)):
            energies = [neighbours(batch.with_values(each), sign) for each in (errors, batch.values)]
            found[name] = energies[0] / energies[1].clamp_min(1e-12)
        return found


def neighbours(batch: Batch, sign: float) -> Float[Tensor, " members"]:
    """Sum of squares of ``(x_t + sign x_{t-1}) / √2`` over valid neighbours: one level of Haar's filters.

    (Mallat 1989, "A theory for multiresolution signal decomposition".) Sign 1 passes what is slower than
    four steps a cycle, -1 what is faster.
    """
    mixed = (batch.values[:, :, 1:] + sign * batch.values[:, :, :-1]) * batch.mask[:, :, 1:]
    return 0.5 * mixed.square().flatten(1).sum(1)
