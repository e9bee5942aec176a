"""Writes what the DAG found into MLflow: one run a content hash, found again by tag.

An experiment is a dataset, a parent run a variant, a nested child run one seed of the members that saw all
rows. Every member, the ones of other views too, is a row of the table `members.json` on the parent.

What the store doesn't take is kept in `latentops.registry.outbox`, and delivered later.
"""

import csv
import json
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, ViewType

from latentops.atomic import write_json, write_text
from latentops.config import Params
from latentops.errors import RegistryError, StoreError
from latentops.registry import lineage, outbox, results, store
from latentops.registry.results import CONTENT, Result

ROLE = "latentops.role"
SEED = "latentops.seed"
VIEW_ALL = "all"  # as in training.members, which would load all of torch
MEMBERS = "members.json"
TABLES = "mlflow.loggedArtifacts"
CORRELATION = "latentops.error_rank_correlation"
STUDIES = (Path("benchmarks/remedies.json"), Path("benchmarks/growth.json"))
"""Health that takes trainings of its own: what is here of it goes with every run, and isn't in its hash."""

METRICS_A_BATCH, PARAMS_A_BATCH = 900, 100  # MLflow takes no more at once: 1,000 in all, 100 of them params
PAGE = 1000


Draw = Callable[[Mapping[str, Any]], Mapping[str, str]]
"""From a row of the comparison to what is to be seen of it, as the texts of files by their names."""


def record(dataset: str, params: Params, draw: Draw) -> dict[str, str]:
    """As `complete`, but what the store doesn't take is kept in the outbox, and stderr says so in one line.

    Raises `RegistryError` where a result is missing, and `OSError` where there is no room to keep it either.
    """
    found = _results(dataset, params)
    try:
        return complete(dataset, params, draw)
    except (StoreError, OSError) as error:
        recording = _Recording(lineage.Lock.read(), params, draw)
        with _recording(dataset):
            for result in found.values():
                with outbox.keeping(dataset, result.content_hash) as folder:
                    recording.write(result, _of_all(dataset), folder)
        sys.stderr.write(
            f"warning: {dataset}: not recorded in MLflow ({error}); {len(found)} runs are kept in "
            f"{outbox.home()}, and `latentops sync` delivers them\n"
        )
    return _hashes(found)


def complete(dataset: str, params: Params, draw: Draw) -> dict[str, str]:
    """Bring the store up to date with the results of `dataset`; return each variant's content hash.

    What `draw` makes of a variant's row goes into its run's `figures`. The rank correlation of reconstruction
    error with the primary metric, which is of all variants together, is a tag of the experiment.

    What waits in the outbox is delivered first. A variant whose content hash is recorded already is left as
    it is, so that recording twice adds nothing and a lost store is rebuilt. A recording that was cut short is
    begun anew. Raises `RegistryError` where a result is missing, and `StoreError` where the store fails.
    """
    found = _results(dataset, params)
    recording = _Recording(lineage.Lock.read(), params, draw)
    client = store.connect()
    with store.plain_errors(), _recording(dataset):
        _deliver_waiting(client, dataset)
        experiment = store.experiment(client, dataset)
        _tag_experiment(client, experiment, _of_all(dataset))
        known = {run.data.tags.get(CONTENT) for run in _parents(client, experiment) if _is_whole(run)}
        for result in found.values():
            if result.content_hash not in known:
                with tempfile.TemporaryDirectory() as folder:
                    recording.write(result, {}, Path(folder))
                    _deliver(client, experiment, outbox.read(Path(folder)))
    return _hashes(found)


def sync() -> dict[str, int]:
    """Deliver what waits in the outbox; how many runs of each dataset that were.

    What the store has already isn't written again. Raises `StoreError` where the store fails; what it didn't
    take by then goes on waiting.
    """
    waiting = sorted({entry.dataset for entry in outbox.entries()})
    if not waiting:
        return {}
    client = store.connect()
    delivered = {}
    with store.plain_errors():
        for dataset in waiting:
            with _recording(dataset):
                delivered[dataset] = _deliver_waiting(client, dataset)
    return delivered


