"""What is read next: fair between files, for each output at its own pace, and never in vain again and again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from shipper.ledger import DELIVERED
from shipper.parsers.join import MOST_AHEAD
from shipper.pipeline.jobs import QUANTUM_BYTES, read_all
from shipper.pipeline.pump import (
    HOLD_S,
    INLINE_BYTES,
    LEAST_BYTES,
    MEET_S,
    OPEN_S,
    QUANTUM_LINES,
    RETRY_S,
    ROUND_BYTES,
    TAIL_S,
)
from shipper.record import Source
from tests.fakes import clock
from tests.pipeline.bench import FILE, Bench, FakeOutput, fates, file_of, line, lines, messages
from tests.steps import counted_steps

Scenario = Callable[[], Coroutine[Any, Any, None]]
OTHER = Source("pods", "/var/log/pods/shop_till_v/app/0.log", "shop", "till", "v", "app", 0)
LENGTH = 200  # so long that a quantum holds fewer lines than a read may have
MUCH = lines(8 * QUANTUM_BYTES // LENGTH, length=LENGTH)


def timed(scenario: Scenario) -> Callable[[], None]:
    """The scenario as a test, on a clock of its own."""

    def test() -> None:
        clock.run(scenario())

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


def open_p(number: int = 0) -> bytes:
    return line(number, "begun ", tag="P")


def behind(count: int, *, first: int = 1) -> bytes:
    return b"".join(line(i, f"err {i}", stream="stderr") for i in range(first, first + count))


# -- turns ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("by_jobs")
@timed
async def test_files_take_turns_of_a_bounded_quantum() -> None:
    bench = Bench()
    noisy = bench.open(MUCH)
    bench.round()
    quiet = bench.open(line(1), source=OTHER)
    order = [(job.generation, job.length) for job in bench.round()]
    assert order == [(noisy, QUANTUM_BYTES), (quiet, quiet.size)]


@timed
async def test_what_was_read_leaves_when_nothing_more_is_to_be_read_unless_room_is_missing() -> None:
    bench = Bench()
    pump, worker = bench.pump, bench.workers["es"]
    worker.output.max_batch_age_s = 0.1
    running = asyncio.get_running_loop().create_task(pump.run())
    try:
        bench.open(line(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert worker.in_flight_bytes == worker.used_bytes > 0
        await asyncio.sleep(1)
        pump._turns.block(bench.open(line(2), source=OTHER), "es")
        await asyncio.sleep(0.001)
        assert worker.filled_bytes > 0, "it may become full yet"
    finally:
        running.cancel()


@timed
async def test_a_round_over_many_files_is_bounded_and_goes_on_with_the_next_ones() -> None:
    bench = Bench()
    files = [bench.open(MUCH, source=OTHER) for _ in range(6)]
    per_round = ROUND_BYTES // QUANTUM_BYTES
    first, second = bench.round(), bench.round()
    assert [job.generation for job in first] == files[:per_round]
    assert [job.generation for job in second] == [*files[per_round:], *files[: 2 * per_round - len(files)]]


@timed
async def test_a_read_is_of_what_fills_a_batch_where_batches_are_small() -> None:
    bench = Bench(FakeOutput(max_batch_bytes=LEAST_BYTES * 6))
    bench.open(MUCH)
    assert [job.length for job in bench.round()] == [LEAST_BYTES * 6]
    bench.pump._growth = 3.0
    assert [job.length for job in bench.round()] == [LEAST_BYTES * 2]
    bench.pump._growth = 60.0
    assert [job.length for job in bench.round()] == [LEAST_BYTES]


@timed
async def test_everything_is_delivered_in_the_order_of_the_file() -> None:
    bench = Bench()
    bench.open(MUCH)
    await bench.finish()
    bench.check()
    assert list(map(int, messages(bench.outputs["es"]))) == list(range(len(MUCH) // LENGTH))


@timed
async def test_a_read_grows_for_a_long_record_and_is_the_usual_one_after_it() -> None:
    bench = Bench(limit=3 * QUANTUM_BYTES)
    generation = bench.open(line(0, "x" * (QUANTUM_BYTES * 5 // 2)) + MUCH)
    lengths = [bench.round()[0].length for _ in range(4)]
    assert lengths == [QUANTUM_BYTES, 2 * QUANTUM_BYTES, 4 * QUANTUM_BYTES, QUANTUM_BYTES]
    assert generation.cursors["es"].position > QUANTUM_BYTES * 5 // 2


@timed
async def test_a_read_never_grows_over_what_the_longest_record_needs() -> None:
    bench = Bench(limit=QUANTUM_BYTES)
    bench.open(line(0, "x" * (QUANTUM_BYTES * 9)) + line(1))
    await bench.finish()
    bench.check()
    assert max(job.length for job in bench.jobs) <= 3 * QUANTUM_BYTES
    assert len(bench.outputs["es"].documents) > 9


@timed
async def test_a_read_of_countless_lines_is_bounded_by_their_number_and_goes_on_with_the_next_ones() -> None:
    bench = Bench()
    generation = bench.open(b"x\n" * QUANTUM_LINES * 3, source=FILE)
    generation.format = "text"
    assert [bench.round()[0].length for _ in range(3)] == [2 * QUANTUM_LINES] * 3
    await bench.finish()
    bench.check()
    assert len(bench.outputs["es"].documents) == 3 * QUANTUM_LINES


@timed
async def test_countless_lines_behind_an_open_record_are_read_all_the_same() -> None:
    bench = Bench()
    flood = b"\n" * (QUANTUM_LINES + 5)
    bench.open(open_p() + flood + line(1, "and ended"))
    await bench.finish()
    bench.check()
    assert len(bench.outputs["es"].documents) == QUANTUM_LINES + 6


@timed
async def test_countless_records_beside_one_over_a_rotation_keep_the_loop_for_a_moment_only() -> None:
    """Thirty steps of Python for each, a fake's among them. One by one they take hundreds, and all others wait."""
    bench, count = Bench(), 10_000
    old = bench.open(open_p() + line(1, "", stream="stderr") * count, is_final=True)
    bench.open(line(2, "and ended"), before=old)
    with counted_steps() as steps:
        await bench.finish()
    assert steps.count < 50 * count
    bench.check()
    assert len(bench.outputs["es"].documents) == count + 1


