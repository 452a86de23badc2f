"""The quick way of the Python twin: ordinary chunks of CRI lines, from their bytes to documents by C loops alone.

One regular expression cuts a chunk at the headers of its lines. What is left between them, an object without its `{` or
a text, stands in a document as it is or escaped; all objects are checked in one call, all texts escaped in one. Columns
are woven into documents by slices. No line is touched by itself but parts of records, and objects with keys that are
ours.

What is not ordinary is declined, before anything is appended: lines of another form, bytes that are no UTF-8, an object
that begins `{ "`, a record that is still open. Then `parse` and `write` do it, which are the judges of this one: it
gives the same bytes and the same summary, or none.
"""

import io
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, compress, count
from operator import itemgetter, not_
from typing import Any

import msgspec

from shipper.body import append
from shipper.content import SEPARATORS, Suspects, escape, object_content, suspects_of
from shipper.frame import Frame, Target
from shipper.parsers import Summary
from shipper.parsers.cri import AFTER_SECOND, SECOND, SECOND_BYTES
from shipper.parsers.json_object import BETWEEN, MAX_DEPTH, are_all_objects, find_objects, is_too_deep
from shipper.parsers.utf8 import are_valid
from shipper.record import Envelope, Extent, State

# What stands between the time and the content. That of an object on stdout is none, as most lines have it.
_OBJECT, _OBJECT_ON_STDERR, _TEXT, _TEXT_ON_STDERR = None, b"stderr F {", b"stdout F ", b"stderr F "
_PART, _PART_ON_STDERR = b"stdout P ", b"stderr P "
_PARTS = frozenset((_PART, _PART_ON_STDERR))
_OBJECTS = frozenset((_OBJECT, _OBJECT_ON_STDERR))
_STREAM_OF = {
    _OBJECT: b"stdout", _TEXT: b"stdout", _PART: b"stdout",
    _OBJECT_ON_STDERR: b"stderr", _TEXT_ON_STDERR: b"stderr", _PART_ON_STDERR: b"stderr",
}  # fmt: skip

# What begins a line, but for the second of its time: that is the same for many lines, and is checked once for these.
_TIME_OF_LINE = rb"\n(.{%d}" % SECOND_BYTES + AFTER_SECOND + rb") "
_HEADER = re.compile(_TIME_OF_LINE + rb'(?:stdout F \{(?=")|(stderr F \{(?=")|std(?:out|err) [FP] ))', re.DOTALL)
_HEADER_OF_TEXT = re.compile(_TIME_OF_LINE + rb"(std(?:out|err) [FP] )", re.DOTALL)
_FIELDS = 3  # time, label, content: of what these split, behind what is before the first newline
_SECONDS = re.compile(rb"(?:" + SECOND + rb"\n)*+")
_PIECES = 4  # of a document: head, time, what follows it, content

_BETWEEN = BETWEEN + b"{"
_SECOND_OF = itemgetter(slice(SECOND_BYTES))
_LAST = itemgetter(-1)
_BRACE = ord("}")


class _Rows(msgspec.Struct):
    """Lines, and then records, by columns."""

    begins: list[int]
    ends: list[int]
    times: list[bytes]
    labels: list[bytes | None]
    contents: list[bytes]
    longest: int  # bytes of a line or record, at most
    odd_sizes: dict[int, int] = msgspec.field(default_factory=dict)  # begin -> bytes, of records that others stand in
    joined: int = 0

    def __len__(self) -> int:
        return len(self.contents)


def encode_ordinary(
    chunk: bytes, offset: int, frame: Frame, targets: Sequence[Target], *, final: bool, state: State, known: int
) -> Summary | None:
    """As `encode`, where nothing is skipped. None, and nothing appended, where it declines."""
    if frame.format != "cri" or frame.keep_message or state.inside or state.cut:
        return None
    if any(target.envelope.offset_tail is not None for target in targets):
        return None
    rows = _split(chunk, offset, frame, final=final)
    if rows is None:
        return None
    consumed, last_time = rows.ends[-1], rows.times[-1]
    if not (_join_parts(rows, frame) and all(target.suits(rows.times) for target in targets)):
        return None
    if not ((chunk.isascii() or are_valid(rows.contents)) and _write_contents(rows, frame)):
        return None
    for target in targets:
        append(_weave(rows, target.envelope), len(rows), target.into)
    return Summary(
        len(rows),
        consumed - offset,
        consumed,
        State(last_time),
        new_records=len(rows) if known <= rows.begins[0] else sum(end > known for end in rows.ends),
        odd_sizes=rows.odd_sizes,
        places=_places(rows) if any(target.envelope.id_prefix is None for target in targets) else (),
        joined=rows.joined,
    )


def _split(chunk: bytes, offset: int, frame: Frame, *, final: bool) -> _Rows | None:
    """A row for each line; None where they are not all as the runtimes write them, or one may be too long."""
    end = chunk.rfind(b"\n") + 1
    rest = len(chunk) - end
    if not end or (rest and final) or rest > frame.limit:
        return None
    header = _HEADER if frame.merge else _HEADER_OF_TEXT
    first, *fields = header.split(memoryview(chunk)[: end - 1])
    fields[:0] = header.split(b"\n" + first)[1:]
    times, labels, contents = fields[0::_FIELDS], fields[1::_FIELDS], fields[2::_FIELDS]
    sizes = list(map(len, io.BytesIO(chunk)))
    if rest:
        sizes.pop()
    longest = max(sizes)
    if len(fields) != _FIELDS * len(sizes) or longest > frame.limit or not _are_times(times):
        return None
    bounds = list(accumulate(sizes, initial=offset))
    return _Rows(bounds[:-1], bounds[1:], times, labels, contents, longest)


