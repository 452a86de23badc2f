"""One request, one answer: the Elasticsearch client's own transport, with every retry and every decoding switched off.

Only its transport: the client above it asks for media types that Elasticsearch 8 and OpenSearch refuse, refuses servers
that do not call themselves Elasticsearch, and costs 8 MiB.

Any status is an answer. What is no answer is translated into Disconnected here, once.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from shipper import __version__
from shipper.errors import Disconnected
from shipper.log import fields
from shipper.outputs.elasticsearch.config import AuthConfig, ElasticsearchConfig, TlsConfig
from shipper.outputs.elasticsearch.node import PROXY, RAW_SERIALIZERS, Body, PatientNodePool, PlainNode
from shipper.outputs.elasticsearch.transport import (
    AsyncTransport,
    ConnectionTimeout,
    NodeConfig,
    TlsError,
    TransportError,
    aiohttp,
    basic_auth_to_header,
    url_to_node_config,
)

if TYPE_CHECKING:
    from shipper.outputs.elasticsearch.aws import Signer

log = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes


class ElasticsearchClient:
    """Speaks to the nodes of one cluster over kept connections; a node that fails is set aside for 1 to 30 s."""

    def __init__(self, config: ElasticsearchConfig) -> None:
        """Raises OSError (of which ssl.SSLError is one) when a certificate file cannot be used."""
        logging.getLogger("elastic_transport.transport").setLevel(logging.WARNING)  # it tells of every request
        self._name = config.name
        self._auth = config.auth
        self._credentials = _credentials(config.auth)
        self._transport = AsyncTransport(
            _nodes(config),
            node_class=PlainNode,
            node_pool_class=PatientNodePool,
            serializers=RAW_SERIALIZERS,
            max_retries=0,
            retry_on_status=(),
            meta_header=False,
        )
        self._timeout_s = config.timeout
        self._most_attempts = len(set(config.urls))
        self._signer = _signer(config)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Raises Disconnected, with `reason` one of timeout, tls, dns, refused, proxy, reset, auth.

        Where no connection to a node comes about, the next one is asked at once.
        """
        sent = {
            "accept": "application/json",
            "user-agent": f"shipper/{__version__}",
            **self._credentials,
            **(headers or {}),
        }
        if body is not None:
            sent["content-type"] = content_type
        if self._signer is not None:
            kind = content_type if body is not None else ""
            sent |= await asyncio.to_thread(self._signer.sign, method, path, params or {}, _bytes_of(body), kind)
        target = f"{path}?{_query(tuple(params.items()))}" if params else path
        for attempt in range(1, self._most_attempts + 1):
            try:
                answer = await self._transport.perform_request(
                    method, target, headers=sent, body=body, request_timeout=self._timeout_s
                )
            except TransportError as exc:
                failure = _disconnected(exc)
                if failure.ambiguous or attempt == self._most_attempts:
                    raise failure from exc
            else:
                return Answer(answer.meta.status, answer.meta.headers, answer.body)
        raise AssertionError("the last attempt returns or raises")

    async def reload_credentials(self) -> bool:
        """Reads secrets from their files again, after a 401. True when there is something new to try."""
        secrets = [secret for secret in (self._auth.api_key, self._auth.password, self._auth.bearer) if secret]
        before = self._credentials
        try:
            for secret in secrets:
                await asyncio.to_thread(secret.reload)
        except OSError as exc:
            log.warning("a secret cannot be read from its file", extra=fields(output=self._name, error=str(exc)))
            return False
        self._credentials = _credentials(self._auth)
        return self._credentials != before

    async def close(self) -> None:
        await self._transport.close()


@lru_cache(maxsize=8)  # a bulk request's is the same each time
def _query(params: tuple[tuple[str, str], ...]) -> str:
    return urlencode(params)


def _nodes(config: ElasticsearchConfig) -> list[NodeConfig]:
    """A URL without a port means its scheme's: 443 or 80."""
    nodes = [url_to_node_config(url, use_default_ports_for_scheme=True) for url in dict.fromkeys(config.urls)]
    secure: dict[str, Any] = {}
    if any(node.scheme == "https" for node in nodes):
        secure = {"ssl_context": _tls_context(config.tls), "ssl_assert_fingerprint": config.tls.fingerprint}
    extras = {"_extras": {PROXY: config.proxy}} if config.proxy is not None else {}
    return [
        node.replace(
            connections_per_node=config.concurrency + 1, **extras, **(secure if node.scheme == "https" else {})
        )
        for node in nodes
    ]


def _signer(config: ElasticsearchConfig) -> "Signer | None":
    """Botocore is loaded where requests are signed, and nowhere else."""
    if config.auth.aws is None:
        return None
    from shipper.outputs.elasticsearch.aws import Signer

    return Signer(config.urls[0], region=config.auth.aws.region, service=config.auth.aws.service)


def _bytes_of(body: Body | bytes | None) -> bytes | memoryview:
    return body.view if isinstance(body, Body) else body or b""


def _tls_context(tls: TlsConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _credentials(auth: AuthConfig) -> dict[str, str]:
    """As a header, or none."""
    if auth.api_key is not None:
        return {"authorization": f"ApiKey {auth.api_key.get()}"}
    if auth.bearer is not None:
        return {"authorization": f"Bearer {auth.bearer.get()}"}
    if auth.username is not None and auth.password is not None:
        return {"authorization": basic_auth_to_header((auth.username, auth.password.get()))}
    return {}


def _disconnected(exc: TransportError) -> Disconnected:
    """Nothing was applied where no connection came about; of all else nobody can know."""
    cause = exc.__cause__ or exc  # PlainNode's
    sent = not isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    if isinstance(exc, ConnectionTimeout):
        return Disconnected("the server did not answer in time", reason="timeout", ambiguous=sent)
    if isinstance(cause, aiohttp.ServerFingerprintMismatch):
        got = ":".join(f"{byte:02x}" for byte in cause.got)
        return Disconnected(f"TLS failed: the server's certificate is {got}", reason="tls", ambiguous=False)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return Disconnected(f"the proxy refuses: {cause.status} {cause.message}", reason="proxy", ambiguous=False)
    if isinstance(exc, TlsError):
        return Disconnected(f"TLS failed: {cause}", reason="tls", ambiguous=sent)
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return Disconnected(f"the server's name cannot be resolved: {cause}", reason="dns", ambiguous=False)
    if isinstance(cause, aiohttp.ClientConnectorError):
        return Disconnected(f"no connection to the server: {cause}", reason="refused", ambiguous=False)
    detail = str(cause) or type(cause).__name__
    return Disconnected(f"the connection broke before the answer was complete: {detail}", reason="reset")
