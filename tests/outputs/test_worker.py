"""The shared worker: whatever an output answers, each record gets exactly one fate, and the cursor hears of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.body import is_fresh, view_of
from shipper.delivery import DELIVERED, Batch, Delivery, Piece, Rejection
from shipper.errors import Disconnected, StateError
from shipper.ledger import DEAD, SPOOLED, Cursor
from shipper.metrics import Metrics
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.fates import Letter
from shipper.outputs.pace import Pace
from shipper.outputs.worker import GATHER_S, OutputWorker, Retry
from shipper.record import Source
from shipper.template import Template
from tests.fakes import clock

SOURCE = Source("pods", "/var/log/pods/shop_cart_u/app/0.log", "shop", "cart", "u", "app", 0)
SIZE = 10  # bytes of a record in the log file
Answer = Delivery | Exception | Callable[[Batch], Delivery]
Scenario = Coroutine[Any, Any, None]


class FakeOutput:
    """Answers as it is told, then takes everything. `gate` holds an answer back."""

    name = "es"
    kind = "fake"
    template = Template.parse("logs")
    target_style: Literal["index", "key", "path"] = "index"
    durable: Durable | None = None

    def __init__(
        self, *answers: Answer, lines: int = 2, concurrency: int = 1, max_bytes: int = 1 << 20, max_age_s: float = 0.1
    ) -> None:
        self.lines_per_record, self.concurrency = lines, concurrency
        self.max_batch_bytes, self.max_batch_age_s = max_bytes, max_age_s
        self.answers = list(answers)
        self.sent: list[list[int]] = []  # numbers of the records of each attempt
        self.batches: list[Batch] = []
        self.times: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def frame(self, target: str) -> tuple[bytes | None, bytes]:
        return b"", b"{"

    async def start(self, host: Host) -> None: ...

    async def send(self, batch: Batch) -> Delivery:
        self.sent.append(numbers(batch))
        self.batches.append(batch)
        self.times.append(clock.now())
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else DELIVERED
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Delivery) else answer(batch)

    async def drain(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> list[Finding]:
        return []

    def status(self) -> dict[str, Any]:
        return {"last_error": None, "hosts": ["a"]}


class FakeLetters:
    """Keeps letters, but for the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.kept: list[Letter] = []
        self.events: list[str] = []

    async def keep(self, letters: list[Letter]) -> Callable[[], None]:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise StateError("the disk is full")
        self.kept += letters
        return lambda: self.events.append("given up")


class Bench:
    """A worker between a ledger and a fake output."""

    def __init__(
        self,
        output: FakeOutput,
        *,
        letters: FakeLetters | None = None,
        retry: Retry | None = None,
        max_targets: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.output = output
        self.letters = letters or FakeLetters()
        self.metrics = Metrics()
        self.rooms = 0
        self.worker = OutputWorker(
            output,
            limit_bytes=1 << 20,
            retry=retry or Retry(1.0, 8.0),
            metrics=self.metrics,
            letters=self.letters,
            on_room=self._room,
            max_targets=max_targets,
            pace=pace,
        )
        self.cursor = Cursor(1, output.name)

    def _room(self) -> None:
        self.rooms += 1

    def fill(self, records: int, *, pieces: int = 1, has_ids: bool = True, text: str = "x") -> None:
        """One segment of so many records, in pieces of equal size."""
        segment = self.cursor.take(self.cursor.position + records * SIZE, records=records)
        made = []
        shares = _shares(range(segment.end // SIZE - records, segment.end // SIZE), pieces)
        for i, numbers_ in enumerate(shares):
            body = self.worker.body
            start = len(body)
            for number in numbers_:
                body += document(number, lines=self.output.lines_per_record, text=text)
            places = tuple((n * SIZE, n * SIZE + SIZE, SIZE) for n in numbers_)
            made.append(
                Piece(
                    f"logs-{i}",
                    start,
                    len(self.worker.body),
                    len(numbers_),
                    SOURCE,
                    segment,
                    len(numbers_) * SIZE,
                    read_at=time.monotonic(),
                    places=() if has_ids else places,
                )
            )
        self.worker.add(made)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self.worker.run_sender()) for _ in range(self.output.concurrency)]
            try:
                yield
            finally:
                for sender in senders:
                    sender.cancel()

    async def finish(self) -> None:
        self.worker.seal()
        await self.worker.idle()
        assert self.worker.used_bytes == 0
        assert not self.cursor.segments
        assert self.cursor.acked == self.cursor.position
        self.cursor.check()

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"shipper_output_{name}", {"name": "es", **labels}) or 0.0

    def count(self, fate: str) -> float:
        return self.metric("records_total", fate=fate)

    def retries(self, reason: str) -> float:
        return self.metric("retries_total", reason=reason)


