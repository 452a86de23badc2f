"""An archive on a real S3 server."""

import itertools
from pathlib import Path

import orjson
import pytest

from benchmarks.world import s3_proxy
from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from benchmarks.world.s3_proxy import S3Proxy
from tests.e2e.configs import archive_annotated, metadata, tail, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.judge import archived, ids, judge, manifest_agrees
from tests.e2e.nodes import ARCHIVED, announce
from tests.fakes.archive import Archive
from tests.servers.seaweedfs import SeaweedServer

_numbers = itertools.count()


@pytest.fixture
def bucket(seaweedfs_server: SeaweedServer) -> Archive:
    server = seaweedfs_server
    bucket = Archive(server.url, f"end-to-end-{next(_numbers)}", server.user, server.password)
    bucket.create_bucket()
    return bucket


async def test_annotated_pods_are_archived_whole_and_in_order(
    tmp_path: Path, make_daemon: MakeDaemon, kubernetes: FakeKubernetesApi, bucket: Archive
) -> None:
    account = write_tree(tmp_path, total_bytes=12 * 2**20, pods=8, seed=9)
    for container in account.containers[::2]:
        container.annotations = ARCHIVED
    announce(kubernetes, account)
    kept = account.where(lambda container: container.annotations == ARCHIVED)
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "filters": [metadata(kubernetes.url), {"type": "json"}, archive_annotated()],
            "outputs": [
                to_s3(
                    bucket,
                    match="archive.*",
                    object={"max_bytes": "512KiB", "max_age": "5m"},
                    lifecycle={"expire": "30d"},
                )
            ],
        }
    )
    checked = await daemon.command("check", "CONFIG", "--online")
    assert checked.code == 0, checked
    shown = await daemon.command("setup", "CONFIG", "--dry-run")
    assert (shown.code, "archive:     + expiry: after 30 days" in shown.out) == (0, True), shown
    assert (await daemon.command("setup", "CONFIG")).code == 0
    assert "as they should be" in (await daemon.command("setup", "CONFIG")).out
    assert await daemon.once() == 0, daemon.log()
    assert len(bucket.keys()) > len({c.namespace for c in kept.containers}), "one object a namespace shows no order"
    assert bucket.unfinished_uploads() == []
    verdict = judge(kept, archived(bucket))
    assert verdict.ok, verdict
    found = ids(archived(bucket))
    assert len(set(found)) == len(found) == kept.records
    accounts = await daemon.settled()
    assert sum(a["delivered"] for a in accounts) == kept.bytes
    manifest_agrees(bucket, accounts)
    audited = await daemon.command("audit", "CONFIG", "--archive", "--deep", "--json")
    assert audited.code == 0, audited
    (report,) = orjson.loads(audited.out)["outputs"]
    assert (report["objects"], report["records"]) == (len(bucket.keys()), kept.records)
    bucket.client.delete_object(Bucket=bucket.bucket, Key=bucket.keys()[0])
    audited = await daemon.command("audit", "CONFIG", "--archive")
    assert audited.code == 1
    assert "missing  logs/" in audited.out
    assert sum(a["unmatched"] for a in accounts) == account.bytes - kept.bytes


async def test_parts_that_a_kill_left_are_aborted_and_the_object_is_there_once(
    tmp_path: Path, make_daemon: MakeDaemon, bucket: Archive
) -> None:
    account = write_tree(tmp_path, total_bytes=12 * 2**20, pods=4, seed=10)
    held, proxy = s3_proxy.Held(), S3Proxy(bucket.endpoint)
    await proxy.start()
    proxy.faults.extend([*[s3_proxy.pass_on] * 2, held])  # the upload is begun, one part is there
    output = to_s3(
        bucket,
        endpoint=proxy.url,
        compression="none",
        key="logs/{node}-{id}.ndjson",
        object={"max_bytes": "64MiB", "max_age": "3s"},
    )
    daemon = make_daemon({"inputs": [tail(tmp_path / "pods")], "filters": [{"type": "json"}], "outputs": [output]})
    await daemon.start()
    await daemon.until(held.arrived.is_set)
    await daemon.kill()
    held.release.set()
    assert len(bucket.unfinished_uploads()) == 1
    await daemon.start()
    await daemon.caught_up("archive", seen_bytes=account.bytes)
    assert await daemon.stop() == 0, daemon.log()
    assert bucket.unfinished_uploads() == []
    verdict = judge(account, archived(bucket), labels=False)
    assert verdict.ok, verdict
    manifest_agrees(bucket, await daemon.settled())
    audited = await daemon.command("audit", "CONFIG", "--archive", "--deep")
    assert audited.code == 0, audited
    assert f"{len(account.containers)} containers of this node were held against its ledger" in audited.out
    await proxy.stop()
