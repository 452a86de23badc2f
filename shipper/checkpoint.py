"""Durable cursors: one SQLite file, one transaction about once a second, fsynced (`synchronous=FULL`).

What stands in it is only ever behind what was confirmed. Rows are JSON, so that a newer version may add members; a
layout that is newer than this one's is refused: an older shipper must not lose what a newer one wrote.
Rows of generations and cursors carry a checksum, since SQLite's pages have none: one that a disk has changed is set
aside at the start, and its file is read again from its head. (A row without one was written by a release before this.)
A file that is corrupt at the start is set aside under a name that is said, and everything is read again from its head.
One that becomes so while the daemon runs only fails its commits: half a state would be worse than an old one.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from shipper.durable import make_folder, sync
from shipper.errors import StateError, StateGone, StateLocked, StateTooNew
from shipper.log import fields

log = logging.getLogger(__name__)

VERSION = 1
FILE = "checkpoints.sqlite"
IDLE_NOTE = "idle"
CACHE_KIB = 512  # of pages in memory: rows are read at the start only, and written mostly in order

_CHECKSUM = re.compile(rb',"crc32":(\d+)\}\Z')
_SCHEMA = f"""
begin immediate;
create table meta (key text primary key, value text not null) without rowid;
create table generations (id integer primary key, data blob not null);
create table cursors (
    generation integer, output text, data blob not null, primary key (generation, output)
) without rowid;
create table rows (output text, key text, data blob not null, primary key (output, key)) without rowid;
insert into meta values ('version', '{VERSION}');
commit;
"""  # noqa: S608  only a constant is put in


class GenerationRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of a log file generation. Paths and inodes are hints; the fingerprint says who it is."""

    id: int
    input: str
    path: str  # where its bytes were last seen
    live_path: str  # without a rotation's suffix
    namespace: str | None = None
    pod: str | None = None
    uid: str | None = None
    container: str | None = None
    restart: int | None = None
    device: int = 0
    inode: int = 0
    fingerprint_bytes: int = 0
    fingerprint: str = ""
    id_base: str = ""
    format: str = ""
    size: int = 0  # bytes seen, decompressed; in the file less where a cursor tells it
    first_seen: str = ""  # RFC 3339
    final: bool = False
    gone_at: float | None = None  # when no file of it was found any more, epoch seconds
    gaps: int = 0  # losses of unknown size
    followed: bool = False  # by a file of the next restart of which nothing was known yet
    seam_over: bool = False  # an unfinished record at its end is not looked for in the next file any more
    left_out_at: float | None = None  # since when no input takes it, though its file may be there


class CursorRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    generation: int
    output: str
    acked: int = 0
    ahead: tuple[tuple[int, int], ...] = ()
    last_time: str = ""
    inside: str = ""
    cut: tuple[str, ...] = ()
    fates: dict[str, int] = {}
    unheard: int = 0  # before it, an earlier run may have delivered what has no fate
    parked_at: float | None = None  # since when its output is not configured, or is not to have this file


Row = TypeVar("Row", GenerationRow, CursorRow)


class Changes(msgspec.Struct):
    """One transaction."""

    generations: list[GenerationRow] = []
    cursors: list[CursorRow] = []
    rows: dict[str, Mapping[str, bytes | None]] = {}
    forgotten: list[int] = []  # generations
    forgotten_cursors: list[tuple[int, str]] = []  # generation, output
    forgotten_outputs: list[str] = []  # all their rows

    def __bool__(self) -> bool:
        forgotten = self.forgotten or self.forgotten_cursors or self.forgotten_outputs
        return bool(self.generations or self.cursors or forgotten or any(self.rows.values()))


class Stored(msgspec.Struct):
    generations: dict[int, GenerationRow]
    cursors: dict[int, dict[str, CursorRow]]
    rows: dict[str, dict[str, bytes]]
    is_first_start: bool


class StateLock:
    """One process at a time works on a state directory; the kernel lets go when the process dies."""

    def __init__(self, state_dir: Path) -> None:
        try:
            make_folder(state_dir, mode=0o750)
            self._fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as exc:
            raise StateError(
                f"the state directory {state_dir} cannot be used: {exc.strerror}; "
                "set service.state_dir to a folder that this user may write to"
            ) from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise StateLocked(
                f"another shipper (process {holder or 'unknown'}) works on {state_dir}; "
                "stop it first, or give this one a service.state_dir of its own"
            ) from exc
        with contextlib.suppress(OSError):  # a full disk: who is first is only said then, not decided
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        os.close(self._fd)