def _shares(numbers_: range, pieces: int) -> list[range]:
    step = -(-len(numbers_) // pieces)
    return [numbers_[i : i + step] for i in range(0, len(numbers_), step)]


def document(number: int, *, lines: int, text: str = "x") -> bytes:
    id_ = b'"_id":"1f-ab-%x-%x"' % (number * SIZE, number * SIZE + SIZE)
    if lines == 2:
        return b'{"create":{%b}}\n{"n":%d,"m":"%b"}\n' % (id_, number, text.encode())
    return b'{%b,"n":%d,"m":"%b"}\n' % (id_, number, text.encode())


def numbers(batch: Batch) -> list[int]:
    """Of the records of a batch, whose pieces must tell of its body and nothing else."""
    assert [piece.start for piece in batch.pieces] == [0, *(piece.end for piece in batch.pieces)][: len(batch.pieces)]
    assert len(batch.body) == batch.pieces[-1].end
    assert sum(piece.records for piece in batch.pieces) == batch.records
    assert all(piece.source_bytes == piece.records * SIZE for piece in batch.pieces)
    return [int(each.rpartition(b'"n":')[2].partition(b",")[0]) for each in batch.documents()]


def rejected(*indices: int) -> tuple[Rejection, ...]:
    return tuple(Rejection(i, "mapping", "no such type") for i in indices)


def down(**more: Any) -> Disconnected:
    return Disconnected("nobody is there", reason="refused", **more)


async def ships(bench: Bench, records: int, **how: Any) -> None:
    async with bench.running():
        bench.fill(records, **how)
        await bench.finish()


# -- what an output may answer ----------------------------------------------------------------------------------------


def test_delivered_records_move_the_cursor_and_are_counted_once() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput())
        await ships(bench, 3)
        assert bench.cursor.fates == {"delivered": 30}
        assert (bench.count("delivered"), bench.count("rejected")) == (3, 0)
        size = sum(len(document(number, lines=2)) for number in range(3))
        assert bench.metric("bytes_total", fate="delivered") == size
        assert bench.metric("latency_seconds_count") == 1
        assert (bench.worker.was_reached, bench.rooms) == (True, 1)

    clock.run(scenario())


def test_duplicates_are_delivered_and_counted_apart() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(duplicates=2, failure_store=1)))
        await ships(bench, 3)
        assert bench.cursor.fates == {"delivered": 30}
        assert (bench.count("delivered"), bench.count("duplicate")) == (1, 2)
        assert bench.metric("failure_store_total") == 1

    clock.run(scenario())


def test_spooled_records_have_that_fate() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(spooled=True)))
        await ships(bench, 3)
        assert bench.cursor.fates == {SPOOLED: 30}

    clock.run(scenario())


@pytest.mark.parametrize("has_ids", [True, False], ids=["ids", "no ids"])
def test_only_what_was_refused_for_now_is_sent_again(*, has_ids: bool) -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(retry=(1, 4), reason="throttled"), Delivery(retry=(1,), reason="throttled")))
        await ships(bench, 6, pieces=2, has_ids=has_ids)
        assert bench.output.sent == [[0, 1, 2, 3, 4, 5], [1, 4], [4]]
        assert [[p.target for p in b.pieces] for b in bench.output.batches[1:]] == [["logs-0", "logs-1"], ["logs-1"]]
        assert (bench.count("delivered"), bench.retries("throttled")) == (6, 2)

    clock.run(scenario())


