"""A record that begins in one file and ends in the next: `P` before a rotation, `F` after it.

containerd may end the old file with a `P` line and begin the new one with its `F`. The end of the old file and the head
of the new one are looked at together; what comes out are all records that begin in the old one.
"""

import msgspec
from msgspec.structs import replace

from shipper.parsers.framed import Framed
from shipper.parsers.frames import Format, frame_lines, with_new_lines
from shipper.parsers.join import Grouping, merge, put_together
from shipper.parsers.lines import Lines
from shipper.parsers.records import Records
from shipper.record import Ranges, State


class Seam(msgspec.Struct):
    """`records` begin in the old file: their `begins` count there, and so do their `ends` unless they cross."""

    records: Records
    crosses: list[bool]  # whether a record ends in the new file
    old_sizes: list[int]  # bytes of each record in the old file
    position: int  # where the new file is read on
    ahead: Ranges  # ... without these lines of it
    state: State | None  # ... and what is known there; None: as at its begin


def join_over_rotation(
    tail: bytes, offset: int, head: bytes, framing: Format, *, state: State, skip: Ranges, limit: int
) -> Seam | None:
    """`tail`: from `offset`, where `state` was known, to the end of the old file; `head`: the begin of the new one.

    None when the new file does not (yet) end all records that are open in the old one, or when the old one ends within
    a line.
    """
    border = offset + len(tail)
    old = frame_lines(tail, offset, framing, state=state, limit=limit) if tail.endswith(b"\n") else None
    if old is None:
        return None
    begin = old.state_at(border, state)
    new = frame_lines(head, border, framing, state=begin, limit=limit)
    both = _chain(with_new_lines(old, framing, skip, limit), new and with_new_lines(new, framing, (), limit))
    grouping = Grouping.of(both, state.cut, limit=limit, seen=border + len(head))
    grouping.groups = [g for g in grouping.groups if both.lines.begins[g.members[0]] < border]
    if grouping.open_groups():
        return None
    given = bytearray(at < border for at in both.lines.begins)
    for group in grouping.groups:
        for i in group.members:
            given[i] = 1
    records = put_together(grouping, given)
    crosses = [end > border for end in records.ends]
    records.ends = [end - border if end > border else end for end in records.ends]
    old_sizes = list(records.sizes)
    for i, (end, is_crossing) in enumerate(zip(records.ends, crosses, strict=True)):
        if is_crossing:
            old_sizes[i] -= _bytes_beyond(grouping, border, border + end)
    return Seam(records, crosses, old_sizes, *_place_in_new(new, grouping, given, begin, border))


def _bytes_beyond(grouping: Grouping, border: int, end: int) -> int:
    """Of the record that ends at `end`: the lines of it that stand in the new file."""
    lines = grouping.framed.lines
    members = next(g.members for g in grouping.groups if lines.ends[g.members[-1]] == end)
    return sum(lines.ends[i] - lines.begins[i] for i in members if lines.begins[i] >= border)


def _place_in_new(
    new: Framed | None, grouping: Grouping, given: bytearray, begin: State, border: int
) -> tuple[int, Ranges, State | None]:
    """-> position, ahead, state"""
    lines = grouping.framed.lines
    taken = [
        (a - border, b - border)
        for a, b, is_given in zip(lines.begins, lines.ends, given, strict=True)
        if is_given and a >= border
    ]
    cut, ahead, position = grouping.cut_streams(given), merge(tuple(taken)), 0
    if ahead and ahead[0][0] == 0:
        position, ahead = ahead[0][1], ahead[1:]
    if new is None or not (ahead or position or cut):
        return 0, (), State(begin.last_time, cut=cut) if cut else None
    return position, ahead, replace(new.state_at(border + position, begin), cut=cut)


def _chain(old: Framed, new: Framed | None) -> Framed:
    """Lines of both files behind each other; the new one's offsets count on where the old one ends."""
    if new is None:
        return old
    n = len(old)
    lines = Lines(
        old.lines.begins + new.lines.begins,
        old.lines.ends + new.lines.ends,
        old.lines.texts + new.lines.texts,
        new.lines.end,
    )
    return Framed(
        lines,
        old.times + new.times,
        old.streams + new.streams,
        old.tags + new.tags,
        old.bodies + new.bodies,
        marks=old.marks | {i + n: mark for i, mark in new.marks.items()},
        ended=old.ended | {i + n for i in new.ended},
    )
