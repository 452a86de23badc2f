"""Reading an archive: S3 in this process and a real S3 server must agree."""

from collections.abc import AsyncIterator

import pytest

from shipper.outputs.s3.bucket import Head, Listed
from shipper.outputs.s3.checksum import Checksum, checksum_of, checksum_of_parts
from shipper.outputs.s3.config import S3AuthConfig
from shipper.outputs.s3.download import DownloadApi
from shipper.outputs.s3.trouble import S3Error
from shipper.values import Secret
from tests.contract.conftest import new_archive
from tests.contract.test_s3 import config_of
from tests.fakes.archive import Archive
from tests.servers.seaweedfs import SeaweedServer


@pytest.fixture
async def reader(archive: Archive) -> AsyncIterator[DownloadApi]:
    reader = DownloadApi(config_of(archive), lambda _status: None)
    yield reader
    await reader.close()


def put(archive: Archive, key: str, content: bytes) -> None:
    archive.client.put_object(Bucket=archive.bucket, Key=key, Body=content)


async def content_of(reader: DownloadApi, listed: Listed, start: int = 0) -> bytes:
    return b"".join([piece async for piece in reader.read(listed, start)])


async def test_objects_are_listed_by_prefix_in_order_page_by_page(archive: Archive, reader: DownloadApi) -> None:
    for number in (3, 1, 4, 0, 2):
        put(archive, f"logs/{number}", b"x" * (number + 1))
    put(archive, "other", b"x")
    first = await reader.page("logs/", at_most=3)
    assert [(one.key, one.size) for one in first] == [("logs/0", 1), ("logs/1", 2), ("logs/2", 3)]
    rest = await reader.page("logs/", after=first[-1].key)
    assert [one.key for one in rest] == ["logs/3", "logs/4"]
    assert await reader.page("logs/", after=rest[-1].key) == []


async def test_an_object_is_read_from_any_place_on(archive: Archive, reader: DownloadApi) -> None:
    whole = bytes(range(256)) * 4000
    put(archive, "a", whole)
    (listed,) = await reader.page("")
    assert await content_of(reader, listed) == whole
    assert await content_of(reader, listed, 1_000_001) == whole[1_000_001:]


async def test_an_object_that_is_not_the_listed_one_any_more_is_refused(archive: Archive, reader: DownloadApi) -> None:
    put(archive, "a", b"first")
    put(archive, "b", b"first")
    replaced, deleted = await reader.page("")
    put(archive, "a", b"second")
    archive.client.delete_object(Bucket=archive.bucket, Key="b")
    for listed, word in ((replaced, "replaced"), (deleted, "deleted")):
        with pytest.raises(S3Error) as caught:
            await content_of(reader, listed)
        assert caught.value.trouble.reason == "gone"
        assert word in caught.value.trouble.sentence


@pytest.mark.parametrize("kind", ["crc32", "crc32c", "sha256"])
async def test_the_server_tells_the_checksum_that_was_sent(kind: Checksum, archive: Archive) -> None:
    parts = [b"a" * 5 * 2**20, b"b"]
    reader = DownloadApi(config_of(archive, checksum=kind), lambda _status: None)
    await reader.put("whole", b"123456789")
    upload = await reader.begin_upload("parts")
    done = [await reader.upload_part("parts", upload, number, part) for number, part in enumerate(parts, 1)]
    await reader.complete_upload("parts", upload, done)
    whole, joined = await reader.head("whole"), await reader.head("parts")
    assert await reader.head("none") is None
    await reader.close()
    assert whole == Head(9, {kind: checksum_of(kind, b"123456789")}, "STANDARD")
    assert joined is not None
    assert joined.size == len(b"".join(parts))
    if joined.checksums[kind].endswith("-2"):  # moto puts them together in another way, and leaves this out
        assert joined.checksums[kind] == checksum_of_parts(kind, [checksum_of(kind, part) for part in parts])


async def test_a_bucket_that_is_missing_is_told_apart(archive: Archive) -> None:
    archive.client.delete_bucket(Bucket=archive.bucket)
    reader = DownloadApi(config_of(archive), lambda _status: None)
    with pytest.raises(S3Error) as caught:
        await reader.page("")
    await reader.close()
    assert caught.value.trouble.reason == "bucket"


async def test_a_right_to_read_is_enough(seaweedfs_server: SeaweedServer) -> None:
    archive = new_archive(seaweedfs_server.url)
    put(archive, "a", b"x")
    auth = S3AuthConfig(access_key=Secret(SeaweedServer.reader_user), secret_key=Secret(SeaweedServer.reader_password))
    reader = DownloadApi(config_of(archive, auth=auth), lambda _status: None)
    (listed,) = await reader.page("")
    assert await content_of(reader, listed) == b"x"
    await reader.close()


@pytest.mark.parametrize(
    ("user", "secret", "reason", "sentence"),
    [
        (SeaweedServer.reader_user, "wrong", "credentials", "the secret key does not belong"),
        (SeaweedServer.writer_user, SeaweedServer.writer_password, "forbidden", "no permission to read the bucket"),
    ],
)
async def test_who_may_not_read_is_told_why(
    seaweedfs_server: SeaweedServer, user: str, secret: str, reason: str, sentence: str
) -> None:
    archive = new_archive(seaweedfs_server.url)
    auth = S3AuthConfig(access_key=Secret(user), secret_key=Secret(secret))
    reader = DownloadApi(config_of(archive, auth=auth), lambda _status: None)
    with pytest.raises(S3Error) as caught:
        await reader.page("")
    await reader.close()
    assert (caught.value.trouble.reason, sentence in caught.value.trouble.sentence) == (reason, True)


async def test_a_cold_object_says_that_it_must_be_restored(moto_url: str) -> None:
    archive = new_archive(moto_url)
    archive.client.put_object(Bucket=archive.bucket, Key="a", Body=b"x", StorageClass="GLACIER")
    reader = DownloadApi(config_of(archive), lambda _status: None)
    (listed,) = await reader.page("")
    with pytest.raises(S3Error) as caught:
        await content_of(reader, listed)
    await reader.close()
    assert caught.value.trouble.reason == "cold"
    assert "restore it first" in caught.value.trouble.mend
