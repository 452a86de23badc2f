"""What stands around the daemon in these tests."""

import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.ports import free_port
from tests.e2e.configs import tail, to_files
from tests.e2e.daemon import Daemon
from tests.fakes.archive import Archive

_numbers = itertools.count()


class MakeDaemon(Protocol):
    def __call__(self, config: Mapping[str, Any], **environ: str) -> Daemon:
        """In `tmp_path`. It is killed at the end of the test, if it still runs."""


@pytest.fixture
async def make_daemon(tmp_path: Path) -> AsyncIterator[MakeDaemon]:
    made: list[Daemon] = []

    def make(config: Mapping[str, Any], **environ: str) -> Daemon:
        made.append(Daemon(tmp_path, config, port=free_port(), environ=environ))
        return made[-1]

    yield make
    for daemon in made:
        await daemon.kill()


@pytest.fixture
async def kubernetes() -> AsyncIterator[FakeKubernetesApi]:
    api = FakeKubernetesApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def elasticsearch() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as fake:
        yield fake


@pytest.fixture
def archive(moto_url: str) -> Archive:
    """An empty bucket of its own, on moto."""
    archive = Archive(moto_url, f"archive-{next(_numbers)}")
    archive.create_bucket()
    return archive


@pytest.fixture
def daemon_of_files(tmp_path: Path, make_daemon: MakeDaemon) -> Daemon:
    """The smallest: pods to files."""
    return make_daemon({"inputs": [tail(tmp_path / "pods")], "outputs": [to_files(tmp_path / "out")]})
