"""ingest, validate and prepare, run as `dvc.yaml` runs them, in a project folder of their own."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from latentops.cli import accept
from latentops.data import prepared, table
from latentops.data.prepared import SPLITS
from latentops.stages.__main__ import main, stage_names

ROOT = Path(__file__).parents[2]
DATASETS = ("digits", "breast_cancer", "digit_columns")


def stage(*words: str) -> None:
    assert main(list(words)) == 0


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(
        (ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTOPS_DEBUG", raising=False)
    return tmp_path


def pass_validation(dataset: str) -> None:
    """Raw rows as clean ones: what validate does to good rows, without what it costs."""
    raw = table.read(Path("data/raw", f"{dataset}.parquet"), f"ingest@{dataset}")
    table.write(Path("data/clean", f"{dataset}.parquet"), raw)


def splits_by_id(dataset: str) -> dict[bytes, str]:
    directory = Path("data/prepared", dataset)
    return {row.tobytes(): split for split in SPLITS for row in prepared.load(directory, split).ids}


def everything_under(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("dataset", DATASETS)
def test_prepared_rows_are_the_clean_ones_in_model_units(project: Path, dataset: str) -> None:
    stage("ingest", dataset)
    pass_validation(dataset)
    stage("prepare", dataset)
    clean = table.read(Path("data/clean", f"{dataset}.parquet"), "validate")
    directory = Path("data/prepared", dataset)
    description = prepared.describe(directory)
    layout = table.layout_of(clean, "diagnosis" if dataset == "breast_cancer" else "digit")
    row_of = {each.tobytes(): row for row, each in enumerate(table.content_hashes(clean, layout))}
    raw = clean.column("values").to_pylist() if dataset == "digit_columns" else table.dense(clean, layout)
    seen = 0
    for split in SPLITS:
        samples = prepared.load(directory, split)
        seen += len(samples)
        assert samples.values.shape[1:] == description.shape
        assert np.isfinite(samples.values).all()
        for at in range(0, len(samples), 17):
            row = row_of[samples.ids[at].tobytes()]
            values = np.array(raw[row], dtype=np.float64)
            back = description.transform.invert(samples.values[at])
            if samples.lengths is not None:
                assert not samples.values[at, samples.lengths[at] :].any(), "padding is zero"
                back = back[: samples.lengths[at]].ravel()
            assert np.allclose(back, values, rtol=1e-5, atol=1e-5)
            assert description.classes[samples.labels[at]] == clean.column(layout.label)[row].as_py()
    assert seen == clean.num_rows
    if description.likelihood_range is not None:
        low, high = description.likelihood_range
        values = np.concatenate([prepared.load(directory, split).values for split in SPLITS])
        assert (values.min(), values.max()) == (low, high)


def test_training_rows_of_normal_classes_are_what_is_standardised(project: Path) -> None:
    stage("ingest", "breast_cancer")
    pass_validation("breast_cancer")
    stage("prepare", "breast_cancer")
    train = prepared.load(Path("data/prepared/breast_cancer"), "train")
    benign = train.values[train.labels == 0]
    assert np.allclose(benign.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(benign.std(axis=0), 1, atol=1e-5)
    calibration = prepared.load(Path("data/prepared/breast_cancer"), "calibration")
    assert set(calibration.labels.tolist()) == {0}


def test_a_changed_test_row_changes_no_training_value(project: Path) -> None:
    stage("ingest", "breast_cancer")
    pass_validation("breast_cancer")
    stage("prepare", "breast_cancer")
    directory = Path("data/prepared/breast_cancer")
    before = {split: prepared.load(directory, split) for split in SPLITS}
    transform = prepared.describe(directory).transform
    tested = {row.tobytes() for row in before["test"].ids}

    # Only values of a test row change; its content hash then does too, so it is kept in test by hand:
    # among the values that leave it there, the first is taken.
    path = Path("data/clean/breast_cancer.parquet")
    clean = table.read(path, "validate")
    layout = table.layout_of(clean, "diagnosis")
    ids = table.content_hashes(clean, layout)
    row = next(at for at, each in enumerate(ids) if each.tobytes() in tested)
    at = clean.column_names.index("worst area")
    for factor in range(2, 60):
        cells = clean.column(at).to_pylist()
        cells[row] *= factor
        table.write(path, clean.set_column(at, "worst area", pa.array(cells)))
        stage("prepare", "breast_cancer")
        if all(
            len(prepared.load(directory, split)) == len(before[split]) for split in SPLITS
        ) and np.array_equal(prepared.load(directory, "train").ids, before["train"].ids):
            break
    else:
        pytest.fail("no change of the row leaves it in test")
    assert prepared.describe(directory).transform == transform
    assert np.array_equal(prepared.load(directory, "train").values, before["train"].values)


@pytest.mark.parametrize("dataset", DATASETS)
def test_rows_stay_where_they_were_when_a_file_is_accepted(project: Path, dataset: str) -> None:
    stage("ingest", dataset)
    pass_validation(dataset)
    stage("prepare", dataset)
    before = splits_by_id(dataset)

    raw = pq.read_table(f"data/raw/{dataset}.parquet")
    label = "diagnosis" if dataset == "breast_cancer" else "digit"
    at = raw.column_names.index(label)
    rows = raw.slice(0, 60)
    shifted = rows.set_column(at, label, pa.array(rows.column(label).to_pylist()[::-1]))
    Path("data/accepted", dataset).mkdir(parents=True)
    pq.write_table(shifted.drop_columns([".source", ".position"]), f"data/accepted/{dataset}/00.parquet")
    stage("ingest", dataset)
    pass_validation(dataset)
    stage("prepare", dataset)
    after = splits_by_id(dataset)
    assert len(after) > len(before)
    assert {row: after[row] for row in before} == before


def test_the_same_bytes_come_out_twice(project: Path) -> None:
    outs = []
    for _ in range(2):
        for name in ("ingest", "validate", "prepare"):
            stage(name, "digits")
        outs.append((everything_under(Path("data")), everything_under(Path("results"))))
    assert outs[0] == outs[1]
    summary = json.loads(Path("results/validate/digits.json").read_text(encoding="utf-8"))
    assert (summary["rows"], summary["clean"], summary["quarantined"]) == (1797, 1797, 0)
    listed = Path("var/data_docs/digits/index.html").read_text(encoding="utf-8")
    version = hashlib.md5(Path("data/raw/digits.parquet").read_bytes()).hexdigest()[:12]
    assert f'href="{version}/index.html"' in listed
    assert Path("var/data_docs/digits", version, "index.html").exists()
    for name in ("ingest", "validate", "prepare"):
        costs = json.loads(Path(f"var/costs/{name}-digits.json").read_text(encoding="utf-8"))
        assert set(costs) == {"stage", "when", "revision", "wall_seconds", "cpu_seconds", "peak_bytes"}
        assert costs["stage"] == f"{name}@digits"
        assert costs["peak_bytes"] > 10_000_000


def test_a_broken_table_stops_the_stage_and_leaves_what_was_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage("ingest", "breast_cancer")
    stage("validate", "breast_cancer")
    before = everything_under(Path("data/clean")) | everything_under(Path("results"))
    path = Path("data/raw/breast_cancer.parquet")
    table.write(path, table.read(path, "ingest").drop_columns(["worst area"]))
    assert main(["validate", "breast_cancer"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("error: breast_cancer: ")
    assert "'worst area'" in told
    assert everything_under(Path("data/clean")) | everything_under(Path("results")) == before


def test_rows_that_drift_from_the_accepted_ones_stop_until_they_are_accepted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = Path("params.yaml")
    limit = "      max_quarantined: 0.02\n      max_drift: 0.2\n"
    params.write_text(params.read_text().replace("      max_quarantined: 0.02\n", limit), encoding="utf-8")
    stage("ingest", "breast_cancer")
    accept(["breast_cancer"])
    assert Path("data/profiles/breast_cancer/accepted.json").exists()
    stage("validate", "breast_cancer")
    path = Path("data/raw/breast_cancer.parquet")
    raw = table.read(path, "ingest")
    at = raw.column_names.index("worst symmetry")
    table.write(path, raw.set_column(at, "worst symmetry", pc.add(raw.column(at), 1.0)))
    capsys.readouterr()
    assert main(["validate", "breast_cancer"]) == 1
    told = capsys.readouterr().err
    assert "column 'worst symmetry': its distance from the version accepted last is above" in told
    assert len(list(Path("var/data_docs/breast_cancer").glob("*/index.html"))) == 2, "a folder a version"
    accept(["breast_cancer"])
    stage("validate", "breast_cancer")
    kept = json.loads(Path("data/profiles/breast_cancer/accepted.json").read_text(encoding="utf-8"))
    made = json.loads(Path("results/validate/breast_cancer.profile.json").read_text(encoding="utf-8"))
    assert kept == made


def test_prepare_stops_where_a_split_lacks_a_class(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = Path("params.yaml")
    limit = "      max_quarantined: 0.02\n      min_split_rows: 40\n"
    params.write_text(params.read_text().replace("      max_quarantined: 0.02\n", limit), encoding="utf-8")
    stage("ingest", "breast_cancer")
    pass_validation("breast_cancer")
    assert main(["prepare", "breast_cancer"]) == 1
    told = capsys.readouterr().err
    assert "breast_cancer: split 'calibration' has 36 rows of class 'benign', fewer than" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ingset", "digits"], "unknown stage 'ingset' (did you mean 'ingest'?"),
        (["ingest"], "stage ingest takes DATASET, but was given none"),
        (["ingest", "digits", "sparse"], "stage ingest takes DATASET, but was given digits sparse"),
        (["ingest", "digit"], "unknown dataset 'digit' (did you mean 'digits'?"),
        (
            ["validate", "digits"],
            "data/raw/digits.parquet: not found; make it with `dvc repro ingest@digits`",
        ),
        ([], "which stage? known:"),
    ],
)
def test_mistakes_are_told_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(words) == 1
    written = capsys.readouterr()
    assert written.err.startswith("error: ")
    assert told in written.err
    assert written.err.count("\n") == 1
    assert not written.out


def test_a_traceback_is_shown_on_request_only(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ingest", "digit"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["ingest", "digit", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("LATENTOPS_DEBUG", "1")
    assert main(["ingest", "digit"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_every_module_of_a_stage_is_a_stage() -> None:
    assert {"ingest", "validate", "prepare"} <= set(stage_names())


def test_a_stage_imports_only_what_it_needs(project: Path) -> None:
    code = (
        "import sys; from latentops.stages.__main__ import main; main([]); started = set(sys.modules);"
        "main(['ingest', 'digits']); print(*started, '|', *sys.modules)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    started, ingested = (set(part.split()) for part in done.stdout.split("|"))
    assert not started & {"numpy", "pydantic", "pyarrow", "torch", "mlflow"}
    assert not ingested & {"great_expectations", "torch", "mlflow", "prefect"}


def test_a_stage_has_one_thread_whatever_the_shell_says() -> None:
    """A bootstrap on two threads adds up otherwise than on one."""
    code = (
        "import latentops.stages.__main__ as stages, contextlib\n"
        "with contextlib.suppress(Exception): stages.run('compare', 'no dataset')\n"
        "import numpy, threadpoolctl\n"
        "print(max(each['num_threads'] for each in threadpoolctl.threadpool_info()))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.split()[-1] == "1", ran.stderr
