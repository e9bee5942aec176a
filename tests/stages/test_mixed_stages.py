"""A table of numbers, dates and categories with missing values goes through every stage of the DAG."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from latentops.atomic import write_json
from latentops.config import load_params
from latentops.data import prepared
from latentops.data.encoding import OTHER
from latentops.data.prepared import SPLITS, UNLABELLED
from latentops.errors import ConfigError, DataError
from latentops.promotion import promote
from latentops.registry import packaging
from latentops.registry.package import Facts, Package
from latentops.reporting import leaderboard, page
from latentops.stages.__main__ import main
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained, check_models
from tests.data.tables import CLASSES, TYPES, drawn, source, write_clean

ROOT = Path(__file__).parents[2]
FOLDER = Path("data/prepared/people")
VARIANTS = ("denoising", "variational")


def write_params(label: str | None = "class", **changes: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    pattern = params["datasets"]["breast_cancer"]
    params["run"] = {"datasets": ["people"], "variants": list(VARIANTS)}
    entry = pattern | {
        "source": source(label),
        "expectations": {"min_rows": 10, "max_quarantined": 0.1, "classes": CLASSES if label else []},
        "scaling": {"name": "robust", "categories": 3},
        "likelihood": "mixed",
        "split": {"seed": 0, "stop": 0.2, "calibration": 0.2, "test": 0.2},
        "normal": ["no"] if label else [],
        "primary": "probe_accuracy" if label else "none",
        "latent_dim": 3,
    }
    params["datasets"] = {"people": entry | changes}
    params["evaluation"]["anomaly"]["alpha"] = 0.2
    params["comparison"]["resamples"] = 50
    params["training"] |= {"seeds": [0, 1], "check_every": 20, "batch_size": 32, "look_rows": 32}
    params["training"]["budget"]["mlp"] = {"steps": 60, "learning_rate": 0.02}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage(*words: str) -> None:
    assert main(list(words)) == 0


def prepare(label: str | None = "class", rows: int = 240, **changes: object) -> prepared.Description:
    write_params(label, **changes)
    write_clean(Path("data/clean/people.parquet"), rows, label)
    stage("prepare", "people")
    return prepared.describe(FOLDER)


def go_through(label: str | None = "class") -> None:
    """Everything from prepare to the leaderboard and the report."""
    prepare(label)
    stage("floors", "people")
    for variant in VARIANTS:
        stage("train", "people", variant)
        stage("evaluate", "people", variant)
    stage("compare", "people")
    write_json(Path("results/validate/people.json"), {"rows": 240, "clean": 240, "quarantined": 0})
    leaderboard.write(["people"])
    page.write(load_params(), datasets=["people"])


def packaged(normal: list[str]) -> Package:
    stack = Trained.load(Path("models/people/variational"))
    train, calibration = prepared.load(FOLDER, "train"), prepared.load(FOLDER, "calibration")
    facts = Facts("people", "variational", 1, 0.2, "content", "digest", "0", {})
    made = packaging.build(stack, facts, normal, train, calibration, neighbours=3, reference=100)
    made.save(Path("package"))
    return Package.open(Path("package"))


def test_prepared_rows_tell_what_is_missing_and_never_hold_a_nan(project: Path) -> None:
    description = prepare()
    encoding = description.encoding
    assert encoding is not None
    assert description.features == tuple(TYPES)
    assert description.columns == (1, 4, 1, 3, 1)
    assert description.optional == (2,)
    assert encoding.missing == ("job", "income")
    assert description.shape == (11,)
    assert prepared.Description.from_json(json.loads(json.dumps(description.to_json()))) == description
    rows = [prepared.load(FOLDER, split) for split in SPLITS]
    assert all(np.isfinite(each.values).all() for each in rows)
    flags = np.concatenate([each.values[:, -1] for each in rows])
    assert 0 < (flags == 0).sum() == np.isnan(drawn(240)["income"]).sum()


def test_two_runs_give_the_same_bytes(project: Path) -> None:
    prepare()
    before = {path: path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()}
    stage("prepare", "people")
    assert before == {path: path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()}


def test_categories_need_the_mixed_likelihood(project: Path) -> None:
    write_params(likelihood="gaussian")
    with pytest.raises(ConfigError, match=r"has categories \(job, member\); use likelihood: mixed"):
        load_params()


def test_rows_without_a_label_are_chosen_by_nothing(project: Path) -> None:
    write_params(None, primary="probe_accuracy")
    with pytest.raises(ConfigError, match="label is null; use primary: none"):
        load_params()


def test_missing_numbers_need_the_mixed_likelihood(project: Path) -> None:
    types = dict.fromkeys(("age", "income"), "numeric")
    prepare(source=source() | {"columns": types}, likelihood="gaussian", scaling="standard")
    with pytest.raises(ConfigError, match="likelihood: gaussian is of values that are all there"):
        check_models(load_params())


def test_a_mixed_table_goes_through_every_stage(project: Path) -> None:
    import mlflow

    go_through()
    board = json.loads(Path("results/compare/people.json").read_text())
    rows = {row["name"]: row["metrics"] for row in board["rows"]}
    assert {"raw", "PCA-3", "isolation forest", "kNN"} <= set(rows)
    assert rows["variational"]["probe_accuracy"]["mean"] > 0.7
    assert all(np.isfinite(metric["mean"]) for each in rows.values() for metric in each.values())
    assert board["chosen"]["variant"] in VARIANTS
    health = {row["name"]: row["diagnosis"] for row in board["rows"]}["denoising"]
    assert health["explained"]["mean"] > 0.2
    assert health["imputation_error"]["mean"] < 1.1

    package = packaged(["no"])
    told = drawn(60, seed=9)
    frame = pd.DataFrame({name: told[name] for name in TYPES})
    frame["since"] = pd.to_datetime(frame["since"], unit="s")
    frame.loc[0, "job"] = "astronaut"
    codes = package.encode(frame)
    assert codes.shape == (60, 3)
    assert np.isfinite(codes).all()
    made = package.reconstruct(frame)
    assert isinstance(made, pd.DataFrame)
    assert list(made.columns) == list(TYPES)
    assert not made.isna().any().any()
    assert set(made["job"]) <= {"clerk", "smith", "baker", OTHER}
    assert made["since"].str.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$").all()
    known = frame["income"].notna()
    assert np.corrcoef(np.log(made["income"][known]), np.log(frame["income"][known]))[0, 1] > 0.3

    raw = package.raw(package.samples(frame))
    assert isinstance(raw, pd.DataFrame)
    assert raw["job"][0] == OTHER
    assert list(raw["job"].isna()) == list(frame["job"].isna())
    assert np.allclose(raw["income"], frame["income"], rtol=1e-5, equal_nan=True)
    assert np.allclose(package.encode(package.frame(frame)), codes)
    assert np.allclose(package.encode(frame.to_dict("records")), codes)

    request = package.request(frame)
    json.dumps(request, allow_nan=False)
    split = request["dataframe_split"]
    assert np.allclose(package.encode(pd.DataFrame(split["data"], columns=split["columns"])), codes)
    scores = package.predict(package.frame(frame), "score")
    assert scores["score"].notna().all()
    drawn_rows = package.sample(5, seed=1)
    assert isinstance(drawn_rows, pd.DataFrame)
    assert len(drawn_rows) == 5

    for column, value, message in (
        ("age", None, "row 2, column 'age': missing, but no training data was"),
        ("age", "old", "row 2, column 'age': 'old' is no number"),
        ("income", float("inf"), "row 2, column 'income': infinite"),
        ("income", 1e38, r"row 2, column 'income': infinite, or beyond 1e\+30"),
        ("since", "lately", "row 2, column 'since': 'lately' is no date"),
    ):
        bad = frame.astype(object).copy()
        bad.loc[2, column] = value
        with pytest.raises(DataError, match=message):
            package.encode(bad)
    with pytest.raises(DataError, match="missing columns: age"):
        package.encode(frame.drop(columns="age"))

    packaging.write(package, prepared.load(FOLDER, "train"), Path("served"))
    served = mlflow.pyfunc.load_model("served")
    assert np.allclose(served.predict(package.frame(frame)), codes)
    assert not served.metadata.signature.inputs.input_dict()["income"].required
    assert served.metadata.signature.inputs.input_dict()["age"].required


def test_a_table_without_labels_goes_through_every_stage(project: Path) -> None:

    go_through(None)
    assert prepared.describe(FOLDER).classes == (UNLABELLED,)
    board = json.loads(Path("results/compare/people.json").read_text())
    assert board["chosen"] is None
    assert not board["passed"]
    metrics = {metric for row in board["rows"] for metric in row["metrics"]}
    assert metrics == {"reconstruction_error"}
    assert {row["name"] for row in board["rows"]} == {*VARIANTS, "PCA-3"}
    profiles = {name for row in board["rows"] for name in row["profiles"]}
    assert "withstood_error" in profiles
    assert not profiles & {"withstood_probe_accuracy", "unit_auroc", "probe_by_depth"}
    report = Path("reports/people.html").read_text(encoding="utf-8")
    assert "The rows have no labels, so there is nothing to choose a variant by" in report

    stages = {"prepare@people": {"outs": [{"path": str(FOLDER), "md5": f"{'people':_<32}.dir"}]}}
    for variant in VARIANTS:
        outs = [{"path": f"models/people/{variant}", "md5": f"{variant:_<32}"}]
        stages |= {f"train@people-{variant}": {"outs": outs}, f"evaluate@people-{variant}": {"outs": []}}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
    decision = promote("people")
    assert not decision.promoted
    assert "nothing was chosen, so nothing is promoted" in decision.text

    package = packaged([])
    told = drawn(20, seed=9)
    scores = package.score(pd.DataFrame({name: told[name] for name in TYPES}))
    assert list(package.references) == [VIEW_ALL]
    assert scores["p_value"].between(0, 1).all()
    explained = package.explain(pd.DataFrame({name: told[name] for name in TYPES}))
    kinds = ("attribution", "residual", "nearest")
    assert explained.columns.tolist() == [f"{kind} {name}" for kind in kinds for name in TYPES]
    gone = np.isnan(np.asarray(told["income"], dtype=float))
    assert gone.any()
    assert not explained.loc[gone, "attribution income"].any()
    assert not explained.loc[gone, "residual income"].any()
    assert explained["nearest income"].notna().all()
