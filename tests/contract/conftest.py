"""Buckets for the contract suites of S3, on moto and on seaweedfs."""

import itertools

import pytest

from tests.fakes.archive import Archive
from tests.servers.seaweedfs import SeaweedServer

_numbers = itertools.count()


def new_archive(endpoint: str) -> Archive:
    """An empty bucket of its own."""
    archive = Archive(endpoint, f"contract-{next(_numbers)}", SeaweedServer.user, SeaweedServer.password)
    archive.create_bucket()
    return archive


@pytest.fixture(params=["moto", "seaweedfs"])
def archive(request: pytest.FixtureRequest) -> Archive:
    if request.param == "moto":
        return new_archive(request.getfixturevalue("moto_url"))
    server: SeaweedServer = request.getfixturevalue("seaweedfs_server")
    return new_archive(server.url)
