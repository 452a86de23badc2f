"""A TCP proxy before a real server: what it is told to swallow, the server has answered and nobody hears."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class SilentProxy:
    """Forwards both ways; between `silence` and `speak`, the server's answers are lost and the client waits."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._is_silent = False
        self._links: set[asyncio.StreamWriter] = set()
        self.has_swallowed = asyncio.Event()
        self.url = ""

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"{self._upstream.scheme}://{host}:{port}"
        return server

    def silence(self) -> None:
        self._is_silent = True
        self.has_swallowed.clear()

    def speak(self) -> None:
        """Connections that lost something are cut: their client and server would never agree again."""
        self._is_silent = False
        self.cut()

    def cut(self) -> None:
        for writer in self._links:
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        self._links |= {writer, up_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, up_writer))
                group.create_task(self._answer(up_reader, writer))
        finally:
            self._links -= {writer, up_writer}
            up_writer.transport.abort()
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        """Goes on while the answers are swallowed: the server gets the whole request."""
        try:
            while content := await reader.read(65536):
                up_writer.write(content)
                await up_writer.drain()
        except ConnectionError:
            return

    async def _answer(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while content := await up_reader.read(65536):
                if self._is_silent:
                    self.has_swallowed.set()
                else:
                    writer.write(content)
                    await writer.drain()
        except ConnectionError:
            return


@asynccontextmanager
async def silent_proxy(upstream: str) -> AsyncIterator[SilentProxy]:
    proxy = SilentProxy(upstream)
    server = await proxy.serve()
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