@pytest.mark.parametrize("has_ids", [True, False], ids=["ids", "no ids"])
def test_rejected_record_becomes_a_dead_letter_with_its_place(*, has_ids: bool) -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(rejected=rejected(2))))
        await ships(bench, 4, pieces=2, has_ids=has_ids)
        (letter,) = bench.letters.kept
        assert (letter.begin, letter.end, letter.source_bytes) == (20, 30, SIZE)
        assert letter.document == b'{"n":2,"m":"x"}'
        assert letter.document_id == ("1f-ab-14-1e" if has_ids else None)
        assert (letter.reason, letter.detail, letter.output) == ("mapping", "no such type", "es")
        assert bench.cursor.fates == {"delivered": 30, DEAD: 10}
        assert (bench.count("delivered"), bench.count("rejected"), bench.worker.rejected_records) == (3, 1, 1)

    clock.run(scenario())


def test_size_of_a_record_whose_lines_lie_apart_is_that_of_its_lines() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(rejected=rejected(0))))
        segment = bench.cursor.take(SIZE, records=1)
        text = b'{"create":{"_id":"1f-ab-0-63"}}\n{"n":0,"m":"x"}\n'  # from 0 to 99, half of which is another's
        body = bench.worker.body
        body += text
        bench.worker.add([Piece("logs", 0, len(text), 1, SOURCE, segment, SIZE, odd_sizes={0: SIZE})])
        async with bench.running():
            await bench.finish()
        assert (bench.letters.kept[0].end, bench.letters.kept[0].source_bytes) == (99, SIZE)
        assert bench.cursor.fates == {DEAD: SIZE}

    clock.run(scenario())


def test_dead_letter_is_kept_before_its_record_is_passed() -> None:
    async def scenario() -> None:
        letters = FakeLetters(failures=3)
        bench = Bench(FakeOutput(Delivery(rejected=rejected(0))), letters=letters)
        async with bench.running():
            bench.fill(2)
            bench.worker.seal()
            while letters.failures:
                assert bench.cursor.acked == 0
                assert bench.worker.last_error in ("", "the disk is full")
                await asyncio.sleep(0.01)
            await bench.finish()
        assert len(letters.kept) == 1
        assert bench.output.sent == [[0, 1]]
        assert bench.retries("dead_letters") == 3

    clock.run(scenario())


def test_what_the_store_gives_up_is_told_when_the_letter_has_its_own_fate() -> None:
    async def scenario() -> None:
        class Store(FakeLetters):
            async def keep(self, letters: list[Letter]) -> Callable[[], None]:
                await super().keep(letters)
                return lambda: fates.append(dict(bench.cursor.fates))

        fates: list[dict[str, int]] = []
        bench = Bench(FakeOutput(Delivery(rejected=rejected(0, 1))), letters=Store())
        await ships(bench, 2)
        assert fates == [{DEAD: 20}]

    clock.run(scenario())


def test_too_large_request_is_halved_down_to_the_record_that_is_alone_too_large() -> None:
    def refuse_five(batch: Batch) -> Delivery:
        return Delivery(split=True, reason="too_large", detail="413") if 5 in numbers(batch) else DELIVERED

    async def scenario() -> None:
        bench = Bench(FakeOutput(*[refuse_five] * 9))
        await ships(bench, 8)
        assert bench.output.sent == [[*range(8)], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]
        assert [letter.begin for letter in bench.letters.kept] == [50]
        assert (bench.letters.kept[0].reason, bench.letters.kept[0].detail) == ("too_large", "413")
        assert (bench.count("delivered"), bench.retries("too_large")) == (7, 3)

    clock.run(scenario())


def test_halves_have_notes_of_their_own() -> None:
    def note(batch: Batch) -> Delivery:
        batch.memo["asked"] = batch.memo.get("asked", 0) + 1
        return Delivery(split=True) if len(batch.pieces) and batch.records > 1 else DELIVERED

    async def scenario() -> None:
        bench = Bench(FakeOutput(*[note] * 3))
        await ships(bench, 2)
        assert [batch.memo["asked"] for batch in bench.output.batches] == [1, 2, 2]

    clock.run(scenario())


def test_record_with_equal_keys_is_sent_again_at_once_without_them() -> None:
    async def scenario() -> None:
        output = FakeOutput(Delivery(retry=(1,), reencode=(1,), reason="duplicate_keys"))
        bench = Bench(output, retry=Retry(3600.0, 3600.0))
        await ships(bench, 3, text='1","m":"2')
        assert output.sent == [[0, 1, 2], [1]]
        assert bytes(view_of(output.batches[1].body)) == b'{"create":{"_id":"1f-ab-a-14"}}\n{"n":1,"m":"2"}\n'
        assert clock.now() < 1

    clock.run(scenario())


