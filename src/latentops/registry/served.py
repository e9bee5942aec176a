"""The script MLflow runs to load a package (its "models from code"); nothing here is ever pickled."""

import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from latentops.errors import LatentOpsError
from latentops.registry.package import Package

MAX_ROWS = "LATENTOPS_MAX_ROWS"
DEFAULT_ROWS = 10_000


class Served(PythonModel):
    """A package behind MLflow's `predict`, of at most `LATENTOPS_MAX_ROWS` rows at once (10,000)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the package that travels with the model."""
        self.most = most_rows()
        self.package = Package.open(Path(context.artifacts["package"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The answer to `params["task"]`; what the caller can mend comes back as a bad request."""
        del context
        told = params or {}
        try:
            if told.get("task") == "sample":
                _bounded("params: n", told.get("n", 1), self.most)
            else:
                _bounded("rows", len(model_input), self.most)
            return self.package.predict(model_input, **told)
        except LatentOpsError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def most_rows() -> int:
    """How many rows are taken, or drawn, at once."""
    told = os.environ.get(MAX_ROWS, str(DEFAULT_ROWS))
    if not told.isdecimal() or not int(told):
        raise LatentOpsError(f"{MAX_ROWS}: {told!r} is no number of rows, such as {DEFAULT_ROWS}")
    return int(told)


def _bounded(what: str, count: int, most: int) -> None:
    if count < 1:
        raise LatentOpsError(f"{what}: {count}, expected at least 1")
    if count > most:
        raise LatentOpsError(f"{what}: {count}, at most {most} at once; send fewer, or set {MAX_ROWS}")


mlflow.models.set_model(Served())
