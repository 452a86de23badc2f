"""Changes on disk are noticed by events; the rescan here is far too slow to help."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shipper.inputs.tail.input import TailInput, topmost
from shipper.inputs.tail.watch import Batch, Change
from shipper.tasks import TaskGuard
from tests.inputs.tail.reader import Reader, line, make_input

NEVER_S = 3600.0


@asynccontextmanager
async def following(tail: TailInput) -> AsyncIterator[None]:
    """The tail runs, and its watches stand."""
    await tail.rescan()
    async with TaskGuard() as guard:
        tail.start(guard)
        await _idle(tail)
        yield
        guard.cancel()


async def _idle(tail: TailInput) -> None:
    """Until the look that follows the start of a watch is over: then it stands."""
    async with asyncio.timeout(100):
        while tail._watched != set(tail._roots()):
            await asyncio.sleep(0)
        while tail._again_event.is_set() or tail._again or tail._lock.locked():
            await asyncio.sleep(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pods").mkdir()
    return tmp_path / "pods"


def pods_input(reader: Reader, root: Path, **options: Any) -> TailInput:
    return make_input(reader, root / "*/*/*.log", rescan=NEVER_S, **options)


async def test_first_line_of_a_new_pod_is_noticed_without_a_rescan(reader: Reader, root: Path) -> None:
    async with following(pods_input(reader, root)):
        folder = root / "shop_cart-1_uid-1" / "app"
        folder.mkdir(parents=True)
        (folder / "0.log").write_bytes(line(1))
        await reader.until(lambda: reader.contents == [line(1)])


async def test_growth_rotation_and_deletion_are_noticed(reader: Reader, root: Path) -> None:
    folder = root / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    live = folder / "0.log"
    live.write_bytes(line(1))
    async with following(pods_input(reader, root)):
        with live.open("ab") as runtime:
            runtime.write(line(2))
        await reader.until(lambda: reader.contents == [line(1) + line(2)])
        live.rename(folder / "0.log.20261121-100000")
        live.write_bytes(line(3))
        await reader.until(lambda: reader.contents == [line(1) + line(2), line(3)])
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.parent.rmdir()
        await reader.until(lambda: all(g.is_final for g in reader.generations))
        assert reader.losses == []


async def test_a_file_that_comes_and_goes_between_two_looks_is_a_gap_if_it_held_something(
    reader: Reader, root: Path
) -> None:
    folder = root / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    (folder / "0.log").write_bytes(line(1))
    async with following(pods_input(reader, root)):
        for name, content in (("1.log", b""), ("2.log", line(2)), ("3.log", line(3))):
            (folder / name).write_bytes(content)
            if name != "3.log":
                (folder / name).unlink()
        await reader.until(lambda: reader.losses and line(3) in reader.contents)
        assert reader.losses == [("2.log", "unseen", 0, True)]


async def test_a_pod_that_is_deleted_with_a_file_that_nobody_has_seen_has_a_gap(reader: Reader, root: Path) -> None:
    folder = root / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    (folder / "0.log").write_bytes(line(1))
    async with following(pods_input(reader, root)):
        (folder / "1.log").write_bytes(line(2))
        shutil.rmtree(folder.parent)
        await reader.until(lambda: reader.losses and all(g.is_final for g in reader.generations))
        assert reader.losses == [("1.log", "unseen", 0, True)]


async def test_a_file_whose_first_line_is_unfinished_is_no_gap_until_it_goes(reader: Reader, root: Path) -> None:
    folder = root / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    tail = pods_input(reader, root)
    async with following(tail):
        (folder / "0.log").write_bytes(line(1)[:9])
        async with asyncio.timeout(100):
            while not tail._begun or tail._lock.locked():
                await asyncio.sleep(0)
        await tail.rescan()
        assert reader.losses == []
        (folder / "0.log").unlink()
        await reader.until(lambda: reader.losses)
        assert (reader.losses, tail._begun) == ([("0.log", "unseen", 0, True)], {})


async def test_folder_that_comes_later_is_found_and_watched(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipper.inputs.tail.watch.FOLDER_S", 0.01)
    tail = make_input(reader, tmp_path / "later/*.log", rescan=NEVER_S)
    await tail.rescan()
    async with TaskGuard() as guard:
        tail.start(guard)
        (tmp_path / "later").mkdir()
        (tmp_path / "later/a.log").write_bytes(b"one\n")
        await reader.until(lambda: reader.contents == [b"one\n"])
        with (tmp_path / "later/a.log").open("ab") as file:
            file.write(b"two\n")
        await reader.until(lambda: reader.contents == [b"one\ntwo\n"])
        guard.cancel()


async def test_root_may_be_a_link(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "data/a_b_c/app").mkdir(parents=True)
    (tmp_path / "pods").symlink_to(tmp_path / "data", target_is_directory=True)
    async with following(pods_input(reader, tmp_path / "pods")):
        (tmp_path / "data/a_b_c/app/0.log").write_bytes(line(1))
        await reader.until(lambda: reader.contents == [line(1)])


async def test_link_into_a_followed_folder_is_followed_through_growth_and_rotation(
    reader: Reader, root: Path, tmp_path: Path
) -> None:
    target = tmp_path / "docker/1/1-json.log"
    target.parent.mkdir(parents=True)
    entry = b'{"log":"%d\\n","stream":"stdout","time":"2026-11-21T10:00:00.00000000%dZ"}\n'
    target.write_bytes(entry % (1, 1))
    (root / "shop_cart-1_uid-1/app").mkdir(parents=True)
    (root / "shop_cart-1_uid-1/app/0.log").symlink_to(target)
    async with following(pods_input(reader, root, follow=(str(tmp_path / "docker"),))):
        with target.open("ab") as file:
            file.write(entry % (2, 2))
        await reader.until(lambda: reader.contents == [entry % (1, 1) + entry % (2, 2)])
        target.rename(target.with_name("1-json.log.1"))
        target.write_bytes(entry % (3, 3))
        await reader.until(lambda: len(reader.contents) == 2 and reader.contents[1] == entry % (3, 3))
        assert reader.losses == []


async def test_burst_of_events_for_one_file_is_one_look(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    tail = make_input(reader, path)
    await tail.rescan()
    (generation,) = reader.generations
    before = reader.looks[generation.id]
    with path.open("ab") as file:
        file.write(b"two\n" * 1000)
    reader.is_reading = False
    await tail.handle({(Change.modified, str(path))}, since=0)
    assert reader.looks[generation.id] == before + 1


async def test_events_of_files_that_are_not_ours_cause_no_scan(reader: Reader, root: Path) -> None:
    tail = pods_input(reader, root, exclude_namespaces=("noisy",))
    await tail.rescan()
    scans = []
    scan = tail.scanner.scan
    tail.scanner.scan = lambda below="/": scans.append(below) or scan(below)  # type: ignore[method-assign, func-returns-value]
    await tail.handle(
        {
            (Change.modified, f"{root}/noisy_p_uid/app/0.log"),
            (Change.added, f"{root}/shop_p_uid/app/0.log.20261121-100000.tmp"),
            (Change.modified, f"{root}/shop_p_uid/app/0.log.20261121-100000.tmp"),
        },
        since=0,
    )
    assert scans == []
    await tail.handle({(Change.modified, f"{root}/shop_p_uid/app/0.log")}, since=0)
    assert scans == [f"{root}/shop_p_uid/app"]


async def test_without_inotify_it_polls_and_says_so(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipper.inputs.tail.input.POLL_S", 0.01)

    async def no_inotify(root: str, *, recursive: bool) -> AsyncGenerator[Batch, None]:
        raise OSError("OS file watch limit reached")
        yield set()

    tail = make_input(reader, tmp_path / "*.log", rescan=NEVER_S, watch=no_inotify)
    await tail.rescan()
    async with TaskGuard() as guard:
        tail.start(guard)
        (tmp_path / "a.log").write_bytes(b"one\n")
        await reader.until(lambda: reader.contents == [b"one\n"])
        assert tail.status()["polling"]
        guard.cancel()


async def test_events_tell_of_names_that_are_no_utf_8(reader: Reader, root: Path) -> None:
    tail = pods_input(reader, root)
    async with following(tail):
        odd = root / os.fsdecode(b"shop_cart-1_uid-1/\xff/0.log")
        odd.parent.mkdir(parents=True)
        odd.write_bytes(line(1))
        await reader.until(lambda: reader.contents == [line(1)])
        with odd.open("ab") as file:
            file.write(line(2))
        await reader.until(lambda: reader.contents == [line(1) + line(2)])
        assert not tail.status()["polling"]


async def test_slow_rescan_repairs_what_lost_events_hide(reader: Reader, tmp_path: Path) -> None:
    async def deaf(root: str, *, recursive: bool) -> AsyncGenerator[Batch, None]:
        await asyncio.Event().wait()
        yield set()

    tail = make_input(reader, tmp_path / "*.log", rescan=0.02, watch=deaf)
    await tail.rescan()
    async with TaskGuard() as guard:
        tail.start(guard)
        (tmp_path / "a.log").write_bytes(b"one\n")
        await reader.until(lambda: reader.contents == [b"one\n"])
        guard.cancel()


def test_roots_are_watched_deep_only_where_patterns_go_deep(reader: Reader) -> None:
    tail = make_input(reader, "/logs/*.log", "/pods/*/*/*.log", "/a/b.log", "/deep/**/*.log", "/deep/x.log")
    assert tail._roots() == {"/logs": False, "/pods": True, "/a": False, "/deep": True}


def test_topmost_folders_hold_all_others() -> None:
    assert topmost({"/a/b", "/a", "/a-b", "/a/b/c", "/c/d"}) == ["/a", "/a-b", "/c/d"]
