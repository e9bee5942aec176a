"""A project of one table of people under git and DVC, whose stages are run here and committed at will."""

import csv
import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import yaml

from latentops.data import table
from latentops.stages import ingest, prepare

ROOT = Path(__file__).parents[2]
Person = dict[str, str]

STAGES = {
    "ingest": (["data/accepted/people"], ["data/raw/people.parquet"]),
    "validate": (
        ["data/raw/people.parquet"],
        ["data/clean/people.parquet", "data/quarantine/people.parquet"],
    ),
    "prepare": (["data/clean/people.parquet"], ["data/prepared/people", "data/splits/people.parquet"]),
}
TRAIN = {
    "cmd": "true",
    "deps": ["data/prepared/people/train"],
    "outs": ["models/people/sparse"],
}


def people(count: int, seed: int = 0) -> list[Person]:
    """`count` rows of people, two a person; some are too old to be true."""
    random = np.random.default_rng(seed)
    return [
        {
            "person": f"p{at // 2}",
            "age": str(random.integers(20, 90) + (1000 if at % 20 == 7 else 0)),
            "height": f"{random.normal(170, 10):.2f}",
            "ill": str(random.integers(2)),
        }
        for at in range(count)
    ]


def write_csv(rows: Sequence[Mapping[str, str]], path: Path = Path("people.csv")) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["person", "age", "height", "ill"])
        writer.writeheader()
        writer.writerows(rows)


def write_params(split: Mapping[str, object] | None = None) -> None:
    """The project's params.yaml with `people` as its only dataset."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["run"] = {"datasets": ["people"], "variants": ["sparse"]}
    params["datasets"] = {
        "people": params["datasets"]["breast_cancer"]
        | {
            "source": {
                "name": "file",
                "kind": "tabular",
                "label": "ill",
                "group": "person",
                "files": [{"path": "people.csv", "sha256": sha256(Path("people.csv"))}],
                "read": {"format": "csv"},
                "columns": {"age": "numeric", "height": "numeric"},
            },
            "expectations": {
                "min_rows": 10,
                "max_quarantined": 0.2,
                "classes": ["0", "1"],
                "columns": {"age": [0, 120]},
            },
            "scaling": "standard",
            "split": split or {"seed": 0, "stop": 0.2, "calibration": 0.1, "test": 0.2, "by": "hash"},
            "normal": ["0"],
            "primary": "probe_accuracy",
        }
    }
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start() -> None:
    """A git and DVC project in the current folder, whose models are made of nothing but a file."""
    from dvc.repo import Repo

    git("init", "--quiet", "--initial-branch", "main")
    Repo.init().close()
    stages: dict[str, object] = {
        verb: {"matrix": {"dataset": ["people"]}, "cmd": "true", "deps": deps, "outs": outs}
        for verb, (deps, outs) in STAGES.items()
    }
    stages["train"] = {"matrix": {"dataset": ["people"], "variant": ["sparse"]}, **TRAIN}
    content = {"stages": stages}
    Path("dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    Path("data/accepted/people").mkdir(parents=True)
    Path("data/accepted/people/.gitkeep").touch()


def make(rows: Sequence[Mapping[str, str]] | None = None) -> None:
    """Write `rows` into people.csv, if there are any, and run all stages as `dvc repro` would."""
    from dvc.repo import Repo

    if rows is not None:
        write_csv(rows)
        write_params()
    ingest.run("people")
    raw = table.read(Path("data/raw/people.parquet"), "ingest@people")
    good = pc.less_equal(raw.column("age"), 120)
    table.write(Path("data/clean/people.parquet"), raw.filter(good))
    table.write(Path("data/quarantine/people.parquet"), raw.filter(pc.invert(good)))
    prepare.run("people")
    model = Path("models/people/sparse/weights")
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(Path("data/prepared/people/train/ids.npy").read_bytes())
    with Repo() as repo:
        repo.commit(force=True)


def commit(tag: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", tag)
    git("tag", tag)


def git(*arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    result = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
    return result.stdout
