"""The package: one inference path from raw units, wherever it is called from, and no pickle in it."""

import importlib.metadata
import io
import json
import os
import pickle
import pickletools
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from safetensors.numpy import load_file

import latentops
from latentops.config import LikelihoodSettings
from latentops.data import prepared
from latentops.data.prepared import Samples
from latentops.errors import DataError, LatentOpsError, RegistryError
from latentops.evaluation.attribution import attribute
from latentops.evaluation.conformal import discoveries, needed
from latentops.registry import packaging, store, versions
from latentops.registry.package import Facts, Package
from latentops.training.members import VIEW_ALL, Member
from latentops.training.trained import Recipe, Trained
from tests.toy import SMALL, describe

from .conftest import DATASETS

ALL = tuple(DATASETS)
VIEWS = [(name, view) for name, (_, _, _, normal, _) in DATASETS.items() for view in normal]


def folder(dataset: str) -> Path:
    client = store.connect()
    return versions.files(client, versions.resolve(dataset))


def pyfunc(dataset: str) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(folder(dataset)))


def test_rows(dataset: str) -> Samples:
    return prepared.load(Path("data/prepared") / dataset, "test")


test_rows.__test__ = False


def pipeline(dataset: str) -> Trained:
    return Trained.load(Path("models") / dataset / "variational").select(seed=1, view="all")


@pytest.mark.parametrize("dataset", ALL)
def test_codes_are_those_of_the_pipeline(at_live: Path, dataset: str) -> None:
    rows = test_rows(dataset)
    model = latentops.load(f"{dataset}@champion")
    expected = pipeline(dataset).encode(rows)[0]
    raw = model.raw(rows)
    np.testing.assert_allclose(model.encode(raw), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode(model.frame(raw)), expected, atol=1e-5)
    np.testing.assert_allclose(pyfunc(dataset).predict(model.frame(raw)), expected, atol=1e-5)


@pytest.mark.parametrize("dataset", ALL)
def test_reconstructions_are_those_of_the_pipeline_in_raw_units(at_live: Path, dataset: str) -> None:
    rows = test_rows(dataset)
    model = latentops.load(dataset)
    back = model.samples(model.reconstruct(model.raw(rows)))
    expected = model.samples(model.raw(replace(rows, values=pipeline(dataset).reconstruct(rows)[0])))
    np.testing.assert_allclose(back.values, expected.values, atol=1e-5)
    table = pyfunc(dataset).predict(model.frame(model.raw(rows)), params={"task": "reconstruct"})
    np.testing.assert_allclose(model.samples(table).values, back.values, atol=1e-5)


@pytest.mark.parametrize(("dataset", "view"), VIEWS)
def test_scores_are_those_the_judge_judged(at_live: Path, dataset: str, view: str) -> None:
    judged = load_file(f"results/evaluate/{dataset}/variational/samples.safetensors")
    model = latentops.load(dataset)
    scored = model.score(model.raw(test_rows(dataset)))
    column = f"score {view}" if f"score {view}" in scored else "score"
    np.testing.assert_allclose(scored[column], judged[f"variational/score/{view}/auroc"][1], atol=1e-5)


@pytest.mark.parametrize("dataset", ALL)
def test_a_row_is_an_anomaly_where_every_view_scores_it_above_its_threshold(
    at_live: Path, dataset: str
) -> None:
    model = latentops.load(dataset)
    scored = model.score(model.raw(test_rows(dataset)))
    views = model.references
    above = [
        scored[f"score {view}" if len(views) > 1 else "score"] > reference.threshold
        for view, reference in views.items()
    ]
    assert (scored["is_anomaly"] == np.all(above, axis=0)).all()
    assert (scored["is_anomaly"] == (scored["p_value"] <= model.facts.alpha)).all()


