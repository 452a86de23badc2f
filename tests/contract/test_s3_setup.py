"""`shipper setup` on a bucket: rules are made once, changed when they differ, and those of others stay."""

from typing import Any

import pytest

from benchmarks.world.ports import free_port
from shipper.errors import ShipperError
from shipper.outputs.s3.config import LifecycleConfig, ManifestConfig, S3AuthConfig, S3Config
from shipper.outputs.s3.setup import setup
from shipper.template import Template
from shipper.values import Secret
from tests.contract.conftest import new_archive
from tests.contract.test_s3 import config_of
from tests.fakes.archive import Archive
from tests.servers.seaweedfs import SeaweedServer

DAY = 86400.0
KEPT = LifecycleConfig(expire=30 * DAY)
COLD = LifecycleConfig(glacier=30 * DAY, deep_archive=120 * DAY, expire=365 * DAY)
THEIRS = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "other/"}, "Expiration": {"Days": 3}}


def rules(archive: Archive) -> dict[str, Any]:
    found = archive.client.get_bucket_lifecycle_configuration(Bucket=archive.bucket)["Rules"]
    return {rule["ID"]: rule for rule in found}


def set_theirs(archive: Archive, *theirs: dict[str, Any]) -> None:
    archive.client.put_bucket_lifecycle_configuration(
        Bucket=archive.bucket, LifecycleConfiguration={"Rules": list(theirs)}
    )


async def run(config: S3Config, *, dry_run: bool = False) -> list[str]:
    return await setup(config, [config], dry_run=dry_run)


async def test_rules_are_shown_then_made_then_as_they_should_be(archive: Archive) -> None:
    set_theirs(archive, THEIRS)
    config = config_of(archive, lifecycle=KEPT)
    shown = await run(config, dry_run=True)
    assert shown[0] == f"lifecycle rules of the bucket {archive.bucket}: would be changed"
    assert "    + expiry: after 30 days" in shown
    assert rules(archive).keys() == {"theirs"}

    made = await run(config)
    assert made[1:] == shown[1:]
    found = rules(archive)
    assert found["theirs"]["Expiration"] == {"Days": 3}
    assert found["shipper-archive-objects"]["Expiration"] == {"Days": 30}
    assert found["shipper-archive-objects"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert found["shipper-archive-manifest"]["Expiration"] == {"Days": 31}
    assert found["shipper-archive-manifest"]["Filter"]["Prefix"] == "manifest/"
    assert await run(config) == [f"lifecycle rules of the bucket {archive.bucket}: as they should be"]


async def test_a_bucket_without_rules_gets_them_and_changes_are_changed(archive: Archive) -> None:
    await run(config_of(archive, lifecycle=KEPT))
    lines = await run(config_of(archive, lifecycle=LifecycleConfig(expire=60 * DAY, abort_uploads=3 * DAY)))
    assert "    ~ expiry: after 30 days -> after 60 days" in lines
    assert rules(archive)["shipper-archive-objects"]["Expiration"] == {"Days": 60}
    assert rules(archive)["shipper-archive-manifest"]["Expiration"] == {"Days": 61}


async def test_what_somebody_else_keeps_longer_is_refused_and_nothing_changes(archive: Archive) -> None:
    theirs = {**THEIRS, "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3650}}
    set_theirs(archive, theirs)
    with pytest.raises(ShipperError, match="keeps logs/ for 3650 days"):
        await run(config_of(archive, lifecycle=KEPT))
    assert rules(archive).keys() == {"theirs"}


async def test_cold_storage_classes_are_set(moto_url: str) -> None:
    archive = new_archive(moto_url)
    config = config_of(archive, lifecycle=COLD)
    await run(config)
    moves = {each["StorageClass"]: each["Days"] for each in rules(archive)["shipper-archive-objects"]["Transitions"]}
    assert moves == {"GLACIER": 30, "DEEP_ARCHIVE": 120}
    assert (await run(config))[0].endswith("as they should be")


async def test_a_server_that_knows_no_such_rules_says_so_and_nothing_changes(seaweedfs_server: SeaweedServer) -> None:
    archive = new_archive(seaweedfs_server.url)
    set_theirs(archive, THEIRS)
    with pytest.raises(ShipperError, match="the server knows no such rules; leave out of `lifecycle`"):
        await run(config_of(archive, lifecycle=COLD))
    assert rules(archive).keys() == {"theirs"}


async def test_a_missing_right_is_named(seaweedfs_server: SeaweedServer) -> None:
    archive = new_archive(seaweedfs_server.url)
    auth = S3AuthConfig(access_key=Secret(SeaweedServer.writer_user), secret_key=Secret(SeaweedServer.writer_password))
    with pytest.raises(ShipperError, match="allow s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"):
        await run(config_of(archive, lifecycle=KEPT, auth=auth))


async def test_outputs_that_share_lists_must_keep_them_as_long(moto_url: str) -> None:
    archive = new_archive(moto_url)
    one = config_of(archive, name="one", lifecycle=KEPT)
    other = config_of(archive, name="other", key=Template.parse("other/{id}.ndjson.gz"))
    with pytest.raises(ShipperError, match=r"outputs one and other have one manifest\.prefix"):
        await setup(one, [one, other], dry_run=True)
    apart = config_of(archive, name="other", manifest=ManifestConfig(prefix="lists/"))
    await setup(one, [one, apart], dry_run=True)


async def test_without_lifecycle_nothing_is_asked(moto_url: str) -> None:
    config = config_of(new_archive(moto_url), endpoint=f"http://127.0.0.1:{free_port()}")
    assert await run(config) == []
