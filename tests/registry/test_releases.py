"""A package that an earlier release made still loads, and says what it said then."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from latentops.errors import RegistryError
from latentops.registry.gates import deviation
from latentops.registry.package import Package

from .conftest import DATASETS
from .releases import KEPT, TASKS, keep
from .test_package import is_pickle

RELEASES = sorted(KEPT.iterdir())


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_package_of_an_earlier_release_says_what_it_said(release: Path, dataset: str) -> None:
    """Codes, reconstructions, scores and verdicts, within 1e-5 of the largest."""
    package = Package.open(release / dataset / "package")
    assert package.facts.version == release.name
    expected = json.loads((release / dataset / "expected.json").read_text(encoding="utf-8"))
    rows = pd.DataFrame(expected["rows"])
    for task in TASKS:
        found, then = package.predict(rows, task), pd.DataFrame(expected[task])
        assert set(found) == set(then)
        for name in found:
            assert deviation(numbers(then[name]), numbers(found[name])) <= 1e-5, (task, name)


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """All that a column holds, nested or not, one after the other."""
    return np.concatenate([np.ravel(np.asarray(each, np.float64)) for each in column])


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_what_a_release_left_is_small_and_no_pickle(release: Path) -> None:
    files = [path for path in release.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 500_000
    assert not [path for path in files if is_pickle(path.read_bytes())]


def test_what_a_release_left_stays_as_it_is() -> None:
    with pytest.raises(RegistryError, match="there already; what a release made stays as it is"):
        keep(RELEASES[0])
