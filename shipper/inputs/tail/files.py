"""Open log files, plain or gzipped, read by decompressed offset.

Everything here blocks: call it in a thread, or for bytes that were just written.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import Protocol

from isal import isal_zlib

GZIP_STEP_BYTES = 1 << 18
RAW_STEP_BYTES = 1 << 15  # compressed; what stands before damage in one such step is lost with it
MEMBER_WORK_BYTES = 1 << 10  # what one more member costs, in bytes of the same cost
PART_BYTES = 1 << 24  # of the way to a far place, in one go: some 30 ms
MOST_PLACES = 8  # at which one gzipped file is read at once
GZIP_WINDOW = 31  # zlib's word for: a gzip header, and any window
GZIP_MAGIC = b"\x1f\x8b"
_NO_ATIME = getattr(os, "O_NOATIME", 0)  # Linux has it


class NotRegular(OSError):
    """A directory, FIFO, socket or device where a log file was expected."""


class Elsewhere(OSError):
    """A folder on the way to it is a link by now."""


class OpenFile(Protocol):
    device: int
    inode: int
    is_gzip: bool

    @property
    def measurement(self) -> "Measurement | None":
        """Where its size has to be found out."""

    def size(self) -> int:
        """Decompressed bytes known to be there."""

    def prepare(self, offset: int, length: int) -> bool:
        """Goes a bounded part of the way to these bytes; whether a `read` of them takes no longer than others."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""

    def release(self, offset: int, upto: int) -> None:
        """What was read at `offset` is needed again from `upto` on only."""

    def links(self) -> int:
        """0 when the file was deleted."""

    def close(self) -> None: ...


class PlainFile:
    __slots__ = ("device", "fd", "inode")

    is_gzip = False
    measurement = None

    def __init__(self, fd: int, info: os.stat_result) -> None:
        self.fd = fd
        self.device, self.inode = info.st_dev, info.st_ino

    def size(self) -> int:
        return os.lseek(self.fd, 0, os.SEEK_END)  # a third of what fstat costs; reads say where they begin

    def links(self) -> int:
        return os.fstat(self.fd).st_nlink

    def prepare(self, offset: int, length: int) -> bool:  # noqa: ARG002
        return True

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def release(self, offset: int, upto: int) -> None: ...

    def close(self) -> None:
        os.close(self.fd)


class GzipFile:
    """Read forwards, from as many places as there are outputs that have drifted apart; to go back, from its head again.

    A truncated or damaged end is an end.
    """

    is_gzip = True

    def __init__(self, fd: int, info: os.stat_result) -> None:
        self.device, self.inode = info.st_dev, info.st_ino
        self._fd = fd
        self._places: list[_Inflated] = []  # the least recently used first
        self.measurement = Measurement(fd)

    def size(self) -> int:
        """As far as it was measured."""
        return self.measurement.size

    def links(self) -> int:
        return os.fstat(self._fd).st_nlink

    def prepare(self, offset: int, length: int) -> bool:
        return self._place_for(offset).gather(offset, offset + length)

    def read(self, offset: int, length: int) -> bytes:
        place = self._place_for(offset)
        while not place.gather(offset, offset + length):
            pass
        return place.kept(offset, offset + length)

    def release(self, offset: int, upto: int) -> None:
        for place in self._places:
            if place.begin <= offset <= place.at:
                place.drop(upto)

    def _place_for(self, offset: int) -> "_Inflated":
        place = max((p for p in self._places if p.begin <= offset), key=lambda p: p.at, default=None)
        if place is None:
            place = _Inflated(self._fd)
            del self._places[: max(0, len(self._places) + 1 - MOST_PLACES)]
        else:
            self._places.remove(place)
        self._places.append(place)
        return place

    def close(self) -> None:
        """The measurement may go on."""
        os.close(self._fd)


class Measurement:
    """How long a gzipped file is, decompressed: found out by reading it, a part at a time.

    Its trailer would do for one member only, and only below 4 GiB. It has a descriptor of its own, so that the file may
    be closed meanwhile, and closes it when it is complete.
    """

    def __init__(self, fd: int) -> None:
        self._fd: int | None = os.dup(fd)
        self._inflated = _Inflated(self._fd)

    @property
    def size(self) -> int:
        return self._inflated.at

    @property
    def is_complete(self) -> bool:
        return self._inflated.is_at_end

    @property
    def is_over(self) -> bool:
        """Complete, or not needed."""
        return self._fd is None

    def go_on(self) -> None:
        """One part more. It blocks for some 30 ms; raises OSError."""
        if self._fd is not None:
            self._inflated.gather(sys.maxsize, sys.maxsize)
        if self.is_complete:
            self.close()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None