@pytest.mark.parametrize("dataset", ALL)
def test_what_explains_a_score_is_what_the_pipeline_finds(at_live: Path, dataset: str) -> None:
    """Of each row by the member and the scorer of the class that it is least unlike."""
    rows = test_rows(dataset)
    model = latentops.load(dataset)
    raw, views = model.raw(rows), list(model.references)
    told = pyfunc(dataset).predict(model.frame(raw), params={"task": "score", "explain": True})
    scored, explained = model.score(raw), model.explain(raw)
    assert told.columns.tolist() == [*scored.columns, *explained.columns]
    np.testing.assert_allclose(told["score"], scored["score"], atol=1e-5)
    stack = Trained.load(Path("models") / dataset / "variational").select(seed=1)
    for row in range(0, len(rows), 7):
        view = explained["normal"][row] if len(views) > 1 else views[0]
        if len(views) > 1:
            assert scored["score"][row] == scored[f"score {view}"][row]
        own = rows.select(slice(row, row + 1))
        found = attribute(stack.select(view=view), model.references[view].scorer, own)
        for table in (told, explained):
            if dataset == "table":
                shown = [
                    table.loc[row, [f"{name} feature {k}" for k in range(5)]].to_numpy(float)
                    for name in ("attribution", "residual", "nearest")
                ]
            else:
                shown = [np.array(table[name][row]) for name in ("attribution", "residual", "nearest")]
            end = slice(None) if rows.lengths is None else slice(rows.lengths[row])
            np.testing.assert_allclose(shown[0], found.attribution[0][end], atol=1e-3)
            np.testing.assert_allclose(shown[1], found.residual[0][end], atol=1e-5)
            np.testing.assert_allclose(shown[2], model.raw(found.nearest)[0], atol=1e-4)


def test_only_a_score_is_explained(at_live: Path) -> None:
    model = latentops.load("table")
    with pytest.raises(
        LatentOpsError, match="task 'encode' explains nothing; explain goes with task 'score'"
    ):
        model.predict(model.frame(np.zeros((1, 5))), "encode", explain=True)


@pytest.mark.parametrize("dataset", ALL)
def test_no_rows_give_no_rows(at_live: Path, dataset: str) -> None:
    model = latentops.load(dataset)
    none = model.raw(test_rows(dataset).select(slice(0, 0)))
    assert model.encode(none).shape == (0, 3)
    assert len(model.score(none)) == 0
    assert len(model.predict(model.frame(none))) == 0
    assert len(model.predict(model.frame(none), "score", explain=True)) == 0


def test_what_is_far_from_everything_is_an_anomaly(at_live: Path) -> None:
    assert latentops.load("table").score(np.full((1, 5), 1e4))["is_anomaly"].all()


@pytest.mark.parametrize("dataset", ALL)
def test_a_batch_is_flagged_at_a_false_discovery_rate(at_live: Path, dataset: str) -> None:
    model = latentops.load(dataset)
    raw = model.raw(test_rows(dataset))
    scored = model.score(raw, false_discovery_rate=0.5)
    assert (scored["flagged"] == discoveries(scored["p_value"].to_numpy(), 0.5)).all()
    assert scored.drop(columns="flagged").equals(model.score(raw))
    fewest = min(len(reference.calibration) for reference in model.references.values())
    with pytest.raises(LatentOpsError, match=rf"at least {needed(1e-4)} calibration normals.*has {fewest}"):
        model.score(raw, false_discovery_rate=1e-4)
    with pytest.raises(LatentOpsError, match="between 0 and 1"):
        model.score(raw, false_discovery_rate=1.0)


def test_too_few_calibration_rows_give_no_verdict(at_live: Path) -> None:
    model = latentops.load("table")
    rows = Path("data/prepared/table")
    few = packaging.build(
        Trained.load(Path("models/table/variational")),
        model.facts,
        ["benign"],
        prepared.load(rows, "train"),
        prepared.load(rows, "calibration").select(slice(0, 10)),
        neighbours=5,
        reference=1000,
    )
    scored = few.score(model.raw(test_rows("table")))
    assert scored["is_anomaly"].isna().all()
    assert scored["p_value"].between(1 / 11, 1).all()


