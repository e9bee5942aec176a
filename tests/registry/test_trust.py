"""What is secret is written nowhere, and what is in a package runs nothing and reaches nothing outside."""

import contextlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml

import latentops
from latentops.config import load_params
from latentops.errors import LatentOpsError, RegistryError
from latentops.registry import backup, packaging, serving, store, tracking, versions
from latentops.registry.champion import promote
from latentops.registry.package import JSON_BYTES, Package
from latentops.registry.verification import verify
from latentops.reporting.profiles import drawings
from latentops.stages import evaluate, record, train

from .conftest import write_comparison
from .servers import Tracking

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "planted-user-8d1f",
    "MLFLOW_TRACKING_PASSWORD": "planted-password-31c7",
    "MLFLOW_TRACKING_TOKEN": "planted-token-77aa",
    "AWS_ACCESS_KEY_ID": "planted-key-id-90b2",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key-5e04",
    "PREFECT_API_KEY": "planted-api-key-c6d9",
}


@pytest.mark.slow
def test_no_secret_of_the_environment_is_written_anywhere(
    project: Path,
    own_server: Tracking | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Into no result, log, parameter, artifact, package, ledger, outbox, database or backup."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    train.run("table", "undercomplete")
    evaluate.run("table", "undercomplete")
    write_comparison("table")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        record.run("pictures")
    record.run("table")
    tracking.complete("table", load_params(), drawings)
    assert promote("table").promoted
    model = latentops.load("table")
    model.score(np.zeros((1, 5)))
    assert verify("table@champion").holds
    if own_server:
        own_server.dump(Path("mlflow.db"))
        shutil.copytree(own_server.artifacts, "artifacts")
    else:
        backup.backup(Path("backup"))
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert {"mlflow.db", "MLmodel", "run.json", "promotions.jsonl", "curves.csv"} <= {p.name for p in files}
    written = {str(path): path.read_bytes() for path in files}
    written["output"] = "".join(capfd.readouterr()).encode()
    for value in SECRETS.values():
        assert [name for name, content in written.items() if value.encode() in content] == []


class Planted:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


def plant_loader(place: Path) -> None:
    meta = yaml.safe_load((place / "MLmodel").read_text())
    meta["flavors"]["python_function"] = {"loader_module": "planted", "code": "code", "data": "."}
    (place / "MLmodel").write_text(yaml.safe_dump(meta))
    (place / "code" / "planted.py").write_text("from pathlib import Path\nPath('ran').touch()\n")


def plant_pickle(place: Path) -> None:
    meta = yaml.safe_load((place / "MLmodel").read_text())
    function = meta["flavors"]["python_function"]
    function.pop("model_code_path", None)
    function |= {"python_model": "python_model.pkl", "cloudpickle_version": "3.1.2"}
    (place / "MLmodel").write_text(yaml.safe_dump(meta))
    (place / "python_model.pkl").write_bytes(pickle.dumps(Planted()))


@pytest.mark.parametrize("plant", [plant_loader, plant_pickle])
def test_another_loader_or_a_pickle_beside_the_package_is_refused_and_never_run(
    twice: Path, kept: Callable[[str], Path], plant: Callable[[Path], None]
) -> None:
    client, version = store.connect(), versions.resolve("table")
    place = kept("table")
    plant(place)
    with pytest.raises(RegistryError, match="its files are not those that were registered"):
        latentops.load("table")
    sha256 = packaging.digest(place)  # and where whoever planted it could change the tag as well
    client.set_model_version_tag(version.model, str(version.number), versions.PACKAGE, sha256)
    assert latentops.load("table").facts.dataset == "table"
    assert not Path("ran").exists()
    with contextlib.suppress(Exception):
        mlflow.pyfunc.load_model(str(place))
    assert Path("ran").exists()  # as MLflow's own loader does, so that this test proves something


def test_code_that_was_changed_beside_a_package_is_not_served(
    twice: Path, kept: Callable[[str], Path]
) -> None:
    """MLflow's server would run it."""
    code = next((kept("table") / "code").rglob("served.py"))
    code.write_text(code.read_text() + "\nraise SystemExit('ran')\n")
    with pytest.raises(RegistryError, match="its files are not those that were registered"):
        serving.champion("table")


@pytest.fixture
def package(at_live: Path, tmp_path: Path) -> Path:
    latentops.load("table").save(tmp_path / "package")
    return tmp_path / "package"


@pytest.mark.parametrize("name", ["../planted", "../../planted", "{tmp}/planted", "planted.py", "os", ""])
def test_a_package_names_no_file(package: Path, tmp_path: Path, name: str) -> None:
    """Its variant is one of those this project has, not a path to code; no other setting is a place."""
    for place in (tmp_path, package, package / "model"):
        (place / "planted.py").write_text("raise SystemExit('ran')")
    path = package / "model" / "config.json"
    config = json.loads(path.read_text())
    config["variant"] = name.format(tmp=tmp_path)
    path.write_text(json.dumps(config))
    with pytest.raises(LatentOpsError, match="unknown variant"):
        Package.open(package)


def test_a_view_that_looks_like_a_path_is_only_a_name(package: Path) -> None:
    path = package / "package.json"
    facts = json.loads(path.read_text())
    facts["thresholds"] = {"../../etc/passwd": 0.5}
    path.write_text(json.dumps(facts))
    with pytest.raises(RegistryError, match="not a package"):
        Package.open(package)


def test_weights_of_another_size_than_the_settings_say_are_refused(package: Path) -> None:
    path = package / "model" / "config.json"
    config = json.loads(path.read_text())
    config["latent_dim"] += 1
    path.write_text(json.dumps(config))
    with pytest.raises(LatentOpsError):
        Package.open(package)


@pytest.mark.parametrize("name", ["package.json", "model/config.json"])
def test_json_that_would_fill_the_memory_is_not_parsed(package: Path, name: str) -> None:
    with (package / name).open("r+b") as stream:
        stream.truncate(JSON_BYTES + 1)
    with pytest.raises(RegistryError, match=f"{name}: 16,777,217 bytes"):
        Package.open(package)
