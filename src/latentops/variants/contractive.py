"""Contractive autoencoder: small changes of the input should hardly change the code.

What is asked of the code: to be insensitive in every direction but those that reconstruction needs, by a
penalty on the squared Frobenius norm of the encoder's Jacobian (Rifai et al. 2011, eq. 5).

Diagnosis: that norm on held-out data, and the variation left in the code: too much contraction collapses it.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures.mlp import Encoder as Perceptron
from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings


class ContractiveSettings(VariantSettings):
    """`weight`: nats for each unit of the squared norm; `norm`: how it is found.

    `exact` takes it on the first `samples` of a batch, `estimate` on all of it.
    """

    weight: Annotated[float, Field(ge=0)]
    norm: Literal["exact", "estimate"] = "exact"
    samples: Annotated[int, Field(gt=0, multiple_of=16)]


class Variant(Autoencoder):
    """Reconstruction plus the squared norm of the encoder's Jacobian."""

    Settings = ContractiveSettings
    settings: ContractiveSettings

    def squared_jacobian_norm(self, batch: Batch) -> Float[Tensor, "members batch"]:
        """``‖∂z/∂x‖²_F`` of each sample, over its valid values, differentiable.

        A perceptron's is a chain of its layers' Jacobians; any other encoder's is taken row by row.
        """
        if isinstance(self.encoder, Perceptron):
            flat = self.encoder.jacobian(batch)
            jacobian = flat.view(*flat.shape[:3], *self.shape.sizes)
            return (jacobian**2 * batch.mask.unsqueeze(2)).flatten(2).sum(-1)
        with torch.enable_grad():
            values = batch.values.detach().requires_grad_()
            codes = self.encode(batch.with_values(values))
            rows = [
                torch.autograd.grad(codes[..., unit].sum(), values, create_graph=True)[0]
                for unit in range(codes.shape[-1])
            ]
        return torch.stack([(row**2 * batch.mask).flatten(2).sum(-1) for row in rows]).sum(0)

    def codes_and_estimate(self, batch: Batch, noise: Noise) -> tuple[Tensor, Float[Tensor, "members batch"]]:
        """Codes, and of each sample ``‖Jᵀv‖²`` with v of independent signs, which is ``‖J‖²_F`` on average.

        (Hutchinson 1990.) One product with the transposed Jacobian, whatever the size of the code.
        """
        signs = noise.normal((*batch.values.shape[:2], self.latent_dim)).sign().to(batch.values.dtype)
        if isinstance(self.encoder, Perceptron):
            codes, pulled = self.encoder.pull(batch, signs)
            pulled = pulled.view(*pulled.shape[:2], *self.shape.sizes)
        else:
            with torch.enable_grad():
                values = batch.values.detach().requires_grad_()
                codes = self.encode(batch.with_values(values))
                (pulled,) = torch.autograd.grad(codes, values, signs, create_graph=True)
        if batch.lengths is not None:
            pulled = pulled * batch.mask
        return codes, pulled.square().flatten(2).sum(-1)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`contraction` is the mean squared Jacobian norm over the batch or the first `samples` of it."""
        if self.settings.norm == "estimate":
            codes, norms = self.codes_and_estimate(batch, noise)
            return {"reconstruction": self.nats(batch, codes), "contraction": norms.mean(-1)}
        part = slice(self.settings.samples)
        lengths = None if batch.lengths is None else batch.lengths[:, part]
        norm = self.squared_jacobian_norm(Batch(batch.values[:, part], lengths)).mean(-1)
        return {**super().loss_terms(batch, noise), "contraction": norm}

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """The reconstruction counts once, the squared norm as often as `weight` says."""
        del progress
        return {"reconstruction": 1.0, "contraction": self.settings.weight}

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`jacobian_norm`: root of the mean squared norm; `code_variance`: mean over units."""
        return {
            "jacobian_norm": self.squared_jacobian_norm(batch).mean(-1).sqrt().detach(),
            "code_variance": self.encode(batch).var(dim=1).mean(-1),
        }
