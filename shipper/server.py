"""The daemon's own HTTP server: metrics, probes, status and audit. Read-only without a token, and of no use to harm.

Whoever reaches the port can only read, and nothing here is a secret; a reload asks for the configured token. Every
connection carries one request and ends within a fixed time, finished or not; of too many, the oldest gives way: slow
clients cannot keep a probe out.
"""

import asyncio
import contextlib
import errno
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import orjson
from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client.exposition import choose_encoder

from shipper import page
from shipper.errors import ShipperError
from shipper.health import Health
from shipper.log import fields
from shipper.metrics import Metrics
from shipper.service import HttpConfig
from shipper.values import Secret

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
LONGEST_CONNECTION_S = 20.0
LONGEST_LINE_BYTES = 4096  # of the request line, and of each header
MOST_HEADERS = 64
COMPRESS_IN_THREAD_BYTES = 64 * 1024
READ_TOKEN_AGAIN_S = 1.0  # at most so often is its file read, however many guess

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Action = Callable[[], Awaitable[tuple[int, Mapping[str, Any]]]]  # -> status, and what is answered as JSON

# aiohttp names itself and Python in every answer, malformed requests' included, which no signal or middleware sees.
web_response.SERVER_SOFTWARE = "shipper"  # type: ignore[attr-defined]


class HttpServer:
    """Serves what its callables return; they run on the event loop, and are quick."""

    def __init__(
        self,
        config: HttpConfig,
        *,
        metrics: Metrics,
        health: Callable[[], Health],
        ready: Callable[[], Health],
        status: Callable[[], Any],
        audit: Callable[[], Any],
        reload: Action,
        longest_connection_s: float = LONGEST_CONNECTION_S,
    ) -> None:
        self._listen = config.listen
        self._metrics = metrics
        self._longest_connection_s = longest_connection_s
        self._connections: dict[_Connection, None] = {}  # the oldest first
        app = web.Application(middlewares=[_finish])
        app.router.add_get("/", _page(status))
        app.router.add_get("/metrics", self._expose)
        app.router.add_get("/healthz", _probe(health))
        app.router.add_get("/readyz", _probe(ready))
        app.router.add_get("/api/v1/status", _json(status))
        app.router.add_get("/api/v1/audit", _json(audit))
        app.router.add_post("/api/v1/reload", _Guarded(config.token, reload, metrics).answer)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            max_line_size=LONGEST_LINE_BYTES,
            max_field_size=LONGEST_LINE_BYTES,
            max_headers=MOST_HEADERS,
            lingering_time=0,  # a body is never read
            logger=_own_logger(metrics),
        )
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<HttpServer {self._listen}, {len(self._connections)} connections>"

    @property
    def port(self) -> int:
        """The one that it listens on, also where the configuration says 0."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises ShipperError when the address cannot be had."""
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connect, host.strip("[]") or None, int(port))
        except OSError as exc:
            await self._runner.cleanup()
            why = "another process listens there" if exc.errno == errno.EADDRINUSE else exc.strerror or str(exc)
            mend = "set service.http.listen to another address, or service.http to off"
            raise ShipperError(f"cannot listen on {self._listen}: {why}; {mend}") from exc

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._runner.cleanup()

    def _connect(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return _Connection(server(), beside=self._connections, longest_s=self._longest_connection_s)

    async def _expose(self, request: web.Request) -> web.Response:
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version that is no number
            raise web.HTTPNotAcceptable from None
        return _compressible(encode(self._metrics.registry), content_type)


def _own_logger(metrics: Metrics) -> logging.Logger:
    """A request that cannot be read is answered with 400, and counted: no line, nor a traceback, for whoever sends one.

    One that fails here is an error, as ever.
    """

    def is_ours(record: logging.LogRecord) -> bool:
        is_malformed = record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)
        if is_malformed:
            metrics.http_refused.labels("malformed").inc()
        return not is_malformed

    logger = logging.Logger("aiohttp.server")  # noqa: LOG001  with a filter of this server's own
    logger.parent = logging.getLogger("aiohttp")
    logger.addFilter(is_ours)
    return logger


