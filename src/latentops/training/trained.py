"""A trained stack: saved as safetensors and JSON, loaded without running any code but the project's own."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentops import atomic
from latentops.architectures import Shape
from latentops.architectures.stack import Batch
from latentops.config import (
    ArchitectureName,
    Architectures,
    LikelihoodName,
    LikelihoodSettings,
    Params,
    params_path,
    parse,
)
from latentops.data import prepared
from latentops.data.prepared import Description, Samples
from latentops.errors import ConfigError, DataError, LatentOpsError, UnknownNameError
from latentops.training.members import VIEW_ALL, Member, Resident
from latentops.variants import resolve_architecture, variant_class, variant_settings
from latentops.variants.autoencoder import Autoencoder, Noise, Profile, VariantSettings
from latentops.variants.likelihood import check_likelihood

CHUNK = 1024
"""Samples that go through the stack at once; of tokens so many for every `TOKENS` of the vocabulary."""

TOKENS = 64


@dataclass(frozen=True)
class Recipe:
    """All that is needed to build a stack of `variant` again, but its weights."""

    variant: str
    settings: VariantSettings
    architecture: ArchitectureName
    architectures: Architectures
    latent_dim: int
    description: Description
    likelihood: LikelihoodSettings = field(default_factory=lambda: LikelihoodSettings(name="gaussian"))

    @classmethod
    def resolve(
        cls,
        variant: str,
        section: Mapping[str, object],
        dataset_architecture: ArchitectureName,
        architectures: Architectures,
        latent_dim: int,
        description: Description,
        likelihood: LikelihoodSettings | LikelihoodName = "gaussian",
    ) -> "Recipe":
        """The recipe for `variant` as `params.yaml` has it, on the data that `description` tells of.

        Raises `LikelihoodError` where the likelihood can't take that data.
        """
        likelihood = LikelihoodSettings.model_validate(likelihood)
        check_likelihood(likelihood.name, _shape(description))
        settings = variant_settings(variant, section)
        width = variant_class(variant).width(settings, _shape(description), latent_dim)
        architecture = resolve_architecture(settings, dataset_architecture)
        return cls(variant, settings, architecture, architectures, width, description, likelihood)

    def build(self, members: Sequence[Member]) -> Autoencoder:
        """A stack at its initial weights: each member's depend on its seed and view alone."""
        generators = [member.generator("initialisation") for member in members]
        return variant_class(self.variant)(
            self.settings,
            self.architecture,
            self.architectures,
            _shape(self.description),
            self.latent_dim,
            generators,
            self.likelihood,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same recipe again."""
        return {
            "variant": self.variant,
            "settings": self.settings.model_dump(mode="json"),
            "architecture": self.architecture,
            "architectures": self.architectures.model_dump(mode="json"),
            "latent_dim": self.latent_dim,
            "likelihood": self.likelihood.to_json(),
            "description": self.description.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_json` wrote; further keys are passed over."""
        return cls(
            value["variant"],
            variant_settings(value["variant"], value["settings"]),
            value["architecture"],
            parse(Architectures, value["architectures"], "config.json: architectures"),
            value["latent_dim"],
            Description.from_json(value["description"]),
            parse(LikelihoodSettings, value["likelihood"], "config.json: likelihood"),
        )


def check_models(params: Params, root: Path = Path()) -> None:
    """Build one member of every cell of the DAG whose dataset is prepared under `root`, and forget it.

    Whether a variant fits an architecture, and both the data, is for them to say. Raises `ConfigError` that
    names the dataset and the variant.
    """
    for name in params.run.datasets:
        dataset, folder = params.dataset(name), root / "data" / "prepared" / name
        if not (folder / "dataset.json").exists():
            continue
        description = prepared.describe(folder)
        for variant in params.run.variants:
            try:
                Recipe.resolve(
                    variant,
                    params.variant(variant),
                    dataset.architecture,
                    dataset.architectures,
                    dataset.latent_dim,
                    description,
                    dataset.likelihood,
                ).build([Member(params.training.seeds[0], VIEW_ALL)])
            except LatentOpsError as error:
                where = f"{params_path()}: datasets.{name} × variants.{variant}"
                raise ConfigError(f"{where}: {error}") from error


def _shape(description: Description) -> Shape:
    return Shape(
        description.shape,
        description.kind == "sequence",
        description.spread,
        description.likelihood_range,
        description.columns,
        description.vocabulary,
        description.optional,
    )


class Trained:
    """A stack of members with what they were trained on; arrays in, arrays out."""

    def __init__(self, model: Autoencoder, members: Sequence[Member], recipe: Recipe) -> None:
        self.model = model.requires_grad_(False).cpu().eval()
        self.members = tuple(members)
        self.recipe = recipe

    @property
    def description(self) -> Description:
        """What the data looks like."""
        return self.recipe.description

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.recipe.variant

    @property
    def latent_dim(self) -> int:
        """Size of the code."""
        return self.recipe.latent_dim

    @property
    def config(self) -> dict[str, Any]:
        """What `save` writes beside the weights."""
        return {**self.recipe.to_json(), "members": [asdict(member) for member in self.members]}

    @property
    def parameters(self) -> int:
        """Numbers that one member has learned."""
        return sum(p.numel() for p in self.model.parameters()) // len(self.members)

    def save(self, directory: Path) -> None:
        """Write `weights.safetensors` and `config.json` in place of what `directory` held."""
        with atomic.replacing(directory) as aside:
            aside.mkdir()
            weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
            save_file(weights, aside / "weights.safetensors")
            atomic.write_json(aside / "config.json", self.config)

    @classmethod
    def load(cls, directory: Path) -> "Trained":
        """Read what `save` wrote; `DataError` where it is missing or isn't whole."""
        try:
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            weights = load_file(directory / "weights.safetensors")
            recipe = Recipe.from_json(config)
            members = [Member(**member) for member in config["members"]]
            model = recipe.build(members)
            model.load_state_dict(weights)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename or directory}: not found; `dvc repro` trains it") from None
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{directory}: not a trained stack ({reason}); train it again") from None
        return cls(model, members, recipe)

    def untrained(self) -> "Trained":
        """The same members at their initial weights."""
        return Trained(self.recipe.build(self.members), self.members, self.recipe)

    def select(self, *, seed: int | None = None, view: str | None = None) -> "Trained":
        """The members of that seed and view; `UnknownNameError` where there is none."""
        chosen = [
            index
            for index, member in enumerate(self.members)
            if seed in (None, member.seed) and view in (None, member.view)
        ]
        if not chosen:
            have = sorted({f"seed {m.seed}, view {m.view}" for m in self.members})
            raise UnknownNameError(f"no member of seed {seed}, view {view!r}; there are: {'; '.join(have)}")
        members = [self.members[index] for index in chosen]
        model = self.recipe.build(members)
        model.load_state_dict({name: value[chosen] for name, value in self.model.state_dict().items()})
        return Trained(model, members, self.recipe)

    def encode(self, samples: Samples, scratch: Path | None = None) -> NDArray[np.float32]:
        """Codes `[members, samples, latent]`.

        With a `scratch` folder they are mapped from a file there, which has no name and goes with the array.
        """
        return self.map(samples, self.model.encode, scratch)

    def reconstruct(self, samples: Samples) -> NDArray[np.float32]:
        """Reconstructions `[members, samples, *shape]`, in the prepared data's units, zero in padding."""
        return self.map(samples, self.model.reconstruct)

    def residuals(self, samples: Samples, scratch: Path | None = None) -> NDArray[np.float32]:
        """Squared residuals of the reconstruction `[members, samples, values]`, NaN where no value is.

        Of tokens they are nats. With a `scratch` folder they are mapped as in `encode`.
        """
        return self.map(samples, self.model.residuals, scratch)

    def sample(self, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Decoded draws from the prior `[members, count, *shape]`, and their lengths `[members, count]`.

        There are none where they aren't modelled; beyond them values are zero. Raises `LatentOpsError` where
        the variant has no prior.
        """
        generators = [Member(seed, member.view).generator("sample") for member in self.members]
        with torch.no_grad():
            drawn = self.model.sample(count, Noise(generators))
        return drawn.values.numpy(), None if drawn.lengths is None else drawn.lengths.numpy()

    def diagnose(self, samples: Samples) -> dict[str, list[float]]:
        """The variant's health numbers on `samples`, one a member."""
        resident = Resident.put(samples, torch.device("cpu"))
        with torch.no_grad():
            numbers = self.model.diagnose(resident.shared(len(self.members)))
        return {name: value.tolist() for name, value in numbers.items()}

    def profiles(self, samples: Samples) -> dict[str, Profile]:
        """The variant's health numbers along something on `samples`, one value a member at each place."""
        resident = Resident.put(samples, torch.device("cpu"))
        with torch.no_grad():
            return self.model.profiles(resident.shared(len(self.members)))

    def map(
        self, samples: Samples, of: Callable[[Batch], Tensor], scratch: Path | None = None
    ) -> NDArray[np.float32]:
        """What `of` makes of the samples, batch by batch: `[members, samples, …]`."""
        resident = Resident.put(samples, torch.device("cpu"))
        size = max(1, CHUNK // max(1, (self.description.vocabulary or 0) // TOKENS))

        def part(start: int) -> NDArray[np.float32]:
            return of(resident.shared(len(self.members), slice(start, start + size))).numpy()

        with torch.no_grad():
            first = part(0)
            result = _room((len(first), len(samples), *first.shape[2:]), scratch)
            result[:, :size] = first
            for start in range(size, len(samples), size):
                result[:, start : start + size] = part(start)
        return result


def _room(shape: tuple[int, ...], scratch: Path | None) -> NDArray[np.float32]:
    """An array to fill, in memory or in a nameless file in `scratch`."""
    if scratch is None or 0 in shape:
        return np.empty(shape, dtype=np.float32)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