@pytest.mark.parametrize("dataset", ALL)
def test_samples_are_drawn_in_raw_units_and_repeat(at_live: Path, dataset: str) -> None:
    model = latentops.load(dataset)
    drawn = model.sample(3, seed=4)
    assert drawn.shape == (3, *model.description.transform.raw_shape(model.description.shape))
    np.testing.assert_array_equal(drawn, model.sample(3, seed=4))
    table = pyfunc(dataset).predict(model.frame(drawn[:1]), params={"task": "sample", "n": 3, "seed": 4})
    assert len(table) == 3
    np.testing.assert_allclose(model.samples(table).values, model.samples(drawn).values, atol=1e-6)


def test_a_sample_is_as_long_as_was_drawn_where_lengths_are_modelled() -> None:
    likelihood = LikelihoodSettings(name="gaussian", length=True)
    recipe = Recipe.resolve(
        "variational", {"beta": 1.0}, "recurrent", SMALL, 2, describe("sequence"), likelihood
    )
    members = [Member(0, VIEW_ALL)]
    trained = Trained(recipe.build(members), members, recipe)
    model = Package(trained, {}, Facts("toy", "variational", 0, 0.05, "", "", "", {}))
    rows, (_, lengths) = model.sample(20, seed=1), trained.sample(20, seed=1)
    assert lengths is not None
    assert [len(row) for row in rows] == lengths[0].tolist()
    assert len(set(lengths[0])) > 1
    assert len(model.predict(pd.DataFrame(), "sample", n=20, seed=1)) == 20


