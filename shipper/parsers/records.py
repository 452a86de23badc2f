"""Records as columns, and what a reader must remember at a position to read on from there."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import compress
from typing import TypeVar

import msgspec

from shipper.record import START, Ranges, State

T = TypeVar("T")

TRUNCATED = b',"truncated":true'
PARSE_ERROR = b',"parse_error":'


def parse_error(format_name: str) -> bytes:
    return PARSE_ERROR + b'"%b"' % format_name.encode()


class Records(msgspec.Struct):
    """Complete records of one chunk, in the order of their ends. Offsets are absolute and decompressed."""

    begins: Sequence[int] = ()  # of the first line
    ends: Sequence[int] = ()  # of the last line, its newline included
    sizes: Sequence[int] = ()  # bytes of all lines of a record: those between may belong to the other stream
    times: Sequence[bytes] = ()  # RFC 3339, as written
    streams: Sequence[bytes] = ()  # b"stdout" or b"stderr"; b"stdout" where there are no streams
    bodies: Sequence[bytes] = ()  # the message, without a newline
    marks: dict[int, bytes] = msgspec.field(default_factory=dict)  # index -> members to add: ,"truncated":true
    consumed: int = 0  # where the first unfinished record begins
    state: State = START  # for reading on at `consumed`
    ahead: Ranges = ()  # lines beyond `consumed` that belong to these records, or did to earlier ones
    empties: int = 0  # lines that are no records: empty ones of local files
    empty_bytes: int = 0
    joined: int = 0  # records made of several lines

    def __len__(self) -> int:
        return len(self.bodies)

    def select(self, chosen: Sequence[bool] | bytearray) -> "Records":
        """Those whose place in `chosen` is true; positions and state as they are, counts at zero."""
        new = {old: new for new, old in enumerate(compress(range(len(self)), chosen))} if self.marks else {}
        return Records(
            begins=list(compress(self.begins, chosen)),
            ends=list(compress(self.ends, chosen)),
            sizes=list(compress(self.sizes, chosen)),
            times=list(compress(self.times, chosen)),
            streams=list(compress(self.streams, chosen)),
            bodies=list(compress(self.bodies, chosen)),
            marks={new[i]: mark for i, mark in self.marks.items() if i in new},
            consumed=self.consumed,
            state=self.state,
            ahead=self.ahead,
        )

    def without(self, places: Sequence[int]) -> "Records":
        """As `select`, by the places of those that are left out, in order: it costs little where they are few."""
        left_out = set(places)
        marks = {i - bisect_left(places, i): mark for i, mark in self.marks.items() if i not in left_out}
        return Records(
            begins=_without(self.begins, places),
            ends=_without(self.ends, places),
            sizes=_without(self.sizes, places),
            times=_without(self.times, places),
            streams=_without(self.streams, places),
            bodies=_without(self.bodies, places),
            marks=marks,
            consumed=self.consumed,
            state=self.state,
            ahead=self.ahead,
        )

    def take(self, places: Sequence[int]) -> "Records":
        """As `select`, by their places: it costs only what they are."""
        new = {old: new for new, old in enumerate(places)} if self.marks else {}
        return Records(
            begins=[self.begins[i] for i in places],
            ends=[self.ends[i] for i in places],
            sizes=[self.sizes[i] for i in places],
            times=[self.times[i] for i in places],
            streams=[self.streams[i] for i in places],
            bodies=[self.bodies[i] for i in places],
            marks={new[i]: mark for i, mark in self.marks.items() if i in new},
            consumed=self.consumed,
            state=self.state,
            ahead=self.ahead,
        )


def _without(column: Sequence[T], places: Sequence[int]) -> list[T]:
    left = list(column)
    for i in reversed(places):
        del left[i]
    return left
