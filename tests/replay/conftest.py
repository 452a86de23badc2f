"""An archive on an S3 server in this process, and an Elasticsearch to replay it into."""

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from shipper.config.loader import load_text
from shipper.config.model import Config
from tests.fakes.archive import Archive

_numbers = itertools.count()

MakeConfig = Callable[..., Config]


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as server:
        yield server


@pytest.fixture
def archive(moto_url: str) -> Archive:
    """An empty bucket of its own."""
    archive = Archive(moto_url, f"replay-{next(_numbers)}")
    archive.create_bucket()
    return archive


@pytest.fixture
def config_for(tmp_path: Path, archive: Archive, fake: FakeElasticsearch) -> MakeConfig:
    """Makes a configuration of both; what is given stands in the elasticsearch output."""

    def make(*, filters: tuple[dict[str, Any], ...] = (), **changes: Any) -> Config:
        to_elasticsearch = {
            "type": "elasticsearch",
            "name": "es",
            "hosts": [fake.url],
            "index": "logs-{namespace}-default",
            "retry": {"initial": "10ms", "max": "20ms"},
            **changes,
        }
        to_s3 = {
            "type": "s3",
            "name": "archive",
            "bucket": archive.bucket,
            "region": "us-east-1",
            "endpoint": archive.endpoint,
            "auth": {"access_key": archive.user, "secret_key": archive.password},
        }
        whole = {
            "service": {"state_dir": str(tmp_path / "state"), "http": False},
            "inputs": [{"type": "tail", "path": ["/logs/*.log"]}],
            "filters": list(filters),
            "outputs": [to_elasticsearch, to_s3, {"type": "file", "path": f"{tmp_path}/out.ndjson"}],
        }
        return load_text(orjson.dumps(whole).decode())

    return make
