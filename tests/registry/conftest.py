"""A project in miniature, trained for real: an image, a table and a sequence set, two variants, two seeds.

Its store is an SQLite file of its own or, with `--store postgresql`, an MLflow server that tests share.
"""

import json
import os
import shutil
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from latentops.atomic import write_json, write_text
from latentops.config import ArchitectureName, load_params
from latentops.data import prepared
from latentops.data.prepared import Description, Samples, SplitName
from latentops.data.transforms import Transform
from latentops.evaluation.comparison import along, health
from latentops.registry import backup as saving
from latentops.registry import champion, lineage, store, tracking, versions
from latentops.reporting.profiles import drawings
from latentops.stages import evaluate, train

from . import servers
from .servers import Cluster, Tracking

ROOT = Path(__file__).parents[2]
VARIANTS = ("undercomplete", "variational")
ROWS: dict[SplitName, int] = {"train": 90, "stop": 40, "calibration": 60, "test": 40}
DATASETS = {  # kind, shape, classes, normal, primary
    "pictures": ("image", (1, 4, 4), ("a", "b"), ["a", "b"], "probe_accuracy"),
    "table": ("tabular", (5,), ("benign", "malignant"), ["benign"], "auroc"),
    "series": ("sequence", (6, 3), ("a", "b"), ["a"], "probe_accuracy"),
}


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write_params() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    pattern = params["datasets"]["digits"]
    params["run"] = {"datasets": list(DATASETS), "variants": list(VARIANTS)}
    params["datasets"] = {}
    for name, (kind, shape, classes, normal, primary) in DATASETS.items():
        params["datasets"][name] = {
            **pattern,
            "source": {
                "name": name,
                "kind": kind,
                "label": "class",
                "channels": shape[0],
                "value_range": [0, 16],
            },
            "expectations": {**pattern["expectations"], "classes": list(classes)},
            "scaling": {"name": "range", "orientations": 2} if kind == "image" else "range",
            "normal": normal,
            "primary": primary,
            "latent_dim": 3,
            "architectures": {**pattern["architectures"], "mlp": {"hidden": [16]}},
        }
    params["training"] |= {
        "seeds": [0, 1],
        "budget": {name: {"steps": 60, "learning_rate": 0.01} for name in get_args(ArchitectureName)},
        "check_every": 20,
        "batch_size": 32,
    }
    write_text(Path("params.yaml"), yaml.safe_dump(params))


def write_rows(name: str) -> None:
    kind, shape, classes, normal, primary = DATASETS[name]
    random = np.random.default_rng(len(name))
    transform = Transform.from_range(0, 16)
    if kind == "tabular":
        transform = Transform(
            tuple(random.normal(size=shape[0])), tuple(random.uniform(0.5, 2, size=shape[0]))
        )
    elif kind == "image":
        transform = replace(transform, orientations=2)
    directions = random.uniform(size=(len(classes), 2, *shape))
    splits = {}
    for split, count in ROWS.items():
        labels = np.arange(count) % len(classes)
        if primary == "auroc" and split == "calibration":
            labels[:] = classes.index(normal[0])
        mix = random.uniform(size=(count, 2, *[1] * len(shape)))
        values = (mix * directions[labels]).mean(axis=1) + 0.05 * random.uniform(size=(count, *shape))
        lengths = None
        if kind == "image":
            values = transform.apply(16 * values)
        elif kind == "sequence":
            lengths = random.integers(1, shape[0] + 1, size=count)
            values[np.arange(shape[0]) >= lengths[:, None]] = 0
        ids = random.integers(0, 256, size=(count, 32), dtype=np.uint8)
        splits[split] = Samples(values.astype(np.float32), lengths, labels, ids)
    features = tuple(f"feature {k}" for k in range(shape[0])) if kind == "tabular" else ()
    described = Description(
        kind=kind,
        shape=transform.shape(shape),
        features=features,
        classes=classes,
        transform=transform,
        spread=float(splits["train"].values.std()),
    )
    prepared.write(Path("data/prepared") / name, described, splits)


