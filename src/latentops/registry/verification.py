"""Proves that the live model is the one that was promoted, from the ledger down to the rows behind it.

ledger's own chain ↔ alias ↔ registered version ↔ package's bytes ↔ run ↔ dataset digest ↔ dvc.lock
"""

from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from latentops.registry import candidate, ledger, lineage, packaging, results, store, versions
from latentops.registry.package import Package
from latentops.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version


@dataclass(frozen=True)
class Link:
    """Two records that have to say the same: `left` and `right` are what each of them says."""

    name: str
    left: str
    right: str

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return self.left == self.right

    @property
    def text(self) -> str:
        """One line for a person, with both values where they differ."""
        return f"{self.name}: {self.left}" if self.holds else f"{self.name}: {self.left} ≠ {self.right}"


@dataclass(frozen=True)
class Verification:
    """All links of the chain that ends in `name`."""

    name: str
    links: tuple[Link, ...]

    @property
    def holds(self) -> bool:
        """Whether every link does."""
        return not self.broken

    @property
    def broken(self) -> tuple[Link, ...]:
        """The links whose two ends differ."""
        return tuple(link for link in self.links if not link.holds)


def verify(name: str) -> Verification:
    """Hold every link behind the model `name` against its neighbour.

    Raises `RegistryError` where there is no such model; a link that is broken or missing is in the answer.
    """
    client = store.connect()
    with store.plain_errors():
        version = versions.resolve_with(client, name)
        run = _run(client, version)
        links = [
            *_ledger_links(version),
            *_package_links(client, version),
            *_run_links(version, run),
            *_dvc_links(version, run),
        ]
    return Verification(version.name, tuple(links))


def _ledger_links(version: Version) -> list[Link]:
    links = [
        Link(f"ledger, line {b.line}: hash of the line before", b.expected, b.found) for b in ledger.breaks()
    ]
    if not links:
        links.append(Link("ledger: chain of hashes", "whole", "whole"))
    entries, moves = ledger.entries(version.dataset), ledger.moves(version.dataset)
    last_move = moves[-1] if moves else {}
    reviewed = [entry for entry in entries if entry["event"] != "rollback"]  # which leaves a challenger be
    held = reviewed[-1]["version"] if reviewed and reviewed[-1]["event"] == "hold" else None
    told = {CHAMPION: last_move.get("version"), PREVIOUS: last_move.get("previous"), CHALLENGER: held}
    if version.alias in told:
        name = f"ledger ↔ alias {version.alias}"
        links.append(Link(name, _version(told[version.alias]), _version(version.number)))
    forced = any(entry.get("forced") for entry in entries if entry["version"] == version.number)
    mine: dict[str, Any] = next(
        (entry for entry in reversed(entries) if entry["version"] == version.number), {}
    )
    return [
        *links,
        Link(
            "ledger ↔ version: content hash",
            str(mine.get("content_hash", "no line about this version")),
            version.tags.get(results.CONTENT, "none"),
        ),
        Link(
            "ledger ↔ version: package sha256",
            str(mine.get("package_sha256", "no line about this version")),
            version.tags.get(candidate.PACKAGE, "none"),
        ),
        Link(
            "ledger ↔ version: promoted against a gate",
            "yes" if forced else "no",
            "yes" if candidate.FORCED in version.tags else "no",
        ),
    ]


def _package_links(client: MlflowClient, version: Version) -> list[Link]:
    """The package's bytes against the version's tag, and what it says of itself against the version."""
    folder = versions.files(client, version)
    bytes_link = Link(
        "version ↔ package: sha256 of the files",
        version.tags.get(candidate.PACKAGE, "none"),
        packaging.digest(folder) if folder else "gone",
    )
    if folder is None or not bytes_link.holds:
        return [bytes_link]  # what a changed package says of itself proves nothing
    facts = Package.open(folder / "artifacts" / "package").facts
    return [
        bytes_link,
        Link(
            "version ↔ package: content hash", version.tags.get(results.CONTENT, "none"), facts.content_hash
        ),
        Link(
            "version ↔ package: dataset digest",
            version.tags.get(candidate.DIGEST, "none"),
            facts.dataset_digest,
        ),
    ]


def _run_links(version: Version, run: Run | None) -> list[Link]:
    if run is None or run.info.lifecycle_stage != "active":
        return [Link("version ↔ run: still there", version.run_id, "deleted")]
    digests = [each.dataset.digest for each in run.inputs.dataset_inputs] if run.inputs else []
    return [
        Link(
            "version ↔ run: content hash",
            version.tags.get(results.CONTENT, "none"),
            run.data.tags.get(results.CONTENT, "none"),
        ),
        Link(
            "version ↔ run: dataset digest",
            version.tags.get(candidate.DIGEST, "none"),
            digests[0] if digests else "none",
        ),
    ]


def _dvc_links(version: Version, run: Run | None) -> list[Link]:
    """What the version was trained on and with, against what `dvc.lock` holds now."""
    lock = lineage.Lock.read()
    variant = version.tags.get(candidate.VARIANT, "")
    links = [
        Link(
            "version ↔ dvc.lock: dataset digest",
            version.tags.get(candidate.DIGEST, "none"),
            lock.dataset_digest(version.dataset),
        )
    ]
    if run is not None:
        links.append(
            Link(
                "run ↔ dvc.lock: md5 of the model",
                run.data.tags.get(lineage.MODEL, "none"),
                lock.model_digest(version.dataset, variant),
            )
        )
    return links


def _run(client: MlflowClient, version: Version) -> Run | None:
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _version(number: object) -> str:
    return f"version {number}" if number is not None else "none"