def test_padding_changes_nothing(at_live: Path) -> None:
    """A short sequence has the code and the score that it has beside a long one."""
    model = latentops.load("series")
    raw = model.raw(test_rows("series"))
    alone = [model.encode([row])[0] for row in raw]
    np.testing.assert_allclose(model.encode(raw), alone, atol=1e-5)
    np.testing.assert_allclose(
        model.score(raw)["score"], [model.score([r])["score"][0] for r in raw], atol=1e-5
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_ragged_rows_survive_the_table(at_live: Path, lengths: list[int], seed: int) -> None:
    model = latentops.load("series")
    random = np.random.default_rng(seed)
    raw = [random.uniform(0, 16, size=(steps, 3)) for steps in lengths]
    there = model.samples(model.frame(raw))
    here = model.samples(raw)
    np.testing.assert_array_equal(there.values, here.values)
    np.testing.assert_array_equal(there.lengths, lengths)


def test_integers_are_refused_by_mlflow_and_cast_by_frame(at_live: Path) -> None:
    """JSON writes 3.0 as 3 only too easily; the error names types, and `frame` avoids it."""
    model, served = latentops.load("pictures"), pyfunc("pictures")
    whole = np.full((1, 1, 4, 4), 3, dtype=int)
    with pytest.raises(MlflowException, match="int64"):
        served.predict(pd.DataFrame({"pixels": whole.tolist()}))
    assert served.predict(model.frame(whole)).shape == (1, 3)


@pytest.mark.parametrize(
    ("dataset", "rows", "message"),
    [
        ("table", np.zeros((2, 4)), r"row 0: shape \[4\], expected \[5\]"),
        ("table", np.array([[0.0] * 5, [0, 0, np.nan, 0, 0]]), "row 1, column 'feature 2': holds a missing"),
        ("table", pd.DataFrame({"feature 0": [1.0]}), "table: missing columns: feature 1, feature 2"),
        ("pictures", np.zeros((1, 4, 4)), r"row 0: shape \[4, 4\], expected \[1, 4, 4\]"),
        (
            "pictures",
            pd.DataFrame({"pixels": [[[[1.0, 2.0], [3.0]]]]}),
            "column 'pixels', row 0: not a regular",
        ),
        (
            "series",
            [np.zeros((1, 3)), np.zeros((7, 3))],
            r"row 1: shape \[7, 3\], expected \[steps, 3\], steps 1 to 6",
        ),
        ("series", [np.zeros((2, 3)), np.full((1, 3), np.inf)], "row 1: holds a missing or infinite value"),
        ("pictures", np.full((1, 1, 4, 4), 1e38), r"row 0: holds .*, or one beyond 1e\+30"),
    ],
)
def test_rows_that_dont_fit_are_named(at_live: Path, dataset: str, rows: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        latentops.load(dataset).encode(rows)


def test_an_unknown_task_is_refused_with_the_known_ones(at_live: Path) -> None:
    model = latentops.load("table")
    frame = model.frame(np.zeros((1, 5)))
    with pytest.raises(LatentOpsError, match="unknown task 'guess'; known: encode, reconstruct"):
        model.predict(frame, "guess")
    with pytest.raises(MlflowException, match="unknown task 'guess'"):
        pyfunc("table").predict(frame, params={"task": "guess"})


@pytest.mark.parametrize("dataset", ALL)
def test_the_package_carries_a_signature_and_an_example(at_live: Path, dataset: str) -> None:
    signature = mlflow.models.Model.load(str(folder(dataset))).signature
    assert {param.name for param in signature.params.params} == {"task", "n", "seed", "explain"}
    model = mlflow.pyfunc.load_model(str(folder(dataset)))
    assert len(model.predict(model.input_example)) == packaging.EXAMPLE_ROWS


def test_no_file_holds_a_pickle(artifacts: Path) -> None:
    """No file ends like a pickle, none starts or parses as one, nor does what an archive holds."""
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".cloudpickle", ".npy"}, path
        assert not is_pickle(path.read_bytes()), path


def test_the_scan_for_pickles_finds_one(tmp_path: Path) -> None:
    assert is_pickle(pickle.dumps({"a": [1, 2]}))
    assert is_pickle(pickle.dumps({"a": [1, 2]}, protocol=0))
    assert is_pickle(pickle.dumps({"a": [1, 2]})[:-1])
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights")
    assert is_pickle((tmp_path / "weights").read_bytes())
    np.savez(tmp_path / "arrays.npz", a=np.array([{}]))
    assert is_pickle((tmp_path / "arrays.npz").read_bytes())


def is_pickle(content: bytes) -> bool:
    """Whether it is one, of any protocol and whole or not, or holds one as an archive or array of objects."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(is_pickle(archive.read(name)) for name in archive.namelist())
    if content.startswith(b"\x93NUMPY"):
        return b"'descr': '|O'" in content[:256]
    if content[:1] == pickle.PROTO and content[1:2] in {bytes([n]) for n in range(2, 6)}:
        return True
    try:
        return sum(1 for _ in pickletools.genops(content)) > 1
    except Exception:
        return False


@pytest.mark.slow
def test_it_loads_alone_with_no_more_than_it_says_it_needs(at_live: Path, tmp_path: Path) -> None:
    """In a process where nothing else can be imported, this project included, without pickles."""
    code = """
import json, sys
place, blocked = sys.argv[1], set(json.loads(sys.argv[2]))
sys.path = [p for p in sys.path if not p.endswith("/src")]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import mlflow
model = mlflow.pyfunc.load_model(place)
model.predict(model.input_example, params={"task": "score"})
import latentops
print(latentops.__file__)
"""
    place = folder("series")
    stated = [line.partition("==")[0] for line in (place / "requirements.txt").read_text().split()]
    there = closure(stated)
    blocked = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if module != "latentops" and not any(normal(owner) in there for owner in owners)
    ]
    assert {"dvc", "prefect", "great_expectations"} <= set(blocked)
    environment = {
        **os.environ,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", code, str(place), json.dumps(blocked)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(place)


def closure(names: list[str]) -> set[str]:
    found: set[str] = set()
    while names:
        name = normal(names.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        names += [re.split(r"[^\w.-]", line)[0] for line in needed if "extra ==" not in line]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_package_that_isnt_whole_is_refused(at_live: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"package\.json: not found; promote the model again"):
        Package.open(tmp_path)
