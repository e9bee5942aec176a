"""What the comparison chose, and how it becomes a registered version: package, logged model, tags."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from latentops.config import Params
from latentops.data import prepared
from latentops.evaluation.judge import Field
from latentops.registry import gates, lineage, packaging, results, store, tracking, versions
from latentops.registry.gates import Card, Gate
from latentops.registry.package import Facts
from latentops.registry.versions import Version
from latentops.training.trained import Trained

PACKAGE = versions.PACKAGE
DIGEST = "latentops.dataset_digest"
PRIMARY = "latentops.primary"
PRIMARY_VALUE = "latentops.primary_value"
SEED = tracking.SEED
VARIANT = "latentops.variant"
FORCED = "latentops.forced"
"""The tag of a version that was promoted against a gate: why."""
REJECTED = "latentops.rejected"
"""The tag of a challenger that was turned down: why."""
UPLOADS = 8  # at a time: a package has hundreds of small files, and MLflow sends them one after the other
ALARMS = "false_alarm/"
"""What the test results of a view's false alarms are called by, before its name."""


class Candidate:
    """The variant and seed that the comparison chose, with the run they are recorded under."""

    def __init__(self, client: MlflowClient, params: Params, dataset: str, compared: dict[str, Any]) -> None:
        self.client = client
        self.params = params
        self.dataset = dataset
        self.compared = compared
        self.variant = str(compared["chosen"]["variant"])
        self.seed = int(compared["chosen"]["seed"])
        self.primary = str(compared["primary"])
        self.result = results.read(dataset, self.variant, compared)
        self.value = float(self.result.row["metrics"][self.primary]["mean"])
        self.digest = lineage.Lock.read().dataset_digest(dataset)

    @property
    def label(self) -> str:
        """Variant and seed, for a person."""
        return f"{self.variant} seed {self.seed}"

    def is_version(self, version: Version) -> bool:
        """Whether `version` holds this content and this seed, and its files are what they were."""
        content = (version.tags.get(results.CONTENT), version.tags.get(SEED))
        if content != (self.result.content_hash, str(self.seed)):
            return False
        folder = versions.files(self.client, version)
        return folder is not None and packaging.digest(folder) == version.tags.get(PACKAGE)

    def register(self) -> Version:
        """The registered version of this candidate: the one there is, or a new one, not yet `mark`ed."""
        for version in versions.versions(self.client, self.dataset):
            if self.is_version(version):
                return version
        run = tracking.find(self.client, self.dataset, self.result.content_hash)
        model_id, package = self._log(run)
        name = versions.model_name(self.dataset)
        _expect_registered_model(self.client, name, self.dataset)
        made = self.client.create_model_version(
            name,
            source=self._source(model_id),
            run_id=run.info.run_id,
            tags=self._tags(package),
            description=f"{self.variant} autoencoder of {self.dataset}, seed {self.seed}.",
            model_id=model_id,
        )
        link = json.dumps([{"name": name, "version": int(made.version)}])
        self.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
        return versions.resolve_with(self.client, f"{self.dataset}/{made.version}")

    def gates(self, version: Version, champion: Version | None) -> tuple[Gate, ...]:
        """What `version` is held to: the comparison's gates, the champion, the package and the data."""
        settings, rows = self.params.dataset(self.dataset), Path("data/prepared") / self.dataset
        evaluation = self.params.evaluation
        field = Field.read(rows, settings.normal, evaluation)
        own = self.result.judged.of_seed(self.seed)
        flagged = {
            key.removeprefix(ALARMS): flags[0] for key, flags in own.samples.items() if key.startswith(ALARMS)
        }
        folder = versions.expect_files(self.client, version)
        against = gates.against_champion(
            own,
            field,
            versions.package(folder),
            partial(versions.open_version, self.client, champion) if champion else None,
            f"version {champion.number}" if champion else "",
            self.primary,
            self.params.gates,
            self.params.comparison,
        )
        trained = Trained.load(results.model_directory(self.dataset, self.variant))
        return (
            *gates.of_comparison(self.compared),
            against,
            *gates.of_package(folder, trained, field.samples["calibration"], flagged, self.params.gates),
            gates.of_data(Path("results/validate") / f"{self.dataset}.json"),
        )

    def mark(self, version: Version, gates_: tuple[Gate, ...], card: Card | None) -> None:
        """Put the gates on `version`: tags, its run's table, and the `card` that tells them."""
        number = str(version.number)
        for gate in gates_:
            figures = {"value": gate.value, "limit": gate.limit, "verdict": gates.verdict(gate)}
            key = tracking.allowed(f"gate.{gate.gate}")
            self.client.set_model_version_tag(version.model, number, key, json.dumps(figures))
        title = f"{self.variant} autoencoder of {self.dataset}, seed {self.seed}"
        text = card(version.name, gates_) if card else f"{title}; {self.primary} {self.value:.4f}.\n"
        self.client.update_model_version(version.model, number, text)
        tracking.show_table(self.client, version.run_id, f"gates/version-{number}.json", gates.table(gates_))

    def _log(self, run: Run) -> tuple[str, str]:
        """Write the package as a logged model of `run`; its id, and the sha256 of its bytes."""
        run_id = str(run.info.run_id)
        model = self.client.create_logged_model(
            run.info.experiment_id,
            name=f"{self.variant}-seed-{self.seed}",
            source_run_id=run_id,
            tags={results.CONTENT: self.result.content_hash},
            model_type="autoencoder",
        )
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "model"
            meta = Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                model_id=model.model_id,
                run_id=run_id,
            )
            self._write(directory, meta)
            package = packaging.digest(directory)
            _upload(self.client, str(model.model_id), directory)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id), package

    def _write(self, directory: Path, meta: Model) -> None:
        settings = self.params.dataset(self.dataset)
        rows = Path("data/prepared") / self.dataset
        train = prepared.load(rows, "train")
        package = packaging.build(
            Trained.load(results.model_directory(self.dataset, self.variant)),
            Facts(
                dataset=self.dataset,
                variant=self.variant,
                seed=self.seed,
                alpha=self.params.evaluation.anomaly.alpha,
                content_hash=self.result.content_hash,
                dataset_digest=self.digest,
                version=lineage.version("latentops"),
                settings=tracking.settings_of(self.params, self.dataset, self.variant),
            ),
            settings.normal,
            train,
            prepared.load(rows, "calibration"),
            neighbours=self.params.evaluation.anomaly.neighbours,
            reference=self.params.evaluation.anomaly.reference,
        )
        packaging.write(package, train, directory, meta)

    def _source(self, model_id: str) -> str:
        """Where the version's files are: a server takes a logged model's id, a database its folder."""
        if store.is_server(store.tracking_uri()):
            return f"models:/{model_id}"
        return str(self.client.get_logged_model(model_id).artifact_location)

    def _tags(self, package: str) -> dict[str, str]:
        return {
            results.CONTENT: self.result.content_hash,
            PACKAGE: package,
            DIGEST: self.digest,
            VARIANT: self.variant,
            SEED: str(self.seed),
            PRIMARY: self.primary,
            PRIMARY_VALUE: repr(self.value),
        }


def _upload(client: MlflowClient, model_id: str, directory: Path) -> None:
    """Log every file in `directory` to the logged model `model_id`."""

    def send(path: Path) -> None:
        place = path.relative_to(directory).parent
        client.log_model_artifact(model_id, str(path), place.as_posix() if place.parts else None)

    with ThreadPoolExecutor(UPLOADS) as several:
        list(several.map(send, [path for path in sorted(directory.rglob("*")) if path.is_file()]))


def _expect_registered_model(client: MlflowClient, name: str, dataset: str) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, description=f"Autoencoders of {dataset}, made by LatentOps.")