class _Guarded:
    """An action for whoever knows the token; without one, for nobody."""

    def __init__(self, token: Secret | None, action: Action, metrics: Metrics) -> None:
        self._token, self._action, self._metrics = token, action, metrics
        self._read_again_at = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        if self._token is None or not self._token.get():
            return self._refuse(request, 403, "no_token", "service.http.token is not set: nothing can be changed here")
        if not await self._is_known(request.headers.get("Authorization", "")):
            return self._refuse(request, 401, "unauthorized", "the token of service.http.token is asked for")
        status, said = await self._action()
        return _say(status, said)

    async def _is_known(self, authorization: str) -> bool:
        return self._fits(authorization) or (await self._is_changed() and self._fits(authorization))

    def _fits(self, authorization: str) -> bool:
        """Takes as long for a token that is nearly right as for one that is all wrong."""
        assert self._token is not None
        kind, _, given = authorization.partition(" ")
        known = self._token.get().encode(errors="surrogateescape")
        is_same = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), known)
        return is_same and kind.lower() == "bearer" and bool(known)

    async def _is_changed(self) -> bool:
        """A token from a file may have been replaced by another."""
        now = time.monotonic()
        if self._token is None or now < self._read_again_at:
            return False
        self._read_again_at = now + READ_TOKEN_AGAIN_S
        with contextlib.suppress(OSError, ValueError):
            return await asyncio.to_thread(self._token.reload)
        return False

    def _refuse(self, request: web.Request, status: int, reason: str, sentence: str) -> web.Response:
        self._metrics.http_refused.labels(reason).inc()
        log.warning(
            "a request was refused that would have changed something",
            extra=fields(reason=reason, path=request.path, remote=request.remote),
        )
        answer = _say(status, {"error": sentence})
        if status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def _say(status: int, said: Mapping[str, Any]) -> web.Response:
    body = orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json")


class _Connection(asyncio.Protocol):
    """What aiohttp does not bound: the number of connections, and the time that each may take."""

    def __init__(self, handler: web.RequestHandler, *, beside: "dict[_Connection, None]", longest_s: float) -> None:
        self._handler = handler
        self._beside = beside
        self._longest_s = longest_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._beside) >= MOST_CONNECTIONS:
            next(iter(self._beside)).abort()
        self._beside[self] = None
        self._deadline = asyncio.get_running_loop().call_later(self._longest_s, self.abort)
        self._handler.connection_made(transport)

    def abort(self) -> None:
        self._beside.pop(self, None)
        self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._beside.pop(self, None)
        self._deadline.cancel()
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        self._handler.eof_received()
        return None

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()


@web.middleware
async def _finish(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as exc:
        _set_common_headers(exc)
        raise
    _set_common_headers(response)
    return response


def _set_common_headers(response: web.StreamResponse) -> None:
    response.force_close()
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"


def _page(status: Callable[[], Any]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        text = page.render(status(), is_still="still" in request.query)
        response = _compressible(text.encode(errors="backslashreplace"), "text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = page.POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return answer


def _probe(ask: Callable[[], Health]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        health = ask()
        body = orjson.dumps({"ok": health.ok, "reasons": list(health.reasons)})
        return web.Response(body=body, status=200 if health.ok else 503, content_type="application/json")

    return answer


def _json(ask: Callable[[], Any]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if "pretty" in request.query else 0)
        return _compressible(_encode(ask(), option | orjson.OPT_APPEND_NEWLINE), "application/json")

    return answer


def _encode(value: Any, option: int) -> bytes:
    try:
        return orjson.dumps(value, option=option)
    except TypeError:
        return orjson.dumps(_escaped(value), option=option)


def _escaped(value: Any) -> Any:
    """Names of files are any bytes: what is no UTF-8 in them, and so a lone surrogate, is shown as an escape."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_escaped(key): _escaped(member) for key, member in value.items()}
        case list() | tuple():
            return [_escaped(item) for item in value]
    return value


def _compressible(body: bytes, content_type: str) -> web.Response:
    headers = {"Content-Type": content_type}
    response = web.Response(body=body, headers=headers, zlib_executor_size=COMPRESS_IN_THREAD_BYTES)
    response.enable_compression()
    return response
