"""Open files by decompressed offset, whole or damaged."""

import errno
import gzip
import os
import random
from pathlib import Path

import pytest

from shipper.inputs.tail.discovery import Scanner
from shipper.inputs.tail.files import MEMBER_WORK_BYTES, PART_BYTES, GzipFile, open_file

DATA = random.Random(7).randbytes(200_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.log.20261121-100000.gz"


def opened(path: Path, data: bytes) -> GzipFile:
    path.write_bytes(data)
    file = open_file(str(path), is_gzip=True)
    assert isinstance(file, GzipFile)
    return file


def measured(file: GzipFile) -> int:
    while not file.measurement.is_complete:
        file.measurement.go_on()
    assert file.measurement.is_over
    return file.size()


def test_gzip_is_read_by_decompressed_offset_forth_and_back(path: Path) -> None:
    file = opened(path, gzip.compress(DATA))
    assert measured(file) == len(DATA)
    assert file.read(150_000, 1000) == DATA[150_000:151_000]
    assert file.read(10, 1000) == DATA[10:1010]
    assert file.read(len(DATA) - 5, 100) == DATA[-5:]
    assert file.read(len(DATA) + 5, 100) == b""
    file.close()


@pytest.mark.parametrize("between", [b"", b"\0" * 4096], ids=["members", "zeros"])
def test_members_are_joined_and_what_is_no_member_is_the_end(path: Path, between: bytes) -> None:
    file = opened(path, gzip.compress(DATA) + between + gzip.compress(b"more"))
    assert file.read(0, 1 << 20) == (DATA if between else DATA + b"more")
    file.close()


def test_header_of_the_next_member_may_begin_at_any_byte_of_a_read(path: Path) -> None:
    for size in (32_700, 32_720, 32_740, 32_744, 32_745, 32_746, 32_750):
        file = opened(path, gzip.compress(DATA[:size], 0) + gzip.compress(b"more"))
        assert file.read(0, 1 << 20) == DATA[:size] + b"more"
        file.close()


def test_truncated_gzip_is_read_as_far_as_it_goes(path: Path) -> None:
    file = opened(path, gzip.compress(DATA)[:100_000])
    assert 99_000 < measured(file) < 101_000
    assert file.read(0, 1 << 20) == DATA[: file.size()]
    file.close()


def test_bytes_before_damage_are_read(path: Path) -> None:
    data = bytearray(gzip.compress(DATA))
    data[150_000:150_100] = bytes(100)
    file = opened(path, bytes(data))
    assert measured(file) > 100_000
    assert file.read(0, 100_000) == DATA[:100_000]
    file.close()


@pytest.mark.parametrize("data", [b"", b"no gzip at all", b"\x1f\x8b", b"\x1f\x8bgarbage" * 9])
def test_what_is_no_gzip_is_empty(path: Path, data: bytes) -> None:
    file = opened(path, data)
    assert (measured(file), file.read(0, 10)) == (0, b"")
    file.close()


@pytest.fixture
def raw_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compressed bytes, by read."""
    sizes: list[int] = []
    pread = os.pread

    def counted(fd: int, length: int, offset: int) -> bytes:
        data = pread(fd, length, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    return sizes


def test_who_reads_on_at_half_a_line_makes_nobody_begin_at_the_head_again(path: Path, raw_reads: list[int]) -> None:
    file, at = opened(path, gzip.compress(DATA)), 0
    while at < len(DATA):
        assert file.prepare(at, 10_000)
        found = file.read(at, 10_000)
        assert found == DATA[at : at + 10_000]
        file.release(at, at + max(len(found) - 137, 1))
        at += max(len(found) - 137, 1)
    assert sum(raw_reads) == path.stat().st_size
    file.close()


def test_outputs_that_have_drifted_apart_read_on_side_by_side(path: Path, raw_reads: list[int]) -> None:
    file = opened(path, gzip.compress(DATA))
    for step in range(0, 90_000, 10_000):
        for at in (step, 100_000 + step):
            assert file.read(at, 10_000) == DATA[at : at + 10_000]
            file.release(at, at + 10_000)
    assert sum(raw_reads) <= 2 * path.stat().st_size
    file.close()


def test_a_far_place_is_reached_in_parts_of_a_bounded_length(path: Path) -> None:
    file = opened(path, gzip.compress(bytes(5 * PART_BYTES) + b"end"))
    assert [file.prepare(5 * PART_BYTES, 3) for _ in range(6)].count(False) in (4, 5)
    assert file.read(5 * PART_BYTES, 9) == b"end"
    file.close()


def test_countless_empty_members_are_passed_in_parts_too(path: Path) -> None:
    members = 2 * PART_BYTES // MEMBER_WORK_BYTES
    file = opened(path, gzip.compress(b"begin") + gzip.compress(b"") * members + gzip.compress(b"end"))
    assert [file.prepare(0, 8) for _ in range(4)].count(False) >= 2
    assert file.read(0, 8) == b"beginend"
    file.close()


def test_measurement_goes_on_when_the_file_is_closed(path: Path) -> None:
    file = opened(path, gzip.compress(bytes(3 * PART_BYTES)))
    file.measurement.go_on()
    assert PART_BYTES <= file.size() < 2 * PART_BYTES
    file.close()
    assert measured(file) == 3 * PART_BYTES


def test_gzip_bomb_is_measured_in_small_memory(path: Path) -> None:
    file = opened(path, gzip.compress(bytes(64 << 20)))
    assert measured(file) == 64 << 20
    assert len(file.read(60 << 20, 1 << 17)) == 1 << 17
    file.close()


def test_reading_leaves_no_trace_in_the_inode(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"one\n")
    os.utime(path, ns=(1, path.stat().st_mtime_ns))  # so old that any other reader renews it
    file = open_file(str(path), is_gzip=False)
    assert file.read(0, 4) == b"one\n"
    file.close()
    assert path.stat().st_atime_ns == 1


def test_a_file_of_somebody_else_is_opened_as_by_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, usual, refused = tmp_path / "0.log", os.open, list[int]()

    def strict(path: str, flags: int, mode: int = 0o777) -> int:  # open(2): EPERM for who does not own it
        if flags & os.O_NOATIME:
            refused.append(flags)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        return usual(path, flags, mode)

    path.write_bytes(b"one\n")
    monkeypatch.setattr(os, "open", strict)
    file = open_file(str(path), is_gzip=False)
    assert file.read(0, 4) == b"one\n"
    file.close()
    assert len(refused) == 1


def test_fifo_does_not_block_and_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.log")
    with pytest.raises(OSError, match="not a regular file"):
        open_file(str(tmp_path / "x.log"), is_gzip=False)


def test_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.log").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        open_file(str(tmp_path / "x.log"), is_gzip=False)


def test_what_a_folder_leads_to_that_became_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x.log").write_text("secret\n", encoding="utf-8")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/mine").symlink_to(tmp_path / "etc", target_is_directory=True)
    scanner = Scanner([str(tmp_path / "logs/*/*.log")])
    with pytest.raises(OSError, match="leads out of the input's folders"):
        open_file(str(tmp_path / "logs/mine/x.log"), is_gzip=False, may_read=scanner.may_read)
    (tmp_path / "logs/real").mkdir()
    (tmp_path / "logs/real/x.log").write_text("mine\n", encoding="utf-8")
    file = open_file(str(tmp_path / "logs/real/x.log"), is_gzip=False, may_read=scanner.may_read)
    assert file.read(0, 9) == b"mine\n"
    file.close()
