from pathlib import Path

import pytest
import yaml

from latentops.config import Training, load_params, parse
from latentops.errors import ConfigError, UnknownNameError
from latentops.variants import NAMES, variant_settings

ROOT = Path(__file__).parent.parent


def edited(tmp_path: Path, key: str, value: object) -> Path:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    *folders, last = key.split("/")
    place = params
    for folder in folders:
        place = place[folder]
    place[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def test_the_projects_own_params_are_valid_down_to_each_variant() -> None:
    params = load_params(ROOT / "params.yaml")
    assert set(params.run.variants) == set(NAMES)
    for name, section in params.variants.items():
        variant_settings(name, section)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training/patiense", 3, r"training\.patiense: unknown key .*did you mean 'patience'"),
        ("datasets/digits/split/tset", 0.1, r"datasets\.digits\.split\.tset: unknown key .*'test'"),
        ("datasets/digits/kind", "image", r"datasets\.digits\.kind: unknown key"),
        ("training/batch_size", 50, r"training\.batch_size: .*multiple of 32"),
        ("training/seeds", [1, 1], "seeds must differ"),
        ("training/seeds", [-1, 1], r"training\.seeds\.0: .*greater than or equal to 0"),
        (
            "training/budget",
            {"mlp": {"steps": 1, "learning_rate": 0.1}},
            "no entry for convolutional, recurrent",
        ),
        ("training/budget/mlp/learning_rate", float("inf"), "finite number"),
        ("datasets/digits/source/value_range", [float("nan"), 1.0], "finite number"),
        ("run/datasets", ["digts"], r"run\.datasets: 'digts' has no entry.*did you mean 'digits'"),
        ("datasets/digits/normal", ["11"], "'11' is not among expectations.classes"),
        ("datasets/breast_cancer/normal", [], "primary: auroc needs at least one class"),
        ("datasets/breast_cancer/scaling", "range", r"scaling: range needs source\.value_range"),
        ("datasets/breast_cancer/likelihood", "bernoulli", "only scaling: range gives"),
        ("datasets/breast_cancer/scaling", {"name": "power", "buckets": 4}, "buckets is of categories"),
        ("datasets/digits/scaling", {"name": "standard", "orientations": 4}, "of the edges in images"),
        ("datasets/digit_columns/scaling", {"name": "range", "orientations": 4}, "of the edges in images"),
        ("datasets/breast_cancer/primary", "none", "primary: none is for rows without a label"),
        ("datasets/breast_cancer/expectations/missing", {"mean radius": 0.1}, "may have missing values"),
        ("datasets/digit_columns/architectures/transformer/patch", 2, "patch is for images, but .* sequence"),
        ("datasets/ag_news_test/scaling", "standard", "scaling: standard doesn't go with source.kind: text"),
        ("datasets/ag_news_test/scaling", "tokens", "belong to tokens, which need both; scaling is tokens"),
        ("datasets/digits/scaling", {"name": "range", "longest": 9}, "which need both; scaling is range"),
        (
            "datasets/ag_news_test/likelihood",
            "gaussian",
            "likelihood: gaussian doesn't go with source.kind: text",
        ),
        ("datasets/digits/likelihood", "categorical", "tokens are categorical, and nothing else is"),
        ("datasets/digits/split/test", 0.9, "must be below 1"),
        ("datasets/digits/split/stop", 0, r"split\.stop: .*greater than 0"),
        ("datasets/digits/split/calibration", 0, r"split\.calibration: .*greater than 0"),
        ("run/datasets", ["digits", "digits"], r"run: datasets names digits more than once"),
        ("run/variants", ["sparse", "sparse"], r"run: variants names sparse more than once"),
        ("datasets", {"../digits": {}}, r"datasets\.\.\./digits.*pattern"),
        ("evaluation/denoising/masking", [0.3, 0.3], r"evaluation\.denoising: .*masking: levels must rise"),
        ("evaluation/denoising/masking", [1.2], r"denoising\.masking\.0: .*less than 1"),
        ("retrain/cron", "3 am", r"retrain\.cron: .*pattern"),
        ("datasets/digits/source/value_range", [3, 3], "lowest < highest"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(edited(tmp_path, key, value))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    del params["training"]["warmup"]
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(ConfigError, match=r"training\.warmup: Field required"):
        load_params(path)


def test_a_missing_and_a_broken_file_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found; run from the project's root"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("run: [")
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_what_is_no_text_and_what_is_empty_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ConfigError, match="can't be read as text"):
        load_params(path)
    with pytest.raises(ConfigError, match="can't be read as text"):
        load_params(tmp_path)
    path.write_text("")
    with pytest.raises(ConfigError, match="is it empty"):
        load_params(path)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        params.dataset("digit")
    with pytest.raises(UnknownNameError, match="did you mean 'sparse'"):
        params.variant("spars")


def test_several_processes_write_no_checkpoint() -> None:
    settings = load_params(ROOT / "params.yaml").training.model_dump() | {
        "checkpoint_every": 1,
        "processes": 2,
    }
    with pytest.raises(ConfigError, match="checkpoint_every goes with processes: 1"):
        parse(Training, settings, "training")