class Checkpoint:
    """Open connection to the state, for whoever holds its lock; thread-safe."""

    def __init__(self, state_dir: Path) -> None:
        """Raises StateError; StateTooNew."""
        self.path = state_dir / FILE
        self._idle_note = state_dir / IDLE_NOTE
        self._mutex = threading.Lock()
        self.committed_at = _last_written(self.path)  # before this process, by time.time(); None: there was none
        self._db, self.is_mended = self._open()  # whether some or all of what an earlier process knew is forgotten
        self._file = _identity(self.path)

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path}>"

    def _open(self) -> tuple[sqlite3.Connection, bool]:
        try:
            return _connect(self.path)
        except _Corrupt as exc:
            self._set_aside(exc)
            return _connect(self.path)[0], True

    def _set_aside(self, exc: Exception) -> None:
        aside = self.path.with_name(f"{FILE}.corrupt-{time.time_ns()}")
        for suffix in ("-wal", "-shm", ""):  # what is not yet in the file itself goes along
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        log.error(
            "the checkpoint file is corrupt and was set aside; all files are read again from their heads",
            extra=fields(path=str(self.path), set_aside_as=str(aside), error=str(exc)),
        )

    def load(self) -> Stored:
        with self._mutex:
            return _read(self._db)

    def rows(self, output: str) -> dict[str, bytes]:
        """What is committed of one output's own rows."""
        with self._mutex:
            return dict(self._db.execute("select key, data from rows where output = ?", (output,)))

    def note_idle(self) -> None:
        """Notes for the next start that all is answered that was ever sent. Where it cannot be written is none."""
        with contextlib.suppress(OSError):
            self._idle_note.touch()
            sync(self._idle_note)
            sync(self._idle_note.parent)

    def take_idle_note(self) -> bool:
        """Takes the note away, which a full disk does not prevent. -> whether it was there, and holds.

        Raises StateError when it stays there, since a kill would make it a lie.
        """
        was_idle = self._idle_note.exists()
        try:
            self._idle_note.unlink(missing_ok=True)
            sync(self._idle_note.parent)
        except OSError as exc:
            raise StateError(f"{self._idle_note} cannot be removed: {exc.strerror}") from exc
        return was_idle and not self.is_mended

    def commit(self, changes: Changes) -> None:
        """Durable when it returns. Raises StateError; then nothing of it is there, and it is to be tried again.

        StateGone: what SQLite has open is no longer what a next start would find. It would go on writing to it.
        """
        with self._mutex:
            if _identity(self.path) != self._file:
                raise StateGone(
                    f"{self.path} was deleted or replaced while shipper ran: nothing is saved any more until it is "
                    "started again; it then begins at the head of every log file, and knows by their ids what is there"
                )
            try:
                with self._db as db:
                    db.execute("insert or ignore into meta values ('started', ?)", (str(time.time()),))
                    db.executemany(  # first: an output may have come back since
                        "delete from cursors where generation = ? and output = ?", changes.forgotten_cursors
                    )
                    db.executemany("delete from rows where output = ?", [(o,) for o in changes.forgotten_outputs])
                    db.executemany(
                        "insert or replace into generations values (?, ?)", _encoded_generations(changes.generations)
                    )
                    db.executemany("insert or replace into cursors values (?, ?, ?)", _encoded_cursors(changes.cursors))
                    for output, rows in changes.rows.items():
                        gone = [(output, key) for key, data in rows.items() if data is None]
                        kept = [(output, key, data) for key, data in rows.items() if data is not None]
                        db.executemany("delete from rows where output = ? and key = ?", gone)
                        db.executemany("insert or replace into rows values (?, ?, ?)", kept)
                    gone_ids = [(i,) for i in changes.forgotten]
                    db.executemany("delete from generations where id = ?", gone_ids)
                    db.executemany("delete from cursors where generation = ?", gone_ids)
            except sqlite3.Error as exc:
                raise StateError(f"the checkpoint cannot be written to {self.path}: {exc}") from exc

    def close(self) -> None:
        with self._mutex:
            self._db.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; no other file can have them while this one is open."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _last_written(path: Path) -> float | None:
    times = []
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            times.append(Path(f"{path}{suffix}").stat().st_mtime)
    return max(times, default=None)


class _Corrupt(Exception):
    """What a file holds makes no sense."""


def _connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """For the owner: begins a file where there is none. -> and whether rows were set aside.

    Raises _Corrupt, StateError.
    """
    with _translated(path):
        db = sqlite3.connect(path, check_same_thread=False, timeout=5)
        try:
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = full")
            db.execute(f"pragma cache_size = -{CACHE_KIB}")
            if not db.execute("select 1 from sqlite_master").fetchone():
                db.executescript(_SCHEMA)
            _check(db, path)
            is_mended = _mend(db, path)
        except BaseException:
            db.close()
            raise
    return db, is_mended


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Looks at the version before anything else: a newer file may hold what only a newer shipper understands."""
    (version,) = db.execute("select value from meta where key = 'version'").fetchone()
    if int(version) > VERSION:
        raise StateTooNew(
            f"{path} was written by a newer shipper (state version {version}, this one knows {VERSION}); "
            "run that version, or begin with an empty service.state_dir"
        )
    (damage,) = db.execute("pragma quick_check(1)").fetchone()
    if damage != "ok":
        raise _Corrupt(damage)


class _Damaged(NamedTuple):
    """A row whose content makes no sense. `key`: its generation, and a cursor's output."""

    table: str
    key: tuple[Any, ...]
    data: Any


