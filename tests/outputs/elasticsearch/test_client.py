"""Ways to a server: proxies, certificates, Elastic Cloud, AWS."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from shipper.delivery import Delivery
from shipper.errors import Disconnected
from shipper.outputs.elasticsearch.client import ElasticsearchClient
from shipper.outputs.elasticsearch.config import (
    AuthConfig,
    AwsConfig,
    ElasticsearchConfig,
    ProxyConfig,
    TlsConfig,
    cloud_host,
)
from shipper.outputs.elasticsearch.output import ElasticsearchOutput
from shipper.template import Template
from shipper.values import Secret
from tests.outputs.elasticsearch.batches import FakeHost, batch_of, config, documents


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as server:
        yield server


async def status_of(wanted: ElasticsearchConfig) -> int:
    """Of `GET /`. Raises Disconnected."""
    client = ElasticsearchClient(wanted)
    try:
        return (await client.request("GET", "/")).status
    finally:
        await client.close()


# -- hosts ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent_host() -> Iterator[str]:
    """As one that is switched off: it neither answers nor refuses. Its queue of connections is full."""
    with socket.socket() as listening, contextlib.ExitStack() as queue:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield "http://{}:{}".format(*listening.getsockname())


async def test_one_of_three_hosts_that_is_switched_off_stalls_nothing(
    fake: FakeElasticsearch, silent_host: str
) -> None:
    """A request may take ten minutes, and the test has one: the host is given up long before."""
    async with FakeElasticsearch() as other:
        output = ElasticsearchOutput(config(silent_host, fake.url, other.url, timeout=600.0))
        await output.start(FakeHost())
        async with asyncio.TaskGroup() as senders:
            sent = [senders.create_task(output.send(batch_of(output, documents(3)))) for _ in range(12)]
        assert all(task.result() == Delivery() for task in sent)
        assert len(fake.ids | other.ids) == 36
        assert min(len(fake.requests), len(other.requests)) > 2
        await output.close()


async def test_a_host_that_is_switched_off_is_told_of_and_nothing_is_in_doubt(silent_host: str) -> None:
    with pytest.raises(Disconnected, match="no connection to the server") as raised:
        await status_of(config(silent_host, timeout=600.0))
    assert not raised.value.ambiguous


# -- a proxy ----------------------------------------------------------------------------------------------------------


class Proxy:
    """Tunnels (CONNECT) and forwards (a full URL), for one user."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.credentials = base64.b64encode(b"me:secret").decode()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.asked.append(f"{method} {target}")
        if f"basic {self.credentials}".lower() not in head.lower():
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        elif method == "CONNECT":
            await self._tunnel(target, reader, writer)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while content := await source.read(65536):
                sink.write(content)
            sink.close()

        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    yield proxy
    server.close()


async def test_requests_go_through_the_proxy(proxy: Proxy) -> None:
    through = ProxyConfig(url=proxy.url, username="me", password=Secret("secret"))
    assert await status_of(config("http://elasticsearch.invalid:9200", proxy=through)) == 200
    assert proxy.asked == ["GET http://elasticsearch.invalid:9200/"]


async def test_tls_goes_through_a_tunnel(proxy: Proxy, secure: tuple[str, Path]) -> None:
    url, certificate = secure
    through = ProxyConfig(url=proxy.url, username="me", password=Secret("secret"))
    assert await status_of(config(url, proxy=through, tls=TlsConfig(ca_file=str(certificate)))) == 200
    assert proxy.asked == [f"CONNECT {urlsplit(url).netloc}"]
    with pytest.raises(Disconnected, match="the proxy refuses: 407") as caught:
        await status_of(config(url, proxy=ProxyConfig(url=proxy.url), tls=TlsConfig(ca_file=str(certificate))))
    assert (caught.value.reason, caught.value.ambiguous) == ("proxy", False)


async def test_a_proxy_that_is_down_is_told() -> None:
    through = ProxyConfig(url="http://127.0.0.1:9")
    with pytest.raises(Disconnected, match="no connection") as caught:
        await status_of(config("http://elasticsearch.invalid:9200", proxy=through))
    assert (caught.value.reason, caught.value.ambiguous) == ("refused", False)


