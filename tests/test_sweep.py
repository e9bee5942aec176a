"""The sweep over latent sizes: its knee, its curves, what it refuses, and that it needs no test rows."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from toy import SECTIONS, TRAINING, describe

from latentops import sweep
from latentops.config import Architectures, Evaluation, load_params
from latentops.data import prepared
from latentops.data.prepared import Samples
from latentops.errors import DataError, LatentOpsError, UnknownNameError
from latentops.reporting import sizes as figure
from latentops.training.members import stack_members
from latentops.training.trained import Recipe

LINEAR = Architectures.model_validate(
    {"mlp": {"hidden": []}, "convolutional": {"channels": [2]}, "recurrent": {"hidden": 4}}
)
JUDGED = Evaluation.model_validate(
    {
        "probe": {"strengths": [0.1]},
        "knn": {"neighbours": 3, "reference": 1000},
        "few_labels": {"labels": [2, 5], "draws": 3, "seed": 0},
        "clustering": {"starts": 2},
        "anomaly": {"neighbours": 3, "reference": 1000, "alpha": 0.1},
        "denoising": {
            "gaussian": [0.5],
            "masking": [0.5],
            "salt_and_pepper": [0.5],
            "replace": [0.5],
            "drop": [0.5],
        },
    }
)
RANK = 2


def low_rank(rows: int, seed: int) -> Samples:
    """Rows [n, 7] on a plane of `RANK` dimensions, with a little noise; class b lies aside."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    mixing = np.random.default_rng(0).normal(size=(RANK, 7)) / RANK**0.5
    inner = random.normal(size=(rows, RANK)) + labels[:, None]
    values = inner @ mixing + 0.02 * random.normal(size=(rows, 7))
    return Samples(values.astype(np.float32), None, labels, np.zeros((rows, 32), dtype=np.uint8))


def measured(size: int, normal: tuple[str, ...]) -> sweep.Row:
    section = SECTIONS["undercomplete"]
    recipe = Recipe.resolve("undercomplete", section, "mlp", LINEAR, size, describe("tabular"))
    members = stack_members(TRAINING.seeds, normal)
    budget = {"mlp": TRAINING.budget["mlp"].model_copy(update={"steps": 300, "learning_rate": 0.02})}
    training = TRAINING.model_copy(update={"budget": budget, "check_every": 50})
    steps: list[int] = []
    row = sweep.measure(
        recipe, members, low_rank(128, 1), low_rank(48, 2), normal, training, JUDGED, steps.append
    )
    assert steps[-1] <= 300
    assert steps == sorted(steps)
    return row


def test_the_knee_of_a_known_curve() -> None:
    """Error falls by steps of 10 down to size 8, then by steps of 1: the corner is at 8."""
    found = sweep.knee([1, 2, 4, 8, 16, 32, 64], [33, 23, 13, 3, 2, 1, 0])
    assert found is not None
    assert found.size == 8
    assert found.distance == pytest.approx((30 / 33 - 3 / 6) / 2**0.5)


def test_the_knee_knows_no_units() -> None:
    sizes, errors = [1, 2, 4, 8, 16], [9.0, 5.0, 2.0, 1.5, 1.0]
    scaled = sweep.knee([3 * size for size in sizes], [0.01 * error - 0.002 for error in errors])
    found = sweep.knee(sizes, errors)
    assert found is not None
    assert scaled is not None
    assert (scaled.size, scaled.distance) == (3 * found.size, pytest.approx(found.distance))


@pytest.mark.parametrize(
    "errors",
    [[4.0, 3.0, 2.0, 1.0], [4.0, 3.9, 3.5, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]],
    ids=["even", "concave", "flat", "rising"],
)
def test_a_curve_without_a_corner_has_no_knee(errors: list[float]) -> None:
    assert sweep.knee([1, 2, 4, 8], errors) is None
    assert sweep.knee([1, 8], [4.0, 1.0]) is None


def test_the_error_falls_to_the_rank_of_the_data_and_the_knee_is_there() -> None:
    rows = [measured(size, ()) for size in (1, 2, 4)]
    errors = [row.mean("reconstruction_error") for row in rows]
    assert errors[0] > 5 * errors[1]
    assert errors[1] < 0.05
    found = sweep.knee([row.size for row in rows], errors)
    assert found is not None
    assert found.size == RANK
    assert all("auroc" not in row.metrics for row in rows)
    assert all(len(values) == len(TRAINING.seeds) for row in rows for values in row.metrics.values())


