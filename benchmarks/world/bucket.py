"""An S3 server in miniature, for benchmarks: it takes objects, whole or in parts, and keeps them as files.

    python -m benchmarks.world.bucket DIR     prints "port N", then serves on 127.0.0.1:N until it is killed

It believes everybody, checks nothing, and costs little. Tests of what a real server does have real servers.
"""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from benchmarks.world.check import ndjson_documents

LONGEST_PART_BYTES = 1 << 30


class _Bucket:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[str, dict[int, bytes]] = {}

    async def put(self, request: web.Request) -> web.Response:
        body = await request.read()
        upload = request.query.get("uploadId")
        if upload is not None:
            self._parts[upload][int(request.query["partNumber"])] = body
        else:
            self._keep(request.match_info["key"], body)
        return web.Response(headers={"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'})

    async def post(self, request: web.Request) -> web.Response:
        key, upload = request.match_info["key"], request.query.get("uploadId")
        await request.read()
        if upload is None:
            upload = f"upload-{len(self._parts)}"
            self._parts[upload] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return web.Response(text=answer, content_type="application/xml")
        self._keep(key, b"".join(body for _, body in sorted(self._parts[upload].items())))
        answer = '<CompleteMultipartUploadResult><ETag>"done"</ETag></CompleteMultipartUploadResult>'
        return web.Response(text=answer, content_type="application/xml")

    def _keep(self, key: str, body: bytes) -> None:
        path = self._folder / key.replace("/", "-")
        assert not path.exists(), "an object was written twice"
        path.write_bytes(body)


@dataclass(frozen=True, slots=True)
class BucketServer:
    port: int
    folder: Path

    def documents(self) -> Iterator[tuple[bytes | None, bytes]]:
        """Of all objects but the lists of them."""
        for path in sorted(self.folder.iterdir()):
            if not path.name.startswith("manifest-"):
                yield from ndjson_documents(path)


@contextmanager
def start_bucket(folder: Path) -> Iterator[BucketServer]:
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.world.bucket", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield BucketServer(int(process.stdout.readline().split()[1]), folder)
        finally:
            process.kill()


async def _serve(folder: Path) -> None:
    bucket = _Bucket(folder)
    app = web.Application(client_max_size=LONGEST_PART_BYTES)
    app.router.add_put("/{bucket}/{key:.*}", bucket.put)
    app.router.add_post("/{bucket}/{key:.*}", bucket.post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("port", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
