"""Variational autoencoder: a generative model whose encoder approximates the posterior of the code.

What is asked of the code: to be as informative as it is worth in nats, and N(0, I) over all data, so that
codes drawn from the prior decode to new samples. Minimises the negative evidence lower bound with the
reparameterised gradient (Kingma & Welling 2014, eq. 10; the KL term in closed form, appendix B).

Diagnosis: active units (Burda et al. 2016) and nats: a unit whose posterior is the prior has collapsed.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings


class VariationalSettings(VariantSettings):
    """`beta`: weight of the KL term (Higgins et al. 2017); 1 is the bound itself."""

    beta: Annotated[float, Field(ge=0)]


def kl_to_standard_normal(
    mean: Float[Tensor, "members batch latent"], log_variance: Float[Tensor, "members batch latent"]
) -> Float[Tensor, "members batch latent"]:
    """``KL(N(mean, exp(log_variance)) ‖ N(0, 1))`` of each unit, in nats."""
    return 0.5 * (mean**2 + torch.exp(log_variance) - 1 - log_variance)


class Variant(Autoencoder):
    """Gaussian encoder, reparameterised; the code that is judged is the posterior's mean."""

    Settings = VariationalSettings
    settings: VariationalSettings
    heads = 2
    has_prior = True

    def posterior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code, each `[members, batch, latent]`."""
        mean, log_variance = self.encoder(batch).chunk(2, dim=-1)
        return mean, log_variance.clamp(-12, 6)

    def encode(self, batch: Batch) -> Float[Tensor, "members batch latent"]:
        """The posterior's mean."""
        return self.posterior(batch)[0]

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`reconstruction` of a reparameterised draw and `kl` summed over units."""
        mean, log_variance = self.posterior(batch)
        codes = mean + torch.exp(0.5 * log_variance) * noise.normal(tuple(mean.shape))
        return {
            "reconstruction": self.nats(batch, codes),
            "kl": kl_to_standard_normal(mean, log_variance).sum(-1).mean(-1),
        }

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The reconstruction counts once, the KL as often as `beta` says."""
        del progress
        return {"reconstruction": 1.0, "kl": self.settings.beta}

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`active_units`: posterior means with variance above 0.01 over the data; `kl`: nats a sample."""
        mean, log_variance = self.posterior(batch)
        return {
            "active_units": (mean.var(dim=1) > 0.01).to(mean.dtype).sum(-1),
            "kl": kl_to_standard_normal(mean, log_variance).sum(-1).mean(-1),
        }
