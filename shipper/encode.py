"""The hot path: from the bytes of a log file to the bytes of a request body, in one pure function.

`encode` has no I/O, no state and no clock. It has two twins. The one in here, in Python, is complete, and is the judge:
`parse` gives columns of records, `write` turns columns into documents; the record lane uses the same two with filters
in between. Work is done by columns: C loops over a chunk; where a line or a record is touched several times, in one
short Python loop, since what was just touched is in the processor's cache. What is irregular is found by one look at
the chunk, and only its records are looked into.

The native twin (`native/`, where it was built) does ordinary chunks, and declines what is rare and intricate: then the
Python twin does it. So the same bytes come out, whichever runs.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import compress, repeat
from operator import itemgetter, not_
from typing import Any, NamedTuple, Protocol

import orjson

from shipper import native
from shipper.body import Body
from shipper.parsers import START, Format, Ranges, Records, State, Summary, parse
from shipper.parsers.json_object import WHITE, find_objects, top_members
from shipper.parsers.records import PARSE_ERROR
from shipper.parsers.substring import occurs
from shipper.parsers.utf8 import replace_invalid
from shipper.record import Envelope, Extent

UTC = (b"Z", b"+00:00")  # how RFC 3339 times end whose leading parts are those of UTC


_SEPARATORS = b',"message":"', b","  # between what is ours and what is the record's: of texts, and of JSON
_ENDS = b'"}\n', b"\n"
_PIECES, _AFTER, _CONTENT = 5, 2, 3  # of a document: how many, and the places of two
FEW_RECORDS = 16
LARGE_BYTES = 64 * 1024  # bodies of this size are worth no copy of all together


class Frame(NamedTuple):
    """How a container's records are framed, and what its documents may not overwrite."""

    format: Format
    merge: bool = True  # a message that is one JSON object: its keys stand at the top
    keep_message: bool = False  # ... and the line as `message` beside them
    reserved: frozenset[str] = frozenset(("@timestamp", "stream", "kubernetes"))
    limit: int = 1 << 20  # bytes of a record


class Target(NamedTuple):
    """One output's documents of a chunk: what stands around each, and the buffer that they are appended to.

    `time_prefix`: what the times of all records must begin with, and be in UTC, to belong to one index, key or path.
    """

    envelope: Envelope
    into: Body
    time_prefix: bytes = b""

    def suits(self, times: Sequence[bytes]) -> bool:
        prefix = self.time_prefix
        return not prefix or all(time.startswith(prefix) and time.endswith(UTC) for time in set(times))


def encode(
    chunk: bytes,
    offset: int,
    frame: Frame,
    targets: Sequence[Target],
    *,
    skip: Ranges = (),
    final: bool = False,
    hold: bool = True,
    state: State = START,
    read_time: bytes = b"",
    known: int = 0,
) -> Summary | None:
    """Appends the documents of all complete records of `chunk` to the buffer of each target.

    None, and nothing appended, where the records do not all belong to one of the targets. `known`: what ends up to
    there was read before.
    """
    if may_be_native(frame, targets, skip=skip, hold=hold, state=state):
        summary = encode_natively(chunk, offset, frame, targets, final=final, state=state, known=known)
        if summary is not None:
            return summary
    records = parse(
        chunk,
        offset,
        frame.format,
        state=state,
        skip=skip,
        final=final,
        hold=hold,
        limit=frame.limit,
        read_time=read_time,
    )
    if not all(target.suits(records.times) for target in targets):
        return None
    invalid = 0
    for target in targets:
        invalid = write(records, frame, target.envelope, target.into)
    with_places = any(target.envelope.id_prefix is None for target in targets)
    return Summary.of(records, known=known, invalid_utf8=invalid, with_places=with_places)


def may_be_native(frame: Frame, targets: Sequence[Target], *, skip: Ranges, hold: bool, state: State) -> bool:
    """Whether the native twin may know these chunks. Only it can append to its own buffers without the interpreter."""
    is_ordinary = frame.format == "cri" and hold and not (skip or state.inside or state.cut)
    module = native.MODULE
    return module is not None and is_ordinary and all(isinstance(target.into, module.Body) for target in targets)


def encode_natively(
    chunk: bytes, offset: int, frame: Frame, targets: Sequence[Target], *, final: bool, state: State, known: int
) -> Summary | None:
    """`encode` by the native twin, free of the interpreter's lock. None, and nothing appended, where it declines."""
    starts, found = [len(target.into) for target in targets], None
    forms = [native_form(frame, target.envelope) for target in targets]
    for form, target in zip(forms, targets, strict=True):
        if found is not None and form.copy(forms[0], targets[0].into, starts[0], target.into, target.time_prefix):
            continue
        summary = _append_natively(chunk, offset, form, target, final=final, state=state, known=known)
        if summary is None:
            for each, start in zip(targets, starts, strict=True):
                del each.into[start:]
            return None
        found = summary if found is None or summary.places else found
    return found