@pytest.mark.parametrize("delay_s", [0.0, 7.0, 100.0])
def test_wish_of_the_destination_is_waited_for(delay_s: float) -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(down(delay_s=delay_s), Delivery(retry=(0, 1), reason="throttled", delay_s=delay_s)))
        await ships(bench, 2)
        assert bench.output.times == pytest.approx([0, delay_s, 2 * delay_s])

    clock.run(scenario())


def test_wait_doubles_up_to_the_longest_with_jitter() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(*[down()] * 6), retry=Retry(1.0, 8.0))
        await ships(bench, 1)
        waits = [b - a for a, b in zip(bench.output.times, bench.output.times[1:], strict=False)]
        for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
            assert longest / 2 <= wait <= longest
        assert len(set(waits[3:])) > 1

    clock.run(scenario())


@pytest.mark.parametrize(
    "nonsense",
    [
        RuntimeError("a bug"),
        Delivery(retry=(7,)),
        Delivery(retry=(-1,)),
        Delivery(retry=(0, 0)),
        Delivery(retry=(0,), rejected=rejected(0)),
        Delivery(rejected=rejected(3)),
        Delivery(reencode=(0,)),
        Delivery(split=True, retry=(0,)),
    ],
    ids=str,
)
def test_nonsense_is_counted_and_the_batch_is_sent_again(nonsense: Answer) -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(nonsense))
        await ships(bench, 3)
        assert bench.output.sent == [[0, 1, 2]] * 2
        assert bench.metric("errors_total") == 1
        assert bench.retries("error") == 1

    clock.run(scenario())


# -- status -----------------------------------------------------------------------------------------------------------


def test_status_tells_the_last_error_and_the_next_attempt() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(down(delay_s=50.0)))
        assert bench.worker.status()["state"] == "idle"
        async with bench.running():
            bench.fill(1)
            bench.worker.seal()
            await asyncio.sleep(10)
            status = bench.worker.status()
            assert (status["state"], status["last_error"]) == ("retrying", "nobody is there")
            assert time.time() < status["retry_at"] <= time.time() + 50
            assert time.time() - 10 < status["last_error_at"] <= time.time()
            assert status["in_flight_bytes"] == bench.worker.used_bytes > 0
            assert status["hosts"] == ["a"]
            assert not bench.worker.was_reached
            await bench.finish()
        status = bench.worker.status()
        assert (status["state"], status["last_error"], status["retry_at"]) == ("idle", None, None)

    clock.run(scenario())


def test_error_of_one_sender_is_not_hidden_by_the_success_of_another() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(down(delay_s=50.0), concurrency=2))
        async with bench.running():
            bench.fill(1)
            bench.worker.seal()
            await asyncio.sleep(1)
            bench.fill(1)
            bench.worker.seal()
            await asyncio.sleep(1)
            assert len(bench.output.sent) == 2
            assert bench.worker.status()["last_error"] == "nobody is there"
            assert bench.worker.retry_at is not None
            await bench.finish()

    clock.run(scenario())


def test_destination_that_answers_but_takes_nothing_was_not_reached() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(retry=(0, 1), reason="forbidden"), Delivery(retry=(0,), reason="throttled")))
        async with bench.running():
            bench.fill(2)
            bench.worker.seal()
            await asyncio.sleep(0.1)
            assert not bench.worker.was_reached
            await bench.finish()
            assert bench.worker.was_reached

    clock.run(scenario())


# -- batches ----------------------------------------------------------------------------------------------------------


def test_batch_is_sent_at_once_after_a_quiet_time_and_else_when_it_is_old_enough() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(max_age_s=0.5))
        async with bench.running():
            bench.fill(1)
            bench.fill(1)
            await asyncio.sleep(0.1)
            assert bench.output.times == [GATHER_S]
            bench.fill(1)
            await asyncio.sleep(0.1)
            bench.fill(1)
            await bench.worker.idle()
            assert bench.output.times == [GATHER_S, pytest.approx(GATHER_S + 0.25)]
            await asyncio.sleep(5)
            bench.fill(1)
            await bench.worker.idle()
            assert bench.output.sent == [[0, 1], [2, 3], [4]]
            assert bench.output.times[2] == pytest.approx(GATHER_S + 0.25 + 5 + GATHER_S)


