"""The s3 output: batches into the spool, the spool into the bucket. Only wiring: the work is done beside."""

import asyncio
import importlib
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shipper.body import view_of
from shipper.delivery import Batch, Delivery, Piece
from shipper.errors import Disconnected, StateError
from shipper.log import fields
from shipper.outputs.appended_files import FileDamaged, FileRows, FileThread, create, refused_by_disk, write_at
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.s3.bucket import Bucket, OpenBucket
from shipper.outputs.s3.check import check_bucket
from shipper.outputs.s3.compression import CODECS, extend_crc32
from shipper.outputs.s3.config import S3Config
from shipper.outputs.s3.manifest import ROW_PREFIX, Manifest, manifest_folder
from shipper.outputs.s3.pace import Pace
from shipper.outputs.s3.spool import Append, Spool, SpooledObject, spool_folder
from shipper.outputs.s3.uploads import PART_BYTES, Uploads
from shipper.tasks import TaskGuard

log = logging.getLogger(__name__)

UPLOADS_AT_ONCE = 2


class _Group(NamedTuple):
    """What one batch adds to one object."""

    row: SpooledObject
    parts: list[memoryview]  # of the batch's body: to be released once they are read
    pieces: list[Piece]


class S3Output:
    """Archives to one bucket. `send` confirms when documents are in the spool; uploads go on behind its back.

    While the spool is full `send` waits, as long as it takes. Memory: two parts, and a row for each spooled object.
    """

    kind = "s3"
    target_style: Literal["index", "key", "path"] = "key"
    lines_per_record = 1
    concurrency = 1  # so that the records of a container stay in order

    def __init__(
        self, config: S3Config, *, part_bytes: int = PART_BYTES, open_bucket: OpenBucket | None = None
    ) -> None:
        self.name = config.name
        self.template = config.key
        self.max_batch_bytes = config.batch.max_bytes
        self.max_batch_age_s = config.batch.max_age
        self._config = config
        self._part_bytes = part_bytes
        self._open_bucket = open_bucket or _open_bucket
        self._rows = FileRows()
        self.durable: Durable | None = self._rows
        self._thread = FileThread(config.name)
        self._reschedule = asyncio.Event()
        self._is_started = False
        is_parquet = config.format == "parquet"
        self._spool = Spool(
            rows=self._rows,
            compression="zstd" if is_parquet else config.compression,
            parquet=config.compression if is_parquet else None,
            max_bytes=config.object.max_bytes,
            max_age_s=config.object.max_age,
            limit_bytes=config.spool_limit,
        )
        self._manifest = Manifest(
            output=config.name,
            bucket_name=config.bucket,
            prefix=config.manifest.prefix if config.manifest else "",
            every_s=config.object.max_age,
            rows=self._rows,
            thread=self._thread,
            waiting=self._spool.waiting,
        )

    def __repr__(self) -> str:
        return f"<S3Output {self.name} to {self._config.bucket}>"

    def frame(self, target: str) -> tuple[bytes | None, bytes]:  # noqa: ARG002  one frame for all keys
        return (b'{"_id":"', b'",') if self._config.ids else (None, b"{")

    async def start(self, host: Host) -> None:
        self._host = host
        await self._restore()
        self._bucket = await self._open_bucket(self._config, self._count_request)
        self._pace = Pace(self._config.retry.initial, self._config.retry.max)
        self._manifest.start(host, self._bucket, Pace(self._config.retry.initial, self._config.retry.max))
        self._uploads = Uploads(
            output=self.name,
            spool=self._spool,
            bucket=self._bucket,
            pace=self._pace,
            host=host,
            manifest=self._manifest if self._config.manifest else None,
            part_bytes=self._part_bytes,
        )
        self._guard = TaskGuard(errors=host.metrics.task_errors)
        await self._guard.__aenter__()
        for number in range(UPLOADS_AT_ONCE):
            self._guard.start(self._uploads.upload, name=f"{self.name}: upload {number + 1}", endless=True, restart_s=1)
        self._guard.start(self._uploads.settle, name=f"{self.name}: settle", endless=True, restart_s=1)
        self._guard.start(self._manifest.write, name=f"{self.name}: manifest", endless=True, restart_s=1)
        self._guard.start(self._close_by_age, name=f"{self.name}: close by age", endless=True, restart_s=1)
        self._is_started = True

    async def _restore(self) -> None:
        spooled, listed = dict[str, bytes](), dict[str, bytes]()
        for key, row in self._host.rows(self.name).items():
            (listed if key.startswith(ROW_PREFIX) else spooled)[key] = row
        folder = spool_folder(self._host.state_dir, self.name)
        try:
            lost = await self._thread.run(self._spool.restore, folder, spooled)
            folder = manifest_folder(self._host.state_dir, self.name)
            await self._thread.run(self._manifest.restore, folder, listed)
        except OSError as exc:
            raise StateError(f"the spool {folder} cannot be used: {exc.strerror}") from exc
        for each in lost:
            self._report_lost(each)

    async def send(self, batch: Batch) -> Delivery:
        await self._wait_for_room(len(batch.body))
        groups = [
            _Group(self._spool.borrow(target), parts, pieces) for target, (parts, pieces) in _by_target(batch).items()
        ]
        try:
            with refused_by_disk():
                appends = await self._thread.run(_append_all, self._spool.folder, groups)
            # No await from here on: the rows change in the step in which the records are confirmed.
            if self._config.manifest:
                _note_contents(batch, groups)
            for group, append in zip(groups, appends, strict=True):
                records = sum(piece.records for piece in group.pieces)
                sources = (share for piece in group.pieces for share in piece.span.shares(piece.source_bytes).items())
                self._spool.extend(group.row, append, records, sources)
        except FileDamaged as exc:
            damaged = next(group.row for group in groups if self._spool.path(group.row) == exc.path)
            self._uploads.give_up(damaged)
            raise Disconnected(str(exc), reason="disk", ambiguous=False) from exc
        finally:
            self._spool.give_back([group.row for group in groups])
            self._reschedule.set()
            self._uploads.wake()
        return Delivery(spooled=True)

    async def drain(self) -> None:
        """Returns when the spool is empty: all is uploaded, committed and deleted here, and stands in the manifest."""
        self._pace.succeed()
        while not self._spool.is_empty:
            self._spool.close_all()
            self._uploads.wake()
            self._uploads.changed.clear()
            await self._uploads.changed.wait()
        await self._manifest.drain()

    async def close(self) -> None:
        """Also of an output that was not started. Requests are given up; the next start repeats them."""
        if self._is_started:
            self._guard.cancel()
            await self._guard.__aexit__(None, None, None)
            await self._uploads.close()
            await self._bucket.close()
        await self._thread.close()  # last: a task that still asked it for something would be told as failed

    async def check(self) -> list[Finding]:
        bucket = await self._open_bucket(self._config, lambda _status: None)
        try:
            return await check_bucket(self._config, bucket, now=time.time())
        finally:
            await bucket.close()

    def spool_bytes(self) -> int:
        """Compressed bytes that are on this node only (gauge `shipper_spool_bytes`)."""
        return self._spool.size_bytes

    def spool_seconds(self) -> float:
        """Age of the oldest object that is not uploaded; 0 when there is none (gauge `shipper_spool_seconds`)."""
        return self._spool.age_s()

    def status(self) -> dict[str, Any]:
        if not self._is_started:
            return {"bucket": self._config.bucket, "is_started": False}
        trouble = self._uploads.trouble
        return {
            "bucket": self._config.bucket,
            "objects": {
                "open": len(self._spool.open),
                "waiting": len(self._spool.closed),
                "uploaded": self._uploads.uploaded_objects,
            },
            "spool_bytes": self.spool_bytes(),
            "spool_limit_bytes": self._config.spool_limit,
            "spool_seconds": round(self.spool_seconds(), 1),
            "manifest": self._manifest.status(),
            "last_error": None
            if trouble is None
            else {
                "error": trouble.sentence,
                "mend": trouble.mend,
                "for_s": round(time.time() - (self._uploads.trouble_since or time.time()), 1),
                "retry_in_s": round(self._pace.delay_s(), 1),
            },
        }

    async def _wait_for_room(self, size: int) -> None:
        while not self._spool.has_room(size):
            if not (self._spool.closed or self._spool.uploaded):
                self._spool.close_largest()
                self._uploads.wake()
            self._uploads.changed.clear()
            await self._uploads.changed.wait()

    async def _close_by_age(self) -> None:
        while True:
            self._reschedule.clear()
            due_in_s = self._spool.close_due()
            self._uploads.wake()
            try:
                async with asyncio.timeout(due_in_s):
                    await self._reschedule.wait()
            except TimeoutError:
                continue

    def _report_lost(self, row: SpooledObject) -> None:
        log.error(
            "spooled records are lost: their file on this node is gone or damaged",
            extra=fields(output=self.name, object=row.key, records=row.records, bytes=sum(row.generations.values())),
        )
        self._host.lost(self.name, row.generations, row.records, "spool_damaged")

    def _count_request(self, status: str) -> None:
        self._host.metrics.output_requests.labels(self.name, status).inc()