# -- vain reads -------------------------------------------------------------------------------------------------------


@timed
async def test_an_unfinished_line_is_read_once_until_it_grows() -> None:
    bench = Bench()
    generation = bench.open(line(0) + b"2026-11-21T10:00:00Z stdout F hal")
    bench.rounds()
    before = len(bench.jobs)
    bench.pump.changed(generation)
    assert bench.rounds() == []
    bench.write(generation, b"f a line\n")
    assert [job.position for job in bench.rounds()] == [len(line(0))]
    await bench.finish()
    bench.check()
    assert len(bench.jobs) == before + 1


@timed
async def test_an_unfinished_line_is_a_record_when_the_file_is_final() -> None:
    bench = Bench()
    generation = bench.open(b"2026-11-21T10:00:00Z stdout F hal")
    bench.rounds()
    generation.is_final = True
    bench.pump.changed(generation)
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"]) == ["hal"]


@pytest.mark.usefixtures("by_jobs")
@timed
async def test_a_read_that_fails_is_tried_again_after_a_moment_and_never_counts_as_damage() -> None:
    bench = Bench()
    for is_gzip in (False, True):
        generation = bench.open(line(0), is_gzip=is_gzip, is_final=is_gzip)
        file_of(generation).errors = [OSError(5, "Input/output error")]
        bench.rounds()
        assert generation.cursors["es"].position == 0
        await bench.pass_time(RETRY_S * 1.1)
        assert generation.cursors["es"].position == generation.size
    await bench.deliver()
    bench.check()
    assert bench.damaged == []


@timed
async def test_a_format_that_cannot_be_looked_at_is_looked_at_again() -> None:
    bench = Bench()
    generation = bench.open(line(0), framing=None)
    file_of(generation).errors = [OSError(5, "Input/output error")]
    bench.rounds()
    assert generation.format is None
    await bench.pass_time(RETRY_S * 1.1)
    assert generation.format == "cri"


@timed
async def test_a_compressed_file_far_behind_goes_a_part_of_the_way_in_each_turn() -> None:
    bench = Bench()
    far = bench.open(line(0), source=OTHER, is_gzip=True)
    file = file_of(far)
    file.parts = 3
    bench.open(MUCH)
    assert [[job.generation for job in bench.round()].count(far) for _ in range(5)] == [1, 1, 1, 1, 0]
    await bench.finish()
    bench.check()
    assert len(file.reads) == 1


