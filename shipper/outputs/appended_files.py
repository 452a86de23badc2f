"""Files that outputs append to, and the durable rows that say how much of each file counts.

A row (path, length and what else an output notes) is committed together with the cursors; bytes behind a committed
length were never confirmed, and are cut off after a crash. So a record is in a file exactly when its cursor has passed.

Files are opened for each append, which costs some ten microseconds and leaves no descriptor to run out of or to outlive
a rename. All appends of one output go through one thread, in order (`FileThread`), and say at which offset they begin:
a send that was cancelled may still write, but what it writes is overwritten by the next.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from shipper.durable import sync
from shipper.errors import Disconnected, ShipperError, StateError
from shipper.log import fields

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class FileDamaged(ShipperError):
    """A file has gone, or has lost bytes that were written to it: somebody else had their hands on it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the file {path} has gone or has become shorter than what was written to it")
        self.path = path


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Makes the file end in `data` at `offset` (bytes); what lies behind is cut off first.

    Creates no file, and fills no hole: FileDamaged. OSError when the disk refuses.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise FileDamaged(path) from exc
    try:
        if os.fstat(descriptor).st_size < offset:
            raise FileDamaged(path)
        os.ftruncate(descriptor, offset)
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            offset += written
            view = view[written:]
    finally:
        os.close(descriptor)


def create(path: Path) -> os.stat_result:
    """Makes an empty file if there is none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def sync_files(paths: Iterable[Path]) -> None:
    """Forces files and the folders that they are in to the disk. A file that somebody has deleted is passed over."""
    folders = set()
    for path in paths:
        try:
            sync(path)
            folders.add(path.parent)
        except FileNotFoundError:
            log.warning("a file was deleted while it was written to", extra=fields(path=str(path)))
    for folder in folders:
        sync(folder)


class FileRows:
    """The `Durable` of an output that writes files: changed rows, encoded when asked for, and files not yet on disk."""

    def __init__(self) -> None:
        self._changed: dict[str, msgspec.Struct | None] = {}
        self._dirty: set[Path] = set()
        self._promised: set[Path] = set()
        self._failed: str | None = None

    def put(self, key: str, row: msgspec.Struct, path: Path | None = None) -> None:
        """`row` may change until the commit takes it; `path` is the file that must be on disk for it."""
        self._changed[key] = row
        if path is not None:
            self._dirty.add(path)

    def delete(self, key: str) -> None:
        self._changed[key] = None

    def changes(self) -> Mapping[str, bytes | None]:
        changed, self._changed = self._changed, {}
        self._promised |= self._dirty
        self._dirty = set()
        return {key: None if row is None else msgspec.json.encode(row) for key, row in changed.items()}

    def sync(self) -> None:
        """Raises StateError when the disk fails, and from then on: the kernel drops what it could not write, so that a
        second fsync would succeed without it. After a restart the log files are read again from what was committed.
        """
        promised, self._promised = self._promised, set()
        if self._failed is None:
            try:
                sync_files(promised)
            except OSError as exc:
                self._failed = str(exc)
        if self._failed is not None:
            raise StateError(
                f"the disk failed to keep files of an output ({self._failed}); start again once it is mended"
            )


class FileThread:
    """One thread, in which an output's file work is done in the order in which it was asked for."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"files of {name}")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Cancelling the caller does not stop what has begun; what is asked for next comes after it."""
        return await asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))

    async def close(self) -> None:
        """Waits for what has begun."""
        await asyncio.to_thread(self._executor.shutdown)


@contextmanager
def refused_by_disk() -> Iterator[None]:
    """A disk that is full or read-only is a reason to wait and try again, not a bug."""
    try:
        yield
    except OSError as exc:
        sentence = f"cannot write {exc.filename or 'a file'}: {exc.strerror}"
        raise Disconnected(sentence, reason="disk", ambiguous=False) from exc
