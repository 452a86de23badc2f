"""What `check` says where something is wrong; what it says to real servers is in tests/contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from shipper.errors import ShipperError
from shipper.outputs.elasticsearch.check import check
from shipper.outputs.elasticsearch.config import TlsConfig
from shipper.outputs.elasticsearch.identify import Server
from shipper.outputs.elasticsearch.setup import setup
from tests.outputs.elasticsearch.batches import config


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as server:
        yield server


@pytest.fixture
async def somebody_else() -> AsyncIterator[str]:
    """Answers every GET with a page."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html><title>Login</title></html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


async def test_a_host_that_is_down_is_told_beside_those_that_are_up(fake: FakeElasticsearch) -> None:
    async with FakeElasticsearch() as gone:
        url = gone.url
    findings = await check(config(url, fake.url))
    assert [finding.ok for finding in findings] == [False, True, True, True]
    assert findings[0].what.startswith(url)
    assert "is the port in hosts right?" in findings[0].mend


async def test_what_is_no_elasticsearch_is_told(somebody_else: str) -> None:
    (finding,) = await check(config(somebody_else))
    assert "neither Elasticsearch nor OpenSearch" in finding.what
    with pytest.raises(ShipperError, match="neither Elasticsearch nor OpenSearch"):
        await setup(config(somebody_else), dry_run=True)


async def test_a_wrong_flavor_is_told(fake: FakeElasticsearch) -> None:
    (finding,) = await check(config(fake.url, flavor="opensearch"))
    assert finding.what == f"{fake.url}: is Elasticsearch 9.5.3, not opensearch"
    assert finding.mend == "say flavor: elasticsearch, or auto"


async def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    (finding,) = await check(config("https://127.0.0.1:1", tls=TlsConfig(ca_file=str(tmp_path / "ca.pem"))))
    assert "the files of tls cannot be used" in finding.what


async def test_a_template_for_every_index_is_refused(fake: FakeElasticsearch) -> None:
    with pytest.raises(ShipperError, match="begin it with a fixed word"):
        await setup(config(fake.url, index="{namespace}-logs"), dry_run=False)
    assert fake.templates == {}


def test_versions_are_compared_as_numbers() -> None:
    assert Server("elasticsearch", "8.9.0").version < Server("elasticsearch", "8.14.0-SNAPSHOT").version
    assert Server("opensearch").version == ()
