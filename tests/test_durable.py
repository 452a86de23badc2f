"""Folders are promised to nobody before their parents know them, on the disk."""

import os
from pathlib import Path

import pytest

from shipper.durable import make_folder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes, in the order of their fsyncs."""
    found: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: found.append(os.fstat(descriptor).st_ino))
    return found


def test_each_new_folder_is_on_disk_in_its_parent_before_the_next_is_made(tmp_path: Path, synced: list[int]) -> None:
    make_folder(tmp_path / "a" / "b", mode=0o750)
    assert synced == [path.stat().st_ino for path in (tmp_path.parent, tmp_path, tmp_path / "a")]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o750


def test_a_folder_that_a_killed_process_had_made_is_put_on_disk_too(tmp_path: Path, synced: list[int]) -> None:
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a")
    assert synced == [tmp_path.stat().st_ino]
