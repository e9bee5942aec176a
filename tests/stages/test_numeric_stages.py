"""A table whose label is a number goes through every stage of the DAG, from the file to the report."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import r2_score

from latentops import adding
from latentops.config import load_params
from latentops.data import prepared
from latentops.data.detection import Said
from latentops.promotion import promote
from latentops.registry import packaging, tracking
from latentops.registry.candidate import PRIMARY, PRIMARY_VALUE
from latentops.registry.package import Facts, Package
from latentops.registry.versions import resolve
from latentops.reporting import card, leaderboard, page
from latentops.reporting.profiles import drawings
from latentops.stages import floors
from latentops.stages.__main__ import main
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

ROOT = Path(__file__).parents[2]
FOLDER = Path("data/prepared/houses")
VARIANTS = ("undercomplete", "sparse", "variational")


def drawn(rows: int = 260) -> pd.DataFrame:
    """Six measures of three things; the price is of two of them, and a little noise."""
    random = np.random.default_rng(0)
    things = random.normal(size=(rows, 3))
    measures = things @ random.normal(size=(3, 6)) + 0.1 * random.normal(size=(rows, 6))
    price = 200_000 + 40_000 * things[:, 0] + 20_000 * things[:, 1] + 3_000 * random.normal(size=rows)
    frame = pd.DataFrame(measures, columns=[f"m{at}" for at in range(6)])
    frame["make"] = np.where(things[:, 2] > 0, "brick", "wood")
    return frame.round(4).assign(price=price.round(2))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table added as a person would add it, and all stages run; two prices aren't there, one is none."""
    folder = tmp_path_factory.mktemp("houses")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("LATENTOPS_MIRROR", raising=False)
        shutil.copy(ROOT / "params.yaml", folder)
        cells = drawn().astype(str)
        cells.loc[[3, 50], "price"] = "?"
        cells.loc[7, "price"] = "dear"
        cells.to_csv("houses.csv", index=False)
        adding.add("houses.csv", Said(label="price"))
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        params["run"] = {"datasets": ["houses"], "variants": list(VARIANTS)}
        params["datasets"]["houses"]["latent_dim"] = 3
        params["comparison"]["resamples"] = 100
        params["training"] |= {"seeds": [0, 1], "check_every": 20, "batch_size": 32, "look_rows": 32}
        params["training"]["budget"]["mlp"] = {"steps": 150, "learning_rate": 0.02}
        Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        for words in (("ingest",), ("validate",), ("prepare",), ("floors",)):
            assert main([*words, "houses"]) == 0
        for variant in VARIANTS:
            assert main(["train", "houses", variant]) == 0
            assert main(["evaluate", "houses", variant]) == 0
        assert main(["compare", "houses"]) == 0
        leaderboard.write(["houses"])
        page.write(load_params(), datasets=["houses"])
    return folder


