"""Who works for which output: from a worker's start to its end, and who succeeds whom.

A reload may exchange an output for another one of the same name. The two share cursors, spool and files, so they follow
each other: the new one begins when the old one has finished what it was given, or was cut off in it, and all that it
did is committed. Until then the new one has no room: nothing is read for it, and all others go on.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

from shipper.errors import ShipperError
from shipper.log import fields
from shipper.outputs.base import Output
from shipper.outputs.worker import OutputWorker
from shipper.pipeline.journal import Journal
from shipper.tasks import TaskGuard

log = logging.getLogger(__name__)

EXCHANGE_S = 5.0  # so long an output's successor waits for what is in flight; what is cut off is read again
START_AGAIN_S = 5.0

Start = Callable[[], Awaitable[None]]


def share_of(memory_limit: int, heads: int, output: Output) -> int:
    """Bytes that an output may hold, of so many that share: what it sends, and one batch that is being filled.

    More would only grow old in memory: the log file is the buffer.
    """
    return min(memory_limit // heads, (output.concurrency + 1) * output.max_batch_bytes)


async def drain(worker: OutputWorker) -> None:
    """Delivers all that it was given, and uploads what it keeps back."""
    worker.seal()
    worker.hurry()
    await worker.idle()
    await worker.output.drain()


class Crew:
    """`workers` are those for whom is read, by output, in the configuration's order; the same object for good."""

    def __init__(
        self,
        workers: Mapping[str, OutputWorker],
        journal: Journal,
        *,
        rewind: Callable[[str], None],
        on_room: Callable[[], None],
    ) -> None:
        """`rewind`: what an output was given but did not confirm is to be read again."""
        self.workers = dict(workers)
        self.leaving: list[Tenure] = []
        self._left_rejected = 0  # dead letters of those who have left
        self.on_left: Callable[[], None] = lambda: None  # somebody has gone for good
        self.memory_limit: int | None = None  # shared by all; None: each keeps the limit that it came with
        self.journal, self.rewind, self._on_room = journal, rewind, on_room
        self._guard: TaskGuard | None = None
        self._tenures = {name: Tenure(worker, self) for name, worker in workers.items()}

    def __repr__(self) -> str:
        return f"<Crew: {', '.join(self.workers)}; {len(self.leaving)} leave>"

    def everybody(self) -> Iterator[OutputWorker]:
        """Those that leave included."""
        yield from self.workers.values()
        yield from (tenure.worker for tenure in self.leaving)

    def has(self, name: str) -> bool:
        return any(worker.name == name for worker in self.everybody())

    def rejected_records(self) -> int:
        """By all who ever worked here."""
        return self._left_rejected + sum(worker.rejected_records for worker in self.everybody())

    def open_outputs(self) -> list[Output]:
        """Those that nobody has closed."""
        tenures = [*self._tenures.values(), *self.leaving]
        return [tenure.worker.output for tenure in tenures if not tenure.is_closed]

    def at_work(self) -> list[OutputWorker]:
        """Without those that leave, or have not begun."""
        return [tenure.worker for tenure in self._tenures.values() if tenure.is_open]

    def start(self, guard: TaskGuard) -> None:
        """A sender that fails itself ends the daemon: a restart reads again what it had."""
        self._guard = guard
        for tenure in self._tenures.values():
            guard.start(tenure.run, name=f"output {tenure.name}")

    def exchange(self, workers: Mapping[str, OutputWorker], starts: Mapping[str, Start], *, drain_s: float) -> None:
        """These from now on. Those that are not among them leave; `starts`: what new ones have to do before all else.

        To be called between two rounds of the pump, since open batches are sealed.
        """
        assert self._guard is not None, "it runs"
        for name, tenure in list(self._tenures.items()):
            if workers.get(name) is not tenure.worker:
                del self._tenures[name]
                self.leaving.append(tenure)
                tenure.leave(min(drain_s, EXCHANGE_S) if name in workers else drain_s)
        for name, worker in workers.items():
            if name not in self._tenures:
                before = next((t for t in reversed(self.leaving) if t.name == name), None)
                tenure = self._tenures[name] = Tenure(worker, self, start=starts.get(name), before=before)
                self._guard.start(tenure.run, name=f"output {name}")
        self.workers.clear()
        self.workers.update(workers)
        self.share()

    def share(self) -> None:
        """Those that leave hold memory too, until they have gone."""
        heads = len(self._tenures) + len(self.leaving)
        for tenure in self._tenures.values():
            if self.memory_limit is not None:
                tenure.limit_bytes = share_of(self.memory_limit, heads, tenure.worker.output)
            tenure.worker.limit_bytes = tenure.limit_bytes if tenure.is_open else 0
        self._on_room()

    def has_left(self, tenure: "Tenure") -> None:
        self.leaving.remove(tenure)
        self._left_rejected += tenure.worker.rejected_records
        self.share()
        self.on_left()

    async def drain(self) -> list[Exception]:
        """At the daemon's end: each by itself, so that one whose destination is down keeps no other from its uploads.

        -> what failed. May be cancelled at any time.
        """
        everybody = [*map(drain, self.at_work()), *(tenure.gone.wait() for tenure in self.leaving)]
        ends = await asyncio.gather(*everybody, return_exceptions=True)
        return [end for end in ends if isinstance(end, Exception)]


