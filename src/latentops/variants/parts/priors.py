"""Distributions that a code can be held to; all it takes of each is to draw from it.

Every unit has mean 0 and variance 1 under each of them but the categories, so that a weight, a step or a
deviation means the same whichever is chosen. Their shapes are those of Makhzani et al. 2016 (§2.4, §4 and
figures 3 and 4).
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latentops.errors import ConfigError
from latentops.variants.autoencoder import Noise

PriorName = Literal["gaussian", "mixture", "uniform", "swiss_roll", "categorical"]

WIDTH = 0.2
"""Deviation of one component of the mixture, and of the Swiss roll across its sheet."""

TURNS = (1.5 * math.pi, 4.5 * math.pi)
"""Angles at which the Swiss roll's sheet begins and ends."""


class Prior(ABC):
    """What codes of size `latent_dim` are to look like."""

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    @abstractmethod
    def draw(self, noise: Noise, count: int) -> Float[Tensor, "members count latent"]:
        """`count` codes a member, from that member's own noise."""

    def code(self, outputs: Float[Tensor, "members batch latent"]) -> Float[Tensor, "members batch latent"]:
        """The code of an encoder's outputs: they themselves, unless codes live on less than all of space."""
        return outputs

    def _normal(self, noise: Noise, count: int, units: int | None = None) -> Tensor:
        return noise.normal((len(noise.generators), count, self.latent_dim if units is None else units))


class Gaussian(Prior):
    """N(0, I)."""

    def draw(self, noise: Noise, count: int) -> Float[Tensor, "members count latent"]:
        """Independent standard normal units."""
        return self._normal(noise, count)


class Uniform(Prior):
    """Every unit uniform in ±√3."""

    def draw(self, noise: Noise, count: int) -> Float[Tensor, "members count latent"]:
        """Normal draws through their own distribution function."""
        return math.sqrt(3) * (2 * uniform(self._normal(noise, count)) - 1)


class Mixture(Prior):
    """Equally likely Gaussians around a circle in the plane of the first two units; the rest N(0, I).

    Two of them lie on a line, which is the first unit.
    """

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__(latent_dim)
        self.components = components

    def draw(self, noise: Noise, count: int) -> Float[Tensor, "members count latent"]:
        """A component each, and a place in it."""
        angle = category(self._normal(noise, count, 1), self.components) * (2 * math.pi / self.components)
        axes = [torch.cos(angle)] if self.components == 2 else [torch.cos(angle), torch.sin(angle)]
        centre = math.sqrt(len(axes) * (1 - WIDTH**2)) * torch.cat(axes, dim=-1)
        return _around(centre, self._normal(noise, count))


class SwissRoll(Prior):
    """A rolled-up sheet in the plane of the first two units, evenly thick; the rest N(0, I)."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        sheet = self._sheet(torch.linspace(0, 1, 10_001, dtype=torch.float64).unsqueeze(-1))
        self.centre = sheet.mean(0).tolist()
        self.scale = (math.sqrt(1 - WIDTH**2) / sheet.std(0, correction=0)).tolist()

    def draw(self, noise: Noise, count: int) -> Float[Tensor, "members count latent"]:
        """A place on the sheet, and how far across it."""
        sheet = self._sheet(uniform(self._normal(noise, count, 1)))
        units = zip(sheet.unbind(-1), self.centre, self.scale, strict=True)
        point = torch.stack([(unit - centre) * scale for unit, centre, scale in units], dim=-1)
        return _around(point, self._normal(noise, count))

    @staticmethod
    def _sheet(share: Float[Tensor, "*of 1"]) -> Float[Tensor, "*of 2"]:
        """The radius is the angle, and an angle as likely as its radius is long."""
        first, last = TURNS
        angle = torch.sqrt(first**2 + share * (last**2 - first**2))
        return torch.cat([angle * torch.cos(angle), angle * torch.sin(angle)], dim=-1)


class Categorical(Prior):
    """One of `components` categories, as the first units, N(0, I) as the rest: what and in which style."""

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__(latent_dim)
        self.components = components

    def draw(self, noise: Noise, count: int) -> Float[Tensor, "members count latent"]:
        """A one for the category, zeros for the others, then the style."""
        chosen = category(self._normal(noise, count, 1), self.components)
        one = (chosen == torch.arange(self.components, device=chosen.device)).to(torch.float32)
        return torch.cat([one, self._normal(noise, count, self.latent_dim - self.components)], dim=-1)

    def code(self, outputs: Float[Tensor, "members batch latent"]) -> Float[Tensor, "members batch latent"]:
        """The first units as probabilities of the categories."""
        which, style = outputs[..., : self.components], outputs[..., self.components :]
        return torch.cat([torch.softmax(which, dim=-1), style], dim=-1)


def build_prior(name: PriorName, latent_dim: int, components: int) -> Prior:
    """The prior called `name`; `ConfigError` where a code of `latent_dim` units has no room for it."""
    if name == "gaussian":
        return Gaussian(latent_dim)
    if name == "uniform":
        return Uniform(latent_dim)
    if name == "categorical":
        if components >= latent_dim:
            raise ConfigError(
                f"prior: categorical takes a unit for each of components: {components}, and one more, "
                f"but latent_dim is {latent_dim}; lower components or raise the dataset's latent_dim"
            )
        return Categorical(latent_dim, components)
    if latent_dim < 2:
        raise ConfigError(f"prior: {name} lies in a plane, but latent_dim is {latent_dim}; raise it to 2")
    return Mixture(latent_dim, components) if name == "mixture" else SwissRoll(latent_dim)


def uniform(normal: Tensor) -> Tensor:
    """Standard normal numbers to uniform ones in [0, 1]."""
    return torch.special.ndtr(normal)


def category(normal: Tensor, categories: int) -> Int[Tensor, "..."]:
    """Standard normal numbers to categories 0, 1, …, equally likely."""
    return (uniform(normal) * categories).clamp(max=categories - 1).long()


def _around(
    centre: Float[Tensor, "members count units"], normal: Float[Tensor, "members count latent"]
) -> Float[Tensor, "members count latent"]:
    """Codes near `centre` in as many units as it has, the first ones; standard normal in the others."""
    units = centre.shape[-1]
    return torch.cat([centre + WIDTH * normal[..., :units], normal[..., units:]], dim=-1)
