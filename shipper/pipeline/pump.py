"""Decides what is read next, reads it, and hands it to the lanes.

Files with something to read take turns, a bounded quantum each, so that a noisy pod does not delay a quiet one. A read
takes the outputs that stand at the same position and have room, and ends where another output stands: outputs that
drift apart read twice, outputs that meet merge by themselves.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from shipper.inputs.tail.generation import Generation, Stall
from shipper.ledger import Cursor
from shipper.log import fields
from shipper.outputs.worker import OutputWorker
from shipper.parsers import detect_format
from shipper.pipeline.jobs import QUANTUM_BYTES, Job, read_all
from shipper.pipeline.lanes import Chunk, Lanes
from shipper.pipeline.plans import Plans
from shipper.pipeline.sweep import Sweep
from shipper.pipeline.turns import Turns

log = logging.getLogger(__name__)

ROUND_BYTES = 4 * QUANTUM_BYTES  # read in one go over several files
QUANTUM_LINES = 8 * 1024  # of one read: a line of one byte becomes a record with all its metadata around it
TARGETED_LINES = 1024  # ... where each may have a target of its own, looked for in its fields
LEAST_BYTES = 64 * 1024  # of one read, however small batches are
INLINE_BYTES = 64 * 1024  # so little, just written, comes from the page cache faster than a thread wakes up
MEET_S = 0.2  # so long outputs at one position wait for the last of them
HOLD_S = 3.0  # so long an open record keeps back those behind it
TAIL_S = 5.0  # so long a newer file waits for an unfinished end of the older one
OPEN_S = 30.0  # so long a newer file waits for an older one that is not open
RETRY_S = 1.0  # after a read that failed
STALL_S = 0.02  # so long chunks are processed in one go, before others of the event loop have their turn


class Pump:
    def __init__(
        self,
        plans: Plans,
        lanes: Lanes,
        sweep: Sweep,
        workers: Mapping[str, OutputWorker],
        *,
        on_damage: Callable[[Generation], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_damage` hears of a compressed file that ends before bytes that were seen of it."""
        self.is_paused = False
        self.last_progress = clock()
        self._plans, self._lanes, self._workers, self._clock = plans, lanes, workers, clock
        self._on_damage = on_damage
        self._turns, self._sweep = Turns(), sweep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read and encode")
        self._full_since: dict[str, float] = {}
        self._at_work = asyncio.Lock()
        self._growth = 1.0  # bytes of documents for each that was read, as a thread found it last

    def __repr__(self) -> str:
        return f"<Pump: {self._turns}>"

    # -- what others tell it ------------------------------------------------------------------------------------------

    def changed(self, generation: Generation) -> None:
        """It may have something to read."""
        if not self._turns.ready:
            self.last_progress = self._clock()  # it waits from now on: hours without a line are no standstill
        self._turns.add(generation)

    def room(self) -> None:
        """An output has finished a batch."""
        self._turns.unblock(self._has_room)

    def waiting(self) -> bool:
        """Whether something could be read right now."""
        return len(self._turns) > 0

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Endless."""
        try:
            await self._run()
        finally:
            self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            async with self._at_work:
                has_read = await self._read_ahead()
            if has_read:
                await asyncio.sleep(0)
            else:
                self._end_burst()
                await self._turns.wait()

    def _end_burst(self) -> None:
        """All that was written together is read: no batch need wait for more of it, unless room is what is missing."""
        if not self._turns.is_blocked:
            for worker in self._workers.values():
                worker.end_burst()

    async def _read_ahead(self) -> bool:
        """Several rounds, one upon the other. -> whether there was anything to read."""
        jobs = self.choose()
        if not jobs and not self._sweep.files:
            self.is_paused = self._turns.is_blocked and not any(map(self._has_room, self._workers))
            return False
        self.is_paused = False
        while jobs:
            done = await self._round(self._fitting(jobs))
            jobs = jobs[done:]
        self.last_progress = self._clock()
        return True

    def between_rounds(self) -> asyncio.Lock:
        """Whoever holds it knows that nothing is read or written into a batch meanwhile."""
        return self._at_work

    def begin_anew(self, generations: Iterable[Generation]) -> None:
        """Other outputs, inputs or rules hold now: what was remembered of rooms and turns may be wrong."""
        self._full_since.clear()
        self._turns.unblock_all()
        for generation in generations:
            self.changed(generation)

    async def _round(self, jobs: list[Job]) -> int:
        """Reads and processes jobs, until a batch is full. -> how many."""
        holders = self._draft(jobs)
        try:
            try:
                done = await self._read(jobs)
            finally:
                for worker in holders:
                    worker.release()
            drafts = (job.draft for job in jobs[:done] if job.draft is not None and job.draft.has_advanced)
            self._growth = next((draft.growth for draft in drafts), self._growth)
            since = self._clock()
            for job in sorted(jobs[:done], key=_is_to_be_encoded):
                self.process(job)
                if self._clock() - since > STALL_S:
                    await asyncio.sleep(0)
                    since = self._clock()
        finally:
            for worker in holders:
                worker.cut()
        return done

    def _fitting(self, jobs: list[Job]) -> list[Job]:
        """So many as are expected to fill a batch: what else is drafted would be drafted in vain."""
        workers = [worker for worker in self._workers.values() if worker.room_bytes > 0]
        room = float(min((worker.batch_bytes - worker.filled_bytes for worker in workers), default=0))
        for number, job in enumerate(jobs):
            if number and room <= 0:
                return jobs[:number]
            room -= self._growth * job.length
        return jobs

    def _draft(self, jobs: Sequence[Job]) -> list[OutputWorker]:
        """Lets the thread that reads also encode, where it may. -> the workers into whose batches it will write."""
        holders: dict[int, OutputWorker] = {}
        for job in jobs:
            job.draft = None  # of an earlier round: its batch may have left meanwhile
        for job in jobs if sum(job.length for job in jobs) > INLINE_BYTES else ():
            generation, now = job.generation, self._clock()
            if job.following is None and any(_holds(generation, c, now) for c in job.cursors):
                chunk = Chunk(generation, job.cursors, job.position, b"", is_end=False, hold=True, read_at=now)
                job.draft = self._lanes.draft(chunk, ends_here=self._ends_here(generation, job.position))
            for taker in job.draft.asked.takers if job.draft is not None else ():
                holders[id(taker.worker)] = taker.worker
        for worker in holders.values():
            worker.hold()
        return list(holders.values())

    def choose(self) -> list[Job]:
        """The reads of one round, but for what a sweep has done at once."""
        jobs: list[Job] = []
        left, sweep = ROUND_BYTES, self._sweep
        sweep.begin(self._clock())
        for _ in range(len(self._turns)):
            generation = self._turns.next()
            if sweep.take(generation):
                self._plans.rest(generation)
                if generation.following is not None:
                    self.changed(generation.following)
            else:
                found = self._jobs(generation)
                jobs += found
                left -= sum(job.length for job in found)
            if left <= 0 or sweep.is_full:
                break
        sweep.end()
        return jobs

    def _jobs(self, generation: Generation) -> list[Job]:
        """The next reads of one file, one for each position at which outputs stand: none delays another."""
        now = self._clock()
        if generation.must_commit_first or generation.file is None or not generation.has_unread():
            return []
        if generation.awaits_scan:
            return []
        if generation.format is None and not self._find_format(generation):
            return []
        if (delay := self._plans.seconds_to_wait(generation, now)) > 0:
            self._turns.later(generation, delay)
            return []
        if (seam := self._seam_job(generation)) is not None:
            return [seam]
        together: dict[object, list[Cursor]] = {}
        for cursor in generation.cursors.values():
            if self._is_willing(generation, cursor, now):
                together.setdefault((cursor.position, cursor.ahead, cursor.state), []).append(cursor)
        stands = sorted({c.position for c in generation.cursors.values()})
        if len(stands) == 1:
            generation.is_split = False
        groups = [self._with_room(generation, cursors, now) for cursors in together.values()]
        return [self._job(generation, group, stands) for group in groups if group]

    def _job(self, generation: Generation, group: list[Cursor], stands: list[int]) -> Job:
        """`stands`: positions of all cursors. Where no record ended before the next of them, it reads beyond."""
        position = group[0].position
        readings = [generation.readings[c.output] for c in group if c.output in generation.readings]
        quantum = max((reading.quantum for reading in readings), default=0)
        border = next((p for p in stands if p > position), generation.end) if not quantum else generation.end
        length = min(quantum or self._usual_bytes(group), min(border, generation.end) - position)
        is_targeted = any(self._workers[c.output].output.template.needs_record for c in group)
        most_lines = TARGETED_LINES if is_targeted else QUANTUM_LINES
        return Job(generation, group, position, length, most_lines=None if quantum else most_lines)

    def _usual_bytes(self, group: list[Cursor]) -> int:
        """Of one read: no more than is expected to fill a batch, since what is read at once is sent at once."""
        batch_bytes = min(self._workers[c.output].batch_bytes for c in group)
        return min(QUANTUM_BYTES, max(LEAST_BYTES, int(batch_bytes / self._growth)))

    def _is_willing(self, generation: Generation, cursor: Cursor, now: float) -> bool:
        return (
            cursor.position < generation.end
            and not self._is_stalled(generation, cursor, now)
            and not self._plans.waits(generation, cursor.output)
            and self._is_its_turn(generation, cursor, now)
        )

    def _is_stalled(self, generation: Generation, cursor: Cursor, now: float) -> bool:
        reading = generation.readings.get(cursor.output)
        if reading is None or reading.stalled is None or reading.stalled != self._stall(generation, cursor, now):
            return False
        if reading.hold_until is not None and now < reading.hold_until:
            self._turns.later(generation, reading.hold_until - now)
        return True

    def _stall(self, generation: Generation, cursor: Cursor, now: float) -> Stall:
        """What a vain read depends on: it would be as vain as long as this is the same."""
        position = cursor.position
        is_held = _holds(generation, cursor, now)
        return position, generation.end, self._ends_here(generation, position), is_held

    def _ends_here(self, generation: Generation, position: int) -> bool:
        """Whether an unfinished end is a record: nothing follows it, neither here nor in the next file."""
        following = generation.following
        may_go_on = (
            following is not None
            and not generation.seam_is_over
            and generation.source.is_container
            and any(c.position == position and _at_head(following, c.output) for c in generation.cursors.values())
        )
        return generation.ends_here and not may_go_on

    def _is_its_turn(self, generation: Generation, cursor: Cursor, now: float) -> bool:
        """Files of one container are read in order; an unfinished end keeps the next one waiting only for a while."""
        before = generation.previous
        if before is None or cursor.output not in before.cursors:
            return True
        older = before.cursors[cursor.output]
        if older.position >= before.end or (before.file is None and before.is_deleted):
            return True
        if before.file is None:
            return self._has_waited_for_file(generation, cursor, now)
        if before.stall(cursor.output) is None:
            self._turns.later(generation, TAIL_S)  # whoever reads the older file says when it is done
            return False
        if not self._is_free_for_seam(generation, older):
            return False
        waited = now - generation.seen_at
        if waited >= TAIL_S:
            self._end_seam(before)
            return before.seam_is_over  # the commit wakes it up
        self._turns.later(generation, TAIL_S - waited)
        return False

    def _has_waited_for_file(self, generation: Generation, cursor: Cursor, now: float) -> bool:
        """The older file was renamed while it was opened, and the next scan finds it; or it waits for a descriptor, of
        which this one may hold the last.
        """
        reading = generation.reading(cursor.output)
        if reading.waits_since is None:
            reading.waits_since = now
        if now - reading.waits_since >= OPEN_S:
            return True
        self._turns.later(generation, RETRY_S)
        return False

    def _has_room(self, output: str) -> bool:
        return self._workers[output].room_bytes > 0

    def _with_room(self, generation: Generation, cursors: list[Cursor], now: float) -> list[Cursor]:
        """Those whose outputs have room; none, for a moment, if the others may have some soon."""
        full = [c.output for c in cursors if not self._has_room(c.output)]
        group = [c for c in cursors if c.output not in full]
        for cursor in group:
            self._full_since.pop(cursor.output, None)
        if not full:
            return group
        for output in full:
            self._turns.block(generation, output)
        waited = now - max(self._full_since.setdefault(output, now) for output in full)
        if group and not generation.is_split:
            if waited < MEET_S:
                self._turns.later(generation, MEET_S - waited)
                return []
            generation.is_split = True
        return group

    def _find_format(self, generation: Generation) -> bool:
        """`auto` looks at the first complete line."""
        assert generation.file is not None
        try:
            line, newline, _ = generation.file.read(0, QUANTUM_BYTES).partition(b"\n")
        except OSError as exc:
            self._failed(generation, exc)
            return False
        if not newline and not generation.ends_here and len(line) < QUANTUM_BYTES:
            return False
        generation.format, generation.is_dirty = detect_format(line), True
        return True

    # -- records over a rotation --------------------------------------------------------------------------------------

    def _seam_job(self, generation: Generation) -> Job | None:
        """The unfinished end of the file before this one, and this one's head; None where there is no such thing."""
        before = generation.previous
        if before is None or before.following is not generation or before.seam_ends or before.file is None:
            return None
        if before.seam_tried == (before.end, generation.end) or not before.source.is_container:
            return None
        cursors = [
            c
            for c in before.cursors.values()
            if (stalled := before.stall(c.output)) is not None
            and c.position == stalled[0] < before.end
            and _at_head(generation, c.output)
            and self._is_free_for_seam(generation, c)
            and not self._plans.waits(before, c.output)
        ]
        group = [c for c in cursors if (c.position, c.ahead) == (cursors[0].position, cursors[0].ahead)]
        if not group or before.end - group[0].position > 2 * self._plans.of(before).frame.limit:
            return None
        position = group[0].position
        return Job(before, group, position, before.end - position, following=generation)

    def _is_free_for_seam(self, generation: Generation, cursor: Cursor) -> bool:
        """There is room, and all before it is answered: else the new file's cursor could become durable before the old
        one's, and a crash between the two would leave a record without its head.
        """
        if self._has_room(cursor.output) and not cursor.segments:
            return True
        self._turns.block(generation, cursor.output)
        return False

    def _process_seam(self, job: Job, cursors: list[Cursor], following: Generation) -> None:
        generation = job.generation
        cursors = [c for c in cursors if _at_head(following, c.output)]
        if cursors:
            chunk = Chunk(generation, cursors, job.position, job.data, is_end=True, hold=True, read_at=self._clock())
            new = [following.cursors[c.output] for c in cursors]
            if self._lanes.process_seam(chunk, following, new, job.head):
                for cursor in cursors:
                    generation.forget_reading(cursor.output)
                    following.forget_reading(cursor.output)
            else:
                generation.seam_tried = (generation.end, following.end)
                if len(job.head) >= QUANTUM_BYTES or not job.data.endswith(b"\n"):
                    self._end_seam(generation)
        self.changed(generation)
        self.changed(following)

    def _end_seam(self, generation: Generation) -> None:
        """Its unfinished record is not looked for in the next file any more: what there is of it is the record.

        That is durable before anything is made of it: a restart that tried again might find the end meanwhile, and send
        whole what was sent in two parts.
        """
        if not generation.seam_ends:
            generation.seam_ends = generation.is_dirty = True

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, jobs: list[Job]) -> int:
        """-> how many were read."""
        total = sum(job.length for job in jobs)
        files = [g for job in jobs for g in (job.generation, job.following) if g is not None]
        if total <= INLINE_BYTES and not any(g.is_gzip for g in files):
            return read_all(jobs)
        for generation in files:
            generation.is_reading = True
        try:
            return await self._in_thread(read_all, jobs)
        finally:
            for generation in files:
                generation.end_read()

    async def _in_thread(self, function: Callable[[list[Job]], int], jobs: list[Job]) -> int:
        """Also when it is cancelled it returns only when the thread has: files and batches are others' again then."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, function, jobs)
        try:
            return await asyncio.shield(future)
        finally:
            if not future.done():
                await asyncio.wait([future])

    def process(self, job: Job) -> None:
        """What was read, into the lanes; what came of it decides about the next read."""
        generation = job.generation
        if job.error is not None:
            self._failed(job.following or generation, job.error)
            return
        if job.is_behind:
            self.changed(generation)
            return
        waits = self._plans.waits
        cursors = [c for c in job.cursors if c.position == job.position and not waits(generation, c.output)]
        if job.following is not None:
            self._process_seam(job, cursors, job.following)
            return
        if cursors:
            self._process_chunk(job, cursors)
            if generation.file is not None:
                generation.file.release(job.position, cursors[0].position)
        if generation.has_unread():
            self.changed(generation)
        else:
            self._plans.rest(generation)
        if generation.following is not None:
            self.changed(generation.following)

    def _process_chunk(self, job: Job, cursors: list[Cursor]) -> None:
        generation, now = job.generation, self._clock()
        is_end = job.is_at_end and self._ends_here(generation, job.position)
        hold = any(_holds(generation, c, now) for c in cursors)
        chunk = Chunk(generation, cursors, job.position, job.data, is_end=is_end, hold=hold, read_at=now)
        has_advanced = self._lanes.accept(chunk, job.draft) if job.draft is not None else None
        if has_advanced is None:
            try:
                is_there = job.restore()
            except OSError as exc:
                self._failed(generation, exc)
                return
            if not is_there:
                return  # the file is shorter now, or closed
            chunk.data = job.data
            has_advanced = self._lanes.process(chunk)
        if cursors[0].position > job.position:
            for cursor in cursors:
                generation.forget_reading(cursor.output)
        elif generation.file is None:
            return  # closed meanwhile: whoever opens it again says so
        elif not has_advanced and not job.is_whole and generation.file.is_gzip:
            self._on_damage(generation)
        elif not self._will_read_more(job, cursors):
            for cursor in cursors:
                self._stop_at(job, cursor, now, may_hold=not has_advanced)

    def _will_read_more(self, job: Job, cursors: Iterable[Cursor]) -> bool:
        """No record that begins here ends in what was read: the next read is longer, where there is more."""
        longest = 2 * self._plans.of(job.generation).frame.limit + QUANTUM_BYTES
        quantum = max(job.length, QUANTUM_BYTES)
        if not job.is_whole or job.is_at_end or quantum >= longest:
            return False
        for cursor in cursors:
            job.generation.reading(cursor.output).quantum = min(2 * quantum, longest)
        return True

    def _stop_at(self, job: Job, cursor: Cursor, now: float, *, may_hold: bool) -> None:
        """Until the file grows or ends, or until an open record has kept back others for long enough."""
        reading = job.generation.reading(cursor.output)
        if may_hold and reading.hold_until is None and b"\n" in job.data:
            reading.hold_until = now + HOLD_S
        reading.stalled = self._stall(job.generation, cursor, now)

    def _failed(self, generation: Generation, exc: OSError) -> None:
        log.warning("a file cannot be read; it is tried again", extra=fields(path=generation.path, error=str(exc)))
        self._turns.later(generation, RETRY_S)


def _holds(generation: Generation, cursor: Cursor, now: float) -> bool:
    """Whether open records keep back those behind them."""
    reading = generation.readings.get(cursor.output)
    return reading is None or reading.hold_until is None or now < reading.hold_until


def _at_head(generation: Generation, output: str) -> bool:
    cursor = generation.cursors.get(output)
    return cursor is not None and cursor.position == 0 and not cursor.ahead


def _is_to_be_encoded(job: Job) -> bool:
    """These come last: drafts that stand behind theirs would be cut off."""
    return job.draft is None or job.draft.summary is None
