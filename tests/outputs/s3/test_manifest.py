"""What is archived stands in the manifest of its hour, once, with what an auditor asks for."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.world import s3_proxy
from benchmarks.world.s3_proxy import S3Proxy
from shipper.delivery import Batch
from shipper.outputs.s3.compression import Compression
from shipper.outputs.s3.config import ManifestConfig, ObjectConfig, S3Config
from shipper.outputs.s3.manifest import hour_of, manifest_folder
from shipper.outputs.s3.output import S3Output
from shipper.record import Source
from shipper.template import Template
from tests.fakes.archive import Archive, unpack
from tests.fakes.host import FakeHost, FakeSpan, batch_of, documents
from tests.outputs.s3.conftest import running

SHOP = "logs/shop/{id}.ndjson.gz"
BANK = "logs/bank/{id}.ndjson.gz"
MakeConfig = Callable[..., S3Config]


def timed(*seconds: str) -> list[bytes]:
    return [
        b'{"_id":"%d","@timestamp":"2026-11-21T10:00:%sZ","x":1}\n' % (n, s.encode()) for n, s in enumerate(seconds)
    ]


def manifests(archive: Archive) -> dict[str, list[dict[str, Any]]]:
    found = [key for key in archive.all_keys() if key.startswith("manifest/")]
    return {key: [json.loads(line) for line in archive.read(key).splitlines()] for key in found}


def entries(archive: Archive) -> list[dict[str, Any]]:
    return [entry for listed in manifests(archive).values() for entry in listed]


def from_source(batch: Batch, source: Source, *, extent: tuple[int, int]) -> Batch:
    for piece in batch.pieces:
        piece.source = source
        piece.span = FakeSpan(piece.span.generation, extent)
    return batch


@pytest.mark.parametrize(("compression", "ending"), [("gzip", ".gz"), ("zstd", ".zst"), ("none", "")])
async def test_an_entry_tells_all_of_its_object(
    compression: Compression, ending: str, archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    target = "logs/shop/{id}.ndjson" + ending
    cart = Source("pods", "/var/log/pods/shop_cart_u1/app/3.log", "shop", "cart", "u1", "app", 3)
    file = Source("files", "/srv/app\udcff.log")
    output = S3Output(config_for(compression=compression, key=Template.parse(target)))
    async with running(output, tmp_path) as host:
        first, second, third = timed("01.5", "02"), timed("00.25", "09.123456789"), timed("03")
        await host.send(from_source(batch_of((target, first), generation=7), cart, extent=(0, 100)))
        await host.send(from_source(batch_of((target, second), generation=7), cart, extent=(100, 250)))
        await host.send(from_source(batch_of((target, third), generation=8), file, extent=(40, 60)))
        await output.drain()
    (key,) = archive.keys()
    content = archive.read(key)
    plain = unpack(key, content)
    (entry,) = entries(archive)
    checksum = entry.pop("checksum")
    assert checksum == "crc32:" + archive.head(key)["ChecksumCRC32"]
    assert entry == {
        "key": key,
        "output": "archive",
        "records": 5,
        "bytes": len(plain),
        "object_bytes": len(content),
        "first_time": "2026-11-21T10:00:00.250000000Z",
        "last_time": "2026-11-21T10:00:09.123456789Z",
        "sha256": hashlib.sha256(content).hexdigest(),
        "containers": [
            {
                "namespace": "shop",
                "pod": "cart",
                "uid": "u1",
                "container": "app",
                "restart": 3,
                "file": 7,
                "records": 4,
                "bytes": len(b"".join(first + second)),
                "ranges": [[0, 250]],
            },
            {
                "path": "/srv/app\\udcff.log",
                "file": 8,
                "records": 1,
                "bytes": len(b"".join(third)),
                "ranges": [[40, 60]],
            },
        ],
    }


async def test_objects_of_an_hour_stand_in_the_nodes_file_of_that_hour(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 2)), (BANK, documents(2, 3))))
        (begun,) = {hour_of(row.created) for row in output._spool.open}
        await output.drain()
        await host.send(batch_of((SHOP, documents(5, 1))))
        await output.drain()
    assert list(manifests(archive)) == [f"manifest/node-1/{begun}.jsonl"]
    assert sorted(entry["key"] for entry in entries(archive)) == sorted(archive.keys())
    assert sum(entry["records"] for entry in entries(archive)) == 6


async def test_an_object_in_parts_is_listed_with_the_hash_of_all_of_it(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    target, part = "logs/{id}.ndjson", 5 * 2**20
    config = config_for(compression="none", key=Template.parse(target), checksum="sha256")
    output = S3Output(config, part_bytes=part)
    written = documents(0, 12, text="x" * 2**20)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((target, written)))
        await output.drain()
    (entry,) = entries(archive)
    assert entry["sha256"] == hashlib.sha256(b"".join(written)).hexdigest()
    assert entry["checksum"].startswith("sha256:")
    assert entry["checksum"].endswith("-3")


async def test_without_a_manifest_there_is_none(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for(manifest=None))
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 2))))
        await output.drain()
        host.commit()
        assert host.state.rows == {}
    assert manifests(archive) == {}
    assert archive.documents() == documents(0, 2)


async def test_the_file_is_written_whole_again_as_its_hour_goes_on_also_by_the_next_process(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    state = None
    for number in range(3):
        output = S3Output(config_for(manifest=ManifestConfig(prefix="lists/")))
        async with running(output, tmp_path, state) as host:
            await host.send(batch_of((SHOP, documents(number, 1))))
            await output.drain()
            host.commit()
            state = host.state
    found = [key for key in archive.all_keys() if key.startswith("lists/")]
    assert len(found) <= 2, "an hour may end in between"
    listed = [json.loads(line)["key"] for key in found for line in archive.read(key).splitlines()]
    assert sorted(listed) == sorted(set(archive.all_keys()) - set(found))


async def test_what_a_lost_state_had_listed_stays(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b")):
        output = S3Output(config_for())
        async with running(output, tmp_path / folder) as host:
            await host.send(batch_of((SHOP, documents(number, 1))))
            await output.drain()
            await host.send(batch_of((SHOP, documents(number + 10, 1))))
            await output.drain()
    assert len(manifests(archive)) >= 2
    assert sorted(entry["key"] for entry in entries(archive)) == sorted(archive.keys())


async def test_a_manifest_that_cannot_be_written_holds_up_no_object_and_is_written_later(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    config = config_for(endpoint=proxy.url, object=ObjectConfig(max_bytes=1, max_age=0.05))
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        proxy.faults.extend([s3_proxy.pass_on, *[s3_proxy.error(403, "AccessDenied")] * 2])
        await host.send(batch_of((SHOP, documents(0, 1))))
        while not (said := output.status()["manifest"]["last_error"]):
            await asyncio.sleep(0.01)
        assert "no permission to write to the bucket" in said["error"]
        assert output.status()["last_error"] is None
        assert archive.documents() == documents(0, 1)
        await output.drain()
        assert output.status()["manifest"] == {"hours": 1, "waiting_bytes": 0, "last_error": None}
        sample = host.metrics.registry.get_sample_value
        assert sample("shipper_output_retries_total", {"name": "archive", "reason": "manifest"}) == 2
    await proxy.stop()
    assert [entry["key"] for entry in entries(archive)] == archive.keys()


async def test_an_hour_that_is_over_leaves_nothing_behind(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    output = S3Output(config_for())
    folder = manifest_folder(str(tmp_path), "archive")
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        assert len(list(folder.iterdir())) == 1
        output._manifest._clock = lambda: output._spool.clock() + 3600
        output._manifest._wake.set()
        while list(folder.iterdir()):
            await asyncio.sleep(0.01)
        host.commit()
        assert host.state.rows == {}
    assert len(entries(archive)) == 1


async def test_an_hour_that_comes_again_goes_on_under_another_key(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    """The node's clock was ahead, and was set back."""
    output = S3Output(config_for())
    folder = manifest_folder(str(tmp_path), "archive")
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        ahead, output._manifest._clock = output._manifest._clock, lambda: output._spool.clock() + 3600
        output._manifest._wake.set()
        while list(folder.iterdir()):
            await asyncio.sleep(0.01)
        output._manifest._clock = ahead
        await host.send(batch_of((SHOP, documents(1, 1))))
        await output.drain()
    assert len(manifests(archive)) == 2
    assert sorted(entry["key"] for entry in entries(archive)) == sorted(archive.keys())


