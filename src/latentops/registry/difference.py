"""Two registered versions side by side: what differs in identity, settings, figures and gates."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from latentops.errors import RegistryError
from latentops.registry import candidate, results, store, versions
from latentops.registry.package import Package
from latentops.registry.versions import Version

ABSENT = "–"

IDENTITY = {
    "variant": candidate.VARIANT,
    "seed": candidate.SEED,
    "dataset digest": candidate.DIGEST,
    "content hash": results.CONTENT,
    "forced": candidate.FORCED,
    "rejected": candidate.REJECTED,
}
"""What a version's tags are called here."""


@dataclass(frozen=True)
class Entry:
    """One thing that two versions are told apart by: what the `left` and the `right` one have."""

    group: str
    name: str
    left: str
    right: str


@dataclass(frozen=True)
class Difference:
    """All that differs between two versions; of settings, metrics and gates alike what only one has."""

    left: str
    right: str
    entries: tuple[Entry, ...]


def diff(one: str, other: str) -> Difference:
    """What differs between the versions that two names mean.

    Raises `RegistryError` where there is no such version, its files are gone, or they are of two datasets.
    """
    client = store.connect()
    with store.plain_errors():
        pair = [versions.resolve_with(client, name) for name in (one, other)]
        if pair[0].dataset != pair[1].dataset:
            raise RegistryError(
                f"{pair[0].name} and {pair[1].name}: a difference is between versions of one dataset's model"
            )
        told = [_told(client, version) for version in pair]
    entries = [
        Entry(group, name, left.get(name, ABSENT), right.get(name, ABSENT))
        for (group, left), (_, right) in zip(told[0].items(), told[1].items(), strict=True)
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
    left, right = (f"{version.dataset}/{version.number}" for version in pair)
    return Difference(left, right, tuple(entries))


def _told(client: MlflowClient, version: Version) -> dict[str, dict[str, str]]:
    folder = versions.files(client, version)
    if folder is None:
        raise RegistryError(f"{version.name}: its files are gone; run `latentops promote {version.dataset}`")
    facts = Package.open(folder / "artifacts" / "package").facts
    return {
        "identity": {n: version.tags[tag] for n, tag in IDENTITY.items() if tag in version.tags},
        "setting": dict(_flat(facts.settings)),
        "metric": _metrics(client, version),
        "gate": {
            key.removeprefix("gate."): _gate(json.loads(value))
            for key, value in version.tags.items()
            if key.startswith("gate.")
        },
    }


def _metrics(client: MlflowClient, version: Version) -> dict[str, str]:
    """The run's last figures; none where it is gone."""
    try:
        found = client.get_run(version.run_id).data.metrics
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {name: f"{value:.4g}" for name, value in found.items()}


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(value, ensure_ascii=False)


def _gate(figures: Mapping[str, Any]) -> str:
    shown = "" if figures["value"] is None else f" at {figures['value']:.4g}"
    return f"{figures['verdict']}{shown}"
