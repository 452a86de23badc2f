"""An S3 server in this process, and an output on it."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shipper.outputs.config import RetryConfig
from shipper.outputs.s3.config import ObjectConfig, S3AuthConfig, S3Config
from shipper.outputs.s3.output import S3Output
from shipper.template import Template
from shipper.values import Secret
from tests.fakes.archive import Archive
from tests.fakes.host import FakeHost, State

_numbers = itertools.count()


@pytest.fixture
def archive(moto_url: str) -> Archive:
    """An empty bucket of its own."""
    archive = Archive(moto_url, f"logs-{next(_numbers)}")
    archive.create_bucket()
    return archive


@pytest.fixture
def config_for(archive: Archive) -> Callable[..., S3Config]:
    """Makes a configuration on `archive`, with what is given instead of short times and small sizes."""

    def make(**changes: Any) -> S3Config:
        settings: dict[str, Any] = {
            "name": "archive",
            "bucket": archive.bucket,
            "region": "us-east-1",
            "endpoint": archive.endpoint,
            "auth": S3AuthConfig(access_key=Secret(archive.user), secret_key=Secret(archive.password)),
            "key": Template.parse("logs/{namespace}/{id}.ndjson.gz"),
            "object": ObjectConfig(max_bytes=2**20, max_age=3600),
            "retry": RetryConfig(initial=0.01, max=0.05),
        }
        return S3Config(**(settings | changes))

    return make


@asynccontextmanager
async def running(output: S3Output, folder: Path, state: State | None = None) -> AsyncIterator[FakeHost]:
    """Closed at the end without a drain: as a process that has no time for one."""
    host = FakeHost(folder, output, state)
    await output.start(host)
    try:
        yield host
    finally:
        await output.close()
