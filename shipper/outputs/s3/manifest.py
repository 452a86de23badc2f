"""The manifest: beside the objects of an hour, a list of them, `manifest/<node>/<hour>.jsonl`, a line an object.

A line is appended to a file below `state_dir` when its object is in the bucket, and counts from the commit that says
so of the object: a row with the file's length is committed beside the object's fate. So each object is listed once,
whatever breaks. An object belongs to the hour in which it was begun, which its row and its id tell.

The whole file of an hour is written to the bucket again when lines have come, until the hour is over and none of its
objects waits. Only this node writes it: what has the key already was written by a state that is lost, or by another
node of this name, and stays; this hour then gets a key that is nobody else's.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shipper.durable import make_folder
from shipper.errors import StateError
from shipper.log import fields
from shipper.outputs.appended_files import FileDamaged, FileRows, FileThread, create, write_at
from shipper.outputs.base import Host
from shipper.outputs.s3.bucket import Bucket
from shipper.outputs.s3.keys import new_id
from shipper.outputs.s3.pace import Pace
from shipper.outputs.s3.spool import SpooledObject
from shipper.outputs.s3.trouble import AlreadyThere, S3Error, Trouble
from shipper.template import confine

log = logging.getLogger(__name__)

ROW_PREFIX = "manifest/"  # of the rows' keys; ids of spooled objects begin with a digit
_DAMAGED = "its file on this node is gone or damaged"


class Container(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A log file of which the object holds records; as `contents.Origin`."""

    namespace: str | None = None
    pod: str | None = None
    uid: str | None = None
    container: str | None = None
    restart: int | None = None
    path: str | None = None
    file: int  # its number in the ledger of the node
    records: int
    bytes: int
    ranges: tuple[tuple[int, int], ...]


class Entry(msgspec.Struct, kw_only=True):
    """A line: one object."""

    key: str
    output: str
    records: int
    bytes: int  # plain
    object_bytes: int  # as it lies in the bucket
    first_time: str
    last_time: str
    sha256: str  # of the object as it lies in the bucket, hex
    checksum: str  # what the server was told, `crc32:...`; empty where an earlier attempt, unheard of, had told it
    containers: list[Container]


class Hour(msgspec.Struct):
    """A row: an hour's file, and how much of it is in the bucket."""

    hour: str  # 2026-11-21T10, in UTC
    name: str  # of the file
    key: str
    bucket: str
    length: int = 0  # bytes that count
    in_bucket: int = 0
    is_ours: bool = False  # what has the key in the bucket


def manifest_folder(state_dir: str, output: str) -> Path:
    return Path(state_dir) / "manifest" / urllib.parse.quote(output, safe="")


def hour_of(created: float) -> str:
    """Of epoch seconds."""
    return f"{dt.datetime.fromtimestamp(created, dt.UTC):%Y-%m-%dT%H}"


def encode_entry(output: str, row: SpooledObject, *, size: int, sha256: str, checksum: str) -> bytes:
    """`size`, `sha256` (hex) and `checksum`: of the object as it lies in the bucket."""
    contents = row.contents
    entry = Entry(
        key=row.key,
        output=output,
        records=row.records,
        bytes=row.plain_bytes,
        object_bytes=size,
        first_time=contents.first_time,
        last_time=contents.last_time,
        sha256=sha256,
        checksum=checksum,
        containers=[Container(file=file, **msgspec.structs.asdict(o)) for file, o in sorted(contents.origins.items())],
    )
    return msgspec.json.encode(entry) + b"\n"


