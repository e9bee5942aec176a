"""A file of text goes through every stage of the DAG, and what was trained takes and gives texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from latentops.config import load_params
from latentops.data import prepared, table
from latentops.data.prepared import SPLITS
from latentops.data.tokenizer import PADDING, Tokenizer
from latentops.stages.__main__ import main
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained
from tests.data.texts import rows, section, write_csv

ROOT = Path(__file__).parents[2]
TOKENS = {"vocabulary": 60, "longest": 12}
FOLDER = Path("data/prepared/news")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("news.csv"), rows(160))
    write_params()
    return tmp_path


def write_params() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    pattern = params["datasets"]["ag_news_test"]
    params["run"] = {"datasets": ["news"], "variants": ["denoising"]}
    params["datasets"] = {
        "news": pattern
        | {
            "source": section(Path("news.csv"), "news.csv"),
            "expectations": {"min_rows": 10, "max_quarantined": 0.1, "classes": ["sport", "money"]},
            "scaling": {"name": "tokens", **TOKENS},
            "normal": ["sport"],
            "architecture": "recurrent",
            "architectures": {
                **pattern["architectures"],
                "embedding": 8,
                "recurrent": {"cell": "gru", "hidden": 16},
            },
            "latent_dim": 4,
        }
    }
    params["evaluation"]["anomaly"]["alpha"] = 0.2
    params["training"] |= {"seeds": [0, 1], "check_every": 20, "batch_size": 32, "look_rows": 32}
    params["training"]["budget"]["recurrent"] = {"steps": 40, "learning_rate": 0.02}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def stage(*words: str) -> None:
    assert main(list(words)) == 0


def prepare() -> None:
    """ingest and prepare; what validate does to good rows, without what it costs."""
    stage("ingest", "news")
    table.write(Path("data/clean/news.parquet"), table.read(Path("data/raw/news.parquet"), "ingest@news"))
    stage("prepare", "news")


def texts_of() -> dict[bytes, str]:
    """Of each row's content hash, its text."""
    clean = table.read(Path("data/clean/news.parquet"), "validate@news")
    hashes = table.content_hashes(clean, table.layout_of(clean, "class"))
    return {each.tobytes(): text for each, text in zip(hashes, table.texts(clean), strict=True)}


def test_prepared_rows_are_the_ids_of_their_texts(project: Path) -> None:
    prepare()
    description, texts = prepared.describe(FOLDER), texts_of()
    tokenizer = description.tokenizer
    assert tokenizer is not None
    assert description.kind == "sequence"
    assert description.vocabulary == tokenizer.vocabulary <= TOKENS["vocabulary"]
    assert description.spread == 1
    assert description.shape == (TOKENS["longest"], 1)
    for split in SPLITS:
        samples = prepared.load(FOLDER, split)
        ids, lengths = tokenizer.apply([texts[row.tobytes()] for row in samples.ids])
        assert samples.lengths is not None
        assert np.array_equal(samples.lengths, lengths)
        assert np.array_equal(samples.values, prepared.pad(ids, lengths, TOKENS["longest"]))
        assert bool(((samples.values[..., 0] == PADDING).sum(1) == TOKENS["longest"] - lengths).all())


def test_the_tokenizer_is_learned_from_training_rows_alone(project: Path) -> None:
    prepare()
    texts = texts_of()
    rows_of = {split: [texts[row.tobytes()] for row in prepared.load(FOLDER, split).ids] for split in SPLITS}
    found = prepared.describe(FOLDER).tokenizer
    assert found == Tokenizer.train(rows_of["train"], **TOKENS)
    assert found != Tokenizer.train([each for split in SPLITS for each in rows_of[split]], **TOKENS)


def test_two_runs_give_the_same_bytes(project: Path) -> None:
    prepare()
    before = {path: path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()}
    stage("prepare", "news")
    assert before == {path: path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()}


def test_text_goes_through_every_stage(project: Path) -> None:
    import mlflow

    from latentops.registry import packaging
    from latentops.registry.package import Facts, Package

    prepare()
    stage("floors", "news")
    stage("train", "news", "denoising")
    stage("evaluate", "news", "denoising")
    stage("compare", "news")
    floors = {row["name"] for row in json.loads(Path("results/floors/news/metrics.json").read_text())["rows"]}
    assert {"raw", "length alone", "PCA-4", "isolation forest", "kNN"} <= floors
    found = json.loads(Path("results/evaluate/news/denoising/metrics.json").read_text())
    told = set(found["diagnosis"])
    assert {"noise_kept", "wrong_tokens", "explained", "copy_score", "effective_rank"} <= told
    assert "sharpness_kept" not in told
    (ours,) = (row for row in found["rows"] if row["name"] == "denoising")
    assert np.mean(ours["metrics"]["probe_accuracy"]["values"]) > 0.8
    assert np.mean(ours["metrics"]["reconstruction_error"]["values"]) < np.log(TOKENS["vocabulary"])

    stack = Trained.load(Path("models/news/denoising"))
    train, calibration = (prepared.load(FOLDER, split) for split in ("train", "calibration"))  # type: ignore[arg-type]
    facts = Facts("news", "denoising", 1, 0.2, "content", "digest", "0", {})
    made = packaging.build(stack, facts, ["sport"], train, calibration, neighbours=3, reference=100)
    made.save(Path("package"))
    package = Package.open(Path("package"))
    texts = ["The Team won a late goal.", "the bank sold ten"]
    samples = package.samples(texts)
    assert np.allclose(package.encode(texts), stack.select(seed=1, view=VIEW_ALL).encode(samples)[0])
    rebuilt = package.reconstruct(texts)
    assert [type(each) for each in rebuilt] == [str, str]
    assert package.raw(samples) == [each.lower() for each in texts]
    frame = package.frame(texts)
    assert list(frame.columns) == ["text"]
    assert np.allclose(package.predict(frame), package.encode(texts))
    assert list(package.predict(frame, "reconstruct")["text"]) == rebuilt
    assert package.request(texts)["dataframe_split"]["data"] == [[text] for text in texts]
    assert set(package.predict(frame, "score").columns) == {"score", "p_value", "is_anomaly"}
    explained = package.predict(frame, "score", explain=True)
    assert ["".join(tokens) for tokens in explained["tokens"]] == [text.lower() for text in texts]
    assert [len(nats) for nats in explained["residual"]] == samples.lengths.tolist()
    assert "attribution" not in explained
    assert load_params().dataset("news").likelihood.name == "categorical"

    packaging.write(package, train, Path("served"))
    served = mlflow.pyfunc.load_model("served")
    assert np.allclose(served.predict(frame), package.encode(texts))
    assert "tokenizers==" in Path("served/requirements.txt").read_text(encoding="utf-8")
