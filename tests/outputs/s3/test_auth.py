"""Who an upload comes from: each way to configure it, seen in the signature."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from benchmarks.world.s3_proxy import S3Proxy
from shipper.outputs.s3.api import S3Api
from shipper.outputs.s3.config import S3AuthConfig, S3Config
from shipper.outputs.s3.trouble import S3Error
from tests.fakes.archive import Archive

MakeConfig = Callable[..., S3Config]


@pytest.fixture
async def proxy(archive: Archive) -> AsyncIterator[S3Proxy]:
    proxy = S3Proxy(archive.endpoint)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the machine's own credentials, and no asking of an instance's metadata."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def access_key_of(config: S3Config, proxy: S3Proxy) -> str:
    """The one that a PUT was signed with."""
    api = S3Api(config, lambda _status: None)
    try:
        await api.put("logs/a", b"x")
    finally:
        await api.close()
    put = next(seen for seen in proxy.seen if seen.method == "PUT")
    return put.headers["Authorization"].partition("Credential=")[2].partition("/")[0]


async def test_auto_finds_what_the_sdk_finds(
    proxy: S3Proxy, config_for: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert await access_key_of(config_for(endpoint=proxy.url, auth="auto"), proxy) == "from-environment"


async def test_a_profile_is_read_from_the_sdks_files(proxy: S3Proxy, config_for: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[archive]\naws_access_key_id=from-profile\naws_secret_access_key=x\n")
    config = config_for(endpoint=proxy.url, auth=S3AuthConfig(profile="archive"))
    assert await access_key_of(config, proxy) == "from-profile"


async def test_a_role_is_assumed_with_what_the_sdk_finds(
    proxy: S3Proxy, archive: Archive, config_for: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", archive.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = config_for(endpoint=proxy.url, auth=S3AuthConfig(role_arn="arn:aws:iam::123456789012:role/archive"))
    used = await access_key_of(config, proxy)
    assert used.startswith("ASIA"), "a temporary key"


@pytest.mark.parametrize(
    "auth", ["auto", S3AuthConfig(profile="missing"), S3AuthConfig(role_arn="arn:aws:iam::1:role/x")]
)
async def test_missing_credentials_are_said_as_that(auth: S3AuthConfig, proxy: S3Proxy, config_for: MakeConfig) -> None:
    with pytest.raises(S3Error, match="no usable credentials") as raised:
        await access_key_of(config_for(endpoint=proxy.url, auth=auth), proxy)
    assert raised.value.trouble.reason == "credentials"
    assert raised.value.trouble.mend
