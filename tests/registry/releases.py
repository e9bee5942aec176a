"""Keep packages of this release, which later ones have to load: `python -m tests.registry.releases`.

Each is a package of the toy project of `conftest`, as `latentops.registry` made it when the release was: the
variational members of seed 1. Beside it lie raw test rows and what it said of them. A folder that is there is
never written again.
"""

import json
import tempfile
from pathlib import Path

import pandas as pd

from latentops.atomic import write_json
from latentops.config import load_params
from latentops.data import prepared
from latentops.errors import RegistryError
from latentops.registry import lineage, packaging, tracking
from latentops.registry.package import Facts, Package
from latentops.stages import train
from latentops.training.trained import Trained

from .conftest import DATASETS, inside, write_params, write_rows

KEPT = Path(__file__).with_name("fixtures")
VARIANT, SEED, ROWS = "variational", 1, 4
TASKS = ("encode", "reconstruct", "score")


def keep(into: Path) -> None:
    """Write a package of each dataset into the folder `into`."""
    if into.exists():
        raise RegistryError(f"{into}: there already; what a release made stays as it is")
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        write_params()
        for name in DATASETS:
            write_rows(name)
            train.run(name, VARIANT)
            package, rows = made(name), Path("data/prepared") / name
            raw = package.frame(package.raw(prepared.load(rows, "test").select(slice(0, ROWS))))
            package.save(into / name / "package")
            told = {task: plain(package.predict(raw, task)) for task in TASKS}
            write_json(into / name / "expected.json", {"rows": plain(raw), **told})


def plain(frame: pd.DataFrame) -> list[dict[str, object]]:
    """A table as JSON has it, a row each."""
    rows: list[dict[str, object]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def made(name: str) -> Package:
    """The package of a toy dataset that is trained in the current folder."""
    params, rows = load_params(), Path("data/prepared") / name
    settings, anomaly = params.dataset(name), params.evaluation.anomaly
    facts = Facts(
        dataset=name,
        variant=VARIANT,
        seed=SEED,
        alpha=anomaly.alpha,
        content_hash="",
        dataset_digest=lineage.digest(rows),
        version=lineage.version("latentops"),
        settings=tracking.settings_of(params, name, VARIANT),
    )
    return packaging.build(
        Trained.load(Path("models") / name / VARIANT),
        facts,
        settings.normal,
        prepared.load(rows, "train"),
        prepared.load(rows, "calibration"),
        neighbours=anomaly.neighbours,
        reference=anomaly.reference,
    )


if __name__ == "__main__":
    keep(KEPT / lineage.version("latentops"))
