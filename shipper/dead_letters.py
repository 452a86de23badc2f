"""Dead letters: rejected records, kept on disk with the reason, so that a person can look at them and send them again.

They have a file of their own, `<state_dir>/dead-letters.sqlite`, which commands open beside the running daemon.
The file is bounded: what was replayed goes first, then the oldest, which is lost, and said so.
"""

import datetime as dt
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from shipper.database import Database
from shipper.log import fields

log = logging.getLogger(__name__)

FILE_NAME = "dead-letters.sqlite"
VERSION = 1  # of the file's layout; a newer one is refused, never overwritten
OVERHEAD_BYTES = 512  # of a row beside its document and detail: the other columns, keys of indexes, page headers


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that an output's destination will not take, with all that is needed to find and to resend it."""

    id: int = 0  # given by the store
    time: float  # of the rejection, seconds since the epoch
    output: str
    reason: str  # short, for grouping: document_parsing_exception
    detail: str = ""  # the destination's own words
    target: str  # index, key or path that it was for
    namespace: str | None = None  # this and the next two: None for a file that is not a container's
    pod: str | None = None
    container: str | None = None
    path: str  # of the live log file
    generation: int  # row id of the file generation in the state
    begin: int  # offsets of the record in it, decompressed
    end: int
    source_bytes: int  # what it took in the log file: the ledger's measure
    document: bytes  # its line, without action line and newline
    document_id: str | None = None
    replayed: float | None = None  # when it was sent again and taken, seconds since the epoch


class Evicted(NamedTuple):
    """Dead letters given up for newer ones: lost, as the ledger counts it."""

    output: str
    generation: int
    source_bytes: int
    records: int


class Group(NamedTuple):
    """Dead letters of one output and reason. `replayed` of the `records` were delivered since."""

    output: str
    reason: str
    records: int
    replayed: int
    source_bytes: int
    first: float  # times of rejection, seconds since the epoch
    last: float


COLUMNS = ", ".join(f'"{name}"' for name in DeadLetter.__struct_fields__)
STORED = [name for name in DeadLetter.__struct_fields__ if name != "id"]
# A file that a crash took from the state before it was committed gets another row id: a document's id tells more. Row
# ids begin anew when a corrupt state was set aside; path and document id keep such records apart.
SAME_RECORD = """output, iif(document_id IS NULL, generation, 0), "begin", "end", path, ifnull(document_id, '')"""
SCHEMA = f"""
    CREATE TABLE letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        output TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        target TEXT NOT NULL,
        namespace TEXT,
        pod TEXT,
        container TEXT,
        path TEXT NOT NULL,
        generation INTEGER NOT NULL,
        "begin" INTEGER NOT NULL,
        "end" INTEGER NOT NULL,
        source_bytes INTEGER NOT NULL,
        document BLOB NOT NULL,
        document_id TEXT,
        replayed REAL,
        size INTEGER AS (length(document) + length(CAST(detail AS BLOB)) + {OVERHEAD_BYTES}) STORED
    );
    CREATE UNIQUE INDEX same_record ON letters ({SAME_RECORD});
    CREATE INDEX already_replayed ON letters (id) WHERE replayed IS NOT NULL;
    CREATE TABLE total (bytes INTEGER NOT NULL);
    INSERT INTO total VALUES (0);
    CREATE TRIGGER grow AFTER INSERT ON letters BEGIN UPDATE total SET bytes = bytes + new.size; END;
    CREATE TRIGGER change AFTER UPDATE ON letters BEGIN UPDATE total SET bytes = bytes + new.size - old.size; END;
    CREATE TRIGGER shrink AFTER DELETE ON letters BEGIN UPDATE total SET bytes = bytes - old.size; END;
"""  # noqa: S608  only constants are put in
QUOTED = ", ".join(f'"{name}"' for name in STORED)
VALUES = ", ".join(f":{name}" for name in STORED)
CHANGES = ", ".join(f'"{name}" = excluded."{name}"' for name in STORED)
INSERT = f"INSERT INTO letters ({QUOTED}) VALUES ({VALUES}) ON CONFLICT ({SAME_RECORD}) DO UPDATE SET {CHANGES}"  # noqa: S608
OLDEST = "SELECT id, size, output, generation, source_bytes, replayed FROM letters WHERE replayed IS {} ORDER BY id"