# -- certificates -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A server that asks for no certificate, and its own: one that signs itself."""
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"]
    await asyncio.to_thread(subprocess.run, [*request, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield "https://{}:{}".format(*server.sockets[0].getsockname()), certificate
    server.close()


def fingerprint(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


async def test_a_certificate_is_taken_by_its_fingerprint_alone(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    known = fingerprint(certificate)
    assert await status_of(config(url, tls=TlsConfig(fingerprint=known))) == 200
    with_colons = ":".join(known[i : i + 2].upper() for i in range(0, 64, 2))
    assert await status_of(config(url, tls=TlsConfig(fingerprint=with_colons))) == 200


async def test_another_certificate_is_refused_and_its_fingerprint_told(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    with pytest.raises(Disconnected, match="the server's certificate is ") as caught:
        await status_of(config(url, tls=TlsConfig(fingerprint="0" * 64)))
    assert (caught.value.reason, caught.value.ambiguous) == ("tls", False)
    assert fingerprint(certificate) in str(caught.value).replace(":", "")


# -- Elastic Cloud ----------------------------------------------------------------------------------------------------


def cloud_id(text: str) -> str:
    return "production:" + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("encoded", "url"),
    [
        ("eu-central-1.aws.cloud.es.io$abc123$def456", "https://abc123.eu-central-1.aws.cloud.es.io:443"),
        ("example.com:9243$abc$def", "https://abc.example.com:9243"),
        ("example.com$abc", "https://abc.example.com:443"),
        ("example.com", None),
        ("$abc", None),
    ],
)
def test_a_cloud_id_is_a_host(encoded: str, url: str | None) -> None:
    assert cloud_host(cloud_id(encoded)) == url


def test_what_is_no_cloud_id_is_no_host() -> None:
    assert cloud_host("production:***") is None
    wanted = ElasticsearchConfig(cloud_id=cloud_id("a.io$b"), index=Template.parse("logs"))
    assert wanted.urls == ("https://b.a.io:443",)
    assert list(wanted.flaws()) == []


# -- AWS --------------------------------------------------------------------------------------------------------------


def expected_signature(method: str, path: str, headers: dict[str, str], body: bytes, secret: str) -> str:
    """By AWS's own description of the algorithm, from what arrived; independent of the SDK.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    authorization = dict(part.strip().split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(","))
    scope = authorization["Credential"].split("/", 1)[1]
    date, region, service, _ = scope.split("/")
    signed = authorization["SignedHeaders"].split(";")
    parts = urlsplit(path)
    query = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(parts.query))
    canonical = "\n".join(
        [
            method,
            quote(parts.path, safe="/-_.~"),
            "&".join(f"{k}={v}" for k, v in query),
            *(f"{name}:{headers[name].strip()}" for name in signed),
            "",
            authorization["SignedHeaders"],
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
    key = b"AWS4" + secret.encode()
    for step in (date, region, service, "aws4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("service", ["es", "aoss"])
async def test_requests_are_signed_as_aws_describes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    received: list[tuple[str, str, dict[str, str], bytes]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        received.append((*first.split(" ")[:2], headers, body))  # type: ignore[arg-type]
        item = b'{"errors":false,"items":[{"create":{"status":201}}]}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(item), item))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    auth = AuthConfig(aws=AwsConfig(region="eu-central-1", service=service))  # type: ignore[arg-type]
    output = ElasticsearchOutput(config(url, auth=auth, pipeline="a b+c"))
    await output.start(FakeHost())
    try:
        assert not (await output.send(batch_of(output, documents(1)))).retry
    finally:
        await output.close()
        server.close()
    ((method, path, headers, body),) = received
    assert (method, path.startswith("/logs-app-default/_bulk?")) == ("POST", True)
    assert f"/eu-central-1/{service}/aws4_request" in headers["authorization"]
    assert headers["x-amz-security-token"] == "a-token"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    assert headers["authorization"].endswith("Signature=" + expected_signature(method, path, headers, body, secret))


async def test_without_aws_credentials_that_is_said_and_nothing_is_sent(
    tmp_path: Path, fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Disconnected, match="there are no AWS credentials") as caught:
        await status_of(config(fake.url, auth=AuthConfig(aws=AwsConfig(region="eu-central-1"))))
    assert (caught.value.reason, caught.value.ambiguous) == ("auth", False)


def test_the_sdk_is_loaded_only_where_requests_are_signed() -> None:
    code = "import sys, shipper.outputs.elasticsearch.output; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_certificates_of_the_system_are_read_for_contexts_of_ours_alone() -> None:
    code = (
        "import os, ssl\n"
        "before = dict(os.environ)\n"
        "from shipper.outputs.elasticsearch import client\n"
        "from aiohttp import connector\n"
        "assert dict(os.environ) == before\n"
        "loaded = lambda context: context.cert_store_stats()['x509']\n"
        "assert loaded(connector._SSL_CONTEXT_VERIFIED) == 0\n"
        "assert loaded(client._tls_context(client.TlsConfig())) == loaded(ssl.create_default_context())\n"
    )
    for names in ({}, {"SSL_CERT_FILE": ssl.get_default_verify_paths().openssl_cafile}):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
        done = subprocess.run([sys.executable, "-c", code], env=environment | names, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
