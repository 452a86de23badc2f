"""What a request carries, and what became of it.

The shared worker (shipper.outputs.worker) fills batches, calls `Output.send`, and acts on the `Delivery`: outputs
neither retry nor count.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from shipper.body import Body, view_of
from shipper.record import Extent, Ranges, Source


class Span(Protocol):
    """A part of a log file that was handed to one output; the ledger's side of a piece (shipper.ledger.Segment)."""

    @property
    def generation(self) -> int:
        """Row id of the file generation in the state."""

    def shares(self, source_bytes: int) -> Mapping[int, int]:
        """So many bytes of the log file, by generation: a record can begin in one and end in the next."""

    def ranges(self) -> Mapping[int, Ranges]:
        """Where in the files its records are, by generation; other records may stand between them."""

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = "delivered") -> None:
        """So many of its records have their fate; `rejected_bytes` of the log file are dead letters."""


class Piece(msgspec.Struct):
    """Documents of one chunk within a batch: `body[start:end]`, `records` of them, in order."""

    target: str  # index, key or path: the output's template, rendered ({id} is left as it is)
    start: int
    end: int
    records: int
    source: Source
    span: Span
    source_bytes: int  # what these records took in the log file, lines and all: the ledger's measure
    tag: str = ""
    read_at: float = 0.0  # time.monotonic() of the read, for the latency histogram
    # begin -> bytes in the file, where it is not end - begin
    odd_sizes: Mapping[int, int] = msgspec.field(default_factory=dict)
    places: Sequence[Extent] = ()  # of each record, where no id tells


class Batch(msgspec.Struct):
    """What one request carries. `body` is complete, newline-terminated documents (with action lines for a bulk)."""

    body: Body
    pieces: list[Piece]
    records: int
    lines_per_record: int = 1
    created: float = msgspec.field(default_factory=time.monotonic)
    attempts: int = 0
    memo: dict[str, Any] = msgspec.field(default_factory=dict)  # an output's own notes from one attempt to the next
    # time.time() of the first attempt of which nobody knows whether it was applied; None: it was not. An output that
    # can ask its destination does so before it sends such a batch, and sets this to None.
    uncertain_since: float | None = None
    targets: set[str] = msgspec.field(default_factory=set)  # of its pieces, where their number is bounded

    def documents(self) -> list[bytes]:
        """One entry a record: its lines, newlines included. Only for the paths on which something failed."""
        lines = bytes(view_of(self.body)).split(b"\n")
        step = self.lines_per_record
        return [b"\n".join(lines[i : i + step]) + b"\n" for i in range(0, self.records * step, step)]


class Rejection(msgspec.Struct, frozen=True):
    """A record that the destination will never take. `index` counts records within the batch."""

    index: int
    reason: str  # short and of few kinds, for grouping: document_parsing_exception
    detail: str = ""  # the destination's own words


class Delivery(msgspec.Struct, frozen=True):
    """The fate of every record of a batch: what is neither in `retry` nor in `rejected` is delivered.

    `spooled`: delivered means on this node's disk so far; the output reports the rest when it is uploaded.
    `split`: the request as a whole was too large; the worker halves the batch, and rejects what is alone too large.
    `reencode`: indices (a subset of `retry`) to be encoded again with equal keys merged: the last one wins.
    """

    retry: tuple[int, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    duplicates: int = 0
    failure_store: int = 0
    spooled: bool = False
    split: bool = False
    reencode: tuple[int, ...] = ()
    reason: str = ""  # of the retry, for metric and log
    detail: str = ""
    delay_s: float | None = None  # the destination's own wish (Retry-After)


DELIVERED = Delivery()
