"""The contract of an output: what it promises, and what the worker promises it."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from shipper.delivery import Batch, Delivery
from shipper.metrics import Metrics
from shipper.template import Template


class Finding(msgspec.Struct, frozen=True):
    """One line of `shipper check --online`: what was tried, whether it works, and how to mend it."""

    ok: bool
    what: str
    mend: str = ""


class Durable(Protocol):
    """State of an output that must be committed in the same transaction as the cursors (a spool's length, say).

    `changes` and the cursors are collected in one synchronous step on the event loop; `sync` then runs in the commit's
    thread *before* the transaction, and returns when all that these changes promise is on disk (fsync: file and
    directory). Where it raises, nothing is committed.
    """

    def changes(self) -> Mapping[str, bytes | None]:
        """Rows changed since the last call: key -> value, None to delete."""

    def sync(self) -> None: ...


class Host(Protocol):
    """What the pipeline offers an output at `start`."""

    @property
    def state_dir(self) -> str: ...

    @property
    def node(self) -> str:
        """Name of this node, or of the machine."""

    @property
    def metrics(self) -> Metrics:
        """Outputs count their requests (`output_requests`) themselves; the worker counts records, bytes and retries."""

    def rows(self, output: str) -> Mapping[str, bytes]:
        """The committed rows of its `Durable`."""

    def uploaded(self, output: str, generations: Mapping[int, int], records: int) -> None:
        """Spooled bytes that are now at the destination: generation -> source bytes. Committed with `changes`."""

    def lost(self, output: str, generations: Mapping[int, int], records: int, reason: str) -> None:
        """Spooled bytes that this node's disk has lost: generation -> source bytes. Committed with `changes`."""

    def committed(self) -> Any:
        """Awaitable: returns when everything that `changes` says now is durable.

        Works while `send` and `drain` run: outputs wait for it in both. A commit that failed keeps its changes for
        the next one.
        """


class Output(Protocol):
    """Delivers batches to one destination.

    Up to `concurrency` calls of `send` run at once; each returns when the fate of every record is known. `send` never
    retries and never sleeps on purpose: that is the worker's job. It raises `Disconnected` when no usable answer came;
    any other exception is a bug, which the worker counts, logs and retries like a disconnection. `send` may be
    cancelled (drain).
    Batches of one container are sent in order when `concurrency` is 1.
    """

    name: str
    kind: str  # its type in the YAML
    template: Template  # of the target
    lines_per_record: int
    concurrency: int
    max_batch_bytes: int
    max_batch_age_s: float
    durable: Durable | None

    @property
    def target_style(self) -> Literal["index", "key", "path"]:
        """How values are confined in the template."""

    def frame(self, target: str) -> tuple[bytes | None, bytes]:
        r"""What stands before each document: (bytes before the id or None for documents without, bytes after it).

        `(b'{"create":{"_id":"', b'"}}\n{')`, or `(None, b'{')`. What follows is the document's first member.
        """

    async def start(self, host: Host) -> None:
        """Opens what is local. Never fails, and never waits, because a destination is down."""

    async def send(self, batch: Batch) -> Delivery:
        """The rows of a `Durable` change in the step in which this returns: whoever awaits it must move the cursors in
        the same step (await it directly, not through a task), or a commit between the two would tell of only one.
        """

    async def drain(self) -> None:
        """Finishes what is kept back (uploads open objects). May be cancelled at any time; nothing is lost then."""

    async def close(self) -> None: ...

    async def check(self) -> list[Finding]:
        """For `shipper check --online`; called without `start`."""

    def status(self) -> dict[str, Any]:
        """Its own part of the status API: plain values, no secrets."""
