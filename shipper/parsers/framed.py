"""Lines of a container's log with what their frame says, as columns; each line still by itself."""

from bisect import bisect_left, bisect_right
from itertools import compress

import msgspec

from shipper.parsers.lines import FULL, PART, Lines, Piece
from shipper.parsers.records import parse_error
from shipper.parsers.utf8 import cut_before
from shipper.record import Ranges, State

NO_STREAM = b"-"  # of a line without a frame: it joins no other
UNFRAMED = NO_STREAM + b" " + FULL  # its label
_WHOLE = Piece(continues=False, goes_on=False)


class Framed(msgspec.Struct):
    lines: Lines
    times: list[bytes]
    streams: list[bytes]
    tags: list[bytes]  # FULL, PART; b"" for a line without a frame, until it is mended
    bodies: list[bytes]
    marks: dict[int, bytes] = msgspec.field(default_factory=dict)
    # of pieces: stream and tag of their line, `stdout P`
    labels: dict[int, bytes] = msgspec.field(default_factory=dict)
    ended: set[int] = msgspec.field(default_factory=set)  # the size limit ends their record here

    def __len__(self) -> int:
        return len(self.bodies)

    def mend(self, framing: str, state: State) -> None:
        """Gives pieces of long lines, and lines without a frame, the time and stream that they belong to."""
        odd = set(self.lines.pieces)
        if b"" in self.tags:
            odd.update(i for i, tag in enumerate(self.tags) if not tag)
        for i in sorted(odd):
            self._mend_line(i, framing, state)

    def _mend_line(self, i: int, framing: str, state: State) -> None:
        piece = self.lines.pieces.get(i, _WHOLE)
        time_before = self.times[i - 1] if i else state.last_time
        if piece.continues:
            label = self.labels[i - 1] if i else state.inside
            self.times[i], self.bodies[i] = time_before, self.lines.texts[i]
        elif self.tags[i]:
            label = self.streams[i] + b" " + self.tags[i]
        else:
            label, self.times[i] = UNFRAMED, time_before
        self.streams[i], _, tag = label.partition(b" ")
        self.tags[i] = PART if piece.goes_on else tag
        if self.streams[i] == NO_STREAM:
            self.marks[i] = parse_error(framing)
        if piece.goes_on:
            self.ended.add(i)
        if any(piece):
            self.labels[i] = label

    def state_at(self, offset: int, before: State) -> State:
        """What is known at the begin of a line or piece, or at the end of all; `before`: where these lines began."""
        i = bisect_left(self.lines.begins, offset)
        if not i:
            return State(before.last_time, before.inside)
        is_within = self.lines.pieces.get(i - 1, _WHOLE).goes_on
        return State(self.times[i - 1], self.labels[i - 1] if is_within else b"")

    def without(self, skip: Ranges) -> "Framed":
        """Without the lines that begin in `skip`."""
        edges = [edge for bounds in skip for edge in bounds]
        new = [bisect_right(edges, begin) % 2 == 0 for begin in self.lines.begins]
        return self if all(new) else self._select(new)

    def _select(self, chosen: list[bool]) -> "Framed":
        places = {old: new for new, old in enumerate(compress(range(len(self)), chosen))}
        lines = self.lines
        return Framed(
            Lines(
                list(compress(lines.begins, chosen)),
                list(compress(lines.ends, chosen)),
                list(compress(lines.texts, chosen)),
                lines.end,
            ),
            list(compress(self.times, chosen)),
            list(compress(self.streams, chosen)),
            list(compress(self.tags, chosen)),
            list(compress(self.bodies, chosen)),
            marks={places[i]: mark for i, mark in self.marks.items() if i in places},
            ended={places[i] for i in self.ended if i in places},
        )

    def with_short_bodies(self, limit: int) -> "Framed":
        """For docker, where a place in a body has no place in the file: a line with too long a body becomes several.

        All but the last stand for one byte of the line each. Each ends its record, so that no read begins within.
        """
        if max(map(len, self.bodies), default=0) <= limit:
            return self
        out = Framed(Lines([], [], [], self.lines.end), [], [], [], [])
        for i, body in enumerate(self.bodies):
            parts = _parts(body, limit)
            for k, part in enumerate(parts):
                is_last = k == len(parts) - 1
                if i in self.marks:
                    out.marks[len(out)] = self.marks[i]
                if not is_last or i in self.ended or (is_last and k and self.tags[i] == PART):
                    out.ended.add(len(out))
                out.lines.begins.append(self.lines.begins[i] + k)
                out.lines.ends.append(self.lines.ends[i] if is_last else self.lines.begins[i] + k + 1)
                out.lines.texts.append(part)
                out.times.append(self.times[i])
                out.streams.append(self.streams[i])
                out.tags.append(self.tags[i] if is_last else PART)
                out.bodies.append(part)
        return out


def _parts(body: bytes, limit: int) -> list[bytes]:
    parts, at = [], 0
    while len(body) - at > limit:
        to = cut_before(body, at, at + limit)
        parts.append(body[at:to])
        at = to
    return [*parts, body[at:]]
