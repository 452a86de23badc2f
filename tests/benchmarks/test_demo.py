"""Parts of the demo that can be seen without the daemon."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.demo import __main__ as demo
from benchmarks.demo import node as demo_node
from benchmarks.demo.destinations import S3, Destination, Elasticsearch, Files, choose_destinations
from benchmarks.demo.node import Node, is_archived
from benchmarks.demo.progress import parse_figures, show_figures
from benchmarks.world.check import Checker
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from shipper.config.loader import load
from tests.benchmarks.slow_shipper import slow_documents

ENVIRON = {"PODS_DIR": "/pods", "OUT_DIR": "/out", "STATE_DIR": "/state", "KUBERNETES_URL": "http://127.0.0.1:1"}
ENVIRON |= {"HTTP_PORT": "2020", "ELASTICSEARCH_URL": "https://es:9200"}

METRICS = """\
# TYPE shipper_input_records counter
shipper_input_records_total{name="pods"} 1500.0
# TYPE shipper_output_records counter
shipper_output_records_total{fate="delivered",name="documents"} 1200.0
shipper_output_records_total{fate="rejected",name="documents"} 1.0
shipper_output_records_total{fate="delivered",name="archive"} 80.0
# TYPE shipper_backlog_bytes gauge
shipper_backlog_bytes{name="documents"} 2048.0
shipper_backlog_bytes{name="archive"} 1024.0
"""


def test_a_node_writes_rotates_and_knows_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_node, "STEP_S", 0.001)
    monkeypatch.setattr(demo_node, "LOG_BYTES", 100_000_000)
    node = Node(tmp_path / "pods", FakeKubernetesApi(), seed=3)
    node.delete_guest = lambda: None  # type: ignore[method-assign]  # its reader comes later
    asyncio.run(demo_node.live(node, 0.01))
    account = node.kubelet.account()
    checker = Checker(account, by_time=True)
    checker.feed((None, document) for document in slow_documents(tmp_path / "pods"))
    assert checker.verdict().ok, str(checker.verdict())
    assert len({container.namespace for container in account.containers}) >= 3
    assert 0 < account.where(is_archived).records < account.records
    assert list(tmp_path.glob("pods/*/*/0.log.*.gz"))
    assert list(tmp_path.glob("pods/*/*/1.log"))


def test_figures_are_summed_over_outputs() -> None:
    before = parse_figures("", 10.0)
    now = parse_figures(METRICS, 12.0)
    line = show_figures(now, before)
    assert "750 records/s" in line
    assert "delivered: archive 80, documents 1,200" in line
    assert "backlog 3 KiB" in line


def test_files_are_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELASTICSEARCH_URL", raising=False)
    monkeypatch.delenv("S3_BUCKET", raising=False)
    destinations = choose_destinations(tmp_path, run="1")
    assert demo.write_config(tmp_path / "demo.yaml", destinations) == demo.CONFIG
    assert [type(each) for each in destinations] == [Files, Files]


def test_real_servers_take_the_place_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", "https://es:9200/")
    monkeypatch.setenv("S3_BUCKET", "logs")
    monkeypatch.setenv("S3_ENDPOINT", "http://s3:8333")
    destinations = choose_destinations(tmp_path, run="20261121-100000")
    config = load(str(demo.write_config(tmp_path / "demo.yaml", destinations)), ENVIRON)
    assert [(output.kind, output.name) for output in config.outputs] == [
        ("elasticsearch", "documents"),
        ("s3", "archive"),
    ]
    assert destinations[1].place == "s3://logs/shipper-demo/20261121-100000/"


async def read(destination: Destination) -> list[tuple[bytes | None, bytes]]:
    return [document async for document in destination.documents()]


async def test_documents_are_read_back_from_elasticsearch_page_by_page() -> None:
    pages = [[{"_id": "a", "_source": {"m": 1}}], [{"_id": "b", "_source": {"m": 2}}], []]

    async def search(_request: web.Request) -> web.Response:
        return web.json_response({"_scroll_id": "s", "hits": {"hits": pages.pop(0)}})

    async def refresh(_request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/logs-shipper_demo-1/_refresh", refresh)
    app.router.add_post("/logs-shipper_demo-1/_search", search)
    app.router.add_post("/_search/scroll", search)
    async with TestServer(app) as server:
        found = await read(Elasticsearch("documents", str(server.make_url("")), "1"))
    assert found == [(b"a", b'{"m":1}'), (b"b", b'{"m":2}')]


async def test_documents_are_read_back_from_files(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "cart.ndjson").write_bytes(b'{"m":1}\n')
    assert await read(Files("archive", tmp_path)) == [(None, b'{"m":1}')]


def test_archive_keys_hold_the_object_id() -> None:
    assert "{id}" in S3("archive", "logs", None, "1").output()["key"]
