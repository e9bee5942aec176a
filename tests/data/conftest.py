from pathlib import Path

import pyarrow as pa
import pytest

from latentops.config import Dataset, Params, load_params
from latentops.data import sources

EMBEDDED_SETS = ("digits", "breast_cancer", "digit_columns")


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="session")
def raw_tables(params: Params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """The embedded sets as ingest reads them, with nothing accepted yet."""
    nothing = tmp_path_factory.mktemp("accepted")
    return {name: sources.ingest(params.dataset(name).source, nothing).whole() for name in EMBEDDED_SETS}


@pytest.fixture(params=EMBEDDED_SETS)
def dataset_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dataset(params: Params, dataset_name: str) -> Dataset:
    return params.dataset(dataset_name)


@pytest.fixture
def raw(raw_tables: dict[str, pa.Table], dataset_name: str) -> pa.Table:
    return raw_tables[dataset_name]