@timed
async def test_a_compressed_file_that_ends_too_early_is_damaged() -> None:
    bench = Bench()
    generation = bench.open(line(0), is_gzip=True, is_final=True)
    generation.size += 10
    await bench.finish()
    bench.check()
    assert bench.damaged == [generation]
    assert fates([generation], "es") == {DELIVERED: len(line(0)), "lost:damaged": 10}


@pytest.mark.usefixtures("by_jobs")
@timed
async def test_a_file_that_is_closed_during_its_read_is_read_when_it_is_open_again() -> None:
    bench = Bench()
    generation = bench.open(line(0))
    jobs = bench.pump.choose()
    file = file_of(generation)
    generation.close()
    read_all(jobs)
    bench.pump.process(jobs[0])
    assert bench.rounds() == []
    file.is_closed = False
    generation.file = file
    bench.pump.changed(generation)
    await bench.finish()
    bench.check()


@pytest.mark.usefixtures("by_jobs")
@timed
async def test_a_file_whose_random_id_is_not_durable_is_not_read() -> None:
    bench = Bench()
    generation = bench.open(line(0))
    generation.must_commit_first = True
    assert bench.rounds() == []
    generation.must_commit_first = False
    bench.pump.changed(generation)
    assert len(bench.rounds()) == 1


@pytest.mark.usefixtures("by_jobs")
@timed
async def test_what_was_given_up_during_a_read_is_not_read_all_the_same() -> None:
    bench = Bench()
    generation = bench.open(line(0))
    jobs = bench.pump.choose()
    generation.cursors["es"].give_up(generation.size, "deleted")
    read_all(jobs)
    bench.pump.process(jobs[0])
    await bench.finish()
    bench.check()
    assert bench.outputs["es"].documents == []


# -- several outputs --------------------------------------------------------------------------------------------------


def two(*, es_limit: int = 1 << 30, s3_limit: int = 1 << 30) -> Bench:
    return Bench(FakeOutput("es", limit_bytes=es_limit), FakeOutput("s3", limit_bytes=s3_limit))


@timed
async def test_outputs_at_one_position_share_a_read() -> None:
    bench = two()
    generation = bench.open(MUCH)
    bench.rounds()
    assert sum(length for _, length in file_of(generation).reads) == pytest.approx(len(MUCH), rel=0.01)
    assert {len(job.cursors) for job in bench.jobs} == {2}


@timed
async def test_the_others_wait_for_a_full_output_once() -> None:
    bench = two(s3_limit=1)
    generation = bench.open(MUCH)
    bench.round()
    assert set(bench.positions(generation).values()) != {0}
    together = generation.cursors["es"].position
    assert bench.round() == []
    await bench.pass_time(MEET_S * 0.5)
    assert bench.positions(generation) == {"es": together, "s3": together}
    await bench.pass_time(MEET_S)
    assert bench.positions(generation) == {"es": len(MUCH), "s3": together}
    bench.write(generation, line(9))
    bench.rounds()
    assert generation.cursors["es"].position == generation.size


@timed
async def test_a_full_output_that_has_room_again_in_time_is_not_left_behind() -> None:
    bench = two(s3_limit=1)
    generation = bench.open(MUCH)
    bench.round()
    assert bench.round() == []
    await bench.deliver("s3")
    job = bench.round()[0]
    assert [c.output for c in job.cursors] == ["es", "s3"]
    assert generation.is_split is False


@pytest.mark.usefixtures("by_jobs")
@timed
async def test_outputs_that_drifted_apart_meet_and_read_together_again() -> None:
    bench = two(s3_limit=1)
    generation = bench.open(MUCH)
    bench.rounds()
    await bench.pass_time(2 * MEET_S)
    while generation.cursors["s3"].position < generation.size:
        await bench.deliver("s3")
        bench.rounds()
    await bench.deliver()
    bench.check()
    bench.write(generation, line(1))
    (job,) = bench.rounds()
    assert [c.output for c in job.cursors] == ["es", "s3"]
    assert generation.is_split is False
    assert bench.records() == len(MUCH) // LENGTH + 1