def evaluated(name: str, variant: str) -> dict[str, Any]:
    """What `evaluate` found."""
    found: dict[str, Any] = json.loads(Path("results/evaluate", name, variant, "metrics.json").read_text())
    return found


def write_comparison(name: str, chosen: str = "variational", seed: int = 1, **changes: Any) -> None:
    """A comparison in the stage's form, whose figures and gates a test may change."""
    kind, _, _, _, primary = DATASETS[name]
    values = changes.pop("values", [0.90, 0.92])
    estimate = {
        "mean": float(np.mean(values)),
        "low": min(values) - 0.01,
        "high": max(values),
        "values": values,
    }
    rows = [
        {
            "dataset": name,
            "kind": kind,
            "name": variant,
            "role": "variant",
            "latent_dim": 3,
            "members": 2,
            "metrics": {primary: estimate},
            "diagnosis": health(evaluated(name, variant)["diagnosis"], 0.95),
            "profiles": along(evaluated(name, variant)["profiles"], 0.95),
        }
        for variant in VARIANTS
    ]
    gates = [
        {"gate": "rivals", "value": 0.04, "limit": 0.0, "passed": True, "text": "beats pca-3 by 0.04"},
        {"gate": "retention", "value": 0.98, "limit": 0.9, "passed": True, "text": "keeps 0.98 of raw"},
    ]
    compared = {
        "dataset": name,
        "kind": kind,
        "primary": primary,
        "chosen": {"variant": chosen, "seed": seed},
        "rows": rows,
        "comparisons": [],
        "gates": gates,
        "passed": True,
    }
    write_json(Path("results/compare") / f"{name}.json", {**compared, **changes})


