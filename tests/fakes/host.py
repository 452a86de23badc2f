"""A pipeline small enough to be looked through: commits rows and cursors in one step, and can crash between any two."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shipper.delivery import Batch, Delivery, Piece
from shipper.metrics import Metrics
from shipper.outputs.base import Output
from shipper.outputs.s3.manifest import ROW_PREFIX
from shipper.record import Ranges, Source

SOURCE = Source(
    input="pods", path="/var/log/pods/shop_cart_u1/app/0.log", namespace="shop", pod="cart", container="app"
)


@dataclass(frozen=True)
class FakeSpan:
    generation: int
    extent: tuple[int, int] = (0, 1)

    def shares(self, source_bytes: int) -> Mapping[int, int]:
        return {self.generation: source_bytes}

    def ranges(self) -> Mapping[int, Ranges]:
        return {self.generation: (self.extent,)}

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = "delivered") -> None:
        """Nothing is kept: the state's sums are made from what outputs report."""


@dataclass
class State:
    """What a crash leaves: the database's content."""

    rows: dict[str, bytes] = field(default_factory=dict)
    confirmed: list[bytes] = field(default_factory=list)  # documents that the cursors have passed
    uploaded: Counter[int] = field(default_factory=Counter)  # source bytes by generation
    uploaded_records: int = 0
    lost: Counter[int] = field(default_factory=Counter)

    @property
    def spooled(self) -> dict[str, bytes]:
        """Rows of objects: those of the manifest stay until their hour is over."""
        return {key: row for key, row in self.rows.items() if not key.startswith(ROW_PREFIX)}

    def copy(self) -> "State":
        return State(
            dict(self.rows), list(self.confirmed), Counter(self.uploaded), self.uploaded_records, Counter(self.lost)
        )


class FakeHost:
    """Implements `outputs.base.Host` for one output. `state` is committed, `live` runs ahead of it."""

    def __init__(self, folder: Path, output: Output, state: State | None = None) -> None:
        self.state_dir = str(folder)
        self.node = "node-1"
        self.metrics = Metrics()
        self.output = output
        self.state = state or State()
        self.live = self.state.copy()
        self.reasons: list[str] = []
        self.commits = 0
        self.holds = asyncio.Event()
        self.holds.set()  # clear it, and no commit succeeds

    def rows(self, output: str) -> Mapping[str, bytes]:
        assert output == self.output.name
        return self.state.rows

    def uploaded(self, output: str, generations: Mapping[int, int], records: int) -> None:
        self.live.uploaded.update(generations)
        self.live.uploaded_records += records

    def lost(self, output: str, generations: Mapping[int, int], records: int, reason: str) -> None:
        self.live.lost.update(generations)
        self.reasons.append(reason)

    async def committed(self) -> None:
        await self.holds.wait()
        await asyncio.sleep(0)
        self.commit()

    def commit(self) -> None:
        if self.output.durable is not None:
            for key, row in self.output.durable.changes().items():
                if row is None:
                    self.live.rows.pop(key, None)
                else:
                    self.live.rows[key] = row
            self.output.durable.sync()
        self.state = self.live.copy()
        self.commits += 1

    async def send(self, batch: Batch) -> Delivery:
        """As the worker does: what was delivered passes the cursor in the step in which `send` returns."""
        delivery = await self.output.send(batch)
        if not delivery.retry and not delivery.rejected:
            self.live.confirmed += batch.documents()
        return delivery


def batch_of(*targets: tuple[str, list[bytes]], generation: int = 1) -> Batch:
    """A batch with one piece for each (target, documents); a document's source is taken to be as long as itself."""
    body = bytearray()
    pieces = []
    for target, documents in targets:
        start = len(body)
        body += b"".join(documents)
        size = len(body) - start
        pieces.append(Piece(target, start, len(body), len(documents), SOURCE, FakeSpan(generation), size))
    return Batch(body, pieces, sum(piece.records for piece in pieces))


def documents(first: int, count: int, *, text: str = "hello") -> list[bytes]:
    return [b'{"_id":"%06d","message":"%s"}\n' % (number, text.encode()) for number in range(first, first + count)]