@timed
async def test_a_read_ends_where_another_output_stands() -> None:
    bench = two()
    generation = bench.open(lines(30))
    generation.cursors["es"].take(1000, state=generation.start_state(), fates={DELIVERED: 1000}, records=0)
    first = bench.round()
    assert [(job.position, job.length, [c.output for c in job.cursors]) for job in first] == [
        (1000, 2000, ["es"]),
        (0, 1000, ["s3"]),
    ]


@timed
async def test_an_output_that_catches_up_does_not_delay_one_that_is_ahead() -> None:
    bench = two()
    generation = bench.open(MUCH + lines(1))
    generation.cursors["es"].take(len(MUCH), state=generation.start_state(), fates={DELIVERED: len(MUCH)}, records=0)
    bench.round()
    assert bench.positions(generation)["es"] == generation.size
    assert 0 < bench.positions(generation)["s3"] < len(MUCH)


@timed
async def test_where_no_record_ends_before_another_outputs_place_the_read_goes_beyond() -> None:
    """Such a place is left by an earlier run with another size limit, or by `--once` within a line."""
    bench = two(es_limit=0)
    generation = bench.open(line(0, "a long line"))
    generation.cursors["es"].take(40, state=generation.start_state(), fates={DELIVERED: 40}, records=0)
    bench.rounds()
    assert bench.positions(generation) == {"es": 40, "s3": generation.size}


@timed
async def test_outputs_at_one_place_with_other_ranges_ahead_both_go_on() -> None:
    bench = two()
    text = open_p() + behind(3)
    generation = bench.open(text)
    begin = len(open_p())
    generation.cursors["es"].take(
        0, ahead=((begin, len(text)),), state=generation.start_state(), fates={DELIVERED: len(text) - begin}, records=0
    )
    bench.rounds()
    await bench.pass_time(HOLD_S * 1.1)
    assert generation.cursors["s3"].ahead == generation.cursors["es"].ahead == ((begin, len(text)),)
    bench.write(generation, line(5, "ended"))
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"]) == ["begun ended"]
    assert messages(bench.outputs["s3"]) == ["err 1", "err 2", "err 3", "begun ended"]


@timed
async def test_a_file_that_waits_for_room_comes_back_with_it() -> None:
    bench = Bench(FakeOutput(limit_bytes=1))
    generation = bench.open(MUCH)
    bench.rounds()
    assert generation.cursors["es"].position < len(MUCH)
    assert not bench.pump.waiting()
    await bench.deliver()
    assert bench.pump.waiting()


@timed
async def test_room_of_one_output_does_not_wake_files_that_wait_for_another() -> None:
    bench = two(s3_limit=1)
    bench.open(MUCH)
    bench.rounds()
    await bench.pass_time(2 * MEET_S)
    await bench.deliver("es")
    assert not bench.pump.waiting()


# -- open records -----------------------------------------------------------------------------------------------------


@timed
async def test_an_open_record_keeps_back_what_is_behind_it_for_a_while_only() -> None:
    bench = Bench()
    generation = bench.open(open_p() + behind(2))
    await bench.finish()
    await bench.pass_time(HOLD_S * 0.9)
    await bench.finish()
    assert bench.outputs["es"].documents == []
    await bench.pass_time(HOLD_S * 0.2)
    await bench.finish()
    assert messages(bench.outputs["es"]) == ["err 1", "err 2"]
    assert generation.cursors["es"].acked == 0
    assert generation.cursors["es"].acked_ahead == ((len(open_p()), generation.size),)


@timed
async def test_nothing_is_read_while_nothing_changes() -> None:
    bench = Bench()
    bench.open(open_p() + behind(2))
    await bench.pass_time(HOLD_S * 2)
    reads = len(bench.jobs)
    await bench.pass_time(3600)
    assert len(bench.jobs) == reads <= 3


@timed
async def test_another_timer_of_the_file_does_not_make_it_forget_the_open_record() -> None:
    bench = Bench()
    generation = bench.open(open_p() + behind(2))
    bench.rounds()
    bench.pump._turns.later(generation, 0.1)
    await bench.pass_time(HOLD_S * 1.1)
    assert generation.cursors["es"].ahead


@timed
async def test_much_behind_an_open_record_is_given_out_without_waiting_for_growth() -> None:
    bench = Bench(limit=2 * QUANTUM_BYTES)  # so long an open record may go on
    count = 3 * QUANTUM_BYTES // len(behind(1))
    bench.open(open_p() + behind(count))
    bench.rounds()
    await bench.pass_time(HOLD_S * 1.1)
    await bench.finish()
    assert len(bench.outputs["es"].documents) == count
    assert bench.records() == count


