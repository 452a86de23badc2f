"""What all outputs share: batching, the limit of memory, retry with backoff, dead letters, metrics.

A worker *has* an output. The pipeline appends documents to the worker's open batch; `concurrency` senders take sealed
batches, each staying with its batch until every record has its fate. What an output cannot take stays in the log files:
`room_bytes` says how much the pipeline may still read for it.
"""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import msgspec

from shipper.body import Body, is_fresh, new_body, recycle
from shipper.delivery import Batch, Delivery, Piece, Rejection
from shipper.errors import Disconnected, StateError
from shipper.ledger import DELIVERED, SPOOLED
from shipper.log import fields
from shipper.metrics import Metrics
from shipper.outputs.base import Output
from shipper.outputs.deduplicate import without_equal_keys
from shipper.outputs.fates import Letter, Place, check_fates, make_letter, places_of, subset
from shipper.outputs.pace import Outcome, Pace
from shipper.outputs.refusals import Refusals

log = logging.getLogger(__name__)

HURRIED_DELAY_S = 0.25  # longest between two attempts while the daemon drains
# Why nothing of a batch was taken, where nobody is there. Not what a right or an index keeps back while others pass.
OUTAGE = frozenset(
    {"timeout", "refused", "reset", "dns", "tls", "proxy", "unreadable", "unavailable", "http_502", "http_504"}
)
GATHER_S = 0.01  # what was written together is read, and so sent, together


class Letters(Protocol):
    async def keep(self, letters: list[Letter]) -> Callable[[], None]:
        """Durable when it returns. Raises StateError.

        The result is called when these records have their fate: it tells the ledger what was given up for them.
        """


class Retry(msgspec.Struct, frozen=True):
    initial_s: float = 0.5
    max_s: float = 30.0

    def delay_s(self, attempt: int) -> float:
        """Doubles, with jitter of a half, so that many nodes do not come back in step."""
        return float(min(self.max_s, self.initial_s * 2 ** min(attempt, 30)) * random.uniform(0.5, 1.0))


