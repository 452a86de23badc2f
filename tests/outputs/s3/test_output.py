"""The whole output on an S3 server in this process."""

import asyncio
import base64
import errno
import gzip
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from isal import isal_zlib

from benchmarks.world import s3_proxy
from benchmarks.world.s3_proxy import S3Proxy
from shipper.errors import Disconnected, StateError
from shipper.outputs.s3 import uploads
from shipper.outputs.s3.closed import ClosedObject, closed_object
from shipper.outputs.s3.config import ObjectConfig, S3Config
from shipper.outputs.s3.output import S3Output
from shipper.outputs.s3.spool import SpooledObject
from shipper.outputs.s3.uploads import Digest
from shipper.template import Template
from tests.fakes.archive import Archive
from tests.fakes.host import FakeHost, batch_of, documents
from tests.outputs.s3.conftest import running

SHOP = "logs/shop/{id}.ndjson.gz"
BANK = "logs/bank/{id}.ndjson.gz"
MakeConfig = Callable[..., S3Config]


async def test_drain_uploads_what_is_open_and_leaves_the_disk_empty(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        delivery = await host.send(batch_of((SHOP, documents(0, 10)), (BANK, documents(10, 5))))
        assert delivery.spooled
        assert archive.keys() == []
        assert output.spool_bytes() > 0
        await output.drain()
        assert archive.documents("logs/shop/") == documents(0, 10)
        assert archive.documents("logs/bank/") == documents(10, 5)
        assert list((tmp_path / "spool/archive").iterdir()) == []
        assert output.spool_bytes() == 0
        host.commit()
        assert host.state.spooled == {}
        assert host.state.uploaded == {1: sum(map(len, documents(0, 15)))}
        assert host.state.uploaded_records == 15


async def test_many_appends_are_one_gzip_member(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        for number in range(20):
            await host.send(batch_of((SHOP, documents(number * 100, 100))))
        await output.drain()
    (key,) = archive.keys()
    content = archive.read(key)
    plain = b"".join(documents(0, 2000))
    assert isal_zlib.decompress(content, wbits=31) == gzip.decompress(content) == plain
    file = tmp_path / "object.gz"
    file.write_bytes(content)
    assert subprocess.run(["gzip", "-t", file], capture_output=True, check=True).stderr == b""
    assert content.count(b"\x1f\x8b\x08\x00") == 1


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"compression": "gzip"}, ".ndjson.gz"),
        ({"compression": "zstd"}, ".ndjson.zst"),
        ({"compression": "none"}, ".ndjson"),
        ({"compression": "gzip", "format": "parquet"}, ".parquet"),
        ({"compression": "zstd", "format": "parquet"}, ".parquet"),
        ({"compression": "none", "format": "parquet"}, ".parquet"),
    ],
    ids=str,
)
async def test_every_way_of_packing_is_read_back_in_order(
    changes: dict[str, str], ending: str, archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    target = "logs/shop/{id}" + ending
    output = S3Output(config_for(**changes, key=Template.parse(target)))
    async with running(output, tmp_path) as host:
        for number in range(3):
            await host.send(batch_of((target, documents(number * 10, 10))))
        await output.drain()
    assert archive.documents() == documents(0, 30)


async def test_what_was_begun_in_another_format_is_uploaded_in_that_one(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 3))))
        host.commit()
    table = "logs/shop/{id}.parquet"
    again = S3Output(config_for(format="parquet", key=Template.parse(table)))
    async with running(again, tmp_path, host.state) as host:
        await host.send(batch_of((table, documents(3, 3))))
        await again.drain()
        host.commit()
    keys = archive.keys()
    assert sorted(key.rpartition(".")[2] for key in keys) == ["gz", "parquet"]
    assert sorted(archive.documents()) == documents(0, 6)
    assert list((tmp_path / "spool/archive").iterdir()) == []


