"""The SQLite files of the state: durable, and clear about everything that can be wrong with a disk."""

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shipper.database import Database
from shipper.errors import StateError, StateTooNew

SCHEMA = "CREATE TABLE words (word TEXT)"


def open_words(path: Path, *, version: int = 1, mend: bool = True) -> Database:
    return Database(path, schema=SCHEMA, version=version, mend=mend)


def put(db: Database, word: str) -> None:
    db.write(lambda connection: connection.execute("INSERT INTO words VALUES (?)", (word,)))


def words(db: Database) -> list[str]:
    return [word for (word,) in db.read("SELECT word FROM words ORDER BY rowid")]


def fill(path: Path) -> None:
    """A file of several pages, all of them in the file itself."""
    db = open_words(path)
    for _ in range(20):
        put(db, "x" * 1_000)
    db.close()


def test_what_was_written_is_there_after_a_kill(tmp_path: Path) -> None:
    program = f"""
import os, pathlib
from tests.test_database import open_words, put
put(open_words(pathlib.Path({str(tmp_path / "words")!r})), "durable")
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -9
    assert words(open_words(tmp_path / "words")) == ["durable"]


def test_every_commit_is_synced(tmp_path: Path) -> None:
    db = open_words(tmp_path / "words")
    assert db.read("PRAGMA journal_mode") == [("wal",)]
    assert db.read("PRAGMA synchronous") == [(2,)]  # FULL


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    db = open_words(tmp_path / "words")
    put(db, "secret")
    modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in tmp_path.iterdir()}
    assert modes == {"words": 0o600, "words-wal": 0o600, "words-shm": 0o600}


def test_failed_work_changes_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    db = open_words(tmp_path / "words")

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('half')")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        db.write(fail)
    put(db, "whole")
    assert words(db) == ["whole"]


@pytest.mark.parametrize("offset", [0, 4096], ids=["header", "page"])
def test_damaged_file_is_set_aside_under_a_name_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, offset: int
) -> None:
    path = tmp_path / "words"
    fill(path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 2_000)

    db = open_words(path)

    put(db, "new")
    assert words(db) == ["new"]
    (aside,) = tmp_path.glob("words.damaged-*")
    assert vars(caplog.records[0])["fields"]["path"] == str(aside)
    assert b"xxxx" in aside.read_bytes()


def test_damage_that_shows_while_running_loses_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "words"
    fill(path)
    db = open_words(path)
    beside = open_words(path, mend=False)
    put(beside, "change")  # so that pages are read again
    beside.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 100_000)

    put(db, "new")

    assert words(db) == ["new"]
    assert list(tmp_path.glob("words.damaged-*"))


def test_damage_that_sqlite_quotes_and_is_no_text_is_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "words"
    fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE second (word TEXT NOT NULL)")
        db.execute("INSERT INTO second VALUES ('x')")
        db.execute("PRAGMA writable_schema = on")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'TEXT NOT NULL', 'TEXT NOT NULL, other NOT NULL')")
        db.execute("PRAGMA wal_checkpoint(truncate)")
    path.write_bytes(path.read_bytes().replace(b"second", b"\xffecond"))
    with pytest.raises(StateError, match="is damaged"):
        open_words(path, mend=False)
    db_mended = open_words(path)
    assert words(db_mended) == []
    assert list(tmp_path.glob("words.damaged-*"))


def test_damaged_file_is_left_alone_by_who_does_not_own_it(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError, match=f"{path} is damaged"):
        open_words(path, mend=False)
    assert path.read_bytes().startswith(b"this is no database")


def test_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "words"
    db = open_words(path, version=7)
    put(db, "from the future")
    db.close()
    with pytest.raises(StateTooNew, match="written by a newer version of shipper"):
        open_words(path)
    assert words(open_words(path, version=7)) == ["from the future"]


def test_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "words"
    db = open_words(path)
    put(db, "old")
    for name in tmp_path.iterdir():
        name.unlink()

    put(db, "new")

    assert words(open_words(path, mend=False)) == ["new"]


def test_deleted_folder_is_said_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    db = open_words(folder / "words")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="No such file or directory"):
        put(db, "lost?")
    folder.mkdir()
    put(db, "kept")
    assert words(db) == ["kept"]


def test_full_disk_is_said_and_recovered_from(tmp_path: Path) -> None:
    db = open_words(tmp_path / "words")
    db.read("PRAGMA max_page_count = 3")  # SQLite then answers as it does for ENOSPC
    with pytest.raises(StateError, match="words cannot grow: the disk is full"):
        put(db, "x" * 100_000)
    db.read("PRAGMA max_page_count = 1000000")
    put(db, "fits")
    assert words(db) == ["fits"]


def test_read_only_file_is_said(tmp_path: Path) -> None:
    db = open_words(tmp_path / "words")
    db.read("PRAGMA query_only = 1")
    with pytest.raises(StateError, match="words cannot be written: it is read-only"):
        put(db, "no")


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"words cannot be used \(No such file or directory"):
        open_words(tmp_path / "missing" / "words")


def test_other_process_sees_what_was_written_at_once(tmp_path: Path) -> None:
    writer = open_words(tmp_path / "words")
    reader = open_words(tmp_path / "words", mend=False)
    put(writer, "a")
    assert words(reader) == ["a"]
    put(reader, "b")
    assert words(writer) == ["a", "b"]


def test_in_memory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    db = Database(None, schema=SCHEMA, version=1, mend=False)
    put(db, "a")
    assert words(db) == ["a"]
    assert list(tmp_path.iterdir()) == []
