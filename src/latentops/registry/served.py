"""The script MLflow runs to load a package (its "models from code"); nothing here is ever pickled."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from latentops.errors import LatentOpsError
from latentops.registry.package import Package


class Served(PythonModel):
    """A package behind MLflow's `predict`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the package that travels with the model."""
        self.package = Package.open(Path(context.artifacts["package"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The answer to `params["task"]`; what the caller can mend comes back as a bad request."""
        del context
        try:
            return self.package.predict(model_input, **(params or {}))
        except LatentOpsError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


mlflow.models.set_model(Served())