def test_batch_leaves_with_the_end_of_its_burst_unless_one_has_just_left_or_all_are_busy() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(max_age_s=0.5))
        async with bench.running():
            bench.worker.end_burst()
            bench.fill(1)
            bench.worker.end_burst()
            await bench.worker.idle()
            assert bench.output.times == [0]
            bench.fill(1)
            bench.worker.end_burst()
            await bench.worker.idle()
            assert bench.output.times == [0, pytest.approx(0.25)]
            await asyncio.sleep(5)
            bench.worker._active = bench.worker.concurrency
            bench.fill(1)
            bench.worker.end_burst()
            assert bench.worker.in_flight_bytes == 0

    clock.run(scenario())


def test_small_batches_are_no_more_than_two_each_age() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(max_age_s=0.1))
        async with bench.running():
            for _ in range(1000):
                bench.fill(1)
                await asyncio.sleep(0.001)
            await bench.worker.idle()
            assert 19 <= len(bench.output.sent) <= 21

    clock.run(scenario())


def test_batch_that_may_be_sent_without_an_age_waits_for_nothing() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(max_age_s=0))
        async with bench.running():
            bench.fill(1)
            await bench.worker.idle()
            assert bench.output.times == [0]

    clock.run(scenario())


def test_batch_is_sent_when_it_is_large_enough() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(max_bytes=100, max_age_s=3600))
        async with bench.running():
            bench.fill(1)
            bench.fill(9)
            await bench.worker.idle()
            assert bench.output.sent == [[*range(10)]]

    clock.run(scenario())


def test_segment_is_never_spread_over_two_batches() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(max_bytes=100, max_age_s=0.1))
        async with bench.running():
            bench.fill(12, pieces=6)
            bench.fill(2)
            await bench.worker.idle()
            assert bench.output.sent == [[*range(12)], [12, 13]]

    clock.run(scenario())


def test_chunk_without_records_for_this_output_leaves_no_trace() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput())
        segment = bench.cursor.take(0, records=0)
        bench.worker.add([Piece("logs", 0, 0, 0, SOURCE, segment, 0)])
        bench.worker.add([])
        async with bench.running():
            await bench.worker.idle()
            await asyncio.sleep(1)
            bench.worker.seal()
            await bench.worker.idle()
        assert bench.output.sent == []

    clock.run(scenario())


def test_open_batch_grows_while_every_sender_is_busy() -> None:
    async def scenario() -> None:
        output = FakeOutput(concurrency=2, max_age_s=0.1)
        bench = Bench(output)
        output.gate.clear()
        async with bench.running():
            for _ in range(6):
                bench.fill(1)
                await asyncio.sleep(0.2)
            assert output.sent == [[0], [1]]
            output.gate.set()
            await bench.worker.idle()
            assert output.sent == [[0], [1], [2, 3, 4, 5]]
            await bench.finish()

    clock.run(scenario())


def answers_once(*, concurrency: int) -> FakeOutput:
    """Each time its gate is opened."""

    def close(_: Batch) -> Delivery:
        output.gate.clear()
        return DELIVERED

    output = FakeOutput(close, concurrency=concurrency)
    output.gate.clear()
    return output


def test_no_more_bodies_keep_memory_than_can_be_full_at_a_time() -> None:
    async def scenario() -> None:
        output = answers_once(concurrency=2)
        bench = Bench(output)
        async with bench.running():
            for _ in range(3):  # two are on their way, one waits: a rush
                bench.fill(1)
                bench.worker.seal()
            await asyncio.sleep(1)
            output.gate.set()
            await asyncio.sleep(1)
            assert output.sent == [[0], [1], [2]]
            bench.fill(1)
            bodies = [output.batches[2].body, bench.worker.body, *bench.worker._spare]
            assert len([body for body in bodies if not is_fresh(body)]) == output.concurrency + 1
            used = {id(batch.body) for batch in output.batches}
            assert {id(body) for body in bodies} <= used  # nothing is fresh
            output.gate.set()
            await bench.finish()

    clock.run(scenario())


