"""Ways that a test can ask for by name."""

import pytest

from shipper.pipeline import sweep


@pytest.fixture
def by_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is so short that a sweep takes it."""
    monkeypatch.setattr(sweep, "SHORT_BYTES", 0)
