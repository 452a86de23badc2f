"""Starts, drains and stops the stages, in one task group; and is what the inputs tell of log files."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shipper.checkpoint import Checkpoint, Stored
from shipper.document import time_ns
from shipper.errors import ShipperError, StateError
from shipper.filters.base import MetadataSource
from shipper.inputs.tail.generation import Generation, restore_cursor
from shipper.inputs.tail.input import TailInput
from shipper.ledger import Cursor
from shipper.log import fields
from shipper.metrics import Metrics
from shipper.outputs.worker import OutputWorker
from shipper.pipeline.crew import Crew, Start
from shipper.pipeline.housekeeping import Housekeeper
from shipper.pipeline.journal import Journal
from shipper.pipeline.lanes import Lanes
from shipper.pipeline.losses import Losses
from shipper.pipeline.plans import Plans
from shipper.pipeline.pump import Pump
from shipper.pipeline.registry import Registry
from shipper.pipeline.seats import last_border, newcomers, place, seat, seat_first, skip, skip_to_end
from shipper.pipeline.sweep import Sweep
from shipper.tasks import TaskGuard

log = logging.getLogger(__name__)

TEND_S = 5.0
ONCE_PATIENCE_S = 60.0  # --once gives up when nothing was confirmed for so long


class OnceStalled(ShipperError):
    """`--once`: no destination has confirmed anything for a minute."""


@dataclass(frozen=True, slots=True)
class Settings:
    drain_timeout_s: float
    hold_deleted_bytes: int
    history_s: float
    read_from: Mapping[str, str]  # input -> head, end
    memory_limit: int | None = None  # shared by all outputs; None: each keeps the limit of its worker


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a configuration asks of a pipeline that runs: all of it is there, and only has to be taken over."""

    settings: Settings
    plans: Plans
    inputs: Sequence[TailInput]  # those that go on included
    workers: Mapping[str, OutputWorker]  # likewise
    metadata: MetadataSource | None
    starts: Mapping[str, Start] = field(default_factory=dict)  # outputs that may start only when others have gone


