"""One generation, one cursor, whatever its files are called: what the kubelet and logrotate do to names and inodes."""

import gzip
import os
from pathlib import Path

import pytest

from benchmarks.world.kubelet import Kubelet, Settings
from benchmarks.world.runtime import ContainerLog
from shipper.inputs.tail.input import TailInput
from tests.inputs.tail.reader import Reader, line, make_input, restart, without_rights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pods" / "shop_cart-1_uid-1" / "app"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def pods(reader: Reader, folder: Path) -> TailInput:
    return make_input(reader, folder.parents[1] / "*/*/*.log")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def logs(reader: Reader, local: Path) -> TailInput:
    return make_input(reader, local / "*.log", format="text")


def compress(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# Names of the kubelet


async def test_renamed_file_is_read_to_its_end_and_the_new_one_is_another(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    append(live, line(2))
    live.rename(folder / "0.log.20261121-100000")
    live.write_bytes(line(3))
    await pods.rescan()
    assert reader.contents == [line(1) + line(2), line(3)]
    assert reader.generations[1].previous is reader.generations[0]
    assert not reader.generations[0].is_final  # the runtime may not have been asked to reopen yet


async def test_rotated_file_may_still_grow_when_the_kubelet_died_before_the_runtime_reopened(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    rotated = live.rename(folder / "0.log.20261121-100000")
    await pods.rescan()
    append(rotated, line(2))
    await pods.rescan()
    assert reader.contents == [line(1) + line(2)]


async def test_name_that_goes_back_after_a_failed_reopen_is_the_same_generation(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    rotated = live.rename(folder / "0.log.20261121-100000")
    await pods.rescan()
    rotated.rename(live)
    append(live, line(2))
    await pods.rescan()
    assert reader.contents == [line(1) + line(2)]
    assert (reader.generations[0].path, reader.losses) == (str(live), [])


async def test_compression_while_the_plain_file_is_held_open_changes_nothing(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    reader.is_reading = False
    rotated, live = folder / "0.log.20261121-100000", folder / "0.log"
    rotated.write_bytes(line(1) + line(2))
    live.write_bytes(line(3))
    await pods.rescan()
    compress(rotated)
    await pods.rescan()
    first = reader.generations[0]
    assert (first.is_gzip, first.is_final, first.is_deleted) == (True, True, False)
    reader.read_all()
    assert reader.contents == [line(1) + line(2), line(3)]


async def test_closed_plain_file_is_read_on_in_its_gzip(reader: Reader, pods: TailInput, folder: Path) -> None:
    reader.is_reading = False
    rotated = folder / "0.log.20261121-100000"
    rotated.write_bytes(line(1) + line(2))
    await pods.rescan()
    compress(rotated)
    pods = await restart(reader, pods)
    reader.is_reading = True
    await pods.rescan()
    assert reader.contents == [line(1) + line(2)]
    assert reader.losses == []


async def test_gzip_that_cannot_be_opened_now_ends_nothing(reader: Reader, pods: TailInput, folder: Path) -> None:
    rotated = folder / "0.log.20261121-100000"
    rotated.write_bytes(line(1))
    await pods.rescan()
    append(rotated, line(2))
    compress(rotated)
    pods = await restart(reader, pods)
    with without_rights(rotated.with_name(rotated.name + ".gz")):
        await pods.rescan()
        await pods.rescan()
    assert reader.losses == []
    await pods.rescan()
    assert reader.contents == [line(1) + line(2)]


async def test_plain_wins_where_both_exist(reader: Reader, pods: TailInput, folder: Path) -> None:
    rotated = folder / "0.log.20261121-100000"
    rotated.write_bytes(line(1))
    rotated.with_name(rotated.name + ".gz").write_bytes(gzip.compress(line(1)))
    await pods.rescan()
    assert reader.contents == [line(1)]
    assert reader.generations[0].path == str(rotated)


async def test_gzip_that_is_not_complete_yet_is_no_file(reader: Reader, pods: TailInput, folder: Path) -> None:
    (folder / "0.log.20261121-100000.tmp").write_bytes(b"\x1f\x8b")
    await pods.rescan()
    assert reader.generations == []


async def test_several_rotations_while_down_are_all_read_in_order(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    append(live, line(2))
    for number in (3, 4, 5):
        compress(live.rename(folder / f"0.log.20261121-10000{number}"))
        live.write_bytes(line(number))
    pods = await restart(reader, pods)
    await pods.rescan()
    assert reader.contents == [line(1) + line(2), line(3), line(4), line(5)]
    assert [g.is_final for g in reader.generations] == [True, True, True, False]
    assert reader.losses == []


async def test_reused_inode_is_not_taken_for_the_old_file(reader: Reader, pods: TailInput, folder: Path) -> None:
    """The same inode, at the same path, with more bytes: only the first of them tell."""
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    pods = await restart(reader, pods)
    compress_into = folder / "0.log.20261121-100000.gz"
    compress_into.write_bytes(gzip.compress(line(1) + line(2)))
    live.write_bytes(line(3) + line(4) + line(5))  # the inode stays
    await pods.rescan()
    assert reader.contents == [line(1) + line(2), line(3) + line(4) + line(5)]
    assert reader.losses == []


async def test_file_seen_under_both_names_is_one(reader: Reader, pods: TailInput, folder: Path) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    os.link(live, folder / "0.log.20261121-100000")  # as a listing during the rename shows it
    await pods.rescan()
    await pods.rescan()
    assert reader.contents == [line(1)]


async def test_file_that_a_listing_missed_is_not_given_up(
    reader: Reader, pods: TailInput, folder: Path, tmp_path: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    elsewhere = live.rename(tmp_path / "moved")
    await pods._scan("/", may_skip=False)  # one listing only
    assert not reader.generations[0].is_final
    elsewhere.rename(live)
    append(live, line(2))
    await pods.rescan()
    assert reader.contents == [line(1) + line(2)]
    assert reader.generations[0].gone_at is None


@pytest.mark.parametrize("seed", range(6))
async def test_everything_that_the_kubelet_keeps_is_read_once(reader: Reader, tmp_path: Path, seed: int) -> None:
    """Rotations, restarts and downtimes, with every inode used again as soon as it is free."""
    kubelet = Kubelet(tmp_path / "pods", seed=seed, settings=Settings(reuse_inodes=True))
    log = kubelet.create_pod().log
    pods = make_input(reader, tmp_path / "pods/*/*/*.log")
    written = b""
    for turn in range(12):
        before = _bytes(log)
        log.write(3)
        written += log.path.read_bytes()[before:]
        if (turn + seed) % 3 != 0:
            await pods.rescan()
        if (turn + seed) % 4 == 1:
            pods = await restart(reader, pods)
        if turn % 2:
            kubelet.rotate(log, reopen_fails=turn == 5)
        elif turn == 6:
            kubelet.restart_container(log)
    await pods.rescan()
    assert b"".join(sorted(reader.everything.splitlines(True))) == b"".join(sorted(written.splitlines(True)))
    assert reader.losses == []


def _bytes(log: ContainerLog) -> int:
    return log.path.stat().st_size


# What ends a generation


async def test_second_newer_file_and_higher_restart_end_a_generation(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    for number, name in enumerate(["0.log.20261121-100000", "0.log.20261121-100010", "0.log"]):
        (folder / name).write_bytes(line(number))
    await pods.rescan()
    assert [g.is_final for g in reader.generations] == [True, False, False]
    (folder / "1.log").write_bytes(line(9))
    await pods.rescan()
    assert [g.is_final for g in reader.generations] == [True, True, True, False]
    assert reader.generations[3].previous is reader.generations[2]


async def test_restarts_that_one_scan_finds_are_known_in_their_order(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    for number in (10, 9, 11, 8):
        (folder / f"{number}.log").write_bytes(line(number))
    await pods.rescan()
    assert reader.contents == [line(number) for number in (8, 9, 10, 11)]
    assert [g.previous for g in reader.generations] == [None, *reader.generations[:3]]


async def test_last_words_are_measured_before_their_file_ends(reader: Reader, pods: TailInput, folder: Path) -> None:
    live = folder / "0.log"
    live.write_bytes(line(0))
    await pods.rescan()
    (folder / "1.log").write_bytes(line(1))
    successor = pods.scanner.scan(str(folder)).families[str(folder / "1.log")]
    append(live, line(2))
    await pods.catalog.reconcile([successor], may_skip=False)
    assert reader.generations[0].is_final
    assert reader.generations[0].size == len(line(0) + line(2))


async def test_deleted_folder_ends_its_generations_and_open_files_are_read_on(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    append(live, line(2) + b"half a line")
    live.unlink()
    folder.rmdir()
    await pods.rescan()
    assert reader.contents == [line(1) + line(2) + b"half a line"]
    generation = reader.generations[0]
    assert (generation.is_final, generation.is_deleted, reader.losses) == (True, True, [])
    assert generation.gone_at is not None
    assert pods.catalog.by_path == {}


async def test_deleted_file_that_grew_once_more_is_read_before_it_is_closed(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    with live.open("ab") as runtime:
        live.unlink()
        await pods.rescan()
        runtime.write(line(2))
    pods.catalog.release(reader.generations[0])
    assert reader.contents == [line(1) + line(2)]
    pods.catalog.release(reader.generations[0])
    assert reader.generations[0].file is None


async def test_file_deleted_while_down_is_lost_and_a_gap(reader: Reader, pods: TailInput, folder: Path) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    reader.is_reading = False
    append(live, line(2))
    await pods.rescan()
    pods = await restart(reader, pods)
    live.unlink()
    (folder / "1.log").write_bytes(line(3))
    await pods.rescan()
    await pods.rescan()
    assert reader.losses == [("0.log", "deleted", len(line(2)), True)]


async def test_final_file_that_was_read_leaves_no_gap(reader: Reader, pods: TailInput, folder: Path) -> None:
    rotated = folder / "0.log.20261121-100000.gz"
    rotated.write_bytes(gzip.compress(line(1)))
    await pods.rescan()
    pods = await restart(reader, pods)
    rotated.unlink()
    await pods.rescan()
    assert reader.losses == []
    assert reader.generations[0].is_deleted


@pytest.mark.parametrize("is_down", [True, False])
async def test_an_end_that_only_an_empty_file_has_told_of_is_a_gap_when_both_go_unseen(
    reader: Reader, pods: TailInput, folder: Path, is_down: bool
) -> None:
    """The next restart's file may have been written to, where nobody was there to see it."""
    (folder / "0.log").write_bytes(line(1))
    (folder / "1.log").touch()
    await pods.rescan()
    assert reader.generations[0].is_final
    if is_down:
        pods = await restart(reader, pods)
    for path in folder.iterdir():
        path.unlink()
    await pods.rescan()
    await pods.rescan()
    assert reader.losses == ([("0.log", "deleted", 0, True)] if is_down else [])


async def test_such_a_gap_is_told_once(reader: Reader, pods: TailInput, folder: Path) -> None:
    (folder / "0.log").write_bytes(line(1))
    (folder / "1.log").touch()
    await pods.rescan()
    pods = await restart(reader, pods)
    for path in folder.iterdir():
        path.unlink()
    for _ in range(3):
        await pods.rescan()
        await pods.rescan()
        pods = await restart(reader, pods)
    assert reader.losses == [("0.log", "deleted", 0, True)]


async def test_what_went_while_it_was_seen_is_no_gap_after_a_restart(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    (folder / "0.log").write_bytes(line(1))
    (folder / "1.log").touch()
    await pods.rescan()
    for path in folder.iterdir():
        path.unlink()
    for _ in range(3):
        await pods.rescan()
        pods = await restart(reader, pods)
    await pods.rescan()
    assert reader.losses == []


async def test_what_went_before_an_empty_file_that_is_still_there_is_no_gap(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    """Until that goes as well, and nobody sees it."""
    (folder / "0.log").write_bytes(line(1))
    (folder / "1.log").touch()
    await pods.rescan()
    pods = await restart(reader, pods)
    (folder / "0.log").unlink()
    for _ in range(3):
        await pods.rescan()
        await pods.rescan()
        pods = await restart(reader, pods)
        assert reader.losses == []
    (folder / "1.log").unlink()
    await pods.rescan()
    await pods.rescan()
    assert reader.losses == [("0.log", "deleted", 0, True)]


async def test_unreadable_folder_ends_nothing(reader: Reader, pods: TailInput, folder: Path) -> None:
    (folder / "0.log").write_bytes(line(1))
    await pods.rescan()
    for unreadable in (folder, folder.parent):
        with without_rights(unreadable):
            await pods.rescan()
            await pods.rescan()
            assert str(unreadable) in pods.status()["unreadable"]
    assert not reader.generations[0].is_final
    assert reader.losses == []
    await pods.rescan()
    assert pods.status()["unreadable"] == {}


# Local files


async def test_local_files_are_followed_through_numbered_rotation(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    live.write_bytes(b"one\n")
    await logs.rescan()
    live.rename(local / "app.log.1")
    live.write_bytes(b"two\n")
    await logs.rescan()
    (local / "app.log.1").rename(local / "app.log.2")
    compress(local / "app.log.2")
    live.rename(local / "app.log.1")
    live.write_bytes(b"three\n")
    logs = await restart(reader, logs)
    await logs.rescan()
    assert reader.contents == [b"one\n", b"two\n", b"three\n"]
    assert [Path(g.path).name for g in reader.generations] == ["app.log.2.gz", "app.log.1", "app.log"]


async def test_dated_gzip_of_a_local_file_continues_it(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    live.write_bytes(b"one\n")
    await logs.rescan()
    append(live, b"two\n")
    compress(live.rename(local / "app.log-20261121"))
    logs = await restart(reader, logs)
    await logs.rescan()
    assert reader.contents == [b"one\ntwo\n"]


async def test_live_local_files_with_equal_first_bytes_are_two(reader: Reader, logs: TailInput, local: Path) -> None:
    (local / "a.log").write_bytes(b"started\n")
    (local / "b.log").write_bytes(b"started\n")
    await logs.rescan()
    assert len(reader.generations) == 2
    live = local / "a.log"
    live.rename(local / "a.log.1")
    live.write_bytes(b"started\n")
    await logs.rescan()
    assert len(reader.generations) == 3
    logs = await restart(reader, logs)
    append(live, b"more\n")
    await logs.rescan()
    assert sorted(reader.contents) == [b"started\n", b"started\n", b"started\nmore\n"]
    assert reader.losses == []


async def test_copytruncate_with_a_copy_loses_nothing(reader: Reader, logs: TailInput, local: Path) -> None:
    reader.is_reading = False
    live = local / "app.log"
    live.write_bytes(b"one\ntwo\n")
    await logs.rescan()
    (local / "app.log.1").write_bytes(live.read_bytes())
    live.write_bytes(b"3\n")
    await logs.rescan()
    reader.read_all()
    assert reader.contents == [b"one\ntwo\n", b"3\n"]
    assert reader.losses == []


async def test_copy_in_progress_is_not_another_generation(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    lines = b"".join(b"%d\n" % i for i in range(5000))
    live.write_bytes(lines)
    await logs.rescan()
    (local / "app.log.1").write_bytes(lines[:4096])
    await logs.rescan()
    logs = await restart(reader, logs)
    await logs.rescan()
    assert reader.contents == [lines]


@pytest.mark.parametrize("after", [b"3\n", b"a longer line than all before\n"], ids=["shorter", "longer"])
async def test_copytruncate_without_a_copy_counts_what_was_unread(
    reader: Reader, logs: TailInput, local: Path, after: bytes
) -> None:
    live = local / "app.log"
    live.write_bytes(b"one\n")
    await logs.rescan()
    reader.is_reading = False
    append(live, b"two\n")
    await logs.rescan()
    live.write_bytes(after)  # in place
    await logs.rescan()
    reader.read_all()
    assert reader.contents == [b"one\n", after]
    assert reader.losses == [("app.log", "truncated", 4, False)]
    logs = await restart(reader, logs)
    append(live, b"4\n")
    await logs.rescan()
    assert reader.contents == [b"one\n", after + b"4\n"]


async def test_file_truncated_while_down_is_a_gap(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    live.write_bytes(b"one\ntwo\n")
    await logs.rescan()
    logs = await restart(reader, logs)
    live.write_bytes(b"3\n")
    await logs.rescan()
    assert reader.contents == [b"one\ntwo\n", b"3\n"]
    assert reader.losses == [("app.log", "truncated", 0, True)]


async def test_emptied_file_begins_anew(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    live.write_bytes(b"one\n")
    await logs.rescan()
    os.truncate(live, 0)
    await logs.rescan()
    append(live, b"one\n")  # the same first bytes again
    await logs.rescan()
    assert reader.contents == [b"one\n", b"one\n"]


async def test_file_cut_to_a_part_of_itself_is_read_again(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    lines = b"".join(b"%d\n" % i for i in range(5000))
    live.write_bytes(lines)
    await logs.rescan()
    logs = await restart(reader, logs)
    os.truncate(live, 4096)
    await logs.rescan()
    await logs.rescan()
    assert reader.contents == [lines, lines[:4096]]


async def test_replaced_file_is_a_new_generation(reader: Reader, logs: TailInput, local: Path) -> None:
    live = local / "app.log"
    live.write_bytes(b"one\n")
    await logs.rescan()
    (local / "new").write_bytes(b"two\n")
    (local / "new").rename(live)
    await logs.rescan()
    assert reader.contents == [b"one\n", b"two\n"]


# The order of a container's files


async def test_no_file_is_begun_where_one_moved_since_they_were_listed(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    (folder / "0.log.20261121-100000").write_bytes(line(1))
    (folder / "0.log.20261121-100010").write_bytes(line(2))
    (folder / "0.log").write_bytes(line(3))
    (family,) = pods.scanner.scan().families.values()
    compress(folder / "0.log.20261121-100010")
    await pods.catalog.reconcile([family], may_skip=False)
    assert reader.contents == []
    assert pods.catalog.take_doubtful() == {str(folder)}
    await pods.rescan()
    assert reader.contents == [line(1), line(2), line(3)]


async def test_an_older_file_that_cannot_be_read_keeps_no_other_waiting(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    older, live = folder / "0.log.20261121-100000", folder / "0.log"
    older.write_bytes(line(1))
    live.write_bytes(line(2))
    with without_rights(older):
        await pods.rescan()
        assert reader.contents == [line(2)]
    await pods.rescan()
    assert reader.contents == [line(2), line(1)]
    by_age = pods.catalog.families[str(live)]
    assert [Path(g.path).name for g in by_age] == ["0.log.20261121-100000", "0.log"]
    assert by_age[1].previous is by_age[0]


async def test_a_clock_that_is_set_back_does_not_turn_the_order_of_known_files(
    reader: Reader, pods: TailInput, folder: Path
) -> None:
    live = folder / "0.log"
    live.write_bytes(line(1))
    await pods.rescan()
    for number, suffix in enumerate(("110000", "100000"), 2):
        live.rename(folder / f"0.log.20261121-{suffix}")
        live.write_bytes(line(number))
        await pods.rescan()
    by_age = pods.catalog.families[str(live)]
    assert [reader.read[g.id] for g in by_age] == [line(1), line(2), line(3)]
    assert [g.is_final for g in by_age] == [True, False, False]
    pods = await restart(reader, pods)
    await pods.rescan()
    assert [g.id for g in pods.catalog.families[str(live)]] == [g.id for g in by_age]