def _are_times(times: Sequence[bytes]) -> bool:
    """What follows the second is known to be right."""
    seconds = set(map(_SECOND_OF, times))
    return _SECONDS.fullmatch(b"".join([second + b"\n" for second in seconds])) is not None


def _join_parts(rows: _Rows, frame: Frame) -> bool:
    """Makes one row of the lines of each record, in the place of the last. False where one is open, or may be long."""
    parts = list(compress(count(), map(_PARTS.__contains__, rows.labels)))
    if not parts:
        return True
    left_out = set[int]()
    for i in parts:
        if i in left_out:
            continue
        members = _members(rows.labels, i)
        last = members[-1]
        if rows.labels[last] in _PARTS or rows.ends[last] - rows.begins[i] > frame.limit:
            return False
        left_out.update(members[:-1])
        _join(rows, members, merge=frame.merge)
    columns: tuple[list[Any], ...] = rows.begins, rows.ends, rows.times, rows.labels, rows.contents
    for i in sorted(left_out, reverse=True):  # few; a copy of what stays would touch each object
        for column in columns:
            del column[i]
    return True


def _members(labels: Sequence[bytes | None], first: int) -> list[int]:
    """The lines of one stream from `first` to the one that ends its record, or as far as there are any."""
    members, stream = [first], _STREAM_OF[labels[first]]
    for i in range(first + 1, len(labels)):
        if _STREAM_OF[labels[i]] == stream:
            members.append(i)
            if labels[i] not in _PARTS:
                break
    return members


def _join(rows: _Rows, members: Sequence[int], *, merge: bool) -> None:
    first, last = members[0], members[-1]
    body = b"".join([b"{" + rows.contents[i] if rows.labels[i] in _OBJECTS else rows.contents[i] for i in members])
    size = sum(rows.ends[i] - rows.begins[i] for i in members)
    begin = rows.begins[last] = rows.begins[first]
    if rows.ends[last] - begin != size:
        rows.odd_sizes[begin] = size
    rows.times[last] = rows.times[first]
    kind = merge and body.startswith(b'{"')
    is_on_stderr = rows.labels[first] == _PART_ON_STDERR
    rows.labels[last] = (_OBJECT, _OBJECT_ON_STDERR)[is_on_stderr] if kind else (_TEXT, _TEXT_ON_STDERR)[is_on_stderr]
    rows.contents[last] = body[1:] if kind else body
    rows.longest = max(rows.longest, size)
    rows.joined += 1


def _places(rows: _Rows) -> tuple[Extent, ...]:
    own = rows.odd_sizes
    return tuple((begin, end, own.get(begin, end - begin)) for begin, end in zip(rows.begins, rows.ends, strict=True))


def _write_contents(rows: _Rows, frame: Frame) -> bool:
    """Makes of contents what stands at the end of their documents. False where that is not so easy."""
    contents, is_object = rows.contents, list(map(_OBJECTS.__contains__, rows.labels))
    texts = list(compress(contents, map(not_, is_object)))
    objects = list(compress(contents, is_object)) if texts else contents
    if texts:
        if frame.merge and any(find_objects(texts)):
            return False
        for i, text in zip(compress(count(), map(not_, is_object)), escape(texts), strict=True):
            contents[i] = text + b'"}'
    if not objects:
        return True
    joined = b"{" + _BETWEEN.join(objects)
    if not are_all_objects(joined, len(objects)):
        return False
    if rows.longest > 2 * MAX_DEPTH and any(is_too_deep(b"{" + each) for each in objects if len(each) >= 2 * MAX_DEPTH):
        return False
    suspects = suspects_of(frame.reserved)
    is_regular = set(map(_LAST, objects)) == {_BRACE} and not suspects.may_be_in(joined)
    return is_regular or all(
        _rename(contents, i, frame) for i in compress(range(len(rows)), is_object) if _is_odd(contents[i], suspects)
    )


def _is_odd(content: bytes, suspects: Suspects) -> bool:
    return content[-1] != _BRACE or suspects.pattern.search(content) is not None


def _rename(contents: list[bytes], i: int, frame: Frame) -> bool:
    _, contents[i] = object_content(b"{" + contents[i], frame, is_cut=False)
    return True


def _weave(rows: _Rows, envelope: Envelope) -> list[bytes]:
    """The pieces of all documents. A newline stands before each document, for a short while also before the first."""
    n, (out, err) = len(rows), envelope.after_time
    text, members = SEPARATORS
    afters = {
        _OBJECT: out + members,
        _OBJECT_ON_STDERR: err + members,
        _TEXT: out + text,
        _TEXT_ON_STDERR: err + text,
    }
    pieces = [b""] * (_PIECES * n)
    pieces[0::_PIECES] = _heads(rows, envelope)
    pieces[1::_PIECES] = rows.times
    pieces[2::_PIECES] = map(afters.__getitem__, rows.labels)
    pieces[3::_PIECES] = rows.contents
    pieces[0] = pieces[0][1:]
    pieces.append(b"\n")
    return pieces


def _heads(rows: _Rows, envelope: Envelope) -> Iterable[bytes]:
    if envelope.id_prefix is None:
        return [b"\n" + envelope.before_time] * len(rows)
    head = b"\n" + envelope.id_prefix.replace(b"%", b"%%") + b"%x-%x" + envelope.before_time.replace(b"%", b"%%")
    return map(head.__mod__, zip(rows.begins, rows.ends, strict=True))
