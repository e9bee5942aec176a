"""`params.yaml` as frozen, typed models: every key is known, documented there and used.

An unknown key is refused with its place in the file and the nearest key that exists.

A stage depends on the parts that it reads: that is why there is a file for each. `dvc.yaml` names them with
the stage, so a new key for the judge trains nothing. This file is named with none: it puts the parts together
and reads the YAML, so a section more, or less, changes nothing for a stage that doesn't read it.
"""

import os
from pathlib import Path
from typing import Self

import yaml
from pydantic import model_validator

from latentops.config.architectures import (
    MLP,
    ActivationName,
    ArchitectureName,
    Architectures,
    CellName,
    Convolutional,
    DecoderName,
    LikelihoodName,
    LikelihoodSettings,
    PoolingName,
    Recurrent,
    Transformer,
)
from latentops.config.comparison import Comparison, Gates
from latentops.config.data import (
    ColumnType,
    Dataset,
    Expectations,
    File,
    Format,
    Kind,
    LabelType,
    Part,
    PrimaryMetric,
    Read,
    Scaling,
    Source,
    Split,
)
from latentops.config.evaluation import Anomaly, Corruptions, Evaluation, Floors, Probe
from latentops.config.retrain import Retrain
from latentops.config.run import Run
from latentops.config.settings import (
    NAME,
    Count,
    DatasetName,
    Fraction,
    Positive,
    Seed,
    Settings,
    Share,
    nearest,
    parse,
)
from latentops.config.training import Budget, Precision, Training
from latentops.errors import ConfigError, UnknownNameError

__all__ = [
    "MLP",
    "NAME",
    "ActivationName",
    "Anomaly",
    "ArchitectureName",
    "Architectures",
    "Budget",
    "CellName",
    "ColumnType",
    "Comparison",
    "Convolutional",
    "Corruptions",
    "Count",
    "Dataset",
    "DatasetName",
    "DecoderName",
    "Evaluation",
    "Expectations",
    "File",
    "Floors",
    "Format",
    "Fraction",
    "Gates",
    "Kind",
    "LabelType",
    "LikelihoodName",
    "LikelihoodSettings",
    "Params",
    "Part",
    "PoolingName",
    "Positive",
    "Precision",
    "PrimaryMetric",
    "Probe",
    "Read",
    "Recurrent",
    "Retrain",
    "Run",
    "Scaling",
    "Seed",
    "Settings",
    "Share",
    "Source",
    "Split",
    "Training",
    "Transformer",
    "load_params",
    "nearest",
    "params_path",
    "parse",
]


class Params(Settings):
    """The whole of `params.yaml`.

    The sections under `variants:` are typed beside each variant (`latentops.variants`); here they are
    plain mappings, so that a variant of one's own needs no change in this file.
    """

    run: Run
    datasets: dict[DatasetName, Dataset]
    variants: dict[str, dict[str, object]]
    training: Training
    evaluation: Evaluation
    floors: Floors
    comparison: Comparison
    gates: Gates
    retrain: Retrain

    @model_validator(mode="after")
    def _run_names_exist(self) -> Self:
        for what, names, known in (
            ("datasets", self.run.datasets, self.datasets),
            ("variants", self.run.variants, self.variants),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"run.{what}: {name!r} has no entry under {what}:{nearest(name, known)}")
        return self

    def dataset(self, name: str) -> Dataset:
        """The entry of dataset `name`; `UnknownNameError` names the nearest one."""
        if name not in self.datasets:
            raise UnknownNameError(f"unknown dataset {name!r}{nearest(name, self.datasets)}")
        return self.datasets[name]

    def variant(self, name: str) -> dict[str, object]:
        """The untyped section of variant `name`; `UnknownNameError` names the nearest one."""
        if name not in self.variants:
            raise UnknownNameError(f"unknown variant {name!r}{nearest(name, self.variants)}")
        return self.variants[name]


def params_path() -> Path:
    """`LATENTOPS_PARAMS` if set, else `params.yaml` in the current folder."""
    return Path(os.environ.get("LATENTOPS_PARAMS", "params.yaml"))


def load_params(path: Path | None = None) -> Params:
    """Read and check `params.yaml`.

    Raises `ConfigError` where the file is missing, isn't YAML, or holds a key or value it shouldn't.
    """
    path = path or params_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; run from the project's root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as text: {error}") from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds no sections such as `run:` and `datasets:`; is it empty?")
    return parse(Params, value, str(path))