async def _open_bucket(config: S3Config, count: Callable[[str], None]) -> Bucket:
    """The SDK takes most of a second to import: in a thread, and only where there is an s3 output."""
    api = await asyncio.to_thread(importlib.import_module, "shipper.outputs.s3.api")
    bucket: Bucket = api.S3Api(config, count)
    return bucket


def _by_target(batch: Batch) -> dict[str, tuple[list[memoryview], list[Piece]]]:
    """Target -> its documents, in order. As long as there are views of a body, also after a `send` that was cancelled,
    it is not used again.
    """
    pieces: dict[str, list[Piece]] = {}
    for piece in batch.pieces:
        pieces.setdefault(piece.target, []).append(piece)
    with view_of(batch.body) as body:
        return {
            target: ([body[start:end] for start, end in _stretches(group)], group) for target, group in pieces.items()
        }


def _stretches(pieces: Iterable[Piece]) -> list[tuple[int, int]]:
    """Bounds of their documents; what stands next to each other is one."""
    found: list[tuple[int, int]] = []
    for piece in pieces:
        start = found.pop()[0] if found and found[-1][1] == piece.start else piece.start
        found.append((start, piece.end))
    return found


def _note_contents(batch: Batch, groups: list[_Group]) -> None:
    with view_of(batch.body) as body:
        for group in groups:
            for piece in group.pieces:
                with body[piece.start : piece.end] as documents:
                    group.row.contents.add(piece, documents)


def _append_all(folder: Path, groups: list[_Group]) -> list[Append]:
    """In the file thread. All or nothing: what was written before an error lies behind the length that counts."""
    with ExitStack() as views:
        for group in groups:
            for part in group.parts:
                views.enter_context(part)
        return [_append(folder / group.row.id, group.row, group.parts) for group in groups]


def _append(path: Path, row: SpooledObject, parts: list[memoryview]) -> Append:
    codec = CODECS[row.compression]
    packed = codec.pack(parts)
    if row.length == 0:
        create(path)
        packed = codec.header + packed
    write_at(path, row.length, packed)
    plain_bytes = row.plain_bytes + sum(map(len, parts))
    return Append(row.length + len(packed), plain_bytes, extend_crc32(parts, row.crc32))
