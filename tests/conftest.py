"""What every test shares: an environment of its own, the project's root, one Prefect server a session."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read by libraries while they are imported, so said before any of them is. What a developer's shell says of
# servers, stores and params must not reach the tests: they would write there.
_home = tempfile.mkdtemp(prefix="latentops-prefect-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
_mirror = os.environ.get("LATENTOPS_MIRROR")
for name in (
    "PREFECT_API_URL",
    "MLFLOW_TRACKING_URI",
    "LATENTOPS_PARAMS",
    "LATENTOPS_DEBUG",
    "LATENTOPS_MIRROR",
):
    os.environ.pop(name, None)
os.environ |= {
    "PREFECT_HOME": _home,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "LATENTOPS_CACHE": str(Path(_home, "cache")),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--variant NAME`: the common suite for a variant of one's own; `--store postgresql`: the registry's."""
    parser.addoption("--variant", help="run tests/model/test_common_suite.py for this variant alone")
    parser.addoption(
        "--store",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="run tests/registry on an SQLite file a project, or on an MLflow server with PostgreSQL",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say which variant it is before tests are collected."""
    if chosen := config.getoption("--variant"):
        from latentops.errors import LatentOpsError
        from tests import toy

        try:
            toy.choose(chosen)
        except LatentOpsError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return Path(__file__).parent.parent


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mirror of public data sets that the shell names; what needs it is skipped where it names none."""
    if _mirror is None:
        pytest.skip("LATENTOPS_MIRROR is not set")
    monkeypatch.setenv("LATENTOPS_MIRROR", _mirror)
    return Path(_mirror)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server for the whole session: starting one takes seconds."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