@timed
async def test_ranges_read_ahead_are_skipped_after_a_restart() -> None:
    bench = Bench()
    generation = bench.open(open_p() + behind(2))
    bench.rounds()
    await bench.pass_time(HOLD_S * 1.1)
    await bench.finish()
    bench.restart()
    bench.write(generation, behind(1, first=3))
    bench.rounds()
    await bench.pass_time(HOLD_S * 1.1)
    await bench.finish()
    assert messages(bench.outputs["es"]) == ["err 1", "err 2", "err 3"]
    bench.restart()
    bench.write(generation, line(9, "ended") + line(10, "last"))
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"])[3:] == ["begun ended", "last"]
    assert bench.records() == 5


@timed
async def test_an_open_record_ends_when_too_many_ranges_stand_behind_it() -> None:
    """Both streams alternate partial lines: each complete record leaves a hole."""
    bench = Bench()
    piece = line(1, "x", tag="P") + line(2, "err", stream="stderr")
    generation = bench.open(open_p())
    bench.rounds()
    await bench.pass_time(HOLD_S * 1.1)
    for _ in range(2 * MOST_AHEAD):
        bench.write(generation, piece)
        bench.rounds()
        await bench.pass_time(HOLD_S * 1.1)
        assert len(generation.cursors["es"].ahead) <= MOST_AHEAD
    await bench.deliver()
    cut = [d for d in bench.outputs["es"].documents if b'"truncated":true' in d]
    assert len(cut) >= 1
    assert len(bench.outputs["es"].documents) == 2 * MOST_AHEAD + len(cut)
    generation.is_final = True
    bench.pump.changed(generation)
    await bench.finish()
    bench.check()


# -- rotation ---------------------------------------------------------------------------------------------------------


@timed
async def test_a_newer_file_is_read_after_the_older_one() -> None:
    bench = Bench()
    old = bench.open(MUCH)
    new = bench.open(lines(100), before=old)  # more than a sweep takes
    bench.rounds()
    assert [job.generation for job in bench.jobs].index(new) == len(bench.jobs) - 1


@timed
async def test_a_newer_file_waits_for_an_older_one_that_is_not_open_at_the_moment() -> None:
    bench = Bench()
    old = bench.open(open_p())
    old.file, file = None, old.file
    new = bench.open(line(1, "ended"), before=old)
    await bench.pass_time(OPEN_S * 0.5)
    assert new.cursors["es"].position == 0
    old.file = file
    bench.pump.changed(old)
    await bench.pass_time(2 * RETRY_S)
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"]) == ["begun ended"]


@timed
async def test_a_newer_file_waits_not_for_ever_for_an_older_one_to_be_opened() -> None:
    """They might hold all descriptors that there are."""
    bench = Bench()
    old = bench.open(line(0))
    old.file = None
    new = bench.open(line(1), before=old)
    await bench.pass_time(OPEN_S * 1.1)
    assert new.cursors["es"].position == new.size


@timed
async def test_a_newer_file_does_not_wait_for_an_older_one_that_is_gone() -> None:
    bench = Bench()
    old = bench.open(line(0))
    old.file, old.is_deleted = None, True
    new = bench.open(line(1), before=old)
    bench.rounds()
    assert new.cursors["es"].position == new.size


@timed
async def test_a_record_over_a_rotation_is_one() -> None:
    bench = Bench()
    old = bench.open(line(0, "before") + open_p(1))
    await bench.finish()
    new = bench.open(line(2, "ended") + line(3, "after"), before=old)
    await bench.finish()
    assert messages(bench.outputs["es"]) == ["before", "begun ended", "after"]
    assert bench.records() == 3
    bench.check()
    assert new.cursors["es"].acked == new.size


@timed
async def test_a_seam_waits_until_all_before_it_is_answered() -> None:
    bench = Bench()
    old = bench.open(line(0, "before") + open_p(1))
    bench.rounds()
    new = bench.open(line(2, "ended"), before=old)
    bench.rounds()
    assert new.cursors["es"].position == 0
    await bench.deliver()
    bench.rounds()
    assert new.cursors["es"].position == new.size