class DeadLetters:
    """The store. Every method blocks (call them in a thread), and raises StateError when the file cannot be used.

    Thread-safe, and safe beside other processes. What a method changed is durable when it returns.
    """

    def __init__(self, db: Database, *, max_bytes: int) -> None:
        """Use `open` or `open_beside`."""
        self._db = db
        self.max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"<DeadLetters {self._db}>"

    @classmethod
    def open(cls, state_dir: str | os.PathLike[str], max_bytes: int) -> Self:
        """For the daemon: begins a file where there is none, and sets a damaged one aside. `state_dir` exists."""
        return cls(
            Database(Path(state_dir) / FILE_NAME, schema=SCHEMA, version=VERSION, mend=True), max_bytes=max_bytes
        )

    @classmethod
    def open_beside(cls, state_dir: str | os.PathLike[str]) -> Self:
        """For commands, with the daemon running or not: empty where there is no file. They add nothing."""
        path = Path(state_dir) / FILE_NAME
        existing = path if path.exists() else None
        return cls(Database(existing, schema=SCHEMA, version=VERSION, mend=False), max_bytes=0)

    def close(self) -> None:
        self._db.close()

    def add(self, letters: Iterable[DeadLetter]) -> list[Evicted]:
        """A record that is there already, by output and place in its file, is replaced, and waits for replay again."""
        rows = [{name: _storable(getattr(letter, name)) for name in STORED} for letter in letters]

        def insert(db: sqlite3.Connection) -> list[Evicted]:
            db.executemany(INSERT, rows)
            (total,) = db.execute("SELECT bytes FROM total").fetchone()
            return _evict(db, total - self.max_bytes)

        evicted = self._db.write(insert)
        for lost in evicted:
            log.error(
                "dead letters were given up for newer ones: replay or remove some, or raise dead_letters.max_bytes",
                extra=fields(output=lost.output, records=lost.records, source_bytes=lost.source_bytes),
            )
        return evicted

    def select(
        self,
        *,
        output: str | None = None,
        reason: str | None = None,
        namespace: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: int = 0,
        limit: int = 100,
        replayed: bool = False,
    ) -> list[DeadLetter]:
        """Up to `limit` in the order of their ids, beginning `after` an id, so that all can be read in pages.

        Times of rejection are seconds since the epoch, `since` <= time < `until`. `replayed`: the replayed ones too.
        """
        asked = {
            "id > ?": after,
            "output = ?": output,
            "reason = ?": reason,
            "namespace = ?": namespace,
            "time >= ?": since,
            "time < ?": until,
        }
        given = {condition: value for condition, value in asked.items() if value is not None}
        where = " AND ".join([*given, "replayed IS NULL"] if not replayed else given)
        return self._read(f"{where} ORDER BY id LIMIT ?", *given.values(), limit)

    def get(self, letter_id: int) -> DeadLetter | None:
        return next(iter(self._read("id = ?", letter_id)), None)

    def summary(self) -> list[Group]:
        rows = self._db.read(
            "SELECT output, reason, count(*), count(replayed), sum(source_bytes), min(time), max(time) FROM letters"
            " GROUP BY output, reason ORDER BY output, count(*) DESC"
        )
        return [Group(*row) for row in rows]

    def remove(self, ids: Iterable[int]) -> None:
        self._db.write(lambda db: db.executemany("DELETE FROM letters WHERE id = ?", [(one,) for one in ids]))

    def mark_replayed(self, ids: Iterable[int]) -> None:
        """They were sent again and taken: kept to be looked at, until room is needed."""
        rows = [(time.time(), one) for one in ids]
        self._db.write(lambda db: db.executemany("UPDATE letters SET replayed = ? WHERE id = ?", rows))

    def _read(self, where: str, *values: Any) -> list[DeadLetter]:
        rows = self._db.read(f"SELECT {COLUMNS} FROM letters WHERE {where}", *values)  # noqa: S608  no value is in it
        return [DeadLetter(**dict(zip(DeadLetter.__struct_fields__, row, strict=True))) for row in rows]


def _storable(value: Any) -> Any:
    """File names and servers' words may hold lone surrogates, which SQLite does not take."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _evict(db: sqlite3.Connection, excess: int) -> list[Evicted]:
    """Deletes rows of at least `excess` bytes; the result tells of those that were not replayed."""
    ids: list[tuple[int]] = []
    lost: dict[tuple[str, int], tuple[int, int]] = {}
    for query in (OLDEST.format("NOT NULL"), OLDEST.format("NULL")):
        for row_id, size, output, generation, source_bytes, replayed in db.execute(query):
            if excess <= 0:
                break
            excess -= size
            ids.append((row_id,))
            if replayed is None:
                lost_bytes, records = lost.get((output, generation), (0, 0))
                lost[output, generation] = (lost_bytes + source_bytes, records + 1)
    db.executemany("DELETE FROM letters WHERE id = ?", ids)
    return [Evicted(*key, *amounts) for key, amounts in lost.items()]


def list_text(letters: list[DeadLetter], groups: list[Group]) -> str:
    """What `shipper dead-letters list` prints: the letters as a table, then how many there are of each reason."""
    if not groups:
        return "there are no dead letters"
    rows = [("ID", "TIME", "OUTPUT", "REASON", "FROM", "DETAIL")]
    for one in letters:
        source = f"{one.namespace}/{one.pod}/{one.container}" if one.container is not None else one.path
        rows.append((str(one.id), _time(one.time), one.output, one.reason, source, _clip(one.detail, 60)))
    counts = [("OUTPUT", "REASON", "RECORDS", "REPLAYED", "FIRST", "LAST")]
    for group in groups:
        numbers = (str(group.records), str(group.replayed))
        counts.append((group.output, group.reason, *numbers, _time(group.first), _time(group.last)))
    return _table(rows) + "\n\n" + _table(counts)


def show_text(letter: DeadLetter) -> str:
    """What `shipper dead-letters show` prints: why, from where, and the document with its values as they are."""
    about = {
        "dead letter": str(letter.id),
        "rejected": _time(letter.time),
        "replayed": _time(letter.replayed) if letter.replayed is not None else "no",
        "output": f"{letter.output} -> {letter.target}",
        "reason": letter.reason,
        "detail": letter.detail or "none was given",
        "source": f"{letter.path} bytes {letter.begin} to {letter.end}",
        "document id": letter.document_id or "none",
    }
    try:
        document = msgspec.json.format(letter.document, indent=2).decode(errors="replace")
    except (msgspec.DecodeError, RecursionError):  # no JSON, or deeper than can be laid out
        document = letter.document.decode(errors="replace")
    lines = [f"{name + ':':<13}{printable(value)}" for name, value in about.items()]
    return "\n".join([*lines, "", *(printable(line) for line in document.split("\n"))])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in shown)


def printable(text: str) -> str:
    """What applications and servers wrote must not steer the terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
