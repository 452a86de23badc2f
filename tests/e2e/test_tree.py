"""A node's whole backlog in one go: every record once, under the right name, in order, with the values it had."""

from pathlib import Path

from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.sink import start_sink
from tests.e2e.configs import metadata, tail, to_elasticsearch, to_files
from tests.e2e.conftest import MakeDaemon
from tests.e2e.judge import filed, ids, judge
from tests.e2e.nodes import announce

MIB = 2**20


async def test_every_record_of_256_mib_and_30_pods_arrives_once(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi
) -> None:
    account = write_tree(tmp_path, total_bytes=256 * MIB, pods=30, seed=1)
    announce(kubernetes, account)
    with start_sink(tmp_path / "spill") as sink:
        daemon = make_daemon(
            {
                "inputs": [tail(tmp_path / "pods")],
                "filters": [metadata(kubernetes.url), {"type": "json"}],
                "outputs": [to_elasticsearch(sink.url)],
            }
        )
        assert await daemon.once() == 0, daemon.log()
        assert sink.counts().newlines == 2 * account.records
        found = ids(sink.documents())
        assert len(set(found)) == len(found) == account.records
        verdict = judge(account, sink.documents(), by_time=True)
    assert verdict.ok, verdict
    accounts = await daemon.settled()
    assert sum(a["delivered"] for a in accounts) == account.bytes


async def test_files_hold_each_container_in_order(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi
) -> None:
    account = write_tree(tmp_path, total_bytes=16 * MIB, pods=12, seed=2)
    announce(kubernetes, account)
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [metadata(kubernetes.url), {"type": "json"}],
            "outputs": [to_files(tmp_path / "out")],
        }
    )
    assert await daemon.once() == 0, daemon.log()
    verdict = judge(account, filed(tmp_path / "out"))
    assert verdict.ok, verdict
    assert len(list((tmp_path / "out").rglob("*.ndjson"))) == len({c.key for c in account.containers})
    await daemon.settled()