def test_where_a_class_is_normal_there_is_an_auroc() -> None:
    row = measured(2, ("a",))
    assert set(row.metrics) == set(sweep.METRICS) - {"r2"}
    assert row.mean("auroc") > 0.5


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with prepared breast cancer rows that has no calibration and no test split at all."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    for budget in params["training"]["budget"].values():
        budget["steps"] = 6
    params["training"] |= {"seeds": [0, 1], "check_every": 3}
    for name in ("breast_cancer", "digits"):
        params["datasets"][name]["expectations"]["classes"] = ["a", "b"]
        params["datasets"][name]["normal"] = ["a"] if name == "breast_cancer" else []
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("breast_cancer", "digits"):
        made = {"train": low_rank(64, 1), "stop": low_rank(32, 2)}
        prepared.write(tmp_path / "data/prepared" / name, describe("tabular"), made)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sweep_reads_no_test_row_and_writes_its_curves(project: Path) -> None:
    made = sweep.run("breast_cancer", "undercomplete")
    told = json.loads((project / made.data).read_text())
    assert [row["size"] for row in told["rows"]] == [1, 2, 4]
    assert told["split"] == "stop"
    for row in told["rows"]:
        for metric in ("reconstruction_error", "probe_accuracy", "auroc"):
            assert row[metric]["mean"] == pytest.approx(np.mean(row[metric]["values"]))
    page = (project / made.page).read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert not list(project.rglob("*.part"))


def test_without_a_normal_class_the_auroc_is_left_out(project: Path) -> None:
    made = sweep.run("digits", "undercomplete", [2, 1, 2])
    told = json.loads((project / made.data).read_text())
    assert [row["size"] for row in told["rows"]] == [1, 2]
    assert all("auroc" not in row for row in told["rows"])
    assert (project / made.page).read_text().count("<svg") == 2
    assert "AUROC" not in made.table()[0]


def test_a_sweep_again_gives_the_same_bytes(project: Path) -> None:
    first = sweep.run("breast_cancer", "variational", [1, 4])
    before = [(project / path).read_bytes() for path in (first.data, first.page)]
    shutil.rmtree(project / "var")
    again = sweep.run("breast_cancer", "variational", [4, 1])
    assert [(project / path).read_bytes() for path in (again.data, again.page)] == before


def test_what_it_refuses(project: Path) -> None:
    with pytest.raises(LatentOpsError, match=r"^overcomplete: variants.overcomplete .* nothing to sweep"):
        sweep.run("breast_cancer", "overcomplete")
    with pytest.raises(UnknownNameError, match="did you mean 'sparse'"):
        sweep.run("breast_cancer", "spars")
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        sweep.run("digitz", "sparse")
    with pytest.raises(DataError, match=r"digit_columns.* not found; make it with `dvc repro prepare@"):
        sweep.run("digit_columns", "sparse")
    assert not (project / "var").exists()


@pytest.mark.parametrize("text", ["", "1,x", "0,1", "-2", "1.5"])
def test_sizes_are_whole_numbers_from_one_on(text: str) -> None:
    with pytest.raises(LatentOpsError, match="give whole numbers from 1 on, such as --sizes 1,2,4,8"):
        sweep.parse_sizes(text)
    assert sweep.parse_sizes("1, 2,16") == [1, 2, 16]


def test_sizes_are_powers_of_two_up_to_the_input(root: Path) -> None:
    assert sweep.powers_of_two(30) == [1, 2, 4, 8, 16]
    assert sweep.powers_of_two(64) == [1, 2, 4, 8, 16, 32, 64]
    assert load_params(root / "params.yaml").dataset("digits").latent_dim in sweep.powers_of_two(64)


def test_the_knee_stands_at_its_size_in_every_drawing() -> None:
    by_size = {1: [0.9, 0.8], 2: [0.5, 0.6], 4: [0.4, 0.4]}
    drawings = {m: ElementTree.fromstring(figure.curve(by_size, m, 2)) for m in sweep.METRICS}
    for metric, drawing in drawings.items():
        (upright,) = drawing.findall("line[@class='knee']")
        (chosen,) = drawing.findall("circle[@class='point variant chosen']")
        assert upright.get("x1") == chosen.get("cx")
        places = [float(mark.get("cx", "")) for mark in drawing.findall("circle")]
        assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.02)
        assert bool(drawing.findall("path[@class='chord']")) == (metric == "reconstruction_error")
    assert "knee" not in figure.curve(by_size, "auroc", None)
