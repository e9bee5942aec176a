"""Removes what nothing names any more: registered versions, logged models, runs, and data in DVC's cache.

Kept is what is younger than the limit, and, whatever its age:

    a version   that an alias or a line of the ledger names
    a model     of a version that is kept
    a run       whose results are the present ones, or of which the ledger or a kept version tells
    data        that a commit, the workspace or an experiment of DVC names

The rest goes by `mlflow gc` and `dvc gc`; so does what lies in MLflow's bin already.
"""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from latentops.errors import RegistryError, StoreError
from latentops.registry import champion, ledger, lineage, results, store, tracking, versions
from latentops.registry.candidate import PACKAGE, VARIANT

GC = ("gc", "--workspace", "--all-commits", "--all-experiments", "--skip-failed")
"""What DVC keeps: the data of the workspace, of every commit that git knows, of every experiment.

A commit whose `dvc.lock` can't be read names no data that anyone could check out, and doesn't stop it.
"""


@dataclass(frozen=True)
class Pruned:
    """What goes, or would: a line each for a person, and what DVC says of its cache."""

    versions: tuple[str, ...]
    models: tuple[str, ...]
    runs: tuple[str, ...]
    deleted: int
    """Runs that were deleted before, and lie in MLflow's bin."""
    cache: str


def age(text: str) -> timedelta:
    """`30d` or `12h` as a duration; `RegistryError` where it is neither."""
    parts = re.fullmatch(r"(\d+)([dh])", text)
    if parts is None:
        raise RegistryError(f"{text!r} is no age; write days or hours, such as 30d or 12h")
    return timedelta(**{{"d": "days", "h": "hours"}[parts[2]]: int(parts[1])})


def prune(older_than: timedelta, *, dry_run: bool) -> Pruned:
    """Remove what nothing names and what is older than `older_than`; say what that is, or would be.

    Raises `RegistryError` where the store is a server, which has no such command, and where something that
    is to be kept was deleted by hand and would be lost.
    """
    uri = store.tracking_uri()
    if store.is_server(uri):
        raise RegistryError(
            f"MLflow at {store.shown(uri)}: a server removes nothing for good; run this where its database "
            "is, with MLFLOW_TRACKING_URI set to what the server has as --backend-store-uri"
        )
    client = store.connect()
    before = int((time.time() - older_than.total_seconds()) * 1000)
    with store.plain_errors(), store.locked("promotion", champion.HOLDER):
        kept, unnamed = _versions(client, before)
        logged = _logged(client)
        _expect_kept(client, kept, logged)
        sources = {version.source for version in kept}
        models = [each for each in logged if each.creation_timestamp < before and not _places(each) & sources]
        runs, deleted = _runs(client, before, kept)
        told = Pruned(
            tuple(f"{version.name} version {version.version}" for version in unnamed),
            tuple(f"{model.name} ({model.model_id})" for model in models),
            tuple(f"{run.info.run_name} of {run.data.tags['latentops.dataset']}" for run in runs),
            deleted,
            _cache(_unnamed_data(client), dry_run=dry_run),
        )
        if not dry_run:
            for version in unnamed:
                client.delete_model_version(version.name, str(version.version))
            for model in models:
                client.delete_logged_model(model.model_id)
            for run in runs:
                tracking.delete(client, run)
            _empty_bin(uri)
    return told


def _versions(client: MlflowClient, before: int) -> tuple[list[ModelVersion], list[ModelVersion]]:
    """The registered versions that are kept, and those that nothing names."""
    lines = ledger.entries()
    named = {(line["model"], str(line["version"])) for line in lines}
    packages = {line["package_sha256"] for line in lines}
    kept: list[ModelVersion] = []
    unnamed: list[ModelVersion] = []
    for model in client.search_registered_models(max_results=tracking.PAGE):
        aliased = {str(number) for number in model.aliases.values()}
        for version in client.search_model_versions(f"name = '{model.name}'"):
            keep = (
                version.creation_timestamp >= before
                or str(version.version) in aliased
                or (model.name, str(version.version)) in named
                or version.tags.get(PACKAGE) in packages
                or not model.name.endswith(versions.SUFFIX)
            )
            (kept if keep else unnamed).append(version)
    return kept, unnamed


