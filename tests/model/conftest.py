import pytest

from latentops.training import recorded


@pytest.fixture(autouse=True)
def short_trainings_are_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long ones are: nothing that is tested here may depend on it."""
    monkeypatch.setattr(recorded, "WORTH", recorded.LONGEST)
