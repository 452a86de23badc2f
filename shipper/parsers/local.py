"""Files that are no container's: JSON lines, and text."""

from typing import Literal

import msgspec

from shipper.parsers.framed import UNFRAMED
from shipper.parsers.json_object import WHITE, find_objects, top_members, unescape
from shipper.parsers.lines import Lines
from shipper.parsers.records import TRUNCATED, Records, parse_error
from shipper.parsers.utf8 import replace_invalid
from shipper.record import State
from shipper.template import parse_time

_KEYS = ("@timestamp", "timestamp", "time")  # where an application may tell the time of a line, the first wins


class _Times(msgspec.Struct):
    own: msgspec.Raw = msgspec.field(name="@timestamp", default=msgspec.Raw(b""))
    timestamp: msgspec.Raw = msgspec.Raw(b"")
    time: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(_Times)


def is_json(line: bytes) -> bool:
    return find_objects(replace_invalid([line])[0])[0]


def records(lines: Lines, framing: Literal["json", "text"], state: State, read_time: bytes) -> Records:
    """Each line is a record; none waits for another. Empty ones are left out, and counted."""
    n = len(lines.texts)
    sizes = [end - begin for begin, end in zip(lines.begins, lines.ends, strict=True)]
    found = Records(lines.begins, lines.ends, sizes, (), [b"stdout"] * n, lines.texts)
    found.marks = dict.fromkeys(lines.pieces, TRUNCATED)
    goes_on = [i for i, piece in lines.pieces.items() if piece.goes_on]
    if framing == "text":
        last_time = state.last_time
        found.times = [read_time] * n
        found.bodies = bodies = [text.removesuffix(b"\r") for text in lines.texts]
        for i in goes_on:
            bodies[i] = lines.texts[i]
        is_empty = [not body for body in bodies]
    else:
        is_empty = [not text.strip(WHITE) for text in lines.texts]
        found.times, last_time = _json_times(found, is_empty, state.last_time, read_time)
    if any(is_empty):
        found = found.select([not empty for empty in is_empty])
        found.empties = sum(is_empty)
        found.empty_bytes = sum(size for size, empty in zip(sizes, is_empty, strict=True) if empty)
    found.consumed = lines.end
    found.state = State(last_time, UNFRAMED if n - 1 in goes_on else b"")
    return found


def _json_times(found: Records, is_empty: list[bool], last_time: bytes, read_time: bytes) -> tuple[list[bytes], bytes]:
    """The time of each line: its own if it tells one, else that of reading. -> times, the last of them.

    A line that is no JSON object is marked, and takes the time of the record before it.
    """
    times = []
    bodies, _ = replace_invalid(found.bodies)
    for i, (body, is_json_object) in enumerate(zip(bodies, find_objects(bodies), strict=True)):
        if is_json_object:
            last_time = _own_time(body) or read_time
        elif not is_empty[i]:
            found.marks[i] = parse_error("json") + found.marks.get(i, b"")
            last_time = last_time or read_time
        times.append(last_time)
    return times, last_time


def _own_time(body: bytes) -> bytes:
    try:
        told = _decoder.decode(body)
        values = [bytes(raw) for raw in (told.own, told.timestamp, told.time)]
    except (msgspec.MsgspecError, RecursionError):
        members = {member.key: member.scalar for member in top_members(body)}
        values = [members.get(key, b"") for key in _KEYS]
    for value in values:
        if value[:1] == b'"' and parse_time(time := unescape(value).encode("utf-8", "replace")):
            return time
    return b""