def _expect_kept(client: MlflowClient, kept: list[ModelVersion], logged: list[LoggedModel]) -> None:
    """Refuse to go on where a version's run or files lie in MLflow's bin, which is about to be emptied."""
    places = {place for model in logged for place in _places(model)}
    for version in kept:
        if PACKAGE not in version.tags:
            continue  # not one of ours
        run = _run(client, str(version.run_id))
        if run is None or run.info.lifecycle_stage != "active" or version.source not in places:
            raise RegistryError(
                f"{version.name} version {version.version}: its run or its files were deleted, so nothing is "
                "pruned; restore them in MLflow, or delete the version too"
            )


def _run(client: MlflowClient, run_id: str) -> Run | None:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _places(model: LoggedModel) -> set[str]:
    """How a version may say that its files are this model's: by their folder, or by the model's id."""
    return {str(model.artifact_location), f"models:/{model.model_id}"}


def _logged(client: MlflowClient) -> list[LoggedModel]:
    """The logged models that promotions made, also those that were cut short."""
    found: list[LoggedModel] = []
    for experiment in _experiments(client):
        token = None
        while True:
            page = client.search_logged_models([experiment], page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                break
    return [model for model in found if results.CONTENT in model.tags]


def _runs(client: MlflowClient, before: int, kept: list[ModelVersion]) -> tuple[list[Run], int]:
    """The parent runs that nothing names, and how many of all runs are deleted already."""
    recorded = [
        json.loads(path.read_text(encoding="utf-8")) for path in Path("results/record").glob("*.json")
    ]
    present = {each for found in recorded for each in found["runs"].values()}
    hashes = present | {line["content_hash"] for line in ledger.entries()}
    hashes |= {version.tags.get(results.CONTENT) for version in kept}
    named = {version.run_id for version in kept}
    unnamed, deleted = [], 0
    for experiment in _experiments(client, ViewType.ALL):
        for run in tracking.search(client, experiment, "", ViewType.ALL):
            if run.info.lifecycle_stage != "active":
                deleted += 1
            elif (
                run.data.tags.get(tracking.ROLE) == "variant"
                and run.info.start_time < before
                and run.info.run_id not in named
                and run.data.tags.get(results.CONTENT) not in hashes
            ):
                unnamed.append(run)
    return unnamed, deleted


def _experiments(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    found = client.search_experiments(view_type=view, max_results=tracking.PAGE)
    return [str(experiment.experiment_id) for experiment in found]


def _empty_bin(uri: str) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_BACKEND_STORE_URI": uri}
    command = [sys.executable, "-m", "mlflow", "gc"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise StoreError(f"mlflow gc: {_last(ran.stderr)}")


def _unnamed_data(client: MlflowClient) -> list[str]:
    """The aliased versions whose model no `dvc.lock` names, here or in a commit: DVC would drop it."""
    found = []
    for model in client.search_registered_models(max_results=tracking.PAGE):
        for number in sorted({str(each) for each in model.aliases.values()}):
            version = client.get_model_version(model.name, number)
            run = _run(client, str(version.run_id)) if PACKAGE in version.tags else None
            md5 = run.data.tags.get(lineage.MODEL) if run is not None else None
            if md5 is None:
                continue  # not one of ours
            dataset, variant = model.name.removesuffix(versions.SUFFIX), version.tags[VARIANT]
            if lineage.Lock.holding(dataset, variant, md5).of_model(dataset, variant) != md5:
                found.append(f"{model.name} version {number}")
    return found


def _cache(unnamed: list[str], *, dry_run: bool) -> str:
    """What `dvc gc` says; left alone is a cache that other projects may use too, or that `unnamed` need."""
    if not Path(".dvc").is_dir():
        return "not a DVC project"
    if unnamed:
        named = f"names what {', '.join(unnamed)} came from"
        return f"left alone, as no {lineage.LOCK} of a commit {named}: commit it"
    place = lineage.cache()
    if not place.is_relative_to(store.project_root()):
        return f"{place} may hold other projects' data too: left alone; `dvc gc --projects` knows how"
    _dvc(
        "gc", "--workspace", "--dry"
    )  # fails where what is checked out can't be read, which would be skipped
    said = _dvc(*GC, "--dry" if dry_run else "--force")
    told = next((line for line in said.splitlines() if "repo cache" in line), "nothing to remove")
    return told.replace("Removed", "would remove") if dry_run else told


def _dvc(*command: str) -> str:
    ran = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True, check=False)
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR: ")]
        raise RegistryError(f"dvc gc: {errors[0].removeprefix('ERROR: ') if errors else _last(ran.stderr)}")
    return ran.stdout


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"
