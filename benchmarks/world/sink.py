"""A bulk sink on loopback: answers `_bulk` requests as if every item was created, counts, and keeps bodies if asked to.

It runs as a process of its own, because what is measured must not share a process with it: the C program beside this
file where there is a compiler, else the same thing in Python (`python -m benchmarks.world.sink [SPILL]`), which takes
more of the machine. Only the one in Python takes compressed bodies, since it can unpack them quickly: an answer has an
item for each document, as a real server's has. It also takes the JSON lines that vlagent sends to its own database.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import msgspec
import uvloop
import zstandard
from isal import isal_zlib

from benchmarks.world.check import bulk_documents
from benchmarks.world.sums import Sums

Language = Literal["C", "Python"]

_INFO = json.dumps(
    {
        "name": "sink",
        "cluster_name": "sink",
        "cluster_uuid": "sink",
        "version": {"number": "9.5.3", "build_flavor": "default"},
        "tagline": "You Know, for Search",
    }
).encode()
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # what libcurl waits for before a large body
_UNPACKERS: dict[bytes, Callable[[bytearray], bytes]] = {
    b"": bytes,
    b"gzip": lambda body: isal_zlib.decompress(body, 31),
    b"zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}
_ITEM = b'{"create":{"status":201}},'


class Counts(msgspec.Struct):
    """What a sink has received: bulk requests, bytes of their bodies (unpacked), newlines in them."""

    requests: int
    bytes: int
    newlines: int


class Bulk(NamedTuple):
    """A request that was received: its body, unpacked, and when it was answered, in nanoseconds since 1970."""

    body: bytes
    answered_ns: int


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink."""

    port: int
    language: Language
    spill: Path | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> Counts:
        with urllib.request.urlopen(f"{self.url}/_sink", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=Counts)

    def sums(self) -> Sums:
        """Of a sink that was started with `sums`."""
        with urllib.request.urlopen(f"{self.url}/_sink/sums", timeout=10) as answer:
            rows = [line.split() for line in answer.read().decode().splitlines()]
        return {uid: (int(documents), int(total)) for uid, documents, total in rows}

    def bulks(self) -> Iterator[Bulk]:
        """The bulk requests that were received in full; by connection, in order."""
        assert self.spill is not None, "this sink keeps nothing"
        for path in sorted(self.spill.parent.glob(f"{self.spill.name}.*")):
            with path.open("rb") as file:
                yield from _read_spill(file)

    def bodies(self) -> Iterator[bytes]:
        return (bulk.body for bulk in self.bulks())

    def documents(self) -> Iterator[tuple[bytes | None, bytes]]:
        """Id, where there is one, and document, of every item."""
        for body in self.bodies():
            yield from bulk_documents(body)


def _read_spill(file: BinaryIO) -> Iterator[Bulk]:
    while size := file.readline():
        body = file.read(int(size))
        answered = file.readline()
        if answered.endswith(b"\n"):
            yield Bulk(body, int(answered))


@contextmanager
def start_sink(
    spill: Path | None = None, *, compressed: bool = False, language: Language | None = None, sums: bool = False
) -> Iterator[Sink]:
    """Starts a sink and stops it. `spill`: bodies go to files of that name with a number behind it.

    `language`: by default C where there is a compiler, unless bodies come `compressed`. `sums`: it sums up each pod's
    documents, which only the one in C does.
    """
    with tempfile.TemporaryDirectory(prefix="sink-") as folder:
        compiled = None if language == "Python" or compressed else _compile(Path(folder))
        if (language == "C" or sums) and compiled is None:
            raise RuntimeError("there is no C compiler on PATH")
        command = [str(compiled)] if compiled else [sys.executable, "-m", "benchmarks.world.sink"]
        command += ["--sums"] if sums else []
        with subprocess.Popen(command + ([str(spill)] if spill else []), stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline().split()[1])
                yield Sink(port, "C" if compiled else "Python", spill)
            finally:
                process.kill()


def _compile(folder: Path) -> Path | None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    source, program = Path(__file__).with_suffix(".c"), folder / "sink"
    subprocess.run([compiler, "-O2", "-o", program, source], check=True)
    return program


class _Connection(asyncio.Protocol):
    """One client: a head, then a body of Content-Length bytes, again and again."""

    counts = Counts(0, 0, 0)  # of all connections

    def __init__(self, spill: BinaryIO | None) -> None:
        self._spill = spill
        self._head = bytearray()
        self._body = bytearray()
        self._remaining = -1  # bytes of a body; -1 while the head is being read
        self._path = b""
        self._encoding = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._spill is not None:
            self._spill.close()

    def data_received(self, data: bytes) -> None:
        while data:
            if self._remaining < 0:
                data = self._take_head(data)
            else:
                self._body += data[: self._remaining]
                data, self._remaining = data[self._remaining :], max(0, self._remaining - len(data))
            if self._remaining == 0:
                self._answer()

    def _take_head(self, data: bytes) -> bytes:
        """Returns what is behind the head."""
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not end:
            return b""
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self._path = first.split(b" ")[1].partition(b"?")[0]
        self._encoding = headers.get(b"content-encoding", b"")
        self._remaining = int(headers.get(b"content-length", 0))
        if b"expect" in headers:
            self._transport.write(_CONTINUE)
        self._head.clear()
        return rest

    def _take_bulk(self, body: bytes) -> bytes:
        """Returns the answer: an item for each document."""
        lines = body.count(b"\n")
        self.counts.requests += 1
        self.counts.bytes += len(body)
        self.counts.newlines += lines
        if self._spill is not None:
            self._spill.write(b"%d\n%b%d\n" % (len(body), body, time.time_ns()))
            self._spill.flush()
        return b'{"errors":false,"items":[%b]}' % (_ITEM * (lines // 2)).removesuffix(b",")

    def _answer(self) -> None:
        answer = _INFO
        if self._path.endswith((b"/_bulk", b"/insert/jsonline")):
            answer = self._take_bulk(_UNPACKERS[self._encoding](self._body))
        elif self._path == b"/_sink":
            answer = msgspec.json.encode(self.counts)
        head = b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n"
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(answer), answer))
        self._body.clear()
        self._remaining = -1


async def _serve(spill: str | None) -> None:
    accepted = iter(range(1_000_000))

    def connect() -> _Connection:
        return _Connection(Path(f"{spill}.{next(accepted)}").open("wb") if spill else None)

    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))
