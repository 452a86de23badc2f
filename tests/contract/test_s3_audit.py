"""An audit of an archive finds what somebody did to it, on S3 in this process and on a real server."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.world import s3_proxy
from benchmarks.world.s3_proxy import S3Proxy
from shipper.audit import Account
from shipper.errors import ShipperError
from shipper.outputs.s3.audit import GRACE_S, Ledger, Report, Window, as_json, as_text, audit_archive, problems
from shipper.outputs.s3.config import LifecycleConfig, S3AuthConfig
from shipper.outputs.s3.download import DownloadApi
from shipper.outputs.s3.keys import new_id
from shipper.outputs.s3.output import S3Output
from shipper.outputs.worker import Retry
from shipper.template import Template
from shipper.values import Secret
from tests.contract.conftest import new_archive
from tests.contract.test_s3 import PART, TARGET, config_of, running
from tests.fakes.archive import Archive
from tests.fakes.host import batch_of, documents
from tests.servers.seaweedfs import SeaweedServer

QUICK = Retry(0.01, 0.02)


async def audit(archive: Archive, *, later_s: float = 2 * 3600 + GRACE_S, **options: Any) -> Report:
    """As seen when nothing is recent any more."""
    changes = options.pop("changes", {})
    reader = DownloadApi(config_of(archive, **changes), lambda _status: None)
    try:
        return await audit_archive(
            config_of(archive, **changes), reader, now=lambda: time.time() + later_s, retry=QUICK, **options
        )
    finally:
        await reader.close()


async def fill(archive: Archive, tmp_path: Path, **changes: Any) -> list[str]:
    """Three objects of ten records; their keys."""
    output = S3Output(config_of(archive, **changes), part_bytes=PART)
    async with running(output, tmp_path) as host:
        for number in range(3):
            await host.send(batch_of((TARGET.replace("{id}", f"{number}/{{id}}"), documents(number * 10, 10))))
        await output.drain()
    return archive.keys()


def found(report: Report) -> list[tuple[str, str]]:
    return [(each.kind, each.key) for each in report.differences]


@pytest.mark.parametrize("checksum", ["crc32", "crc32c", "sha256"])
async def test_what_was_archived_is_as_the_manifest_says(archive: Archive, tmp_path: Path, checksum: str) -> None:
    await fill(archive, tmp_path, checksum=checksum)
    for deep in (False, True):
        report = await audit(archive, deep=deep)
        assert (report.objects, report.records, report.manifests) == (3, 30, 1)
        assert found(report) == []
        assert "the bucket is as they say" in as_text([report])


async def test_objects_in_parts_are_as_the_manifest_says(archive: Archive, tmp_path: Path) -> None:
    target = "logs/{id}.ndjson"
    changes = {"compression": "none", "key": Template.parse(target)}
    output = S3Output(config_of(archive, **changes), part_bytes=PART)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((target, documents(0, 12, text="x" * 2**20))))
        await output.drain()
    report = await audit(archive, deep=True, changes=changes)
    assert (report.objects, found(report)) == (1, [])


async def test_parquet_is_as_the_manifest_says(archive: Archive, tmp_path: Path) -> None:
    target = "logs/{id}.parquet"
    changes = {"format": "parquet", "compression": "zstd", "key": Template.parse(target)}
    output = S3Output(config_of(archive, **changes), part_bytes=PART)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((target, documents(0, 1000))))
        await output.drain()
    report = await audit(archive, deep=True, changes=changes)
    assert (report.objects, report.records, found(report)) == (1, 1000, [])


async def test_what_is_missing_is_found(archive: Archive, tmp_path: Path) -> None:
    first, *_ = await fill(archive, tmp_path)
    archive.client.delete_object(Bucket=archive.bucket, Key=first)
    report = await audit(archive, deep=True)
    assert found(report) == [("missing", first)]
    assert "10 records, by manifest/node-1/" in problems([report])[0]
    assert "1 missing" in as_text([report])
    assert as_json([report])["outputs"][0]["missing"][0]["key"] == first


async def test_what_nobody_listed_is_extra_once_it_should_have_been(archive: Archive, tmp_path: Path) -> None:
    await fill(archive, tmp_path)
    key = f"logs/0/{new_id(time.time())}.ndjson.gz"
    archive.client.put_object(Bucket=archive.bucket, Key=key, Body=b"x")
    archive.client.put_object(Bucket=archive.bucket, Key="elsewhere/a", Body=b"x")
    archive.client.put_object(Bucket=archive.bucket, Key="logs/.shipper-check-1", Body=b"x")
    assert found(await audit(archive)) == [("extra", key)]
    report = await audit(archive, later_s=0)
    assert (found(report), report.recent) == ([], 1)
    assert "1 objects came just now" in as_text([report])


async def test_another_size_is_damage(archive: Archive, tmp_path: Path) -> None:
    first, *_ = await fill(archive, tmp_path)
    archive.client.put_object(Bucket=archive.bucket, Key=first, Body=b"short")
    report = await audit(archive)
    assert found(report) == [("damaged", first)]
    assert "has 5 bytes, and not" in report.differences[0].why


async def test_other_bytes_of_the_same_size_are_damage(archive: Archive, tmp_path: Path) -> None:
    first, *_ = await fill(archive, tmp_path, checksum="sha256")
    size = len(archive.read(first))
    archive.client.put_object(Bucket=archive.bucket, Key=first, Body=b"x" * size, ChecksumAlgorithm="SHA256")
    report = await audit(archive)
    assert found(report) == [("damaged", first)]
    assert "its sha256 is" in report.differences[0].why


async def test_only_a_deep_audit_sees_damage_that_the_server_does_not_tell(archive: Archive, tmp_path: Path) -> None:
    first, *_ = await fill(archive, tmp_path)
    size = len(archive.read(first))
    archive.client.put_object(Bucket=archive.bucket, Key=first, Body=b"x" * size, ChecksumAlgorithm="SHA1")
    assert found(await audit(archive)) == []
    report = await audit(archive, deep=True)
    assert found(report) == [("damaged", first)]
    assert "its SHA-256 is" in report.differences[0].why


async def test_a_manifest_that_is_none_is_damage_and_its_objects_are_extra(archive: Archive, tmp_path: Path) -> None:
    keys = await fill(archive, tmp_path)
    (manifest,) = set(archive.all_keys()) - set(keys)
    archive.client.put_object(Bucket=archive.bucket, Key=manifest, Body=b"{}\n")
    report = await audit(archive)
    assert sorted(found(report)) == [("damaged", manifest), *(("extra", key) for key in keys)]


async def test_what_the_nodes_ledger_has_and_no_list_is_found(archive: Archive, tmp_path: Path) -> None:
    await fill(archive, tmp_path)
    size = len(b"".join(documents(0, 30)))
    whole = Account(output="archive", namespace="shop", pod="cart", container="app", delivered=size)
    other = Account(output="es", namespace="shop", pod="cart", container="app", delivered=10 * size)
    report = await audit(archive, ledger=Ledger("node-1", [whole, other], {}))
    assert (found(report), report.containers) == ([], 1)
    assert "1 containers of this node" in as_text([report])

    more = msgspec.structs.replace(whole, delivered=size + 1)
    report = await audit(archive, ledger=Ledger("node-1", [more], {}))
    assert found(report) == [("unlisted", "shop/cart/app")]
    assert found(await audit(archive, ledger=Ledger("node-2", [whole], {}))) == [("unlisted", "shop/cart/app")]


async def test_the_lists_on_the_node_may_be_ahead_of_those_in_the_bucket(archive: Archive, tmp_path: Path) -> None:
    keys = await fill(archive, tmp_path)
    (manifest,) = set(archive.all_keys()) - set(keys)
    content = archive.read(manifest)
    archive.client.delete_object(Bucket=archive.bucket, Key=manifest)
    size = len(b"".join(documents(0, 30)))
    account = Account(output="archive", namespace="shop", pod="cart", container="app", delivered=size)
    report = await audit(archive, ledger=Ledger("node-1", [account], {"its file": content}))
    assert (report.objects, found(report)) == (3, [])


async def test_hours_can_be_chosen(archive: Archive, tmp_path: Path) -> None:
    for key in await fill(archive, tmp_path):
        archive.client.delete_object(Bucket=archive.bucket, Key=key)
    archive.client.put_object(Bucket=archive.bucket, Key=f"logs/{new_id(time.time())}", Body=b"x")
    now = time.time()
    assert len(found(await audit(archive, window=Window(since=now - 3600)))) == 4
    assert found(await audit(archive, window=Window(until=now - 2 * 3600))) == []
    assert found(await audit(archive, window=Window(since=now + 2 * 3600))) == []
    hour = now - now % 3600
    assert found(await audit(archive, window=Window(until=hour - 3600))) == [], "an hour ends where the next begins"


async def test_what_the_buckets_own_rules_may_have_deleted_is_not_missed(archive: Archive, tmp_path: Path) -> None:
    for key in await fill(archive, tmp_path):
        archive.client.delete_object(Bucket=archive.bucket, Key=key)
    expiring = {"lifecycle": LifecycleConfig(expire=86400.0)}
    assert len(found(await audit(archive, changes=expiring))) == 3
    assert found(await audit(archive, changes=expiring, later_s=2 * 86400)) == []


async def test_lists_of_two_nodes_and_of_a_lost_state_are_taken_together(archive: Archive, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await fill(archive, tmp_path / name)
    report = await audit(archive)
    assert (report.objects, report.records, found(report)) == (6, 60, [])
    assert report.manifests >= 2


async def test_requests_are_repeated_while_the_server_asks_for_fewer(archive: Archive, tmp_path: Path) -> None:
    await fill(archive, tmp_path)
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    proxy.faults.extend([s3_proxy.error(503, "SlowDown"), s3_proxy.reset, s3_proxy.pass_on, s3_proxy.error(500, "X")])
    report = await audit(archive, deep=True, changes={"endpoint": proxy.url})
    await proxy.stop()
    assert (report.objects, found(report)) == (3, [])


async def test_what_keeps_from_auditing_is_said(archive: Archive) -> None:
    with pytest.raises(ShipperError, match="keeps no manifest"):
        await audit(archive, changes={"manifest": None})
    with pytest.raises(ShipperError, match="the bucket missing does not exist; create it"):
        await audit(archive, changes={"bucket": "missing"})


async def test_the_right_to_read_is_enough_and_without_it_that_is_said(
    seaweedfs_server: SeaweedServer, tmp_path: Path
) -> None:
    archive = new_archive(seaweedfs_server.url)
    await fill(archive, tmp_path)

    def auth(user: str, password: str) -> dict[str, Any]:
        return {"auth": S3AuthConfig(access_key=Secret(user), secret_key=Secret(password))}

    reading = auth(SeaweedServer.reader_user, SeaweedServer.reader_password)
    assert found(await audit(archive, deep=True, changes=reading)) == []
    writing = auth(SeaweedServer.writer_user, SeaweedServer.writer_password)
    with pytest.raises(ShipperError, match=r"no permission to read the bucket .* allow s3:ListBucket and s3:GetObject"):
        await audit(archive, changes=writing)


async def test_cold_objects_are_not_read_and_that_is_said(moto_url: str, tmp_path: Path) -> None:
    archive = new_archive(moto_url)
    changes: dict[str, Any] = {"storage_class": "GLACIER"}
    await fill(archive, tmp_path, **changes)
    report = await audit(archive, deep=True, changes=changes)
    assert (report.objects, report.unread, found(report)) == (3, 3, [])
    assert "must be restored first" in as_text([report])
