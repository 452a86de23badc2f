"""Decisions of the spool, and what it finds after a crash."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from shipper.errors import StateError
from shipper.outputs.appended_files import FileRows
from shipper.outputs.s3 import spool as spool_module
from shipper.outputs.s3.spool import Append, Spool, SpooledObject

TARGET = "logs/{id}.gz"


class Clocks:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def make_spool(clocks: Clocks) -> Spool:
    return Spool(
        rows=FileRows(),
        compression="gzip",
        max_bytes=1000,
        max_age_s=60,
        limit_bytes=5000,
        clock=lambda: 1_000_000 + clocks.now,
        monotonic=lambda: clocks.now,
    )


@pytest.fixture
def spool(tmp_path: Path, clocks: Clocks) -> Spool:
    spool = make_spool(clocks)
    assert spool.restore(tmp_path, {}) == []
    return spool


def append(spool: Spool, target: str, size: int, *, generation: int = 1) -> SpooledObject:
    """As the output does."""
    row = spool.borrow(target)
    path = spool.path(row)
    path.touch()
    with path.open("ab") as file:
        file.write(b"x" * size)
    spool.extend(row, Append(row.length + size, row.plain_bytes + size, 7), 1, [(generation, size)])
    spool.give_back([row])
    return row


def committed(spool: Spool) -> Mapping[str, bytes]:
    return {key: row for key, row in spool.rows.changes().items() if row is not None}


def test_records_of_a_target_go_to_its_open_object_until_it_is_large(spool: Spool) -> None:
    first, second = append(spool, TARGET, 600), append(spool, TARGET, 600)
    assert first is second
    assert first.closed
    assert append(spool, TARGET, 1) is not first


def test_an_object_is_due_at_its_age_even_if_it_is_written_to(spool: Spool, clocks: Clocks) -> None:
    row = append(spool, TARGET, 1)
    clocks.now += 59
    append(spool, TARGET, 1)
    assert spool.close_due() == 1
    assert not row.closed
    clocks.now += 1
    assert spool.close_due() is None
    assert row.closed


def test_what_is_being_written_is_not_closed(spool: Spool, clocks: Clocks) -> None:
    row = spool.borrow(TARGET)
    clocks.now += 100
    assert spool.close_due() is None
    spool.close_all()
    assert not row.closed


def test_an_object_into_which_nothing_came_is_forgotten(spool: Spool) -> None:
    spool.give_back([spool.borrow(TARGET)])
    assert spool.is_empty
    assert spool.rows.changes() == {}


def test_the_least_recently_used_object_is_closed_first(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_OPEN", 2)
    a, b = append(spool, "a{id}", 1), append(spool, "b{id}", 1)
    append(spool, "a{id}", 1)
    append(spool, "c{id}", 1)
    assert (a.closed, b.closed) == (False, True)


def test_room_counts_files_until_they_are_deleted(spool: Spool) -> None:
    assert spool.has_room(99_999)  # alone, anything fits
    row = append(spool, TARGET, 1001)
    assert spool.has_room(3999)
    assert not spool.has_room(4000)
    spool.finish(row)
    assert not spool.has_room(4000)
    spool.remove(row)
    assert spool.has_room(5000)
    assert spool.is_empty


def test_the_number_of_objects_is_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_OBJECTS", 2)
    append(spool, "a{id}", 1)
    assert spool.has_room(1)
    append(spool, "b{id}", 1)
    assert not spool.has_room(1)


def test_age_is_that_of_the_oldest_object_that_is_not_uploaded(spool: Spool, clocks: Clocks) -> None:
    assert spool.age_s() == 0
    row = append(spool, TARGET, 1001)
    clocks.now += 30
    append(spool, TARGET, 1)
    clocks.now += 5
    assert spool.age_s() == 35
    spool.finish(row)
    assert spool.age_s() == 5


def test_after_a_restart_files_are_cut_back_to_what_was_committed(spool: Spool, tmp_path: Path, clocks: Clocks) -> None:
    row = append(spool, TARGET, 100)
    rows = committed(spool)
    append(spool, TARGET, 50)
    (tmp_path / "of-no-row").write_bytes(b"x")

    again = make_spool(clocks)
    assert again.restore(tmp_path, rows) == []
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {row.id: 100}
    assert again.size_bytes == 100
    assert append(again, TARGET, 1).id == row.id


def test_an_object_that_stayed_open_gets_another_key(spool: Spool, tmp_path: Path, clocks: Clocks) -> None:
    """A state from a backup must not take a later, larger object for its own."""
    row = append(spool, TARGET, 100)
    again = make_spool(clocks)
    again.restore(tmp_path, committed(spool))
    (restored,) = again.open
    assert restored.key != row.key
    assert restored.key[:27] == row.key[:27]  # its time
    assert again.rows.changes().keys() == {row.id}


def test_a_closed_object_keeps_its_key_and_its_bytes(spool: Spool, tmp_path: Path, clocks: Clocks) -> None:
    row = append(spool, TARGET, 1000)
    again = make_spool(clocks)
    again.restore(tmp_path, committed(spool))
    assert list(again.closed.values()) == [row]


def test_another_compression_closes_what_is_open(spool: Spool, tmp_path: Path, clocks: Clocks) -> None:
    append(spool, TARGET, 10)
    again = make_spool(clocks)
    again.compression = "zstd"
    again.restore(tmp_path, committed(spool))
    (row,) = again.closed.values()
    assert row.compression == "gzip"


@pytest.mark.parametrize("left", [None, 99])
def test_a_file_that_lost_bytes_is_lost_and_set_aside(
    left: int | None, spool: Spool, tmp_path: Path, clocks: Clocks
) -> None:
    damaged, whole = append(spool, "a{id}", 100, generation=7), append(spool, "b{id}", 10)
    rows = committed(spool)
    if left is None:
        spool.path(damaged).unlink()
    else:
        spool.path(damaged).write_bytes(b"x" * left)

    again = make_spool(clocks)
    (lost,) = again.restore(tmp_path, rows)
    assert lost.generations == {7: 100}
    assert [row.id for row in again.open] == [whole.id]
    assert again.size_bytes == 10
    assert again.rows.changes()[damaged.id] is None
    assert (tmp_path / "damaged" / damaged.id).exists() == (left is not None)


def test_an_unreadable_row_is_an_error_of_the_state(tmp_path: Path, clocks: Clocks) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        make_spool(clocks).restore(tmp_path, {"x": b"{"})


def test_rows_of_an_older_version_are_read(tmp_path: Path, clocks: Clocks) -> None:
    (tmp_path / "x").write_bytes(b"12")
    old = {"id": "x", "key": "k", "target": TARGET, "compression": "gzip", "created": 1.0, "length": 2, "later": 1}
    spool = make_spool(clocks)
    assert spool.restore(tmp_path, {"x": msgspec.json.encode(old)}) == []
    assert spool.size_bytes == 2


@pytest.mark.parametrize(
    "row", [b"", b"{}", b'{"id":"\xff"}', b'{"id":' + b"[" * 100_000], ids=["none", "empty", "text", "deep"]
)
def test_a_row_that_cannot_be_read_is_said(spool: Spool, tmp_path: Path, row: bytes) -> None:
    with pytest.raises(StateError, match="the state's row of the spooled object a cannot be read"):
        spool.restore(tmp_path, {"a": row})
