"""One destination is down: the other one gets its documents, memory stays flat, and in the end both are complete."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from benchmarks.world.account import Account
from benchmarks.world.clock import Clock
from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.elasticsearch_faults import Fault
from benchmarks.world.generator import write_tree
from benchmarks.world.kubelet import Kubelet, Settings
from benchmarks.world.s3_proxy import S3Proxy
from tests.e2e.configs import tail, to_elasticsearch, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import archived, judge, stored
from tests.fakes.archive import Archive

MIB = 2**20
TREE_BYTES = 32 * MIB
MEMORY_LIMIT = 8 * MIB
FLAT_BYTES = 16 * MIB  # what may come on top of what the process has when a third is delivered
SPOOL_LIMIT = MIB
BATCH_BYTES = MIB // 4
OUTAGE_STEPS = 60
IDLE_LINES = 8
IDLE_SHARE = 0.1  # of a core, with a line every half second that one output takes
FURTHEST_BYTES = 2 * MIB  # four batches in all, each with one chunk too much


@pytest.fixture
async def proxy(archive: Archive) -> AsyncIterator[S3Proxy]:
    """Before the archive: it can be stopped, and started again."""
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return write_tree(tmp_path, total_bytes=TREE_BYTES, pods=10, seed=4)


@pytest.fixture
def daemon(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, archive: Archive, proxy: S3Proxy
) -> Daemon:
    return make_daemon(
        {
            "service": {"memory_limit": f"{MEMORY_LIMIT // MIB}MiB"},
            "inputs": [tail(tmp_path / "pods")],
            "filters": [{"type": "json"}],
            "outputs": [
                to_elasticsearch(elasticsearch.url, batch={"max_bytes": "512KiB"}),
                to_s3(
                    archive,
                    endpoint=proxy.url,
                    batch={"max_bytes": "512KiB", "max_age": "200ms"},
                    spool_limit=f"{SPOOL_LIMIT // 1024}KiB",
                ),
            ],
        }
    )


async def test_documents_flow_and_memory_is_flat_while_s3_is_down(
    daemon: Daemon, account: Account, elasticsearch: FakeElasticsearch, archive: Archive, proxy: S3Proxy
) -> None:
    await proxy.stop()
    await daemon.start()
    delivered = elasticsearch.store.writes
    await daemon.until(lambda: len(delivered) > account.records // 3)
    before = daemon.memory_bytes
    await daemon.caught_up("es", seen_bytes=account.bytes)
    assert daemon.memory_bytes - before < FLAT_BYTES
    assert archive.keys() == []
    assert 0 < await daemon.metric("shipper_spool_bytes", name="archive") <= 2 * SPOOL_LIMIT
    assert await daemon.metric("shipper_backlog_bytes", name="archive") > account.bytes / 2
    assert (await daemon.get("/healthz"))[0] == 200, "a destination that is down is no reason to restart the process"
    await proxy.start()
    await daemon.caught_up("es", "archive", seen_bytes=account.bytes)
    assert daemon.memory_bytes - before < 2 * FLAT_BYTES
    await is_complete(daemon, account, elasticsearch, archive)


async def test_the_archive_fills_and_memory_is_flat_while_elasticsearch_is_down(
    daemon: Daemon, account: Account, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    port = elasticsearch.port
    await elasticsearch.stop()
    await daemon.start()
    third = account.records // 3
    await daemon.until_metric("shipper_output_records_total", third, name="archive", fate="delivered")
    before = daemon.memory_bytes
    await daemon.caught_up("archive", seen_bytes=account.bytes)
    assert daemon.memory_bytes - before < FLAT_BYTES
    assert elasticsearch.store.writes == []
    assert await daemon.metric("shipper_backlog_bytes", name="es") == account.bytes
    (es,) = [o for o in (await daemon.json("/api/v1/status"))["outputs"] if o["name"] == "es"]
    assert es["state"] == "retrying"
    assert es["last_error"]
    await elasticsearch.start(port)
    await daemon.caught_up("es", "archive", seen_bytes=account.bytes)
    await is_complete(daemon, account, elasticsearch, archive)


async def test_a_long_outage_costs_no_cpu_and_its_backlog_goes_out_oldest_first_beside_new_lines(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    """The node writes, rotates and compresses all the while; what comes after the outage does not wait for its end."""
    clock = Clock(time.time_ns() - 600 * 10**9, factor=1)
    settings = Settings(max_size=400_000, max_files=1_000, interval_s=0)
    kubelet = Kubelet(tmp_path / "pods", seed=1, clock=clock, settings=settings)
    logs = [kubelet.create_pod().log for _ in range(4)]
    daemon = make_daemon(
        {
            "service": {"memory_limit": f"{MEMORY_LIMIT // MIB}MiB"},
            "inputs": [tail(tmp_path / "pods", rescan="2s")],
            "outputs": [
                to_elasticsearch(
                    elasticsearch.url,
                    batch={"max_bytes": f"{BATCH_BYTES // 1024}KiB"},
                    retry={"initial": "250ms", "max": "500ms"},
                ),
                to_s3(archive, batch={"max_bytes": "512KiB", "max_age": "200ms"}),
            ],
        }
    )
    start = clock.now_ns() / 1e9
    for log in logs:
        log.write()
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=kubelet.account().bytes)
    port, delivered, since = elasticsearch.port, kubelet.account().bytes, clock.now_ns() / 1e9
    await elasticsearch.stop()
    for _ in range(OUTAGE_STEPS):
        for log in logs:
            log.write(100)
        kubelet.tick()
        await asyncio.sleep(0.02)
    await daemon.caught_up("archive", seen_bytes=kubelet.account().bytes)
    before = daemon.memory_bytes
    cpu, began = daemon.cpu_s, time.monotonic()
    for _ in range(IDLE_LINES):
        logs[0].write()
        await asyncio.sleep(0.5)
    share = (daemon.cpu_s - cpu) / (time.monotonic() - began)
    assert share < IDLE_SHARE, f"{share:.0%} of a core for nothing"
    account = kubelet.account()
    await daemon.caught_up("archive", seen_bytes=account.bytes)
    assert daemon.memory_bytes - before < FLAT_BYTES
    assert await daemon.metric("shipper_backlog_bytes", name="es") == account.bytes - delivered
    asked = time.time()
    age = await daemon.metric("shipper_backlog_seconds", name="es")
    assert asked - since - 2 < age < time.time() - start + 2, "of its oldest record, or of the one before that"

    elasticsearch.faults.chances = {Fault("slow", delay_s=0.3): 1.0}
    known = len(elasticsearch.requests)
    await elasticsearch.start(port)
    await daemon.until(lambda: len(elasticsearch.requests) > known)
    fresh = kubelet.create_pod().log
    while await daemon.metric("shipper_backlog_bytes", name="es") > account.bytes / 10:
        fresh.write()
        mine, wanted = fresh.account.uid.encode(), fresh.account.records
        await daemon.until(lambda: _stored_of(elasticsearch, mine) == wanted)  # noqa: B023  awaited here
    assert fresh.account.records > 1, "a new line has waited for the backlog"
    print(
        f"{fresh.account.records} new lines came before {len(elasticsearch.requests) - known} requests of the backlog"
    )
    elasticsearch.faults.chances = {}
    await daemon.caught_up("es", "archive", seen_bytes=kubelet.account().bytes)
    sizes = [request.unpacked_size for request in elasticsearch.requests[known:]]
    assert statistics.median(sizes) > BATCH_BYTES / 2, "the backlog goes out in small pieces"
    assert _furthest_ahead(elasticsearch) <= FURTHEST_BYTES
    await is_complete(daemon, kubelet.account(), elasticsearch, archive)


def _stored_of(elasticsearch: FakeElasticsearch, uid: bytes) -> int:
    return sum(uid in write.source for write in elasticsearch.store.writes)


def _furthest_ahead(elasticsearch: FakeElasticsearch) -> int:
    """By how many bytes of documents, at most, a record arrived before an older one of its container."""
    worst, before = 0, dict[str, tuple[str, int]]()  # by container: the newest time so far, and when it came
    arrived = 0
    for write in elasticsearch.store.writes:
        arrived += len(write.source)
        document = orjson.loads(write.source)
        container, at = document["kubernetes"]["pod_id"], document["@timestamp"]
        newest, came = before.get(container, ("", 0))
        if at >= newest:
            before[container] = at, arrived
        else:
            worst = max(worst, arrived - came)
    return worst


async def is_complete(daemon: Daemon, account: Account, elasticsearch: FakeElasticsearch, archive: Archive) -> None:
    assert await daemon.stop() == 0
    for documents, by_time in ((stored(elasticsearch), True), (archived(archive), False)):
        verdict = judge(account, documents, by_time=by_time, labels=False)
        assert verdict.ok, verdict
    await daemon.settled()
