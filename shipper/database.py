"""A SQLite file that keeps its promises: durable when a write returns, and every failure is a sentence.

WAL with synchronous=FULL: each commit is fsynced (https://sqlite.org/pragma.html#pragma_synchronous), readers in other
processes do not wait. Everything here blocks: call it in a thread.
"""

import contextlib
import datetime as dt
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from shipper.errors import StateError, StateTooNew
from shipper.log import fields

log = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0  # how long a transaction may wait for another process's
SENTENCES = {
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_READONLY: "cannot be written: it is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk fails",
    sqlite3.SQLITE_BUSY: "is kept locked by another process",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is damaged",
}


class Database:
    """One open file. Thread-safe; each method raises StateError when the file cannot be used.

    `schema` is run once, in a new file; `version` is of that layout: a newer file is refused, never overwritten. With
    `mend`, which only the one owner of a file may ask for, a damaged file is set aside under a name that is logged, and
    one that was deleted under us is begun anew.
    """

    def __init__(self, path: Path | None, *, schema: str, version: int, mend: bool) -> None:
        """`path` None: in memory."""
        self._path = path
        self._schema = schema
        self._version = version
        self._mend = mend
        self._lock = threading.Lock()
        with self._translated():
            try:
                self._open()
            except sqlite3.DatabaseError as exc:
                self._begin_anew(exc)

    def __repr__(self) -> str:
        return f"<Database {self._path}>"

    def read(self, query: str, *values: Any) -> list[Any]:
        with self._lock, self._translated():
            return self._db.execute(query, values).fetchall()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Calls `work` in a transaction, a second time when the file had to be begun anew. Durable when it returns."""
        with self._lock, self._translated():
            if self._mend and _identity(self._path) != self._file:
                self._db.close()
                self._open()
            try:
                return _in_transaction(self._db, work)
            except sqlite3.DatabaseError as exc:
                self._begin_anew(exc)
                return _in_transaction(self._db, work)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _open(self) -> None:
        self._db = _connect(self._path, schema=self._schema, version=self._version)
        self._file = _identity(self._path)

    def _begin_anew(self, exc: sqlite3.DatabaseError) -> None:
        if not (self._mend and self._path and _code(exc) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)):
            raise exc
        with contextlib.suppress(AttributeError):  # when it could not even be opened
            self._db.close()
        aside = f"{self._path}.damaged-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%f}"
        for suffix in ("-wal", "-shm", ""):  # what is not yet in the file itself goes along
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        log.error("a file of the state is damaged and was set aside", extra=fields(path=aside, error=str(exc)))
        self._open()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StateError(f"{self._path} {SENTENCES.get(_code(exc), 'cannot be used')} ({exc})") from exc
        except OSError as exc:
            raise StateError(f"{self._path} cannot be used ({exc.strerror})") from exc


def _connect(path: Path | None, *, schema: str, version: int) -> sqlite3.Connection:
    if path is not None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite itself would make it readable for all
    db = sqlite3.connect(path or ":memory:", timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    db.text_factory = partial(str, encoding="utf-8", errors="replace")  # a damaged file may hold any bytes
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        _check_layout(db, path, schema=schema, version=version)
    except UnicodeDecodeError as exc:  # SQLite quotes what it finds damaged
        db.close()
        raise _corrupt(str(exc)) from exc
    except BaseException:
        db.close()
        raise
    return db


def _check_layout(db: sqlite3.Connection, path: Path | None, *, schema: str, version: int) -> None:
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > version:
        raise StateTooNew(f"{path} was written by a newer version of shipper (its layout is {found}, ours {version})")
    if found == 0:
        db.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT;")
    (damage,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if damage != "ok":
        raise _corrupt(damage)


def _corrupt(damage: str) -> sqlite3.DatabaseError:
    exc = sqlite3.DatabaseError(damage)
    exc.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return exc


def _in_transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite ends it by itself after some errors
            db.execute("ROLLBACK")
        raise
    return result


def _code(exc: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where an error is the Python module's own."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Device and inode; while we hold a file open, no other one can have the same."""
    try:
        stat = path.stat() if path else None
    except FileNotFoundError:
        return None
    return (stat.st_dev, stat.st_ino) if stat else None