@pytest.fixture
def there(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.mark.usefixtures("there")
def test_rows_without_a_price_are_set_aside_and_the_others_keep_theirs() -> None:
    found = json.loads(Path("results/validate/houses.json").read_text())
    assert (found["rows"], found["clean"], found["quarantined"]) == (260, 257, 3)
    assert found["reasons"] == {
        "price: missing or not finite": 2,
        "column 'price': a value such as 'dear' is not a number": 1,
    }
    splits = [prepared.load(FOLDER, split) for split in prepared.SPLITS]
    kept = np.concatenate([each.targets for each in splits if each.targets is not None])
    expected = drawn().price.drop([3, 7, 50])
    assert sorted(kept) == sorted(expected)
    assert "price" not in prepared.describe(FOLDER).features


@pytest.mark.usefixtures("there")
def test_every_code_and_every_floor_is_judged_by_what_it_tells_of_the_price() -> None:
    compared = json.loads(Path("results/compare/houses.json").read_text())
    rows = {row["name"]: row["metrics"] for row in compared["rows"]}
    floors = {"raw", "PCA-3", "random projection-3", *(f"untrained {name}" for name in VARIANTS)}
    assert floors | {*VARIANTS} <= set(rows)
    for name, metrics in rows.items():
        assert set(metrics) - {"reconstruction_error"} == {"r2", "mae", "knn_r2"}, name
        assert all(each["low"] <= each["mean"] <= each["high"] for each in metrics.values()), name
    assert rows["raw"]["r2"]["mean"] > 0.9
    assert 1_000 < rows["raw"]["mae"]["mean"] < 15_000
    assert compared["primary"] == "r2"
    assert compared["chosen"]["variant"] in VARIANTS
    assert {each["metric"] for each in compared["comparisons"]} == {"r2"}
    assert {each["gate"].split()[0] for each in compared["gates"]} == {"beats", "keeps", "alive"}


def test_random_features_are_as_many_as_an_overcomplete_codes_but_not_any_number(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for at, widest in enumerate((floors.WIDEST, 10)):
        monkeypatch.chdir(shutil.copytree(project, tmp_path / str(at)))
        monkeypatch.setattr(floors, "WIDEST", widest)
        floors.run("houses")
        rows = json.loads(Path("results/floors/houses/metrics.json").read_text())["rows"]
        sizes.append([row["name"] for row in rows if "ReLU" in row["name"]])
    inputs = prepared.describe(FOLDER).shape[0]
    assert sizes == [[f"random ReLU features-{math.ceil(1.25 * inputs)}"], ["random ReLU features-10"]]


@pytest.mark.usefixtures("there")
def test_what_is_said_of_a_row_is_what_was_measured_on_it() -> None:
    from safetensors.numpy import load_file

    tensors = load_file("results/floors/houses/samples.safetensors")
    targets = prepared.load(FOLDER, "test").targets
    assert targets is not None
    assert tensors["targets"].tolist() == targets.tolist()
    missed = np.sqrt(tensors["raw/unexplained"][0] * targets.var())
    assert missed == pytest.approx(tensors["raw/absolute_error"][0], abs=0.01 * targets.std())
    told = json.loads(Path("results/floors/houses/metrics.json").read_text())["rows"]
    raw = next(row for row in told if row["name"] == "raw")["metrics"]
    signs = np.sign(np.random.default_rng(0).normal(size=len(targets)))
    assert r2_score(targets, targets + signs * missed) == pytest.approx(raw["r2"]["values"][0], abs=1e-4)


@pytest.mark.usefixtures("there")
def test_the_report_shows_the_number_and_no_classes(capsys: pytest.CaptureFixture[str]) -> None:
    report = Path("reports/houses.html").read_text(encoding="utf-8")
    assert "coloured by price" in report
    assert "Which unit of sparse goes with price" in report
    assert "unlabelled" not in report
    assert "coloured by class" not in report
    assert ">nan<" not in report.lower()
    told = card.card_for("houses", load_params())
    assert "label `price`, a number" in told
    assert "ridge regression on standardised codes" in told
    assert "whole classes left out" not in told
    assert "\n\n\n" not in told
    leaderboard.print_table(leaderboard.write(["houses"]))
    board = capsys.readouterr().out
    assert "by R²" in board
    assert "mean absolute error" in board


@pytest.mark.usefixtures("there")
def test_a_package_is_of_rows_without_their_price(tmp_path: Path) -> None:
    stack = Trained.load(Path("models/houses/variational"))
    train, calibration = prepared.load(FOLDER, "train"), prepared.load(FOLDER, "calibration")
    facts = Facts("houses", "variational", 1, 0.2, "content", "digest", "0", {})
    made = packaging.build(stack, facts, [], train, calibration, neighbours=3, reference=100)
    made.save(tmp_path / "package")
    package = Package.open(tmp_path / "package")
    assert list(package.references) == [VIEW_ALL]
    codes = package.encode(drawn(5).drop(columns="price"))
    assert codes.shape == (5, 3)


def test_a_variant_that_passes_its_gates_is_champion_by_r_squared(there: Path) -> None:
    stages = {"prepare@houses": {"outs": [{"path": str(FOLDER), "md5": f"{'houses':_<32}.dir"}]}}
    for variant in VARIANTS:
        outs = [{"path": f"models/houses/{variant}", "md5": f"{variant:_<32}"}]
        stages |= {f"train@houses-{variant}": {"outs": outs}, f"evaluate@houses-{variant}": {"outs": []}}
    (there / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
    path = there / "results/compare/houses.json"
    compared = json.loads(path.read_text())
    gates = [gate | {"passed": True} for gate in compared["gates"]]
    path.write_text(json.dumps(compared | {"gates": gates, "passed": True}))
    tracking.record("houses", load_params(), drawings)
    decision = promote("houses")
    assert decision.promoted, decision.text
    tags = resolve("houses@champion").tags
    assert tags[PRIMARY] == "r2"
    chosen = next(row for row in compared["rows"] if row["name"] == compared["chosen"]["variant"])
    assert float(tags[PRIMARY_VALUE]) == pytest.approx(chosen["metrics"]["r2"]["mean"])
