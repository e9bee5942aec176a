"""The command line: what it prints, and that an error is one line, exit status 1 and no traceback."""

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from latentops import doctor
from latentops.data.prepared import Description
from latentops.data.transforms import Transform
from latentops.variants import NAMES


def latentops(
    *arguments: str, cwd: Path, module: str = "latentops.cli", **environment: str
) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A folder with params.yaml and nothing else."""
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("targets", "--dataset", "digitz"), "unknown dataset 'digitz' (did you mean 'digits'?"),
        (("targets", "--variant", "spars"), "unknown variant 'spars' (did you mean 'sparse'?"),
        (("leaderboard",), "nothing compared yet"),
        (
            ("leaderboard", "digits"),
            "digits.json: not found; `dvc repro compare@digits` makes it",
        ),
        (("report",), "no comparison yet"),
    ],
)
def test_an_error_is_one_line(project: Path, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = latentops(*arguments, cwd=project)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "digitz", "sparse"), "unknown dataset 'digitz'"),
        (
            ("prepare", "digits"),
            "digits.parquet: not found; make it with `dvc repro validate@digits`",
        ),
        (("trian", "digits"), "unknown stage 'trian' (did you mean 'train'?"),
    ],
)
def test_a_stage_says_it_the_same_way(project: Path, arguments: tuple[str, ...], told: str) -> None:
    code, _, err = latentops(*arguments, cwd=project, module="latentops.stages")
    assert code == 1
    assert err.startswith("error: ")
    assert told in err
    assert "Traceback" not in err
    assert list(project.iterdir()) == [project / "params.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("patience:", "patienec:", "training.patienec: unknown key (did you mean 'patience'?"),
        ("  sparse:\n", "  sparse:\n    weight: 1\n", "variants.sparse: weight: unknown key"),
        ("batch_size: 64", "batch_size: many", "training.batch_size"),
    ],
)
def test_a_bad_key_is_named(project: Path, old: str, new: str, told: str) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    assert old in text
    params.write_text(text.replace(old, new, 1))
    code, _, err = latentops("check", cwd=project)
    assert code == 1
    assert told in err
    assert "Traceback" not in err


def test_missing_params_are_named(tmp_path: Path) -> None:
    code, _, err = latentops("check", cwd=tmp_path)
    assert code == 1
    assert err == "error: params.yaml: not found; run from the project's root\n"


@pytest.mark.parametrize("how", [("--debug",), ()])
def test_debug_shows_the_traceback(tmp_path: Path, how: tuple[str, ...]) -> None:
    _, _, err = latentops("check", *how, cwd=tmp_path, LATENTOPS_DEBUG="0" if how else "1")
    assert "Traceback" in err
    assert err.endswith("error: params.yaml: not found; run from the project's root\n")


def test_check_says_what_a_run_spans(project: Path) -> None:
    code, out, _ = latentops("check", cwd=project)
    assert code == 0
    assert out == "params.yaml: fine; 3 datasets × 9 variants × 5 seeds\n"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (
            "variants/adversarial/prior",
            "swiss_roll",
            "variants.adversarial: prior: swiss_roll lies",
        ),
        (
            "datasets/digits/architectures/convolutional",
            {"channels": [2, 2, 2], "attention": True},
            "variants.convolutional: architectures.convolutional.attention: the smallest map",
        ),
        ("datasets/digits/likelihood", "mixed", "variants.undercomplete: likelihood: mixed"),
    ],
)
def test_check_builds_every_model_of_prepared_data(
    project: Path, path: str, value: object, told: str
) -> None:
    described = Description(
        "image", (1, 8, 8), (), ("0", "1"), Transform.from_range(0, 16), 0.4, likelihood_range=(0, 1)
    )
    folder = project / "data" / "prepared" / "digits"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(described.to_json()))
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["datasets"]["digits"]["latent_dim"] = 1
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert latentops("check", cwd=project)[0] == 0
    *sections, key = path.split("/")
    functools.reduce(dict.__getitem__, sections, params)[key] = value
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    code, _, err = latentops("check", cwd=project)
    assert code == 1
    assert err.startswith(f"error: params.yaml: datasets.digits × {told}")
    assert err.count("\n") == 1


def test_variants_are_listed_with_their_options_and_sources(project: Path) -> None:
    code, out, _ = latentops("variants", cwd=project)
    assert code == 0
    assert [line for line in out.splitlines() if line[:1].isalpha()][:9] == list(NAMES)
    code, out, _ = latentops("variants", "variational", cwd=project)
    assert code == 0
    assert "Kingma & Welling 2014" in out
    assert "beta" in out
    assert "sparse" not in out
    code, _, err = latentops("variants", "spars", cwd=project)
    assert code == 1
    assert "unknown variant 'spars' (did you mean 'sparse'?" in err


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ((), ""),
        (("--dataset", "digits"), "record@digits"),
        (("--dataset", "digits", "--variant", "sparse"), "evaluate@digits-sparse"),
        (
            ("--variant", "sparse"),
            "evaluate@digits-sparse evaluate@breast_cancer-sparse evaluate@digit_columns-sparse",
        ),
    ],
)
def test_targets_are_stages_of_the_dag(project: Path, arguments: tuple[str, ...], printed: str) -> None:
    code, out, _ = latentops("targets", *arguments, cwd=project)
    assert (code, out.strip()) == (0, printed)


def test_a_dataset_outside_the_dag_is_told_apart(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("[digits, breast_cancer, digit_columns]", "[breast_cancer]"))
    _, _, err = latentops("targets", "--dataset", "digits", cwd=project)
    assert err == "error: dataset 'digits' is not part of the DAG: add it to run.datasets in params.yaml\n"


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from latentops import cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "mlflow", "prefect", "great_expectations", "pandas", "sklearn", "dvc"} & set(loaded)


def test_flows_name_an_unknown_dataset_before_prefect_starts(project: Path, root: Path) -> None:
    path = f"{root / 'src'}{os.pathsep}{root}"
    for flow in ("reproduce", "retrain"):
        code, _, err = latentops(
            "--dataset", "digitz", cwd=project, module=f"pipelines.{flow}", PYTHONPATH=path
        )
        assert code == 1
        assert err.startswith("error: unknown dataset 'digitz'")


def test_the_doctor_names_a_package_that_is_not_as_locked(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# comment\nno-such-package-at-all==1.0\npytest==0.0.1\n")
    finding = doctor.packages(lock)
    assert not finding.ok
    assert "no-such-package-at-all missing, locked 1.0" in finding.state
    assert "make setup" in str(finding)


def test_the_doctor_tells_a_taken_port() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        finding = doctor.port("MLflow", other.getsockname()[1])
    assert not finding.ok
    assert "MLFLOW_PORT=" in finding.mend


@pytest.mark.parametrize(("content", "ok"), [(None, True), ("no database", False)])
def test_the_doctor_opens_the_store(tmp_path: Path, content: str | None, ok: bool) -> None:
    store = tmp_path / "var/mlflow/mlflow.db"
    if content is not None:
        store.parent.mkdir(parents=True)
        store.write_text(content)
    finding = doctor.mlflow_store(tmp_path)
    assert finding.ok == ok
    assert ok or "make record" in finding.mend


def test_the_doctor_looks_at_the_mirror(tmp_path: Path) -> None:
    assert doctor.mirror(None).ok
    assert doctor.mirror(str(tmp_path)).ok
    assert doctor.mirror(tmp_path.as_uri()).ok
    assert not doctor.mirror(str(tmp_path / "nowhere")).ok


def test_the_doctor_exits_1_where_something_is_broken(project: Path) -> None:
    code, out, err = latentops("doctor", cwd=project)
    assert code == 1
    assert "problem  dvc " in out
    assert "ok       params.yaml" in out
    assert "to mend" in err
    assert json.dumps(out).count("Traceback") == 0
