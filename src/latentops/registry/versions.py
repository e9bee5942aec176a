"""Registered models by the names people use for them: `digits`, `digits@champion`, `digits/3`."""

import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from latentops.errors import RegistryError
from latentops.registry import store
from latentops.registry.package import Package

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
SUFFIX = "-autoencoder"
PACKAGE = "latentops.package_sha256"
"""The tag of a version that has the sha256 of its files."""
_NAME = re.compile(
    r"(?:models:/)?(?P<dataset>[^@/]+?)(?:-autoencoder)?(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))?"
)


@dataclass(frozen=True)
class Version:
    """One registered version of a dataset's model; `alias` is what it was asked for by, if anything."""

    dataset: str
    model: str
    number: int
    alias: str | None
    run_id: str
    tags: dict[str, str]

    @property
    def name(self) -> str:
        """`dataset@alias`, or `dataset/number`."""
        return f"{self.dataset}@{self.alias}" if self.alias else f"{self.dataset}/{self.number}"


def model_name(dataset: str) -> str:
    """What the registered model of `dataset` is called."""
    return f"{dataset}{SUFFIX}"


def resolve(name: str) -> Version:
    """The version that `name` means; `RegistryError` says what exists where there is none."""
    with store.plain_errors():
        return resolve_with(store.connect(), name)


def load(name: str) -> Package:
    """The package of the version that `name` means, ready to use."""
    client = store.connect()
    with store.plain_errors():
        return open_version(client, resolve_with(client, name))


def open_version(client: MlflowClient, version: Version) -> Package:
    """The package of `version`; `RegistryError` where its files are gone, or aren't those it was made with.

    Of a version's files only the package is opened, which holds numbers and JSON: no loader, script or
    pickle that lies beside it is run.
    """
    return package(registered_files(client, version))


def registered_files(client: MlflowClient, version: Version) -> Path:
    """As `expect_files`; `RegistryError` also where they aren't those that the version was made with."""
    from latentops.registry import packaging

    folder = expect_files(client, version)
    if packaging.digest(folder) != version.tags.get(PACKAGE):
        raise RegistryError(
            f"{version.name}: its files are not those that were registered, so it isn't opened; see "
            f"`latentops verify {version.name}`, and `latentops promote {version.dataset}` makes them anew"
        )
    return folder


def package(folder: Path) -> Package:
    """The package among a version's files in `folder`."""
    return Package.open(folder / "artifacts" / "package")


def expect_files(client: MlflowClient, version: Version) -> Path:
    """As `files`; `RegistryError` where they are gone."""
    folder = files(client, version)
    if folder is None:
        raise RegistryError(f"{version.name}: its files are gone; run `latentops promote {version.dataset}`")
    return folder


def files(client: MlflowClient, version: Version) -> Path | None:
    """A local folder with the version's files; none if they are gone.

    Where the store is a server they are fetched each time, into a folder that goes with this process.
    """
    address = store.tracking_uri()
    uri = client.get_model_version_download_uri(version.model, str(version.number))
    target = tempfile.mkdtemp(dir=_fetched().name) if store.is_server(address) else None
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=target, tracking_uri=address))
    except (OSError, MlflowException):
        return None


@cache
def _fetched() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="latentops-", ignore_cleanup_errors=True)


def aliased(client: MlflowClient, dataset: str, alias: str) -> Version | None:
    """The version that `alias` points to, if there is one."""
    try:
        found = client.get_model_version_by_alias(model_name(dataset), alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _version(dataset, found, alias)


def versions(client: MlflowClient, dataset: str) -> list[Version]:
    """Every version there is, the newest first."""
    found = client.search_model_versions(f"name = '{model_name(dataset)}'")
    return sorted((_version(dataset, each, None) for each in found), key=lambda v: v.number, reverse=True)


def resolve_with(client: MlflowClient, name: str) -> Version:
    """The same with a client at hand."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise RegistryError(
            f"{name!r} is not a model's name; write DATASET, DATASET@ALIAS or DATASET/VERSION"
        )
    dataset, number = parts["dataset"], parts["version"]
    if number is None:
        found = aliased(client, dataset, parts["alias"] or CHAMPION)
    else:
        found = next((each for each in versions(client, dataset) if each.number == int(number)), None)
    if found is None:
        raise RegistryError(f"no model {name!r}; {_what_exists(client, dataset)}")
    return found


def _what_exists(client: MlflowClient, dataset: str) -> str:
    numbers = [version.number for version in versions(client, dataset)]
    if numbers:
        aliases = sorted(client.get_registered_model(model_name(dataset)).aliases)
        return (
            f"{dataset} has versions {', '.join(map(str, reversed(numbers)))}"
            f" and aliases {', '.join(aliases) or 'none'}"
        )
    known = sorted(model.name.removesuffix(SUFFIX) for model in client.search_registered_models())
    if known:
        return f"models exist for: {', '.join(known)}"
    return "nothing is registered yet: run `make repro`"


def _version(dataset: str, found: ModelVersion, alias: str | None) -> Version:
    return Version(
        dataset,
        found.name,
        int(found.version),
        alias,
        str(found.run_id),
        {k: str(v) for k, v in found.tags.items()},
    )
