"""Documents written in a thread count only where nothing has changed meanwhile; else the chunk is encoded anew."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper import native
from shipper.body import view_of
from shipper.inputs.tail.generation import Generation
from shipper.pipeline import pump as pumping
from shipper.pipeline.jobs import Job, read_all
from shipper.pipeline.pump import Pump
from tests.fakes import clock
from tests.pipeline.bench import ARCHIVE, FILE, PLAIN, Bench, FakeOutput, line, lines, messages

pytestmark = pytest.mark.skipif(native.MODULE is None, reason=f"the native encoder is not used: {native.WHY_NOT}")


@pytest.fixture(autouse=True)
def always_in_a_thread(by_jobs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pumping, "INLINE_BYTES", 0)


def begin(bench: Bench) -> list[Job]:
    """A round up to where its thread ends; what is left when a batch is full is for a later one."""
    jobs = bench.pump.choose()
    holders = bench.pump._draft(jobs)
    done = read_all(jobs)
    for worker in holders:
        worker.release()
    for job in jobs[done:]:
        bench.pump.changed(job.generation)
    return jobs[:done]


def end(bench: Bench, jobs: list[Job]) -> None:
    for job in jobs:
        bench.pump.process(job)
    for worker in bench.workers.values():
        worker.cut()
        assert len(worker.body) == worker.filled_bytes


def opened(bench: Bench, count: int = 3) -> list[Generation]:
    return [bench.open(line(i, f"{i} a") + line(i, f"{i} b"), framing="cri") for i in range(count)]


def everything(count: int = 3) -> list[str]:
    return [f"{i} {letter}" for i in range(count) for letter in "ab"]


def scenario(run: Callable[[Bench], Any], *outputs: FakeOutput, has_threads: bool = False) -> None:
    async def whole() -> None:
        bench = Bench(*outputs)
        await run(bench)
        await bench.finish()
        bench.check()

    asyncio.run(whole()) if has_threads else clock.run(whole())


def test_drafts_of_a_round_count_in_their_order() -> None:
    async def run(bench: Bench) -> None:
        opened(bench)
        jobs = begin(bench)
        assert all(job.draft is not None and job.draft.summary is not None for job in jobs)
        before = bytes(view_of(bench.workers["es"].body))
        end(bench, jobs)
        assert bytes(view_of(bench.workers["es"].body)) == before
        await bench.finish()
        assert messages(bench.outputs["es"]) == everything()

    scenario(run)


def test_outputs_of_all_forms_have_drafts() -> None:
    async def run(bench: Bench) -> None:
        opened(bench)
        jobs = begin(bench)
        assert all(job.draft is not None and job.draft.summary is not None for job in jobs)
        end(bench, jobs)
        await bench.finish()
        for output in bench.outputs.values():
            assert messages(output) == everything()

    scenario(run, FakeOutput("a"), FakeOutput("b", form=ARCHIVE, target="logs-{time:%Y}"), FakeOutput("c", form=PLAIN))


def change_metadata(bench: Bench, generation: Generation) -> None:
    bench.plans.forget(generation)
    bench.plans._static = {"new": "field"}


def move(bench: Bench, generation: Generation) -> None:
    for cursor in generation.cursors.values():
        cursor.give_up(generation.size, "damaged")


def write_on(bench: Bench, generation: Generation) -> None:
    bench.write(generation, line(9, "9 more"))


def end_for_good(bench: Bench, generation: Generation) -> None:
    generation.is_final = True


@pytest.mark.parametrize("change", [change_metadata, write_on, end_for_good])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_changes_while_the_thread_runs_is_seen(change: Callable[[Bench, Generation], None], which: int) -> None:
    async def run(bench: Bench) -> None:
        generations = opened(bench)
        jobs = begin(bench)
        change(bench, generations[which])
        end(bench, jobs)
        await bench.finish()
        found = sorted(messages(bench.outputs["es"]))
        assert [text for text in found if text != "9 more"] == everything()
        new = [document for document in bench.outputs["es"].documents if b'"new":"field"' in document]
        assert bool(new) == (change is change_metadata)

    scenario(run)


def test_a_chunk_of_which_the_cursor_has_moved_meanwhile_is_cut_off_and_those_behind_it_are_encoded_anew() -> None:
    async def run(bench: Bench) -> None:
        generations = opened(bench)
        jobs = begin(bench)
        move(bench, generations[0])
        end(bench, jobs)
        await bench.finish()
        assert messages(bench.outputs["es"]) == everything()[2:]

    scenario(run)


def test_bytes_of_a_draft_are_let_go_and_read_again_only_where_it_does_not_count() -> None:
    async def run(bench: Bench) -> None:
        opened(bench)
        jobs = begin(bench)
        assert [(job.data, job.size) for job in jobs] == [(b"", job.length) for job in jobs]
        change_metadata(bench, jobs[1].generation)
        end(bench, jobs)
        assert [bool(job.data) for job in jobs] == [False, True, True]  # the third stands behind the second
        await bench.finish()
        assert sorted(messages(bench.outputs["es"])) == everything()

    scenario(run)


def test_what_cannot_be_read_again_now_is_read_when_its_file_is_there_again() -> None:
    async def run(bench: Bench) -> None:
        generations = opened(bench)
        jobs = begin(bench)
        change_metadata(bench, generations[0])
        file, generations[0].file = generations[0].file, None
        end(bench, jobs)
        assert bench.positions(generations[0]) == {"es": 0}
        generations[0].file = file
        bench.pump.changed(generations[0])
        await bench.finish()
        assert sorted(messages(bench.outputs["es"])) == everything()

    scenario(run)


def test_a_batch_stays_open_until_all_that_a_thread_wrote_is_added() -> None:
    async def run(bench: Bench) -> None:
        opened(bench)
        worker, jobs = bench.workers["es"], bench.pump.choose()
        holders = bench.pump._draft(jobs)
        assert holders == [worker]
        body = worker.body
        read_all(jobs)
        worker.seal()  # its time has come, or the daemon drains
        assert worker.body is body
        worker.release()
        for job in jobs:
            worker.seal()
            assert worker.body is body
            bench.pump.process(job)
        worker.cut()
        assert worker.body is not body
        await bench.finish()
        assert messages(bench.outputs["es"]) == everything()

    scenario(run)


def test_a_thread_stops_at_a_full_batch_and_what_is_left_goes_into_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where what is left is so little that it is read without a thread."""

    async def at_once(_: Pump, function: Callable[[list[Job]], int], jobs: list[Job]) -> int:
        return function(jobs)

    async def run(bench: Bench) -> None:
        monkeypatch.setattr(Pump, "_in_thread", at_once)
        generations = [bench.open(lines(20)) for _ in range(3)]
        jobs = bench.pump.choose()
        monkeypatch.setattr(pumping, "INLINE_BYTES", generations[0].size)
        assert await bench.pump._round(jobs) == 1
        assert jobs[1].draft is not None
        assert await bench.pump._round(jobs[1:]) == 1
        assert await bench.pump._round(jobs[2:]) == 1
        await bench.finish()
        assert len(messages(bench.outputs["es"])) == 60

    scenario(run, FakeOutput(max_batch_bytes=1000))


