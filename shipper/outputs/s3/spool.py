"""The spool: what is archived but not yet uploaded, as one file an object, and a durable row beside each.

Every decision is made here, in plain synchronous methods of the event loop's thread; writing and uploading are others'
work. An object goes through

    open      takes records; its row is committed with the cursors of those records
    closed    takes no more; its bytes are fixed by the row. Once that is committed, it may be uploaded
    uploaded  its row is deleted. Once that is committed, its file may go

A crash at any point leaves a row with a length, and a file that is cut back to it.
"""

import logging
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from shipper.durable import make_folder
from shipper.errors import StateError
from shipper.log import fields
from shipper.outputs.appended_files import FileRows
from shipper.outputs.s3.compression import CODECS, Compression
from shipper.outputs.s3.contents import Contents
from shipper.outputs.s3.keys import fill_key, new_id

log = logging.getLogger(__name__)

MAX_OPEN = 64
MAX_OBJECTS = 16_384  # a kilobyte of memory each; the rest of a long outage stays in the log files
DAMAGED_FOLDER = "damaged"


def spool_folder(state_dir: str, output: str) -> Path:
    return Path(state_dir) / "spool" / urllib.parse.quote(output, safe="")


class SpooledObject(msgspec.Struct):
    """A row, and all that the object's bytes depend on. Later fields need a default: old rows are read too."""

    id: str  # also the name of its spool file
    key: str
    target: str
    compression: Compression
    created: float  # epoch, seconds
    length: int = 0  # compressed bytes that count, header included
    plain_bytes: int = 0
    crc32: int = 0  # of the plain bytes
    records: int = 0
    generations: dict[int, int] = msgspec.field(default_factory=dict)  # row id -> bytes of its log file
    closed: bool = False
    upload_id: str | None = None  # of a multipart upload that was begun: to be aborted if it is not completed
    contents: Contents = msgspec.field(default_factory=Contents)  # for the manifest
    parquet: Compression | None = None  # packed so, it is uploaded as Parquet; None: as it is in the file

    @property
    def trailer(self) -> bytes:
        return CODECS[self.compression].trailer(self.crc32, self.plain_bytes)


class Append(NamedTuple):
    """What one write has added to an object's file."""

    length: int  # of the file, then
    plain_bytes: int
    crc32: int


@dataclass(slots=True)
class _Open:
    row: SpooledObject
    due: float  # time.monotonic()
    busy: bool = False  # an append is on its way to the disk


