"""Denoising autoencoder: reconstruct the clean input from a corrupted one.

What is asked of the code: to hold what survives corruption, that is, the structure of the data rather than
its accidents (Vincent et al. 2008; the residual estimates the score of the data, Alain & Bengio 2014).

Diagnosis: error on corrupted input, which has to be below the corruption's own.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings
from latentops.variants.likelihood import mean_squared_error


class DenoisingSettings(VariantSettings):
    """`level`: standard deviation of the Gaussian corruption over that of the data."""

    level: Annotated[float, Field(ge=0)]


class Variant(Autoencoder):
    """Encodes a corrupted batch, is held to the clean one."""

    Settings = DenoisingSettings
    settings: DenoisingSettings

    def corrupt(self, batch: Batch, noise: Noise) -> Batch:
        """Add Gaussian noise to valid values; padding stays zero."""
        draws = noise.normal(tuple(batch.values.shape))
        return batch.with_values(
            (batch.values + self.settings.level * self.shape.spread * draws) * batch.mask
        )

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`reconstruction` of the clean batch from the corrupted one."""
        return {"reconstruction": self.nats(batch, self.encode(self.corrupt(batch, noise)))}

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`noise_kept`: squared error after denoising over that before it; below 1 is denoising."""
        members = batch.values.shape[0]
        noise = Noise([torch.Generator(batch.values.device).manual_seed(0) for _ in range(members)])
        corrupted = self.corrupt(batch, noise)
        before = mean_squared_error(batch, corrupted.values).mean(-1)
        after = mean_squared_error(batch, self.reconstruct(corrupted)).mean(-1)
        return {"noise_kept": after / before.clamp_min(1e-12)}
