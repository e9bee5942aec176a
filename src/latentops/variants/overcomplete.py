"""Overcomplete autoencoder: the code is larger than the input, so only regularisation keeps it from copying.

What is asked of the code: more directions than the data has, kept honest by weight decay
(Goodfellow et al. 2016, §14.2: regularised autoencoders may be overcomplete).

Diagnosis: how much of the code is used (effective rank against its size).
"""

import math
from typing import Annotated, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings


class OvercompleteSettings(VariantSettings):
    """`expansion`: code size over input values; `weight_decay`: nats for each unit of ``Σ w² / 2``."""

    expansion: Annotated[float, Field(gt=1)]
    weight_decay: Annotated[float, Field(ge=0)]


class Variant(Autoencoder):
    """Reconstruction plus an explicit L2 penalty on every weight (not on biases)."""

    Settings = OvercompleteSettings
    settings: OvercompleteSettings

    @classmethod
    def width(cls, settings: VariantSettings, shape: Shape, latent_dim: int) -> int:
        """`expansion` times the number of input values, whatever `latent_dim` is."""
        del latent_dim
        return math.ceil(cast(OvercompleteSettings, settings).expansion * math.prod(shape.sizes))

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`weight_decay` is ``Σ w² / 2`` over the weights of encoder and decoder."""
        weights = [parameter for name, parameter in self.named_parameters() if name.endswith("weight")]
        squares = torch.stack([(weight**2).flatten(1).sum(1) for weight in weights]).sum(0)
        return {**super().loss_terms(batch, noise), "weight_decay": 0.5 * squares}

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The reconstruction counts once, the squared weights as often as `weight_decay` says."""
        del progress
        return {"reconstruction": 1.0, "weight_decay": self.settings.weight_decay}
