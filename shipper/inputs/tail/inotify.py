"""Linux's inotify(7) over a folder, or over all folders below it: which paths have changed.

The kernel is called directly: one descriptor that the event loop waits for, no thread, and nothing that wakes up while
nothing is written.
"""

import ctypes
import enum
import errno
import os
import struct
from collections.abc import Iterable
from sys import intern
from typing import NamedTuple

READ_BYTES = 1 << 16
MOST_RENAMED = 64  # the two halves of a renaming mostly follow each other
_EVENT = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, bytes of the name behind it
_SIZE, _SIZE_AT = struct.Struct("I"), 12  # of these, the last

# <linux/inotify.h>
_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x4000, 0x8000
_ONLYDIR, _IS_DIR = 0x01000000, 0x40000000
_WANTED = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR

_WENT_AWAY = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_NOT_OURS = frozenset((errno.EACCES, errno.EPERM))


class Change(enum.IntEnum):  # an int, since sets of thousands of these are made and the hash of one is C
    added = 1
    modified = 2
    deleted = 3
    begun = 4  # told beside `modified`: a file that is new under the watch holds something now


class Event(NamedTuple):
    watch: int
    mask: int
    name: str
    cookie: int = 0  # what both halves of a renaming have in common


Batch = set[tuple[Change, str]]


def split_events(data: bytes) -> list[bytes]:
    events, at, size_of = list[bytes](), 0, _SIZE.unpack_from
    while at < len(data):
        begin = at
        at += _EVENT.size + size_of(data, at + _SIZE_AT)[0]
        events.append(data[begin:at])
    return events


def parse_event(raw: bytes) -> Event:
    watch, mask, cookie, _ = _EVENT.unpack_from(raw)
    return Event(watch, mask, os.fsdecode(raw[_EVENT.size :].rstrip(b"\0")), cookie)


class Inotify:
    """Watches `root`, and with `recursive` all folders below it, new ones too.

    Raises OSError where the system has no more instances or watches, or no inotify at all; FileNotFoundError when
    `root` is not there. A folder that may not be read is left out.
    """

    def __init__(self, root: str, *, recursive: bool) -> None:
        self.root = root
        self._recursive = recursive
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folders: dict[int, str] = {}  # by watch
        self._watches: dict[str, int] = {}
        self._lines: dict[bytes, tuple[Change, str]] = {}  # what events mean that tell of another line in a file
        self._empty: set[str] = set()  # files that came while they were watched, and hold nothing yet
        self._renamed: dict[int, bool] = {}  # cookie -> whether that was one of them: its new name comes next
        self._fd = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Inotify of {self.root}: {len(self._folders)} folders>"

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def _begin(self) -> None:
        self._add(self.root)
        if self.root not in self._watches:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.root)

    def read(self) -> Batch:
        """What has happened since the last call; does not wait."""
        batch: Batch = set()
        while True:
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return batch
            meant = self._lines.get
            for raw in split_events(data):
                told = meant(raw)
                if told is None:
                    self._take(raw, batch)
                else:
                    batch.add(told)

    def _take(self, raw: bytes, batch: Batch) -> None:
        """A line more in a file that had some is told in the same bytes each time, until any other thing happens."""
        event = parse_event(raw)
        if event.mask != _MODIFY:
            self._lines.clear()
        if event.mask & _OVERFLOW:  # events were lost: what they told of is found by looking at everything
            self._add(self.root)
            batch.add((Change.added, self.root))
            return
        folder = self._folders.get(event.watch)
        if folder is None:
            return
        if event.mask & (_DELETE_SELF | _MOVE_SELF | _IGNORED):
            self._end(event, folder, batch)
            return
        path = f"{folder}/{event.name}" if event.name else folder
        if event.mask & (_CREATE | _MOVED_TO):
            batch.add((Change.added, path))
            if event.mask & _IS_DIR and self._recursive:
                batch.update((Change.added, below) for below in self._add(path))
        elif event.mask & (_DELETE | _MOVED_FROM):
            batch.add((Change.deleted, path))
            if event.mask & _IS_DIR:
                self._leave(path)
        else:
            batch.add((Change.modified, path))
            if event.mask == _MODIFY and path not in self._empty:
                self._lines[raw] = Change.modified, path
        if not event.mask & _IS_DIR:
            self._follow(event, path, batch)

    def _follow(self, event: Event, path: str, batch: Batch) -> None:
        """From a file's coming to its first bytes, under whatever name."""
        if event.mask & _MOVED_TO and not self._renamed.pop(event.cookie, True):
            return
        if event.mask & (_CREATE | _MOVED_TO):
            self._empty.add(path)
        elif event.mask & (_DELETE | _MOVED_FROM):
            if event.mask & _MOVED_FROM:
                self._renamed[event.cookie] = path in self._empty
                while len(self._renamed) > MOST_RENAMED:  # of what left the watched folders no more is told
                    del self._renamed[next(iter(self._renamed))]
            self._empty.discard(path)
        elif event.mask & _MODIFY and path in self._empty:
            self._empty.discard(path)
            batch.add((Change.begun, path))

    def _end(self, event: Event, folder: str, batch: Batch) -> None:
        """The folder itself has gone; that is news for the root only: its parent tells of all others."""
        if folder == self.root:
            batch.add((Change.deleted, folder))
        if event.mask & _IGNORED:
            self._forget(event.watch)

    def _add(self, folder: str) -> Iterable[str]:
        """Watches it, then all below it. -> folders that were found there: they came before the watch stood."""
        new, waiting = [], [folder]
        while waiting:
            path = waiting.pop()
            if not self._watch(path) or not self._recursive:
                continue
            below = _subfolders(path)
            new += below
            waiting += below
        return new

    def _watch(self, folder: str) -> bool:
        """-> whether what lies below is to be looked at: a link may lead to a folder that is watched already."""
        try:
            watch = self._call("inotify_add_watch", self._fd, os.fsencode(folder), _WANTED)
        except OSError as exc:
            if exc.errno in _WENT_AWAY or (exc.errno in _NOT_OURS and folder != self.root):
                return False
            raise
        before = self._folders.setdefault(watch, intern(folder))
        self._watches[before] = watch
        return before == folder

    def _leave(self, folder: str) -> None:
        """It has another name now, or is gone: under its old one nothing will happen."""
        self._empty = {path for path in self._empty if not path.startswith(f"{folder}/")}
        for path in [path for path in self._watches if path == folder or path.startswith(f"{folder}/")]:
            watch = self._watches[path]
            self._libc.inotify_rm_watch(self._fd, watch)
            self._forget(watch)

    def _forget(self, watch: int) -> None:
        self._watches.pop(self._folders.pop(watch, ""), None)

    def _call(self, name: str, *arguments: int | bytes) -> int:
        function = getattr(self._libc, name, None)  # there is none where the system is not Linux
        result = -1 if function is None else function(*arguments)
        if result < 0:
            code = errno.ENOSYS if function is None else ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return int(result)


def _subfolders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except OSError:
        return []
