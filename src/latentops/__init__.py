"""LatentOps trains every kind of autoencoder, judges each by its latent code, keeps the best in production.

import latentops

model = latentops.load("digits@champion")
codes = model.encode(images)      # images [n, 1, 8, 8] in raw units → codes [n, d]
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentops.registry.package import Package

try:
    __version__ = version("latentops")
except PackageNotFoundError:  # inside a model's package the code travels without its distribution
    __version__ = "unknown"


def load(name: str) -> "Package":
    """The registered model called `name`, ready to use.

    `name` is a dataset with an alias or a version, such as `digits@champion`, `digits@previous`, `digits/3`;
    a dataset alone means its champion. Raises `RegistryError` that says what exists where there is no such
    model.
    """
    from latentops.registry.versions import load as load_version

    return load_version(name)
