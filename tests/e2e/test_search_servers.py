"""Real Elasticsearch and OpenSearch servers: what a user finds there, and what is refused."""

import asyncio
import contextlib
import json
import os
import re
import urllib.error
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.world.account import Account
from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import Part, metadata, tail, to_elasticsearch
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import judge
from tests.e2e.lines import Container
from tests.e2e.nodes import announce
from tests.servers.opensearch import OpenSearch
from tests.servers.search_server import SearchServer

MIB = 2**20
RECORDS = 20_000
PAGE = 5000
NODES_MIB = int(os.environ.get("SHIPPER_TEST_NODE_MIB", "24"))  # 256 is what the benchmark has


@dataclass(frozen=True, slots=True)
class Streams:
    """The data streams of one test, one a namespace. `admin` may make templates; `writer` only appends."""

    server: SearchServer
    suffix: str
    has_users: bool

    @property
    def target(self) -> Part:
        return {"index": f"logs-{{namespace}}-{self.suffix}"}

    @property
    def pattern(self) -> str:
        return f"logs-*-{self.suffix}"

    def output(self, user: str, password: str) -> Part:
        ca_file = {"tls": {"ca_file": str(self.server.ca_file)}} if self.server.ca_file else {}
        auth = {"auth": {"username": user, "password": password}} if self.has_users else {}
        return to_elasticsearch(self.server.url, compression="gzip", **self.target, **auth, **ca_file)

    @property
    def admin(self) -> Part:
        return self.output(self.server.user, self.server.password)

    @property
    def writer(self) -> Part:
        return self.output(self.server.writer_user, self.server.writer_password)

    @property
    def shipper(self) -> Part:
        """With the rights that the documents ask for."""
        return self.output(self.server.shipper_user, self.server.writer_password)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Of all streams; `path` begins behind their name."""
        return self._request(method, f"/{self.pattern}{path}", body)

    def roll_over(self, namespace: str) -> None:
        self._request("POST", f"/logs-{namespace}-{self.suffix}/_rollover")

    def count(self, query: Any) -> int:
        found: int = self.ask("GET", "/_count", {"query": query})["count"]
        return found

    def documents(self) -> Iterator[tuple[bytes | None, bytes]]:
        page = self.ask("GET", "/_search?scroll=1m", {"size": PAGE, "sort": ["_doc"]})
        while hits := page["hits"]["hits"]:
            for hit in hits:
                yield hit["_id"].encode(), orjson.dumps(hit["_source"])
            page = self._request("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        return orjson.loads(self.server.request(method, path, json.dumps(body).encode() if body else None))


class PlainIndex(Streams):
    """One index that its user has made by hand, for all namespaces."""

    @property
    def target(self) -> Part:
        return {"index": self.pattern, "data_stream": False}

    @property
    def pattern(self) -> str:
        return f"logs-{self.suffix}"

    def create(self) -> None:
        """As objects, the labels `app` and `app.kubernetes.io/name` exclude each other; `level` is text or number."""
        kind = "flat_object" if isinstance(self.server, OpenSearch) else "flattened"
        names = {"namespace_name": {"type": "keyword"}, "labels": {"type": kind}}
        fields = {
            "@timestamp": {"type": "date_nanos"},
            "level": {"type": "keyword"},
            "kubernetes": {"properties": names},
        }
        self.ask("PUT", "", {"settings": {"number_of_replicas": 0}, "mappings": {"properties": fields}})


@pytest.fixture(params=["elasticsearch_server", "opensearch_server", "opensearch_secure_server"])
def streams(request: pytest.FixtureRequest) -> Streams:
    server = request.getfixturevalue(request.param)
    return Streams(server, uuid.uuid4().hex[:12], has_users=request.param != "opensearch_server")


async def set_up(daemon: Daemon, config: Part, streams: Streams) -> None:
    """Templates by one who may; then the configuration is that of one who may only write."""
    daemon.configure({**config, "outputs": [streams.admin]})
    first = await daemon.command("setup", "CONFIG")
    assert (first.code, "created" in first.out) == (0, True), first
    again = await daemon.command("setup", "CONFIG")
    assert (again.code, "as it should be" in again.out) == (0, True), again
    daemon.configure({**config, "outputs": [streams.writer]})


async def test_a_nodes_logs_are_found_by_namespace_and_label(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, streams: Streams
) -> None:
    account = write_tree(tmp_path, total_bytes=8 * MIB, pods=10, seed=10)
    assert account.records >= RECORDS
    announce(kubernetes, account)
    config = {
        "inputs": [tail(tmp_path / "pods")],
        "filters": [metadata(kubernetes.url), {"type": "json"}],
        "outputs": [],
    }
    daemon = make_daemon(config)
    await set_up(daemon, config, streams)
    assert await daemon.once() == 0, daemon.log()
    streams.ask("POST", "/_refresh")
    found = list(streams.documents())
    assert len({identity for identity, _ in found}) == len(found) == account.records
    verdict = judge(account, found, by_time=True)
    assert verdict.ok, verdict
    by_label = {"term": {"kubernetes.labels.app.kubernetes.io/name": "cart"}}
    assert streams.count(by_label) == account.where(lambda c: c.labels["app"] == "cart").records
    assert streams.count({"term": {"kubernetes.labels.app": "cart"}}) == streams.count(by_label)
    terms = {"size": 0, "aggs": {"names": {"terms": {"field": "kubernetes.namespace_name"}}}}
    buckets = streams.ask("GET", "/_search", terms)["aggregations"]["names"]["buckets"]
    assert {b["key"]: b["doc_count"] for b in buckets} == dict(verdict.by_namespace)
    await daemon.settled()


async def test_a_refused_record_is_kept_and_can_be_sent_again(
    tmp_path: Path, make_daemon: MakeDaemon, streams: Streams
) -> None:
    cart = Container(tmp_path / "pods")
    cart.write('{"conflict":{"a":1}}', '{"twice":1,"twice":2}', '{"conflict":"text"}', "the last one")
    config = {"inputs": [tail(tmp_path / "pods")], "filters": [{"type": "json"}], "outputs": []}
    daemon = make_daemon(config)
    await set_up(daemon, config, streams)
    assert await daemon.once() == 3, daemon.log()
    assert "1 records were rejected" in daemon.log()
    streams.ask("POST", "/_refresh")
    documents = {d["@timestamp"][-2:]: d for d in map(orjson.loads, dict(streams.documents()).values())}
    assert sorted(documents) == ["1Z", "2Z", "4Z"]
    assert documents["2Z"]["twice"] == 2, "of two equal keys the last wins"
    (account,) = await daemon.audit()
    assert (account["dead_lettered"] > 0, account["dead_lettered"] + account["delivered"]) == (True, cart.bytes)

    listed = await daemon.command("dead-letters", "list", "CONFIG")
    (number,) = re.findall(r"^(\d+) ", listed.out, re.MULTILINE)
    assert "shop/cart-1/app" in listed.out
    shown = await daemon.command("dead-letters", "show", "CONFIG", number)
    assert '"conflict": "text"' in shown.out
    assert str(cart.path) in shown.out
    replayed = await daemon.command("dead-letters", "replay", "CONFIG")
    assert (replayed.code, replayed.out) == (3, "0 records were delivered, 1 were refused again\n"), replayed
    streams.roll_over("shop")  # the new index has no field of that name yet
    replayed = await daemon.command("dead-letters", "replay", "CONFIG")
    assert (replayed.code, replayed.out) == (0, "1 records were delivered, 0 were refused again\n"), replayed
    streams.ask("POST", "/_refresh")
    assert streams.count({"match_all": {}}) == 4


async def test_a_server_killed_under_load_holds_each_record_once_even_over_a_rollover(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, streams: Streams
) -> None:
    account = write_tree(tmp_path, total_bytes=24 * MIB, pods=10, seed=11)
    announce(kubernetes, account)
    config = {
        "inputs": [tail(tmp_path / "pods")],
        "filters": [metadata(kubernetes.url), {"type": "json"}],
        "outputs": [],
    }
    daemon = make_daemon(config)
    await set_up(daemon, config, streams)
    daemon.configure({**config, "outputs": [streams.shipper | {"batch": {"max_bytes": "512KiB"}}]})
    await daemon.start()
    await daemon.until_metric("shipper_output_records_total", account.records // 5, fate="delivered")
    await asyncio.to_thread(streams.server.kill)
    await daemon.until_metric("shipper_output_retries_total", 1)
    await asyncio.to_thread(streams.server.start)
    for namespace in sorted({container.namespace for container in account.containers}):
        with contextlib.suppress(urllib.error.HTTPError):  # nothing of that namespace has arrived yet
            await asyncio.to_thread(streams.roll_over, namespace)
    await daemon.caught_up("es", seen_bytes=account.bytes)
    assert await daemon.stop() == 0, daemon.log()
    streams.ask("POST", "/_refresh")
    found = list(streams.documents())
    assert len({identity for identity, _ in found}) == len(found) == account.records
    verdict = judge(account, found, by_time=True)
    assert verdict.ok, verdict
    await daemon.settled()


@pytest.fixture(params=["elasticsearch_server", "opensearch_server"])
def a_server(request: pytest.FixtureRequest) -> tuple[SearchServer, bool]:
    """A server, and whether it has users."""
    return request.getfixturevalue(request.param), request.param != "opensearch_server"


@pytest.mark.timeout(1800)
async def test_a_nodes_logs_in_an_index_made_by_hand_agree_with_their_source(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, a_server: tuple[SearchServer, bool]
) -> None:
    server, has_users = a_server
    index = PlainIndex(server, uuid.uuid4().hex[:12], has_users)
    index.create()
    account, config = nodes_logs(tmp_path, kubernetes)
    daemon = make_daemon({**config, "outputs": [index.shipper]})
    await daemon.start()
    await daemon.caught_up("es", seen_bytes=account.bytes, patience_s=900)
    assert await daemon.stop() == 0, daemon.log()
    check_all_agrees(index, account)
    await daemon.settled()


@pytest.mark.timeout(1800)
async def test_a_nodes_logs_in_data_streams_that_roll_over_agree_with_their_source(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, a_server: tuple[SearchServer, bool]
) -> None:
    server, has_users = a_server
    streams = Streams(server, uuid.uuid4().hex[:12], has_users)
    account, config = nodes_logs(tmp_path, kubernetes)
    daemon = make_daemon(config)
    await set_up(daemon, config, streams)
    daemon.configure({**config, "outputs": [streams.shipper]})
    await daemon.start()
    await daemon.until_metric("shipper_output_records_total", account.records // 4, fate="delivered")
    namespaces = sorted({container.namespace for container in account.containers})
    for namespace in namespaces:
        with contextlib.suppress(urllib.error.HTTPError):  # nothing of that namespace has arrived yet
            await asyncio.to_thread(streams.roll_over, namespace)
    await daemon.caught_up("es", seen_bytes=account.bytes, patience_s=900)
    assert await daemon.stop() == 0, daemon.log()
    indices = streams.ask("GET", "/_settings/index.creation_date")
    assert len(indices) > len(namespaces), "nothing has rolled over"
    check_all_agrees(streams, account)
    await daemon.settled()


def nodes_logs(folder: Path, kubernetes: FakeKubernetesApi) -> tuple[Account, Part]:
    """Logs of 30 pods, as large as the benchmark's if one asks for it, and what reads them."""
    account = write_tree(folder, total_bytes=NODES_MIB * MIB, pods=30, seed=12)
    announce(kubernetes, account)
    filters = [metadata(kubernetes.url), {"type": "json"}]
    return account, {"inputs": [tail(folder / "pods")], "filters": filters, "outputs": []}


