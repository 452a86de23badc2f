"""Joins partial lines into records, per stream: `P` ... `P` `F`.

A record that is not complete holds back what comes after it, so that a chunk begins at a record's start (`consumed`);
unless `hold` is false: then complete records behind it are given out, and their lines reported as `ahead`. Work is
done only for the lines that are parts of something; all others stay in their columns.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from operator import sub
from typing import NamedTuple

import msgspec

from shipper.parsers.framed import NO_STREAM, Framed
from shipper.parsers.lines import FULL, PART
from shipper.parsers.records import TRUNCATED, Records
from shipper.record import Ranges

_NOT_GIVEN = re.compile(b"\0")
_MANY = 32  # one line in so many
MOST_AHEAD = 64  # ranges that a cursor remembers; then the open record before them ends
SPAN_BYTES = 64 * 1024


def longest_span(limit: int) -> int:
    """Bytes of the file from the begin of a record to its end, lines of the other stream between included.

    A record that reaches farther is cut, or a `P` that is never ended would keep its reader from going on.
    """
    return 2 * limit + SPAN_BYTES


class Group(msgspec.Struct):
    """Indices of the lines of one record, in order."""

    members: list[int]
    is_cut: bool  # the size limit has begun or ended it
    is_complete: bool = False


class Cut(NamedTuple):
    """A place where the size limit cuts a stream."""

    stream: bytes
    before: int  # the last line before it; -1: it stands in an earlier chunk
    after: int  # the first line after it; as many as there are: it is not here yet


class Grouping(msgspec.Struct):
    """Finds the groups of several lines and those that were cut; all other lines are records by themselves."""

    framed: Framed
    limit: int
    seen: int  # the file is known up to here
    groups: list[Group]
    cuts: list[Cut]

    @classmethod
    def of(cls, framed: Framed, cut: Sequence[bytes], *, limit: int, seen: int) -> "Grouping":
        """`cut`: streams whose next line continues a record that was cut."""
        found, taken = cls(framed, limit, seen, [], []), set[int]()
        for stream in cut:
            first = _next(framed.streams, stream, 0)
            found.cuts.append(Cut(stream, -1, first))
            if first < len(framed):
                found._follow(first, taken, is_cut=True)
        at = 0
        while (at := _next(framed.tags, PART, at)) < len(framed):
            if at not in taken:
                found._follow(at, taken, is_cut=False)
            at += 1
        found.groups.sort(key=lambda group: group.members[-1])
        return found

    def _follow(self, first: int, taken: set[int], *, is_cut: bool) -> None:
        """One stream from `first` to the line that ends its record."""
        framed, stream, i = self.framed, self.framed.streams[first], first
        group = self._begin(first, is_cut=is_cut)
        size = len(framed.bodies[first])
        taken.add(first)
        while framed.tags[i] != FULL:
            following = _next(framed.streams, stream, i + 1)
            if following == len(framed):
                begin = framed.lines.begins[group.members[0]]
                if i in framed.ended or self.seen - begin >= longest_span(self.limit):
                    self.end(group)
                return
            taken.add(following)
            size += len(framed.bodies[following])
            if i in framed.ended or size > self.limit or self._spans_too_far(group, following):
                self.end(group, following)
                group, size = self._begin(following, is_cut=True), len(framed.bodies[following])
            else:
                group.members.append(following)
            i = following
        group.is_complete = True

    def _begin(self, first: int, *, is_cut: bool) -> Group:
        group = Group([first], is_cut)
        self.groups.append(group)
        return group

    def _spans_too_far(self, group: Group, line: int) -> bool:
        lines = self.framed.lines
        return lines.ends[line] - lines.begins[group.members[0]] > longest_span(self.limit)

    def end(self, group: Group, following: int | None = None) -> None:
        """Cuts it after its last line; `following` is the next one of its stream."""
        group.is_cut = group.is_complete = True
        last = group.members[-1]
        self.cuts.append(Cut(self.framed.streams[last], last, len(self.framed) if following is None else following))

    def open_groups(self) -> list[Group]:
        """In the order of their begins."""
        return sorted((g for g in self.groups if not g.is_complete), key=lambda group: group.members[0])

    def cut_streams(self, given: bytearray) -> tuple[bytes, ...]:
        """Those that are cut between lines that are given out and lines that are not."""
        done = given + b"\x00"  # a line that is not here yet is not given
        return tuple(sorted({c.stream for c in self.cuts if (c.before < 0 or done[c.before]) and not done[c.after]}))


def _next(column: list[bytes], value: bytes, start: int) -> int:
    try:
        return column.index(value, start)
    except ValueError:
        return len(column)


def join(
    framed: Framed, cut: Sequence[bytes], *, skip: Ranges, final: bool, hold: bool, limit: int, seen: int
) -> tuple[Records, tuple[bytes, ...]]:
    """-> records, and the streams whose next line continues one that was cut. `framed` is without `skip`."""
    grouping = Grouping.of(framed, cut, limit=limit, seen=seen)
    if final:
        for group in grouping.open_groups():
            group.is_complete = True
    if hold:
        consumed = _hold_back(grouping)
        given = _up_to(framed, consumed)
        ahead = beyond(skip, consumed)
    else:
        consumed, given, ahead = _give_all(grouping, skip)
        while len(ahead) > MOST_AHEAD and (still_open := grouping.open_groups()):
            grouping.end(still_open[0])
            consumed, given, ahead = _give_all(grouping, skip)
    records = put_together(grouping, given)
    records.consumed, records.ahead = consumed, ahead
    return records, grouping.cut_streams(given)


def _first_open(grouping: Grouping) -> int:
    lines, still_open = grouping.framed.lines, grouping.open_groups()
    return lines.begins[still_open[0].members[0]] if still_open else lines.end


def _hold_back(grouping: Grouping) -> int:
    """The largest offset such that every record that begins before it also ends before it."""
    lines, consumed = grouping.framed.lines, _first_open(grouping)
    for group in reversed(grouping.groups):
        begin, last = lines.begins[group.members[0]], lines.begins[group.members[-1]]
        if group.is_complete and begin < consumed <= last:
            consumed = begin
    return consumed


def _up_to(framed: Framed, offset: int) -> bytearray:
    known = bisect_left(framed.lines.begins, offset)
    return bytearray(b"\x01") * known + bytes(len(framed) - known)


def _give_all(grouping: Grouping, skip: Ranges) -> tuple[int, bytearray, Ranges]:
    """Every complete record: -> consumed, which lines, and the ranges of those beyond `consumed`."""
    consumed, lines = _first_open(grouping), grouping.framed.lines
    given = bytearray(b"\x01") * len(grouping.framed)
    for group in grouping.open_groups():
        for i in group.members:
            given[i] = 0
    known = bisect_left(lines.begins, consumed)
    new = [(lines.begins[i], lines.ends[i]) for i in range(known, len(given)) if given[i]]
    return consumed, given, merge((*beyond(skip, consumed), *new))


def put_together(grouping: Grouping, given: bytearray) -> Records:
    """The records of the lines that are `given` (all lines of a group, or none), each in the place of its last line."""
    framed, groups = grouping.framed, grouping.groups
    begins, ends = framed.lines.begins, framed.lines.ends
    sizes = list(map(sub, ends, begins))
    times, bodies, marks = framed.times, framed.bodies, framed.marks
    if groups:
        begins, times, bodies, marks, given = begins.copy(), times.copy(), bodies.copy(), marks.copy(), given.copy()
    joined = 0
    for group in groups:
        first, last = group.members[0], group.members[-1]
        if not given[last]:
            continue
        if len(group.members) > 1:
            begins[last], times[last] = begins[first], times[first]
            sizes[last] = sum(sizes[i] for i in group.members)
            bodies[last] = b"".join([bodies[i] for i in group.members])
            joined += 1
            for i in group.members[:-1]:
                given[i] = 0
        if group.is_cut:
            marks[last] = marks.get(last, b"") + TRUNCATED
    streams = framed.streams
    if marks and NO_STREAM in streams:
        streams = [b"stdout" if stream == NO_STREAM else stream for stream in streams]
    records = Records(begins, ends, sizes, times, streams, bodies, marks)
    left_out = [found.start() for found in _NOT_GIVEN.finditer(given)]
    if left_out:
        is_few = len(left_out) * _MANY < len(given)
        records = records.without(left_out) if is_few else records.select(given)
    records.joined = joined
    return records


def beyond(ranges: Ranges, offset: int) -> Ranges:
    return tuple((max(begin, offset), end) for begin, end in ranges if end > offset)


def merge(ranges: Ranges) -> Ranges:
    """Their union, touching ones joined."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return tuple(out)
