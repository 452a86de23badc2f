"""An output that works for a command: with the shared worker, and without a pipeline."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from shipper.errors import ShipperError
from shipper.metrics import Metrics
from shipper.outputs.base import Output
from shipper.outputs.config import OutputConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.fates import Letter
from shipper.outputs.worker import OutputWorker, Retry
from shipper.parts import make_pace
from shipper.tasks import TaskGuard

PATIENCE_S = 60.0  # when nothing is answered for so long, the command gives up; the daemon never would


class NothingTaken(ShipperError):
    """The destination is down, or takes nothing for now."""


class Sender:
    """Documents are appended to `worker.body` and added to `worker`; what became of them, their spans hear.

    Raises ShipperError for an output that keeps rows of its own beside the cursors.
    """

    def __init__(self, config: OutputConfig, output: Output, *, state_dir: str, patience_s: float = PATIENCE_S) -> None:
        if output.durable is not None:
            raise ShipperError(
                f"output {output.name} writes on this node, which only the daemon may do: no replay there"
            )
        self.output = output
        self.patience_s = patience_s
        self.metrics = Metrics()
        self._state_dir = state_dir
        self._room = asyncio.Event()
        self.worker = OutputWorker(
            output,
            limit_bytes=(output.concurrency + 1) * output.max_batch_bytes,
            retry=Retry(config.retry.initial, config.retry.max),
            metrics=self.metrics,
            letters=_KeptElsewhere(),
            on_room=self._room.set,
            max_targets=config.batch.max_targets if isinstance(config, ElasticsearchConfig) else None,
            pace=make_pace(config) if isinstance(config, ElasticsearchConfig) else None,
        )

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Self]:
        """What its block raises, a ShipperError, is raised as it is: not in a group, as the tasks' failures are."""
        await self.output.start(_Host(self._state_dir, self.metrics))
        failure: ShipperError | None = None
        try:
            async with TaskGuard() as guard:
                for number in range(self.output.concurrency):
                    guard.start(self.worker.run_sender, name=f"send {self.output.name} {number}", endless=True)
                try:
                    yield self
                except ShipperError as exc:
                    failure = exc
                finally:
                    guard.cancel()
        finally:
            await self.output.close()
        if failure is not None:
            raise failure

    async def has_room(self) -> bool:
        """Returns when more may be added; False when that has taken too long."""
        while self.worker.room_bytes <= 0:
            self._room.clear()
            if not await self._hears(self._room):
                return False
        return True

    async def is_answered(self) -> bool:
        """Sends what was added; returns when all of it has its fate, or False when that has taken too long."""
        self.worker.seal()
        while self.worker.used_bytes:
            self._room.clear()
            if self.worker.used_bytes and not await self._hears(self._room):
                return False
        return True

    async def _hears(self, event: asyncio.Event) -> bool:
        """Until an answer came; False when none has for too long."""
        try:
            async with asyncio.timeout(self.patience_s):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def silence(self) -> str:
        """Why it gave up, for a person."""
        return (
            f"output {self.output.name} has not taken everything within {self.patience_s:g} s "
            f"({self.worker.last_error})"
        )


class _KeptElsewhere:
    """What is refused stays where it was replayed from."""

    async def keep(self, letters: list[Letter]) -> Callable[[], None]:  # noqa: ARG002
        return lambda: None


@dataclass(frozen=True, slots=True)
class _Host:
    """shipper.outputs.base.Host, for outputs that refuse records: these keep no rows and no spool."""

    state_dir: str
    metrics: Metrics
    node: str = ""

    def rows(self, output: str) -> Mapping[str, bytes]:  # noqa: ARG002
        return {}

    def uploaded(self, output: str, generations: Mapping[int, int], records: int) -> None:
        raise NotImplementedError(f"{output} spools")

    def lost(self, output: str, generations: Mapping[int, int], records: int, reason: str) -> None:
        raise NotImplementedError(f"{output} spools")

    async def committed(self) -> None:
        raise NotImplementedError("there is no checkpoint here")
