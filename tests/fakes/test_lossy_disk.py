"""The disk that loses what was not fsynced: what survives for certain, and what only may."""

import random
from pathlib import PurePath

from tests.fakes.lossy_disk import PAGE_BYTES, Disk, Loss, Truncate, Write

ROOT = PurePath("/disk")
A, B = ROOT / "a", ROOT / "b"


def found(disk: Disk, loss: Loss, seed: int = 0) -> dict[str, bytes]:
    tree = disk.after_loss(random.Random(seed), loss)
    return {path.name: node[1] for path, node in tree.items() if node is not None}


def any_of(disk: Disk) -> set[frozenset[tuple[str, bytes]]]:
    return {frozenset(found(disk, "any", seed).items()) for seed in range(200)}


def test_a_name_is_its_folders_and_bytes_are_the_files() -> None:
    disk = Disk(ROOT)
    disk.create(1, A)
    disk.file(A).change(Write(2, 0, b"x"))
    disk.sync(3, A)
    assert (found(disk, "everything"), found(disk, "data")) == ({}, {"a": b"x"})
    disk.sync(4, ROOT)
    disk.file(A).change(Write(5, 1, b"y"))
    assert (found(disk, "everything"), found(disk, "nothing")) == ({"a": b"x"}, {"a": b"xy"})


def test_what_was_written_after_an_fsync_began_is_not_in_it() -> None:
    disk = Disk(ROOT, "there")
    disk.create(1, ROOT / "there" / "a")
    disk.sync(1, ROOT / "there")
    disk.file(ROOT / "there" / "a").change(Write(3, 0, b"x"))
    disk.sync(2, ROOT / "there" / "a")
    assert found(disk, "everything") == {"a": b""}


def test_any_page_of_a_write_may_be_there_without_the_others() -> None:
    disk = Disk(ROOT)
    disk.create(1, A)
    disk.sync(1, ROOT)
    disk.file(A).change(Write(2, 0, b"x" * 2 * PAGE_BYTES))
    none, first = bytes(PAGE_BYTES), b"x" * PAGE_BYTES
    contents = {content for tree in any_of(disk) for _, content in tree}
    assert contents == {b"", first, none + first, first + first}


def test_a_cut_may_be_lost_though_what_was_written_after_it_is_not() -> None:
    disk = Disk(ROOT)
    disk.create(1, A)
    disk.file(A).change(Write(1, 0, b"abc"))
    disk.sync(1, A)
    disk.sync(1, ROOT)
    disk.file(A).change(Truncate(2, 1))
    disk.file(A).change(Write(3, 1, b"X"))
    assert {content for tree in any_of(disk) for _, content in tree} == {b"abc", b"a", b"aXc", b"aX"}


def test_renames_of_one_name_keep_their_order_and_other_names_go_their_own_ways() -> None:
    disk = Disk(ROOT)
    for path in (A, B):
        disk.create(1, path)
        disk.file(path).change(Write(1, 0, path.name.encode()))
        disk.sync(1, path)
    disk.sync(1, ROOT)
    disk.move(2, A, ROOT / "a.1")
    disk.create(3, A)
    disk.remove(4, B)
    trees = {frozenset(found(disk, "any", seed)) for seed in range(200)}
    histories = [{"a"}, {"a.1"}, {"a.1", "a"}]
    assert trees == {frozenset(names | rest) for names in histories for rest in (set(), {"b"})}
