"""From the spool to the bucket: what is closed is uploaded, for ever if need be, and each object takes effect once.

The bytes of an object depend on its committed row alone, and its key is nobody else's. So an upload can be repeated
at any time, by this process or the next: it writes the same object again, or learns (412) that it is there.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from shipper.log import fields
from shipper.outputs.appended_files import FileDamaged, FileThread
from shipper.outputs.base import Host
from shipper.outputs.s3.bucket import Bucket
from shipper.outputs.s3.closed import ClosedObject, closed_object, parquet_path
from shipper.outputs.s3.config import PARQUET_MISSING
from shipper.outputs.s3.manifest import Manifest, encode_entry
from shipper.outputs.s3.pace import Pace
from shipper.outputs.s3.spool import Spool, SpooledObject, set_aside
from shipper.outputs.s3.trouble import THROTTLED, AlreadyThere, NoSuchUpload, S3Error, Trouble

log = logging.getLogger(__name__)

PART_BYTES = 5 * 2**20  # what is larger goes up in parts; two are in memory; S3 takes none of less, ...
MAX_PARTS = 10_000  # ... and no more than this many
_PIECE_BYTES = 2**18  # of what is read again


class _Sent(NamedTuple):
    size: int  # of what is in the bucket
    sha256: str  # of the same, if anybody is to know
    checksum: str  # empty where an earlier attempt, unheard of, had sent it


class Digest:
    """SHA-256 of an object's first `length` bytes."""

    def __init__(self) -> None:
        self.length = 0
        self._hash = hashlib.sha256()

    def take(self, start: int, body: bytes) -> None:
        """What stands at `start`. Does nothing where that is not behind the bytes that it has."""
        if start == self.length:
            self._hash.update(body)
            self.length += len(body)

    def sha256(self) -> str:
        """In hex."""
        return self._hash.hexdigest()


