"""Documents that a thread writes while the event loop sends, before it is decided whether they count."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shipper.encode import encode_natively
from shipper.frame import Frame, Target
from shipper.ledger import Cursor
from shipper.outputs.worker import OutputWorker
from shipper.parsers import Summary
from shipper.record import State


class Taker(NamedTuple):
    """An output that takes all of a chunk under one target."""

    cursor: Cursor
    worker: OutputWorker
    name: str  # of the target
    target: Target


class Asked(NamedTuple):
    """All that the documents of a chunk depend on, beside its bytes; `known` is for their number."""

    position: int
    state: State
    frame: Frame
    known: int
    takers: Sequence[Taker]


@dataclass(slots=True)
class Draft:
    """A chunk's documents, appended to the bodies of workers that hold them, as it was asked for when its read began.

    `write` runs in a thread, and touches nothing else. Afterwards the lanes ask whether it `is_for` the chunk as it is
    by then; where something has changed meanwhile, it is cut off, and the chunk is encoded anew.
    """

    asked: Asked
    time: bytes  # for which the targets were rendered
    ends_here: bool  # whether the end of the file is the end for good
    summary: Summary | None = None
    is_end: bool = False
    bounds: list[tuple[int, int]] = field(default_factory=list)  # of the documents in each taker's body

    @property
    def has_room(self) -> bool:
        """Whether no body holds as much as a request should carry."""
        return all(len(each.target.into) < each.worker.batch_bytes for each in self.asked.takers)

    @property
    def has_advanced(self) -> bool:
        """Whether records were written, or bytes passed over."""
        return self.summary is not None and self.summary.consumed > self.asked.position

    @property
    def growth(self) -> float:
        """Bytes of documents for each that was read, in the body that got most. (Of a draft that has advanced.)"""
        assert self.summary is not None
        written = max(end - start for start, end in self.bounds)
        return max(1.0, written / (self.summary.consumed - self.asked.position))

    def write(self, data: bytes, *, is_end: bool) -> None:
        position, state, frame, known, takers = self.asked
        targets = [taker.target for taker in takers]
        starts = [len(target.into) for target in targets]
        self.is_end = is_end
        self.summary = encode_natively(data, position, frame, targets, final=is_end, state=state, known=known)
        self.bounds = [(start, len(target.into)) for start, target in zip(starts, targets, strict=True)]

    def is_for(self, asked: Asked, *, is_end: bool) -> bool:
        """Whether this was asked, and stands right behind what was added before it."""
        return (
            self.summary is not None
            and (asked, is_end) == (self.asked, self.is_end)
            and all(
                start == taker.worker.filled_bytes and end <= len(taker.target.into)
                for taker, (start, end) in zip(self.asked.takers, self.bounds, strict=True)
            )
        )