class Pipeline:
    def __init__(
        self,
        *,
        settings: Settings,
        metrics: Metrics,
        checkpoint: Checkpoint,
        stored: Stored,
        plans: Plans,
        workers: Mapping[str, OutputWorker],
        metadata: MetadataSource | None,
    ) -> None:
        self.metadata = metadata
        self.metrics = metrics
        self.started_at = time.time()
        self.is_reading = False
        self.has_scanned = False
        self._plans, self._stored = plans, stored
        self._committed_at = checkpoint.committed_at
        self._checkpoint, self._was_idle = checkpoint, checkpoint.take_idle_note()
        self._registry = Registry(max(stored.generations, default=0) + 1)
        durables = {w.name: w.output.durable for w in workers.values() if w.output.durable is not None}
        self.journal = Journal(checkpoint, durables, lambda: self._registry, on_durable=self._is_durable)
        self.crew = Crew(workers, self.journal, rewind=self._rewind, on_room=self._on_room)
        self.workers = self.crew.workers
        self.losses = Losses(plans, metrics, changed=self.changed)
        keepers = stored.rows.keys() | durables.keys()
        self.housekeeper = Housekeeper(self._registry, plans, self.crew, self.journal, self.losses, keepers=keepers)
        self._set(settings)
        lanes, sweep = Lanes(plans, self.workers, metrics), Sweep(plans, self.workers, metrics)
        self.pump = Pump(plans, lanes, sweep, self.workers, on_damage=self._damaged)
        self.on_tend: Callable[[], None] = lambda: None
        self._may_skip = stored.is_first_start
        self._guard: TaskGuard | None = None
        self._watch: asyncio.Task[None] | None = None  # of the metadata

    def __repr__(self) -> str:
        return f"<Pipeline of {self._registry}>"

    @property
    def inputs(self) -> list[TailInput]:
        return self._registry.inputs

    @inputs.setter
    def inputs(self, inputs: list[TailInput]) -> None:
        self._registry.inputs = inputs

    def _set(self, settings: Settings) -> None:
        self._settings = settings
        self.housekeeper.history_s = settings.history_s
        self.housekeeper.hold_deleted_bytes = settings.hold_deleted_bytes

    # -- shipper.inputs.tail.catalog.Listener -------------------------------------------------------------------------

    def new_id(self) -> int:
        return self._registry.new_id()

    def adopt(self, generation: Generation, *, may_skip: bool) -> None:
        self._registry.add(generation)
        seat_first(self._plans, generation)
        if may_skip and self._may_skip:
            self._skip_to_end(generation, generation.cursors)
        if generation.must_commit_first:
            self.journal.hurry()
        self.changed(generation)

    def changed(self, generation: Generation) -> None:
        self.pump.changed(generation)

    def lose(self, generation: Generation, reason: str, *, has_gap: bool) -> None:
        self.losses.lose(generation, reason, has_gap=has_gap)

    def _is_durable(self, generation: Generation) -> None:
        """Its id, or that the following one need not wait for it any more."""
        for each in (generation, generation.following):
            if each is not None:
                self.changed(each)

    def _damaged(self, generation: Generation) -> None:
        self.lose(generation, "damaged", has_gap=False)

    def _skip_to_end(self, generation: Generation, outputs: Iterable[str]) -> None:
        """These are not to have what is there already, where `read_from` says so."""
        if self._settings.read_from.get(generation.source.input) == "end":
            skip_to_end(generation, outputs)

    # -- generations --------------------------------------------------------------------------------------------------

    def find(self, id_: int) -> Generation | None:
        return self._registry.find(id_)

    def generations(self) -> Iterable[Generation]:
        return self._registry

    def restore(self) -> None:
        """What the checkpoint knows, before the first scan. A new output gets cursors wherever a file may still be."""
        now = time.time()
        for row in self._stored.generations.values():
            generation = Generation.from_row(row, "")
            self._registry.add(generation)
            rows = self._stored.cursors.get(row.id, {}).values()
            generation.parked = {cursor.output: restore_cursor(cursor) for cursor in rows}
            place(self._registry, generation, None, now)
            seat(self._plans, generation, now)
            generation.awaits_scan = False  # nothing is read before the first one
            for cursor in generation.parked.values():
                if cursor.parked_at is None:
                    cursor.park(now)
            self._doubt_what_is_repeated(generation)  # also of one whose file is not found any more
            reached = (max(c.position, *(end for _, end in c.ahead), 0) for c in generation.cursors.values())
            generation.read_to = max(reached, default=0)

    def waits_for_metadata(self, generation: Generation) -> bool:
        end, waits = generation.end, self._plans.waits
        return any(c.position < end and waits(generation, name) for name, c in generation.cursors.items())

    def metadata_changed(self, uid: str) -> None:
        """The metadata of a pod is known now, or differs."""
        for generation in self._registry.of_pod(uid):
            self._plans.forget(generation)
            self.pump.changed(generation)

    def tend(self) -> None:
        self.housekeeper.tend(self.metadata)
        self.on_tend()

    def _rewind(self, output: str) -> None:
        """What its worker has left without a fate is to be read again, by whoever works for it next."""
        closed = []
        for generation in self._registry:
            cursor = generation.cursor_of(output)
            if cursor is not None and cursor.segments:
                since = _sent_since(generation, cursor, time.time())
                cursor.rewind(since, is_unheard=output not in self.journal.durables)
                generation.forget_reading(output)
                self.changed(generation)
                if generation.file is None and generation.left_out_at is None:
                    self._registry.input_of(generation).catalog.look(generation)
                    closed.append(generation)
        if closed and self._guard is not None:
            self._guard.start(self.rescan, name="open again what is to be read again")

    def _on_room(self) -> None:
        self.pump.room()

    # -- another configuration ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """While this lasts no file is looked for, nothing is read, and nothing is written into a batch."""
        async with contextlib.AsyncExitStack() as stack:
            for tail in self.inputs:
                await stack.enter_async_context(tail.between_scans())
                await stack.enter_async_context(tail.catalog.measuring.between_parts())
            await stack.enter_async_context(self.pump.between_rounds())
            yield

    async def borders(self, new: Arrangement) -> Mapping[int, int]:
        """Where new outputs begin in each file whose input says `read_from: end`: generation -> offset."""
        read_from = new.settings.read_from if newcomers(self._registry, new.workers) else {}
        late = [g for g in self._registry if read_from.get(g.source.input) == "end"]
        for generation in late:
            generation.is_reading = True
        try:
            return await asyncio.to_thread(lambda: {g.id: last_border(g) for g in late})
        finally:
            for generation in late:
                generation.end_read()

    def exchange(self, new: Arrangement, borders: Mapping[int, int]) -> None:
        """Another configuration from now on; to be called while it is `held`.

        There is nothing between the old and the new. What was read before is delivered as it was to be.
        """
        begun = newcomers(self._registry, new.workers)
        catalogs, now = {tail.name: tail.catalog for tail in self.inputs}, time.time()
        self.pump.begin_anew(self._registry)
        self._set(new.settings)
        self._plans.become(new.plans)
        self._exchange_inputs(new.inputs)
        self._exchange_metadata(new.metadata)
        self.crew.memory_limit = new.settings.memory_limit
        self.crew.exchange(new.workers, new.starts, drain_s=new.settings.drain_timeout_s)
        self.housekeeper.keepers |= {name for name, worker in new.workers.items() if worker.output.durable is not None}
        for generation in self._registry:
            catalog = catalogs[generation.source.input] if generation.left_out_at is None else None
            place(self._registry, generation, catalog, now)
            for name in seat(self._plans, generation, now):
                if name in begun:
                    skip(generation, name, borders.get(generation.id, 0))
            if generation.left_out_at is None and generation.file is None and generation.has_unread():
                generation.awaits_scan = True
                self._registry.input_of(generation).catalog.look(generation)
        for tail in self.inputs:
            if self._guard is not None and not tail.is_started:
                tail.start(self._guard)

    def _exchange_inputs(self, new: Sequence[TailInput]) -> None:
        old = self.inputs
        self.inputs = list(new)
        for tail in old:
            if tail not in self.inputs:
                tail.end()
        for tail in self.inputs:
            if tail not in old and any(tail.catalog is before.catalog for before in old):
                tail.take_over()

    def _exchange_metadata(self, new: MetadataSource | None) -> None:
        if new is self.metadata:
            return
        if self._watch is not None:
            self._watch.cancel()
        self.metadata = new
        self._start_metadata()

    def _start_metadata(self) -> None:
        self._watch = None
        if self.metadata is not None and self._guard is not None:
            self._watch = self._guard.start(self.metadata.run, name="kubernetes", endless=True, restart_s=1)

    async def rescan(self) -> None:
        """Finds what an exchange has left to be found."""
        waiting = [g for g in self._registry if g.awaits_scan]
        for tail in list(self.inputs):
            await tail.rescan()
        for generation in waiting:
            generation.awaits_scan = False
            self.changed(generation)
            if generation.following is not None:
                self.changed(generation.following)

    async def _tend_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            self.tend()

    # -- running ------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, *, once: bool, beside: Callable[[TaskGuard], None] | None = None) -> None:
        """Until `stop` is set (or, with `once`, until all that is there is confirmed); drains; then returns.

        `beside` starts what else is to run while it reads. Raises OnceStalled.
        """
        async with TaskGuard(errors=self.metrics.task_errors) as guard:
            self._guard = guard
            guard.start(self.journal.run, name="journal", endless=True, restart_s=1)
            self.crew.start(guard)
            self._start_metadata()
            try:
                for tail in self.inputs:
                    tail.catalog.is_once = once
                await self._scan(once=once)
                self._skip_for_new_outputs()
                for generation in self._registry:
                    self._doubt_what_is_repeated(generation)
                self._may_skip, self.has_scanned = False, True
                pump = guard.start(self.pump.run, name="pump", endless=True)
                guard.start(self._tend_for_ever, name="tend", endless=True, restart_s=1)
                self.is_reading = True
                if once:
                    await self._until_done(stop)
                else:
                    for tail in self.inputs:
                        tail.start(guard)
                    if beside is not None:
                        beside(guard)
                    await stop.wait()
                self.is_reading = False
                pump.cancel()
                await self._drain()
            finally:
                guard.cancel()

    async def _scan(self, *, once: bool) -> None:
        for tail in self.inputs:
            await tail.rescan()
        for generation in self._registry if once else ():
            if generation.limit is None:
                generation.limit = generation.size

    def _skip_for_new_outputs(self) -> None:
        """Those that no cursor of the state belongs to."""
        known = {name for rows in self._stored.cursors.values() for name in rows}
        for id_ in self._stored.generations:
            if (generation := self._registry.find(id_)) is not None:
                self._skip_to_end(generation, generation.cursors.keys() - known)

    def _doubt_what_is_repeated(self, generation: Generation) -> None:
        """An earlier process may have sent what is on disk already, behind the last commit of its cursors (if any).

        Where that process was killed, it may have been delivered, too; but what a `Durable` output has beyond its
        cursors is cut off at the start, unless the cursors have forgotten it.
        """
        if self._committed_at is None:
            return
        end = _known_end(generation)
        for cursor in generation.all_cursors():
            is_cut_back = cursor.output in self.journal.durables and not self._checkpoint.is_mended
            is_unheard = not self._was_idle and not is_cut_back
            cursor.expect(end, _sent_since(generation, cursor, self._committed_at), is_unheard=is_unheard)

    async def _is_all_done(self) -> bool:
        """Where more files wait than may be open, the next ones are opened when those that are open are done."""
        is_left = False
        for generation in reversed(self._registry):  # what was found last is mostly read last
            if not generation.is_done():
                if generation.file is not None:
                    return False  # thousands more need not be asked
                is_left = True
        if is_left:
            await self._scan(once=True)
        return all(g.file is None or g.is_done() for g in self._registry)

    async def _until_done(self, stop: asyncio.Event) -> None:
        acked = {w.name: w.last_ack for w in self.workers.values()}
        since = time.monotonic()
        while not stop.is_set():
            if await self._is_all_done():
                return
            now_acked = {w.name: w.last_ack for w in self.workers.values()}
            if now_acked != acked:
                acked, since = now_acked, time.monotonic()
            if time.monotonic() - since > ONCE_PATIENCE_S:
                errors = {w.name: w.last_error for w in self.workers.values() if w.last_error}
                raise OnceStalled(
                    f"no output has confirmed anything for {ONCE_PATIENCE_S:.0f} s; last errors: {errors}"
                )
            for worker in self.workers.values():
                if not self.pump.waiting():
                    worker.seal()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stop.wait()

    async def _drain(self) -> None:
        """Delivers what is in flight and uploads what is spooled, as far as the time allows; then saves."""
        failures: list[Exception] = []
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                failures = await self.crew.drain()
        except TimeoutError:
            left = {w.name: w.used_bytes for w in self.crew.everybody() if w.used_bytes}
            log.warning(
                "the time to drain is over; what is not delivered is read again at the next start",
                extra=fields(in_flight_bytes=left),
            )
        if not await self.journal.commit():
            raise StateError(f"the last checkpoint could not be written: {self.journal.last_error}")
        for failure in failures:
            raise failure
        if not any(w.used_bytes for w in self.crew.everybody()):
            self._checkpoint.note_idle()


def _sent_since(generation: Generation, cursor: Cursor, latest: float) -> float:
    """No record behind a cursor was sent before the last one in front of it was written, nor before its file was seen;
    `latest`: nor later than this, whatever the node's clock said.
    """
    written = time_ns(cursor.acked_state.last_time or generation.first_seen) / 1e9
    return min(written or latest, latest)


def _known_end(generation: Generation) -> int:
    """How much of it there is; no end where that is not known (yet): it was not found, or is still measured."""
    is_measured = generation.seen is not None and not generation.is_gzip
    return generation.size if is_measured or generation.is_final else sys.maxsize
