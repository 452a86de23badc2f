"""An object store in memory, that fails when it is told to."""

import asyncio
import itertools
from collections import deque
from typing import Any, Literal

from shipper.outputs.s3.checksum import checksum_of
from shipper.outputs.s3.trouble import AlreadyThere, NoSuchUpload, S3Error, Trouble

Fate = Literal["works", "refused", "answer lost", "hangs"]

_BROKEN = S3Error(Trouble("connection", "the connection broke"))


class MemoryBucket:
    """Implements `outputs.s3.bucket.Bucket`. `fates` are used up one a request; then everything works."""

    def __init__(self, *, tells_of_taken_keys: bool = True) -> None:
        self.objects: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.fates: deque[Fate] = deque()
        self.requests: list[str] = []
        self._tells = tells_of_taken_keys
        self._ids = itertools.count(1)

    async def put(self, key: str, body: bytes) -> str:
        async with _Fate(self, f"put {key}"):
            self._store(key, body)
        return f"crc32:{checksum_of('crc32', body)}"

    async def put_manifest(self, key: str, body: bytes, *, replace: bool) -> None:
        async with _Fate(self, f"put {key}"):
            if self._tells and key in self.manifests and not replace:
                raise AlreadyThere(Trouble("refused", "the key is taken"))
            self.manifests[key] = body

    async def begin_upload(self, key: str) -> str:
        upload_id = f"{key}#{next(self._ids)}"
        async with _Fate(self, f"begin {key}"):
            self.uploads[upload_id] = {}
        return upload_id

    async def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> dict[str, Any]:
        async with _Fate(self, f"part {number} of {key}"):
            if upload_id not in self.uploads:
                raise NoSuchUpload(Trouble("refused", "no such upload"))
            self.uploads[upload_id][number] = body
        return {"PartNumber": number}

    async def complete_upload(self, key: str, upload_id: str, parts: list[dict[str, Any]]) -> str:
        async with _Fate(self, f"complete {key}"):
            if upload_id not in self.uploads:
                raise NoSuchUpload(Trouble("refused", "no such upload"))
            there = self.uploads[upload_id]
            self._store(key, b"".join(there[part["PartNumber"]] for part in parts))
            del self.uploads[upload_id]
        return "crc32:of-parts"

    async def abort_upload(self, key: str, upload_id: str) -> None:
        async with _Fate(self, f"abort {key}"):
            self.uploads.pop(upload_id, None)

    async def delete(self, key: str) -> None:
        async with _Fate(self, f"delete {key}"):
            self.objects.pop(key, None)

    async def close(self) -> None:
        pass

    def _store(self, key: str, body: bytes) -> None:
        if self._tells and key in self.objects:
            raise AlreadyThere(Trouble("refused", "the key is taken"))
        self.objects[key] = body


class _Fate:
    def __init__(self, bucket: MemoryBucket, request: str) -> None:
        bucket.requests.append(request)
        self._fate: Fate = bucket.fates.popleft() if bucket.fates else "works"

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)
        if self._fate == "refused":
            raise _BROKEN
        if self._fate == "hangs":
            await asyncio.Event().wait()

    async def __aexit__(self, *_exc: object) -> None:
        if self._fate == "answer lost":
            raise _BROKEN