def test_a_body_is_used_again_while_many_batches_wait() -> None:
    async def scenario() -> None:
        output = answers_once(concurrency=1)
        bench = Bench(output)
        async with bench.running():
            for _ in range(3):
                bench.fill(1)
                bench.worker.seal()
            bench.fill(1)
            await asyncio.sleep(1)
            output.gate.set()
            await asyncio.sleep(1)
            assert output.sent == [[0], [1]]  # the second is on its way, the third waits
            bench.worker.seal()
            assert bench.worker.body is output.batches[0].body
            output.gate.set()
            await bench.finish()

    clock.run(scenario())


def test_an_open_batch_that_a_thread_writes_to_keeps_its_body() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(concurrency=1))
        async with bench.running():
            bench.fill(1)
            bench.worker.seal()
            body = bench.worker.body
            bench.worker.hold()
            await asyncio.sleep(1)
            assert bench.worker.body is body
            bench.worker.release()
            bench.worker.cut()
            await bench.finish()

    clock.run(scenario())


def test_order_is_kept_with_one_sender_through_splits_and_retries() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(split=True), down(), DELIVERED, Delivery(retry=(0, 1), reason="x")))
        async with bench.running():
            for _ in range(3):
                bench.fill(4)
                bench.worker.seal()
            await bench.finish()
        assert bench.output.sent == [
            [0, 1, 2, 3],
            *[[0, 1]] * 2,
            *[[2, 3]] * 2,
            [4, 5, 6, 7],
            [8, 9, 10, 11],
        ]

    clock.run(scenario())


def test_idle_is_told_only_when_all_is_answered() -> None:
    async def scenario() -> None:
        output = FakeOutput(concurrency=2)
        bench = Bench(output)
        await bench.worker.idle()
        output.gate.clear()
        async with bench.running(), asyncio.TaskGroup() as group:
            bench.fill(1)
            bench.worker.seal()
            bench.fill(1)
            idle = group.create_task(bench.worker.idle())
            await asyncio.sleep(1)  # both are being sent
            assert (len(output.sent), idle.done()) == (2, False)
            bench.fill(1)  # and a third one is open
            output.gate.set()
            await idle
            assert bench.cursor.acked == 30
            assert bench.worker.used_bytes == 0

    clock.run(scenario())


# -- the end ----------------------------------------------------------------------------------------------------------


def test_hurry_ends_a_wait_and_then_tries_a_few_times_a_second() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(*[down()] * 1000), retry=Retry(3600.0, 3600.0))
        async with bench.running():
            bench.fill(1)
            bench.worker.seal()
            await asyncio.sleep(10)
            assert len(bench.output.sent) == 1
            bench.worker.hurry()
            await asyncio.sleep(10)
            assert 30 <= len(bench.output.sent) <= 45

    clock.run(scenario())


def test_first_success_after_an_outage_wakes_all_who_wait_for_it_and_the_oldest_go_first() -> None:
    async def scenario() -> None:
        output = FakeOutput(*[down()] * 4, concurrency=4)
        bench = Bench(output, retry=Retry(3600.0, 3600.0))
        async with bench.running():
            for _ in range(8):
                bench.fill(1)
                bench.worker.seal()
            await bench.finish()
        assert sorted(output.sent[:4]) == [[0], [1], [2], [3]]
        first, *others = [number for (number,) in output.sent[4:]]
        assert sorted([first, *others[:3]]) == [0, 1, 2, 3]
        assert others[3:] == [4, 5, 6, 7]
        assert output.times[5:] == output.times[4:5] * 7, "they waited for no backoff of their own"

    clock.run(scenario())


def test_nobody_overtakes_who_was_woken_where_only_one_request_may_go() -> None:
    async def scenario() -> None:
        output = FakeOutput(*[down()] * 4, concurrency=4)
        pace = Pace(least_bytes=1, most_bytes=1 << 20, most_requests=1, slow_s=5.0)
        bench = Bench(output, retry=Retry(3600.0, 3600.0), pace=pace)
        async with bench.running():
            for _ in range(8):
                bench.fill(1)
                bench.worker.seal()
            await bench.finish()
        first, *others = [number for (number,) in output.sent[4:]]
        assert others == [*sorted({0, 1, 2, 3} - {first}), 4, 5, 6, 7]

    clock.run(scenario())


