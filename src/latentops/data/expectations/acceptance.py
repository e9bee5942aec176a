"""The versions that were accepted last: later ones may not move far from them."""

from pathlib import Path

from latentops.config import Expectations, Source
from latentops.data import profile as profiles
from latentops.data.expectations.sifting import sift
from latentops.data.profile import Profile
from latentops.data.table import Stored

ACCEPTED = Path("data/profiles")
"""The profiles of the versions accepted last: `<dataset>/accepted.json`."""


def accept(stored: Stored, dataset: str, source: Source, expectations: Expectations) -> Profile:
    """Take a raw table as it is as the version that later ones may not move far from.

    Raises `DataError` where any other limit is broken.
    """
    found = sift(stored.schema, stored.parts(), lambda *_: None, dataset, source, expectations)
    profiles.write(ACCEPTED / dataset / "accepted.json", found.profile)
    return found.profile


def accepted(dataset: str) -> Profile | None:
    """The profile of the version of `dataset` that was accepted last, if one was."""
    return profiles.read(ACCEPTED / dataset / "accepted.json")