@dataclass(slots=True)
class Spool:
    """Bounded by `limit_bytes` and MAX_OBJECTS; at most MAX_OPEN objects stay open between appends.

    `restore` comes before all else.
    """

    rows: FileRows
    compression: Compression
    max_bytes: int
    max_age_s: float
    limit_bytes: int
    parquet: Compression | None = None
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    folder: Path = field(init=False)
    size_bytes: int = field(default=0, init=False)
    closed: dict[str, SpooledObject] = field(default_factory=dict, init=False)
    uploaded: dict[str, SpooledObject] = field(default_factory=dict, init=False)
    _open: dict[str, _Open] = field(default_factory=dict, init=False)  # by target, the least recently used first

    def path(self, row: SpooledObject) -> Path:
        return self.folder / row.id

    @property
    def open(self) -> list[SpooledObject]:
        return [o.row for o in self._open.values()]

    @property
    def is_empty(self) -> bool:
        return not (self._open or self.closed or self.uploaded)

    def waiting(self) -> list[float]:
        """When each object was begun that is not uploaded."""
        return [row.created for row in (*self.open, *self.closed.values())]

    def age_s(self) -> float:
        """Of the oldest object that is not uploaded."""
        created = self.waiting()
        return max(self.clock() - min(created), 0.0) if created else 0.0

    # -- records in ---------------------------------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """For `size` more bytes, as if they would not shrink. What is larger than the limit fits when it is alone."""
        objects = len(self._open) + len(self.closed) + len(self.uploaded)
        return objects < MAX_OBJECTS and (self.size_bytes == 0 or self.size_bytes + size <= self.limit_bytes)

    def borrow(self, target: str) -> SpooledObject:
        """The open object of a target, begun if there is none; stays open until `give_back`."""
        entry = self._open.pop(target, None)
        if entry is None:
            now = self.clock()
            object_id = new_id(now)
            key = fill_key(target, object_id)
            row = SpooledObject(object_id, key, target, self.compression, now, parquet=self.parquet)
            entry = _Open(row, self.monotonic() + self.max_age_s)
        entry.busy = True
        self._open[target] = entry
        return entry.row

    def extend(self, row: SpooledObject, append: Append, records: int, generations: Iterable[tuple[int, int]]) -> None:
        """What was written counts from here on."""
        self.size_bytes += append.length - row.length
        row.length, row.plain_bytes, row.crc32 = append
        row.records += records
        for generation, source_bytes in generations:
            row.generations[generation] = row.generations.get(generation, 0) + source_bytes
        self.rows.put(row.id, row, self.path(row))

    def give_back(self, rows: Iterable[SpooledObject]) -> None:
        """Objects into which nothing came are forgotten; what is large enough, or one too many, is closed."""
        for row in rows:
            entry = self._open.get(row.target)
            if entry is None or entry.row is not row:
                continue  # abandoned meanwhile
            entry.busy = False
            if row.length == 0:
                del self._open[row.target]
            elif row.length >= self.max_bytes:
                self._close(row)
        for row in self._idle()[: max(len(self._open) - MAX_OPEN, 0)]:
            self._close(row)

    # -- objects out --------------------------------------------------------------------------------------------

    def close_due(self) -> float | None:
        """Closes what is old enough; returns the seconds until the next one is, of those that nobody has borrowed."""
        now = self.monotonic()
        for entry in list(self._open.values()):
            if entry.due <= now and not entry.busy:
                self._close(entry.row)
        return min((e.due - now for e in self._open.values() if not e.busy), default=None)

    def close_all(self) -> None:
        for row in self._idle():
            self._close(row)

    def close_largest(self) -> None:
        if idle := self._idle():
            self._close(max(idle, key=lambda row: row.length))

    def finish(self, row: SpooledObject) -> None:
        """It is at its destination, or lost: its row goes with the next commit."""
        self.rows.delete(row.id)
        del self.closed[row.id]
        self.uploaded[row.id] = row

    def abandon(self, row: SpooledObject) -> None:
        """Closed or open, its file is damaged."""
        if not row.closed:
            self._close(row)
        self.finish(row)

    def remove(self, row: SpooledObject) -> None:
        """Its file is no more."""
        del self.uploaded[row.id]
        self.size_bytes -= row.length

    def note_upload(self, row: SpooledObject, upload_id: str | None) -> None:
        row.upload_id = upload_id
        self.rows.put(row.id, row)

    def _idle(self) -> list[SpooledObject]:
        return [entry.row for entry in self._open.values() if not entry.busy]

    def _close(self, row: SpooledObject) -> None:
        del self._open[row.target]
        row.closed = True
        self.closed[row.id] = row
        self.rows.put(row.id, row)

    # -- at the start -------------------------------------------------------------------------------------------

    def restore(self, folder: Path, rows: Mapping[str, bytes]) -> list[SpooledObject]:
        """Takes up what was committed, and returns objects whose file is not whole: they are lost, and not taken up.

        To be called in a thread. Raises OSError and StateError. Files are cut back to their row's length; those without
        a row, whose records nobody has confirmed, are deleted. What is left of a damaged file is set aside.
        """
        self.folder = folder
        make_folder(folder)
        found = {path.name: path for path in folder.iterdir() if path.is_file()}
        lost = []
        for key, encoded in rows.items():
            row = _decode(key, encoded)
            path = found.pop(row.id, None)
            if path is None or path.stat().st_size < row.length:
                lost.append(row)
                self.rows.delete(row.id)
                if path is not None:
                    set_aside(path)
                continue
            with path.open("r+b") as file:
                file.truncate(row.length)
            self._take_up(row)
        for path in found.values():
            path.unlink()
        return lost

    def _take_up(self, row: SpooledObject) -> None:
        self.size_bytes += row.length
        packing = (row.compression, row.parquet)
        if row.closed or packing != (self.compression, self.parquet) or row.target in self._open:
            row.closed = True
            self.closed[row.id] = row
            self.rows.put(row.id, row)
        else:
            # A state that was restored from a backup knows open objects that were uploaded since, with more in them: by
            # a key of its own, this one cannot be taken for them.
            row.key = fill_key(row.target, new_id(row.created))
            self.rows.put(row.id, row)
            left_s = self.max_age_s - (self.clock() - row.created)
            self._open[row.target] = _Open(row, self.monotonic() + min(max(left_s, 0.0), self.max_age_s))


def _decode(key: str, encoded: bytes) -> SpooledObject:
    try:
        return msgspec.json.decode(encoded, type=SpooledObject)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise StateError(f"the state's row of the spooled object {key} cannot be read: {exc}") from exc


def set_aside(path: Path) -> None:
    """Out of the spool, not counted in its limit: for a person to look at."""
    folder = path.parent / DAMAGED_FOLDER
    folder.mkdir(exist_ok=True)
    path.replace(folder / path.name)
    log.error("a damaged spool file was set aside", extra=fields(path=str(folder / path.name)))