class _Inflated:
    """A gzipped file from its head up to `at`, decompressed; what was gathered last is kept, from `begin` on.

    With isal's decompressor itself, since its file object drops what it has read before an error.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.at = 0
        self.is_at_end = False
        self._kept = bytearray()
        self._raw_at = 0
        self._raw = b""  # read, but not decompressed yet
        self._member = isal_zlib.decompressobj(GZIP_WINDOW)

    @property
    def begin(self) -> int:
        return self.at - len(self._kept)

    def gather(self, offset: int, end: int) -> bool:
        """Goes on to `end`, or a part of the way; keeps what stands behind `offset`. -> whether it is there."""
        self.drop(offset)
        work = 0
        while self.at < end and not self.is_at_end and work < PART_BYTES:
            raw_at, is_wanted = self._raw_at, self.at >= offset
            data = self._step(min(GZIP_STEP_BYTES, (end if is_wanted else offset) - self.at))
            work += max(len(data), self._raw_at - raw_at, MEMBER_WORK_BYTES)
            self.at += len(data)
            if is_wanted:
                self._kept += data
        return self.at >= end or self.is_at_end

    def kept(self, offset: int, end: int) -> bytes:
        return bytes(self._kept[max(0, offset - self.begin) : max(0, end - self.begin)])

    def drop(self, upto: int) -> None:
        del self._kept[: max(0, upto - self.begin)]

    def _step(self, most: int) -> bytes:
        """The next bytes, at most so many; none at the end, and where a step through the file itself gives none."""
        if not self._raw:
            self._raw = self._read_raw()
        has_raw = bool(self._raw)
        try:
            data: bytes = self._member.decompress(self._raw, most)
        except isal_zlib.error:  # type: ignore[misc]  # the stub has an instance in its place
            self._end()
            return b""
        self._raw = self._member.unconsumed_tail
        if self._member.eof:
            self._next_member()
        elif not data and not has_raw:
            self._end()
        return data

    def _read_raw(self) -> bytes:
        raw = os.pread(self._fd, RAW_STEP_BYTES, self._raw_at)
        self._raw_at += len(raw)
        return raw

    def _next_member(self) -> None:
        """A gzip file may hold several (RFC 1952, section 2.2); what is no member, such as zeros, is not ours."""
        rest = self._member.unused_data
        if len(rest) < len(GZIP_MAGIC):
            rest += self._read_raw()
        if rest.startswith(GZIP_MAGIC):
            self._raw, self._member = rest, isal_zlib.decompressobj(GZIP_WINDOW)
        else:
            self._end()

    def _end(self) -> None:
        self._raw, self.is_at_end = b"", True


def anywhere(_path: str) -> bool:
    return True


def open_file(path: str, *, is_gzip: bool, may_read: Callable[[str], bool] = anywhere) -> PlainFile | GzipFile:
    """Raises OSError; NotRegular for what is no regular file (a FIFO never blocks this), ELOOP for a link: whoever may
    follow one has resolved it before, so that nobody can put another in its place meanwhile. `may_read` is asked for
    the place where the kernel has opened it, since a folder above it can become a link just as well.
    """
    fd = _open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise NotRegular(0, "is not a regular file", path)  # noqa: TRY301
        if not may_read(os.readlink(f"/proc/self/fd/{fd}")):  # noqa: PTH115
            raise Elsewhere(0, "leads out of the input's folders", path)  # noqa: TRY301
        return GzipFile(fd, info) if is_gzip else PlainFile(fd, info)
    except BaseException:
        os.close(fd)
        raise


def _open(path: str, flags: int) -> int:
    """Reads leave no trace, where the file is ours (open(2), O_NOATIME): else the first one after each write would note
    its time in the inode, which is to be written to the disk then.
    """
    try:
        return os.open(path, flags | _NO_ATIME)
    except PermissionError as exc:
        if exc.errno != errno.EPERM:
            raise
        return os.open(path, flags)
