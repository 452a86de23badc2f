"""A proxy before a real S3 server, for the faults that a server will not produce on demand."""

import asyncio
import io
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

from benchmarks.world.ports import free_port

NOT_FORWARDED = ("transfer-encoding", "content-length", "connection")


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: str
    headers: dict[str, str]


Forward = Callable[[], Awaitable[web.Response]]
Fault = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]


class S3Proxy:
    """Forwards to `upstream`, but for requests that a fault takes: first those of the queue, each one request; then
    those of `chances`, by name, each with its probability, decided by the seed alone.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self._upstream = URL(upstream)
        self._random = random.Random(seed)
        self.faults: deque[Fault] = deque()
        self.chances: Mapping[str, float] = {}  # keys of FAULTS
        self.injected = Counter[str]()  # of these
        self.seen: list[Seen] = []
        self._port = free_port()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """After `stop`, on the same port."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()

    async def stop(self) -> None:
        if self._runner is not None and self._session is not None:
            await self._runner.cleanup()
            await self._session.close()
            self._runner = self._session = None

    def _next_fault(self) -> Fault | None:
        if self.faults:
            return self.faults.popleft()
        number = self._random.random()
        for name, chance in self.chances.items():
            number -= chance
            if number < 0:
                self.injected[name] += 1
                return FAULTS[name]
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._next_fault()
        body = b"" if fault is cut_upload else await request.read()
        self.seen.append(Seen(request.method, request.path, request.query_string, dict(request.headers)))

        async def forward() -> web.Response:
            assert self._session is not None
            url = self._upstream.with_path(request.rel_url.raw_path, encoded=True).with_query(request.query_string)
            headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
            async with self._session.request(request.method, url, data=io.BytesIO(body), headers=headers) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in NOT_FORWARDED}
                if request.method == "HEAD":  # of what a GET would send
                    kept["Content-Length"] = answer.headers.get("Content-Length", "0")
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        return await forward() if fault is None else await fault(request, forward)


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Fault:
    """Refused with S3's XML."""

    async def answer(_request: web.Request, _forward: Forward) -> web.Response:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said by the proxy</Message></Error>"
        return web.Response(status=status, text=body, content_type="application/xml", headers=headers)

    return answer


def page(status: int) -> Fault:
    """Some proxy's HTML."""

    async def answer(_request: web.Request, _forward: Forward) -> web.Response:
        return web.Response(status=status, text="<html><body>Welcome!<br></body></html>", content_type="text/html")

    return answer


async def reset(request: web.Request, _forward: Forward) -> web.Response:
    """The connection breaks, and nothing was applied."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_upload(request: web.Request, _forward: Forward) -> web.Response:
    """The connection breaks while the body is on its way: not all of it is read, and nothing is applied."""
    with suppress(ConnectionError):
        await request.content.readany()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def apply_then_reset(request: web.Request, forward: Forward) -> web.Response:
    """It was applied, but the client never learns that."""
    await forward()
    return await reset(request, forward)


async def pass_on(_request: web.Request, forward: Forward) -> web.Response:
    return await forward()


class Held:
    """A fault that keeps a request until `release` is set; `arrived` tells that it is there."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, _request: web.Request, forward: Forward) -> web.Response:
        self.arrived.set()
        await self.release.wait()
        return await forward()


FAULTS: Mapping[str, Fault] = {
    "SlowDown": error(503, "SlowDown"),
    "InternalError": error(500, "InternalError"),
    "AccessDenied": error(403, "AccessDenied"),
    "NoSuchBucket": error(404, "NoSuchBucket"),
    "proxy_page": page(502),
    "reset": reset,
    "cut_upload": cut_upload,
    "apply_then_reset": apply_then_reset,  # what is repeated gets 412 then
}