def test_what_was_woken_in_vain_waits_out_its_backoff() -> None:
    async def scenario() -> None:
        output = FakeOutput(down(), concurrency=2)
        bench = Bench(output, retry=Retry(50.0, 50.0))
        async with bench.running():
            bench.fill(1)
            bench.worker.seal()
            await asyncio.sleep(1)
            output.answers = [DELIVERED, down()]
            for _ in range(3):
                bench.fill(1)
                bench.worker.seal()
                await asyncio.sleep(1)
            await bench.finish()
        assert output.sent == [[0], [1], [0], [2], [3], [0]]

    clock.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        down(delay_s=50.0),
        Delivery(retry=(0,), reason="throttled"),
        Delivery(retry=(0,), reason="forbidden"),
        Disconnected("no rights", reason="forbidden"),
    ],
)
def test_who_was_asked_to_wait_or_to_send_less_is_not_woken_by_a_success(answer: Delivery | Disconnected) -> None:
    async def scenario() -> None:
        output = FakeOutput(answer, concurrency=2)
        bench = Bench(output, retry=Retry(50.0, 50.0))
        async with bench.running():
            for _ in range(2):
                bench.fill(1)
                bench.worker.seal()
            await bench.finish()
        assert output.sent == [[0], [1], [0]]
        assert output.times[2] - output.times[0] >= 25

    clock.run(scenario())


def test_cancelled_wait_leaves_the_records_without_a_fate() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(retry=(1,), reason="throttled", delay_s=3600.0)))
        async with bench.running():
            bench.fill(2)
            bench.worker.seal()
            await asyncio.sleep(1)
        assert (bench.cursor.acked, bench.cursor.position) == (0, 20)
        assert bench.worker.retry_at is None
        assert clock.now() < 2

    clock.run(scenario())


# -- everything at once -----------------------------------------------------------------------------------------------


def any_answer(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Callable[[Batch], Delivery]:
    def answer(batch: Batch) -> Delivery:
        kind = draw(st.sampled_from(("fates", "fates", "split", "down", "nonsense")))
        if kind == "down":
            raise down(delay_s=draw(st.sampled_from((None, 0.0, 5.0))))
        if kind == "nonsense":
            raise ZeroDivisionError
        if kind == "split":
            return Delivery(split=True)
        chosen = [draw(st.sampled_from("drrxe")) for _ in range(batch.records)]
        return Delivery(
            retry=tuple(i for i, fate in enumerate(chosen) if fate in "re"),
            reencode=tuple(i for i, fate in enumerate(chosen) if fate == "e"),
            rejected=rejected(*(i for i, fate in enumerate(chosen) if fate == "x")),
            reason="throttled",
        )

    return answer


@settings(max_examples=100, deadline=None)
@given(
    st.data(),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3), st.booleans()), min_size=1, max_size=5),
    st.integers(0, 12),
    st.sampled_from((1, 2, 3)),
    st.integers(0, 2),
)
def test_every_record_gets_exactly_one_fate(
    data: st.DataObject, segments: list[tuple[int, int, bool]], answers: int, concurrency: int, failures: int
) -> None:
    async def scenario() -> None:
        answer = any_answer(data.draw)
        output = FakeOutput(*[answer] * answers, concurrency=concurrency, max_bytes=200)
        bench = Bench(output, letters=FakeLetters(failures))
        async with bench.running():
            for records, pieces, has_ids in segments:
                bench.fill(records, pieces=pieces, has_ids=has_ids)
            await bench.finish()
        total = sum(records for records, _, _ in segments)
        dead = [letter.begin for letter in bench.letters.kept]
        assert len(set(dead)) == len(dead)
        assert bench.cursor.fates == as_fates(delivered=(total - len(dead)) * SIZE, dead=len(dead) * SIZE)
        assert (bench.count("delivered"), bench.count("rejected")) == (total - len(dead), len(dead))
        assert bench.worker.rejected_records == len(dead)
        assert Counter(_numbers_of(output.sent)).keys() == set(range(total))

    clock.run(scenario())


def as_fates(*, delivered: int, dead: int) -> dict[str, int]:
    return {fate: size for fate, size in (("delivered", delivered), (DEAD, dead)) if size}


def _numbers_of(sent: list[list[int]]) -> Iterable[int]:
    return (number for attempt in sent for number in attempt)


# -- different targets in one request ---------------------------------------------------------------------------------


