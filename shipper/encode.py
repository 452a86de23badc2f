"""The hot path: from the bytes of a log file to the bytes of a request body, in one pure function.

`encode` has no I/O, no state and no clock. It has two twins. The one in Python is complete, and is the judge:
`encode_carefully`, where `parse` gives columns of records and `write` turns columns into documents; the record lane
uses the same two with filters in between. Work is done by columns: C loops over a chunk; where a line or a record is
touched several times, in one short Python loop, since what was just touched is in the processor's cache. What is
irregular is found by one look at the chunk, and only its records are looked into. Before it is asked, `ordinary.py`
does what can be done without it.

The native twin (`native/`, where it was built) does ordinary chunks, and declines what is rare and intricate: then the
Python twin does it. So the same bytes come out, whichever runs.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import compress, repeat
from operator import itemgetter, not_
from typing import Any, Protocol

from shipper import native
from shipper.body import Body, append
from shipper.content import SEPARATORS, escape, object_content, suspects_of
from shipper.frame import Frame, Target
from shipper.ordinary import encode_ordinary
from shipper.parsers import START, Ranges, Records, State, Summary, parse
from shipper.parsers.json_object import find_objects
from shipper.parsers.records import PARSE_ERROR
from shipper.parsers.utf8 import replace_invalid
from shipper.record import Envelope, Extent

_ENDS = b'"}\n', b"\n"
_PIECES, _AFTER, _CONTENT = 5, 2, 3  # of a document: how many, and the places of two


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
    if not skip:
        summary = encode_ordinary(chunk, offset, frame, targets, final=final, state=state, known=known)
        if summary is not None:
            return summary
    return encode_carefully(
        chunk, offset, frame, targets, skip=skip, final=final, hold=hold, state=state, read_time=read_time, known=known
    )


def encode_carefully(
    chunk: bytes,
    offset: int,
    frame: Frame,
    targets: Sequence[Target],
    *,
    skip: Ranges,
    final: bool,
    hold: bool,
    state: State,
    read_time: bytes,
    known: int,
) -> Summary | None:
    """`encode` by records: whatever the chunk is, and slower than the ways that decline some."""
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

    def append_whole(
        self, chunk: bytes, offset: int, into: Body, last_time: bytes, time_prefix: bytes, /
    ) -> tuple[int, bytes, int] | None:
        """`append` where that is all there is to say of a chunk: all of its bytes are its records', and none is odd.

        -> records, the time of the last line, and where the body ends now. None, and nothing appended, where there is
        more to say; that is for `append` to find out.
        """

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
        after, sep = pieces[_PIECES * i + _AFTER], SEPARATORS[is_json[i]]
        pieces[_PIECES * i + _AFTER] = after.removesuffix(sep) + mark + sep
    for i in _irregular(records, bodies, is_json, frame):
        after = pieces[_PIECES * i + _AFTER].removesuffix(SEPARATORS[True])
        sep, pieces[_PIECES * i + _CONTENT] = object_content(bodies[i], frame, is_cut=i in records.marks)
        pieces[_PIECES * i + _AFTER] = after + sep
    append(pieces, n, into)
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
    texts = iter(escape(list(compress(bodies, map(not_, is_json)))))
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
        return (b"%b%d%b%b" % (out, begin, tail, SEPARATORS[j]) for begin, j in placed)
    of_stdout, of_stderr = [tuple(after + sep for sep in SEPARATORS) for after in (out, err)]
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
    suspects = suspects_of(frame.reserved)
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
