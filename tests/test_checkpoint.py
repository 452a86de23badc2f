"""Durable cursors: whole transactions or nothing, whatever happens to the process and to the disk."""

import errno
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from shipper.checkpoint import (
    FILE,
    VERSION,
    Changes,
    Checkpoint,
    CursorRow,
    GenerationRow,
    StateLock,
    Stored,
    read_beside,
)
from shipper.errors import StateError, StateGone, StateLocked, StateTooNew
from shipper.reset import reset_cursors

GENERATION = GenerationRow(id=1, input="pods", path="/log/0.log", live_path="/log/0.log", size=100, pod="cart")
CURSOR = CursorRow(generation=1, output="es", acked=60, ahead=((70, 80),), fates={"delivered": 70}, cut=("stdout",))


def commit(folder: Path, changes: Changes) -> None:
    with closing(Checkpoint(folder)) as checkpoint:
        checkpoint.commit(changes)


def stored(folder: Path) -> Stored:
    with closing(Checkpoint(folder)) as checkpoint:
        return checkpoint.load()


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be written to. Rights do not bind uid 0, so the test is somebody else."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION], [CURSOR], {"archive": {"a": b"1", "b": b"2"}}))
    found = stored(tmp_path)
    assert found == Stored(
        {1: GENERATION}, {1: {"es": CURSOR}}, {"archive": {"a": b"1", "b": b"2"}}, is_first_start=False
    )
    assert read_beside(tmp_path) == found


def test_names_that_are_no_utf_8_come_back_as_they_were(tmp_path: Path) -> None:
    odd = os.fsdecode(b'/log/\xff\n"\xed\xa0\x80.log')
    pod, container = "\udcff", "\U0001f600\udc80"
    row = GenerationRow(id=1, input="pods", path=odd, live_path=odd, pod=pod, container=container, size=80)
    commit(tmp_path, Changes([row], [CURSOR]))
    assert stored(tmp_path).generations == {1: row}
    assert os.fsencode(stored(tmp_path).generations[1].path) == b'/log/\xff\n"\xed\xa0\x80.log'


def test_rows_are_replaced_and_deleted(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION], [CURSOR], {"archive": {"a": b"1", "b": b"2"}}))
    later = CursorRow(generation=1, output="es", acked=90)
    commit(tmp_path, Changes(cursors=[later], rows={"archive": {"a": None, "b": b"3"}}))
    assert stored(tmp_path).cursors == {1: {"es": later}}
    assert stored(tmp_path).rows == {"archive": {"b": b"3"}}


def test_forgotten_generation_takes_its_cursors_along(tmp_path: Path) -> None:
    other = GenerationRow(id=2, input="pods", path="/log/1.log", live_path="/log/1.log")
    commit(tmp_path, Changes([GENERATION, other], [CURSOR, CursorRow(generation=2, output="es")]))
    commit(tmp_path, Changes([GENERATION], forgotten=[1]))
    assert (stored(tmp_path).generations, set(stored(tmp_path).cursors)) == ({2: other}, {2})


def test_first_start_lasts_until_the_first_commit(tmp_path: Path) -> None:
    assert stored(tmp_path).is_first_start
    assert stored(tmp_path).is_first_start
    commit(tmp_path, Changes([GENERATION]))
    assert not stored(tmp_path).is_first_start


@pytest.mark.parametrize(
    ("changes", "is_something"),
    [(Changes(), False), (Changes(rows={"es": {}}), False), (Changes(rows={"es": {"a": None}}), True)],
)
def test_changes_tell_whether_they_are_any(changes: Changes, *, is_something: bool) -> None:
    assert bool(changes) is is_something


def test_every_commit_is_synced(tmp_path: Path) -> None:
    with closing(Checkpoint(tmp_path)) as checkpoint:
        assert checkpoint._db.execute("pragma journal_mode").fetchone() == ("wal",)
        assert checkpoint._db.execute("pragma synchronous").fetchone() == (2,)  # FULL


PROGRAM = """
import sys
from pathlib import Path
from shipper.checkpoint import Changes, Checkpoint, CursorRow, GenerationRow
checkpoint = Checkpoint(Path(sys.argv[1]))
for n in range(1, 1_000_000):
    row = GenerationRow(id=1, input="pods", path="x" * 5_000, live_path="x", size=n)
    cursors = [CursorRow(generation=1, output=str(i), acked=n) for i in range(50)]
    rows = {"row": str(n).encode(), f"only {n}": b"", f"only {n - 1}": None}
    checkpoint.commit(Changes([row], cursors, {"archive": rows}))
    print(n, flush=True)
"""


