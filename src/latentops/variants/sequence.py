"""Sequence autoencoder: the plain objective with a recurrent encoder and decoder.

What is asked of the code: to summarise any number of steps in one vector (Sutskever et al. 2014; Srivastava
et al. 2015). A gated recurrent unit reads the valid steps; a second one, driven by the code, writes them
back. An image is read row by row, a table a few columns at a time.

Diagnosis: error by step, since what lies far from the code's writing is lost first.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, VariantSettings


class SequenceSettings(VariantSettings):
    """The architecture is the variant: it reads steps in their order."""

    architecture: Literal["recurrent", "transformer"] = "recurrent"


class Variant(Autoencoder):
    """Minimises the reconstruction over valid steps."""

    Settings = SequenceSettings

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`late_error`: squared error in the last valid step over that in the first, for ragged data."""
        if batch.lengths is None:
            return {}
        squares = ((self.reconstruct(batch) - batch.values) ** 2).mean(-1)
        last = torch.gather(squares, 2, (batch.lengths - 1).unsqueeze(-1)).squeeze(-1)
        return {"late_error": last.mean(-1) / squares[:, :, 0].mean(-1).clamp_min(1e-12)}
