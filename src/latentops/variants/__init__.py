"""What makes a code good: one module for each of the nine variants, imported only when it is asked for."""

import importlib
import importlib.util
from collections.abc import Mapping

from latentops.config import ArchitectureName, nearest, params_path, parse
from latentops.errors import UnknownNameError
from latentops.variants.autoencoder import Autoencoder, VariantSettings

NAMES = (
    "undercomplete",
    "overcomplete",
    "sparse",
    "denoising",
    "contractive",
    "variational",
    "convolutional",
    "sequence",
    "adversarial",
)


def variant_class(name: str) -> type[Autoencoder]:
    """The class of variant `name`; `UnknownNameError` names the nearest one."""
    if name not in NAMES:
        raise UnknownNameError(f"unknown variant {name!r}{nearest(name, list(NAMES))}")
    module = importlib.import_module(f"latentops.variants.{name}")
    variant: type[Autoencoder] = module.Variant
    return variant


def variant_settings(name: str, section: Mapping[str, object]) -> VariantSettings:
    """The typed section `variants.<name>`; `ConfigError` names a key that is unknown or wrong."""
    return parse(variant_class(name).Settings, dict(section), f"{params_path()}: variants.{name}")


def resolve_architecture(settings: VariantSettings, dataset: ArchitectureName) -> ArchitectureName:
    """The architecture that the variant's settings name, else (`auto`) the dataset's."""
    return dataset if settings.architecture == "auto" else settings.architecture