def test_a_pump_that_is_cancelled_leaves_no_half_written_batch() -> None:
    async def run(bench: Bench) -> None:
        opened(bench)
        task = asyncio.get_running_loop().create_task(bench.pump.run())
        while not len(bench.workers["es"].body):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        worker = bench.workers["es"]
        assert len(worker.body) == worker.filled_bytes
        bench.pump = bench.new_pump()
        for generation in bench.generations:
            bench.pump.changed(generation)
        await bench.finish()
        assert sorted(messages(bench.outputs["es"])) == everything()

    scenario(run, has_threads=True)


STEPS = st.lists(
    st.sampled_from(["write", "read", "deliver", "metadata", "restart", "text", "end"]), min_size=1, max_size=12
)


@given(steps=STEPS, max_bytes=st.sampled_from([300, 1000, 1 << 20]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_happens_between_reading_and_processing_each_record_arrives(
    steps: list[str], max_bytes: int, data: st.DataObject
) -> None:
    written: list[str] = []

    async def run(bench: Bench) -> None:
        opened(bench, 2)
        bench.open(b"plain\n", source=FILE, framing="text", is_final=True)
        written.extend([*everything(2), "plain"])
        for step in steps:
            jobs = begin(bench) if data.draw(st.booleans()) else []
            generation = data.draw(st.sampled_from(bench.generations))
            if step == "write" and not generation.is_final and generation.source is not FILE:
                text = f"more {len(written)}"
                bench.write(generation, line(5, text))
                written.append(text)
            elif step == "metadata":
                bench.plans.forget(generation)
            elif step == "end":
                generation.is_final = True
            elif step == "read" and not jobs:
                bench.rounds()
            elif step == "deliver" and not jobs:
                await bench.deliver()
            end(bench, jobs)
        await bench.finish()
        for output in bench.outputs.values():
            assert set(messages(output)) == set(written)
            assert len(messages(output)) == len(written)

    scenario(run, FakeOutput("a", max_batch_bytes=max_bytes), FakeOutput("b", form=ARCHIVE))