async def test_two_outputs_of_a_node_list_in_one_bucket_side_by_side(
    archive: Archive, config_for: MakeConfig, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        output = S3Output(config_for(name=name))
        async with running(output, tmp_path) as host:
            await host.send(batch_of((SHOP, documents(0, 1))))
            await output.drain()
    assert sorted(entry["output"] for entry in entries(archive)) == ["one", "other"]
    assert sorted(entry["key"] for entry in entries(archive)) == sorted(archive.keys())


async def test_a_damaged_file_costs_only_what_was_not_in_the_bucket(
    archive: Archive, config_for: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = S3Output(config_for())
    folder = manifest_folder(str(tmp_path), "archive")
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        (file,) = folder.iterdir()
        file.unlink()
        await host.send(batch_of((SHOP, documents(1, 1))))
        await output.drain()
    assert sorted(entry["key"] for entry in entries(archive)) == sorted(archive.keys())
    assert "a part of the manifest is lost" not in caplog.text


async def test_another_bucket_begins_lists_of_its_own(archive: Archive, config_for: MakeConfig, tmp_path: Path) -> None:
    output = S3Output(config_for())
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        host.commit()
    other = Archive(archive.endpoint, f"{archive.bucket}-other", archive.user, archive.password)
    other.create_bucket()
    again = S3Output(config_for(bucket=other.bucket))
    async with running(again, tmp_path, host.state) as host:
        await host.send(batch_of((SHOP, documents(1, 1))))
        await again.drain()
    assert [entry["key"] for entry in entries(other)] == other.keys()
    assert [entry["key"] for entry in entries(archive)] == archive.keys()


async def test_status_of_a_state_that_a_manifest_cannot_be_read_from_is_an_error(
    config_for: MakeConfig, tmp_path: Path
) -> None:
    from shipper.errors import StateError
    from tests.fakes.host import State

    output = S3Output(config_for())
    with pytest.raises(StateError, match="of the manifest cannot be read"):
        await output.start(FakeHost(tmp_path, output, State(rows={"manifest/x": b"{"})))
    await output.close()
