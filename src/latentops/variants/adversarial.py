"""Adversarial autoencoder: a discriminator holds the code to a prior.

What is asked of the code: to be indistinguishable from N(0, I) over all data while it still reconstructs
(Makhzani et al. 2016). The discriminator learns to tell prior draws from codes; the encoder learns to deceive
it, with the non-saturating loss (Goodfellow et al. 2014, §3).

Both learn in one backward pass: the discriminator sees the code detached, the encoder a discriminator whose
parameters are detached.

Diagnosis: the discriminator's accuracy; 0.5 means that it can't tell the code from the prior.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentops.architectures import Shape
from latentops.architectures.affine import Linear
from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, LikelihoodName
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings


class AdversarialSettings(VariantSettings):
    """`weight`: nats for each nat of deception; `hidden`: width of the discriminator's two layers."""

    weight: Annotated[float, Field(ge=0)]
    hidden: Annotated[int, Field(gt=0)]


class Discriminator(nn.Module):
    """Codes to one logit a sample: above 0 says "from the prior"."""

    def __init__(self, latent_dim: int, hidden: int, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(before, after, generators)
            for before, after in ((latent_dim, hidden), (hidden, hidden), (hidden, 1))
        )

    def forward(self, codes: Float[Tensor, "members batch latent"]) -> Float[Tensor, "members batch"]:
        """Logits."""
        first, second, last = self.layers
        logits: Tensor = last(functional.leaky_relu(second(functional.leaky_relu(first(codes), 0.2)), 0.2))
        return logits.squeeze(-1)


class Variant(Autoencoder):
    """Reconstruction plus deception for encoder and decoder, discrimination for the discriminator."""

    Settings = AdversarialSettings
    settings: AdversarialSettings
    has_prior = True

    def __init__(
        self,
        settings: AdversarialSettings,
        architecture: ArchitectureName,
        architectures: Architectures,
        shape: Shape,
        latent_dim: int,
        generators: Sequence[Generator],
        likelihood: LikelihoodName = "gaussian",
    ) -> None:
        super().__init__(settings, architecture, architectures, shape, latent_dim, generators, likelihood)
        self.discriminator = Discriminator(latent_dim, settings.hidden, generators)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`deception` moves the encoder alone, `discrimination` the discriminator alone; in nats a sample."""
        codes = self.encode(batch)
        prior = noise.normal(tuple(codes.shape))
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        deceived = torch.func.functional_call(self.discriminator, frozen, (codes,))
        on_prior, on_codes = self.discriminator(prior), self.discriminator(codes.detach())
        return {
            "reconstruction": self.nats(batch, codes),
            "deception": functional.softplus(-deceived).mean(-1),
            "discrimination": (functional.softplus(-on_prior) + functional.softplus(on_codes)).mean(-1),
        }

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The encoder's deception is weighted; the discriminator plays for itself."""
        del progress
        return {"reconstruction": 1.0, "deception": self.settings.weight, "discrimination": 1.0}

    def monitored(self) -> tuple[str, ...]:
        """The reconstruction alone: the two players' losses have no minimum to stop at."""
        return ("reconstruction",)

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`discriminator_accuracy` on codes and as many prior draws."""
        codes = self.encode(batch)
        members = codes.shape[0]
        noise = Noise([torch.Generator(codes.device).manual_seed(0) for _ in range(members)])
        right_on_prior = self.discriminator(noise.normal(tuple(codes.shape))) > 0
        right_on_codes = self.discriminator(codes) <= 0
        accuracy = torch.cat([right_on_prior, right_on_codes], dim=1).to(codes.dtype).mean(-1)
        return {"discriminator_accuracy": accuracy}
