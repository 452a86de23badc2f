"""One suite over the bucket in memory, S3 in this process, and a real S3 server: they must agree."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from botocore.exceptions import ClientError

from benchmarks.world.ports import free_port
from shipper.outputs.base import Finding
from shipper.outputs.config import RetryConfig
from shipper.outputs.s3.api import S3Api
from shipper.outputs.s3.bucket import Bucket
from shipper.outputs.s3.config import ObjectConfig, ObjectLockConfig, S3AuthConfig, S3Config
from shipper.outputs.s3.output import S3Output
from shipper.outputs.s3.trouble import AlreadyThere, NoSuchUpload, S3Error
from shipper.template import Template
from shipper.values import Secret
from tests.contract.conftest import new_archive
from tests.fakes.archive import Archive
from tests.fakes.bucket import MemoryBucket
from tests.fakes.host import FakeHost, batch_of, documents
from tests.servers.seaweedfs import SeaweedServer

TARGET = "logs/{id}.ndjson.gz"
PART = 5 * 2**20
Kind = Literal["memory", "moto", "seaweedfs"]


@dataclass
class Store:
    """Where a test's objects are, and how to look at them without the code under test."""

    bucket: Bucket
    read: Callable[[str], bytes]
    unfinished: Callable[[], int]


def config_of(archive: Archive, **changes: Any) -> S3Config:
    settings: dict[str, Any] = {
        "name": "archive",
        "bucket": archive.bucket,
        "region": "us-east-1",
        "endpoint": archive.endpoint,
        "auth": S3AuthConfig(access_key=Secret(archive.user), secret_key=Secret(archive.password)),
        "key": Template.parse(TARGET),
        "object": ObjectConfig(max_bytes=2**30, max_age=3600),
        "retry": RetryConfig(initial=0.05, max=0.2),
    }
    return S3Config(**(settings | changes))


@pytest.fixture
def real_archive(seaweedfs_server: SeaweedServer) -> Archive:
    """On the server that looks at credentials and rights."""
    return new_archive(seaweedfs_server.url)


