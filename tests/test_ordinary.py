"""The quick way of the Python twin and the careful one give the same bytes and summaries; ordinary chunks it does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.body import view_of
from shipper.document import make_envelope, reserved_keys
from shipper.encode import encode_carefully
from shipper.frame import Frame, Target
from shipper.ordinary import encode_ordinary
from shipper.parsers import State, Summary
from shipper.record import Source
from tests.parsers.strategies import ANY_BYTES, BODIES, FILES, INTERLEAVED, OBJECTS, STREAMS, TIMES
from tests.test_encode import FILE, FORMS, POD, STATICS

COMPACT = OBJECTS.map(bytes.strip).filter(lambda body: body.startswith(b'{"') and b"\\ud" not in body)
TEXTS = st.sampled_from(
    [b"", b"x", b"  indented", b'say "hi" \\', b"\x7f", b"tab\t\x00", "é".encode(), b"2026-11-21T10:00:00Z stdout F x"]
)
ODD = st.sampled_from(
    [b'{"a":1} ', b'{"stream":1}', b'{"str\\u0065am":"x"}', b"{'a':1}", b"\xc3", b"\xa9", b'{"a":', b'"b":2}', b"{}"]
)


def lines(*contents: st.SearchStrategy[bytes], tags: bytes = b"F") -> st.SearchStrategy[bytes]:
    tag = st.sampled_from([bytes([byte]) for byte in tags])
    return st.builds(lambda *words: b" ".join(words) + b"\n", TIMES, STREAMS, tag, st.one_of(*contents))


ENDED = [b"2026-11-21T10:00:03Z %b F }\n" % stream for stream in (b"stdout", b"stderr")]  # whatever may be open
ORDINARY_CHUNKS = st.lists(lines(COMPACT, TEXTS) | lines(TEXTS, tags=b"FP"), max_size=20).map(
    lambda found: b"".join(found + ENDED)
)
OTHER_CHUNKS = (
    st.lists(lines(COMPACT, TEXTS, ODD, BODIES, tags=b"FFFP"), max_size=8).map(b"".join)
    | FILES["cri"]
    | INTERLEAVED
    | st.builds(lambda chunk, end: chunk + end, ORDINARY_CHUNKS, ANY_BYTES)
)


def target_of(
    form: str, *, source: Source = POD, static: dict[str, Any] | None = None, time_prefix: bytes = b""
) -> Target:
    frame = FORMS[form]
    envelope = make_envelope(source, base="b%x", frame=frame, document={"host": "node-1"}, static=static or {})
    return Target(envelope, bytearray(b"before\n"), time_prefix)


def written(target: Target) -> bytes:
    return bytes(view_of(target.into))


def both_ways(
    chunk: bytes,
    forms: list[str],
    frame: Frame,
    *,
    source: Source,
    static: dict[str, Any],
    prefix: bytes,
    **options: Any,
) -> bool:
    """Whether it was not declined; then both ways have given the same."""
    mine, other = (
        [target_of(form, source=source, static=static, time_prefix=prefix) for form in forms] for _ in range(2)
    )
    said = encode_ordinary(chunk, frame=frame, targets=mine, **options)
    if said is None:
        assert [written(target) for target in mine] == [b"before\n"] * len(mine)
        return False
    expected = encode_carefully(chunk, frame=frame, targets=other, skip=(), hold=True, read_time=b"", **options)
    assert said == expected
    assert [written(target) for target in mine] == [written(target) for target in other]
    return True


FORM_LISTS = st.lists(st.sampled_from(sorted(FORMS)), min_size=1, max_size=2)
OFFSETS = st.sampled_from([0, 7, 255, 1 << 33])


@given(
    chunk=ORDINARY_CHUNKS,
    forms=FORM_LISTS,
    static=st.sampled_from([*STATICS, {"": 1}]),
    merge=st.sampled_from([True, True, False]),
    prefix=st.sampled_from([b"", b"2026-11-21"]),
    offset=OFFSETS,
    known=st.integers(0, 600),
)
@settings(max_examples=200, deadline=None)
def test_ordinary_chunks_are_done_as_the_careful_way_does_them(
    *, chunk: bytes, forms: list[str], static: dict[str, Any], merge: bool, prefix: bytes, offset: int, known: int
) -> None:
    frame = Frame("cri", merge, reserved=reserved_keys(POD, static, has_id="plain" not in forms))
    options = {"offset": offset, "final": False, "state": State(), "known": offset + known}
    chunk = chunk.replace(b"-03:30", b"+00:00")
    assert both_ways(chunk, forms, frame, source=POD, static=static, prefix=prefix, **options)


@given(
    chunk=OTHER_CHUNKS,
    forms=FORM_LISTS,
    prefix=st.sampled_from([b"", b"", b"2026-11-21T10:00:01"]),
    source=st.sampled_from([POD, POD, POD, FILE]),
    merge=st.sampled_from([True, True, True, False]),
    keep_message=st.sampled_from([False, False, False, True]),
    limit=st.sampled_from([1 << 20, 1 << 20, 400, 64, 40]),
    offset=OFFSETS,
    final=st.booleans(),
    state=st.sampled_from([State(), State(), State(b"x"), State(b"x", b"stdout P"), State(cut=(b"stdout",))]),
    known=st.integers(0, 300),
)
@settings(max_examples=500, deadline=None)
def test_other_chunks_are_declined_or_done_as_the_careful_way_does_them(
    *,
    chunk: bytes,
    forms: list[str],
    prefix: bytes,
    source: Source,
    merge: bool,
    keep_message: bool,
    limit: int,
    offset: int,
    final: bool,
    state: State,
    known: int,
) -> None:
    reserved = reserved_keys(source, {}, has_id="plain" not in forms)
    frame = Frame("cri", merge, keep_message and merge, reserved, limit)
    options = {"offset": offset, "final": final, "state": state, "known": offset + known}
    both_ways(chunk, forms, frame, source=source, static={}, prefix=prefix, **options)


# -- by name ----------------------------------------------------------------------------------------------------------


def quickly(chunk: bytes, frame: Frame, *targets: Target, final: bool = False) -> Summary | None:
    return encode_ordinary(chunk, 0, frame, targets, final=final, state=State(), known=0)


def cri(body: bytes, *, stream: bytes = b"stdout", tag: bytes = b"F", time: bytes = b"2026-11-21T10:00:00.1Z") -> bytes:
    return b"%b %b %b %b\n" % (time, stream, tag, body)


ORDINARY = {
    "text": cri(b"hello") * 3,
    "objects": cri(b'{"a":1}') + cri(b'{"b":{"c":[1,2]}}', stream=b"stderr"),
    "both, on both streams": cri(b'{"a":1}') + cri(b"  oops", stream=b"stderr") + cri(b""),
    "parts": cri(b"be", tag=b"P") + cri(b"gun") + cri(b'{"a"', tag=b"P") + cri(b":1}"),
    "a continuation that looks like an object": cri(b"x=", tag=b"P") + cri(b'{"a":1}'),
    "interleaved parts": cri(b"a", tag=b"P")
    + cri(b"b", tag=b"P", stream=b"stderr")
    + cri(b"c")
    + cri(b"d", stream=b"stderr"),
    "a character in two parts": cri(b"caf\xc3", tag=b"P") + cri(b"\xa9"),
    "a half-written line": cri(b"whole") + b"2026-11-21T10",
    "keys that are ours": cri(b'{"stream":1,"@timestamp":2,"str\\u0065am":3,"kubernetes.x":4}'),
    "white space behind an object": cri(b'{"a":1} ') + cri(b'{"a":1}\r'),
    "what begins as an object": cri(b"{'a': 1}") + cri(b"{x"),
    "more than ASCII": cri("é".encode()) + cri('{"a":"é"}'.encode()),
    "escapes": cri(b'say "hi" \\ back\t\x7f\x00'),
    "times of CRI-O": cri(b"x", time=b"2026-11-21T10:00:00.123456789+01:00"),
}
RARE = {
    "nothing": b"",
    "no newline": b"2026-11-21T10:00:00.1Z stdout F x",
    "what is no CRI line": cri(b"x") + b"kernel: oops\n",
    "... in the beginning": b"kernel: oops\n" + cri(b"x"),
    "no content": cri(b"x") + b"2026-11-21T10:00:00.1Z stdout F\n",
    "further tags": cri(b"x", tag=b"F:a"),
    "no such month": cri(b"x", time=b"2026-13-21T10:00:00Z"),
    "an open record": cri(b"whole") + cri(b"begun", tag=b"P"),
    "... of the other stream": cri(b"begun", tag=b"P") + cri(b"whole", stream=b"stderr"),
    "a broken object": cri(b'{"a":1') + cri(b'"b":2}}'),
    "an object with white space": cri(b'{ "a":1}'),
    "... in front of it": cri(b' {"a":1}'),
    "an empty object": cri(b"{}"),
    "invalid UTF-8": cri(b"\xc3") + cri(b"\xa9"),
    "a lone surrogate": cri(b'{"a":"\\ud800"}'),
    "too deep": cri(b'{"a":' + b"[" * 1200 + b"]" * 1200 + b"}"),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_chunks_are_not_declined(kind: str) -> None:
    target = target_of("bulk")
    assert quickly(ORDINARY[kind], Frame("cri"), target) is not None
    assert written(target).endswith(b"}\n")


@pytest.mark.parametrize("kind", RARE)
def test_rare_chunks_are_declined(kind: str) -> None:
    target = target_of("bulk")
    assert quickly(RARE[kind], Frame("cri"), target) is None
    assert written(target) == b"before\n"


def test_an_unfinished_line_is_declined_at_the_end_of_a_file() -> None:
    chunk = ORDINARY["a half-written line"]
    assert quickly(chunk, Frame("cri"), target_of("bulk"), final=True) is None


def test_lines_and_records_that_may_be_too_long_are_declined() -> None:
    frame = Frame("cri", limit=64)
    many = cri(b"x") * 10
    assert quickly(many, frame, target_of("bulk")) is not None
    assert quickly(many + cri(b"x" * 64), frame, target_of("bulk")) is None
    assert quickly(many + cri(b"x" * 30, tag=b"P") + cri(b"x"), frame, target_of("bulk")) is None


def test_nothing_is_appended_where_a_time_does_not_suit_one_of_the_targets() -> None:
    targets = [target_of("bulk"), target_of("archive", time_prefix=b"2027")]
    assert quickly(cri(b"x"), Frame("cri"), *targets) is None
    assert [written(target) for target in targets] == [b"before\n"] * 2
