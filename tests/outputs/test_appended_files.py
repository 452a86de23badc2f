"""What files and their rows promise, with the disk's faults."""

import errno
import os
from pathlib import Path

import msgspec
import pytest

from shipper.errors import StateError
from shipper.outputs.appended_files import FileDamaged, FileRows, create, write_at


class Row(msgspec.Struct):
    length: int


def test_writing_cuts_off_what_lies_behind(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    write_at(path, 2, b"X")
    assert path.read_bytes() == b"abX"


def test_a_hole_is_never_filled(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab")
    with pytest.raises(FileDamaged, match="shorter"):
        write_at(path, 3, b"X")
    with pytest.raises(FileDamaged, match="gone"):
        write_at(tmp_path / "missing", 0, b"X")
    assert path.read_bytes() == b"ab"


def test_creating_leaves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab")
    assert create(path).st_size == 2
    assert create(tmp_path / "y").st_size == 0


def test_a_row_is_handed_out_as_it_is_then_and_once(tmp_path: Path) -> None:
    rows, row = FileRows(), Row(1)
    rows.put("a", row)
    rows.delete("b")
    row.length = 2
    assert rows.changes() == {"a": b'{"length":2}', "b": None}
    assert rows.changes() == {}


def test_files_and_their_folder_are_on_disk_before_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    rows, path = FileRows(), tmp_path / "x"
    create(path)
    rows.put("x", Row(0), path)
    rows.sync()
    assert synced == []  # nothing was promised yet
    rows.changes()
    rows.sync()
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]
    rows.sync()
    assert len(synced) == 2


def test_a_deleted_file_does_not_stop_commits(tmp_path: Path) -> None:
    rows, path = FileRows(), tmp_path / "x"
    create(path)
    rows.put("x", Row(0), path)
    path.unlink()
    rows.changes()
    rows.sync()


def test_after_a_failed_fsync_nothing_is_promised_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops pages that it could not write: a second fsync would succeed, and the bytes be gone."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    rows, path = FileRows(), tmp_path / "x"
    create(path)
    rows.put("x", Row(0), path)
    rows.changes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StateError, match="start again"):
            rows.sync()
    with pytest.raises(StateError, match="Input/output error"):
        rows.sync()
