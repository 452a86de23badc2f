"""What the transport (elastic_transport 9) lacks for a shipper: one node class, one node pool, one serializer.

It encodes, decodes and compresses on the event loop, loses an answer whose content type it does not know, and takes 413
and 429 for a dead node.
"""

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

from yarl import URL

from shipper.outputs.elasticsearch.transport import (
    DEFAULT,
    AbstractStreamWriter,
    AiohttpHttpNode,
    BaseNode,
    DefaultType,
    HttpHeaders,
    NodeApiResponse,
    NodeConfig,
    NodePool,
    Payload,
    Serializer,
    TransportError,
    aiohttp,
)
from shipper.sockets import make_impatient_socket

if TYPE_CHECKING:
    from shipper.outputs.elasticsearch.config import ProxyConfig

_WRITE_BYTES = 256 * 1024  # a slice at a time, so that a slow server makes the writer wait instead of filling buffers
_BUSY_NOT_DEAD = frozenset((413, 429))
PROXY = "proxy"  # key of a NodeConfig's extras: a ProxyConfig


class Body(Payload):
    """A finished request body, written in slices of the buffer it is given: no copy, no second compression.

    The buffer is exported while the request runs (and, when it is cut off, until its connection is gone): it must
    not change its length meanwhile.
    """

    _autoclose = True

    def __init__(self, buffer: bytes | bytearray | memoryview) -> None:
        super().__init__(memoryview(buffer), content_type="application/x-ndjson")
        self._size = len(buffer)

    @property
    def view(self) -> memoryview:
        view: memoryview = self._value
        return view

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for start in range(0, len(self._value), _WRITE_BYTES):
            await writer.write(self._value[start : start + _WRITE_BYTES])


class RawSerializer(Serializer):
    """Bytes in, bytes out: what is sent was encoded before, and what came is decoded by whoever knows its shape."""

    mimetype = "application/json"

    def loads(self, data: bytes) -> bytes:
        return data

    def dumps(self, data: Any) -> Any:
        return data


RAW_SERIALIZERS: dict[str, Serializer] = dict.fromkeys(("application/json", "application/x-ndjson"), RawSerializer())


class PlainNode(AiohttpHttpNode):
    """Says what became of a request: its status, or the cause of its failure."""

    last_status: int | None = None

    async def perform_request(  # type: ignore[override]  # the library's own subclasses differ from their base as well
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> NodeApiResponse:
        self.last_status = None
        try:
            answer = await super().perform_request(method, target, body, headers, request_timeout)
        except TransportError as exc:
            # The transport empties `errors` on its way up, and with it what tells a refusal from a reset.
            raise exc from (exc.errors[0] if exc.errors else None)
        self.last_status = answer.meta.status
        received = HttpHeaders(answer.meta.headers)
        received.pop("content-type", None)  # by one that it does not know the transport loses the whole answer
        return NodeApiResponse(dataclasses.replace(answer.meta, headers=received), answer.body)

    def _create_aiohttp_session(self) -> None:
        """The library's, with a proxy, and with little patience for a host that is not there."""
        self._loop = self._loop or asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(
            limit_per_host=self._connections_per_node,
            ssl=self._ssl_context or False,
            socket_factory=make_impatient_socket,
        )
        self.session = aiohttp.ClientSession(
            headers=self.headers,
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=connector,
            proxy=_proxy_url(self.config),
        )

    def _log_request(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the library's would decode megabytes of every request for a debug line, at any log level."""


def _proxy_url(node: NodeConfig) -> URL | None:
    proxy: ProxyConfig | None = node._extras.get(PROXY)  # noqa: SLF001  made for what others add
    if proxy is None:
        return None
    url = URL(proxy.url)
    if proxy.username is None or proxy.password is None:
        return url
    return url.with_user(proxy.username).with_password(proxy.password.get())


class PatientNodePool(NodePool):
    """Sets aside nodes that fail, not those that are busy.

    The transport judges a node in the same step in which its answer arrives, so `last_status` is that answer's.
    """

    def mark_dead(self, node: BaseNode, _now: float | None = None) -> None:
        has_choice = len(self) > 1  # else the library would warn of a pause that it does not make
        is_busy = isinstance(node, PlainNode) and node.last_status in _BUSY_NOT_DEAD
        if has_choice and not is_busy:
            super().mark_dead(node, _now)
