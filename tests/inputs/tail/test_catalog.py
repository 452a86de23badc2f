"""When a file is begun, which ones stay open, what is said of those that cannot be read, and that nothing is kept."""

import asyncio
import gzip
import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from shipper.inputs.tail import catalog, files, head, measuring
from shipper.inputs.tail.discovery import Family, Scan
from shipper.inputs.tail.head import Asked, Opened
from shipper.inputs.tail.input import TailInput
from shipper.tasks import TaskGuard
from tests.inputs.tail.reader import Reader, line, make_input, restart, without_rights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pods" / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def pods(reader: Reader, folder: Path) -> TailInput:
    return make_input(reader, folder.parents[1] / "*/*/*.log")


# Where a file is begun


async def test_many_files_are_opened_a_group_at_a_time_and_gzipped_ones_keep_no_others_waiting(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[str]] = []

    def open_all(asked: Iterable[Asked], **options: Any) -> list[Opened]:
        asked = list(asked)
        groups.append([Path(file.path).name for each in asked for file in each.questions])
        return head.open_all(asked, **options)

    monkeypatch.setattr(catalog, "open_all", open_all)
    monkeypatch.setattr("shipper.inputs.tail.input.OPENED_AT_ONCE", 2)
    for name in "abcde":
        (tmp_path / f"{name}.log").write_bytes(name.encode() + b"\n")
    (tmp_path / "d.log.1.gz").write_bytes(gzip.compress(b"older\n"))
    (tmp_path / "f.log").write_bytes(b"")
    await make_input(reader, tmp_path / "*.log").rescan()
    assert groups == [["a.log", "b.log"], ["c.log", "d.log.1.gz", "d.log"], ["e.log"]]
    assert reader.contents == [b"a\n", b"b\n", b"c\n", b"older\n", b"d\n", b"e\n"]


async def test_what_one_file_of_a_group_does_to_another_is_looked_at_again(reader: Reader, tmp_path: Path) -> None:
    """The next restart is new, and its predecessor is overwritten: that is seen while the group is gone through."""
    folder = tmp_path / "pods" / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    pods = make_input(reader, folder.parents[1] / "*/*/*.log")
    (folder / "0.log").write_bytes(line(1))
    await pods.rescan()
    (folder / "0.log").write_bytes(line(2) * 2)
    (folder / "1.log").write_bytes(line(3))
    await pods.rescan()
    assert sorted(reader.contents) == [line(1), line(2) * 2, line(3)]
    assert [g.is_final for g in sorted(reader.generations, key=lambda g: reader.read[g.id])] == [True, True, False]