class OutputWorker:
    """One output's batches, from the first byte to the last ack."""

    def __init__(
        self,
        output: Output,
        *,
        limit_bytes: int,
        retry: Retry,
        metrics: Metrics,
        letters: Letters,
        on_room: Callable[[], None],
        max_targets: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`max_targets`: of one request; None for an output to which it makes no difference.

        `pace` keeps below the output's own numbers; without one, these are what goes.
        """
        self.output = output
        self.name = output.name
        self.limit_bytes = limit_bytes
        self.in_flight_bytes = 0  # sealed batches; the open one is counted by `used_bytes`
        self.last_error = ""
        self.last_error_at: float | None = None
        self.was_reached = False
        self.last_ack = time.monotonic()
        self.rejected_records = 0
        self._retry, self._metrics, self._letters, self._on_room = retry, metrics, letters, on_room
        self._max_targets = max_targets
        self.pace = pace
        self._requests = 0  # in flight
        self._answered = asyncio.Event()
        self._refusals = Refusals(output.name)
        self._spare: list[Body] = []  # emptied, for the next batches: fresh memory costs as much as filling it
        self.filled_bytes = 0  # of the open batch, as far as it was added
        self._is_held = False  # a thread writes into the open batch
        self._is_asked_to_seal = False  # meanwhile
        self._open = self._new_batch()
        self._sealed: deque[Batch] = deque()
        self._active = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._sealed_at = float("-inf")  # by the event loop's clock
        self._is_due = False  # the open batch is old enough, but no sender was free
        self._waits: list[float] = []  # time.time() at which each sender that is backing off goes on
        self._away: list[
            tuple[float, asyncio.Event]
        ] = []  # batches (by their age) that wait for anybody to get through
        self._turns: list[float] = []  # batches (by their age) that may go: nobody overtakes an older one
        self._hurry = asyncio.Event()  # set by drain: do not wait out a backoff

    def __repr__(self) -> str:
        return f"<OutputWorker {self.name}: {self.used_bytes} of {self.limit_bytes} bytes, {self._active} sending>"

    def _new_batch(self) -> Batch:
        self.filled_bytes = 0
        return Batch(self._spare.pop() if self._spare else new_body(), [], 0, self.output.lines_per_record)

    # -- filling ------------------------------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        return self.in_flight_bytes + self.filled_bytes

    @property
    def room_bytes(self) -> int:
        return self.limit_bytes - self.used_bytes

    @property
    def batch_bytes(self) -> int:
        """Size at which a batch is sent."""
        return self.pace.batch_bytes if self.pace else self.output.max_batch_bytes

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight now."""
        return self.pace.concurrency if self.pace else self.output.concurrency

    @property
    def body(self) -> Body:
        """Where documents are appended; `add` then says what they are."""
        return self._open.body

    def add(self, pieces: Sequence[Piece]) -> None:
        """What was just appended to `body`: all pieces of a chunk at once.

        So a span is never spread over two batches. The rows of a `Durable` change with a batch, cursors with a span:
        between two batches of one span, a commit would tell of documents that the cursor has not passed.
        """
        batch, filled = self._open, [piece for piece in pieces if piece.records]
        if not filled:
            return
        batch.pieces += filled
        batch.records += sum([piece.records for piece in filled])
        self.filled_bytes = filled[-1].end
        self._idle.clear()
        if self.filled_bytes >= self.batch_bytes or self._has_many_targets(batch, filled):
            self.seal()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._patience_s(), self._seal_when_free)

    def hold(self) -> None:
        """A thread writes into `body` from now on, until `release`: the batch stays open meanwhile."""
        self._is_held = True

    def release(self) -> None:
        """The thread has ended. What it wrote is added in its order, or `cut` off."""
        self._is_held = False

    def cut(self) -> None:
        """What stands in `body` and was not added never will be. Seals, if that was asked for meanwhile."""
        if len(self._open.body) > self.filled_bytes:
            del self._open.body[self.filled_bytes :]
        if self._is_asked_to_seal:
            self.seal()

    def _patience_s(self) -> float:
        """How old the open batch may become: a moment only, unless another one has left just now.

        So a record that comes after a quiet time is sent at once, and small requests are no more than one in half of
        `max_batch_age_s`. (Not in all of it: where records come in bursts of that distance, each would just miss one.)
        """
        age_s = self.output.max_batch_age_s
        return min(age_s, max(GATHER_S, self._sealed_at + age_s / 2 - asyncio.get_running_loop().time()))

    def end_burst(self) -> None:
        """Whoever fills it has nothing more now: the open batch leaves without its timer, unless one has just now."""
        if self._timer is not None:
            rested_s = asyncio.get_running_loop().time() - self._sealed_at
            if rested_s >= self.output.max_batch_age_s / 2:
                self._seal_when_free()

    def _has_many_targets(self, batch: Batch, added: Sequence[Piece]) -> bool:
        if self._max_targets is None:
            return False
        batch.targets.update(map(_place, {piece.target for piece in added}))
        return len(batch.targets) >= self._max_targets

    def doubt(self, since: float) -> None:
        """The open batch may be there already: an earlier run may have sent it, at `since` (time.time()) or later."""
        known = self._open.uncertain_since
        self._open.uncertain_since = since if known is None else min(known, since)

    def _seal_when_free(self) -> None:
        """The open batch is old enough; while all senders are busy it may as well grow: fewer, larger requests."""
        self._is_due = True
        if self._active < self.concurrency and not self._sealed:
            self.seal()

    def seal(self) -> None:
        """Hands the open batch to the senders; when `cut` is called, if somebody still has to add what he wrote."""
        self._is_asked_to_seal = self._is_held or len(self._open.body) > self.filled_bytes
        if self._is_asked_to_seal:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due = False
        if self._open.records:
            self._sealed_at = asyncio.get_running_loop().time()
            self.in_flight_bytes += self.filled_bytes
            self._sealed.append(self._open)
            self._open = self._new_batch()
            self._wake.set()

    # -- sending ------------------------------------------------------------------------------------------------------

    async def run_sender(self) -> None:
        """Endless; `output.concurrency` of these run at once."""
        while True:
            while not self._sealed:
                self._wake.clear()
                await self._wake.wait()
            batch = self._sealed.popleft()
            size = len(batch.body)
            self._active += 1
            try:
                for part in self._by_targets(batch):
                    await self._deliver(part)
            finally:
                self._active -= 1
            self.in_flight_bytes -= size
            self._spare_for_later(batch.body)
            if self._is_due and not self._sealed:
                self.seal()
            if not self._active and not self._sealed and not self._open.records:
                self._idle.set()
            self._on_room()

    def _spare_for_later(self, body: Body) -> None:
        """Keeps its memory, unless it is much more than batches are now, or a cut off request still looks at it.

        And that of no more bodies than are full at a time: else what a short rush has taken would stay for good. One is
        kept even while many batches wait, since the next batch that is begun needs it.
        """
        if not recycle(body):
            return
        if not self._is_held and is_fresh(self._open.body):  # asked for its size, it would wait for the thread
            self._open.body = body
        elif not self._spare or len(self._spare) + len(self._sealed) + self._active < self.output.concurrency:
            self._spare.append(body)

    async def idle(self) -> None:
        """Returns when every record that was added has its fate."""
        await self._idle.wait()

    def hurry(self) -> None:
        """Drain: batches in backoff are tried at once, and then four times a second."""
        self._hurry.set()
        for _, woken in self._away:
            woken.set()
        self._refusals.flush()

    def _by_targets(self, batch: Batch) -> Iterator[Batch]:
        """In parts of at most `max_targets`: the records of one chunk can have more, where their fields decide."""
        if self._max_targets is None:
            yield batch
            return
        ordered = sorted(set(map(_place, {piece.target for piece in batch.pieces})))
        for start in range(0, len(ordered), self._max_targets):
            part = set(ordered[start : start + self._max_targets])
            self._metrics.output_request_targets.labels(self.name).observe(len(part))
            if len(part) == len(ordered):
                yield batch
            else:
                yield subset(
                    batch, (i for i, place in enumerate(places_of(batch)) if _place(place.piece.target) in part)
                )

    async def _deliver(self, batch: Batch) -> None:
        """Until every record of the batch has its fate."""
        remaining: Batch | None = batch
        may_be_woken = True  # once: else what never gets through would be sent again with each success of another
        while remaining is not None:
            delivery = await self._send(remaining)
            if delivery.split:
                middle = remaining.records // 2
                await self._deliver(subset(remaining, range(middle)))
                await self._deliver(subset(remaining, range(middle, remaining.records)))
                return
            remaining = await self._settle(remaining, delivery)
            if remaining is not None:
                delay_s = self._delay_s(delivery, remaining.attempts)
                if may_be_woken and _is_away(remaining, delivery):
                    may_be_woken = not await self._wait_for_return(remaining.created, delay_s)
                else:
                    await self._back_off(delay_s, self._hurry)
                remaining.attempts += 1

    async def _send(self, batch: Batch) -> Delivery:
        """One attempt; whatever an output does, the fates that this returns fit the batch."""
        try:
            delivery = await self._attempt(batch)
        except Disconnected as exc:
            self._failed(exc.reason, str(exc))
            return Delivery(retry=_all_of(batch), reason=exc.reason, delay_s=exc.delay_s)
        except Exception as exc:
            self._metrics.output_errors.labels(self.name).inc()
            log.exception(
                "an output failed in a way that it should not; its batch is sent again", extra=fields(output=self.name)
            )
            self._failed("error", repr(exc))
            return Delivery(retry=_all_of(batch), reason="error")
        if delivery.split and batch.records == 1:
            rejection = Rejection(0, delivery.reason or "too_large", delivery.detail)
            delivery = Delivery(rejected=(rejection,))
        if delivery.retry or delivery.split:
            self._failed(delivery.reason or "split", delivery.detail)
        elif not self._waits:
            self.last_error = ""
        if not delivery.split and len(delivery.retry) < batch.records:
            self.was_reached = True
            self._has_returned()
        return delivery

    async def _attempt(self, batch: Batch) -> Delivery:
        """When it is this batch's turn. Tells the pace what became of it."""
        if batch.created not in self._turns:
            self._turns.append(batch.created)
        while self._requests >= self.concurrency or batch.created > min(self._turns):
            self._answered.clear()
            await self._answered.wait()
        self._turns.remove(batch.created)
        self._answered.set()  # there may be room for the next, too
        self._requests += 1
        began, outcome = time.monotonic(), None
        try:
            delivery = await self.output.send(batch)
            check_fates(delivery, batch.records)
            outcome = _outcome(delivery)
        except Disconnected as exc:
            outcome = "silent" if exc.reason == "timeout" else None
            raise
        finally:
            self._requests -= 1
            self._answered.set()
            if self.pace is not None and outcome is not None:
                now = time.monotonic()
                self.pace.answered(outcome, seconds=now - began, size=len(batch.body), now=now)
        return delivery

    def _failed(self, reason: str, sentence: str) -> None:
        self._metrics.output_retries.labels(self.name, reason).inc()
        self.last_error, self.last_error_at = sentence or reason, time.time()
        log.warning(
            "a batch was not delivered and is sent again", extra=fields(output=self.name, reason=reason, error=sentence)
        )

    def _delay_s(self, delivery: Delivery, attempts: int) -> float:
        if delivery.delay_s is not None:
            return delivery.delay_s
        if delivery.reencode and len(delivery.reencode) == len(delivery.retry):
            return 0.0  # they differ from what was refused
        return self._retry.delay_s(attempts)

    async def _wait_for_return(self, created: float, delay_s: float) -> bool:
        """Nobody was there: whoever gets through first wakes all, and the oldest go first. -> whether it was woken."""
        wait = created, asyncio.Event()
        self._away.append(wait)
        await self._back_off(delay_s, wait[1])
        if wait not in self._away:
            return True
        self._away.remove(wait)
        return False

    def _has_returned(self) -> None:
        for created, woken in self._away:
            self._turns.append(created)
            woken.set()
        self._away.clear()

    async def _back_off(self, delay_s: float, woken: asyncio.Event) -> None:
        is_hurried = self._hurry.is_set()
        delay_s = min(delay_s, HURRIED_DELAY_S) if is_hurried else delay_s
        until = time.time() + delay_s
        self._waits.append(until)
        try:
            if is_hurried:
                await asyncio.sleep(delay_s)
            else:
                async with asyncio.timeout(delay_s):
                    await woken.wait()
        except TimeoutError:
            pass
        finally:
            self._waits.remove(until)

    @property
    def retry_at(self) -> float | None:
        """time.time() of the next attempt, while a batch waits for one."""
        return min(self._waits, default=None)

    # -- fates --------------------------------------------------------------------------------------------------------

    async def _settle(self, batch: Batch, delivery: Delivery) -> Batch | None:
        """Gives every record that is done its fate. -> what is left to be sent again."""
        if not delivery.retry and not delivery.rejected:
            self._all_delivered(batch, delivery)
            return None
        if len(delivery.retry) == batch.records and not delivery.reencode:
            return batch
        documents, places = batch.documents(), places_of(batch)
        letters = [make_letter(self.name, documents, places, r) for r in delivery.rejected]
        give_up = await self._keep(letters) if letters else None
        again = set(delivery.retry)
        refused = {r.index: letter.source_bytes for r, letter in zip(delivery.rejected, letters, strict=True)}
        self._some_delivered(delivery, documents, places, again, refused)
        if give_up is not None:
            give_up()
        for i in delivery.reencode:
            documents[i] = without_equal_keys(documents[i], batch.lines_per_record)
        return subset(batch, sorted(again), documents) if again else None

    async def _keep(self, letters: list[Letter]) -> Callable[[], None]:
        """A dead letter is durable before the cursor passes its record; where it cannot be, the output waits."""
        attempt = 0
        while True:
            try:
                give_up = await self._letters.keep(letters)
            except StateError as exc:
                self._failed("dead_letters", str(exc))
                await self._back_off(self._retry.delay_s(attempt), self._hurry)
                attempt += 1
            else:
                break
        self.rejected_records += len(letters)
        details = {letter.reason: letter.detail for letter in reversed(letters)}
        for reason, records in Counter(letter.reason for letter in letters).items():
            self._refusals.note(reason, records, details[reason])
        return give_up

    def _all_delivered(self, batch: Batch, delivery: Delivery) -> None:
        fate, now = SPOOLED if delivery.spooled else DELIVERED, time.monotonic()
        latency = self._metrics.output_latency.labels(self.name)
        for piece in batch.pieces:
            piece.span.answer(piece.records, 0, fate)
        for read_at in {piece.read_at for piece in batch.pieces}:
            latency.observe(now - read_at)  # once for all that was read in one go
        self._count(batch.records, len(batch.body), delivery)
        self.last_ack = now

    def _some_delivered(
        self,
        delivery: Delivery,
        documents: Sequence[bytes],
        places: Sequence[Place],
        again: set[int],
        refused: Mapping[int, int],
    ) -> None:
        """`refused`: index -> bytes of the log file."""
        done = [i for i in range(len(documents)) if i not in again and i not in refused]
        latency, now = self._metrics.output_latency.labels(self.name), time.monotonic()
        for _, group in groupby((places[i].piece for i in done), id):
            pieces = list(group)
            pieces[0].span.answer(len(pieces))
            latency.observe(now - pieces[0].read_at)
        for i, source_bytes in refused.items():
            places[i].piece.span.answer(1, rejected_bytes=source_bytes)
            self._metrics.output_bytes.labels(self.name, "rejected").inc(len(documents[i]))
        self._metrics.output_records.labels(self.name, "rejected").inc(len(refused))
        self._count(len(done), sum(len(documents[i]) for i in done), delivery)
        if done or refused:
            self.last_ack = now

    def _count(self, records: int, size: int, delivery: Delivery) -> None:
        duplicates = min(delivery.duplicates, records)
        records_by_fate, bytes_by_fate = self._metrics.output_records, self._metrics.output_bytes
        repeated = size * duplicates // records if records else 0
        records_by_fate.labels(self.name, "delivered").inc(records - duplicates)
        bytes_by_fate.labels(self.name, "delivered").inc(size - repeated)
        if duplicates:
            records_by_fate.labels(self.name, "duplicate").inc(duplicates)
            bytes_by_fate.labels(self.name, "duplicate").inc(repeated)
        if delivery.failure_store:
            self._metrics.output_failure_store.labels(self.name).inc(delivery.failure_store)

    def status(self) -> dict[str, Any]:
        own = self.output.status()
        return {
            **own,
            "name": self.name,
            "type": self.output.kind,
            "state": "retrying" if self._waits else "sending" if self._active else "idle",
            "in_flight_bytes": self.used_bytes,
            "last_error": self.last_error or own.get("last_error"),
            "last_error_at": self.last_error_at,
            "retry_at": self.retry_at,
            "rejected_records": self.rejected_records,
        }


def _all_of(batch: Batch) -> tuple[int, ...]:
    return tuple(range(batch.records))


def _is_away(batch: Batch, delivery: Delivery) -> bool:
    """Whether nobody took anything of it, and nobody has said for how long."""
    is_whole = len(delivery.retry) == batch.records
    return is_whole and delivery.delay_s is None and delivery.reason in OUTAGE


def _place(target: str) -> str:
    """Without what chooses within it (`?routing=...`)."""
    return target.partition("?")[0]


def _outcome(delivery: Delivery) -> Outcome | None:
    """What an answer says of the destination's strength; None: nothing."""
    if delivery.reason == "throttled":
        return "busy"
    if delivery.split:
        return "too_large" if delivery.reason == "too_large" else None
    return None if delivery.retry else "taken"
