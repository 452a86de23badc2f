"""What belongs together is committed together, and what a commit could not write goes into the next."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.checkpoint import Changes, Checkpoint
from shipper.errors import StateError
from shipper.inputs.tail.generation import Generation
from shipper.ledger import Cursor
from shipper.pipeline import journal as module
from shipper.pipeline.journal import Journal
from shipper.record import Source


class Spool:
    """A Durable whose disk can fail, and whose fsync can take as long as a test wants."""

    def __init__(self) -> None:
        self.changed: dict[str, bytes | None] = {}
        self.error: Exception | None = None
        self.syncs = 0
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def changes(self) -> Mapping[str, bytes | None]:
        changed, self.changed = self.changed, {}
        return changed

    def sync(self) -> None:
        self.syncs += 1
        self.entered.set()
        assert self.may_go_on.wait(10)
        if self.error is not None:
            raise self.error


class FullDisk(Checkpoint):
    """Refuses so many commits."""

    failures = 0

    def commit(self, changes: Changes) -> None:
        if self.failures:
            self.failures -= 1
            raise StateError("the disk is full")
        super().commit(changes)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.checkpoint = FullDisk(folder)
        self.spool = Spool()
        self.generations: list[Generation] = []
        self.ids: list[int] = []
        self.journal = Journal(
            self.checkpoint,
            {"archive": self.spool},
            lambda: self.generations,
            on_durable=lambda generation: self.ids.append(generation.id),
        )

    def open(self, id_: int = 1) -> Generation:
        generation = Generation(id=id_, source=Source("pods", "/log"), path="/log", tag="t")
        generation.cursors["archive"] = Cursor(id_, "archive")
        self.generations.append(generation)
        return generation

    def stored(self) -> tuple[dict[int, int], dict[int, int], dict[str, bytes]]:
        """Sizes of generations, offsets of cursors, rows."""
        found = self.checkpoint.load()
        acked = {id_: rows["archive"].acked for id_, rows in found.cursors.items()}
        return {g.id: g.size for g in found.generations.values()}, acked, found.rows.get("archive", {})


def advance(generation: Generation, size: int) -> None:
    generation.size, generation.is_dirty = size, True
    cursor = generation.cursors["archive"]
    cursor.take(size, fates={"delivered": size - cursor.position}, records=0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.checkpoint.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.001)


async def test_rows_cursors_and_generations_are_written_after_the_sync(bench: Bench) -> None:
    advance(bench.open(), 10)
    bench.spool.changed = {"object": b"10 bytes"}
    assert await bench.journal.commit()
    assert bench.stored() == ({1: 10}, {1: 10}, {"object": b"10 bytes"})
    assert bench.spool.syncs == 1


async def test_nothing_is_written_where_nothing_has_changed(bench: Bench) -> None:
    advance(bench.open(), 10)
    await bench.journal.commit()
    bench.checkpoint.failures = 1
    assert await bench.journal.commit()
    assert (bench.checkpoint.failures, bench.spool.syncs) == (1, 0)


async def test_change_after_the_collection_belongs_to_the_next_commit(bench: Bench) -> None:
    generation = bench.open()
    advance(generation, 10)
    bench.spool.changed = {"object": b"10"}
    bench.spool.may_go_on.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.journal.commit())
        await until(bench.spool.entered.is_set)
        advance(generation, 20)
        bench.spool.changed = {"object": b"20"}
        bench.spool.may_go_on.set()
        await first
    assert bench.stored() == ({1: 10}, {1: 10}, {"object": b"10"})
    await bench.journal.commit()
    assert bench.stored() == ({1: 20}, {1: 20}, {"object": b"20"})


@pytest.mark.parametrize("error", [OSError("disk"), StateError("disk"), RuntimeError("a bug")], ids=repr)
async def test_failed_sync_commits_nothing_and_is_repeated_for_its_rows(bench: Bench, error: Exception) -> None:
    generation = bench.open()
    advance(generation, 10)
    bench.spool.changed = {"a": b"1", "b": b"1"}
    bench.spool.error = error
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            await bench.journal.commit()
    else:
        assert not await bench.journal.commit()
        assert (bench.journal.failures, bench.journal.last_error) == (1, "disk")
    assert bench.stored() == ({}, {}, {})

    bench.spool.error = None
    bench.spool.changed = {"b": None, "c": b"2"}
    assert await bench.journal.commit()
    assert bench.stored() == ({1: 10}, {1: 10}, {"a": b"1", "c": b"2"})
    assert (bench.spool.syncs, bench.journal.last_error) == (2, "")


async def test_rows_are_synced_again_though_only_the_transaction_had_failed(bench: Bench) -> None:
    bench.spool.changed = {"a": b"1"}
    bench.checkpoint.failures = 1
    assert not await bench.journal.commit()
    assert await bench.journal.commit()
    assert (bench.spool.syncs, bench.stored()[2]) == (2, {"a": b"1"})


async def test_failed_commit_does_not_overwrite_what_came_after_it(bench: Bench) -> None:
    generation = bench.open()
    advance(generation, 10)
    bench.checkpoint.failures = 1
    await bench.journal.commit()
    advance(generation, 20)
    await bench.journal.commit()
    assert bench.stored() == ({1: 20}, {1: 20}, {})


async def test_cancelled_commit_keeps_its_changes(bench: Bench) -> None:
    advance(bench.open(), 10)
    bench.spool.changed = {"a": b"1"}
    bench.spool.error = OSError("the thread's end is not heard any more")
    bench.spool.may_go_on.clear()
    async with asyncio.TaskGroup() as group:
        commit = group.create_task(bench.journal.commit())
        await until(bench.spool.entered.is_set)
        commit.cancel()
    bench.spool.may_go_on.set()
    bench.spool.error = None
    await bench.journal.commit()
    assert bench.stored() == ({1: 10}, {1: 10}, {"a": b"1"})


async def test_forgotten_generation_goes_though_a_failed_commit_had_it(bench: Bench) -> None:
    generation = bench.open()
    bench.open(2)
    bench.checkpoint.failures = 1
    await bench.journal.commit()
    bench.generations.remove(generation)
    bench.journal.forget(generation)
    bench.checkpoint.failures = 1
    await bench.journal.commit()
    await bench.journal.commit()
    assert set(bench.stored()[0]) == set(bench.stored()[1]) == {2}


async def test_waiter_is_served_by_a_commit_that_began_after_its_call(bench: Bench) -> None:
    bench.spool.changed = {"a": b"1"}
    bench.spool.may_go_on.clear()
    async with asyncio.TaskGroup() as group:
        early = group.create_task(bench.journal.committed())
        await asyncio.sleep(0)
        first = group.create_task(bench.journal.commit())
        await until(bench.spool.entered.is_set)
        bench.spool.changed = {"a": b"2"}
        late = group.create_task(bench.journal.committed())
        await asyncio.sleep(0)
        bench.spool.may_go_on.set()
        await first
        await early
        assert not late.done()
        await bench.journal.commit()
        await late
    assert bench.stored()[2] == {"a": b"2"}


async def test_waiter_waits_on_when_the_commit_fails(bench: Bench) -> None:
    bench.spool.changed = {"a": b"1"}
    bench.checkpoint.failures = 1
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(bench.journal.committed())
        await asyncio.sleep(0)
        await bench.journal.commit()
        await asyncio.sleep(0)
        assert not waiter.done()
        await bench.journal.commit()
        await waiter


async def test_waiter_that_has_gone_harms_nobody(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(bench.journal.committed())
        stays = group.create_task(bench.journal.committed())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        await bench.journal.commit()
        await stays


async def test_trouble_is_said_once_however_often_it_is_tried_again_and_so_is_its_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for failures in (3, 2):
        bench.open(failures)
        bench.checkpoint.failures = failures
        for _ in range(failures):
            assert not await bench.journal.commit()
        for _ in range(2):
            assert await bench.journal.commit()
    assert bench.journal.failures == 5
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"] * 2


async def test_random_id_is_used_when_it_is_durable_and_not_before(bench: Bench) -> None:
    generation = bench.open()
    generation.must_commit_first = True
    bench.checkpoint.failures = 1
    await bench.journal.commit()
    assert (generation.must_commit_first, bench.ids) == (True, [])
    await bench.journal.commit()
    assert (generation.must_commit_first, bench.ids) == (False, [1])


async def test_the_end_of_a_seam_counts_when_it_is_durable_also_after_a_restart(bench: Bench) -> None:
    generation = bench.open()
    await bench.journal.commit()
    generation.seam_ends = generation.is_dirty = True
    bench.checkpoint.failures = 1
    await bench.journal.commit()
    assert (generation.seam_is_over, bench.ids) == (False, [])
    await bench.journal.commit()
    assert (generation.seam_is_over, bench.ids) == (True, [1])
    (row,) = bench.checkpoint.load().generations.values()
    assert Generation.from_row(row, "kube").seam_is_over


async def test_journal_commits_for_who_waits_and_does_not_spin_on_a_full_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.05)
    loop = asyncio.get_running_loop()
    advance(bench.open(), 10)
    bench.checkpoint.failures = 3
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        journal = group.create_task(bench.journal.run())
        await bench.journal.committed()
        journal.cancel()
    assert bench.journal.failures == 3
    assert loop.time() - began >= 3 * 0.05
    assert bench.stored()[1] == {1: 10}


# -- sizes that cursors tell ------------------------------------------------------------------------------------------


def grow(generation: Generation, size: int, *, acked: int) -> None:
    generation.size, generation.has_grown = size, True
    cursor = generation.cursors["archive"]
    cursor.take(acked, fates={"delivered": acked - cursor.position}, records=0)


async def test_a_file_that_has_grown_and_is_confirmed_to_its_end_is_one_row(bench: Bench) -> None:
    generation = bench.open()
    advance(generation, 10)
    await bench.journal.commit()
    grow(generation, 20, acked=20)
    changes = bench.journal._collect()
    assert (changes.generations, [row.acked for row in changes.cursors]) == ([], [20])
    bench.checkpoint.commit(changes)
    assert bench.stored()[:2] == ({1: 20}, {1: 20})


async def test_the_size_of_a_file_that_is_not_confirmed_to_its_end_is_written(bench: Bench) -> None:
    generation = bench.open()
    advance(generation, 10)
    await bench.journal.commit()
    grow(generation, 30, acked=20)
    await bench.journal.commit()
    assert bench.stored()[:2] == ({1: 30}, {1: 20})
    grow(generation, 30, acked=25)
    await bench.journal.commit()
    assert bench.stored()[:2] == ({1: 30}, {1: 25})


@given(
    steps=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans(), st.booleans()), max_size=12),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_committed_last_tells_the_size_that_was_known_then(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool, bool]]
) -> None:
    """Also where commits fail in between."""

    async def scenario() -> None:
        bench = Bench(tmp_path_factory.mktemp("state"))
        generation = bench.open()
        known = 0
        for more, behind, is_committed, fails in steps:
            size = generation.size + more
            grow(generation, size, acked=max(generation.cursors["archive"].position, size - behind))
            if is_committed:
                bench.checkpoint.failures = int(fails)
                if await bench.journal.commit():
                    known = size
                bench.checkpoint.failures = 0
            if known:
                assert bench.stored()[0][1] == known
        bench.checkpoint.close()

    asyncio.run(scenario())
