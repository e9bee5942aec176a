"""Denoising autoencoder: reconstruct the clean input from a corrupted one.

What is asked of the code: to hold what survives corruption, that is, the structure of the data rather than
its accidents (Vincent et al. 2008; the residual estimates the score of the data, Alain & Bengio 2014). The
corruption may rise or fall as training goes on: a high level learns coarse features, a low one fine ones
(Geras & Sutton 2015, "Scheduled denoising autoencoders"). Or each sample has a level of its own: then clean
ones, which are what is encoded later, are among those that were learned from (Zhang et al. 2017, "Beyond a
Gaussian denoiser", §3.3, "blind" denoising).

Diagnosis: error on corrupted input, which has to be below the corruption's own; of a table the error of
imputing values that are missing. `latentops.evaluation.denoising` holds it against other corruptions.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Generator, Tensor

from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.config import ArchitectureName, Architectures, LikelihoodName, LikelihoodSettings
from latentops.variants.autoencoder import Autoencoder, Noise, VariantSettings
from latentops.variants.parts.corruption import CORRUPTIONS, Level, check_corruption, fitting, mixed
from latentops.variants.parts.imputation import imputation_error

MISSING = 0.2
"""Share of a table's values that are taken away to see how well they are imputed."""


class DenoisingSettings(VariantSettings):
    """`corruption`: what is done to the input; auto is gaussian, of tokens replace.

    Real values take gaussian, masking and salt_and_pepper, tokens replace and drop, and mixed is one of those
    for each sample;
    `level`: deviation of Gaussian noise over that of the data, for gaussian and mixed;
    `share`: part of the values or tokens that is replaced, for all others and mixed;
    `varied`: whether each sample has a level and a share of its own, evenly from none up to these;
    `start`: strength of the corruption at the first step over that at the last;
    `ramp`: share of the steps in which it goes from the one to the other, linearly.
    """

    corruption: Literal["auto", "gaussian", "masking", "salt_and_pepper", "replace", "drop", "mixed"] = "auto"
    level: Annotated[float, Field(ge=0)]
    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    varied: bool = False
    start: Annotated[float, Field(ge=0)] = 1.0
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _never_replaces_more_than_all(self) -> Self:
        if self.corruption != "gaussian" and self.start * self.share > 1:
            raise ValueError(
                f"start × share is {self.start * self.share:g}, but no more than all values can be replaced: "
                f"lower start to {1 / self.share:g} or less"
            )
        return self


class Variant(Autoencoder):
    """Encodes a corrupted batch, is held to the clean one."""

    Settings = DenoisingSettings
    settings: DenoisingSettings

    def __init__(
        self,
        settings: DenoisingSettings,
        architecture: ArchitectureName,
        architectures: Architectures,
        shape: Shape,
        latent_dim: int,
        generators: Sequence[Generator],
        likelihood: LikelihoodSettings | LikelihoodName = "gaussian",
    ) -> None:
        super().__init__(settings, architecture, architectures, shape, latent_dim, generators, likelihood)
        self.kind = next(iter(fitting(shape))) if settings.corruption == "auto" else settings.corruption
        if self.kind != "mixed":
            check_corruption(self.kind, shape)

    def schedules(self, progress: float = 1.0) -> dict[str, float]:
        """`strength` of the corruption over that of the settings, where it changes."""
        start = self.settings.start
        if start == 1:
            return {}
        return {"strength": start + (1 - start) * min(1.0, progress / self.settings.ramp)}

    @property
    def corruption(self) -> str:
        """The corruption and its level, of mixed ones both."""
        level, share = f"{self.settings.level:g}", f"{self.settings.share:g}"
        mixture = f"{level}, {share}" if self.shape.vocabulary is None else share
        strength = {"gaussian": level, "mixed": mixture}.get(self.kind, share)
        return f"{self.kind} {'up to ' * self.settings.varied}{strength}"

    def corrupt(self, batch: Batch, noise: Noise) -> Batch:
        """Corrupt valid values; padding stays zero."""
        level: Level = self.settings.level
        share: Level = self.settings.share
        if self.settings.start != 1:
            level, share = (each * self.scheduled("strength") for each in (level, share))
        if self.settings.varied:
            evenly = torch.special.ndtr(noise.normal(tuple(batch.values.shape[:2])))
            evenly = evenly.view(*evenly.shape, *(1,) * (batch.values.ndim - 2))
            level, share = (each * evenly for each in (level, share))
        levels = {name: level if name == "gaussian" else share for name in CORRUPTIONS}
        if self.kind == "mixed":
            return mixed(batch, levels, noise, self.shape)
        return CORRUPTIONS[self.kind](batch, levels[self.kind], noise, self.shape)

    def loss_terms(self, batch: Batch, noise: Noise) -> dict[str, Float[Tensor, " members"]]:
        """`reconstruction` of the clean batch from the corrupted one."""
        return self.likelihood_terms(batch, self.encode(self.corrupt(batch, noise)))

    def diagnose(self, batch: Batch) -> dict[str, Float[Tensor, " members"]]:
        """`noise_kept`: squared error after denoising over that before it; below 1 is denoising.

        Of tokens errors are the shares of wrong ones. Without any noise it is NaN. Of a table
        `imputation_error`, over that of the columns' means: missing values as reconstructed.
        """
        corrupted = self.corrupt(batch, self._same_noise(batch))
        before = self.likelihood.mean_error(batch, corrupted.values).mean(-1)
        after = self.likelihood.mean_error(batch, self.reconstruct(corrupted)).mean(-1)
        found = {"noise_kept": after / before.masked_fill(before == 0, torch.nan)}
        if len(self.shape.sizes) == 1:
            found["imputation_error"] = imputation_error(self, batch, MISSING, self._same_noise(batch))
        return found

    def _same_noise(self, batch: Batch) -> Noise:
        return Noise([torch.Generator(batch.values.device).manual_seed(0) for _ in range(len(batch.values))])
