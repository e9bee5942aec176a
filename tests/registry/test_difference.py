"""What two versions are told apart by."""

from pathlib import Path

import pytest

from latentops.config import load_params
from latentops.errors import RegistryError
from latentops.registry import tracking
from latentops.registry.champion import promote
from latentops.registry.difference import ABSENT, Entry, diff
from latentops.reporting.profiles import drawings

from .conftest import write_comparison


def test_a_version_doesn_t_differ_from_itself(twice: Path) -> None:
    assert diff("table@champion", "table/2").entries == ()


def test_two_variants_differ_by_name_content_settings_and_figures(twice: Path) -> None:
    found = diff("table@previous", "table@champion")
    assert (found.left, found.right) == ("table/1", "table/2")
    entries = {(entry.group, entry.name): entry for entry in found.entries}
    named = Entry("identity", "variant", "variational", "undercomplete")
    assert entries["identity", "variant"] == named
    assert ("identity", "content hash") in entries
    assert ("identity", "dataset digest") not in entries
    alone = [entry for entry in found.entries if entry.group == "setting" and entry.right == ABSENT]
    assert any("beta" in entry.name for entry in alone)
    assert any(entry.group == "metric" for entry in found.entries)


def test_the_other_way_round_is_the_same_mirrored(twice: Path) -> None:
    one, other = diff("table/1", "table/2"), diff("table/2", "table/1")
    assert [(e.name, e.left, e.right) for e in one.entries] == [
        (e.name, e.right, e.left) for e in other.entries
    ]


def test_versions_of_two_datasets_have_no_difference(twice: Path) -> None:
    write_comparison("pictures", "variational")
    tracking.record("pictures", load_params(), drawings)
    promote("pictures")
    with pytest.raises(RegistryError, match="versions of one dataset's model"):
        diff("table", "pictures")
