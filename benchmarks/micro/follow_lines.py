"""A line at the end of each of 500 files, from the event that tells of it to its answer; no request, no commit."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from benchmarks.micro.stage import options, say
from shipper.delivery import DELIVERED, Batch, Delivery
from shipper.inputs.tail.config import TailConfig
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.inotify import Inotify
from shipper.inputs.tail.input import TailInput
from shipper.ledger import Cursor
from shipper.metrics import Metrics
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.fates import Letter
from shipper.outputs.worker import OutputWorker, Retry
from shipper.pipeline.lanes import Lanes
from shipper.pipeline.plans import Plans
from shipper.pipeline.pump import Pump
from shipper.pipeline.sweep import Sweep
from shipper.router import Route, Router
from shipper.template import Template

FILES = 500
LINE = (
    b'2026-11-21T10:00:00.123456789Z stdout F {"level":30,"time":1795255200123,"msg":"request completed","id":4711}\n'
)


class Taker:
    """An output that takes everything at once."""

    name, kind = "es", "taker"
    lines_per_record, concurrency, max_batch_bytes, max_batch_age_s = 2, 1, 5 << 20, 0.1
    durable: Durable | None = None
    target_style: Literal["index"] = "index"

    def __init__(self) -> None:
        self.template = Template.parse("logs")

    def frame(self, target: str) -> tuple[bytes | None, bytes]:  # noqa: ARG002
        return b'{"create":{"_id":"', b'"}}\n{'

    async def start(self, host: Host) -> None: ...

    async def send(self, batch: Batch) -> Delivery:  # noqa: ARG002
        return DELIVERED

    async def drain(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> list[Finding]:
        return []

    def status(self) -> dict[str, Any]:
        return {}


class Letters:
    async def keep(self, letters: list[Letter]) -> Callable[[], None]:  # noqa: ARG002
        raise AssertionError("nothing is rejected")


class Listener:
    """As the pipeline does it."""

    def __init__(self, pump: Pump) -> None:
        self.pump, self.generations = pump, list[Generation]()

    def new_id(self) -> int:
        return len(self.generations) + 1

    def adopt(self, generation: Generation, *, may_skip: bool) -> None:  # noqa: ARG002
        state = generation.start_state()
        generation.cursors["es"] = Cursor(generation.id, "es", state=state)
        self.generations.append(generation)
        self.changed(generation)

    def changed(self, generation: Generation) -> None:
        self.pump.changed(generation)

    def lose(self, generation: Generation, reason: str, *, has_gap: bool) -> None: ...


async def measure(folder: Path, limit_s: float) -> float:
    """-> CPU-seconds a line, at best."""
    paths = [folder / f"ns_pod-{i}_u{i}" / "app" / "0.log" for i in range(FILES)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(LINE)
    metrics, output = Metrics(), Taker()
    router = Router([], [Route("es", ("*",), output.template)], node="node-1")
    plans = Plans(router, [output], None, wait_s=0.0, static={}, limits={"pods": 1 << 20})
    worker = OutputWorker(
        output, limit_bytes=1 << 24, retry=Retry(), metrics=metrics, letters=Letters(), on_room=lambda: None
    )
    workers = {"es": worker}
    pump = Pump(
        plans, Lanes(plans, workers, metrics), Sweep(plans, workers, metrics), workers, on_damage=lambda _: None
    )
    listener = Listener(pump)
    tail = TailInput(TailConfig(name="pods", path=(f"{folder}/*/*/*.log",)), listener, metrics)
    await tail.rescan()
    watch = Inotify(str(folder), recursive=True)
    tasks = [asyncio.ensure_future(pump.run()), asyncio.ensure_future(worker.run_sender())]  # noqa: TID251
    await arrived(listener, 1)
    best, written, until = float("inf"), 1, time.perf_counter() + limit_s
    while time.perf_counter() < until or best == float("inf"):
        for path in paths:
            with path.open("ab") as file:
                file.write(LINE)
        written += 1
        began = time.process_time()
        await tail.handle(watch.read(), since=0)
        while any(g.cursors["es"].position < g.size for g in listener.generations[-1:]):
            await asyncio.sleep(0)
        worker.seal()
        await worker.idle()
        best = min(best, time.process_time() - began)
        await arrived(listener, written)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    watch.close()
    return best / FILES


async def arrived(listener: Listener, lines: int) -> None:
    while not all(g.cursors["es"].position == lines * len(LINE) for g in listener.generations):
        await asyncio.sleep(0.001)


def main() -> None:
    limit_s = options(__doc__)
    with tempfile.TemporaryDirectory(prefix="micro-") as folder:
        say("a line, from its event to its answer", asyncio.run(measure(Path(folder), limit_s)), 1, "line")


if __name__ == "__main__":
    main()