def check_all_agrees(streams: Streams, account: Account) -> None:
    """Count, ids, contents, labels, and what the server makes of namespaces and times."""
    streams.ask("POST", "/_refresh")
    assert streams.count({"match_all": {}}) == account.records
    ids, in_source = set(), Counter[str]()

    def documents() -> Iterator[tuple[bytes | None, bytes]]:
        for identity, document in streams.documents():
            ids.add(identity)
            in_source[orjson.loads(document)["@timestamp"][:16]] += 1
            yield identity, document

    verdict = judge(account, documents(), by_time=True)
    assert verdict.ok, verdict
    assert len(ids) == account.records
    for app in sorted({container.labels["app"] for container in account.containers}):
        expected = account.where(lambda c, app=app: c.labels["app"] == app).records  # type: ignore[misc]
        assert streams.count({"term": {"kubernetes.labels.app.kubernetes.io/name": app}}) == expected
    by_minute = {"date_histogram": {"field": "@timestamp", "fixed_interval": "1m", "min_doc_count": 1}}
    by_namespace = {"terms": {"field": "kubernetes.namespace_name", "size": 100}}
    asked = {"size": 0, "track_total_hits": True, "aggs": {"minutes": by_minute, "namespaces": by_namespace}}
    answer = streams.ask("GET", "/_search", asked)["aggregations"]
    namespaces = sorted({container.namespace for container in account.containers})
    in_namespaces = {b["key"]: b["doc_count"] for b in answer["namespaces"]["buckets"]}
    assert in_namespaces == {n: account.where(lambda c, n=n: c.namespace == n).records for n in namespaces}  # type: ignore[misc]
    assert {b["key_as_string"][:16]: b["doc_count"] for b in answer["minutes"]["buckets"]} == in_source