@pytest.mark.parametrize("commits", [1, 40])
def test_kill_amid_commits_leaves_the_last_whole_one(tmp_path: Path, commits: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < commits:
            pass
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout]
    found = stored(tmp_path)
    (n,) = {row.acked for row in found.cursors[1].values()} | {found.generations[1].size}
    assert found.rows == {"archive": {"row": str(n).encode(), f"only {n}": b""}}
    assert max(told, default=commits) <= n <= max(told, default=commits) + 1


def test_failed_commit_changes_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    with closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.commit(Changes([GENERATION], [CURSOR]))
        checkpoint._db.execute("pragma max_page_count = 8")  # SQLite then answers as it does for ENOSPC
        many = [GenerationRow(id=i, input="pods", path="x" * 1_000, live_path="x") for i in range(100)]
        with pytest.raises(StateError, match=r"cannot be written to .*checkpoints.sqlite: .* full"):
            checkpoint.commit(Changes(many, [CursorRow(generation=1, output="es", acked=100)]))
        assert checkpoint.load().cursors == {1: {"es": CURSOR}}
        checkpoint._db.execute("pragma max_page_count = 100000")
        checkpoint.commit(Changes(many))
        assert len(checkpoint.load().generations) == 100


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_committed_to_a_file_that_was_deleted(tmp_path: Path, *, is_replaced: bool) -> None:
    with closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.commit(Changes([GENERATION]))
        for path in tmp_path.glob(f"{FILE}*"):
            path.unlink()
        if is_replaced:
            commit(tmp_path, Changes())
        with pytest.raises(StateGone, match="was deleted or replaced while shipper ran"):
            checkpoint.commit(Changes([GENERATION]))


# -- files that are not as they should be -----------------------------------------------------------------------------


def break_header(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1_000)


def break_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 2_000)


def break_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update meta set value = 'one' where key = 'version'")


def forget_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("delete from meta")


@pytest.mark.parametrize("damage", [break_header, break_page, break_version, forget_version])
def test_corrupt_file_is_set_aside_under_a_name_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    commit(tmp_path, Changes([GENERATION], [CURSOR]))
    damage(tmp_path / FILE)
    damaged = (tmp_path / FILE).read_bytes()

    with pytest.raises(StateError, match="is corrupt"):
        read_beside(tmp_path)
    assert not list(tmp_path.glob("*.corrupt-*")), "a command must not mend what a daemon may have open"

    with closing(Checkpoint(tmp_path)) as checkpoint:
        assert checkpoint.is_mended
        found = checkpoint.load()
    assert (found.generations, found.cursors, found.is_first_start) == ({}, {}, True)
    (aside,) = tmp_path.glob(f"{FILE}.corrupt-*")
    assert aside.read_bytes() == damaged
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert vars(record)["fields"]["set_aside_as"] == str(aside)


SECOND = GenerationRow(id=2, input="pods", path="/log/1.log", live_path="/log/1.log", size=7)
CURSORS = [CURSOR, CursorRow(generation=1, output="s3", acked=50), CursorRow(generation=2, output="es", acked=7)]


def change(folder: Path, table: str, where: str, before: bytes, after: bytes) -> None:
    """As a disk does that gives other bytes than it was given."""
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        ((data,),) = db.execute(f"select data from {table} where {where}").fetchall()
        assert data.count(before) == 1
        db.execute(f"update {table} set data = ? where {where}", (data.replace(before, after),))


@pytest.mark.parametrize(("before", "after"), [(b'"acked":60', b'"acked":70'), (b'"acked":60', b'"acked":60,,')])
def test_a_cursor_that_a_disk_has_changed_is_set_aside_and_begins_at_the_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: bytes, after: bytes
) -> None:
    commit(tmp_path, Changes([GENERATION, SECOND], CURSORS))
    change(tmp_path, "cursors", "generation = 1 and output = 'es'", before, after)
    with pytest.raises(StateError, match="is corrupt"):
        read_beside(tmp_path)
    found = stored(tmp_path)
    assert found.generations == {1: GENERATION, 2: SECOND}
    assert found.cursors[1] == {"es": CursorRow(generation=1, output="es"), "s3": CURSORS[1]}
    assert found.cursors[2] == {"es": CURSORS[2]}
    (aside,) = tmp_path.glob(f"{FILE}.damaged-rows-*")
    assert after in aside.read_bytes()
    (record,) = caplog.records
    assert (record.levelno, vars(record)["fields"]["set_aside_as"]) == (logging.ERROR, str(aside))
    assert stored(tmp_path) == read_beside(tmp_path) == found
    assert len(caplog.records) == 1


def test_a_generation_that_a_disk_has_changed_is_forgotten_with_its_cursors(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION, SECOND], CURSORS))
    change(tmp_path, "generations", "id = 1", b'"size":100', b'"size":900')
    found = stored(tmp_path)
    assert (found.generations, found.cursors) == ({2: SECOND}, {2: {"es": CURSORS[2]}})


