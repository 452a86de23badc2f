"""What a file's records and documents are: slow, line by line, with the standard library only.

Independent of `shipper` on purpose: it is written from the design alone, and says what is right.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

SPAN_BYTES = 64 * 1024
DOCKER_FRAME_BYTES = 128 * 1024
MAX_DEPTH = 1000

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|[+-](\d\d):(\d\d))", re.ASCII)


@dataclass(frozen=True)
class Record:
    begin: int
    end: int
    size: int
    time: bytes
    stream: str
    body: bytes
    truncated: bool = False
    fits: bool = True  # the format of its file


@dataclass
class Line:
    """One line, or one piece of a long one."""

    begin: int
    end: int
    text: bytes
    is_first: bool = True  # piece
    is_last: bool = True


@dataclass
class Part:
    """A line with what its frame says."""

    begin: int
    end: int
    time: bytes
    stream: str | None  # None: it does not fit its format
    is_full: bool
    body: bytes
    is_cut_after: bool  # the size limit ends its record here


@dataclass
class Open:
    truncated: bool
    parts: list[Part] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(part.body) for part in self.parts)

    def close(self) -> Record:
        first, last = self.parts[0], self.parts[-1]
        return Record(
            first.begin,
            last.end,
            sum(part.end - part.begin for part in self.parts),
            first.time,
            first.stream or "stdout",
            b"".join(part.body for part in self.parts),
            self.truncated,
            first.stream is not None,
        )


@dataclass(frozen=True)
class Whole:
    records: list[Record]
    empties: int = 0
    empty_bytes: int = 0


def read_file(
    data: bytes,
    format_: str,
    *,
    limit: int = 1 << 20,
    first_time: bytes = b"",
    read_time: bytes = b"",
    span_bytes: int = SPAN_BYTES,
) -> Whole:
    """All records of a file to which nothing will be added, in the order of their ends."""
    if format_ in ("cri", "docker"):
        parts = _parts(data, format_, limit, first_time)
        records = _join(parts, limit, 2 * limit + span_bytes, len(data))
        return Whole(sorted(records, key=lambda record: record.end))
    return _local(data, format_, limit, first_time, read_time)


# -- lines -------------------------------------------------------------------------------------------------------------


def _lines(data: bytes, format_: str, limit: int) -> Iterator[Line]:
    begin = 0
    for raw in _split_keeping_newlines(data):
        yield from _pieces(begin, raw, format_, limit)
        begin += len(raw)


def _split_keeping_newlines(data: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _pieces(begin: int, raw: bytes, format_: str, limit: int) -> Iterator[Line]:
    text = raw.removesuffix(b"\n")
    room = _room_of_first_piece(text, format_, limit)
    at = 0
    while len(text) - at > room:
        end = at + room
        while end > at + 1 and at + room - end < 3 and _is_within_character(text, end):
            end -= 1
        if _is_within_character(text, end):
            end = at + room
        yield Line(begin + at, begin + end, text[at:end], is_first=at == 0, is_last=False)
        at, room = end, limit
    yield Line(begin + at, begin + len(raw), text[at:], is_first=at == 0, is_last=True)


def _is_within_character(text: bytes, at: int) -> bool:
    return 0x80 <= text[at] < 0xC0


def _room_of_first_piece(text: bytes, format_: str, limit: int) -> int:
    if format_ == "cri":
        parts = text[:limit].split(b" ", 3)
        is_framed = len(parts) == 4 and _cri_header(parts) is not None
        return limit + (len(b" ".join(parts[:3])) + 1 if is_framed else 0)
    if format_ == "docker" and len(text) <= limit + DOCKER_FRAME_BYTES:
        return len(text)
    return limit


# -- frames ------------------------------------------------------------------------------------------------------------


def is_rfc3339(text: str) -> bool:
    match = _TIME.fullmatch(text)
    if match is None:
        return False
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    is_date = year >= 1 and 1 <= month <= 12 and 1 <= day <= days[month - 1]
    return is_date and hour < 24 and minute < 60 and second < 60


def _cri_header(parts: list[bytes]) -> tuple[bytes, str, bool] | None:
    """(time, stream, whether it is full) of the first three words of a line."""
    time, stream, tags = parts[:3]
    match = re.fullmatch(rb"\d{4}-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,9})?(Z|[+-](\d\d):(\d\d))", time)
    if match is None or not (1 <= int(match[1]) <= 12 and 1 <= int(match[2]) <= 31):
        return None
    if int(match[3]) > 23 or int(match[4]) > 59 or int(match[5]) > 59:
        return None
    if match[8] is not None and (int(match[8]) > 23 or int(match[9]) > 59):
        return None
    if stream not in (b"stdout", b"stderr"):
        return None
    first = tags.split(b":")[0]
    return (time, stream.decode(), first == b"F") if first in (b"F", b"P") else None


def _unframe_cri(text: bytes) -> tuple[bytes, str, bool, bytes] | None:
    parts = text.split(b" ", 3)
    header = _cri_header(parts) if len(parts) >= 3 else None
    return None if header is None else (*header, parts[3] if len(parts) == 4 else b"")


def _unframe_docker(text: bytes) -> tuple[bytes, str, bool, bytes] | None:
    pairs = as_object(text)
    if pairs is None:
        return None
    line = dict(pairs)
    log, stream, time = (_text_of(line.get(key)) for key in ("log", "stream", "time"))
    if log is None or time is None or stream not in ("stdout", "stderr") or not is_rfc3339(time):
        return None
    return time.encode(), stream, log.endswith("\n"), log.removesuffix("\n").encode()


def _text_of(value: Any) -> str | None:
    is_text = isinstance(value, str) and not isinstance(value, Number)
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if is_text else None


def _parts(data: bytes, format_: str, limit: int, first_time: bytes) -> Iterator[Part]:
    time_before, stream, is_full = first_time, None, True
    unframe = _unframe_cri if format_ == "cri" else _unframe_docker
    for line in _lines(data, format_, limit):
        body, time = line.text, time_before
        if line.is_first:
            framed = unframe(line.text)
            stream, is_full = None, True
            if framed is not None:
                time, stream, is_full, body = framed
        time_before = time
        bodies = list(_short(body, limit)) if format_ == "docker" else [body]
        for k, part in enumerate(bodies):
            is_last = k == len(bodies) - 1
            yield Part(
                line.begin + k,
                line.end if is_last else line.begin + k + 1,
                time,
                stream,
                is_full and line.is_last and is_last,
                part,
                is_cut_after=not (line.is_last and is_last) or (k > 0 and not is_full),
            )


def _short(body: bytes, limit: int) -> Iterator[bytes]:
    for piece in _pieces(0, body, "text", limit):
        yield body[piece.begin : piece.end] if not piece.is_last else body[piece.begin :]


def _join(parts: Iterator[Part], limit: int, span: int, size: int) -> Iterator[Record]:
    """`P` parts up to their `F`, each stream for itself; cut where they grow over the limit."""
    unfinished: dict[str | None, Open] = {}
    was_cut: set[str | None] = set()
    for part in parts:
        group = unfinished.pop(part.stream, None)
        if group and (group.size + len(part.body) > limit or part.end - group.parts[0].begin > span):
            group.truncated = True
            yield group.close()
            was_cut.add(part.stream)
            group = None
        if group is None:
            group = Open(truncated=part.stream in was_cut)
            was_cut.discard(part.stream)
        group.parts.append(part)
        if part.is_cut_after:
            group.truncated = True
            was_cut.add(part.stream)
        if part.is_cut_after or part.is_full:
            yield group.close()
        else:
            unfinished[part.stream] = group
    for group in unfinished.values():
        group.truncated |= size - group.parts[0].begin >= span
        yield group.close()


# -- files that are no container's -------------------------------------------------------------------------------------


def _local(data: bytes, format_: str, limit: int, first_time: bytes, read_time: bytes) -> Whole:
    records, empties, empty_bytes, last_time = [], 0, 0, first_time
    for line in _lines(data, format_, limit):
        is_piece = not (line.is_first and line.is_last)
        size, body, fits = line.end - line.begin, line.text, True
        if format_ == "text":
            time = read_time
            if line.is_last and body.endswith(b"\r"):
                body = body[:-1]
            is_empty = not body
        else:
            is_empty = not body.strip(b" \t\r\n")
            pairs = as_object(body)
            fits = pairs is not None
            if is_empty:
                time = last_time
            else:
                time = (_own_time(pairs) or read_time) if pairs is not None else (last_time or read_time)
            last_time = time
        if is_empty:
            empties, empty_bytes = empties + 1, empty_bytes + size
        else:
            records.append(Record(line.begin, line.end, size, time, "stdout", body, is_piece, fits))
    return Whole(records, empties, empty_bytes)


def _own_time(pairs: list[tuple[str, Any]]) -> bytes:
    members = dict(pairs)
    for key in ("@timestamp", "timestamp", "time"):
        value = members.get(key)
        if isinstance(value, str) and not isinstance(value, Number) and is_rfc3339(value):
            return value.encode()
    return b""


# -- documents ---------------------------------------------------------------------------------------------------------


class Number(str):
    """As it is written."""

    __slots__ = ()


class Members(tuple[tuple[str, Any], ...]):
    """An object with its members in order, equal keys too."""

    __slots__ = ()


def load(text: str) -> Any:
    """JSON by RFC 8259; raises ValueError. No number is changed, no key is lost."""
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=Members)
    finally:
        sys.setrecursionlimit(depth)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def as_object(body: bytes) -> list[tuple[str, Any]] | None:
    """The members of what is one JSON object of at most MAX_DEPTH levels."""
    text = body.decode("utf-8", "replace").strip(" \t\r\n")
    if not text.startswith("{") or _depth(text) > MAX_DEPTH:
        return None
    try:
        return list(load(text))
    except ValueError:
        return None


def _depth(text: str) -> int:
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def content(
    record: Record, format_: str, *, merge: bool, keep_message: bool, reserved: set[str]
) -> list[tuple[str, Any]]:
    """The members of a document that come after what stands around a record."""
    marks: list[tuple[str, Any]] = [] if record.fits else [("parse_error", format_)]
    if record.truncated:
        marks.append(("truncated", True))
        reserved = reserved | {"truncated"}
    text = record.body.decode("utf-8", "replace")
    members = as_object(record.body) if (merge or format_ == "json") and record.fits else None
    if members is None:
        return [*marks, ("message", text)]
    if keep_message:
        marks.append(("message", text))
        reserved = reserved | {"message"}
    return marks + _renamed(members, reserved)


def _renamed(members: list[tuple[str, Any]], reserved: set[str]) -> list[tuple[str, Any]]:
    names = [key for key, _ in members]
    new: dict[str, str] = {}
    for name in names:
        if name not in new and any(name == ours or name.startswith(ours + ".") for ours in reserved):
            renamed = name + "_original"
            while renamed in names or renamed in new.values():
                renamed += "_original"
            new[name] = renamed
    return [(new.get(key, key), value) for key, value in members]