class Tenure:
    """One worker's time under its output's name."""

    def __init__(
        self, worker: OutputWorker, crew: Crew, *, start: Start | None = None, before: "Tenure | None" = None
    ) -> None:
        """`before`: who has the name until it has `gone`. `start`: None where the output is started already."""
        self.worker, self.name = worker, worker.name
        self.limit_bytes = worker.limit_bytes
        self.is_open = start is None and before is None
        self.is_closed = False  # its output
        self.gone = asyncio.Event()
        self._crew, self._start, self._before = crew, start, before
        self._told = asyncio.Event()  # to leave
        self._within_s = 0.0

    def __repr__(self) -> str:
        return f"<Tenure of {self.worker}>"

    def leave(self, within_s: float) -> None:
        """What it was given it may finish within this time."""
        self.worker.seal()
        self._within_s = within_s
        self._told.set()

    async def run(self) -> None:
        """Until it was told to leave, and has done so."""
        try:
            if self._before is not None:
                await self._before.gone.wait()
                self._before = None
            if await self._begin():
                await self._work()
            await self._end()
        finally:
            self.gone.set()

    async def _begin(self) -> bool:
        """-> whether there is anything to do: it may have been told to leave before it was its turn."""
        while self._start is not None and not self._told.is_set():
            try:
                await self._start()
                self._start = None
            except (ShipperError, OSError) as exc:
                self._say_that_it_waits(exc)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(START_AGAIN_S):
                        await self._told.wait()
        self.is_open = not self._told.is_set()
        if self.is_open:
            self._crew.share()
        return self.is_open or self.worker.used_bytes > 0

    def _say_that_it_waits(self, exc: Exception) -> None:
        self.worker.last_error, self.worker.last_error_at = str(exc), time.time()
        log.error(
            "an output of the new configuration cannot be started; it is tried again, and nothing is lost meanwhile",
            extra=fields(output=self.name, error=str(exc)),
        )

    async def _work(self) -> None:
        async with TaskGuard() as senders:
            for number in range(self.worker.output.concurrency):
                senders.start(self.worker.run_sender, name=f"send {self.name} {number}", endless=True)
            await self._told.wait()
            await self._finish()
            senders.cancel()

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                await drain(self.worker)
        except TimeoutError:
            log.warning(
                "an output that a reload has exchanged or removed could not deliver all; its cursors stay behind it",
                extra=fields(output=self.name, in_flight_bytes=self.worker.used_bytes),
            )
        except (ShipperError, OSError) as exc:
            about = fields(output=self.name, error=str(exc))
            log.warning("an output that a reload has exchanged or removed could not finish", extra=about)

    async def _end(self) -> None:
        """Nobody works for it any more. When all that it did is durable, its successor may begin."""
        output, journal = self.worker.output, self._crew.journal
        self.is_closed = True
        await output.close()
        self._crew.rewind(self.name)
        await journal.committed()
        if output.durable is not None and journal.durables.get(self.name) is output.durable:
            del journal.durables[self.name]
        self._crew.has_left(self)