# What the native twin says of a chunk: records, source bytes, consumed, time of the last line before that (None: there
# is none), new records, odd sizes, places, joined, parse errors, records with invalid UTF-8. See `Summary`.
Said = tuple[int, int, int, bytes | None, int, list[tuple[int, int]], Sequence[Extent] | None, int, int, int]


class NativeForm(Protocol):
    """How the native twin writes the chunks of one container's log for one output."""

    def append(  # noqa: PLR0917  names cost as much as a line's work
        self, chunk: bytes, offset: int, into: Body, last_time: bytes, final: bool, known: int, time_prefix: bytes, /
    ) -> Said | None:
        """`encode_natively`, for a state without records that were cut."""

    def copy(self, other: "NativeForm", other_into: Body, start: int, into: Body, time_prefix: bytes, /) -> bool:
        """The documents that `other` has appended from `start` on, in this form. False, and nothing appended, where the
        two differ in more than their heads, or a time does not suit.
        """


def native_form(frame: Frame, envelope: Envelope) -> NativeForm:
    form: NativeForm = _native().Form(
        id_prefix=envelope.id_prefix,
        before_time=envelope.before_time,
        after_time=envelope.after_time,
        offset_tail=envelope.offset_tail,
        keys=_keys(frame.reserved | {"message"} if frame.keep_message else frame.reserved),
        merge=frame.merge,
        keep_message=frame.keep_message,
        limit=frame.limit,
    )
    return form


def _append_natively(
    chunk: bytes, offset: int, form: NativeForm, target: Target, *, final: bool, state: State, known: int
) -> Summary | None:
    said = form.append(chunk, offset, target.into, state.last_time, final, known, target.time_prefix)
    if said is None:
        return None
    records, source_bytes, consumed, last_time, new_records, odd_sizes, places, joined, parse_error, invalid = said
    return Summary(
        records,
        source_bytes,
        consumed,
        state if last_time is None else State(last_time),
        new_records=new_records,
        odd_sizes=dict(odd_sizes),
        places=places or (),
        joined=joined,
        parse_error=parse_error,
        invalid_utf8=invalid,
    )


def _native() -> Any:
    return native.MODULE


@cache
def _keys(reserved: frozenset[str]) -> Any:
    return _native().Keys(sorted(reserved))


def write(records: Records, frame: Frame, envelope: Envelope, into: Body) -> int:
    """Appends one document a record, in order; `Envelope` says how one looks.

    -> in how many of them bytes became U+FFFD.
    """
    n = len(records)
    if not n:
        return 0
    bodies, invalid = replace_invalid(records.bodies)
    is_json = _json_column(records, bodies) if frame.merge or frame.format == "json" else [False] * n
    pieces = _pieces(records, bodies, is_json, envelope)
    for i, mark in records.marks.items():
        after, sep = pieces[_PIECES * i + _AFTER], _SEPARATORS[is_json[i]]
        pieces[_PIECES * i + _AFTER] = after.removesuffix(sep) + mark + sep
    for i in _irregular(records, bodies, is_json, frame):
        after = pieces[_PIECES * i + _AFTER].removesuffix(_SEPARATORS[True])
        sep, pieces[_PIECES * i + _CONTENT] = _object_content(bodies[i], frame, is_cut=i in records.marks)
        pieces[_PIECES * i + _AFTER] = after + sep
    if n < FEW_RECORDS:  # they may be large: one copy less
        for piece in pieces:
            into += piece
    else:
        into += b"".join(pieces)
    return invalid


def _json_column(records: Records, bodies: Sequence[bytes]) -> list[bool]:
    """Whose keys stand at the top: what is one JSON object, but a line that does not fit its file stays text."""
    is_json = find_objects(bodies)
    for i, mark in records.marks.items():
        if mark.startswith(PARSE_ERROR):
            is_json[i] = False
    return is_json


def _pieces(records: Records, bodies: Sequence[bytes], is_json: list[bool], envelope: Envelope) -> list[bytes]:
    """Of each document: its begin, the time, what follows it, the message's own bytes, and its end.

    All at once for one record after the other, while its bytes are in the processor's cache.
    """
    texts = iter(_escape(list(compress(bodies, map(not_, is_json)))))
    pieces: list[bytes] = []
    rows = zip(
        _heads(records, envelope), records.times, _afters(records, is_json, envelope), bodies, is_json, strict=True
    )
    for head, time, after, body, j in rows:
        pieces += (head, time, after, body[1:] if j else next(texts), _ENDS[j])
    return pieces


def _heads(records: Records, envelope: Envelope) -> Iterable[bytes]:
    if envelope.id_prefix is None:
        return repeat(envelope.before_time, len(records))
    head = envelope.id_prefix.replace(b"%", b"%%") + b"%x-%x" + envelope.before_time.replace(b"%", b"%%")
    return map(head.__mod__, zip(records.begins, records.ends, strict=True))


