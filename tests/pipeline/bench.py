"""Everything between a log file and the outputs' answers: files are in memory, outputs answer as they are told."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shipper.body import view_of
from shipper.delivery import DELIVERED, Batch, Delivery
from shipper.filters.base import MetadataSource
from shipper.filters.config import FilterConfig
from shipper.inputs.tail.generation import Generation, cursor_row, restore_cursor
from shipper.ledger import Cursor
from shipper.metrics import Metrics
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.fates import Letter
from shipper.outputs.worker import OutputWorker, Retry
from shipper.parsers import Format
from shipper.pipeline.jobs import Job, read_all
from shipper.pipeline.lanes import Lanes
from shipper.pipeline.plans import Plans
from shipper.pipeline.pump import Pump
from shipper.pipeline.sweep import Sweep
from shipper.record import Source
from shipper.router import Route, Router
from shipper.template import Template
from tests.fakes import clock

TICKS = 20
TAG = "kube.shop.cart.app"
POD = Source("pods", "/var/log/pods/shop_cart_u/app/0.log", "shop", "cart", "u", "app", 0)
FILE = Source("pods", "/var/log/app.log")
BULK: tuple[bytes | None, bytes] = (b'{"create":{"_id":"', b'"}}\n{')
ARCHIVE: tuple[bytes | None, bytes] = (b'{"_id":"', b'",')
PLAIN: tuple[bytes | None, bytes] = (None, b"{")


def line(number: int, text: str = "hello", *, tag: str = "F", stream: str = "stdout", time: str = "") -> bytes:
    time = time or f"2026-11-21T10:00:00.{number:09d}Z"
    return f"{time} {stream} {tag} {text}\n".encode()


def lines(count: int, *, length: int = 100) -> bytes:
    """So many records, each of `length` bytes in the file."""
    empty = len(line(0, ""))
    return b"".join(line(i, f"{i:0{length - empty}d}") for i in range(count))


class MemoryFile:
    """An OpenFile that counts its reads."""

    device, inode = 1, 1
    measurement = None

    def __init__(self, data: bytes = b"", *, is_gzip: bool = False) -> None:
        self.data, self.is_gzip = data, is_gzip
        self.reads: list[tuple[int, int]] = []
        self.errors: list[OSError] = []
        self.is_closed = False
        self.parts = 0  # of the way to where it is read, still to go

    def size(self) -> int:
        return len(self.data)

    def links(self) -> int:
        return 1

    def read(self, offset: int, length: int) -> bytes:
        assert not self.is_closed
        if self.errors:
            raise self.errors.pop()
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def prepare(self, offset: int, length: int) -> bool:
        self.parts -= 1
        return self.parts < 0

    def release(self, offset: int, upto: int) -> None: ...

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeOutput:
    """Takes everything, but for what `answers` say first."""

    name: str = "es"
    form: tuple[bytes | None, bytes] = BULK
    target: str = "logs"
    match: tuple[str, ...] = ("*",)
    limit_bytes: int = 1 << 24
    answers: list[Callable[[Batch], Delivery]] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)  # target and document
    kind: str = "fake"
    concurrency: int = 1
    max_batch_bytes: int = 1 << 30
    max_batch_age_s: float = 1e9
    durable: Durable | None = None
    target_style: Literal["index", "key", "path"] = "index"
    drained: int = 0
    drain_error: Exception | None = None
    gate: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.template = Template.parse(self.target)
        self.lines_per_record = self.form[1].count(b"\n") + 1

    def frame(self, target: str) -> tuple[bytes | None, bytes]:
        return self.form

    async def start(self, host: Host) -> None: ...

    async def send(self, batch: Batch) -> Delivery:
        if self.gate is not None:
            await self.gate.wait()
        delivery = self.answers.pop(0)(batch) if self.answers else DELIVERED
        documents = batch.documents()
        assert b"".join(documents) == bytes(view_of(batch.body))
        targets = [piece.target for piece in batch.pieces for _ in range(piece.records)]
        refused = {r.index for r in delivery.rejected}
        done = [i for i in range(batch.records) if i not in refused and i not in delivery.retry]
        self.sent += [(targets[i], documents[i]) for i in done]
        return delivery

    async def drain(self) -> None:
        self.drained += 1
        if self.drain_error is not None:
            raise self.drain_error

    async def close(self) -> None: ...

    async def check(self) -> list[Finding]:
        return []

    def status(self) -> dict[str, Any]:
        return {}

    @property
    def documents(self) -> list[bytes]:
        return [document for _, document in self.sent]


class FakeLetters:
    def __init__(self) -> None:
        self.kept: list[Letter] = []

    async def keep(self, letters: list[Letter]) -> Callable[[], None]:
        self.kept += letters
        return lambda: None


class Bench:
    """Use it within `clock.run`: its time is the scenario's."""

    def __init__(
        self,
        *outputs: FakeOutput,
        filters: Sequence[FilterConfig] = (),
        metadata: MetadataSource | None = None,
        wait_s: float = 0.0,
        limit: int = 1 << 20,
        static: Mapping[str, Any] | None = None,
    ) -> None:
        self.outputs = {output.name: output for output in outputs or (FakeOutput(),)}
        self.metrics, self.letters = Metrics(), FakeLetters()
        routes = [Route(o.name, o.match, o.template) for o in self.outputs.values()]
        self.router = Router(filters, routes, node="node-1")
        self.plans = Plans(
            self.router,
            list(self.outputs.values()),
            metadata,
            wait_s=wait_s,
            static=static or {},
            limits={"pods": limit},
        )
        self.workers = {name: self._worker(output) for name, output in self.outputs.items()}
        self.lanes = Lanes(self.plans, self.workers, self.metrics)
        self.damaged: list[Generation] = []
        self.pump = self.new_pump()
        self.generations: list[Generation] = []
        self.jobs: list[Job] = []

    def _worker(self, output: FakeOutput) -> OutputWorker:
        return OutputWorker(
            output,
            limit_bytes=output.limit_bytes,
            retry=Retry(),
            metrics=self.metrics,
            letters=self.letters,
            on_room=self._room,
        )

    def new_pump(self) -> Pump:
        sweep = Sweep(self.plans, self.workers, self.metrics)
        return Pump(self.plans, self.lanes, sweep, self.workers, on_damage=self._damaged, clock=clock.now)

    def _room(self) -> None:
        self.pump.room()

    def _damaged(self, generation: Generation) -> None:
        self.damaged.append(generation)
        for cursor in generation.cursors.values():
            cursor.give_up(generation.size, "damaged")

    # -- files --------------------------------------------------------------------------------------------------------

    def open(
        self,
        data: bytes = b"",
        *,
        source: Source = POD,
        framing: Format | None = "cri",
        is_final: bool = False,
        is_gzip: bool = False,
        before: Generation | None = None,
    ) -> Generation:
        number = len(self.generations) + 1
        generation = Generation(
            number,
            source,
            source.path,
            TAG,
            is_gzip=is_gzip,
            id_base=f"b{number}",
            format=framing,
            first_seen=b"2026-01-01T00:00:00Z",
            size=len(data),
            is_final=is_final,
            file=MemoryFile(data, is_gzip=is_gzip),
            previous=before,
            seen_at=clock.now(),
        )
        if before is not None:
            before.following = generation
        for name in self.plans.may_ever_take(generation):
            state = generation.start_state()
            generation.cursors[name] = Cursor(number, name, state=state)
        self.generations.append(generation)
        self.pump.changed(generation)
        return generation

    def write(self, generation: Generation, data: bytes) -> None:
        file_of(generation).data += data
        generation.size += len(data)
        self.pump.changed(generation)

    def commit(self) -> None:
        """As the journal does it."""
        for generation in self.generations:
            if generation.committed(generation.to_row()):
                self.pump.changed(generation)
                if generation.following is not None:
                    self.pump.changed(generation.following)

    def restart(self) -> None:
        """Only what is acked is known after it."""
        for generation in self.generations:
            generation.forget_readings()
            generation.seam_tried, generation.is_split = (-1, -1), False
            generation.seam_ends = generation.seam_is_over
            generation.seen_at = clock.now()
            for name, cursor in generation.cursors.items():
                generation.cursors[name] = restore_cursor(cursor_row(cursor))
        self.workers.update({name: self._worker(output) for name, output in self.outputs.items()})
        self.pump = self.new_pump()
        for generation in self.generations:
            self.pump.changed(generation)

    def exchange(self, output: str) -> None:
        """As a reload does: another worker, for whom is read again what the one before has left without a fate."""
        self.workers[output] = self._worker(self.outputs[output])
        self.pump.begin_anew(self.generations)
        for generation in self.generations:
            generation.park(output, 1.0)
            generation.parked[output].rewind(0.0, is_unheard=True)
            generation.unpark(output)
            generation.forget_seam()

    # -- steps --------------------------------------------------------------------------------------------------------

    def round(self) -> list[Job]:
        """One round of reads, without threads."""
        jobs = self.pump.choose()
        read_all(jobs)
        for job in jobs:
            self.pump.process(job)
        self.jobs += jobs
        return jobs

    def rounds(self, *, most: int = 1000) -> list[Job]:
        """Until nothing can be read. Fails where it never stops."""
        found: list[Job] = []
        for _ in range(most):
            if not self.pump.waiting():
                return found
            found += self.round()
        raise AssertionError("it reads and reads")

    async def deliver(self, *names: str) -> None:
        """Answers all that was read for these outputs (all of them where none is named)."""
        for name in names or tuple(self.workers):
            worker = self.workers[name]
            worker.seal()
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(worker.run_sender())
                await worker.idle()
                sender.cancel()

    async def finish(self) -> None:
        self.rounds()
        await self.deliver()
        self.rounds()

    async def pass_time(self, seconds: float) -> None:
        """Whatever can be read meanwhile is read."""
        for _ in range(TICKS):
            self.rounds()
            self.commit()
            await asyncio.sleep(seconds / TICKS)  # of the scenario's clock
        self.rounds()

    def check(self) -> None:
        """Every byte of every file has exactly one fate, for each output."""
        for generation in self.generations:
            for cursor in generation.cursors.values():
                cursor.check()
                assert not cursor.segments
                assert (cursor.acked, cursor.acked_ahead) == (generation.size, ()), cursor

    def positions(self, generation: Generation) -> dict[str, int]:
        return {name: cursor.position for name, cursor in generation.cursors.items()}

    def records(self) -> float:
        """What the metrics say of first reads."""
        return float(self.metrics.input_records.labels("pods")._value.get())


def file_of(generation: Generation) -> MemoryFile:
    assert isinstance(generation.file, MemoryFile)
    return generation.file


def fates(generations: Iterable[Generation], output: str) -> Counter[str]:
    found = Counter[str]()
    for generation in generations:
        found.update(generation.cursors[output].fates)
    return found


def messages(output: FakeOutput) -> list[str]:
    """In the order of their delivery."""
    return [document.rsplit(b'"message":"', 1)[1].split(b'"')[0].decode() for document in output.documents]
