"""Documents on standard output, one a line. At least once: a pipe does not say what was read of it."""

import errno
import logging
import os
import select
import signal
import threading
from typing import Annotated, Any, ClassVar, Literal

from shipper.body import view_of
from shipper.delivery import DELIVERED, Batch, Delivery
from shipper.errors import Disconnected
from shipper.log import fields
from shipper.outputs.appended_files import FileThread
from shipper.outputs.base import Durable, Finding, Host
from shipper.outputs.config import NAME, OutputConfig
from shipper.template import Template
from shipper.values import Name

log = logging.getLogger(__name__)

PIECE_BYTES = 4096  # a pipe that is ready takes so much without blocking (PIPE_BUF, pipe(7))
POLL_MS = 100


class StdoutConfig(OutputConfig, frozen=True, kw_only=True):
    """Documents on standard output, one a line: to look at, and for pipes."""

    kind: ClassVar[str] = "stdout"
    name: Annotated[Name, NAME] = "stdout"


class StdoutOutput:
    """Writes in a thread, and only what the reader takes at once: a reader that has stopped holds up nothing else."""

    kind = "stdout"
    target_style: Literal["index", "key", "path"] = "path"
    lines_per_record = 1
    concurrency = 1

    def __init__(self, config: StdoutConfig, *, descriptor: int = 1) -> None:
        self.name = config.name
        self.template = Template.parse("stdout")
        self.max_batch_bytes = config.batch.max_bytes
        self.max_batch_age_s = config.batch.max_age
        self.durable: Durable | None = None
        self._descriptor = descriptor
        self._thread = FileThread(config.name)
        self._stop = threading.Event()
        self._is_reader_gone = False

    def __repr__(self) -> str:
        return f"<StdoutOutput {self.name}>"

    def frame(self, target: str) -> tuple[bytes | None, bytes]:  # noqa: ARG002  there is one target only
        return None, b"{"

    async def start(self, host: Host) -> None:
        """Nothing to open."""

    async def send(self, batch: Batch) -> Delivery:
        """When the reader has gone (`shipper run ... | head`), the daemon is asked to stop, as SIGTERM does."""
        try:
            await self._thread.run(self._write, bytes(view_of(batch.body)))
        except BrokenPipeError as exc:
            self._end_politely()
            raise Disconnected("nobody reads standard output any more", reason="closed") from exc
        except OSError as exc:
            raise Disconnected(f"cannot write to standard output: {exc.strerror}", reason="disk") from exc
        return DELIVERED

    async def drain(self) -> None:
        """Nothing is kept back."""

    async def close(self) -> None:
        self._stop.set()
        await self._thread.close()

    async def check(self) -> list[Finding]:
        return [Finding(ok=True, what=f"{self.name}: standard output needs nothing")]

    def status(self) -> dict[str, Any]:
        return {"reader_gone": self._is_reader_gone}

    def _write(self, data: bytes) -> None:
        """In the thread. A blocking write could not be given up, and would keep the process from ending."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        view = memoryview(data)
        while view:
            if self._stop.is_set():
                raise InterruptedError(errno.EINTR, "the output was closed")
            if poll.poll(POLL_MS):
                view = view[os.write(self._descriptor, view[:PIECE_BYTES]) :]

    def _end_politely(self) -> None:
        if not self._is_reader_gone:
            self._is_reader_gone = True
            log.warning("nobody reads standard output any more: stopping", extra=fields(output=self.name))
            signal.raise_signal(signal.SIGTERM)
