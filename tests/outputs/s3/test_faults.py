"""What servers and networks do to uploads: each record is in the archive once all the same."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.world import s3_proxy
from benchmarks.world.s3_proxy import S3Proxy
from shipper.outputs.s3.config import ManifestConfig, ObjectConfig, S3AuthConfig, S3Config
from shipper.outputs.s3.output import S3Output
from shipper.outputs.s3.uploads import Digest
from shipper.template import Template
from shipper.values import Secret
from tests.fakes.archive import Archive
from tests.fakes.host import FakeHost, batch_of, documents
from tests.outputs.s3.conftest import running

SHOP = "logs/shop/{id}.ndjson.gz"
PART = 5 * 2**20
MakeConfig = Callable[..., S3Config]


@pytest.fixture
async def proxy(archive: Archive) -> AsyncIterator[S3Proxy]:
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
def config(proxy: S3Proxy, config_for: MakeConfig) -> S3Config:
    """Requests are those of objects alone."""
    return config_for(endpoint=proxy.url, manifest=None)


@pytest.fixture
def parts_config(proxy: S3Proxy, config_for: MakeConfig) -> S3Config:
    """For an object of three parts, with PART."""
    return config_for(
        endpoint=proxy.url,
        manifest=None,
        compression="none",
        key=Template.parse("logs/{id}.ndjson"),
        object=ObjectConfig(max_bytes=2**30, max_age=3600),
    )


async def send_three_parts(host: FakeHost) -> list[bytes]:
    written = documents(0, 3, text="x" * (PART - 2**20))
    for document in written:
        await host.send(batch_of(("logs/{id}.ndjson", [document])))
    return written


@pytest.mark.parametrize(
    "fault",
    [
        s3_proxy.reset,
        s3_proxy.cut_upload,
        s3_proxy.apply_then_reset,
        s3_proxy.error(503, "SlowDown"),
        s3_proxy.error(500, "InternalError"),
        s3_proxy.error(409, "ConditionalRequestConflict"),
        s3_proxy.error(403, "AccessDenied"),
        s3_proxy.error(403, "SignatureDoesNotMatch"),
        s3_proxy.error(404, "NoSuchBucket"),
        s3_proxy.error(501, "NotImplemented"),
        s3_proxy.page(200),
        s3_proxy.page(404),
        s3_proxy.page(502),
    ],
)
async def test_after_any_fault_each_record_is_there_once(
    fault: s3_proxy.Fault, proxy: S3Proxy, config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        proxy.faults.append(fault)
        await host.send(batch_of((SHOP, documents(0, 5))))
        await output.drain()
        host.commit()
        assert host.state.uploaded_records == 5
    assert archive.documents() == documents(0, 5)
    assert output.status()["last_error"] is None


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize(
    "fault",
    [
        s3_proxy.reset,
        s3_proxy.cut_upload,
        s3_proxy.apply_then_reset,
        s3_proxy.error(503, "SlowDown"),
        s3_proxy.error(404, "NoSuchUpload"),
        s3_proxy.page(200),
    ],
)
async def test_an_upload_in_parts_survives_a_fault_at_each_of_its_requests(  # noqa: PLR0917  fixtures
    fault: s3_proxy.Fault, position: int, proxy: S3Proxy, parts_config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    output = S3Output(parts_config, part_bytes=PART)
    async with running(output, tmp_path) as host:
        proxy.faults.extend([*[s3_proxy.pass_on] * position, fault])
        written = await send_three_parts(host)
        await output.drain()
    assert archive.documents() == written


async def test_parts_that_are_there_are_not_sent_again(
    proxy: S3Proxy, parts_config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    output = S3Output(parts_config, part_bytes=PART)
    async with running(output, tmp_path) as host:
        proxy.faults.extend([*[s3_proxy.pass_on] * 2, s3_proxy.reset])
        written = await send_three_parts(host)
        await output.drain()
    assert [s.query.partition("partNumber=")[2] for s in proxy.seen if s.method == "PUT"] == ["1", "2", "2", "3"]
    assert archive.documents() == written


async def test_an_object_whose_parts_went_up_in_two_attempts_is_listed_with_the_hash_of_all_of_it(
    proxy: S3Proxy, parts_config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(parts_config, manifest=ManifestConfig())
    output = S3Output(config, part_bytes=PART)
    async with running(output, tmp_path) as host:
        proxy.faults.extend([*[s3_proxy.pass_on] * 2, s3_proxy.reset])
        written = await send_three_parts(host)
        await output.drain()
    assert [
        s.query.partition("partNumber=")[2] for s in proxy.seen if "uploadId=" in s.query and s.method == "PUT"
    ] == [*("1", "2", "2", "3")]
    (list_key,) = set(archive.all_keys()) - set(archive.keys())
    entry = msgspec.json.decode(archive.read(list_key))
    assert entry["sha256"] == hashlib.sha256(b"".join(written)).hexdigest()


@given(st.data())
def test_a_digest_is_that_of_what_was_taken_in_order(data: st.DataObject) -> None:
    content = data.draw(st.binary(max_size=50))
    digest = Digest()
    for _ in range(data.draw(st.integers(0, 5))):
        start = data.draw(st.sampled_from([digest.length, data.draw(st.integers(0, len(content)))]))
        digest.take(start, content[start : start + data.draw(st.integers(0, 20))])
        assert digest.sha256() == hashlib.sha256(content[: digest.length]).hexdigest()


async def test_an_upload_in_parts_that_a_crash_left_is_aborted(
    proxy: S3Proxy, parts_config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    held = s3_proxy.Held()
    output = S3Output(parts_config, part_bytes=PART)
    async with running(output, tmp_path) as host:
        proxy.faults.extend([*[s3_proxy.pass_on] * 2, held])
        written = await send_three_parts(host)
        draining = asyncio.ensure_future(output.drain())  # noqa: TID251  cancelled below, as a crash would
        await held.arrived.wait()
        draining.cancel()
        left = archive.unfinished_uploads()
        assert len(left) == 1
    held.release.set()

    again = S3Output(parts_config, part_bytes=PART)
    async with running(again, tmp_path, host.state):
        await again.drain()
    assert archive.unfinished_uploads() == []
    assert archive.documents() == written


async def test_if_none_match_is_sent_until_the_server_says_that_it_has_none(
    proxy: S3Proxy, config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        proxy.faults.append(s3_proxy.error(501, "NotImplemented"))
        for number in (1, 2):
            await host.send(batch_of((SHOP, documents(number, 1))))
            await output.drain()
    assert ["If-None-Match" in seen.headers for seen in proxy.seen] == [True, True, False, False]
    assert sorted(archive.documents()) == documents(0, 3)


async def test_what_is_already_there_is_not_sent_again_and_nothing_is_written_over(
    proxy: S3Proxy, config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        proxy.faults.append(s3_proxy.apply_then_reset)
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
        sample = host.metrics.registry.get_sample_value
        assert sample("shipper_output_requests_total", {"name": "archive", "status": "412"}) == 1
        assert sample("shipper_output_requests_total", {"name": "archive", "status": "200"}) is None
    assert archive.documents() == documents(0, 1)


async def test_s3_down_never_blocks_send_and_the_archive_is_complete_after(
    proxy: S3Proxy, config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    await proxy.stop()
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        for number in range(50):
            await host.send(batch_of((f"logs/{number}/{{id}}.gz", documents(number, 1))))
        output._spool.close_all()
        output._uploads.wake()
        while output.status()["last_error"] is None:
            await asyncio.sleep(0.01)
        assert output.status()["last_error"]["error"] == f"cannot connect to {proxy.url}"
        await proxy.start()
        await output.drain()
    assert sorted(archive.documents()) == documents(0, 50)


async def test_one_key_that_is_refused_holds_up_no_other(
    proxy: S3Proxy, config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    refused = s3_proxy.error(403, "AccessDenied")

    async def refuse_shop(request: web.Request, forward: s3_proxy.Forward) -> web.StreamResponse:
        return await (refused(request, forward) if "/shop/" in request.path else forward())

    output = S3Output(config)
    async with running(output, tmp_path) as host:
        proxy.faults.extend([refuse_shop] * 1000)
        for number in range(4):
            await host.send(batch_of((f"logs/shop/{number}-{{id}}.gz", documents(number, 1))))
        await host.send(batch_of(("logs/bank/{id}.gz", documents(4, 1))))
        output._spool.close_all()
        output._uploads.wake()
        while not archive.keys():
            await asyncio.sleep(0.01)
        assert archive.documents() == documents(4, 1)
        proxy.faults.clear()
        await output.drain()
    assert sorted(archive.documents()) == documents(0, 5)


async def test_a_secret_is_read_again_when_the_server_refuses_it(
    proxy: S3Proxy, config_for: MakeConfig, archive: Archive, tmp_path: Path
) -> None:
    secret = tmp_path / "access-key"
    secret.write_text("old-key")
    auth = S3AuthConfig(access_key=Secret(file=str(secret)), secret_key=Secret("secret"))
    output = S3Output(config_for(manifest=None, endpoint=proxy.url, auth=auth))
    async with running(output, tmp_path) as host:
        proxy.faults.append(s3_proxy.error(403, "InvalidAccessKeyId"))
        secret.write_text("new-key")
        await host.send(batch_of((SHOP, documents(0, 1))))
        await output.drain()
    used = [seen.headers["Authorization"].partition("Credential=")[2].partition("/")[0] for seen in proxy.seen]
    assert used == ["old-key", "new-key"]


async def test_while_faults_come_by_chance_each_record_is_archived_once(
    proxy: S3Proxy, config: S3Config, archive: Archive, tmp_path: Path
) -> None:
    proxy.chances = dict.fromkeys(s3_proxy.FAULTS, 0.1)
    output = S3Output(config)
    async with running(output, tmp_path) as host:
        for number in range(40):
            await host.send(batch_of((f"logs/{number}/{{id}}.ndjson.gz", documents(5 * number, 5))))
        await output.drain()
    assert sorted(archive.documents()) == sorted(documents(0, 200))
    assert len(proxy.injected) > len(s3_proxy.FAULTS) // 2
