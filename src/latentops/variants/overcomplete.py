"""Overcomplete autoencoder: the code is larger than the input, so only regularisation keeps it from copying.

What is asked of the code: more directions than the data has, kept honest by one of (Goodfellow et al. 2016,
§14.2: regularised autoencoders may be overcomplete)

- `weight_decay`: an L2 penalty on every weight;
- `sparsity`: rectified units under a scale-free L1 (as in `sparse.py`);
- `noise`: the input is corrupted, the clean one is asked for (Vincent et al. 2008);
- `dropout`: units of the code are left out at random (Srivastava et al. 2014);
- `none`: nothing, as the warning example.

Diagnosis: the copy score (`copying.py`): what is reconstructed of what isn't data, beside what is of data.
"""

import math
from statistics import NormalDist
from typing import Annotated, Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings
from latentops.variants.parts.copying import copying
from latentops.variants.parts.corruption import gaussian
from latentops.variants.parts.sparsity import HEAD_START, normalised_l1

Codes = Float[Tensor, "members batch latent"]


class OvercompleteSettings(VariantSettings):
    """`expansion`: code size over input values; `regulariser`: which of the strengths after it counts.

    `weight_decay`: nats for each unit of ``Σ w² / 2``; `sparsity`: nats for each unit of normalised L1;
    `noise`: deviation of the corruption over the data's; `dropout`: share of units left out.
    """

    expansion: Annotated[float, Field(gt=1)]
    regulariser: Literal["weight_decay", "sparsity", "noise", "dropout", "none"] = "weight_decay"
    weight_decay: Annotated[float, Field(ge=0)] = 0.2
    sparsity: Annotated[float, Field(ge=0)] = 1.0
    noise: Annotated[float, Field(ge=0)] = 1.0
    dropout: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Variant(Autoencoder):
    """Reconstruction, and what keeps it from being a copy."""

    Settings = OvercompleteSettings
    settings: OvercompleteSettings

    @classmethod
    def width(cls, settings: VariantSettings, shape: Shape, latent_dim: int) -> int:
        """`expansion` times the number of input values, whatever `latent_dim` is."""
        del latent_dim
        return math.ceil(cast(OvercompleteSettings, settings).expansion * math.prod(shape.sizes))

    def encode(self, batch: Batch) -> Codes:
        """Rectified where units have to be sparse; these start on."""
        return self.units(self.embed(batch))

    def units(self, seen: Batch) -> Codes:
        """The code of what the encoder reads."""
        codes: Tensor = self.encoder(seen)
        return torch.relu(codes + HEAD_START) if self.settings.regulariser == "sparsity" else codes

    @property
    def corruption(self) -> str | None:
        """Gaussian where noise is the regulariser."""
        return f"gaussian {self.settings.noise:g}" if self.settings.regulariser == "noise" else None

    def corrupt(self, seen: Batch, noise: Noise) -> Batch:
        """Add Gaussian noise to valid values, or tokens' vectors; padding stays zero."""
        return gaussian(seen, self.settings.noise, noise, self.shape)

    def drop(self, codes: Codes, noise: Noise) -> Codes:
        """Each unit zero with probability `dropout`, else scaled up so that its mean stays."""
        kept = 1 - self.settings.dropout
        limit = NormalDist().inv_cdf(kept)  # a normal number lies below it with probability `kept`
        return codes * (noise.normal(tuple(codes.shape)) < limit).to(codes.dtype) / kept

    def squared_weights(self) -> Float[Tensor, " members"]:
        """``Σ w² / 2`` over the weights of encoder and decoder, not their biases."""
        weights = [parameter for name, parameter in self.named_parameters() if name.endswith("weight")]
        return 0.5 * torch.stack([(weight**2).flatten(1).sum(1) for weight in weights]).sum(0)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """The reconstruction, from what noise or dropout leave; a penalty by its name."""
        regulariser = self.settings.regulariser
        seen = self.embed(batch)
        codes = self.units(self.corrupt(seen, noise) if regulariser == "noise" else seen)
        penalties = {}
        if regulariser == "weight_decay":
            penalties = {"weight_decay": self.squared_weights()}
        elif regulariser == "sparsity":
            penalties = {"sparsity": normalised_l1(codes)}
        elif regulariser == "dropout":
            codes = self.drop(codes, noise)
        return {**self.likelihood_terms(batch, codes), **penalties}

    def coefficients(self, progress: float = 1.0) -> dict[str, float]:
        """A penalty counts as its key says, sparsity from half-way on (units pressed at once die)."""
        regulariser = self.settings.regulariser
        weights = super().coefficients(progress)
        if regulariser == "weight_decay":
            return weights | {"weight_decay": self.settings.weight_decay}
        if regulariser == "sparsity":
            return weights | {"sparsity": self.settings.sparsity * min(1.0, 2 * progress)}
        return weights

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`copy_score` and `explained`, R² on what isn't data and on what is."""
        return copying(self, batch)