def write_lock() -> None:
    stages: dict[str, Any] = {}

    def entry(path: str) -> dict[str, str]:
        return {"path": path, "hash": "md5", "md5": f"{abs(hash(path)):032d}"[:32]}

    for name in DATASETS:
        digest = lineage.digest(Path("data/prepared", name))
        stages[f"prepare@{name}"] = {"outs": [{**entry(f"data/prepared/{name}"), "md5": digest}]}
        for variant in VARIANTS:
            deps = [entry(f"data/prepared/{name}/train"), entry("src/latentops/training")]
            outs = [entry(f"models/{name}/{variant}")]
            stages[f"train@{name}-{variant}"] = {"deps": deps, "outs": outs}
            stages[f"evaluate@{name}-{variant}"] = {"deps": outs, "outs": []}
    write_text(Path("dvc.lock"), yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the DAG leaves before `record`, and an MLflow store that is initialised and empty."""
    folder = tmp_path_factory.mktemp("trained")
    with inside(folder):
        write_params()
        for name in DATASETS:
            write_rows(name)
            for variant in VARIANTS:
                train.run(name, variant)
                evaluate.run(name, variant)
            write_comparison(name)
            write_json(
                Path("results/validate", f"{name}.json"), {"rows": 230, "clean": 230, "expectations": []}
            )
        write_lock()
        store.connect()
    return folder


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Cluster | None]:
    """A PostgreSQL, where tests were asked to run on one."""
    if request.config.getoption("--store") == "sqlite":
        yield None
    else:
        with servers.cluster() as found:
            yield found


@pytest.fixture(scope="session")
def live_server(
    postgres: Cluster | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tracking | None]:
    """The MLflow server of the live project, if it has one."""
    yield from _server(postgres, "live", tmp_path_factory)


@pytest.fixture(scope="session")
def own_server(
    postgres: Cluster | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tracking | None]:
    """The MLflow server of a test's own project, if it has one."""
    yield from _server(postgres, "own", tmp_path_factory)


def _server(postgres: Cluster | None, name: str, places: pytest.TempPathFactory) -> Iterator[Tracking | None]:
    if postgres is None:
        yield None
    else:
        with servers.tracking(postgres, name, places.mktemp(f"{name}-server")) as found:
            yield found


@pytest.fixture(scope="session")
def live(trained: Path, live_server: Tracking | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose three datasets have a champion. Tests only read it."""
    folder = tmp_path_factory.mktemp("live") / "project"
    _copy(trained, folder)
    with inside(folder), pytest.MonkeyPatch.context() as patch:
        _use(live_server, patch)
        params = load_params()
        for name in DATASETS:
            tracking.record(name, params, drawings)
            assert champion.promote(name).promoted
    return folder


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def project(
    trained: Path, own_server: Tracking | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project of one's own, trained and not yet recorded; the test runs inside it."""
    folder = tmp_path / "project"
    _copy(trained, folder)
    monkeypatch.chdir(folder)
    _use(own_server, monkeypatch)
    if own_server:
        own_server.empty()
    return folder


@pytest.fixture
def at_live(live: Path, live_server: Tracking | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The live project, with the test running inside it."""
    monkeypatch.chdir(live)
    _use(live_server, monkeypatch)
    return live


@pytest.fixture
def artifacts(at_live: Path, live_server: Tracking | None) -> Path:
    """Where the store of the live project keeps files."""
    return live_server.artifacts if live_server else at_live / "var/mlflow/artifacts"


@pytest.fixture
def lose_store(project: Path, own_server: Tracking | None) -> Callable[[], None]:
    """What makes the store of `project` one that knows nothing."""
    return own_server.empty if own_server else lambda: shutil.rmtree(project / "var")


@pytest.fixture
def file_store(own_server: Tracking | None) -> None:
    """For what works on a store's own file, and refuses a server."""
    if own_server:
        pytest.skip("needs a store that is a file of the project")


@pytest.fixture
def kept(own_server: Tracking | None) -> Callable[[str], Path]:
    """Where the store of `project` keeps the files of a version."""

    def place(name: str) -> Path:
        client, version = store.connect(), versions.resolve(name)
        if own_server is None:
            return versions.expect_files(client, version)
        location = client.get_model_version_download_uri(version.model, str(version.number))
        return own_server.place(location)

    return place


@pytest.fixture(scope="session")
def states(trained: Path, own_server: Tracking | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project and its store as `recorded`, `promoted` and `twice` want them: made once, then copied."""
    folder = tmp_path_factory.mktemp("states")
    live = folder / "project"
    _copy(trained, live)

    def keep(name: str) -> None:
        shutil.copytree(live, folder / name, ignore=shutil.ignore_patterns("var"))
        if own_server:
            own_server.keep(name)
        else:
            saving.backup(folder / name / "var" / "kept")

    with inside(live), pytest.MonkeyPatch.context() as patch:
        _use(own_server, patch)
        if own_server:
            own_server.empty()
        tracking.record("table", load_params(), drawings)
        keep("recorded")
        assert champion.promote("table").promoted
        keep("promoted")
        write_comparison("table", "undercomplete")
        tracking.record("table", load_params(), drawings)
        assert champion.promote("table").promoted
        keep("twice")
    return folder


@pytest.fixture
def take(
    states: Path, project: Path, own_server: Tracking | None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """What makes `project` and its store one of `states`."""

    def taken(name: str) -> Path:
        shutil.copytree(states / name, project, ignore=shutil.ignore_patterns("var"), dirs_exist_ok=True)
        if own_server:
            own_server.put_back(name)
        else:
            saving.restore(states / name / "var" / "kept", force=True)
            # MLflow remembers where a run's files are by its id, which copies share.
            cache = "mlflow.tracking._tracking_service.utils._artifact_repos_cache"
            monkeypatch.setattr(cache, OrderedDict())
        return project

    return taken


@pytest.fixture
def recorded(take: Callable[[str], Path]) -> Path:
    """A project whose table is recorded, and nothing promoted."""
    return take("recorded")


@pytest.fixture
def promoted(take: Callable[[str], Path]) -> Path:
    """The same, after its first champion."""
    return take("promoted")


@pytest.fixture
def twice(take: Callable[[str], Path]) -> Path:
    """A dataset that has had two champions, of two variants."""
    return take("twice")


def _use(server: Tracking | None, patch: pytest.MonkeyPatch) -> None:
    if server:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("var"))
    database = store.home().relative_to(store.project_root()) / "mlflow.db"
    (target / database).parent.mkdir(parents=True)
    with sqlite3.connect(source / database) as old, sqlite3.connect(target / database) as new:
        old.backup(new)
