"""Proves that the live model is the one that was promoted, from the ledger down to the rows behind it.

ledger's own chain ↔ alias ↔ registered version ↔ package's bytes ↔ run ↔ dvc.lock ↔ prepared rows

and from the package and the rows, taken again: the figures of the run.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from latentops.config import Evaluation, parse
from latentops.evaluation.judge import Field
from latentops.evaluation.statistics import auroc
from latentops.registry import candidate, ledger, lineage, packaging, results, store, tracking, versions
from latentops.registry.package import COMBINED, Package, combined_score
from latentops.registry.rejudged import rejudged
from latentops.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version

SAME = 1e-3
"""Up to which difference a figure is the recorded one: other processors round otherwise."""


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
        folder = versions.files(client, version)
        links = [*_ledger_links(version), *_package_links(version, folder), *_run_links(version, run)]
        whole = folder is not None and all(link.holds for link in links)
        lock = _lock(version, run)
        links += _dvc_links(version, run, lock)
        with lineage.rows_of(lock, version.dataset) as rows:
            kept = Link(
                f"{lock.name} ↔ {rows}: md5",
                lock.dataset_digest(version.dataset),
                lineage.digest(rows) if rows.exists() else "not there: `dvc pull` fetches it",
            )
            links.append(kept)
            if whole and kept.holds and folder is not None and run is not None:  # else they prove nothing
                links += _figure_links(_member_figures(client, run, version), versions.package(folder), rows)
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


def _package_links(version: Version, folder: Path | None) -> list[Link]:
    """The package's bytes against the version's tag, and what it says of itself against the version."""
    bytes_link = Link(
        "version ↔ package: sha256 of the files",
        version.tags.get(candidate.PACKAGE, "none"),
        packaging.digest(folder) if folder else "gone",
    )
    if folder is None or not bytes_link.holds:
        return [bytes_link]  # what a changed package says of itself proves nothing
    facts = versions.package(folder).facts
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


def _lock(version: Version, run: Run | None) -> lineage.Lock:
    model = run.data.tags.get(lineage.MODEL, "") if run is not None else ""
    return lineage.Lock.holding(version.dataset, version.tags.get(candidate.VARIANT, ""), model)


def _dvc_links(version: Version, run: Run | None, lock: lineage.Lock) -> list[Link]:
    """What the version was trained on and with, against a `dvc.lock` that names the model."""
    links = [
        Link(
            f"version ↔ {lock.name}: dataset digest",
            version.tags.get(candidate.DIGEST, "none"),
            lock.dataset_digest(version.dataset),
        )
    ]
    if run is not None:
        wanted = run.data.tags.get(lineage.MODEL, "none")
        found = lock.of_model(version.dataset, version.tags.get(candidate.VARIANT, "")) or "none"
        if found != wanted:  # of all commits, too
            found += f" (no commit's {lineage.LOCK} names its model: commit it when a version goes live)"
        links.append(Link(f"run ↔ {lock.name}: md5 of the model", wanted, found))
    return links


def _figure_links(recorded: dict[str, float], package: Package, rows: Path) -> list[Link]:
    """What the run says the member is worth, against what the package's weights and scorers are worth now."""
    settings = package.facts.settings
    evaluation = parse(Evaluation, settings["evaluation"], "the package's settings: evaluation")
    field = Field.read(rows, settings["dataset"]["normal"], evaluation)
    row = rejudged(package, field)
    links = [
        _figure(f"run ↔ package and rows: {name}", recorded.get(tracking.allowed(name)), values[0])
        for name, values in sorted(row.values.items())
    ]
    if COMBINED in row.values:
        found = _of_own_scorers(package, field)
        links.append(_figure("run ↔ package's own scorers: auroc", recorded.get(COMBINED), found))
    return links


def _of_own_scorers(package: Package, field: Field) -> float:
    """The mean AUROC over the normal views by the scorers in the package, which saw no test row."""
    found = []
    for view, reference in package.references.items():
        anomalous = ~field.is_normal("test", view)
        if anomalous.any() and not anomalous.all():
            member = package.trained.select(view=view)
            found.append(auroc(combined_score(reference.scorer, member, field.samples["test"]), anomalous))
    return float(np.mean(found))


def _figure(name: str, recorded: float | None, found: float) -> Link:
    if recorded is None:
        return Link(name, "not recorded", f"{found:.6g}")
    same = math.isclose(recorded, found, rel_tol=SAME, abs_tol=SAME)
    return Link(name, f"{recorded:.6g}", f"{recorded if same else found:.6g}")


def _member_figures(client: MlflowClient, run: Run, version: Version) -> dict[str, float]:
    """The figures of the version's seed, from the run nested in `run`; none where it is gone."""
    member = tracking.member(client, run, int(version.tags[candidate.SEED]))
    return dict(member.data.metrics) if member is not None else {}


def _run(client: MlflowClient, version: Version) -> Run | None:
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _version(number: object) -> str:
    return f"version {number}" if number is not None else "none"
