"""What a running daemon says of itself over HTTP."""

import subprocess
from pathlib import Path

import orjson
import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import metadata, tail, to_elasticsearch, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.nodes import announce
from tests.fakes.archive import Archive

PODS = 6
OUTPUTS = ("es", "archive")


async def test_metrics_probes_status_and_audit_tell_what_was_delivered(
    tmp_path: Path,
    make_daemon: MakeDaemon,
    kubernetes: FakeKubernetesApi,
    elasticsearch: FakeElasticsearch,
    archive: Archive,
) -> None:
    account = write_tree(tmp_path, total_bytes=2**20, pods=PODS, seed=6)
    announce(kubernetes, account)
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [metadata(kubernetes.url), {"type": "json"}],
            "outputs": [to_elasticsearch(elasticsearch.url), to_s3(archive)],
        }
    )
    await daemon.start()
    await daemon.ready()
    await daemon.caught_up(*OUTPUTS, seen_bytes=account.bytes)
    assert (await daemon.get("/healthz"))[0] == 200

    metric = daemon.metric
    assert await metric("shipper_input_bytes_total", name="pods") == account.bytes
    assert await metric("shipper_input_records_total", name="pods") == account.records
    assert await metric("shipper_input_files", name="pods") == PODS
    assert await metric("shipper_input_paused", name="pods") == 0
    assert await metric("shipper_kubernetes_pods") == PODS
    assert await metric("shipper_in_flight_bytes") == 0
    assert await metric("shipper_memory_limit_bytes") == 64 * 2**20
    assert await metric("shipper_lost_bytes_total") == await metric("shipper_output_errors_total") == 0
    for name in OUTPUTS:
        assert await metric("shipper_output_records_total", name=name, fate="delivered") == account.records
        assert await metric("shipper_output_records_total", name=name) == account.records
        assert await metric("shipper_backlog_bytes", name=name) == 0
        assert await metric("shipper_backlog_seconds", name=name) == 0
        assert await metric("shipper_output_latency_seconds_count", name=name) > 0
    assert await metric("shipper_output_requests_total", name="es", status="200") == len(elasticsearch.requests)
    sent = sum(len(write.source) + 1 for write in elasticsearch.store.writes)
    assert await metric("shipper_output_bytes_total", name="es") > sent
    assert await metric("shipper_spool_bytes", name="archive") == 0

    status = await daemon.json("/api/v1/status")
    assert {o["name"]: o["state"] for o in status["outputs"]} == dict.fromkeys(OUTPUTS, "idle")
    assert status["files"] == []
    assert [i["files"] for i in status["inputs"]] == [PODS]
    assert status["kubernetes"]["pods"] == PODS
    audit = await daemon.json("/api/v1/audit")
    assert audit["problems"] == []
    assert {(a["pod"], a["output"], a["delivered"]) for a in audit["accounts"]} == {
        (container.pod, output, container.bytes) for container in account.containers for output in OUTPUTS
    }
    page = (await daemon.get("/"))[1]
    assert "All is well." in page
    assert f"{account.records:,}" in page
    live = await daemon.command("audit", "CONFIG", "--json")
    assert (live.code, orjson.loads(live.out)["accounts"]) == (0, audit["accounts"])
    assert "from the running daemon at 127.0.0.1:" in live.err
    assert await daemon.stop() == 0
    await daemon.settled()
    assert "from the state directory" in (await daemon.command("audit", "CONFIG")).err


async def test_readiness_waits_for_an_output_that_was_never_reached(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch
) -> None:
    write_tree(tmp_path, total_bytes=2**16, pods=1, seed=7)
    port = elasticsearch.port
    await elasticsearch.stop()
    daemon = make_daemon({"inputs": [tail(tmp_path / "pods")], "outputs": [to_elasticsearch(elasticsearch.url)]})
    await daemon.start()
    await daemon.until_metric("shipper_output_retries_total", 1, name="es")
    status, body = await daemon.get("/readyz")
    assert (status, "output es has not reached its destination yet" in body) == (503, True)
    assert (await daemon.get("/healthz"))[0] == 200
    await elasticsearch.start(port)
    await daemon.ready()
    assert await daemon.stop() == 0
    await daemon.settled()


@pytest.fixture
def promtool(prometheus_tools: Path) -> Path:
    return prometheus_tools


async def test_promtool_finds_nothing_wrong_with_the_metrics(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, promtool: Path
) -> None:
    account = write_tree(tmp_path, total_bytes=2**16, pods=2, seed=8)
    daemon = make_daemon({"inputs": [tail(tmp_path / "pods")], "outputs": [to_elasticsearch(elasticsearch.url)]})
    await daemon.start()
    await daemon.caught_up("es", seen_bytes=account.bytes)
    _, exposition = await daemon.get("/metrics")
    judged = subprocess.run([promtool, "check", "metrics"], input=exposition, text=True, capture_output=True)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")
    assert await daemon.stop() == 0
    await daemon.settled()