def test_what_a_changed_row_has_told_was_never_heard_of(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION], [CURSOR]))
    with closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.note_idle()
    change(tmp_path, "cursors", "generation = 1", b'"acked":60', b'"acked":61')
    with closing(Checkpoint(tmp_path)) as checkpoint:
        assert checkpoint.is_mended
        assert not checkpoint.take_idle_note(), "what it has sent may be there, though nobody knows"


def test_rows_of_a_release_that_had_no_checksums_are_read(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION], [CURSOR]))
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        for table in ("generations", "cursors"):
            db.execute(f"update {table} set data = cast(json_remove(data, '$.crc32') as blob)")
    found = stored(tmp_path)
    assert (found.generations, found.cursors) == ({1: GENERATION}, {1: {"es": CURSOR}})


def test_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION]))
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("update meta set value = ? where key = 'version'", (str(VERSION + 1),))
        db.execute("drop table cursors")  # whatever a newer version has changed
    before = (tmp_path / FILE).read_bytes()
    for opened in (Checkpoint, read_beside):
        with pytest.raises(StateTooNew, match=r"written by a newer shipper \(state version 2, this one knows 1\)"):
            opened(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_members_that_a_newer_version_has_added_do_no_harm(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION]))
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("""update generations set data = cast(json_set(data, '$.colour', 'red') as blob)""")
    assert stored(tmp_path).generations == {1: GENERATION}


def test_command_reads_beside_a_daemon_that_writes(tmp_path: Path) -> None:
    with StateLock(tmp_path), closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.commit(Changes([GENERATION], [CURSOR]))
        checkpoint._db.execute("begin immediate")  # a commit under way
        assert read_beside(tmp_path).cursors == {1: {"es": CURSOR}}
        checkpoint._db.execute("rollback")


def test_folder_without_a_state_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"there is no state in .*: no shipper has run with it yet"):
        read_beside(tmp_path)
    assert not list(tmp_path.iterdir())


# -- one process at a time --------------------------------------------------------------------------------------------


def test_second_process_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    program = "import sys, pathlib; from shipper.checkpoint import StateLock; StateLock(pathlib.Path(sys.argv[1]))"
    with StateLock(tmp_path):
        second = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert f"StateLocked: another shipper (process {os.getpid()}) works on {tmp_path}; stop it first" in second.stderr


def test_lock_goes_with_its_process(tmp_path: Path) -> None:
    program = """
import os, pathlib, sys
from shipper.checkpoint import StateLock
lock = StateLock(pathlib.Path(sys.argv[1]))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -signal.SIGKILL
    StateLock(tmp_path).release()


def test_lock_can_be_taken_again_after_its_release(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(StateLocked):
        StateLock(tmp_path)
    StateLock(tmp_path).release()


def test_folder_that_may_not_be_written_to_is_said(forbidden: Path) -> None:
    with pytest.raises(
        StateError, match=r"state directory .* cannot be used: Permission denied; set service.state_dir"
    ):
        StateLock(forbidden)
    with pytest.raises(StateError, match=r"checkpoints.sqlite cannot be opened: unable to open database file"):
        Checkpoint(forbidden)


def test_that_all_was_answered_is_noted_until_the_next_start(tmp_path: Path) -> None:
    with closing(Checkpoint(tmp_path)) as first:
        assert not first.take_idle_note()
        first.note_idle()
    with closing(Checkpoint(tmp_path)) as second:
        assert second.take_idle_note()
        assert not second.take_idle_note()
    with closing(Checkpoint(tmp_path)) as after_a_kill:
        assert not after_a_kill.take_idle_note()


def test_a_note_that_cannot_be_removed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path, *, missing_ok: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.note_idle()
        monkeypatch.setattr(Path, "unlink", refuse)
        with pytest.raises(StateError, match="idle cannot be removed: Read-only file system"):
            checkpoint.take_idle_note()


def test_a_reset_forgets_that_all_was_answered(tmp_path: Path) -> None:
    commit(tmp_path, Changes([GENERATION], [CURSOR]))
    with closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.note_idle()
    assert reset_cursors(tmp_path, output="es") == 1
    with closing(Checkpoint(tmp_path)) as checkpoint:
        assert not checkpoint.take_idle_note(), "what is read again may be there already"


def test_a_size_that_a_cursor_tells_is_known(tmp_path: Path) -> None:
    """It is not written beside the cursor."""
    commit(tmp_path, Changes([msgspec.structs.replace(GENERATION, size=70)], [CURSOR]))
    assert stored(tmp_path).generations[1].size == 80
    ahead = msgspec.structs.replace(CURSOR, output="other", acked=10, ahead=((20, 30), (90, 95)))
    commit(tmp_path, Changes(cursors=[ahead]))
    assert stored(tmp_path).generations[1].size == 95