def _mend(db: sqlite3.Connection, path: Path) -> bool:
    """Sets damaged rows aside, if there are any. A cursor goes back to its file's head; a file is a new one then."""
    damaged = [
        *_damaged(db, "generations", "id", GenerationRow),
        *_damaged(db, "cursors", "generation, output", CursorRow),
    ]
    if not damaged:
        return False
    aside = path.with_name(f"{FILE}.damaged-rows-{time.time_ns()}")
    aside.write_bytes(b"".join(repr(tuple(row)).encode("ascii", "backslashreplace") + b"\n" for row in damaged))
    with db:
        for row in damaged:
            if row.table == "generations":
                db.execute("delete from cursors where generation = ?", row.key)
                db.execute("delete from generations where id = ?", row.key)
            else:
                head = _encode(CursorRow(generation=row.key[0], output=row.key[1]))
                db.execute("update cursors set data = ? where generation = ? and output = ?", (head, *row.key))
    log.error(
        "rows of the checkpoint are damaged and were set aside; their files are read again from their heads",
        extra=fields(path=str(path), set_aside_as=str(aside), rows=len(damaged)),
    )
    return True


def _damaged(db: sqlite3.Connection, table: str, key: str, type_: type[Row]) -> Iterator[_Damaged]:
    for *values, data in db.execute(f"select {key}, data from {table}"):  # noqa: S608  only constants are put in
        try:
            _decode(data, type_)
        except (_Corrupt, msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            yield _Damaged(table, tuple(values), data)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise StateError(f"{path} cannot be opened: {exc}; is the disk full, or read-only?") from exc
    except (sqlite3.DatabaseError, msgspec.MsgspecError, ValueError, TypeError, RecursionError) as exc:
        raise _Corrupt(str(exc)) from exc


def _encode(row: GenerationRow | CursorRow) -> bytes:
    """JSON, whose last member is the checksum of all before it.

    Names of files are any bytes: what is no UTF-8 in them is a lone surrogate, which msgspec does not take.
    """
    try:
        plain = msgspec.json.encode(row)
    except UnicodeEncodeError:
        plain = json.dumps(msgspec.to_builtins(row)).encode()
    return b'%b,"crc32":%d}' % (plain[:-1], zlib.crc32(plain))


def _decode(data: bytes, type_: type[Row]) -> Row:
    """Raises _Corrupt, and what msgspec and json raise."""
    checksum = _CHECKSUM.search(data)
    if checksum is not None and zlib.crc32(data[: checksum.start()] + b"}") != int(checksum[1]):
        raise _Corrupt("the checksum of a row is wrong")
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(data), type_)


def _read(db: sqlite3.Connection) -> Stored:
    generations = [_decode(data, GenerationRow) for (data,) in db.execute("select data from generations")]
    cursors: dict[int, dict[str, CursorRow]] = {}
    for (data,) in db.execute("select data from cursors"):
        row = _decode(data, CursorRow)
        cursors.setdefault(row.generation, {})[row.output] = row
    for generation in generations:
        generation.size = max(generation.size, _told_size(cursors.get(generation.id, {}).values()))
    rows: dict[str, dict[str, bytes]] = {}
    for output, key, data in db.execute("select output, key, data from rows"):
        rows.setdefault(output, {})[key] = data
    started = db.execute("select value from meta where key = 'started'").fetchone()
    return Stored({g.id: g for g in generations}, cursors, rows, is_first_start=started is None)


def _told_size(cursors: Iterable[CursorRow]) -> int:
    """What is confirmed is there: a size that cursors tell is not written beside them."""
    return max((max(c.acked, *(end for _, end in c.ahead), 0) for c in cursors), default=0)


def _encoded_generations(rows: Iterable[GenerationRow]) -> Iterable[tuple[Any, ...]]:
    return ((row.id, _encode(row)) for row in rows)


def _encoded_cursors(rows: Iterable[CursorRow]) -> Iterable[tuple[Any, ...]]:
    return ((row.generation, row.output, _encode(row)) for row in rows)


def read_beside(state_dir: Path) -> Stored:
    """For commands: what is committed, read beside a running daemon; nothing is mended. Raises StateError."""
    path = state_dir / FILE
    if not path.exists():
        raise StateError(f"there is no state in {state_dir}: no shipper has run with it yet")
    try:
        with (
            _translated(path),
            contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db,
        ):
            _check(db, path)
            return _read(db)
    except _Corrupt as exc:
        raise StateError(f"{path} is corrupt ({exc}); the daemon sets it aside at its next start") from exc
