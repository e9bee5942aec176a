"""What makes a code good: a module for each variant, imported only when it is asked for.

A variant of one's own is a file beside these, found by its name, or the class that an installed package
offers under that name as an entry point of the group `latentops.variants`.
"""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from latentops.config import ArchitectureName, nearest, params_path, parse
from latentops.errors import ConfigError, UnknownNameError
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
GROUP = "latentops.variants"
FOLDER = Path(__file__).parent


def known() -> list[str]:
    """Names of the nine, then of one's own: of the files here that define a `Variant`, and installed ones."""
    defines = re.compile(r"^(?:class\s+|from\s.+\simport\s.*\b)?Variant\b", re.MULTILINE)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py"))}
    files = [name for name, text in texts.items() if name not in NAMES and defines.search(text)]
    return list(dict.fromkeys([*NAMES, *files, *sorted(_installed())]))


def variant_file(name: str) -> Path | None:
    """The file here that variant `name` is in, which DVC goes by; None where it is installed alone."""
    path = FOLDER / f"{name}.py"
    return path if name.isidentifier() and path.exists() else None


def variant_class(name: str) -> type[Autoencoder]:
    """The class of variant `name`.

    Raises `UnknownNameError` with the nearest name where there is none, and `ConfigError` where there are
    two, or it isn't one.
    """
    file = variant_file(name)
    offers = {offer.value: offer for offer in _installed().get(name, ())}
    found = {str(file): _from_file(name, file)} if file is not None else {}
    for where, offer in offers.items():
        found[f"the installed {where}"] = _from_package(offer)
    if not found:
        raise UnknownNameError(
            f"unknown variant {name!r}{nearest(name, known())}; one of your own is a file "
            f"{FOLDER / name}.py or in an installed package"
        )
    (where, variant), *others = found.items()
    for other, same in others:
        if same is not variant:
            raise ConfigError(f"variant {name!r} is there twice, in {where} and {other}: rename one of them")
    return variant


def variant_settings(name: str, section: Mapping[str, object]) -> VariantSettings:
    """The typed section `variants.<name>`; `ConfigError` names a key that is unknown or wrong."""
    return parse(variant_class(name).Settings, dict(section), f"{params_path()}: variants.{name}")


def resolve_architecture(settings: VariantSettings, dataset: ArchitectureName) -> ArchitectureName:
    """The architecture that the variant's settings name, else (`auto`) the dataset's."""
    return dataset if settings.architecture == "auto" else settings.architecture


@cache
def _installed() -> dict[str, list[EntryPoint]]:
    """What installed packages offer, by name: looked up once, since nothing is installed meanwhile."""
    offered: dict[str, list[EntryPoint]] = {}
    for each in entry_points(group=GROUP):
        offered.setdefault(each.name, []).append(each)
    return offered


def _from_file(name: str, file: Path) -> type[Autoencoder]:
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except Exception as error:
        raise ConfigError(f"{file}: can't be imported: {_line(error)}") from error
    if not hasattr(module, "Variant"):
        raise UnknownNameError(
            f"{file}: defines no class Variant, so it is no variant{nearest(name, known())}"
        )
    return _checked(module.Variant, str(file))


def _from_package(offer: EntryPoint) -> type[Autoencoder]:
    where = f"entry point {offer.name} = {offer.value}"
    try:
        offered = offer.load()
    except Exception as error:
        raise ConfigError(f"{where}: can't be imported: {_line(error)}") from error
    return _checked(offered, where)


def _checked(variant: object, where: str) -> type[Autoencoder]:
    if not (inspect.isclass(variant) and issubclass(variant, Autoencoder)):
        raise ConfigError(f"{where}: Variant must be a class derived from Autoencoder")
    if not (inspect.isclass(variant.Settings) and issubclass(variant.Settings, VariantSettings)):
        raise ConfigError(f"{where}: Variant.Settings must be a class derived from VariantSettings")
    return variant


def _line(error: Exception) -> str:
    return " ".join([f"{type(error).__name__}:", *str(error).split()])