class Uploads:
    """`settle` and `upload` are endless tasks; `upload` runs as often as uploads may run at once.

    `changed` is set whenever the spool has become smaller.
    """

    def __init__(
        self,
        *,
        output: str,
        spool: Spool,
        bucket: Bucket,
        pace: Pace,
        host: Host,
        manifest: Manifest | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._output = output
        self._spool = spool
        self._bucket = bucket
        self._pace = pace
        self._host = host
        self._manifest = manifest
        self._part_bytes = part_bytes
        self._ready: asyncio.Queue[SpooledObject] = asyncio.Queue()  # the spool bounds how many there are
        self._known: set[str] = set()  # ids of closed objects that are in the queue, or on their way
        self._maker = FileThread(f"{output}, Parquet")  # one at a time, since it takes memory
        self._parts: dict[str, dict[int, dict[str, Any]]] = {}  # upload id -> the parts that are there
        self._wake = asyncio.Event()
        self.changed = asyncio.Event()
        self.uploaded_objects = 0
        self.trouble: Trouble | None = None
        self.trouble_since: float | None = None

    def wake(self) -> None:
        """Something was closed."""
        self._wake.set()

    # -- between commits ----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Waits, after each change, for its commit: only then may what is closed go up, and what is up be deleted."""
        self.wake()
        while True:
            await self._wake.wait()
            self._wake.clear()
            closed = [row for row in self._spool.closed.values() if row.id not in self._known]
            uploaded = list(self._spool.uploaded.values())
            if not (closed or uploaded):
                continue
            await self._host.committed()
            for row in closed:
                if row.id in self._spool.closed:  # and not found damaged meanwhile
                    self._known.add(row.id)
                    self._ready.put_nowait(row)
            paths = [self._spool.path(row) for row in uploaded]
            await asyncio.to_thread(_delete, [*paths, *map(parquet_path, paths)])
            for row in uploaded:
                self._spool.remove(row)
            self.changed.set()

    def give_up(self, row: SpooledObject) -> None:
        """Its file is damaged: what it held is lost, and counted as that."""
        log.error(
            "spooled records are lost: their file on this node is damaged",
            extra=fields(output=self._output, object=row.key, records=row.records, bytes=sum(row.generations.values())),
        )
        self._host.lost(self._output, row.generations, row.records, "spool_damaged")
        path = self._spool.path(row)
        if path.exists():
            set_aside(path)
        self._spool.abandon(row)
        self._finished(row)

    def _finished(self, row: SpooledObject) -> None:
        self._known.discard(row.id)
        self.wake()

    # -- uploads ------------------------------------------------------------------------------------------------

    async def upload(self) -> None:
        """One object after the other; one that fails goes to the end of the queue, so that it holds up no other."""
        while True:
            row = await self._ready.get()
            try:
                await self._pace.wait()
                await self._try_once(row)
            except BaseException:
                self._ready.put_nowait(row)
                raise

    async def _try_once(self, row: SpooledObject) -> None:
        try:
            await self._list(row, await self._upload(row))
        except FileDamaged:
            if row.upload_id is not None:
                with contextlib.suppress(S3Error):
                    await self._abort(row)
            self.give_up(row)
        except S3Error as exc:
            self._failed(row, exc)
            self._ready.put_nowait(row)
        else:
            self._succeeded(row)

    async def _list(self, row: SpooledObject, sent: _Sent) -> None:
        """In the manifest, where there is one: then only it is confirmed."""
        if self._manifest is None:
            self._confirm(row)
            return
        line = encode_entry(self._output, row, size=sent.size, sha256=sent.sha256, checksum=sent.checksum)
        await self._manifest.add(row.created, line, partial(self._confirm, row))

    def _confirm(self, row: SpooledObject) -> None:
        """One step: a commit has both, or neither."""
        self._host.uploaded(self._output, row.generations, row.records)
        self._spool.finish(row)

    def _succeeded(self, row: SpooledObject) -> None:
        self._finished(row)
        self._pace.succeed()
        self.trouble = self.trouble_since = None
        self.uploaded_objects += 1

    def _failed(self, row: SpooledObject, exc: S3Error) -> None:
        delay_s = self._pace.fail(exc.delay_s)
        if self.trouble is None:
            self.trouble_since = time.time()
        self.trouble = exc.trouble
        self._host.metrics.output_retries.labels(self._output, exc.trouble.reason).inc()
        what = fields(
            output=self._output, object=row.key, error=exc.trouble.sentence, mend=exc.trouble.mend, retry_in_s=delay_s
        )
        level = logging.INFO if exc.trouble.reason == THROTTLED else logging.WARNING
        log.log(level, "an upload failed and will be tried again", extra=what)

    async def _upload(self, row: SpooledObject) -> _Sent:
        """Returns when the object is in the bucket.

        If its key is taken, then by itself: an answer was lost, in an earlier process or in a hidden retry (aiohttp and
        proxies repeat a PUT when a connection breaks). Keys are random, and what was closed never changes.
        """
        closed = await self._closed(row)
        digest = Digest() if self._manifest is not None else None
        try:
            if closed.size <= self._part_bytes:
                checksum = await self._bucket.put(row.key, await self._read(closed, 0, closed.size, digest))
            else:
                checksum = await self._upload_parts(row, closed, digest)
        except AlreadyThere:
            checksum = ""
            if row.upload_id is not None:
                await self._abort(row)
        return _Sent(closed.size, await self._sha256(closed, digest) if digest is not None else "", checksum)

    async def _sha256(self, closed: ClosedObject, digest: Digest) -> str:
        """Of all of it. What was not read for this attempt, since an earlier one had sent it, is read now."""
        while digest.length < closed.size:
            await self._read(closed, digest.length, _PIECE_BYTES, digest)
        return digest.sha256()

    async def _upload_parts(self, row: SpooledObject, closed: ClosedObject, digest: Digest | None) -> str:
        """Goes on where an earlier attempt of this process stopped. An upload that a crash left behind is aborted."""
        if row.upload_id is not None and row.upload_id not in self._parts:
            await self._abort(row)
        if row.upload_id is None:
            upload_id = await self._bucket.begin_upload(row.key)
            self._spool.note_upload(row, upload_id)
            self._parts[upload_id] = {}
            await self._host.committed()  # before there are parts: parts that nobody knows of are billed for ever
        assert row.upload_id is not None
        done = self._parts[row.upload_id]
        size = max(self._part_bytes, -(-closed.size // MAX_PARTS))
        numbers = range(1, -(-closed.size // size) + 1)
        try:
            for number in numbers:
                if number not in done:  # no name for the body: it would be in memory beside the next one
                    done[number] = await self._bucket.upload_part(
                        row.key, row.upload_id, number, await self._read(closed, (number - 1) * size, size, digest)
                    )
            parts = [done[number] for number in numbers]
            checksum = await self._bucket.complete_upload(row.key, row.upload_id, parts)
        except NoSuchUpload:
            # Aborted by others, or completed though the answer was lost: the next attempt finds out.
            self._forget_upload(row)
            raise
        self._parts.pop(row.upload_id)
        return checksum

    async def _abort(self, row: SpooledObject) -> None:
        assert row.upload_id is not None
        await self._bucket.abort_upload(row.key, row.upload_id)
        self._forget_upload(row)

    def _forget_upload(self, row: SpooledObject) -> None:
        self._parts.pop(row.upload_id or "", None)
        self._spool.note_upload(row, None)

    async def _closed(self, row: SpooledObject) -> ClosedObject:
        """Parquet is made of the spooled documents before the first attempt, and kept for the others."""
        path = self._spool.path(row)
        if row.parquet is None:
            return closed_object(path, row)
        with _trouble_with_disk(path):
            return await self._maker.run(closed_object, path, row)

    async def close(self) -> None:
        """Waits for what is being made: the next one who works on the spool begins it anew."""
        await self._maker.close()

    async def _read(self, closed: ClosedObject, start: int, size: int, digest: Digest | None) -> bytes:
        try:
            with _trouble_with_disk(closed.path):
                return await asyncio.to_thread(_read_and_digest, closed, start, size, digest)
        except FileDamaged as exc:
            if not closed.is_made:
                raise
            raise S3Error(Trouble("disk", f"{exc}; it is made again")) from exc


@contextlib.contextmanager
def _trouble_with_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        sentence = f"the spool file {path} cannot be read or made ready: {exc.strerror or exc}"
        raise S3Error(Trouble("disk", sentence, "check the disk that holds state_dir")) from exc
    except ImportError as exc:
        raise S3Error(Trouble("parquet", PARQUET_MISSING)) from exc


def _read_and_digest(closed: ClosedObject, start: int, size: int, digest: Digest | None) -> bytes:
    body = read_object(closed.path, closed.length, closed.trailer, start, size)
    if digest is not None:
        digest.take(start, body)
    return body


def read_object(path: Path, length: int, trailer: bytes, start: int, size: int) -> bytes:
    """`size` bytes from `start` of the object that is the first `length` bytes of a file and then the trailer.

    Raises FileDamaged when the file is shorter.
    """
    wanted = min(size, max(length - start, 0))
    try:
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(wanted)
    except FileNotFoundError as exc:
        raise FileDamaged(path) from exc
    if len(body) < wanted:
        raise FileDamaged(path)
    behind = max(start - length, 0)
    return body + trailer[behind : behind + size - wanted]


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
