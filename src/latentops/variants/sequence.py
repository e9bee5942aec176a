"""Sequence autoencoder: the plain objective with an encoder and a decoder that go by steps.

What is asked of the code: to summarise any number of steps in one vector (Sutskever et al. 2014; Srivastava
et al. 2015). A gated recurrent unit reads the valid steps; a second one, driven by the code, writes them
back. A Transformer reads them at once (Vaswani et al. 2017). An image is read row by row, a table a few
columns at a time.

Diagnosis: error by step, since what lies far from the code's writing is lost first, and, of real values, by
frequency, since fine detail is.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, VariantSettings


class SequenceSettings(VariantSettings):
    """The architecture is the variant: it reads steps in their order.

    `architecture`: what reads the steps and writes them back.
    """

    architecture: Literal["recurrent", "transformer"] = "recurrent"


class Variant(Autoencoder):
    """Minimises the reconstruction over valid steps."""

    Settings = SequenceSettings

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


def neighbours(batch: Batch, sign: float) -> Float[Tensor, " members"]:
    """Sum of squares of ``(x_t + sign x_{t-1}) / √2`` over valid neighbours: one level of Haar's filters.

    (Mallat 1989, "A theory for multiresolution signal decomposition".) Sign 1 passes what is slower than
    four steps a cycle, -1 what is faster.
    """
    mixed = (batch.values[:, :, 1:] + sign * batch.values[:, :, :-1]) * batch.mask[:, :, 1:]
    return 0.5 * mixed.square().flatten(1).sum(1)