def _afters(records: Records, is_json: list[bool], envelope: Envelope) -> Iterable[bytes]:
    (out, err), tail = envelope.after_time, envelope.offset_tail
    if tail is not None:
        placed = zip(records.begins, is_json, strict=True)
        return (b"%b%d%b%b" % (out, begin, tail, _SEPARATORS[j]) for begin, j in placed)
    of_stdout, of_stderr = [tuple(after + sep for sep in _SEPARATORS) for after in (out, err)]
    if b"stderr" not in records.streams:
        return map(of_stdout.__getitem__, is_json)
    known = {b"stdout": of_stdout, b"stderr": of_stderr}
    return (known[stream][j] for stream, j in zip(records.streams, is_json, strict=True))


def _irregular(records: Records, bodies: Sequence[bytes], is_json: list[bool], frame: Frame) -> list[int]:
    """Which JSON records cannot be spliced as they are: `body[1:]` after a comma would not be right."""
    if frame.keep_message:
        return [i for i, j in enumerate(is_json) if j]
    if not any(is_json):
        return []
    suspects = _suspects(frame.reserved)
    odd = {i for i in records.marks if is_json[i]}
    objects = list(compress(bodies, is_json))
    if suspects.may_be_in(b"\n".join(objects)):
        odd.update(i for i, j in enumerate(is_json) if j and suspects.pattern.search(bodies[i]))
    if frame.format == "docker" or not _are_compact(objects):
        odd.update(i for i, j in enumerate(is_json) if j and not (_is_compact(bodies[i]) and b"\n" not in bodies[i]))
    return sorted(odd)


_FIRST, _SECOND, _LAST = itemgetter(0), itemgetter(1), itemgetter(-1)


def _are_compact(objects: Sequence[bytes]) -> bool:
    """All begin with `{"` and end with `}`."""
    ends = set(map(_FIRST, objects)), set(map(_SECOND, objects)), set(map(_LAST, objects))
    return ends == ({0x7B}, {0x22}, {0x7D})


def _is_compact(body: bytes) -> bool:
    return body.startswith(b'{"') and body.endswith(b"}")


class _Suspects(NamedTuple):
    """Finds whatever may be a reserved key: as it is written, or with an escape in it."""

    needles: tuple[bytes, ...]  # substring search is five times as fast as one regular expression for all; and a byte
    # that is not there at all (an @, mostly) is found to be missing in no time
    escape: bytes
    pattern: re.Pattern[bytes]

    def may_be_in(self, text: bytes) -> bool:
        has_escape = b"\\" in text and occurs(self.escape, text)
        return has_escape or any(needle[1:2] in text and occurs(needle, text) for needle in self.needles)


_ORDINARY = re.compile(r"[\w@.\-]+", re.ASCII)  # of these characters, \u00.. is the only other spelling in JSON


@cache
def _suspects(reserved: frozenset[str]) -> _Suspects:
    escape = b"\\u00" if all(_ORDINARY.fullmatch(key) for key in reserved) else b"\\"
    needles = tuple(b'"' + key.encode() for key in sorted(reserved))
    keys = b"|".join(map(re.escape, needles))
    return _Suspects(needles, escape, re.compile(b"(?:" + keys + b')[".]|' + re.escape(escape)))


def _object_content(body: bytes, frame: Frame, *, is_cut: bool) -> tuple[bytes, bytes]:
    """The slow way for one JSON object: keys that are ours are renamed. -> separator, members and `}`."""
    message = b',"message":"%b"' % _escape([body])[0] if frame.keep_message else b""
    body = body.strip(WHITE)
    ours = set(frame.reserved)
    ours |= {"message"} if frame.keep_message else set()
    ours |= {"truncated"} if is_cut else set()
    members = top_members(body)
    taken = {member.key for member in members}
    suffixes = {key: _suffix(key, taken) for key in dict.fromkeys(m.key for m in members) if _is_ours(key, ours)}
    pieces, at = [], 1
    for member in members:
        if member.key in suffixes:
            pieces += [body[at : member.end], suffixes[member.key]]
            at = member.end
    pieces.append(body[at:])
    content = b"".join(pieces).lstrip(WHITE)
    return message + (b"," if members else b""), content.replace(b"\n", b" ")


def _is_ours(key: str, ours: set[str]) -> bool:
    return key in ours or any(key.startswith(name + ".") for name in ours)


def _suffix(key: str, taken: set[str]) -> bytes:
    """What makes a name that is not `taken`, and takes it."""
    suffix = "_original"
    while key + suffix in taken:
        suffix += "_original"
    taken.add(key + suffix)
    return suffix.encode()


_BETWEEN = b"\x7f"  # which JSON leaves as it is, and nearly all logs are without


def _escape(bodies: Sequence[bytes]) -> list[bytes]:
    """The inside of JSON strings (RFC 8259, section 7), of all bodies in one go. They are valid UTF-8."""
    if sum(map(len, bodies)) <= LARGE_BYTES * len(bodies):
        escaped = _escape_one(_BETWEEN.join(bodies)).split(_BETWEEN)
        if len(escaped) == len(bodies):
            return escaped
    return [_escape_one(body) for body in bodies]


def _escape_one(text: bytes) -> bytes:
    return orjson.dumps(text.decode())[1:-1]