class Manifest:
    """`write` is an endless task. `restore` comes before all else.

    `waiting`: when each object was begun that is not in the bucket yet. `every_s`: at most so long after a line is
    there it is in the bucket as well, if that works.
    """

    def __init__(
        self,
        *,
        output: str,
        bucket_name: str,
        prefix: str,
        every_s: float,
        rows: FileRows,
        thread: FileThread,
        waiting: Callable[[], Iterable[float]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._output, self._bucket_name, self._prefix, self._every_s = output, bucket_name, prefix, every_s
        self._rows, self._thread, self._waiting, self._clock = rows, thread, waiting, clock
        self._hours: dict[str, Hour] = {}
        self._adding = asyncio.Lock()
        self._wake, self._hurry, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._trouble: Trouble | None = None
        self._trouble_since = 0.0

    def restore(self, folder: Path, rows: Mapping[str, bytes]) -> None:
        """Takes up what was committed. To be called in a thread. Raises OSError and StateError."""
        self._folder = folder
        make_folder(folder)
        found = {path.name: path for path in folder.iterdir() if path.is_file()}
        for key, encoded in rows.items():
            hour = _decode(key, encoded)
            if hour.bucket != self._bucket_name:
                self._give_up(hour, "its bucket is configured no more")
                continue
            path = found.pop(hour.name, None)
            if path is None or path.stat().st_size < hour.length:
                self._give_up(hour, _DAMAGED)
                continue
            with path.open("r+b") as file:
                file.truncate(hour.length)
            self._hours[hour.hour] = hour
        for path in found.values():
            path.unlink()

    def start(self, host: Host, bucket: Bucket, pace: Pace) -> None:
        self._host, self._bucket, self._pace = host, bucket, pace
        self._wake.set()

    async def add(self, created: float, line: bytes, confirm: Callable[[], None]) -> None:
        """Lists an object that is in the bucket. Calls `confirm` in the step in which the line counts.

        Raises S3Error when the disk refuses; `confirm` was not called then.
        """
        async with self._adding:
            hour = await self._append(created, line)
            hour.length += len(line)
            self._put(hour, self._folder / hour.name)
            confirm()
        self._wake.set()

    async def _append(self, created: float, line: bytes) -> Hour:
        hour = self._of(created)
        try:
            await self._thread.run(_append, self._folder / hour.name, hour.length, line)
        except FileDamaged:
            self._give_up(hour, _DAMAGED)
            return await self._append(created, line)
        except OSError as exc:
            sentence = f"the manifest cannot be written to {self._folder}: {exc.strerror}"
            raise S3Error(Trouble("disk", sentence, "check the disk that holds state_dir")) from exc
        return hour

    def _of(self, created: float) -> Hour:
        name = hour_of(created)
        found = self._hours.get(name)
        if found is None:
            found = self._hours[name] = Hour(name, name, self._key(name), self._bucket_name)
        return found

    def _key(self, name: str) -> str:
        return f"{self._prefix}{confine(self._host.node, 'key')}/{name}.jsonl"

    def _put(self, hour: Hour, path: Path | None = None) -> None:
        self._rows.put(ROW_PREFIX + hour.name, hour, path)

    def _give_up(self, hour: Hour, why: str) -> None:
        """Lines that are not in the bucket will not come there; others of this hour begin a list of their own."""
        self._rows.delete(ROW_PREFIX + hour.name)
        if hour.length > hour.in_bucket:
            log.error(
                "a part of the manifest is lost; its objects are in the bucket, and an audit of the archive names them",
                extra=fields(output=self._output, manifest=hour.key, reason=why),
            )
        if self._hours.get(hour.hour) is hour:
            fresh = f"{hour.hour}-{new_id(self._clock())}"
            self._hours[hour.hour] = Hour(hour.hour, fresh, self._key(fresh), self._bucket_name)

    # -- to the bucket ------------------------------------------------------------------------------------------------

    async def write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._behind():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._hurry.wait()
            await self._write_all()
            await self._forget_done()
            if self._behind():
                self._wake.set()

    async def _write_all(self) -> None:
        """Returns when each line that was there is in the bucket."""
        for hour in self._behind():
            length = hour.length
            while hour.in_bucket < length and self._hours.get(hour.hour) is hour:
                await self._pace.wait()
                await self._write(hour)

    async def drain(self) -> None:
        """Returns when all lines are in the bucket."""
        self._hurry.set()
        self._pace.succeed()
        while self._behind():
            self._wake.set()
            self._changed.clear()
            await self._changed.wait()

    def _behind(self) -> list[Hour]:
        return [hour for hour in self._hours.values() if hour.length > hour.in_bucket]

    async def _write(self, hour: Hour) -> None:
        length = hour.length
        await self._host.committed()  # a list never tells of what a crash would take back
        try:
            content = await self._thread.run(_read, self._folder / hour.name, length)
            await self._bucket.put_manifest(hour.key, content, replace=hour.is_ours)
        except FileDamaged:
            self._give_up(hour, _DAMAGED)
        except AlreadyThere:
            hour.key = self._key(f"{hour.hour}-{new_id(self._clock())}")
        except (S3Error, OSError) as exc:
            self._failed(hour, exc)
        else:
            hour.in_bucket, hour.is_ours = length, True
            if self._hours.get(hour.hour) is hour:  # and not given up meanwhile
                self._put(hour)
            self._pace.succeed()
            self._trouble = None
        self._changed.set()

    async def _forget_done(self) -> None:
        """Hours that are over, of which no object waits. The file goes when its row is gone for good."""
        now = hour_of(self._clock())
        waiting = {hour_of(created) for created in self._waiting()}
        done = [
            hour
            for hour in self._hours.values()
            if hour.hour < now and hour.hour not in waiting and hour.length == hour.in_bucket
        ]
        for hour in done:
            del self._hours[hour.hour]
            self._rows.delete(ROW_PREFIX + hour.name)
        if done:
            await self._host.committed()
            gone = [hour for hour in done if hour.hour not in self._hours]  # a clock was set back: it goes on
            await self._thread.run(_delete, [self._folder / hour.name for hour in gone])

    def _failed(self, hour: Hour, exc: S3Error | OSError) -> None:
        trouble = exc.trouble if isinstance(exc, S3Error) else Trouble("disk", f"its file cannot be read: {exc}")
        delay_s = self._pace.fail(exc.delay_s if isinstance(exc, S3Error) else 0.0)
        if self._trouble is None:
            self._trouble_since = self._clock()
        self._trouble = trouble
        self._host.metrics.output_retries.labels(self._output, "manifest").inc()
        what = fields(
            output=self._output, manifest=hour.key, error=trouble.sentence, mend=trouble.mend, retry_in_s=delay_s
        )
        log.warning("the manifest was not written and will be tried again", extra=what)

    def status(self) -> dict[str, Any]:
        trouble = self._trouble
        return {
            "hours": len(self._hours),
            "waiting_bytes": sum(hour.length - hour.in_bucket for hour in self._hours.values()),
            "last_error": None
            if trouble is None
            else {
                "error": trouble.sentence,
                "mend": trouble.mend,
                "for_s": round(self._clock() - self._trouble_since, 1),
                "retry_in_s": round(self._pace.delay_s(), 1),
            },
        }


def _decode(key: str, encoded: bytes) -> Hour:
    try:
        return msgspec.json.decode(encoded, type=Hour)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise StateError(f"the state's row {key} of the manifest cannot be read: {exc}") from exc


def _append(path: Path, length: int, line: bytes) -> None:
    if length == 0:
        create(path)
    write_at(path, length, line)


def _read(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(length)
    except FileNotFoundError as exc:
        raise FileDamaged(path) from exc
    if len(content) < length:
        raise FileDamaged(path)
    return content


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
