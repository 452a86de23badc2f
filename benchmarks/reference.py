"""Yardstick for CPU figures, since machines differ: a throw-away line-by-line shipper.

    python -m benchmarks.reference PODS_DIR PORT none|gz     ->  one JSON line with cpu_per_gib, lines_s, rss_mb

It reads PODS_DIR/*/*/*.log to the end, parses CRI, joins P and F, checks JSON, splices fixed metadata, and posts 5 MB
bulks to a sink on 127.0.0.1:PORT with four requests in flight. No ids, no checkpoint, no Kubernetes, no metrics, no
faults: a shipper that costs 0.63 of this does all of that and is cheaper. Its work per line must never change: figures
of many machines and months are ratios to it.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import orjson
import uvloop
from isal import isal_zlib

BATCH_BYTES = 5_000_000
READ_BYTES = 1 << 18
IN_FLIGHT = 4


def encode(chunk: bytes, stdout: bytes, stderr: bytes, partial: dict[bytes, list[bytes]]) -> tuple[bytes, int]:
    """Whole CRI lines to bulk items; returns these and how many there are. `partial` carries `P` parts by stream."""
    docs = []
    for line in chunk.split(b"\n"):
        if not line:
            continue
        i = line.find(b" ")
        body, stream = line[i + 10 :], line[i + 1 : i + 7]
        if line[i + 8 : i + 9] != b"F":
            partial.setdefault(stream, []).append(body)
            continue
        if partial and (parts := partial.pop(stream, None)):
            body = b"".join(parts) + body
        prefix = stdout if stream == b"stdout" else stderr
        if body[:1] == b"{" and b'"kubernetes"' not in body and b'"@timestamp"' not in body and b'"stream"' not in body:
            try:
                orjson.loads(body)
                docs.append(b'%b%b",%b\n' % (prefix, line[:i], body[1:]))
                continue
            except ValueError:
                pass
        docs.append(b'%b%b","message":%b}\n' % (prefix, line[:i], orjson.dumps(body.decode("utf-8", "replace"))))
    return b"".join(docs), len(docs)


def _prefix(path: Path) -> bytes:
    """Action line and document up to the time, of a container's records on stdout."""
    namespace, pod, uid = path.parts[-3].split("_")
    container = path.parts[-2]
    metadata = {
        "namespace_name": namespace,
        "pod_name": pod,
        "pod_id": uid,
        "container_name": container,
        "host": "node-1",
        "container_image": "registry/x:1",
        "labels": {"app": container, "app.kubernetes.io/name": container, "pod-template-hash": "7d9f8c6b5"},
    }
    return b'{"create":{}}\n{"kubernetes":' + orjson.dumps(metadata) + b',"stream":"stdout","@timestamp":"'


class Sender:
    """Posts batches, at most IN_FLIGHT at once."""

    def __init__(self, session: aiohttp.ClientSession, port: int, compress: Callable[[bytes], bytes] | None) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/_bulk"
        self._compress = compress
        self._pool = ThreadPoolExecutor(2)
        self.slots = asyncio.Semaphore(IN_FLIGHT)

    async def send(self, parts: list[bytes]) -> None:
        body, headers = b"".join(parts), {"content-type": "application/x-ndjson"}
        try:
            if self._compress is not None:
                body = await asyncio.get_running_loop().run_in_executor(self._pool, self._compress, body)
                headers["content-encoding"] = "gzip"
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 200
        finally:
            self.slots.release()


async def ship(files: list[Path], port: int, compress: Callable[[bytes], bytes] | None) -> int:
    """Returns how many records it has sent."""
    count = size = 0
    batch: list[bytes] = []
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        sender = Sender(session, port, compress)
        for path in files:
            stdout = _prefix(path)
            stderr, rest = stdout.replace(b"stdout", b"stderr"), b""
            partial: dict[bytes, list[bytes]] = {}
            descriptor = os.open(path, os.O_RDONLY)
            while data := os.read(descriptor, READ_BYTES):
                end = data.rfind(b"\n") + 1
                body, records = encode(rest + data[:end], stdout, stderr, partial)
                rest, count, size = data[end:], count + records, size + len(body)
                batch.append(body)
                if size > BATCH_BYTES:
                    await sender.slots.acquire()
                    tasks.create_task(sender.send(batch))
                    batch, size = [], 0
                    await asyncio.sleep(0)
            os.close(descriptor)
        if batch:
            await sender.slots.acquire()
            await sender.send(batch)
    return count


def main() -> None:
    pods, port, compression = sys.argv[1:]
    files = sorted(Path(pods).glob("*/*/*.log"))
    compress = (lambda body: isal_zlib.compress(body, 1, 31)) if compression == "gz" else None
    started = time.time()
    records = uvloop.run(ship(files, int(port), compress))
    wall, usage = time.time() - started, resource.getrusage(resource.RUSAGE_SELF)
    total, cpu = sum(path.stat().st_size for path in files), usage.ru_utime + usage.ru_stime
    figures = {
        "records": records,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "cpu_per_gib": round(cpu / total * 2**30, 2),
        "lines_s": int(records / wall),
        "rss_mb": round(usage.ru_maxrss / 1024, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