async def test_parquet_that_was_made_before_a_crash_is_made_again(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    table = "logs/shop/{id}.parquet"
    config = config_for(format="parquet", key=Template.parse(table))
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((table, documents(0, 3))))
        host.commit()
    (file,) = (tmp_path / "spool/archive").iterdir()
    for ending in (".parquet", ".parquet.new"):
        file.with_name(file.name + ending).write_bytes(b"half of it")
    again = S3Output(config)
    async with running(again, tmp_path, host.state) as host:
        await again.drain()
    assert archive.documents() == documents(0, 3)
    (key,) = archive.keys()
    assert archive.client.head_object(Bucket=archive.bucket, Key=key)["ContentType"] == "application/vnd.apache.parquet"
    assert list((tmp_path / "spool/archive").iterdir()) == []


async def test_closing_waits_for_parquet_that_is_being_made(
    archive: Archive, config_for: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would write below the next output of that name, which clears away what it finds."""
    began, may_go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def make(path: Path, row: SpooledObject) -> ClosedObject:
        began.set()
        may_go_on.wait(100)
        ended.set()
        return closed_object(path, row)

    monkeypatch.setattr(uploads, "closed_object", make)
    table = "logs/shop/{id}.parquet"
    output = S3Output(config_for(format="parquet", key=Template.parse(table)))
    async with running(output, tmp_path) as host:
        await host.send(batch_of((table, documents(0, 3))))
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(output.drain())
            await asyncio.to_thread(began.wait, 100)
            closing = group.create_task(output.close())
            await asyncio.wait([closing], timeout=0.1)
            assert not closing.done()
            may_go_on.set()
            await closing
            assert ended.is_set()
            draining.cancel()


async def test_parquet_that_somebody_deletes_is_made_again_and_nothing_is_lost(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    table = "logs/shop/{id}.parquet"
    output = S3Output(config_for(format="parquet", key=Template.parse(table)))
    reads: list[Path] = []
    async with running(output, tmp_path) as host:
        plain = output._uploads._read

        async def read(closed: ClosedObject, start: int, size: int, digest: Digest | None) -> bytes:
            if closed.path not in reads:
                closed.path.unlink()
            reads.append(closed.path)
            return await plain(closed, start, size, digest)

        output._uploads._read = read  # type: ignore[method-assign]
        await host.send(batch_of((table, documents(0, 3))))
        await output.drain()
        host.commit()
        assert not host.state.lost
    assert archive.documents() == documents(0, 3)
    assert len(reads) > 1


async def test_a_spool_file_whose_bytes_have_changed_becomes_no_parquet_and_is_counted_as_lost(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    table = "logs/{namespace}/{id}.parquet"
    output = S3Output(config_for(format="parquet", key=Template.parse(table)))
    bank, shop = "logs/bank/{id}.parquet", "logs/shop/{id}.parquet"
    async with running(output, tmp_path) as host:
        await host.send(batch_of((shop, documents(0, 3)), generation=7))
        (file,) = (tmp_path / "spool/archive").iterdir()
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        await host.send(batch_of((bank, documents(3, 3))))
        await output.drain()
        host.commit()
        assert host.state.lost == {7: sum(map(len, documents(0, 3)))}
    assert archive.documents() == documents(3, 3)


async def test_an_object_is_closed_when_it_is_old(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for(object=ObjectConfig(max_bytes=2**20, max_age=0.05)))
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        while output.spool_bytes():
            await asyncio.sleep(0.01)
    assert archive.documents() == documents(0, 1)


async def test_an_object_is_closed_when_it_is_large(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for(object=ObjectConfig(max_bytes=1, max_age=3600)))
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await host.send(batch_of((SHOP, documents(1, 1))))
        while output.spool_bytes():
            await asyncio.sleep(0.01)
    assert len(archive.keys()) == 2
    assert archive.documents() == documents(0, 2)


async def test_nothing_is_uploaded_before_its_row_is_committed(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for(object=ObjectConfig(max_bytes=1, max_age=3600)))
    async with running(output, tmp_path) as host:
        host.holds.clear()
        await host.send(batch_of((SHOP, documents(0, 3))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await output.drain()
        assert archive.keys() == []
        host.holds.set()
        await output.drain()
    assert archive.documents() == documents(0, 3)


async def test_large_objects_go_up_in_parts(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    target = "logs/{id}.ndjson"
    output = S3Output(
        config_for(compression="none", key=Template.parse(target), object=ObjectConfig(max_bytes=2**30, max_age=3600)),
        part_bytes=5 * 2**20,
    )
    written = documents(0, 12, text="x" * 2**20)
    async with running(output, tmp_path) as host:
        for document in written:
            await host.send(batch_of((target, [document])))
        await output.drain()
    (key,) = archive.keys()
    assert archive.client.head_object(Bucket=archive.bucket, Key=key)["ETag"].endswith('-3"')
    assert archive.documents() == written
    assert archive.unfinished_uploads() == []


async def test_objects_carry_what_was_configured(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    tags = {"team": "a b", "x": "1"}
    output = S3Output(
        config_for(storage_class="STANDARD_IA", sse="AES256", checksum="sha256", acl="bucket-owner-read", tags=tags)
    )
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
    (key,) = archive.keys()
    head = archive.client.head_object(Bucket=archive.bucket, Key=key, ChecksumMode="ENABLED")
    assert head["StorageClass"] == "STANDARD_IA"
    assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(archive.read(key)).digest()
    assert head["ServerSideEncryption"] == "AES256"
    assert head["ContentType"] == "application/gzip"
    found = archive.client.get_object_tagging(Bucket=archive.bucket, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in found} == tags


async def test_no_more_than_64_objects_stay_open(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of(*((f"n{number:03d}/{{id}}.gz", documents(number, 1)) for number in range(70))))
        assert output.status()["objects"]["open"] == 64
        while output.status()["objects"]["waiting"]:
            await asyncio.sleep(0.01)
        assert sorted(archive.documents()) == documents(0, 6)  # the least recently used ones
        await output.drain()
    assert sorted(archive.documents()) == documents(0, 70)


async def test_send_waits_while_the_spool_is_full(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    target = "logs/{id}.ndjson"
    output = S3Output(
        config_for(
            compression="none",
            key=Template.parse(target),
            object=ObjectConfig(max_bytes=50_000, max_age=3600),
            spool_limit=100_000,
        )
    )
    async with running(output, tmp_path) as host:
        for number in range(10):
            await host.send(batch_of((target, documents(number, 1, text="x" * 40_000))))
            assert output.spool_bytes() <= 100_000
        await output.drain()
    assert archive.documents() == [d for n in range(10) for d in documents(n, 1, text="x" * 40_000)]


async def test_requests_are_counted(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for(manifest=None))
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        sample = host.metrics.registry.get_sample_value
        assert sample("shipper_output_requests_total", {"name": "archive", "status": "200"}) == 1


async def test_an_output_that_never_started_has_a_status_and_can_be_closed(config_for: MakeConfig) -> None:
    output = S3Output(config_for())
    assert output.status()["is_started"] is False
    assert (output.spool_bytes(), output.spool_seconds()) == (0, 0)
    await output.close()


async def test_a_spool_that_cannot_be_used_stops_the_start_with_a_sentence(
    config_for: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    output = S3Output(config_for())
    with pytest.raises(StateError, match="cannot be used: Not a directory"):
        await output.start(FakeHost(tmp_path, output))
    await output.close()


def test_documents_begin_with_their_id_when_wanted(config_for: MakeConfig) -> None:
    assert S3Output(config_for()).frame(SHOP) == (b'{"_id":"', b'",')
    assert S3Output(config_for(ids=False)).frame(SHOP) == (None, b"{")


async def test_check_says_when_the_probe_cannot_be_deleted(archive: Archive, config_for: MakeConfig) -> None:
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    proxy.faults.extend([s3_proxy.pass_on, s3_proxy.error(403, "AccessDenied")])
    findings = await S3Output(config_for(endpoint=proxy.url, manifest=None)).check()
    await proxy.stop()
    assert all(finding.ok for finding in findings)
    assert "the probe logs/.shipper-check-" in findings[-1].what
    assert "delete it by hand" in findings[-1].mend
    (key,) = archive.keys()
    assert key.startswith("logs/.shipper-check-")


async def test_check_says_when_only_the_manifest_cannot_be_written(archive: Archive, config_for: MakeConfig) -> None:
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    proxy.faults.extend([*[s3_proxy.pass_on] * 2, s3_proxy.error(403, "AccessDenied")])
    *fine, wrong = await S3Output(config_for(endpoint=proxy.url)).check()
    await proxy.stop()
    assert [finding.ok for finding in fine] == [True, True]
    assert not wrong.ok
    assert wrong.what.endswith("(the lists of them, below manifest/)")
    assert "below `manifest.prefix`" in wrong.mend
    assert archive.all_keys() == []


async def test_a_spool_file_that_vanishes_while_it_waits_is_counted_as_lost(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 3)), generation=7))
        (file,) = (tmp_path / "spool/archive").iterdir()
        file.unlink()
        await host.send(batch_of((BANK, documents(3, 3))))
        await output.drain()
        host.commit()
        assert host.state.lost == {7: sum(map(len, documents(0, 3)))}
        assert host.reasons == ["spool_damaged"]
        assert host.state.spooled == {}
    assert archive.documents() == documents(3, 3)


async def test_a_spool_file_that_vanishes_while_it_is_written_costs_only_what_it_held(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 3)), generation=7))
        (file,) = (tmp_path / "spool/archive").iterdir()
        file.write_bytes(b"")
        with pytest.raises(Disconnected, match="shorter"):
            await host.send(batch_of((SHOP, documents(3, 3))))
        await host.send(batch_of((SHOP, documents(3, 3))))
        await output.drain()
        host.commit()
        assert host.state.lost == {7: sum(map(len, documents(0, 3)))}
    assert archive.documents() == documents(3, 3)
    assert len(list((tmp_path / "spool/archive/damaged").iterdir())) == 1


async def test_what_was_lost_while_the_process_was_down_is_counted_at_the_start(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 3)), generation=7))
        host.commit()
    for file in (tmp_path / "spool/archive").iterdir():
        file.unlink()
    again = S3Output(config_for())
    async with running(again, tmp_path, host.state) as host:
        host.commit()
        assert host.state.lost == {7: sum(map(len, documents(0, 3)))}
        assert host.state.spooled == {}


async def test_a_full_disk_confirms_nothing_and_says_why(
    archive: Archive, config_for: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, data: memoryview, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(Disconnected, match="No space left") as raised:
                await host.send(batch_of((SHOP, documents(1, 1)), (BANK, documents(2, 1))))
            assert not raised.value.ambiguous
        await host.send(batch_of((SHOP, documents(1, 1)), (BANK, documents(2, 1))))
        await output.drain()
    assert sorted(archive.documents()) == documents(0, 3)


async def test_a_send_that_was_cancelled_leaves_nothing_behind(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await host.send(batch_of((SHOP, documents(1, 1))))
        await host.send(batch_of((SHOP, documents(1, 2))))
        await output.drain()
    assert archive.documents() == documents(0, 3)


async def test_documents_of_two_keys_that_alternate_keep_their_order(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    batch = batch_of(*((key, documents(i, 1)) for i, key in enumerate((SHOP, BANK, SHOP, SHOP, BANK))))
    async with running(output, tmp_path) as host:
        await host.send(batch)
        await output.drain()
    of = documents(0, 5)
    assert archive.documents("logs/shop/") == [of[0], of[2], of[3]]
    assert archive.documents("logs/bank/") == [of[1], of[4]]


async def test_a_body_is_free_for_other_documents_once_it_was_sent(config_for: MakeConfig, tmp_path: Path) -> None:
    batch = batch_of((SHOP, documents(0, 1)), (BANK, documents(1, 1)))
    async with running(S3Output(config_for()), tmp_path) as host:
        await host.send(batch)
    del batch.body[:]  # which a buffer that is looked at refuses