@pytest.fixture(params=["memory", "moto", "seaweedfs"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        memory = MemoryBucket()
        yield Store(memory, memory.objects.__getitem__, lambda: len(memory.uploads))
        return
    fixture = {"moto": "moto_url", "seaweedfs": "seaweedfs_server"}[request.param]
    server = request.getfixturevalue(fixture)
    archive = new_archive(server if isinstance(server, str) else server.url)
    api = S3Api(config_of(archive), lambda _status: None)
    yield Store(api, archive.read, lambda: len(archive.unfinished_uploads()))
    await api.close()


async def test_an_object_is_stored_and_never_written_over(store: Store) -> None:
    await store.bucket.put("logs/a", b"first")
    with pytest.raises(AlreadyThere):
        await store.bucket.put("logs/a", b"second")
    assert store.read("logs/a") == b"first"


async def test_parts_become_one_object_in_order(store: Store) -> None:
    upload = await store.bucket.begin_upload("logs/a")
    third = await store.bucket.upload_part("logs/a", upload, 3, b"c")
    first = await store.bucket.upload_part("logs/a", upload, 1, b"a" * PART)
    await store.bucket.upload_part("logs/a", upload, 2, b"x" * PART)
    again = await store.bucket.upload_part("logs/a", upload, 2, b"b" * PART)
    await store.bucket.complete_upload("logs/a", upload, [first, again, third])
    assert store.read("logs/a") == b"a" * PART + b"b" * PART + b"c"
    assert store.unfinished() == 0


async def test_an_upload_in_parts_writes_over_nothing_and_can_be_aborted_then(store: Store) -> None:
    upload = await store.bucket.begin_upload("logs/a")
    part = await store.bucket.upload_part("logs/a", upload, 1, b"parts")
    await store.bucket.put("logs/a", b"whole")
    with pytest.raises(AlreadyThere):
        await store.bucket.complete_upload("logs/a", upload, [part])
    assert store.read("logs/a") == b"whole"
    await store.bucket.abort_upload("logs/a", upload)
    assert store.unfinished() == 0


@pytest.mark.parametrize("store", ["memory", "seaweedfs"], indirect=True)  # moto fails with 500
async def test_an_aborted_upload_is_no_more(store: Store) -> None:
    upload = await store.bucket.begin_upload("logs/a")
    part = await store.bucket.upload_part("logs/a", upload, 1, b"a")
    await store.bucket.abort_upload("logs/a", upload)
    await store.bucket.abort_upload("logs/a", upload)
    with pytest.raises(NoSuchUpload):
        await store.bucket.upload_part("logs/a", upload, 2, b"b")
    with pytest.raises(NoSuchUpload):
        await store.bucket.complete_upload("logs/a", upload, [part])


async def test_deleting_twice_is_no_error(store: Store) -> None:
    await store.bucket.put("logs/a", b"first")
    await store.bucket.delete("logs/a")
    await store.bucket.delete("logs/a")
    await store.bucket.put("logs/a", b"second")
    assert store.read("logs/a") == b"second"


@asynccontextmanager
async def running(output: S3Output, folder: Path) -> AsyncIterator[FakeHost]:
    host = FakeHost(folder, output)
    await output.start(host)
    try:
        yield host
    finally:
        await output.close()


async def test_the_archive_holds_what_was_sent(archive: Archive, tmp_path: Path) -> None:
    output = S3Output(config_of(archive, tags={"team": "shop"}), part_bytes=PART)
    async with running(output, tmp_path) as host:
        for number in range(10):
            await host.send(batch_of((TARGET, documents(number * 100, 100))))
        await output.drain()
    assert archive.documents() == documents(0, 1000)


async def test_large_objects_go_up_in_parts(archive: Archive, tmp_path: Path) -> None:
    target = "logs/{id}.ndjson"
    written = documents(0, 12, text="x" * 2**20)
    output = S3Output(config_of(archive, compression="none", key=Template.parse(target)), part_bytes=PART)
    async with running(output, tmp_path) as host:
        for document in written:
            await host.send(batch_of((target, [document])))
        await output.drain()
    assert archive.documents() == written
    assert archive.unfinished_uploads() == []


async def test_check_finds_a_bucket_that_can_be_written_and_leaves_nothing_there(archive: Archive) -> None:
    findings = await S3Output(config_of(archive)).check()
    assert all(finding.ok for finding in findings)
    assert ["can be written" in finding.what for finding in findings] == [False, True, True]
    assert archive.all_keys() == []


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in parts"])
async def test_a_locked_object_cannot_be_deleted_before_its_time(
    real_archive: Archive, tmp_path: Path, *, whole: bool
) -> None:
    archive = Archive(real_archive.endpoint, f"{real_archive.bucket}-locked", real_archive.user, real_archive.password)
    archive.create_bucket(with_lock=True)
    lock, target = ObjectLockConfig(mode="compliance", keep=86400.0), "logs/{id}.ndjson"
    written = documents(0, 6, text="x" * 2**20)
    config = config_of(
        archive, object_lock=lock, checksum="sha256", acl="private", compression="none", key=Template.parse(target)
    )
    output = S3Output(config, part_bytes=2**30 if whole else PART)
    async with running(output, tmp_path) as host:
        await host.send(batch_of((target, written)))
        await output.drain()
    assert archive.documents() == written
    (key,) = archive.keys()
    head = archive.client.head_object(Bucket=archive.bucket, Key=key)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    left = head["ObjectLockRetainUntilDate"] - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=23) < left <= dt.timedelta(days=1)
    with pytest.raises(ClientError, match="AccessDenied"):
        archive.client.delete_object(Bucket=archive.bucket, Key=key, VersionId=head["VersionId"])


async def test_a_bucket_without_object_lock_is_told_apart(real_archive: Archive) -> None:
    lock = ObjectLockConfig(mode="governance", keep=3600.0)
    finding = await failing_check(config_of(real_archive, object_lock=lock))
    assert f"the bucket {real_archive.bucket} takes no locked objects" in finding.what
    assert "leave `object_lock` out" in finding.mend


async def failing_check(config: S3Config) -> Finding:
    (finding,) = await S3Output(config).check()
    assert not finding.ok
    return finding


async def test_check_tells_what_is_wrong_and_how_to_mend_it(real_archive: Archive) -> None:
    wrong_secret = S3AuthConfig(access_key=Secret(SeaweedServer.user), secret_key=Secret("wrong"))
    unknown = S3AuthConfig(access_key=Secret("unknown"), secret_key=Secret("x"))
    reader = S3AuthConfig(
        access_key=Secret(SeaweedServer.reader_user), secret_key=Secret(SeaweedServer.reader_password)
    )

    finding = await failing_check(config_of(real_archive, auth=wrong_secret))
    assert finding.what == "archive: the secret key does not belong to the access key"
    assert "auth" in finding.mend
    finding = await failing_check(config_of(real_archive, auth=unknown))
    assert finding.what == "archive: the access key is unknown to the server"
    finding = await failing_check(config_of(real_archive, auth=reader))
    assert finding.what.startswith(f"archive: no permission to write to the bucket {real_archive.bucket}")
    assert "s3:PutObject" in finding.mend
    finding = await failing_check(config_of(real_archive, bucket="missing"))
    assert finding.what == "archive: the bucket missing does not exist"
    assert "`bucket`" in finding.mend


async def test_check_says_when_nobody_is_there(real_archive: Archive) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    finding = await failing_check(config_of(real_archive, endpoint=url))
    assert finding.what == f"archive: cannot connect to {url}"


async def test_wrong_credentials_show_in_the_status_and_lose_nothing(real_archive: Archive, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    auth = S3AuthConfig(access_key=Secret(SeaweedServer.user), secret_key=Secret(file=str(secret)))
    output = S3Output(config_of(real_archive, auth=auth, object=ObjectConfig(max_bytes=1, max_age=3600)))
    async with running(output, tmp_path) as host:
        await host.send(batch_of((TARGET, documents(0, 3))))
        while output.status()["last_error"] is None:
            await asyncio.sleep(0.01)
        assert output.status()["last_error"]["error"] == "the secret key does not belong to the access key"
        secret.write_text(SeaweedServer.password)
        await output.drain()
    assert real_archive.documents() == documents(0, 3)


async def test_a_server_that_is_killed_and_started_again_loses_nothing(
    real_archive: Archive, seaweedfs_server: SeaweedServer, tmp_path: Path
) -> None:
    output = S3Output(config_of(real_archive, object=ObjectConfig(max_bytes=1, max_age=3600)))
    async with running(output, tmp_path) as host:
        for number in range(30):
            if number == 10:
                seaweedfs_server.kill()
            await host.send(batch_of((TARGET, documents(number, 1))))
        while output.status()["last_error"] is None:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(seaweedfs_server.start)
        await output.drain()
        host.commit()
        assert host.state.uploaded_records == 30
    assert sorted(real_archive.documents()) == documents(0, 30)


async def test_an_unusable_answer_is_an_error_with_a_sentence(real_archive: Archive, tmp_path: Path) -> None:
    """The server has no key for SSE-S3, and says so in its own way."""
    api = S3Api(config_of(real_archive, sse="AES256"), lambda _status: None)
    with pytest.raises(S3Error, match="the server failed with 500"):
        await api.put("logs/a", b"x")
    await api.close()