@timed
async def test_a_seam_that_never_ends_keeps_the_newer_file_waiting_only_for_a_while() -> None:
    bench = Bench()
    old = bench.open(open_p())
    bench.rounds()
    new = bench.open(line(1, "other", stream="stderr"), before=old)
    bench.rounds()
    await bench.pass_time(TAIL_S * 0.9)
    assert new.cursors["es"].position == 0
    await bench.pass_time(TAIL_S * 0.2)
    assert new.cursors["es"].position == new.size
    old.is_final = True
    bench.pump.changed(old)
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"]) == ["other", "begun "]


@timed
async def test_that_a_seam_is_over_is_durable_before_anything_is_made_of_it() -> None:
    """Else a restart would wait again, find the end meanwhile, and send whole what was sent in two parts."""
    bench = Bench()
    old = bench.open(open_p())
    bench.rounds()
    new = bench.open(line(1, "other", stream="stderr"), before=old)
    await bench.pass_time(TAIL_S * 0.9)
    await asyncio.sleep(TAIL_S * 0.2)
    bench.rounds()
    assert old.seam_ends
    assert new.cursors["es"].position == 0
    bench.commit()
    await bench.finish()
    bench.restart()
    bench.write(new, line(2, "ended"))
    old.is_final = True
    bench.pump.changed(old)
    await bench.finish()
    bench.check()
    assert sorted(messages(bench.outputs["es"])) == ["begun ", "ended", "other"]


@timed
async def test_the_end_of_a_seam_may_come_later() -> None:
    bench = Bench()
    old = bench.open(open_p())
    bench.rounds()
    new = bench.open(line(1, "other", stream="stderr"), before=old)
    bench.rounds()
    bench.write(new, line(2, "ended"))
    await bench.finish()
    bench.check()
    assert sorted(messages(bench.outputs["es"])) == ["begun ended", "other"]


@timed
async def test_a_full_output_does_not_keep_another_from_the_newer_file() -> None:
    bench = two(s3_limit=1)
    old = bench.open(line(0) + open_p(1))
    bench.rounds()
    new = bench.open(line(2, "ended"), before=old)
    bench.rounds()
    await bench.deliver("es")
    await bench.pass_time(2 * MEET_S)
    assert new.cursors["es"].position == new.size
    assert new.cursors["s3"].position == 0
    await bench.deliver("s3")
    await bench.finish()
    await bench.finish()
    bench.check()
    assert bench.outputs["es"].documents == bench.outputs["s3"].documents


@timed
async def test_a_seam_whose_read_fails_is_tried_again() -> None:
    bench = Bench()
    old = bench.open(open_p())
    bench.rounds()
    new = bench.open(line(1, "ended"), before=old)
    file_of(new).errors = [OSError(5, "Input/output error")]
    bench.rounds()
    assert new.cursors["es"].position == 0
    await bench.pass_time(RETRY_S * 1.1)
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"]) == ["begun ended"]


# -- metadata, and the loop itself ------------------------------------------------------------------------------------


@timed
async def test_a_file_that_is_no_containers_waits_for_no_seam() -> None:
    bench = Bench()
    old = bench.open(b"a\nunfinished", source=FILE, framing="text")
    bench.rounds()
    old.is_final = True
    bench.open(b"b\n", source=FILE, framing="text", before=old)
    bench.pump.changed(old)
    await bench.finish()
    bench.check()
    assert messages(bench.outputs["es"]) == ["a", "unfinished", "b"]


async def test_the_loop_reads_what_is_small_at_once_and_what_is_large_in_a_thread() -> None:
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.pump.run())
        for data in (line(0), MUCH):
            generation = bench.open(data)
            assert (len(data) > INLINE_BYTES) == (data is MUCH)
            while generation.cursors["es"].position < generation.size:
                await asyncio.sleep(0)
            assert generation.is_reading is False
        task.cancel()
    await bench.deliver()
    bench.check()


async def test_it_is_paused_when_no_output_has_room() -> None:
    bench = Bench(FakeOutput(limit_bytes=1))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.pump.run())
        bench.open(MUCH)
        while not bench.pump.is_paused:
            await asyncio.sleep(0)
        before = bench.generations[0].cursors["es"].position
        await bench.deliver()
        while bench.generations[0].cursors["es"].position == before:
            await asyncio.sleep(0)
        task.cancel()
