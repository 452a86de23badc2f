"""An archive on a real S3 server, replayed into an Elasticsearch that is empty, or in which some of it is missing."""

import asyncio
import random
import uuid
from pathlib import Path

import orjson
import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.generator import write_tree
from benchmarks.world.kubernetes_api import FakeKubernetesApi
from tests.e2e.configs import metadata, tail, to_elasticsearch, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.judge import archived, ids, judge, stored
from tests.e2e.nodes import announce
from tests.e2e.test_search_servers import MIB, Streams, set_up, streams
from tests.fakes.archive import Archive
from tests.servers.seaweedfs import SeaweedServer

__all__ = ["streams"]  # a fixture


@pytest.fixture
def bucket(seaweedfs_server: SeaweedServer) -> Archive:
    """An empty one."""
    name = f"replay-{uuid.uuid4().hex[:12]}"
    bucket = Archive(seaweedfs_server.url, name, seaweedfs_server.user, seaweedfs_server.password)
    bucket.create_bucket()
    return bucket


@pytest.mark.parametrize(
    "packing",
    [
        {"compression": "zstd", "key": "logs/{namespace}/{node}-{id}.ndjson.zst"},
        {"compression": "zstd", "key": "logs/{namespace}/{node}-{id}.parquet", "format": "parquet"},
    ],
    ids=["zstd", "parquet"],
)
async def test_an_archive_in_every_format_holds_each_record_once_and_can_be_replayed(  # noqa: PLR0917  fixtures
    tmp_path: Path,
    make_daemon: MakeDaemon,
    kubernetes: FakeKubernetesApi,
    elasticsearch: FakeElasticsearch,
    bucket: Archive,
    packing: dict[str, str],
) -> None:
    account = write_tree(tmp_path, total_bytes=6 * MIB, pods=6, seed=14)
    announce(kubernetes, account)
    config = {
        "inputs": [tail(tmp_path / "pods")],
        "filters": [metadata(kubernetes.url), {"type": "json"}],
        "outputs": [to_s3(bucket, **packing)],
    }
    daemon = make_daemon(config)
    assert await daemon.once() == 0, daemon.log()
    verdict = judge(account, archived(bucket))
    assert verdict.ok, verdict
    await daemon.settled()
    audited = await daemon.command("audit", "--archive", "CONFIG", "--deep")
    assert audited.code == 0, audited
    daemon.configure({**config, "outputs": [to_elasticsearch(elasticsearch.url), to_s3(bucket)]})
    replay = ("replay", f"s3://{bucket.bucket}/logs/", "--to", "es", "--config", "CONFIG")
    for told in (f"{account.records:,} were sent, 0 were there", f"0 were sent, {account.records:,} were there"):
        replayed = await daemon.command(*replay)
        assert (replayed.code, told in replayed.out) == (0, True), replayed
    verdict = judge(account, stored(elasticsearch), by_time=True)
    assert verdict.ok, verdict
    assert set(elasticsearch.ids.values()) == {1}


async def test_kills_cost_an_archive_of_parquet_no_record_and_repeat_none(
    tmp_path: Path, make_daemon: MakeDaemon, bucket: Archive
) -> None:
    account = write_tree(tmp_path, total_bytes=16 * MIB, pods=8, seed=15)
    packing = {"format": "parquet", "compression": "zstd", "key": "logs/{namespace}/{node}-{id}.parquet"}
    small = {"object": {"max_bytes": "64KiB", "max_age": "5m"}, "batch": {"max_bytes": "64KiB"}}
    daemon = make_daemon({"inputs": [tail(tmp_path / "pods")], "outputs": [to_s3(bucket, **packing, **small)]})
    for _ in range(4):
        before = len(bucket.keys())
        await daemon.start()
        await daemon.until(lambda before=before: len(bucket.keys()) > before + 1)  # type: ignore[misc]
        await daemon.kill()
    assert await daemon.once() == 0, daemon.log()
    verdict = judge(account, archived(bucket), labels=False)
    assert verdict.ok, verdict
    found = ids(archived(bucket))
    assert len(set(found)) == len(found) == account.records
    await daemon.settled()
    audited = await daemon.command("audit", "--archive", "CONFIG", "--deep")
    assert audited.code == 0, audited


def delete_a_third(streams: Streams) -> int:
    """-> how many documents that was, over all indices."""
    hits = streams.ask("GET", "/_search", {"size": 10_000, "_source": False})["hits"]["hits"]
    chosen = random.Random(1).sample(hits, len(hits) // 3)
    actions = [orjson.dumps({"delete": {"_index": hit["_index"], "_id": hit["_id"]}}) + b"\n" for hit in chosen]
    answer = orjson.loads(streams.server.request("POST", "/_bulk?refresh=true", b"".join(actions)))
    assert not answer["errors"]
    return len(chosen)


async def test_after_rollovers_and_deletions_a_replay_brings_back_each_record_once(
    tmp_path: Path,
    make_daemon: MakeDaemon,
    kubernetes: FakeKubernetesApi,
    bucket: Archive,
    streams: Streams,
) -> None:
    account = write_tree(tmp_path, total_bytes=6 * MIB, pods=6, seed=13)
    announce(kubernetes, account)
    config = {
        "inputs": [tail(tmp_path / "pods")],
        "filters": [metadata(kubernetes.url), {"type": "json"}],
        "outputs": [],
    }
    daemon = make_daemon(config)
    await set_up(daemon, config, streams)
    daemon.configure({**config, "outputs": [streams.shipper, to_s3(bucket)]})
    assert await daemon.once() == 0, daemon.log()
    namespaces = sorted({container.namespace for container in account.containers})
    for _ in range(3):
        for namespace in namespaces:
            await asyncio.to_thread(streams.roll_over, namespace)
    streams.ask("POST", "/_refresh")
    deleted = delete_a_third(streams)

    replay = ("replay", f"s3://{bucket.bucket}/logs/", "--to", "es", "--config", "CONFIG")
    rehearsed = await daemon.command(*replay, "--dry-run")
    assert (rehearsed.code, f" {deleted:,} would be sent" in rehearsed.out) == (0, True), rehearsed
    replayed = await daemon.command(*replay)
    there = account.records - deleted
    assert replayed.code == 0, replayed
    assert f"{deleted:,} were sent, {there:,} were there already, 0 were refused" in replayed.out
    streams.ask("POST", "/_refresh")
    found = list(streams.documents())
    assert len({identity for identity, _ in found}) == len(found) == account.records
    verdict = judge(account, found, by_time=True)
    assert verdict.ok, verdict
    again = await daemon.command(*replay)
    assert f"0 were sent, {account.records:,} were there already" in again.out