def test_a_batch_with_as_many_targets_as_allowed_is_sent() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(), max_targets=3)
        async with bench.running():
            bench.fill(2, pieces=2)
            bench.fill(2, pieces=2)  # the same two
            await asyncio.sleep(0)
            assert bench.output.sent == []
            bench.fill(3, pieces=3)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert bench.output.sent == [[0, 1, 2, 3, 4, 5, 6]]
            await bench.finish()
        assert bench.metric("request_targets_sum") == 3

    clock.run(scenario())


def test_a_chunk_of_more_targets_than_allowed_goes_out_in_several_requests() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(Delivery(retry=(0,), reason="throttled")), max_targets=2)
        await ships(bench, 10, pieces=5)
        assert bench.output.sent == [[0, 1, 2, 3], [0], [4, 5, 6, 7], [8, 9]]
        assert bench.cursor.fates == {"delivered": 100}
        assert bench.count("delivered") == 10
        assert (bench.metric("request_targets_count"), bench.metric("request_targets_sum")) == (3, 5)

    clock.run(scenario())


def test_a_chunk_that_fills_a_batch_by_itself_is_sent() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput(), max_targets=3)
        async with bench.running():
            bench.fill(2, text="x" * bench.output.max_batch_bytes)
            await bench.finish()
        assert bench.output.sent == [[0, 1]]

    clock.run(scenario())


def test_where_the_number_of_targets_makes_no_difference_it_is_not_bounded() -> None:
    async def scenario() -> None:
        bench = Bench(FakeOutput())
        await ships(bench, 40, pieces=40)
        assert bench.output.sent == [list(range(40))]
        assert bench.metric("request_targets_count") == 0

    clock.run(scenario())


# -- the pace ---------------------------------------------------------------------------------------------------------


def paced(*answers: Answer, most_requests: int = 4) -> Bench:
    pace = Pace(least_bytes=1, most_bytes=1 << 20, most_requests=most_requests, slow_s=5.0)
    return Bench(FakeOutput(*answers, concurrency=most_requests), pace=pace, retry=Retry(60.0, 60.0))


def test_a_busy_destination_has_fewer_requests_in_flight() -> None:
    async def scenario() -> None:
        bench = paced(*[lambda batch: Delivery(retry=tuple(range(batch.records)), reason="throttled")] * 4)
        async with bench.running():
            for _ in range(4):
                bench.fill(1)
                bench.worker.seal()
            await asyncio.sleep(1)
            assert len(bench.output.sent) == 4
            assert bench.worker.concurrency == 2
            bench.output.gate.clear()
            await asyncio.sleep(100)
            assert len(bench.output.sent) == 6, "the other two wait for their turn"
            bench.output.gate.set()
            await bench.finish()
        assert bench.count("delivered") == 4

    clock.run(scenario())


def test_a_refusal_by_size_makes_the_next_batches_smaller() -> None:
    async def scenario() -> None:
        bench = paced(Delivery(split=True, reason="too_large"), most_requests=1)
        async with bench.running():
            bench.fill(100, text="x" * 100)
            size = bench.worker.used_bytes
            bench.worker.seal()
            await bench.worker.idle()
            assert size * 0.4 < bench.worker.batch_bytes < size
            await bench.finish()
        assert bench.count("delivered") == 100

    clock.run(scenario())


def test_what_is_no_matter_of_strength_leaves_the_pace_alone() -> None:
    async def scenario() -> None:
        refusals: list[Answer] = [
            down(),
            Delivery(split=True, reason="illegal_argument_exception"),
            lambda batch: Delivery(retry=tuple(range(batch.records)), reason="forbidden"),
        ]
        bench = paced(*refusals)
        await ships(bench, 4)
        assert (bench.worker.concurrency, bench.worker.batch_bytes) == (4, 1 << 20)

    clock.run(scenario())


def test_a_batch_that_waits_out_its_backoff_takes_nobodys_turn() -> None:
    async def scenario() -> None:
        again = Delivery(retry=(0,), reason="forbidden")
        bench = paced(again, most_requests=2)
        async with bench.running():
            bench.worker.pace = Pace(least_bytes=1, most_bytes=1 << 20, most_requests=1, slow_s=5.0)
            for _ in range(3):
                bench.fill(1)
                bench.worker.seal()
            await asyncio.sleep(1)
            assert bench.output.sent == [[0], [1], [2]]
            await bench.finish()

    clock.run(scenario())
