"""Prometheus' own tools, from the system's package."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prometheus_tools() -> Path:
    """The path of promtool."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed here: install your system's package `prometheus`")
    return Path(path)
