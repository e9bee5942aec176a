"""Writes what the DAG found into MLflow: one run a content hash, found again by tag.

An experiment is a dataset, a parent run a variant, a nested child run one seed of the members that saw all
rows. Every member, the ones of other views too, is a row of the table `members.json` on the parent.
"""

import csv
import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run

from latentops.atomic import write_json, write_text
from latentops.config import Params
from latentops.errors import RegistryError
from latentops.registry import lineage, results, store
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
    """Bring the store up to date with the results of `dataset`; return each variant's content hash.

    What `draw` makes of a variant's row goes into its run's `figures`. The rank correlation of reconstruction
    error with the primary metric, which is of all variants together, is a tag of the experiment.

    A variant whose content hash is recorded already is left as it is, so that recording twice adds nothing
    and a lost store is rebuilt. A recording that was cut short is begun anew. Raises `RegistryError` where
    a result is missing or the store can't be reached.
    """
    compared = results.comparison(dataset)
    found = {variant: results.read(dataset, variant, compared) for variant in params.run.variants}
    lock = lineage.Lock.read()
    client = store.connect()
    with store.plain_errors(), store.locked(f"record-{dataset}"):
        experiment = store.experiment(client, dataset)
        if (correlation := compared.get("error_rank_correlation")) is not None:
            client.set_experiment_tag(experiment, CORRELATION, f"{correlation:.4g}")
        known = {run.data.tags.get(CONTENT): run for run in _parents(client, experiment)}
        for result in found.values():
            run = known.get(result.content_hash)
            if run is not None and run.info.status == "FINISHED":
                continue
            if run is not None:
                _delete(client, run)
            _Recording(client, experiment, lock, params, draw).write(result)
    return {variant: result.content_hash for variant, result in found.items()}


def find(client: MlflowClient, dataset: str, content_hash: str) -> Run:
    """The parent run recorded under `content_hash`; `RegistryError` where there is none."""
    for run in _parents(client, store.experiment(client, dataset)):
        if run.data.tags.get(CONTENT) == content_hash and run.info.status == "FINISHED":
            return run
    raise RegistryError(
        f"{dataset}: the results with content hash {content_hash[:12]} are not recorded; "
        f"run `latentops record {dataset}`"
    )


def member(client: MlflowClient, parent: Run, seed: int) -> Run | None:
    """The run of one seed under `parent`; None where there is none."""
    return next((run for run in _children(client, parent) if run.data.tags.get(SEED) == str(seed)), None)


class _Recording:
    """Writes the runs of one dataset's variants."""

    def __init__(
        self, client: MlflowClient, experiment: str, lock: lineage.Lock, params: Params, draw: Draw
    ) -> None:
        self.client = client
        self.experiment = experiment
        self.lock = lock
        self.params = params
        self.draw = draw
        self.now = int(time.time() * 1000)

    def write(self, result: Result) -> None:
        """One parent run with its children; it counts as recorded once the parent is finished."""
        shared = {
            "latentops.dataset": result.dataset,
            "latentops.variant": result.variant,
            "latentops.device": str(self.params.training.device),
            CONTENT: result.content_hash,
            **lineage.tags(self.lock, result.dataset, result.variant),
        }
        table = {TABLES: json.dumps([{"path": MEMBERS, "type": "table"}])}
        settings = settings_of(self.params, result.dataset, result.variant)
        tags = {**shared, **table, ROLE: "variant"}
        parent = self._run(result.variant, tags, _flat(settings), _summary(result))
        self.client.log_inputs(parent, [self._dataset(result)])
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(Path(folder), result, settings)
            for name, drawing in self.draw(result.row).items():
                write_text(Path(folder, "figures", name), drawing)
            self.client.log_artifacts(parent, folder)
        curves = _curves(result.curves)
        for member in result.training["members"]:
            if member["view"] != VIEW_ALL:
                continue
            seed = int(member["seed"])
            tags = {**shared, ROLE: "member", SEED: str(seed), "mlflow.parentRunId": parent}
            metrics = curves.get(seed, []) + _of_seed(result, member)
            child = self._run(f"{result.variant} seed {seed}", tags, {"seed": str(seed)}, metrics)
            self.client.set_terminated(child)
        self.client.set_terminated(parent)

    def _run(
        self, name: str, tags: dict[str, str], params: dict[str, str], metrics: list[tuple[str, float, int]]
    ) -> str:
        run = self.client.create_run(self.experiment, start_time=self.now, tags=tags, run_name=name)
        identity = str(run.info.run_id)
        logged = [Metric(allowed(name), value, self.now, step) for name, value, step in metrics]
        settings = [Param(allowed(name), value) for name, value in params.items()]
        while logged or settings:
            self.client.log_batch(
                identity, metrics=logged[:METRICS_A_BATCH], params=settings[:PARAMS_A_BATCH]
            )
            del logged[:METRICS_A_BATCH], settings[:PARAMS_A_BATCH]
        return identity

    def _dataset(self, result: Result) -> DatasetInput:
        """The prepared rows as an MLflow dataset, its digest the md5 that DVC knows them by."""
        folder = f"data/prepared/{result.dataset}"
        dataset = MetaDataset(  # type: ignore[abstract]
            source=get_dataset_source_from_json(json.dumps({"uri": folder}), "local"),
            name=result.dataset,
            digest=self.lock.dataset_digest(result.dataset),
        )
        return DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])


def _parents(client: MlflowClient, experiment: str) -> list[Run]:
    return _search(client, experiment, f"tags.`{ROLE}` = 'variant'")


def _search(client: MlflowClient, experiment: str, condition: str) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], condition, max_results=PAGE, page_token=token)
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
    condition = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    return _search(client, parent.info.experiment_id, condition)


def _delete(client: MlflowClient, parent: Run) -> None:
    """Remove a run whose recording was cut short, children first."""
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