def find(client: MlflowClient, dataset: str, content_hash: str) -> Run:
    """The parent run recorded under `content_hash`; `RegistryError` where there is none."""
    for run in _parents(client, store.experiment(client, dataset)):
        if run.data.tags.get(CONTENT) == content_hash and _is_whole(run):
            return run
    cure = "latentops sync" if outbox.entries(dataset) else f"latentops record {dataset}"
    raise RegistryError(
        f"{dataset}: the results with content hash {content_hash[:12]} are not recorded; run `{cure}`"
    )


def member(client: MlflowClient, parent: Run, seed: int) -> Run | None:
    """The run of one seed under `parent`; None where there is none."""
    return next((run for run in _children(client, parent) if run.data.tags.get(SEED) == str(seed)), None)


def _recording(dataset: str) -> AbstractContextManager[None]:
    return store.locked(f"record-{dataset}", f"another command that records {dataset}")


class _Recording:
    """Writes what a run of MLflow is to hold into a folder, without MLflow."""

    def __init__(self, lock: lineage.Lock, params: Params, draw: Draw) -> None:
        self.lock = lock
        self.params = params
        self.draw = draw
        self.now = int(time.time() * 1000)

    def write(self, result: Result, of_all: Mapping[str, str], folder: Path) -> None:
        """The parent run of `result` with its children, the experiment's tags `of_all`, and the artifacts."""
        shared = {
            "latentops.dataset": result.dataset,
            "latentops.variant": result.variant,
            "latentops.device": str(self.params.training.device),
            CONTENT: result.content_hash,
            **lineage.tags(self.lock, result.dataset, result.variant),
        }
        table = {TABLES: json.dumps([{"path": MEMBERS, "type": "table"}])}
        settings = settings_of(self.params, result.dataset, result.variant)
        curves = _curves(result.curves)
        children: list[dict[str, Any]] = []
        for member in result.training["members"]:
            if member["view"] == VIEW_ALL:
                seed = int(member["seed"])
                children.append(
                    {
                        "name": f"{result.variant} seed {seed}",
                        "tags": {**shared, ROLE: "member", SEED: str(seed)},
                        "params": {"seed": str(seed)},
                        "metrics": curves.get(seed, []) + _of_seed(result, member),
                    }
                )
        parent: dict[str, Any] = {
            "name": result.variant,
            "tags": {**shared, **table, ROLE: "variant"},
            "params": _flat(settings),
            "metrics": _summary(result),
            "children": children,
        }
        artifacts = folder / outbox.ARTIFACTS
        artifacts.mkdir(parents=True)
        _write_artifacts(artifacts, result, settings)
        for name, drawing in self.draw(result.row).items():
            write_text(artifacts / "figures" / name, drawing)
        outbox.write(
            folder,
            {
                "dataset": result.dataset,
                "dataset_digest": self.lock.dataset_digest(result.dataset),
                "content_hash": result.content_hash,
                "milliseconds": self.now,
                "experiment": dict(of_all),
                "run": parent,
            },
        )


def _results(dataset: str, params: Params) -> dict[str, Result]:
    compared = results.comparison(dataset)
    return {variant: results.read(dataset, variant, compared) for variant in params.run.variants}


def _hashes(found: Mapping[str, Result]) -> dict[str, str]:
    return {variant: result.content_hash for variant, result in found.items()}


def _of_all(dataset: str) -> dict[str, str]:
    """The tags of the experiment: what all variants say together."""
    correlation = results.comparison(dataset).get("error_rank_correlation")
    return {} if correlation is None else {CORRELATION: f"{correlation:.4g}"}