async def test_container_is_begun_when_the_time_of_its_first_line_is_written(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(b"")
    await pods.rescan()
    live.write_bytes(line(1)[:15])
    await pods.rescan()
    assert reader.generations == []
    live.write_bytes(line(1)[:-3])
    await pods.rescan()
    assert reader.generations[0].id_base.startswith(f"{1795255200000000001:x}-")
    live.write_bytes(line(1))
    await pods.rescan()
    assert reader.contents == [line(1)]


async def test_once_takes_an_unfinished_first_line(reader: Reader, pods: TailInput, folder: Path) -> None:
    pods.catalog.is_once = True
    (folder / "0.log").write_bytes(line(1)[:15])
    await pods.rescan()
    assert reader.contents == [line(1)[:15]]
    generation = reader.generations[0]
    assert (generation.format, generation.must_commit_first) == ("cri", True)


async def test_unfinished_first_line_of_a_container_that_has_ended_is_taken(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    (folder / "1.log").write_bytes(line(1))
    await pods.rescan()
    (folder / "0.log").write_bytes(line(0)[:15])
    await pods.rescan()
    assert reader.contents == [line(1), line(0)[:15]]
    assert reader.generations[1].is_final


async def test_dockers_first_line_may_be_long(reader: Reader, pods: TailInput, folder: Path) -> None:
    text = b"x" * 16_000
    first = b'{"log":"%b\\n","stream":"stdout","time":"2026-11-21T10:00:00.000000001Z"}\n' % text
    live = folder / "0.log"
    live.write_bytes(first[:9000])
    await pods.rescan()
    assert reader.generations == []
    live.write_bytes(first)
    await pods.rescan()
    generation = reader.generations[0]
    assert (generation.format, generation.must_commit_first) == ("docker", False)
    assert generation.id_base.startswith(f"{1795255200000000001:x}-")


async def test_file_that_is_no_containers_gets_a_random_id_that_must_be_durable(reader: Reader, tmp_path: Path) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(b"same\n")
    await make_input(reader, tmp_path / "*.log").rescan()
    assert all(g.must_commit_first for g in reader.generations)
    assert len({g.id_base for g in reader.generations}) == 2


async def test_only_files_of_the_first_scan_may_be_skipped(reader: Reader, tmp_path: Path) -> None:
    tail = make_input(reader, tmp_path / "*.log")
    for name in ("a.log.1", "a.log"):
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    await tail.rescan()
    (tmp_path / "later.log").write_bytes(b"later\n")
    await tail.rescan()
    assert reader.skippable == [True, True, False]


# What cannot be read


async def test_unreadable_file_is_said_and_counted_once_and_tried_again(
    reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.log").write_bytes(b"good\n")
    (tmp_path / "bad.log").symlink_to("/etc/hostname")
    tail = make_input(reader, tmp_path / "*.log")
    with caplog.at_level(logging.WARNING):
        await tail.rescan()
        await tail.rescan()
    assert [r.getMessage() for r in caplog.records] == ["a path cannot be read; it is tried again"]
    assert set(tail.status()["unreadable"]) == {str(tmp_path / "bad.log")}
    assert reader.contents == [b"good\n"]
    (tmp_path / "bad.log").unlink()
    (tmp_path / "bad.log").write_bytes(b"mended\n")
    await tail.rescan()
    assert reader.contents == [b"good\n", b"mended\n"]
    assert tail.status()["unreadable"] == {}


async def test_file_without_permission_hurts_nothing_and_is_read_on_when_it_is_given(
    reader: Reader, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.log", tmp_path / "good.log"
    bad.write_bytes(b"one\n")
    tail = make_input(reader, tmp_path / "*.log")
    await tail.rescan()
    with bad.open("ab") as file:
        file.write(b"two\n")
    good.write_bytes(b"good\n")
    good.chmod(0o644)
    tail = await restart(reader, tail)
    with without_rights(bad):
        await tail.rescan()
        await tail.rescan()
        assert reader.contents == [b"one\n", b"good\n"]
    await tail.rescan()
    assert reader.contents == [b"one\ntwo\n", b"good\n"]
    assert reader.losses == []


# Open files


async def test_idle_files_are_closed_beyond_the_limit_and_opened_again_when_they_grow(
    reader: Reader, tmp_path: Path
) -> None:
    tail = make_input(reader, tmp_path / "*.log", open_limit=10)
    paths = [tmp_path / f"{i}.log" for i in range(30)]
    for i, path in enumerate(paths):
        path.write_bytes(b"%d\n" % i)
    await tail.rescan()
    assert sum(g.file is not None for g in reader.generations) <= 10
    closed = next(g for g in reader.generations if g.file is None)
    with Path(closed.path).open("ab") as file:
        file.write(b"more\n")
    tail.catalog.look(closed)
    await tail.rescan()
    assert sorted(reader.everything.splitlines()) == sorted([*(b"%d" % i for i in range(30)), b"more"])
    assert tail.status()["open_files"] <= 10


async def test_files_beyond_the_limit_wait_for_their_turn(reader: Reader, tmp_path: Path) -> None:
    tail = make_input(reader, tmp_path / "*.log", open_limit=10)
    reader.is_reading = False
    for i in range(30):
        (tmp_path / f"{i}.log").write_bytes(b"%d\n" % i)
    await tail.rescan()
    assert tail.status()["open_files"] == 10
    assert len(reader.generations) == 30
    for _ in range(3):
        reader.read_all()
        await tail.rescan()
    assert len(reader.everything.splitlines()) == 30
    assert tail.status()["open_files"] <= 10


async def test_closed_file_whose_name_another_has_now_is_read_from_its_head(reader: Reader, tmp_path: Path) -> None:
    tail = make_input(reader, tmp_path / "*.log")
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    await tail.rescan()
    reader.generations[0].close()
    tail.catalog._open.clear()
    path.unlink()
    path.write_bytes(b"another\n")  # often with the same inode
    await tail.rescan()
    assert reader.contents == [b"one\n", b"another\n"]


async def test_file_is_closed_only_after_the_read_in_a_thread(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    tail = make_input(reader, path)
    await tail.rescan()
    generation = reader.generations[0]
    file = generation.file
    assert file is not None
    generation.is_reading = True
    tail.catalog.release(generation)
    assert generation.file is None
    assert file.read(0, 10) == b"one\n"
    generation.end_read()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read(0, 10)


# Nothing is kept for ever


async def test_nothing_stays_of_files_that_are_gone_and_forgotten(
    reader: Reader, folder: Path, pods: TailInput
) -> None:
    for number in range(3):
        (folder / f"{number}.log").write_bytes(line(number))
    (folder / "nothing-yet.log").write_bytes(b"")
    await pods.rescan()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    await pods.rescan()
    for generation in reader.generations:
        pods.catalog.forget(generation)
        assert generation.file is None
    catalog = pods.catalog
    assert (catalog.families, catalog.by_path, catalog._last, catalog._open) == ({}, {}, {}, {})
    assert all(g.previous is None for g in reader.generations)


async def test_scan_in_which_nothing_changed_asks_nothing(reader: Reader, pods: TailInput, folder: Path) -> None:
    (folder / "0.log").write_bytes(line(1))
    await pods.rescan()
    looks = reader.looks.copy()
    scan = pods.scanner.scan()
    assert not any(pods.catalog.is_news(family) for family in scan.families.values())
    await pods.rescan()
    assert reader.looks == looks


async def test_file_overwritten_while_it_was_closed_is_a_gap(reader: Reader, tmp_path: Path) -> None:
    tail = make_input(reader, tmp_path / "*.log", open_limit=1)
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(b"one\n")
    await tail.rescan()
    closed = next(g for g in reader.generations if g.file is None)
    Path(closed.path).write_bytes(b"another\n")
    await tail.rescan()
    assert [(reason, count, has_gap) for _, reason, count, has_gap in reader.losses] == [("truncated", 0, True)]
    assert b"another\n" in reader.contents


async def test_a_file_packed_while_its_folder_was_listed_is_not_overwritten_though_its_inode_is_anothers(
    reader: Reader, pods: TailInput, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, packed = folder / "0.log", folder / "0.log.20261121-100000.gz"
    live.write_bytes(line(1))
    await pods.rescan()
    pods = await restart(reader, pods)
    packed.write_bytes(gzip.compress(line(1) + line(2)))
    live.write_bytes(line(3))  # the same inode under the same name
    scan, scans = pods.scanner.scan, []

    def miss_it_once(below: str = "/") -> Scan:
        found = scan(below)
        scans.append(below)
        if len(scans) == 1:
            (family,) = found.families.values()
            found.families[family.live_path] = Family(family.live_path, [f for f in family.files if f.name.is_live])
        return found

    monkeypatch.setattr(pods.scanner, "scan", miss_it_once)
    await pods.rescan()
    await pods.rescan()
    assert len(scans) > 1
    assert reader.losses == []
    assert reader.contents == [line(1) + line(2), line(3)]


# Gzipped files too large to be measured while all others wait


@pytest.fixture
def bomb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a rotated file holds, of which a part is seen at once."""
    monkeypatch.setattr(files, "PART_BYTES", 1 << 16)
    monkeypatch.setattr(files, "GZIP_STEP_BYTES", 1 << 14)
    monkeypatch.setattr(head, "MEASURED_AT_ONCE_BYTES", 1 << 17)
    content = b"".join(line(i) for i in range(20_000)) + line(20_000)[:-5]
    (folder / "0.log.20261121-100000.gz").write_bytes(gzip.compress(content))
    return content


async def until_measured(reader: Reader, tail: TailInput) -> None:
    async with TaskGuard() as guard:
        guard.start(tail.catalog.measuring.run, name="measure", endless=True)
        await reader.until(lambda: all(g.is_final for g in reader.generations))
        guard.cancel()


async def test_large_gzip_grows_while_it_is_measured_and_is_final_then(
    reader: Reader, pods: TailInput, bomb: bytes
) -> None:
    await pods.rescan()
    (generation,) = reader.generations
    assert not generation.is_final
    assert 1 << 17 <= generation.size < len(bomb)
    await until_measured(reader, pods)
    assert (generation.size, reader.everything) == (len(bomb), bomb)
    assert reader.losses == []


async def test_large_gzip_is_measured_not_far_ahead_of_its_reader(
    reader: Reader, pods: TailInput, bomb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "AHEAD_BYTES", 1 << 18)
    monkeypatch.setattr(measuring, "AGAIN_S", 0.01)
    reader.is_reading = False
    await pods.rescan()
    (generation,) = reader.generations
    async with TaskGuard() as guard:
        guard.start(pods.catalog.measuring.run, name="measure", endless=True)
        await reader.until(lambda: generation.size >= 1 << 18)
        ahead = generation.size
        reader.read_all()
        await reader.until(lambda: generation.is_final)
        guard.cancel()
    assert ahead < (1 << 18) + (1 << 17)
    assert reader.everything == bomb


async def test_large_gzip_is_measured_on_after_a_restart_and_after_its_deletion(
    reader: Reader, pods: TailInput, folder: Path, bomb: bytes
) -> None:
    await pods.rescan()
    pods = await restart(reader, pods)
    await pods.rescan()
    (folder / "0.log.20261121-100000.gz").unlink()
    await pods.rescan()
    await pods.rescan()
    (generation,) = reader.generations
    assert not generation.is_final
    await until_measured(reader, pods)
    assert reader.everything == bomb
    assert reader.losses == []


async def test_once_measures_all_of_a_large_gzip(reader: Reader, pods: TailInput, bomb: bytes) -> None:
    pods.catalog.is_once = True
    await pods.rescan()
    assert reader.everything == bomb
    assert reader.generations[0].is_final


async def test_a_file_that_grows_while_a_scan_has_it_open_is_not_taken_for_another(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    tail = make_input(reader, path)
    await tail.rescan()
    (generation,) = reader.generations
    loop, was_looked_at = asyncio.get_running_loop(), threading.Event()

    def look() -> None:
        tail.catalog.look(generation)
        was_looked_at.set()

    def grow(*arguments: Any, **options: Any) -> Opened:
        """Its first bytes are read; then it grows, and an event has the loop look at it."""
        opened = Opened(*arguments, **options)
        with path.open("ab") as file:
            file.write(b"two\n")
        loop.call_soon_threadsafe(look)
        was_looked_at.wait(10)
        return opened

    monkeypatch.setattr("shipper.inputs.tail.head.Opened", grow)
    generation.is_doubtful = True  # so that the scan opens it
    tail.catalog._last.clear()
    await tail.rescan()
    assert was_looked_at.is_set()
    assert reader.losses == []
    assert [g.size for g in reader.generations] == [8]
    await reader.until(lambda: reader.contents == [b"one\ntwo\n"])
