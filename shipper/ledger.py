"""Conservation: what became of every byte of every file, for every output.

A `Cursor` is one output's place in one file generation. It hands out `Segment`s, hears what became of their records,
and moves its durable side in order. At any time, for each cursor,

    size = sum(fates) + pending          sum(fates) = acked + bytes of the ranges acked beyond it

which `Cursor.check` asserts. Nothing here does I/O.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from shipper.record import START, Ranges, State

DELIVERED, SPOOLED, UNMATCHED = "delivered", "spooled", "unmatched"
DEAD, SKIPPED = "dead_lettered", "skipped"

Fates = dict[str, int]  # fate -> bytes of the log file
_NO_FATES: Mapping[str, int] = MappingProxyType({})


def filtered(name: str, reason: str) -> str:
    return f"filtered:{name}:{reason}"


def lost(reason: str) -> str:
    return f"lost:{reason}"


def in_doubt(reason: str) -> str:
    """Nowhere any more, and nobody knows whether an earlier run has delivered it."""
    return f"in_doubt:{reason}"


def covered(ranges: Ranges, begin: int, end: int) -> int:
    """How many bytes of [begin, end) are in `ranges`."""
    return sum(max(0, min(b, end) - max(a, begin)) for a, b in ranges)


class Segment(msgspec.Struct, eq=False):
    """A span of a file, read for one output: up to `end`, but for what was read ahead before, and new ranges ahead."""

    cursor: "Cursor"
    begin: int
    end: int
    ahead: Ranges
    state: State
    total: int  # bytes
    fates: Fates  # those decided so far
    open_records: int  # without an answer yet

    @property
    def generation(self) -> int:
        return self.cursor.generation

    def shares(self, source_bytes: int) -> Mapping[int, int]:
        return {self.generation: source_bytes}

    def ranges(self) -> Mapping[int, Ranges]:
        return {self.generation: ((self.begin, self.end), *self.ahead)}

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = DELIVERED) -> None:
        self.cursor.answer(self, records, rejected_bytes, fate)


class SeamSpan(msgspec.Struct, frozen=True, eq=False):
    """One record that begins in one file and ends in the next: both segments hear of its fate, each with its bytes."""

    old: Segment
    new: Segment
    old_bytes: int
    new_bytes: int

    @property
    def generation(self) -> int:
        return self.old.generation

    def shares(self, source_bytes: int) -> Mapping[int, int]:  # noqa: ARG002  its own bytes are known apart
        return {self.old.generation: self.old_bytes, self.new.generation: self.new_bytes}

    def ranges(self) -> Mapping[int, Ranges]:
        return {**self.old.ranges(), **self.new.ranges()}

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = DELIVERED) -> None:
        self.old.answer(records, rejected_bytes=self.old_bytes if rejected_bytes else 0, fate=fate)
        self.new.answer(records, rejected_bytes=self.new_bytes if rejected_bytes else 0, fate=fate)


class BesideSpan(msgspec.Struct, frozen=True, eq=False):
    """Records of the old file that are sent with one that goes on in the new file: both segments wait for them all."""

    old: Segment
    new: Segment

    @property
    def generation(self) -> int:
        return self.old.generation

    def shares(self, source_bytes: int) -> Mapping[int, int]:
        return {self.old.generation: source_bytes}

    def ranges(self) -> Mapping[int, Ranges]:
        return self.old.ranges()

    def answer(self, records: int, rejected_bytes: int = 0, fate: str = DELIVERED) -> None:
        self.old.answer(records, rejected_bytes=rejected_bytes, fate=fate)
        self.new.answer(records, fate=fate)


class SentBefore(NamedTuple):
    """An earlier run may have sent records up to `end`, at `since` (time.time()) or later, and not heard of it."""

    end: int
    since: float


class GivenUp(NamedTuple):
    """Bytes that nobody will read: those that are lost for certain, and those that are `in_doubt`."""

    lost: int
    in_doubt: int


class Cursor:
    """There is one for each file and output, thousands on a large node: what is usual takes no object of its own."""

    __slots__ = (
        "_delivered",
        "_others",
        "acked",
        "acked_ahead",
        "acked_state",
        "ahead",
        "generation",
        "is_dirty",
        "output",
        "parked_at",
        "position",
        "segments",
        "sent_before",
        "state",
        "unheard",
    )

    def __init__(
        self,
        generation: int,
        output: str,
        *,
        acked: int = 0,
        ahead: Ranges = (),
        state: State = START,
        fates: Mapping[str, int] | None = None,
        unheard: int = 0,
        parked_at: float | None = None,
        is_dirty: bool = True,
    ) -> None:
        """Where nothing is on its way: what was read is `acked`."""
        self.generation, self.output = generation, output
        self.position = acked  # next byte to read; a record begins there
        self.ahead = ahead  # lines beyond `position` that were read already
        self.state = state
        self.acked = acked  # all before it has its fate
        self.acked_ahead = ahead
        self.acked_state = state
        self.fates = fates or {}
        self.segments: list[Segment] | tuple[()] = ()  # without all their answers, in order of reading: few
        self.parked_at = parked_at  # since then (epoch seconds) nobody reads here for its output
        self.is_dirty = is_dirty  # differs from what is committed
        self.sent_before: SentBefore | None = None
        self.unheard = unheard  # before it, what has no fate may have been delivered by an earlier run, which died

    def __repr__(self) -> str:
        return f"<Cursor of {self.output} in generation {self.generation}: {self.acked}, {self.position}>"

    @property
    def fates(self) -> Fates:
        """Of all that is acked; made when it is asked for."""
        return {DELIVERED: self._delivered, **self._others} if self._delivered else dict(self._others)

    @fates.setter
    def fates(self, fates: Mapping[str, int]) -> None:
        self._delivered, self._others = 0, _NO_FATES
        for fate, count in fates.items():
            self._count(fate, count)

    def _count(self, fate: str, count: int) -> None:
        """So many bytes more have this fate."""
        if fate == DELIVERED:
            self._delivered += count
            return
        others = dict(self._others)
        others[fate] = others.get(fate, 0) + count
        if not others[fate]:
            del others[fate]
        self._others = others or _NO_FATES

    def take(
        self,
        end: int,
        *,
        ahead: Ranges = (),
        state: State = START,
        fates: Mapping[str, int] | None = None,
        records: int,
    ) -> Segment:
        """Moves `position` to `end`. `fates`: bytes decided already; `records`: how many others must be answered."""
        total = end - self.position - covered(self.ahead, self.position, end)
        total += sum(b - a for a, b in ahead) - sum(covered(self.ahead, a, b) for a, b in ahead)
        segment = Segment(self, self.position, end, ahead, state, total, dict(fates or {}), records)
        rest = total - sum(segment.fates.values())
        if rest < 0 or (rest and not records):
            raise ValueError(f"{rest} of {total} bytes of {self} were given no fate")
        self.position, self.ahead, self.state = end, ahead, state
        self._begin(segment)
        if not records:
            self.settle()
        return segment

    def take_all(self, end: int, state: State, records: int) -> Segment:
        """`take` where nothing is ahead and no fate is decided, as is usual: all bytes up to `end` are of `records`.

        (Names of arguments would cost a tenth of it.)
        """
        segment = Segment(self, self.position, end, (), state, end - self.position, {}, records)
        self.position, self.state = end, state
        self._begin(segment)
        return segment

    def _begin(self, segment: Segment) -> None:
        if self.segments:
            self.segments.append(segment)
        else:
            self.segments = [segment]

    def answer(self, segment: Segment, records: int, rejected_bytes: int = 0, fate: str = DELIVERED) -> None:
        """`records` of a segment have their fate; `rejected_bytes` of them are dead letters now."""
        if 0 < records == segment.open_records and not rejected_bytes and not segment.fates:
            self._answer_all(segment, fate)
            return
        if records > segment.open_records:
            raise ValueError(f"a record of {self} was answered twice")
        segment.open_records -= records
        if rejected_bytes:
            segment.fates[DEAD] = segment.fates.get(DEAD, 0) + rejected_bytes
        if not segment.open_records:
            fates = segment.fates
            rest = segment.total - sum(fates.values()) if fates else segment.total
            if rest:
                fates[fate] = fates.get(fate, 0) + rest
            self.settle()

    def _answer_all(self, segment: Segment, fate: str) -> None:
        """`answer` where all of it has one fate, as is usual."""
        segment.open_records = 0
        segments = self.segments
        if len(segments) == 1 and segments[0] is segment and segment.total:  # as `settle` does it
            self.segments = ()
            self.acked, self.acked_ahead, self.acked_state = segment.end, segment.ahead, segment.state
            self._count(fate, segment.total)
            if self._delivered == self.acked:
                self._delivered = self.acked  # one object for both
            self.is_dirty = True
        else:
            if segment.total:
                segment.fates[fate] = segment.total
            self.settle()

    def settle(self) -> None:
        """Moves the durable side over all segments at the front that are answered."""
        segments = self.segments
        while segments and not segments[0].open_records:
            done = segments.pop(0)
            self.acked, self.acked_ahead, self.acked_state = done.end, done.ahead, done.state
            for fate, count in done.fates.items():
                self._count(fate, count)
            self.is_dirty = True
        self.segments = segments or ()

    def move(self, before: str, after: str, count: int) -> int:
        """Bytes change their fate: spooled ones were uploaded, dead letters were pushed out. -> how many did.

        Never more than have the fate `before`: a dead letter that outlived a crash, which its commit did not, is no
        dead letter here until its record is rejected again.
        """
        left, own = count, self.fates
        for fates in (own, *(segment.fates for segment in self.segments)):
            part = min(left, fates.get(before, 0))
            if part:
                fates[before] -= part
                fates[after] = fates.get(after, 0) + part
                left -= part
            if not fates.get(before, 1):
                del fates[before]
        self.fates = own
        self.is_dirty = self.is_dirty or left < count
        return count - left

    def give_up(self, size: int, reason: str, *, instead: str | None = None) -> GivenUp:
        """What was not read up to `size` never will be.

        -> nothing where any of it would have had the fate `instead`.
        """
        count, unheard = self._unread(size), self._unread(min(size, self.unheard))
        if size > self.position:
            beyond = tuple((max(begin, size), end) for begin, end in self.ahead if end > size)
            fates = {instead: count} if instead else {lost(reason): count - unheard, in_doubt(reason): unheard}
            told = {fate: size for fate, size in fates.items() if size}
            self.take(size, ahead=beyond, state=self.state, fates=told, records=0)
        return GivenUp(0, 0) if instead else GivenUp(count - unheard, unheard)

    def _unread(self, end: int) -> int:
        """Bytes before `end` that were not read."""
        return max(0, end - self.position - covered(self.ahead, self.position, end))

    def rewind(self, since: float, *, is_unheard: bool) -> None:
        """Whoever had what was read has gone: what has no fate yet is read again, and late answers change nothing.

        It was sent at `since` (time.time()) or later; `is_unheard` as in `expect`.
        """
        reached = max(self.position, *(end for _, end in self.ahead), 0)
        before = self.sent_before or SentBefore(0, since)
        self.sent_before = SentBefore(max(reached, before.end), min(since, before.since))
        self.position, self.ahead, self.state = self.acked, self.acked_ahead, self.acked_state
        self.segments = ()
        if is_unheard and reached > self.unheard:
            self.unheard, self.is_dirty = reached, True

    def expect(self, end: int, since: float, *, is_unheard: bool) -> None:
        """An earlier run may have sent what stands before `end`, at `since` or later.

        `is_unheard`: and what has no fate may be there. (Not so where it died in good order, or where the destination
        is cut back to this cursor.)
        """
        self.sent_before = SentBefore(end, since) if self.position < end else None
        unheard = end if is_unheard and self.acked < end else min(self.unheard, end)
        self.is_dirty = self.is_dirty or unheard != self.unheard
        self.unheard = unheard

    def park(self, now: float | None) -> None:
        """From `now` on nobody reads here for its output; None: somebody does again."""
        self.parked_at = now
        self.is_dirty = True

    def pending(self, size: int) -> int:
        """Bytes of a file of `size` that have no fate yet."""
        return max(0, size - self.acked - sum(b - a for a, b in self.acked_ahead))

    def waiting(self, size: int) -> int:
        """Those of the pending bytes that can still be delivered: what was given up waits for an answer before it."""
        nowhere = (lost(""), in_doubt(""))
        given_up = (n for s in self.segments for fate, n in s.fates.items() if fate.startswith(nowhere))
        return self.pending(size) - sum(given_up)

    def check(self) -> None:
        """Raises AssertionError when the equation does not hold."""
        known, told = self.acked + sum(b - a for a, b in self.acked_ahead), sum(self.fates.values())
        if known != told or any(count < 0 for count in self.fates.values()):
            raise AssertionError(
                f"{self.output} in generation {self.generation}: {known} bytes acked, fates {self.fates}"
            )