def _tag_experiment(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_experiment_tag(experiment, key, value)


def _deliver_waiting(client: MlflowClient, dataset: str) -> int:
    """Deliver what waits of `dataset`, the oldest first; how many runs. The caller holds the lock."""
    waiting = outbox.entries(dataset)
    for entry in waiting:
        experiment = store.experiment(client, dataset)
        _deliver(client, experiment, entry)
        _tag_experiment(client, experiment, entry.content["experiment"])
        outbox.remove(entry)
    return len(waiting)


def _deliver(client: MlflowClient, experiment: str, entry: outbox.Entry) -> None:
    """Write the runs of `entry` unless they are there; what an earlier try left unfinished goes first."""
    same = _same(client, experiment, entry)
    for run in same:
        if not _is_whole(run):
            delete(client, run)
    if not any(map(_is_whole, same)):
        _write_run(client, experiment, entry)


def _same(client: MlflowClient, experiment: str, entry: outbox.Entry) -> list[Run]:
    found = _parents(client, experiment)
    return [run for run in found if run.data.tags.get(CONTENT) == entry.content_hash]


def _write_run(client: MlflowClient, experiment: str, entry: outbox.Entry) -> None:
    """Write a parent run with its children; it is finished last, and counts as recorded from then on."""
    run, when = entry.content["run"], int(entry.content["milliseconds"])
    parent = _create(client, experiment, run, when, {})
    dataset = MetaDataset(  # type: ignore[abstract]
        source=get_dataset_source_from_json(json.dumps({"uri": f"data/prepared/{entry.dataset}"}), "local"),
        name=entry.dataset,
        digest=entry.content["dataset_digest"],  # the md5 that DVC knows the rows by
    )
    context = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(parent, [DatasetInput(dataset._to_mlflow_entity(), context)])
    client.log_artifacts(parent, str(entry.folder / outbox.ARTIFACTS))
    children = set()
    for child in run["children"]:
        identity = _create(client, experiment, child, when, {"mlflow.parentRunId": parent})
        client.set_terminated(identity)
        children.add(identity)
    # A request that was repeated because its answer was lost may have made a run twice.
    for child in _children_of(client, experiment, parent):
        if child.info.run_id not in children:
            client.delete_run(child.info.run_id)
    for run in _same(client, experiment, entry):
        if run.info.run_id != parent and not _is_whole(run):
            delete(client, run)
    client.set_terminated(parent)


def _create(
    client: MlflowClient, experiment: str, run: Mapping[str, Any], when: int, tags: Mapping[str, str]
) -> str:
    """Make a run that is still to be finished; its id."""
    made = client.create_run(experiment, start_time=when, tags={**run["tags"], **tags}, run_name=run["name"])
    identity = str(made.info.run_id)
    metrics = [Metric(allowed(name), value, when, step) for name, value, step in run["metrics"]]
    settings = [Param(allowed(name), value) for name, value in run["params"].items()]
    while metrics or settings:
        client.log_batch(identity, metrics=metrics[:METRICS_A_BATCH], params=settings[:PARAMS_A_BATCH])
        del metrics[:METRICS_A_BATCH], settings[:PARAMS_A_BATCH]
    return identity


def _is_whole(run: Run) -> bool:
    return str(run.info.status) == "FINISHED"


def _parents(client: MlflowClient, experiment: str) -> list[Run]:
    return search(client, experiment, f"tags.`{ROLE}` = 'variant'")


def search(
    client: MlflowClient, experiment: str, condition: str, view: int = ViewType.ACTIVE_ONLY
) -> list[Run]:
    """Every run of `experiment` that meets `condition`."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], condition, view, PAGE, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def show_table(client: MlflowClient, run_id: str, path: str, table: Mapping[str, Any]) -> None:
    """Log a table of columns and rows to a run, among those that MLflow's pages show as tables."""
    client.log_dict(run_id, dict(table), path)
    known = json.loads(client.get_run(run_id).data.tags.get(TABLES, "[]"))
    if path not in [each["path"] for each in known]:
        client.set_tag(run_id, TABLES, json.dumps([*known, {"path": path, "type": "table"}]))


def _children(client: MlflowClient, parent: Run) -> list[Run]:
    return _children_of(client, parent.info.experiment_id, parent.info.run_id)


def _children_of(client: MlflowClient, experiment: str, parent: str) -> list[Run]:
    return search(client, experiment, f"tags.`mlflow.parentRunId` = '{parent}'")


def delete(client: MlflowClient, parent: Run) -> None:
    """Put a parent run into MLflow's bin, its children first."""
    for child in _children(client, parent):
        client.delete_run(child.info.run_id)
    client.delete_run(parent.info.run_id)


def settings_of(params: Params, dataset: str, variant: str) -> dict[str, Any]:
    """The part of `params.yaml` that a variant's result on `dataset` depends on."""
    return {
        "dataset": {"name": dataset, **params.dataset(dataset).model_dump(mode="json")},
        "variant": {"name": variant, **params.variant(variant)},
        "training": params.training.model_dump(mode="json"),
        "evaluation": params.evaluation.model_dump(mode="json"),
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys; what isn't a mapping or text is written as JSON."""
    flat: dict[str, str] = {}
    for key, each in value.items():
        name = f"{prefix}{key}"
        if isinstance(each, Mapping):
            flat |= _flat(each, f"{name}.")
        else:
            flat[name] = each if isinstance(each, str) else json.dumps(each)
    return flat


def _summary(result: Result) -> list[tuple[str, float, int]]:
    """The parent's figures: means over seeds with their intervals, health numbers, size and steps.

    A profile's place is its step, counted from 0.
    """
    figures: dict[str, Any] = {}
    for name, estimate in result.row["metrics"].items():
        figures[name] = estimate["mean"]
        figures |= {f"{name}_{side}": estimate.get(side) for side in ("low", "high")}
    figures |= {f"diagnosis/{key}": found["mean"] for key, found in result.row["diagnosis"].items()}
    for alive in (result.training["alive"], result.evaluation["alive"]):
        figures |= {f"alive/{key}": value for key, value in alive.items()}
    figures |= {key: result.training.get(key) for key in ("parameters", "steps")}
    along = [
        found
        for name, profile in result.row["profiles"].items()
        for place, mean in enumerate(profile["mean"])
        for found in _finite({f"profile/{name}": mean}, place)
    ]
    return _finite(figures, step=0) + along


def _of_seed(result: Result, member: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """A child's figures: how its training ended, and what the judge found for its seed."""
    figures: dict[str, Any] = {key: member.get(key) for key in ("best_step", "stopped_early")}
    figures["best_objective"] = member.get("objective")
    figures |= {f"term/{key}": value for key, value in (member.get("terms") or {}).items()}
    for row in result.evaluation["rows"]:
        if row["name"] == result.variant and member["seed"] in row["seeds"]:
            position = row["seeds"].index(member["seed"])
            figures |= {name: metric["values"][position] for name, metric in row["metrics"].items()}
            diagnosis = result.row["diagnosis"]
            figures |= {f"diagnosis/{key}": found["values"][position] for key, found in diagnosis.items()}
    return _finite(figures, step=0)


def _curves(path: Path) -> dict[int, list[tuple[str, float, int]]]:
    """Every column of `curves.csv` as a metric by step, for each seed."""
    curves: dict[int, list[tuple[str, float, int]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            seed, step = int(line.pop("seed")), int(line.pop("step"))
            looks = {f"curve/{name}": float(value) for name, value in line.items() if value}
            curves.setdefault(seed, []).extend(_finite(looks, step))
    return curves


def _finite(figures: Mapping[str, Any], step: int) -> list[tuple[str, float, int]]:
    """What can be drawn: numbers and yes/no, without what is missing, infinite or text."""
    return [
        (name, float(value), step)
        for name, value in figures.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def allowed(name: str) -> str:
    """`name` with what MLflow allows in a key, and `_` for the rest."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _write_artifacts(folder: Path, result: Result, settings: Mapping[str, Any]) -> None:
    for name, path in result.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    for path in (study for study in STUDIES if study.exists()):
        (folder / path.parent).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / path)
    write_json(folder / "settings.json", settings)
    write_json(folder / "compare.json", result.row)
    write_json(folder / MEMBERS, _table(result.training["members"]))


def _table(members: list[dict[str, Any]]) -> dict[str, Any]:
    """All members as MLflow's table: columns, and a row each."""
    rows = [{**member, **(member.get("terms") or {})} for member in members]
    for row in rows:
        row.pop("terms", None)
        row["failed"] = json.dumps(row["failed"]) if row.get("failed") else ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
