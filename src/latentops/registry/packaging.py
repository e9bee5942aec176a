"""Makes the package of a trained variant, and writes it as an MLflow model without a pickle in it."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema
from numpy.typing import NDArray

from latentops.data.prepared import Description, Samples
from latentops.errors import LatentOpsError
from latentops.evaluation.anomaly import Scorer, some_rows
from latentops.evaluation.conformal import threshold
from latentops.evaluation.floors import numbers
from latentops.registry import lineage
from latentops.registry.package import Facts, Package, Reference, column, combined_score
from latentops.training.members import VIEW_ALL
from latentops.training.trained import Trained

SOURCE = Path(__file__).parents[1]
EXAMPLE_ROWS = 2
WRITTEN_LATER = {"registered_model_meta"}  # MLflow's note beside a model that was fetched by its name
# What the code in a package imports, said outright: MLflow takes seconds to infer it, and gets it wrong.
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "jaxtyping")


def build(
    trained: Trained,
    facts: Facts,
    normal: list[str],
    train: Samples,
    calibration: Samples,
    *,
    neighbours: int,
    reference: int,
) -> Package:
    """The package of the members of seed `facts.seed`.

    For each class in `normal` the scorer of that view's member is fitted on the `train` rows of the class
    and its combined score taken on the `calibration` rows of the class. It keeps at most `reference` codes.
    Rows without a label are all taken for normal.
    """
    chosen = trained.select(seed=facts.seed)
    references = {}
    classes = trained.description.classes
    for view in normal if len(classes) > 1 else [VIEW_ALL]:
        label = 0 if view == VIEW_ALL else classes.index(view)
        member = chosen.select(view=view)
        fitting, held_out = (rows.select(rows.labels == label) for rows in (train, calibration))
        inputs = numbers(fitting.select(some_rows(len(fitting))), trained.description.vocabulary)
        scorer = Scorer.fit(
            member.residuals(fitting)[0], member.encode(fitting)[0], inputs, neighbours, reference
        )
        scores = combined_score(scorer, member, held_out)
        references[view] = Reference(scorer, np.sort(scores), _threshold(scores, facts.alpha))
    return Package(chosen, references, facts)


def _threshold(scores: NDArray[np.float64], alpha: float) -> float | None:
    """The score above which a row is an anomaly; none where the calibration rows are too few for `alpha`."""
    try:
        return threshold(scores, alpha)
    except LatentOpsError:
        return None


def write(package: Package, example: Samples, directory: Path, model: Model | None = None) -> None:
    """Write `package` as an MLflow model into `directory`, which doesn't exist yet.

    It holds this project's code, the package's folder, a signature, the first rows of `example` as input
    example and the exact versions of what it imports. `model` is MLflow's record of what is written.
    """
    rows = package.raw(example.select(slice(0, EXAMPLE_ROWS)))
    with tempfile.TemporaryDirectory() as folder:
        contents = Path(folder) / "package"
        package.save(contents)
        save_model(
            path=str(directory),
            mlflow_model=model,
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"package": str(contents)},
            code_paths=[str(SOURCE)],
            signature=signature(package.description),
            input_example=package.frame(rows),
            pip_requirements=requirements(package.description),
        )


def signature(description: Description) -> ModelSignature:
    """Columns of doubles for a table; one column of nested doubles for images and sequences, or of text.

    Of a table that isn't all numbers categories and dates are text, and what may be missing is optional.
    """
    encoding = description.encoding
    if encoding is not None:
        schema = Schema(
            [
                ColSpec(
                    DataType.double if type_ == "numeric" else DataType.string,
                    name,
                    required=name not in encoding.missing,
                )
                for name, type_ in encoding.types.items()
            ]
        )
    elif description.kind == "tabular":
        schema = Schema([ColSpec(DataType.double, name) for name in description.features])
    elif description.tokenizer is not None:
        schema = Schema([ColSpec(DataType.string, column(description))])
    else:
        steps = Array(Array(DataType.double))
        nested = Array(steps) if description.kind == "image" else steps
        schema = Schema([ColSpec(nested, column(description))])
    params = [
        ParamSpec("task", DataType.string, "encode"),
        ParamSpec("n", DataType.long, 1),
        ParamSpec("seed", DataType.long, 0),
        ParamSpec("explain", DataType.boolean, False),
    ]
    return ModelSignature(inputs=schema, params=ParamSchema(params))


def requirements(description: Description) -> list[str]:
    """What a package needs installed, pinned to the versions that are installed here."""
    needed = REQUIREMENTS if description.tokenizer is None else (*REQUIREMENTS, "tokenizers")
    return [f"{name}=={lineage.version(name)}" for name in needed]


def digest(directory: Path) -> str:
    """The sha256 over every file of a written model: its path and its bytes, in order of path.

    Left out is what loading adds: compiled code and MLflow's own note.
    """
    whole = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in WRITTEN_LATER and "__pycache__" not in path.parts:
            part = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{path.relative_to(directory).as_posix()}\0{part}\n".encode())
    return whole.hexdigest()
