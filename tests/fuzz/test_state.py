"""Files of the state directory, cut short, with flipped bits or overwritten: refused in words, or set aside."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.audit import accounts, as_json, table, verdict
from shipper.checkpoint import FILE, Changes, Checkpoint, CursorRow, GenerationRow, read_beside
from shipper.dead_letters import FILE_NAME, DeadLetter, DeadLetters, list_text, show_text
from shipper.errors import StateError
from shipper.filters.kubernetes.pod import Owner, Pod, Run
from shipper.filters.kubernetes.snapshot import Snapshot, SnapshotFile
from shipper.inputs.tail.generation import Generation, cursor_row, restore_cursor
from shipper.outputs.appended_files import FileRows
from shipper.outputs.s3.spool import Spool, SpooledObject
from tests.fuzz.damage import DAMAGES, Damage

GENERATIONS = [
    GenerationRow(
        id=i,
        input="pods",
        path=f"/log/{i}.log",
        live_path=f"/log/{i}.log",
        namespace="shop",
        pod="cart",
        uid="u",
        container="app",
        restart=i,
        fingerprint_bytes=100,
        fingerprint="f" * 32,
        id_base="18ea-00",
        format="cri",
        size=1000 + i,
        first_seen="2026-11-21T10:00:00Z",
    )
    for i in range(1, 30)
]
CURSORS = [
    CursorRow(
        generation=i,
        output="es",
        acked=600,
        ahead=((700, 800),),
        fates={"delivered": 700},
        cut=("stdout",),
        inside="- F",
    )
    for i in range(1, 30)
]
LETTER = DeadLetter(
    time=1.0,
    output="es",
    reason="document_parsing_exception",
    detail="failed",
    target="logs",
    path="/log/1.log",
    generation=1,
    begin=0,
    end=10,
    source_bytes=10,
    document=b'{"message":"x"}',
    document_id="id-0-a",
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def settled(path: Path) -> bytes:
    """All of it in one file, without what a write-ahead log holds."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma wal_checkpoint(truncate)")
        db.execute("pragma journal_mode = delete")
    return path.read_bytes()


@cache
def checkpoints() -> bytes:
    with folder() as path:
        with closing(Checkpoint(path)) as checkpoint:
            checkpoint.commit(Changes(GENERATIONS, CURSORS, {"archive": {"a": b"{}"}}))
        return settled(path / FILE)


@cache
def letters() -> bytes:
    with folder() as path:
        store = DeadLetters.open(path, 1 << 20)
        store.add([msgspec.structs.replace(LETTER, begin=i, end=i + 10) for i in range(40)])
        store.close()
        return settled(path / FILE_NAME)


@given(DAMAGES)
@settings(max_examples=60, deadline=None)
def test_a_damaged_checkpoint_is_refused_in_words_or_set_aside(damage: Damage) -> None:
    with folder() as path:
        (path / FILE).write_bytes(damage.of(checkpoints()))
        with suppress(StateError):
            found = read_beside(path)
            printed = accounts((g, found.cursors.get(g.id, {}).values()) for g in found.generations.values())
            assert table(printed)
            assert as_json(printed)
            verdict(printed)
        try:
            checkpoint = Checkpoint(path)
        except StateError:
            return
        with closing(checkpoint):
            stored = checkpoint.load()
            for row in stored.generations.values():
                assert Generation.from_row(row, "").to_row() == row
            for cursors in stored.cursors.values():
                for cursor in cursors.values():
                    cursor_row(restore_cursor(cursor))
            with suppress(StateError):
                checkpoint.commit(Changes(GENERATIONS, CURSORS))


@given(DAMAGES, DAMAGES)
@settings(max_examples=30, deadline=None)
def test_a_damaged_write_ahead_log_is_no_worse(damage: Damage, of_log: Damage) -> None:
    with folder() as path, closing(Checkpoint(path)) as checkpoint, folder() as crashed:
        checkpoint.commit(Changes(GENERATIONS, CURSORS))
        for file in path.glob(f"{FILE}*"):
            shutil.copy(file, crashed)
        wal = crashed / f"{FILE}-wal"
        wal.write_bytes(of_log.of(wal.read_bytes()))
        (crashed / FILE).write_bytes(damage.of((crashed / FILE).read_bytes()))
        with suppress(StateError), closing(Checkpoint(crashed)) as again:
            again.load()


@given(DAMAGES)
@settings(max_examples=60, deadline=None)
def test_damaged_dead_letters_are_refused_in_words_or_set_aside(damage: Damage) -> None:
    with folder() as path:
        (path / FILE_NAME).write_bytes(damage.of(letters()))
        with suppress(StateError):
            store = DeadLetters.open_beside(path)
            use(store)
        with suppress(StateError):
            store = DeadLetters.open(path, 1 << 20)
            use(store)
            store.add([LETTER])


def use(store: DeadLetters) -> None:
    with closing(store):
        found = store.select(limit=1000, replayed=True)
        assert list_text(found, store.summary())
        assert all(show_text(letter) for letter in found)
        store.mark_replayed([letter.id for letter in found[:3]])


POD = Pod(
    "u",
    "shop",
    "cart",
    "node-1",
    "",
    {"a": "b"},
    {"c": "d"},
    Owner("Deployment", "cart"),
    {"app": "i"},
    {"app": Run(1, ended=True)},
)
SNAPSHOT = msgspec.json.encode(Snapshot(pods=[POD], namespaces={"shop": {"team": "a"}}, node_labels={"zone": "b"}))


@given(DAMAGES.map(lambda damage: damage.of(SNAPSHOT)) | st.binary())
@settings(deadline=None)
def test_a_damaged_snapshot_is_one_or_an_error(body: bytes) -> None:
    with folder() as path:
        (path / "pods.json").write_bytes(body)
        with suppress(ValueError):
            assert isinstance(SnapshotFile(path / "pods.json").load(), Snapshot)


ROW = msgspec.json.encode(
    SpooledObject(
        id="a", key="logs/a.gz", target="logs/{id}.gz", compression="gzip", created=1.0, length=5, generations={1: 9}
    )
)


@given(DAMAGES.map(lambda damage: damage.of(ROW)) | st.binary(), st.text(min_size=1, max_size=5))
@settings(deadline=None)
def test_a_damaged_row_of_the_spool_is_refused_in_words(row: bytes, key: str) -> None:
    with folder() as path:
        spool = Spool(rows=FileRows(), compression="gzip", max_bytes=100, max_age_s=1.0, limit_bytes=1000)
        (path / "a").write_bytes(b"12345678")
        with suppress(StateError):
            spool.restore(path, {key: row})
        assert {file.name for file in path.parent.glob("a")} <= {"a"}
